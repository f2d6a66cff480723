//! Credentials, process groups, capabilities: the kernel's own, pointers translated.
//!
//! The fact a newcomer gets wrong: set*id acts on one host thread only, and that is right: the guest's C library does the rest itself.

use crate::pass::{passes, quick, rows};
use crate::table::SysResult;
use std::sync::atomic::{AtomicU32, Ordering};

passes! {
    39 "getpid" [] "" |_, _| [0; 0];
    110 "getppid" [] "" |_, _| [0; 0];
    102 "getuid" [] "" |_, _| [0; 0];
    104 "getgid" [] "" |_, _| [0; 0];
    107 "geteuid" [] "" |_, _| [0; 0];
    108 "getegid" [] "" |_, _| [0; 0];
    115 "getgroups" [Int Ptr] "" |t, a| [a[0], t.array(a[1], u64::from((a[0] as i32).max(0) as u32), 4)];
    116 "setgroups" [Int Ptr] "" |t, a| [a[0], t.array(a[1], u64::from((a[0] as i32).max(0) as u32), 4)];
    118 "getresuid" [Ptr Ptr Ptr] "" |t, a| [t.ptr(a[0], 4), t.ptr(a[1], 4), t.ptr(a[2], 4)];
    120 "getresgid" [Ptr Ptr Ptr] "" |t, a| [t.ptr(a[0], 4), t.ptr(a[1], 4), t.ptr(a[2], 4)];
    109 "setpgid" [Pid Pid] "" |_, a| [a[0], a[1]];
    111 "getpgrp" [] "" |_, _| [0; 0];
    112 "setsid" [] "" |_, _| [0; 0];
    121 "getpgid" [Pid] "" |_, a| [a[0]];
    124 "getsid" [Pid] "" |_, a| [a[0]];
    125 "capget" [Ptr Ptr] "" |t, a| [t.ptr(a[0], 8), t.ptr(a[1], 24)];
}

rows! {
    105 "setuid" [Int] Pass "" |t, a| changed(t.host(105, &[a[0]]));
    106 "setgid" [Int] Pass "" |t, a| changed(t.host(106, &[a[0]]));
    113 "setreuid" [Int Int] Pass "" |t, a| changed(t.host(113, &[a[0], a[1]]));
    114 "setregid" [Int Int] Pass "" |t, a| changed(t.host(114, &[a[0], a[1]]));
    117 "setresuid" [Int Int Int] Pass "" |t, a| changed(t.host(117, &[a[0], a[1], a[2]]));
    119 "setresgid" [Int Int Int] Pass "" |t, a| changed(t.host(119, &[a[0], a[1], a[2]]));
    122 "setfsuid" [Int] Pass "" |t, a| changed(t.host(122, &[a[0]]));
    123 "setfsgid" [Int] Pass "" |t, a| changed(t.host(123, &[a[0]]));
    126 "capset" [Ptr Ptr] Pass "" |t, a| {
        let args = [t.ptr(a[0], 8), t.ptr(a[1], 24)];
        changed(t.host(126, &args))
    };
}

/// The process that dies with its parent whatever its credentials become; 0: none.
static TIED: AtomicU32 = AtomicU32::new(0);

/// Says that the calling process must die with its parent, its supervisor. A container whose supervisor is no parent of it, as with runc's callers, has no such process.
pub fn tie_to_parent() {
    TIED.store(std::process::id(), Ordering::Relaxed);
}

pub(super) fn is_tied() -> bool {
    TIED.load(Ordering::Relaxed) == std::process::id()
}

/// In a forked child, whose number may be the tied one's once that is gone.
pub(super) fn untie() {
    TIED.store(0, Ordering::Relaxed);
}

/// What the kernel does to a process whose credentials change is undone. It may become dumpable (fs.suid_dumpable), which would open its procfs files (07, S5); and it loses its death signal: a
/// process that is tied to its supervisor must have that again, because by it everything ends when the supervisor is killed.
fn changed(result: SysResult) -> SysResult {
    if result.is_ok() {
        let _ = quick(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 0]);
        if is_tied() {
            let _ = quick(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64]);
        }
    }
    result
}
