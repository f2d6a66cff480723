//! The rows of the thread family.

use super::{Thread, exit};
use crate::errno::Errno;
use crate::guest::Plain;
use crate::pass::{at, passes, refused, rows};
use crate::table::SysResult;

passes! {
    24 "sched_yield" [] "" |_, _| [0; 0];
    186 "gettid" [] "" |_, _| [0; 0];
    142 "sched_setparam" [Pid Ptr] "" |t, a| [a[0], t.ptr(a[1], 4)];
    143 "sched_getparam" [Pid Ptr] "" |t, a| [a[0], t.ptr(a[1], 4)];
    144 "sched_setscheduler" [Pid Int Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], 4)];
    145 "sched_getscheduler" [Pid] "" |_, a| [a[0]];
    146 "sched_get_priority_max" [Int] "" |_, a| [a[0]];
    147 "sched_get_priority_min" [Int] "" |_, a| [a[0]];
    148 "sched_rr_get_interval" [Pid Ptr] "" |t, a| [a[0], t.ptr(a[1], 16)];
    203 "sched_setaffinity" [Pid Len Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], a[1])];
    140 "getpriority" [Int Pid] "" |_, a| [a[0], a[1]];
    141 "setpriority" [Int Pid Int] "" |_, a| own_group(libc::PRIO_PGRP, libc::PRIO_PROCESS, a);
    251 "ioprio_set" [Int Pid Int] "" |_, a| own_group(IOPRIO_WHO_PGRP, IOPRIO_WHO_PROCESS, a);
    252 "ioprio_get" [Int Pid] "" |_, a| [a[0], a[1]];
    324 "membarrier" [Int Flags Int] "" |_, a| [a[0], a[1], a[2]];
}

rows! {
    60 "exit" [Int] Emulate "" |t, a| exit(t, a[0] as i32);
    202 "futex" [Ptr Flags Int Ptr Ptr Int] Translate "no FUTEX_FD" futex;
    218 "set_tid_address" [Ptr] Emulate "" |t, a| { t.clear_child_tid = a[0]; Ok(t.tid as u64) };
    273 "set_robust_list" [Ptr Len] Emulate "walked when a thread exits, not when the process is killed" set_robust_list;
    274 "get_robust_list" [Pid Ptr Ptr] Emulate "only one's own" get_robust_list;
    314 "sched_setattr" [Pid Ptr Flags] Translate "" sched_setattr;
    315 "sched_getattr" [Pid Ptr Len Flags] Pass "" sched_getattr;
    449 "futex_waitv" [Ptr Int Flags Ptr Int] Translate "" futex_waitv;
}

refused! {
    205 "set_thread_area" ENOSYS "32-bit programs only";
    211 "get_thread_area" ENOSYS "32-bit programs only";
    154 "modify_ldt" ENOSYS "no segments besides fs and gs";
    334 "rseq" ENOSYS "the C library does without";
}

/// <linux/ioprio.h>
const IOPRIO_WHO_PROCESS: u32 = 1;
const IOPRIO_WHO_PGRP: u32 = 2;

/// Of a process group that reaches beyond the container only the caller is meant.
fn own_group(group: u32, process: u32, a: [u64; 6]) -> [u64; 3] {
    let own = a[0] as u32 == group && a[1] as i32 == 0 && crate::process::group::is_foreign();
    [if own { process.into() } else { a[0] }, a[1], a[2]]
}

/// `struct robust_list_head`: three words.
const ROBUST_HEAD: u64 = 24;

fn set_robust_list(t: &mut Thread, a: [u64; 6]) -> SysResult {
    if a[1] != ROBUST_HEAD {
        return Err(Errno::EINVAL);
    }
    t.robust_list = a[0];
    Ok(0)
}

fn get_robust_list(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let pid = a[0] as i32;
    if pid != 0 && pid != t.tid {
        return Err(Errno::EPERM);
    }
    t.window().write(a[2], &ROBUST_HEAD)?;
    t.window().write(a[1], &t.robust_list)?;
    Ok(0)
}

