//! A process group that reaches beyond the container: a guest in the foreground of a pipeline of its caller's is a member of the caller's group (`vkernel run … | less`), so that the terminal stays the whole pipeline's.
//!
//! Owns what "my process group" means to such a guest: its own processes. The fact a newcomer gets wrong: the kernel does not ask in which pid namespace the members of a group are, and guest root is often their owner by number.

use crate::errno::Errno;
use crate::fs::own;
use crate::pass::quick;
use crate::table::SysResult;

/// Is the calling process in a group that has no number in its pid namespace?
pub(crate) fn is_foreign() -> bool {
    quick(libc::SYS_getpgid, &[0]) == Ok(0)
}

/// kill(2) of the own group: the members that the guest sees, the caller last.
pub(crate) fn signal(signal: u64) -> SysResult {
    let all = own::processes().ok_or(Errno::EPERM)?;
    let own = u64::from(std::process::id());
    for pid in all.filter(|pid| *pid != own && quick(libc::SYS_getpgid, &[*pid]) == Ok(0)) {
        // One that has ended meanwhile is no failure, nor one of another user.
        let _ = quick(libc::SYS_kill, &[pid, signal]);
    }
    crate::host_call(libc::SYS_kill, [own, signal, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_child;

    /// A child in a pid namespace of its own is in its parent's group, which has no number there.
    #[test]
    fn a_signal_for_the_own_group_does_not_leave_the_namespace() {
        in_child(|| {
            // SAFETY: plain calls in a process of this test's own; its group begins with it.
            unsafe {
                assert_eq!(libc::setpgid(0, 0), 0);
                libc::signal(libc::SIGUSR1, libc::SIG_DFL);
                if libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) != 0 {
                    return eprintln!("SKIPPED: this machine allows no pid namespace; run as root");
                }
                let child = libc::fork();
                if child == 0 {
                    let private = libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null());
                    let mounted = private | libc::mount(c"proc".as_ptr(), c"/proc".as_ptr(), c"proc".as_ptr(), 0, std::ptr::null());
                    libc::signal(libc::SIGUSR1, libc::SIG_IGN);
                    let done = mounted == 0 && is_foreign() && signal(libc::SIGUSR1 as u64).is_ok();
                    libc::_exit(i32::from(!done));
                }
                let mut status = 0;
                // Had the signal left, this process were no more.
                assert_eq!((libc::waitpid(child, &raw mut status, 0), status), (child, 0));
            }
        });
    }
}
