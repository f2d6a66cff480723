//! Reading clocks, sleeping, interval timers; setting clocks is refused.
//!
//! The fact a newcomer gets wrong: a sleep that a signal ends writes the remaining time into the guest's own structure, done by the kernel.

use crate::errno::Errno;
use crate::pass::{at_mut, passes, refused, rows};
use crate::table::SysResult;
use crate::thread::Thread;

/// `struct timespec` and `timeval`; `itimerval` is two of them.
const TIMESPEC: u64 = 16;

passes! {
    35 "nanosleep" [Ptr Ptr] "" |t, a| [t.ptr(a[0], TIMESPEC), t.ptr(a[1], TIMESPEC)];
    36 "getitimer" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], 2 * TIMESPEC)];
    37 "alarm" [Int] "" |_, a| [a[0]];
    38 "setitimer" [Int Ptr Ptr] "" |t, a| [a[0], t.ptr(a[1], 2 * TIMESPEC), t.ptr(a[2], 2 * TIMESPEC)];
    96 "gettimeofday" [Ptr Ptr] "" |t, a| [t.ptr(a[0], TIMESPEC), t.ptr(a[1], 8)];
    100 "times" [Ptr] "" |t, a| [t.ptr(a[0], 32)];
    201 "time" [Ptr] "" |t, a| [t.ptr(a[0], 8)];
    228 "clock_gettime" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], TIMESPEC)];
    229 "clock_getres" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], TIMESPEC)];
    230 "clock_nanosleep" [Int Flags Ptr Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], TIMESPEC), t.ptr(a[3], TIMESPEC)];
}

/// `struct timex`; its first field says what to set.
const TIMEX: u64 = 208;
/// What sets nothing: the state of the clock, and what is left of an adjtime(3).
const READS: [u32; 2] = [0, 0xa001 /* ADJ_OFFSET_SS_READ */];

rows! {
    159 "adjtimex" [Ptr] Translate "reading only; setting is EPERM" |t, a| timex(t, None, a[0]);
    305 "clock_adjtime" [Int Ptr] Translate "reading only; setting is EPERM" |t, a| timex(t, Some(a[0]), a[1]);
}

refused! {
    164 "settimeofday" EPERM "host administration";
    227 "clock_settime" EPERM "host administration";
}

fn timex(t: &mut Thread, clock: Option<u64>, addr: u64) -> SysResult {
    let mut own = t.read_array::<u8>(addr, TIMEX as usize)?;
    if !READS.map(u32::to_ne_bytes).contains(&[own[0], own[1], own[2], own[3]]) {
        return Err(Errno::EPERM);
    }
    let p = at_mut(own.as_mut_slice());
    let state = match clock {
        None => t.host(libc::SYS_adjtimex, &[p])?,
        Some(clock) => t.host(libc::SYS_clock_adjtime, &[clock, p])?,
    };
    t.window().copy_out(addr, &own)?;
    Ok(state)
}
