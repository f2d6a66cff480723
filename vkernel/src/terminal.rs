//! The caller's terminal: who is its foreground process group while a container runs. Owns tcsetpgrp and giving the terminal back.
//!
//! The fact a newcomer gets wrong: the guest's shell can do job control only if its process group exists in its pid namespace, so init
//! needs an own group; but `vkernel run … | less` must leave the terminal to the whole pipeline. So the terminal is taken over only when
//! standard input *and* output are the terminal and we are its foreground group.

use crate::container::Session;
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::io::{IsTerminal, stdin, stdout};

/// What init should do, from what our standard streams are.
pub fn plan() -> Session {
    if !stdin().is_terminal() {
        return Session::Own;
    }
    let in_front = tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
    if in_front && stdout().is_terminal() { Session::Foreground } else { Session::Shared }
}

/// While it lives, the container's init group owns the terminal.
pub struct Foreground {
    before: Pid,
}

impl Foreground {
    /// Gives the terminal to `group` (an own group of init's).
    pub fn give(group: Pid) -> Option<Self> {
        let before = getpgrp();
        set(group).then_some(Self { before })
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        set(self.before);
    }
}

/// tcsetpgrp from a background group raises SIGTTOU unless it is blocked.
fn set(group: Pid) -> bool {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTTOU);
    let mut before = SigSet::empty();
    let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before)).is_ok();
    let done = tcsetpgrp(stdin(), group).is_ok();
    if blocked {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    }
    done
}
