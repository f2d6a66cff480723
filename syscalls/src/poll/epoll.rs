//! epoll. Owns the size of its event arrays.
//!
//! The fact a newcomer gets wrong: events need no rebuilding, because their `data` is only carried.

use super::select::{sigmask, under};
use crate::guest::{WINDOW_BYTES, low};
use crate::pass::{passes, refused, rows};
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
    232 "epoll_wait" [Fd Ptr Int Int] Pass "" |t, a| { let (p, n) = events(t, a[1], a[2]); t.host(libc::SYS_epoll_wait, &[a[0], p, n, a[3]]) };
    281 "epoll_pwait" [Fd Ptr Int Int Ptr Len] Translate "" |t, a| pwait(t, libc::SYS_epoll_pwait, a, a[3]);
    441 "epoll_pwait2" [Fd Ptr Int Ptr Ptr Len] Translate "" |t, a| { let timeout = t.ptr(a[3], 16); pwait(t, libc::SYS_epoll_pwait2, a, timeout) };
}

refused! {
    214 "epoll_ctl_old" ENOSYS "never implemented by Linux";
    215 "epoll_wait_old" ENOSYS "never implemented by Linux";
}

/// Where the events go, and how many fit: the kernel writes as many as there are, so an array may be said to be longer than the window. `maxevents` is an int, and the kernel refuses values below 1 and above `MOST` itself.
fn events(t: &Thread, addr: u64, n: u64) -> (u64, u64) {
    const MOST: i32 = i32::MAX / EVENT as i32;
    let asked = n as i32;
    if !(1..=MOST).contains(&asked) {
        return (t.ptr(addr, 0), n);
    }
    let fits = (WINDOW_BYTES.saturating_sub(low(addr)) / EVENT).clamp(1, asked as u64);
    (t.array(addr, fits, EVENT), fits)
}

fn pwait(t: &mut Thread, nr: i64, a: [u64; 6], timeout: u64) -> SysResult {
    let mask = sigmask(t, a[4], a[5])?;
    let (p, n) = events(t, a[1], a[2]);
    under(t, mask, |t, mask| t.host(nr, &[a[0], p, n, timeout, mask, 8]))
}
