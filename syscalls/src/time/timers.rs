//! POSIX per-process timers.
//!
//! Owns the ids of the live timers of this process, because an exec in place must delete what a real exec would (`exec_reset`). Firing, queueing and
//! overruns are the kernel's. The fact a newcomer gets wrong: a forked child has no timers, so the list is per process id.

use crate::errno::Errno;
use crate::pass::{at, at_mut, passes, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;
use std::sync::atomic::{AtomicU64, Ordering};

const ITIMERSPEC: u64 = 32;

passes! {
    223 "timer_settime" [Int Flags Ptr Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], ITIMERSPEC), t.ptr(a[3], ITIMERSPEC)];
    224 "timer_gettime" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], ITIMERSPEC)];
    225 "timer_getoverrun" [Int] "" |_, a| [a[0]];
}

rows! {
    222 "timer_create" [Int Ptr Ptr] Translate "SIGEV_SIGNAL, SIGEV_NONE and SIGEV_THREAD_ID; at most 1024 per process" create;
    226 "timer_delete" [Int] Translate "" delete;
}

/// Live timers: process id in the high half, timer id plus one in the low half; 0 or another process's = free. No lock, because a fork may happen
/// while a sibling thread is in here and the child would find the lock taken for ever.
static LIVE: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

fn entry(id: i32) -> u64 {
    u64::from(std::process::id()) << 32 | u64::from(id.wrapping_add(1) as u32)
}

/// False when there is no room.
fn remember(id: i32) -> bool {
    let new = entry(id);
    LIVE.iter().any(|slot| {
        let old = slot.load(Ordering::Relaxed);
        (old == 0 || old >> 32 != new >> 32) && slot.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    })
}

fn forget(id: i32) {
    for slot in &LIVE {
        let _ = slot.compare_exchange(entry(id), 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// execve deletes a process's timers (timer_create(2), "Notes").
pub fn exec_reset() {
    let me = u64::from(std::process::id());
    for slot in &LIVE {
        let live = slot.swap(0, Ordering::Relaxed);
        if live >> 32 == me {
            // A timer that is gone already needs nothing.
            let _ = quick(libc::SYS_timer_delete, &[u64::from((live as u32).wrapping_sub(1))]);
        }
    }
}

/// `struct sigevent` is 64 bytes: value u64, signo i32, notify i32, tid i32. Only these fields are passed on.
fn create(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let mut event = [0u32; 16];
    if a[1] != 0 {
        let given = t.read_array::<u32>(a[1], 16)?;
        event[..5].copy_from_slice(&given[..5]);
        if ![libc::SIGEV_SIGNAL, libc::SIGEV_NONE, libc::SIGEV_THREAD_ID].contains(&(event[3] as i32)) {
            return Err(Errno::EINVAL);
        }
    }
    let mut id = 0i32;
    quick(libc::SYS_timer_create, &[a[0], if a[1] == 0 { 0 } else { at(&event) }, at_mut(&mut id)])?;
    if let Err(e) = t.window().write(a[2], &id) {
        let _ = quick(libc::SYS_timer_delete, &[id as u64]);
        return Err(e);
    }
    if !remember(id) {
        let _ = quick(libc::SYS_timer_delete, &[id as u64]);
        return Err(Errno::EAGAIN);
    }
    Ok(0)
}

fn delete(_: &mut Thread, a: [u64; 6]) -> SysResult {
    let r = quick(libc::SYS_timer_delete, &[a[0]])?;
    forget(a[0] as i32);
    Ok(r)
}