fn futex(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let op = a[1] as i32;
    let word = t.window().range(a[0], 4)? as u64;
    let second = |t: &Thread| t.window().range(a[4], 4).map(|p| p as u64);
    match op & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        // WAIT, WAIT_BITSET: a timeout in the fourth argument.
        0 | 9 => {
            let timeout: Option<[u64; 2]> = t.opt_read(a[3])?;
            t.host(libc::SYS_futex, &[word, a[1], a[2], crate::pass::opt_at(timeout.as_ref()), 0, a[5]])
        }
        // LOCK_PI, LOCK_PI2: the same.
        6 | 13 => {
            let timeout: Option<[u64; 2]> = t.opt_read(a[3])?;
            t.host(libc::SYS_futex, &[word, a[1], a[2], crate::pass::opt_at(timeout.as_ref()), 0, a[5]]).map_err(always_restarted)
        }
        // WAKE, UNLOCK_PI, TRYLOCK_PI, WAKE_BITSET.
        1 | 7 | 8 | 10 => t.host(libc::SYS_futex, &[word, a[1], a[2], 0, 0, a[5]]),
        // REQUEUE, CMP_REQUEUE, WAKE_OP, CMP_REQUEUE_PI: a count in the fourth, a second futex in the fifth.
        3 | 4 | 5 | 12 => t.host(libc::SYS_futex, &[word, a[1], a[2], a[3], second(t)?, a[5]]),
        // WAIT_REQUEUE_PI: both.
        11 => {
            let timeout: Option<[u64; 2]> = t.opt_read(a[3])?;
            t.host(libc::SYS_futex, &[word, a[1], a[2], crate::pass::opt_at(timeout.as_ref()), second(t)?, a[5]]).map_err(always_restarted)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// What takes a PI futex is begun again whatever SA_RESTART says (ERESTARTNOINTR): it is never EINTR, and glibc's mutexes take any answer but a few for success.
fn always_restarted(errno: Errno) -> Errno {
    if errno == Errno::RESTART { Errno::NOT_STARTED } else { errno }
}

/// `struct futex_waitv`: val, uaddr, flags and reserved.
#[repr(C)]
#[derive(Clone, Copy)]
struct WaitV {
    value: u64,
    address: u64,
    flags: u64,
}

// SAFETY: three integers.
unsafe impl Plain for WaitV {}

fn futex_waitv(t: &mut Thread, a: [u64; 6]) -> SysResult {
    const MOST: u64 = 128;
    if a[1] == 0 || a[1] > MOST {
        return Err(Errno::EINVAL);
    }
    let mut list = t.read_array::<WaitV>(a[0], a[1] as usize)?;
    for w in &mut list {
        w.address = t.window().range(w.address, 8)? as u64;
    }
    let timeout: Option<[u64; 2]> = t.opt_read(a[3])?;
    t.host(libc::SYS_futex_waitv, &[list.as_ptr() as u64, a[1], a[2], crate::pass::opt_at(timeout.as_ref()), a[4]])
}

fn sched_setattr(t: &mut Thread, a: [u64; 6]) -> SysResult {
    /// SCHED_ATTR_SIZE_VER1.
    const KNOWN: usize = 56;
    let size: u32 = t.window().read(a[1])?;
    let size = if size == 0 { 48 } else { size as usize };
    if !(48..=KNOWN).contains(&size) {
        return Err(Errno::E2BIG);
    }
    let mut attr = [0u8; KNOWN];
    t.window().copy_in(a[1], &mut attr[..size])?;
    attr[0..4].copy_from_slice(&(size as u32).to_le_bytes());
    t.host(libc::SYS_sched_setattr, &[a[0], at(&attr), a[2]])
}

fn sched_getattr(t: &mut Thread, a: [u64; 6]) -> SysResult {
    // The kernel writes at most `size` bytes and no more than it knows, far below a page.
    if a[2] > 4096 {
        return Err(Errno::EINVAL);
    }
    let attr = t.ptr(a[1], a[2]);
    t.host(libc::SYS_sched_getattr, &[a[0], attr, a[2], a[3]])
}
