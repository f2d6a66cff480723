//! CLONE_PIDFD: the child's descriptor, which is there before the child does anything.
//!
//! The fact a newcomer gets wrong: the host's fork is the C library's, which gives no descriptor. One that is opened afterwards could be refused (EMFILE) when there is a child already, or find it gone (it ended, and SIGCHLD is
//! ignored). So a number is taken before the fork, and the child waits until its descriptor is open.

use crate::errno::Errno;
use crate::guest::Window;
use crate::pass::quick;
use std::sync::atomic::{AtomicU32, Ordering};

const GATE_BYTES: usize = 4096;

/// Made before the fork; both processes have it afterwards.
pub(super) struct Pidfd {
    /// Where the guest wants the number.
    at: u64,
    /// A descriptor that keeps a number free.
    reserved: u64,
    /// In a mapping both processes see; 1: the child may go on.
    gate: *const AtomicU32,
    parent: libc::pid_t,
}

impl Pidfd {
    pub(super) fn reserve(window: Window, at: u64) -> Result<Self, Errno> {
        let before: i32 = window.read(at)?;
        window.write(at, &before)?;
        // SAFETY: getpid has no preconditions; a fresh mapping outside everything else.
        let (parent, gate) =
            unsafe { (libc::getpid(), libc::mmap(std::ptr::null_mut(), GATE_BYTES, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)) };
        if gate == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // From here on `drop` gives back what there is.
        let mut pidfd = Self { at, reserved: u64::MAX, gate: gate.cast(), parent };
        pidfd.reserved = quick(libc::SYS_pidfd_open, &[parent as u64, 0])?;
        Ok(pidfd)
    }

    fn gate(&self) -> &AtomicU32 {
        // SAFETY: a live, zero-filled mapping.
        unsafe { &*self.gate }
    }

    fn free(&mut self) {
        let _ = quick(libc::SYS_close, &[std::mem::replace(&mut self.reserved, u64::MAX)]);
    }

    /// In the parent. If another thread was faster and took the last number, the child, which has done nothing yet, is no more.
    pub(super) fn open(mut self, window: Window, child: libc::pid_t) -> Result<(), Errno> {
        self.free();
        let opened = quick(libc::SYS_pidfd_open, &[child as u64, 0]).and_then(|fd| {
            window.write(self.at, &(fd as i32)).inspect_err(|_| {
                let _ = quick(libc::SYS_close, &[fd]);
            })
        });
        if opened.is_err() {
            let _ = quick(libc::SYS_kill, &[child as u64, libc::SIGKILL as u64]);
            let _ = quick(libc::SYS_wait4, &[child as u64, 0, 0, 0]);
        }
        self.gate().store(1, Ordering::SeqCst);
        let _ = quick(libc::SYS_futex, &[self.gate as u64, libc::FUTEX_WAKE as u64, 1, 0, 0, 0]);
        opened
    }

    /// In the child, before anything else.
    pub(super) fn wait(mut self) {
        // Linux gives the descriptor to the parent alone.
        self.free();
        // SAFETY: getppid has no preconditions.
        while self.gate().load(Ordering::SeqCst) == 0 && unsafe { libc::getppid() } == self.parent {
            // A parent that is killed wakes nobody: look again now and then.
            let timeout = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _ = quick(libc::SYS_futex, &[self.gate as u64, libc::FUTEX_WAIT as u64, 0, (&raw const timeout) as u64, 0, 0]);
        }
    }
}

impl Drop for Pidfd {
    fn drop(&mut self) {
        if self.reserved != u64::MAX {
            self.free();
        }
        // SAFETY: our own mapping; `self` is the only owner in this process.
        unsafe { libc::munmap(self.gate.cast_mut().cast(), GATE_BYTES) };
    }
}
