//! Descriptors made for waiting: eventfd, signalfd, timerfd, inotify.
//!
//! Owns nothing but argument sizes. The fact a newcomer gets wrong: signalfd works because the host's signal mask equals the guest's: a signal
//! the guest blocks stays pending in the kernel, where signalfd finds it.

use super::select::sigmask;
use crate::errno::Errno;
use crate::pass::{at, passes, rows};
use crate::table::SysResult;
use crate::thread::Thread;

/// `struct itimerspec`.
const ITIMERSPEC: u64 = 32;

passes! {
    253 "inotify_init" [] "" |_, _| [];
    255 "inotify_rm_watch" [Fd Int] "" |_, a| [a[0], a[1]];
    283 "timerfd_create" [Int Flags] "" |_, a| [a[0], a[1]];
    284 "eventfd" [Int] "" |_, a| [a[0]];
    286 "timerfd_settime" [Fd Flags Ptr Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], ITIMERSPEC), t.ptr(a[3], ITIMERSPEC)];
    287 "timerfd_gettime" [Fd Ptr] "" |t, a| [a[0], t.ptr(a[1], ITIMERSPEC)];
    290 "eventfd2" [Int Flags] "" |_, a| [a[0], a[1]];
    294 "inotify_init1" [Flags] "" |_, a| [a[0]];
}

rows! {
    254 "inotify_add_watch" [Fd Path Flags] Pass "" |t, a| { let p = t.path(a[1])?; t.host(libc::SYS_inotify_add_watch, &[a[0], p.as_ptr() as u64, a[2]]) };
    282 "signalfd" [Fd Ptr Len] Translate SENT_NOTE |t, a| signalfd(t, a, 0);
    289 "signalfd4" [Fd Ptr Len Flags] Translate SENT_NOTE |t, a| signalfd(t, a, a[3]);
}

const SENT_NOTE: &str = "not for SIGSEGV, SIGBUS, SIGFPE, SIGILL: the host never keeps them pending";

fn signalfd(t: &mut Thread, a: [u64; 6], flags: u64) -> SysResult {
    if a[2] != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = sigmask(t, a[1], 8)?.ok_or(Errno::EFAULT)?;
    t.host(libc::SYS_signalfd4, &[a[0], at(&mask), 8, flags])
}
