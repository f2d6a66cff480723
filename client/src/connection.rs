//! A connection to the daemon. Owns writing a request, reading its answers, and the bound of a line. The fact a newcomer gets wrong: `wait`, `events` and `logs` with `follow` answer
//! when something happens; use a connection of their own, or `set_timeout`.

use crate::{Answer, LARGEST_LINE_BYTES, Outcome, Reply, Request};
use serde_json::Value;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Why there is no result.
#[derive(Debug)]
pub enum Error {
    /// The connection, or a line that is no answer.
    Io(io::Error),
    /// The daemon could not do it.
    Failed { what: String, why: String, advice: String },
    /// `exec`: it would be refused. `syscall`: nothing was called.
    Denied(String),
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "the daemon's socket: {e}"),
            Self::Failed { what, why, advice } if advice.is_empty() => write!(f, "{what}: {why}"),
            Self::Failed { what, why, advice } => write!(f, "{what}: {why}: {advice}"),
            Self::Denied(reason) => write!(f, "denied: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// An open connection.
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(socket: &Path) -> io::Result<Self> {
        UnixStream::connect(socket).map(|stream| Self { reader: BufReader::new(stream) })
    }

    /// How long to wait for each answer; without, for ever.
    pub fn set_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(limit)?;
        self.reader.get_ref().set_write_timeout(limit)
    }

    /// Writes a request.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)
    }

    /// Reads the next answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        (&mut self.reader).take(LARGEST_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            let (kind, why) =
                if line.len() < LARGEST_LINE_BYTES { (io::ErrorKind::UnexpectedEof, "closed without an answer") } else { (io::ErrorKind::InvalidData, "an answer is too long") };
            return Err(io::Error::new(kind, why));
        }
        serde_json::from_slice(&line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Whether more has come than was asked for so far: a descriptor that is polled does not tell.
    pub fn has_more(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// A request that has one answer.
    pub fn call(&mut self, request: &Request) -> Result<Reply, Error> {
        self.send(request)?;
        Ok(self.answer()?.reply)
    }

    /// A request that has one answer, and that with a result.
    pub fn result(&mut self, request: &Request) -> Result<Value, Error> {
        self.call(request).and_then(outcome)
    }

    /// A `syscall` request: what became of each call that was made.
    pub fn outcomes(&mut self, request: &Request) -> Result<Vec<Outcome>, Error> {
        let told = self.result(request)?;
        serde_json::from_value(told).map_err(|e| Error::Io(io::Error::new(io::ErrorKind::InvalidData, e)))
    }

    /// A request with many answers: each event goes to `each`, until that says `false` or the last one has come.
    pub fn stream(&mut self, request: &Request, mut each: impl FnMut(Value) -> bool) -> Result<(), Error> {
        self.send(request)?;
        loop {
            match self.answer()?.reply {
                Reply::Event { event } => {
                    if !each(event) {
                        return Ok(());
                    }
                }
                last => return outcome(last).map(drop),
            }
        }
    }
}

fn outcome(reply: Reply) -> Result<Value, Error> {
    match reply {
        Reply::Ok { result, entry_point } => Ok(entry_point.map_or(result, Value::from)),
        Reply::Denied { reason } => Err(Error::Denied(reason)),
        Reply::Error { what, why, advice } => Err(Error::Failed { what, why, advice }),
        Reply::Event { event } => Ok(event),
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.get_ref().as_fd()
    }
}
