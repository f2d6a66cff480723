//! What a container that was made ready is told at last. Owns the form in which it is told.
//!
//! The fact a newcomer gets wrong: it comes from this program's own supervisor, over a channel that no guest has, and is read before guest code runs.

use crate::failure::Failure;
use crate::sys;
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

/// The program, and what a child would have inherited from its caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Unless the description has one.
    pub umask: Option<u32>,
    /// Numbers of blocked signals.
    pub blocked: Vec<i32>,
}

impl Taken {
    /// As a file in memory: command lines are longer than messages.
    pub(crate) fn file(&self) -> io::Result<OwnedFd> {
        sys::memory_file(c"vkernel-taken", &serde_json::to_vec(self)?)
    }

    /// In the container's process: takes the streams, and what is to be run.
    pub(crate) fn received(mut fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let failure = |e: io::Error| Failure::new("start container: what to run", e, "");
        let told = fds.pop().ok_or_else(|| failure(io::ErrorKind::UnexpectedEof.into()))?;
        for (number, stream) in fds.iter().enumerate() {
            // SAFETY: plain numbers; the streams are nobody's objects.
            sys::check(unsafe { libc::dup2(stream.as_raw_fd(), number as i32) }.into()).map_err(failure)?;
        }
        let mut text = Vec::new();
        File::from(told).read_to_end(&mut text).map_err(failure)?;
        let taken: Self = serde_json::from_slice(&text).map_err(|e| failure(e.into()))?;
        if let Some(umask) = taken.umask {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
        }
        Ok(taken)
    }

    pub(crate) fn signal_mask(&self) -> SigSet {
        self.blocked.iter().filter_map(|number| nix::sys::signal::Signal::try_from(*number).ok()).collect()
    }

    /// Words without the NUL bytes that nothing can be called with; whoever described them has refused those.
    pub(crate) fn words(list: &[String]) -> Vec<CString> {
        list.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect()
    }
}
