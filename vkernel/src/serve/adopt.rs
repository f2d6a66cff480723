//! The command line's side of the daemon: whether one runs, and handing a container over to it. Owns the connection and the order of what is handed.
//!
//! The fact a newcomer gets wrong: without a daemon nothing is missing. A command then serves its container itself, as it always did; but one that runs and refuses is a failure.

use super::passing;
use crate::container::Started;
use crate::failure::Failure;
use crate::ring::Ring;
use crate::state::Process;
use nix::unistd::Pid;
use serde_json::Value;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use vkernel_client::{Client, Error, Reply, Request};

/// Longer than a daemon needs to verify a manifest on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container's first process; its parent lets it begin.
    First,
    /// The same, but the daemon lets it begin.
    Waiting,
    /// A further one, with descendants that may outlive it.
    Further,
}

/// A daemon that runs.
pub struct Daemon(Client);

pub(super) fn failure(e: Error) -> Failure {
    match e {
        Error::Failed { what, why, advice } => Failure::new(what, why, advice),
        Error::Denied(reason) => Failure::new("the daemon", reason, ""),
        Error::Io(e) => Failure::new("the daemon", e, "see its log; without one running, commands serve their containers themselves"),
    }
}

impl Daemon {
    /// The one behind this socket; `None` if none listens there.
    pub fn find(socket: &Path) -> Result<Option<Self>, Failure> {
        match Client::connect(socket) {
            Ok(client) => client.set_timeout(Some(PATIENCE)).map(|()| Some(Self(client))).map_err(|e| failure(e.into())),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
            Err(e) => Err(Failure::new(format!("the daemon at {}", socket.display()), e, "see whether `vkernel serve` is well")),
        }
    }

    /// From now on its execs are the daemon's to answer; the daemon's process.
    pub fn adopt(&mut self, root: &Path, id: &str, started: &Started, ring: &Ring, kind: Kind) -> Result<Process, Failure> {
        let root = std::path::absolute(root).map_err(|e| failure(e.into()))?;
        let (waits, further) = (kind == Kind::Waiting, kind == Kind::Further);
        let request = Request::Adopt { container: id.to_owned(), root: root.to_string_lossy().into_owned(), waits, further };
        let mut line = serde_json::to_vec(&request).map_err(|e| failure(io::Error::other(e).into()))?;
        line.push(b'\n');
        let channel = started.channel();
        let fds = [started.pidfd.as_fd(), started.listener.as_fd(), started.root.as_fd(), ring.as_fd(), channel.as_fd()];
        passing::send(self.0.as_fd(), &line, &fds[..fds.len() - usize::from(!waits)]).map_err(|e| failure(e.into()))?;
        let told = self.told()?;
        Ok(Process::of(Pid::from_raw(told["pid"].as_i64().and_then(|pid| pid.try_into().ok()).unwrap_or(0))))
    }

    /// Lets a container begin that the daemon has adopted.
    pub fn go(&mut self, root: &Path, id: &str) -> Result<(), Failure> {
        let root = std::path::absolute(root).map_err(|e| failure(e.into()))?;
        self.0.send(&Request::Go { container: id.to_owned(), root: root.to_string_lossy().into_owned() }).map_err(|e| failure(e.into()))?;
        self.told().map(drop)
    }

    fn told(&mut self) -> Result<Value, Failure> {
        let answer = self.0.answer().map_err(|e| failure(e.into()))?;
        match answer.reply {
            Reply::Ok { result, .. } => Ok(result),
            Reply::Error { what, why, advice } => Err(Failure::new(what, why, advice)),
            other => Err(Failure::new("the daemon", format!("answered {other:?}"), "see whether it is of the same version")),
        }
    }
}
