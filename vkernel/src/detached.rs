//! Supervisors without a caller: forked off, in a session of their own, with no stream of the caller's. Owns the fork and the one answer to the waiting caller: it runs, or why not.
//!
//! The fact a newcomer gets wrong: the caller must not end before the supervisor can say what failed, so there is one line of error for a detached container too.

use crate::failure::Failure;
use crate::handshake::{Channel, Kind, pair};
use crate::keeper::quiet;
use nix::unistd::{ForkResult, fork, setsid};

/// How the supervisor tells its caller that the container runs.
pub struct Ready(Channel);

impl Ready {
    /// From now on nobody listens to what this process says.
    pub fn say(self) {
        let _ = self.0.send(Kind::Ready, &[], &[]);
        quiet();
    }
}

/// Runs `supervisor` in a process of its own; returns when it is ready, or with its failure.
pub fn launch(supervisor: impl FnOnce(Ready) -> Result<(), Failure>) -> Result<(), Failure> {
    let (ours, theirs) = pair()?;
    // SAFETY: single-threaded so far; the child ends in `_exit`.
    match unsafe { fork() }.map_err(|e| Failure::new("detach", e.desc(), ""))? {
        ForkResult::Parent { .. } => {
            drop(theirs);
            ours.expect(Kind::Ready, 0).map(drop)
        }
        ForkResult::Child => {
            drop(ours);
            let _ = setsid();
            let told = theirs.again();
            let code = match (supervisor(Ready(theirs)), told) {
                (Ok(()), _) => 0,
                (Err(failure), told) => {
                    // After "ready" the caller is gone, and this goes nowhere: the audit log has it.
                    let _ = told.map(|channel| channel.send(Kind::Failed, &[], &failure.encode()));
                    failure.code
                }
            };
            // SAFETY: ends the process without the caller's exit handlers.
            unsafe { libc::_exit(code.into()) }
        }
    }
}
