//! `vkernel zygote`: the process that has a release open and forks containers that wait. Owns how many there are.
//!
//! The fact a newcomer gets wrong: it is a fresh execution with nothing of anybody's (07, S16), and runs no guest itself. A container that was taken needs it no more, and it ends with the daemon's end of the socket.

use super::{Orders, reserve};
use crate::cli::{Run, Zygote};
use crate::failure::Failure;
use crate::release::{Release, Source};
use crate::{check, keeper, state};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

/// So many in a row that could not be made ready, and nobody waits for another one.
const MOST_FAILURES: usize = 3;

/// Orders come on standard input.
pub fn zygote(options: &Zygote, root: &Path) -> Result<(), Failure> {
    let failure = |e: &dyn std::fmt::Display| Failure::new("zygote", e, "");
    check::require()?;
    let run: Run = serde_json::from_str(&options.run).map_err(|e| failure(&e))?;
    let orders = Orders(std::io::stdin().as_fd().try_clone_to_owned().map_err(|e| failure(&e))?);
    let _ = setsid();
    state::sweep(root);
    let source = Source::new(&run.release, &run.manifest)?;
    let mut audit = source.audit("")?;
    let release = Release::open(source, &run.release, &mut audit)?;
    drop(audit);
    keeper::quiet_input();
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(|e| failure(&e))?;
    let children = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(|e| failure(&e))?;
    let (mut told, tell) = std::io::pipe().map_err(|e| failure(&e))?;
    let mut waiting = BTreeSet::new();
    let mut failures = 0;
    loop {
        while waiting.len() < options.size {
            // SAFETY: this process has one thread; the child lives in `reserve`.
            match unsafe { fork() }.map_err(|e| failure(&e))? {
                ForkResult::Child => reserve::live(&run, root, release, orders, tell),
                ForkResult::Parent { child } => waiting.insert(child),
            };
        }
        let mut fds = [&orders.0.as_fd(), &told.as_fd(), &children.as_fd()].map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
        // Orders are read by others: only the end of them is of interest here.
        fds[0].set_events(PollFlags::empty());
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(failure(&e)),
        }
        let ready = fds.map(|fd| fd.revents().is_some_and(|r| !r.is_empty()));
        if ready[0] {
            return Ok(());
        }
        if ready[1] {
            let mut taken = [0; size_of::<i32>()];
            told.read_exact(&mut taken).map_err(|e| failure(&e))?;
            waiting.remove(&Pid::from_raw(i32::from_ne_bytes(taken)));
            failures = 0;
        }
        if ready[2] {
            while let Ok(Some(_)) = children.read_signal() {}
            while let Some(child) = waitpid(None, Some(WaitPidFlag::WNOHANG)).ok().and_then(|status| status.pid()) {
                // One that ends before it was taken has said why.
                failures += usize::from(waiting.remove(&child));
            }
            if failures >= MOST_FAILURES {
                return Err(failure(&"containers cannot be made ready"));
            }
        }
    }
}
