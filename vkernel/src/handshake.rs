//! The conversation between a container's init and its supervisor while the container starts: one byte of kind per message, over a
//! SOCK_SEQPACKET pair that is closed before guest code runs. Owns the framing and descriptor passing only.

use crate::failure::Failure;
use nix::cmsg_space;
use nix::sys::socket::{AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What is said, in this order; `Failed` can come from init at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// init: the namespaces exist, nothing is mounted yet.
    Namespaces = b'n',
    /// supervisor: hooks have run, go on.
    Proceed = b'p',
    /// init: here is the master side of the container's own terminal (only if it was to make one).
    Terminal = b't',
    /// init: here are the listener and the container's root directory.
    Listener = b'l',
    /// init: locked down but for the allow-list.
    Ready = b'r',
    /// supervisor: to a container that was made ready, what it is to run: its standard streams, and a file with a `Taken`.
    Take = b'k',
    /// supervisor: answering from now on.
    Go = b'g',
    /// init: a `Failure` follows.
    Failed = b'f',
}

/// One end.
pub struct Channel(OwnedFd);

fn lost(e: impl std::fmt::Display) -> Failure {
    Failure::new("start container", format!("its two processes lost each other: {e}"), "look for out-of-memory kills in the kernel log")
}

pub fn pair() -> Result<(Channel, Channel), Failure> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(lost)?;
    Ok((Channel(a), Channel(b)))
}

impl Channel {
    /// One that another process began.
    pub fn of(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A second handle of the same end.
    pub fn again(&self) -> Result<Self, Failure> {
        self.0.try_clone().map(Self).map_err(lost)
    }

    pub fn send(&self, kind: Kind, fds: &[BorrowedFd<'_>], payload: &[u8]) -> Result<(), Failure> {
        let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let head = [kind as u8];
        let bytes = [IoSlice::new(&head), IoSlice::new(payload)];
        sendmsg::<()>(self.0.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None).map(drop).map_err(lost)
    }

    /// Waits for `expected` with exactly `fds` descriptors; a `Failed` from the other side is its failure.
    pub fn expect(&self, expected: Kind, fds: usize) -> Result<Vec<OwnedFd>, Failure> {
        let mut buffer = [0u8; 4096];
        let mut space = cmsg_space!([i32; 4]);
        let (length, received) = {
            let mut bytes = [IoSliceMut::new(&mut buffer)];
            let message = recvmsg::<()>(self.0.as_raw_fd(), &mut bytes, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).map_err(lost)?;
            let mut received = Vec::new();
            for control in message.cmsgs().map_err(lost)? {
                if let ControlMessageOwned::ScmRights(raw) = control {
                    // SAFETY: the kernel has just installed these descriptors for us.
                    received.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            (message.bytes, received)
        };
        match buffer[..length].split_first() {
            None => Err(lost("end of file")),
            Some((kind, text)) if *kind == Kind::Failed as u8 => Err(Failure::decode(text)),
            Some((kind, _)) if *kind == expected as u8 && received.len() == fds => Ok(received),
            Some(_) => Err(lost("unexpected message")),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
