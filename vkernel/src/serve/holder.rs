//! The holder: a small process that has a duplicate of everything a daemon needs to serve its containers, where no service manager keeps it. Owns its protocol, both sides.
//!
//! The facts a newcomer gets wrong: while the holder has a listener and nobody serves it, execs wait; they never run unapproved. And it does not hold for ever: when no daemon has come within
//! the deadline it ends, the listeners close, and the kernel answers ENOSYS.

use super::passing;
use crate::failure::Failure;
use crate::keeper::quiet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockopt, listen, socket, sockopt};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Daemon to holder: keep this under this name.
const KEEP: u8 = b'k';
/// Daemon to holder: let go of it.
const DROP: u8 = b'd';
/// Holder to a daemon that has just come: this is held.
const HELD: u8 = b'h';
/// Holder to a daemon: that was all.
const END: u8 = b'e';

const LARGEST_NAME: usize = 255;

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("holder of listeners", e, "see whether another daemon runs")
}

/// A daemon's connection to its holder.
pub(super) struct Holder {
    at: PathBuf,
    seconds: u64,
    connection: OwnedFd,
    /// If this daemon started it: to be waited for.
    child: Option<Child>,
}

fn seqpacket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

fn connected(at: &Path) -> nix::Result<OwnedFd> {
    let fd = seqpacket()?;
    connect(fd.as_raw_fd(), &UnixAddr::new(at)?)?;
    Ok(fd)
}

impl Holder {
    /// The one at `at`, with what it holds, or a new one.
    pub(super) fn find(at: &Path, seconds: u64) -> Result<(Self, Vec<(String, OwnedFd)>), Failure> {
        if let Ok(connection) = connected(at) {
            // One that ends at this moment holds nothing for us.
            if let Ok(held) = told(connection.as_fd()) {
                return Ok((Self { at: at.to_owned(), seconds, connection, child: None }, held));
            }
        }
        let (connection, child) = started(at, seconds)?;
        Ok((Self { at: at.to_owned(), seconds, connection, child: Some(child) }, Vec::new()))
    }

    pub(super) fn keep(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        passing::send(self.connection.as_fd(), &[&[KEEP], name.as_bytes()].concat(), &[fd])
    }

    pub(super) fn let_go(&self, name: &str) -> io::Result<()> {
        passing::send(self.connection.as_fd(), &[&[DROP], name.as_bytes()].concat(), &[])
    }

    /// Takes its socket away: nobody will come for what it holds.
    pub(super) fn forget(&self) {
        let _ = std::fs::remove_file(&self.at);
    }

    /// After it was killed: another one, which must be given everything again.
    pub(super) fn replace(&mut self) -> Result<(), Failure> {
        if let Some(mut old) = self.child.take() {
            let _ = old.wait();
        }
        let (connection, child) = started(&self.at, self.seconds)?;
        (self.connection, self.child) = (connection, Some(child));
        Ok(())
    }
}

impl AsFd for Holder {
    /// Readable once the holder is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Everything a holder says to a new daemon.
fn told(connection: BorrowedFd<'_>) -> io::Result<Vec<(String, OwnedFd)>> {
    let mut held = Vec::new();
    let mut buffer = [0; 1 + LARGEST_NAME];
    loop {
        let (length, mut fds) = passing::receive(connection, &mut buffer)?;
        match (buffer[..length].split_first(), fds.pop()) {
            (Some((&HELD, name)), Some(fd)) => held.push((String::from_utf8_lossy(name).into_owned(), fd)),
            (Some((&END, _)), None) => return Ok(held),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A holder is this program again, with its socket as standard input: it must not share the daemon's memory.
fn started(at: &Path, seconds: u64) -> Result<(OwnedFd, Child), Failure> {
    let _ = std::fs::remove_file(at);
    let socket = seqpacket().map_err(failure)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(at).map_err(failure)?).map_err(failure)?;
    std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(failure)?;
    listen(&socket, Backlog::new(4).expect("a small number")).map_err(failure)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("vkernel").arg("hold").args(["--seconds", &seconds.to_string()]).env_clear();
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let child = command.spawn().map_err(failure)?;
    let connection = connected(at).map_err(failure)?;
    told(connection.as_fd()).map_err(failure)?;
    Ok((connection, child))
}

/// The holder's life.
pub fn hold(seconds: u64) -> Result<(), Failure> {
    use std::os::fd::AsFd as _;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(failure)?;
    quiet();
    let _ = nix::unistd::setsid();
    let _ = crate::sys::raise_descriptor_limit();
    // SAFETY: a terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"vkernel-holder".as_ptr()) };
    let mut held: BTreeMap<Vec<u8>, OwnedFd> = BTreeMap::new();
    let mut daemon: Option<OwnedFd> = None;
    let mut alone_since = Instant::now();
    loop {
        let left = Duration::from_secs(seconds).saturating_sub(alone_since.elapsed());
        if daemon.is_none() && left.is_zero() {
            return Ok(());
        }
        let timeout = if daemon.is_some() { PollTimeout::NONE } else { PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX) };
        let watched = daemon.as_ref().unwrap_or(&socket);
        match poll(&mut [PollFd::new(watched.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(failure(e)),
            Ok(_) => {}
        }
        match &daemon {
            None => daemon = welcomed(&socket, &held),
            Some(connection) => {
                if !obey(connection.as_fd(), &mut held) {
                    daemon = None;
                    alone_since = Instant::now();
                    if held.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// A daemon that came, once it was told what is held. Another one waits until the first is gone.
fn welcomed(socket: &OwnedFd, held: &BTreeMap<Vec<u8>, OwnedFd>) -> Option<OwnedFd> {
    let fd = accept4(socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC).ok()?;
    // SAFETY: just made for us.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    if getsockopt(&connection, sockopt::PeerCredentials).ok()?.uid() != 0 {
        return None;
    }
    for (name, fd) in held {
        passing::send(connection.as_fd(), &[&[HELD], name.as_slice()].concat(), &[fd.as_fd()]).ok()?;
    }
    passing::send(connection.as_fd(), &[END], &[]).ok()?;
    Some(connection)
}

/// One message; `false` once the daemon is gone.
fn obey(daemon: BorrowedFd<'_>, held: &mut BTreeMap<Vec<u8>, OwnedFd>) -> bool {
    let mut buffer = [0; 1 + LARGEST_NAME];
    let Ok((length, mut fds)) = passing::receive(daemon, &mut buffer) else { return false };
    match (buffer[..length].split_first(), fds.pop()) {
        (None, _) => return false,
        (Some((&KEEP, name)), Some(fd)) => drop(held.insert(name.to_owned(), fd)),
        (Some((&DROP, name)), _) => drop(held.remove(name)),
        // Of no daemon of this version: what it wants is not known.
        _ => {}
    }
    true
}
