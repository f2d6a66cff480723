//! POSIX per-process timers.
//!
//! Owns the ids of the live timers of this process, because an exec in place must delete what a real exec would (`exec_reset`). Firing, queueing and
//! overruns are the kernel's. The fact a newcomer gets wrong: a forked child has no timers, so the list is per process id.

use crate::errno::Errno;
use crate::pass::{at, at_mut, passes, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;
use std::sync::Mutex;

const ITIMERSPEC: u64 = 32;

passes! {
    223 "timer_settime" [Int Flags Ptr Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], ITIMERSPEC), t.ptr(a[3], ITIMERSPEC)];
    224 "timer_gettime" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], ITIMERSPEC)];
    225 "timer_getoverrun" [Int] "" |_, a| [a[0]];
}

rows! {
    222 "timer_create" [Int Ptr Ptr] Translate "SIGEV_SIGNAL, SIGEV_NONE and SIGEV_THREAD_ID" create;
    226 "timer_delete" [Int] Translate "" delete;
}

/// Live timers and the process they belong to.
static LIVE: Mutex<(i32, Vec<i32>)> = Mutex::new((0, Vec::new()));

fn live<R>(f: impl FnOnce(&mut Vec<i32>) -> R) -> R {
    let mut live = LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let me = std::process::id() as i32;
    if live.0 != me {
        *live = (me, Vec::new());
    }
    f(&mut live.1)
}

/// execve deletes a process's timers (timer_create(2), "Notes").
pub fn exec_reset() {
    for id in live(std::mem::take) {
        // A timer that is gone already needs nothing.
        let _ = quick(libc::SYS_timer_delete, &[id as u64]);
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
    live(|ids| ids.push(id));
    Ok(0)
}

fn delete(_: &mut Thread, a: [u64; 6]) -> SysResult {
    let r = quick(libc::SYS_timer_delete, &[a[0]])?;
    live(|ids| ids.retain(|id| *id != a[0] as i32));
    Ok(r)
}
