//! The keeper: a small process beside each supervisor that cleans up if the supervisor dies before the container. Owns waiting for that and nothing else: what is cleaned up stands in
//! the container's record.
//!
//! The fact a newcomer gets wrong: a supervisor that is killed leaves no unapproved exec behind (its listener closes and every exec fails), but it would leave a container that can
//! start nothing, and its control groups. The keeper ends both, and writes the record that the journal still holds. It holds no listener: what holds those of a daemon is `serve::holder`.

use crate::failure::Failure;
use crate::journal::Journal;
use crate::state::{Entry, Exit, Status};
use nix::unistd::{ForkResult, fork, pipe, setsid};
use std::os::fd::{AsRawFd, OwnedFd};

/// The supervisor's end. Dropping it without `dismiss` is what the supervisor's death looks like.
pub struct Keeper(OwnedFd);

impl Keeper {
    /// Must be called before the caller has threads. Without a journal of the caller's, a daemon has one.
    pub fn fork(entry: &Entry, journal: Option<&Journal>) -> Result<Self, Failure> {
        let failure = |e: nix::Error| Failure::new("start keeper", e.desc(), "");
        let (reader, writer) = pipe().map_err(failure)?;
        // SAFETY: single-threaded caller; the child ends in `_exit`.
        match unsafe { fork() }.map_err(failure)? {
            ForkResult::Parent { .. } => Ok(Self(writer)),
            ForkResult::Child => {
                drop(writer);
                keep(entry, journal, reader)
            }
        }
    }

    /// The container is cleaned up, or handed to somebody who does it.
    pub fn dismiss(self) {
        let _ = nix::unistd::write(&self.0, b"d");
    }
}

fn keep(entry: &Entry, journal: Option<&Journal>, reader: OwnedFd) -> ! {
    let _ = setsid();
    alone(&reader);
    let mut word = [0];
    let mut read = nix::unistd::read(&reader, &mut word);
    while read == Err(nix::Error::EINTR) {
        read = nix::unistd::read(&reader, &mut word);
    }
    if read == Ok(0) {
        if let (Some(journal), Ok(mut audit)) = (journal, entry.record.release.audit(&entry.record.id)) {
            journal.settle(None, &mut audit);
        }
        clean_up(entry);
    }
    // SAFETY: ends the process without the supervisor's exit handlers.
    unsafe { libc::_exit(0) }
}

/// Lets go of everything inherited but the pipe, so that nobody waits for the end of a stream we hold, and takes a name of its own.
fn alone(reader: &OwnedFd) {
    quiet();
    let keep = reader.as_raw_fd() as u32;
    // SAFETY: this process owns no other descriptor objects that it will use.
    unsafe {
        if keep > 3 {
            libc::syscall(libc::SYS_close_range, 3, keep - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, keep + 1, u32::MAX, 0);
        libc::prctl(libc::PR_SET_NAME, c"vkernel-keeper".as_ptr());
    }
}

/// The standard streams of a process that nobody looks at.
pub fn quiet() {
    quiet_some(0..3);
}

/// Those of these numbers.
pub fn quiet_some(streams: std::ops::Range<i32>) {
    use std::os::fd::IntoRawFd;
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let fd = null.into_raw_fd();
        // SAFETY: plain descriptor numbers; 0 to 2 are nobody's objects here.
        unsafe {
            for stream in streams {
                libc::dup2(fd, stream);
            }
            if fd > 2 {
                libc::close(fd);
            }
        }
    }
}

fn clean_up(entry: &Entry) {
    // The record as the supervisor left it: it knows the processes, ours does not.
    let Some(mut entry) = entry.again() else { return };
    entry.destroy();
    if entry.record.forget && entry.record.attachment.is_none() {
        return entry.remove();
    }
    entry.record.status = Status::Stopped;
    entry.record.exit = Some(Exit { code: 128 + libc::SIGKILL, oom_killed: false, at: crate::audit::timestamp(std::time::SystemTime::now()) });
    entry.save_if_there();
}
