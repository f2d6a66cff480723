//! Signals of the supervisor: which it takes over, and passing them on to the container's init as `podman run` does. Owns the signal mask.
//!
//! The fact a newcomer gets wrong: init is pid 1 of its namespace, and Linux discards signals pid 1 has no handler for. As with podman,
//! SIGTERM therefore does nothing to a program that does not handle it.

use crate::failure::Failure;
use crate::sys;
use crate::terminal;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Signals of faults, of children and of job control stay with the supervisor.
const OWN: &[Signal] = &[
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCHLD,
    Signal::SIGURG,
    Signal::SIGPIPE,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGSYS,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The blocked signals as a descriptor.
pub struct Signals {
    fd: SignalFd,
    /// The mask the caller gave us, which the guest inherits.
    pub inherited: SigSet,
    /// Init is in our process group: what the terminal sends reaches it without us.
    pub terminal_is_shared: bool,
    /// Master side of the container's own terminal: a new size of the caller's goes there, and the kernel tells the guest.
    pub terminal: Option<OwnedFd>,
}

/// Blocks these in the calling thread, and in those it makes from now on; they arrive here.
pub fn arriving(which: &[Signal]) -> Result<SignalFd, Failure> {
    let failure = |e: nix::Error| Failure::new("take over signals", e.desc(), "");
    let taken: SigSet = which.iter().copied().collect();
    taken.thread_block().map_err(failure)?;
    SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failure)
}

impl Signals {
    /// Blocks everything that is to be forwarded, before init exists, so that none is lost.
    pub fn take_over() -> Result<Self, Failure> {
        let failure = |e: nix::Error| Failure::new("take over signals", e.desc(), "");
        let mut taken = SigSet::empty();
        for signal in Signal::iterator().filter(|s| !OWN.contains(s)) {
            taken.add(signal);
        }
        let mut inherited = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&taken), Some(&mut inherited)).map_err(failure)?;
        let fd = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failure)?;
        Ok(Self { fd, inherited, terminal_is_shared: false, terminal: None })
    }

    /// As if they had never been taken over: what arrived meanwhile is this process's.
    pub fn give_back(self) {
        drop(self.fd);
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.inherited), None);
    }

    /// Numbers of those that have arrived, for somebody else to pass on. What the terminal says to the whole group is among them: the container is in another one.
    pub fn arrived(&self) -> Vec<u8> {
        std::iter::from_fn(|| self.fd.read_signal().ok().flatten()).map(|info| info.ssi_signo as u8).collect()
    }

    /// Passes on what has arrived.
    pub fn forward(&self, init: BorrowedFd<'_>) {
        while let Ok(Some(info)) = self.fd.read_signal() {
            if let Some(master) = self.terminal.as_ref().filter(|_| info.ssi_signo == libc::SIGWINCH as u32) {
                terminal::copy_size(master.as_fd());
                continue;
            }
            let from_terminal = info.ssi_code == libc::SI_KERNEL;
            if !(from_terminal && self.terminal_is_shared) {
                // Init may have ended meanwhile: the loop sees that next.
                let _ = sys::pidfd_send_signal(init, info.ssi_signo as i32);
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
