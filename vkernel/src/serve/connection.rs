//! One client's connection. Owns who may speak, and the descriptors that come with a request; its lines are `lines`'.
//!
//! The fact a newcomer gets wrong: descriptors belong to the request whose line was read with them or after them; what nobody takes is closed.

use super::lines::{Line, Lines};
use super::passing::{self, MOST_FDS};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use vkernel_client::{Answer, LARGEST_LINE_BYTES, Reply};

pub(super) struct Connection {
    stream: UnixStream,
    lines: Lines,
    fds: Vec<OwnedFd>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, lines: Lines::new(LARGEST_LINE_BYTES), fds: Vec::new() }
    }

    /// Only root: what can be asked here is what root can do.
    pub(super) fn is_roots(&self) -> bool {
        getsockopt(&self.stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == 0)
    }

    /// User and process of whoever connected.
    pub(super) fn peer(&self) -> (Option<u32>, Option<u32>) {
        let peer = getsockopt(&self.stream, sockopt::PeerCredentials).ok();
        (peer.map(|p| p.uid()), peer.and_then(|p| u32::try_from(p.pid()).ok()))
    }

    /// The next line that is not empty; `None` at the end.
    pub(super) fn line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.lines.next() {
                return Ok(Some(line));
            }
            let mut block = [0; 8192];
            let (length, fds) = passing::receive(self.stream.as_fd(), &mut block)?;
            if length == 0 {
                return Ok(None);
            }
            self.lines.push(&block[..length]);
            // More than one request can use are closed.
            self.fds.extend(fds);
            self.fds.truncate(MOST_FDS);
        }
    }

    /// What came so far; the next request brings its own.
    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    pub(super) fn answer(&mut self, id: Option<&Value>, reply: Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Answer { id: id.cloned(), reply })?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// The only answer. What the client is still writing is taken, or it would see its own write fail instead.
    pub(super) fn refuse(&mut self, reply: Reply) -> io::Result<()> {
        self.answer(None, reply)?;
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        (&self.stream).take(LARGEST_LINE_BYTES as u64).read_to_end(&mut Vec::new()).map(drop)
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].revents().is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_next_one_is_understood() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            client.write_all(b"one\n\n  \ntwo\n").unwrap();
            client.write_all(&vec![b'x'; 3 * LARGEST_LINE_BYTES]).unwrap();
            client.write_all(b"\nthree\nno end").unwrap();
        });
        let mut connection = Connection::new(server);
        let mut lines = Vec::new();
        while let Some(line) = connection.line().unwrap() {
            lines.push(match line {
                Line::Whole(text) => String::from_utf8(text).unwrap(),
                Line::TooLong => "(too long)".into(),
            });
        }
        writer.join().unwrap();
        assert_eq!(lines, ["one", "two", "(too long)", "three"]);
    }
}
