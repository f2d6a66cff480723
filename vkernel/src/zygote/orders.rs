//! The socket on which ready containers wait for work: the daemon writes, and the kernel gives each message to one of those that read. Owns the form of an order.
//!
//! The fact a newcomer gets wrong: a message that nobody has read when the last reader goes is thrown away by the kernel with its descriptors, so that its client sees the end of its connection, and starts its container itself.

use super::Beginning;
use crate::serve::passing;
use crate::sys;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What one client wants to begin, its connection, and its standard streams.
pub struct Order {
    pub beginning: Beginning,
    pub client: OwnedFd,
    pub streams: [OwnedFd; 3],
}

/// The end that is read.
pub struct Orders(pub OwnedFd);

/// Both ends: the writer's first.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// What is wanted goes as a file in memory, for it may be longer than a message.
pub fn send(to: BorrowedFd<'_>, beginning: &Beginning, client: BorrowedFd<'_>, streams: &[OwnedFd; 3]) -> io::Result<()> {
    let file = sys::memory_file(c"vkernel-wish", &serde_json::to_vec(beginning)?)?;
    passing::send(to, b"o", &[file.as_fd(), client, streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()])
}

impl Orders {
    /// The next order; `None` when there will be none.
    pub fn next(&self) -> io::Result<Option<Order>> {
        let (length, fds) = passing::receive(self.0.as_fd(), &mut [0])?;
        if length == 0 {
            return Ok(None);
        }
        let [wish, client, input, output, errors]: [OwnedFd; 5] = fds.try_into().map_err(|_| io::Error::other("an order without its descriptors"))?;
        let mut text = Vec::new();
        File::from(wish).read_to_end(&mut text)?;
        Ok(Some(Order { beginning: serde_json::from_slice(&text)?, client, streams: [input, output, errors] }))
    }
}
