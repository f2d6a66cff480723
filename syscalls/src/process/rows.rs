//! The rows of the process family: creation, end, waiting; what is refused.

use super::fork::{clone, clone3, fork, vfork};
use crate::errno::Errno;
use crate::pass::{passes, refused, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    61 "wait4" [Pid Ptr Flags Ptr] "" |t, a| [a[0], t.ptr(a[1], 4), a[2], t.ptr(a[3], 144)];
    247 "waitid" [Int Pid Ptr Flags Ptr] "" |t, a| [a[0], a[1], t.ptr(a[2], 128), a[3], t.ptr(a[4], 144)];
    434 "pidfd_open" [Pid Flags] "" |_, a| [a[0], a[1]];
}

rows! {
    57 "fork" [] Emulate "" fork;
    58 "vfork" [] Emulate "the child has its own memory; what it changes on the parent's stack is copied back" vfork;
    56 "clone" [Flags Ptr Ptr Ptr Ptr] Emulate "processes, threads, CLONE_VM with CLONE_VFORK; no namespaces" clone;
    435 "clone3" [Ptr Len] Emulate "as clone" clone3;
    231 "exit_group" [Int] Emulate "" exit_group;
    135 "personality" [Hex] Emulate "the query, and PER_LINUX, which it is" personality;
}

refused! {
    101 "ptrace" EPERM "";
    272 "unshare" EPERM "";
    308 "setns" EPERM "";
    310 "process_vm_readv" EPERM "";
    311 "process_vm_writev" EPERM "";
    438 "pidfd_getfd" EPERM "";
    440 "process_madvise" EPERM "";
    448 "process_mrelease" EPERM "";
}

fn exit_group(t: &mut Thread, a: [u64; 6]) -> SysResult {
    super::vfork_done(t);
    crate::thread::walk_robust_list(t);
    // SAFETY: ends the process; nothing of the runtime needs to run afterwards.
    unsafe { libc::syscall(libc::SYS_exit_group, a[0]) };
    Err(Errno::EINTR)
}

fn personality(_: &mut Thread, a: [u64; 6]) -> SysResult {
    const QUERY: u64 = 0xffff_ffff;
    const PER_LINUX: u64 = 0;
    if matches!(a[0] & QUERY, QUERY | PER_LINUX) { Ok(0) } else { Err(Errno::EPERM) }
}
