//! epoll. Owns the size of its event arrays.
//!
//! The fact a newcomer gets wrong: events need no rebuilding, because their `data` is only carried.

use super::select::{sigmask, waited};
use crate::pass::{opt_at, passes, refused, rows};
use crate::table::SysResult;
use crate::thread::Thread;

/// `struct epoll_event`, packed on x86-64.
const EVENT: u64 = size_of::<libc::epoll_event>() as u64;
const _: () = assert!(EVENT == 12);

passes! {
    213 "epoll_create" [Int] "" |_, a| [a[0]];
    233 "epoll_ctl" [Fd Int Fd Ptr] "" |t, a| [a[0], a[1], a[2], t.ptr(a[3], EVENT)];
    291 "epoll_create1" [Flags] "" |_, a| [a[0]];
}

rows! {
    232 "epoll_wait" [Fd Ptr Int Int] Pass "" |t, a| { let p = events(t, a[1], a[2]); t.host(libc::SYS_epoll_wait, &[a[0], p, a[2], a[3]]) };
    281 "epoll_pwait" [Fd Ptr Int Int Ptr Len] Translate "" |t, a| pwait(t, libc::SYS_epoll_pwait, a, a[3]);
    441 "epoll_pwait2" [Fd Ptr Int Ptr Ptr Len] Translate "" |t, a| { let timeout = t.ptr(a[3], 16); pwait(t, libc::SYS_epoll_pwait2, a, timeout) };
}

refused! {
    214 "epoll_ctl_old" ENOSYS "never implemented by Linux";
    215 "epoll_wait_old" ENOSYS "never implemented by Linux";
}

/// `maxevents` is an int; the kernel refuses values below 1 itself.
fn events(t: &Thread, addr: u64, n: u64) -> u64 {
    t.array(addr, u64::from((n as i32).max(0) as u32), EVENT)
}

fn pwait(t: &mut Thread, nr: i64, a: [u64; 6], timeout: u64) -> SysResult {
    let mask = sigmask(t, a[4], a[5])?;
    let p = events(t, a[1], a[2]);
    let result = t.host(nr, &[a[0], p, a[2], timeout, opt_at(mask.as_ref()), 8]);
    waited(t, mask, result)
}
