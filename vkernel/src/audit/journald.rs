//! Records in systemd's journal, by its native protocol (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md): one datagram of fields per record, or, where that is too large, a sealed memory whose descriptor
//! is sent. Owns the fields' names and form. Our own, because the crates that speak it fix the socket's path and do not say what could not be sent.
//!
//! The facts a newcomer gets wrong: a value with a newline has another form, or a guest's path could add fields of its own; and a journal that does not read makes one record wait for a second,
//! not every one.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use policy::Digest;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a record waits for a journal that does not read.
const PATIENCE: Duration = Duration::from_secs(1);
/// As systemd's own clients ask for: bursts of records do not have to wait.
const BUFFER_BYTES: usize = 8 << 20;
/// Of all our records, for `journalctl MESSAGE_ID=…`; made with `systemd-id128 new`.
const MESSAGE_ID: &str = "11ec81fc2be746c2b0798844345b4aac";

pub(super) struct Journald {
    path: PathBuf,
    socket: UnixDatagram,
    /// The last record could not be sent: the next one does not wait.
    stuck: bool,
}

impl Journald {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), socket: connected(path)?, stuck: false })
    }

    /// One record, as it would stand in a file.
    pub(super) fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let fields = fields(line);
        self.socket.set_nonblocking(self.stuck)?;
        let mut sent = deliver(&self.socket, &fields);
        if sent.as_ref().is_err_and(|e| matches!(e.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOTCONN | libc::ECONNRESET | libc::EPIPE))) {
            // The journal was started again, and has another socket at the same place.
            sent = connected(&self.path).and_then(|socket| {
                socket.set_nonblocking(self.stuck)?;
                self.socket = socket;
                deliver(&self.socket, &fields)
            });
        }
        self.stuck = sent.is_err();
        sent
    }
}

fn connected(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // As much as this process may.
    let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES).or_else(|_| setsockopt(&socket, sockopt::SndBuf, &BUFFER_BYTES));
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect(path)?;
    Ok(socket)
}

fn deliver(socket: &UnixDatagram, fields: &[u8]) -> io::Result<()> {
    match socket.send(fields) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => deliver_memory(socket, fields),
        sent => sent.map(drop),
    }
}

/// The journal reads it only when nobody can change it any more.
fn deliver_memory(socket: &UnixDatagram, fields: &[u8]) -> io::Result<()> {
    let mut memory = File::from(memfd_create(c"vkernel-record", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    memory.write_all(fields)?;
    fcntl(memory.as_fd(), FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL))?;
    let fds = [memory.as_raw_fd()];
    sendmsg::<SockaddrStorage>(socket.as_raw_fd(), &[], &[ControlMessage::ScmRights(&fds)], MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The members of a record as fields, and what the journal's own readers want.
fn fields(line: &[u8]) -> Vec<u8> {
    let record: Value = serde_json::from_slice(line).unwrap_or_default();
    let word = |key: &str| record[key].as_str().unwrap_or_default();
    let message = ["event", "decision", "reason", "container", "path", "detail"].map(word);
    let message = message.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ");
    // LOG_WARNING and LOG_INFO.
    let priority = if record["decision"] == "denied" { "4" } else { "6" };
    let mut out = Vec::new();
    for (name, value) in [("MESSAGE", message.as_str()), ("MESSAGE_ID", MESSAGE_ID), ("PRIORITY", priority), ("SYSLOG_IDENTIFIER", "vkernel")] {
        field(&mut out, name, value);
    }
    // The same line is the same record, should a supervisor's death have it written twice.
    field(&mut out, "VKERNEL_RECORD_ID", &Digest::blake3(line).hex()[..32]);
    for (name, value) in record.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        field(&mut out, &format!("VKERNEL_{}", name.to_uppercase()), &text);
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::{Audit, Decision, Event, Record, sink::Destination};
    use super::*;
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    use std::collections::BTreeMap;
    use std::io::IoSliceMut;
    use std::io::Read;
    use std::os::fd::{FromRawFd, RawFd};

    /// What systemd-journald does with a datagram.
    fn receive(socket: &UnixDatagram) -> BTreeMap<String, String> {
        let (mut bytes, mut room) = (vec![0; 1 << 20], nix::cmsg_space!([RawFd; 1]));
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut room), MsgFlags::empty()).unwrap();
        let (length, fd) = (message.bytes, message.cmsgs().unwrap().find_map(|c| if let ControlMessageOwned::ScmRights(fds) = c { fds.first().copied() } else { None }));
        bytes.truncate(length);
        if let Some(fd) = fd {
            // SAFETY: a descriptor that was just received.
            let mut memory = unsafe { File::from_raw_fd(fd) };
            assert!(nix::fcntl::fcntl(&memory, FcntlArg::F_GET_SEALS).unwrap() & libc::F_SEAL_WRITE != 0);
            io::Seek::rewind(&mut memory).unwrap();
            memory.read_to_end(&mut bytes).unwrap();
        }
        parsed(&bytes)
    }

    fn parsed(mut rest: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'\n').unwrap();
            let (name, value) = match rest[..end].iter().position(|b| *b == b'=') {
                Some(at) => {
                    let value = (&rest[..at], &rest[at + 1..end]);
                    rest = &rest[end + 1..];
                    value
                }
                None => {
                    let (name, at) = (&rest[..end], end + 9);
                    let length = u64::from_le_bytes(rest[end + 1..at].try_into().unwrap()) as usize;
                    let value = &rest[at..at + length];
                    rest = &rest[at + length + 1..];
                    (name, value)
                }
            };
            let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
            assert_eq!(found.insert(text(name), text(value)), None, "each field once");
        }
        found
    }

    fn place(name: &str) -> (PathBuf, Destination) {
        let path = std::env::temp_dir().join(format!("vkernel-journald-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (path.clone(), Destination::Journald(path))
    }

    fn denied(path: &str) -> Record {
        Record { path: Some(path.into()), pid: Some(7), hash: Some("blake3:00".into()), ..Record::new(Event::Exec, Decision::Denied, "unknown-hash") }
    }

    #[test]
    fn a_record_has_a_field_per_member_and_a_guest_s_path_adds_none() {
        let (path, destination) = place("fields");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut audit = Audit::open("web", Some(&destination)).unwrap();
        audit.write(denied("/tmp/x\nPRIORITY=0\nVKERNEL_DECISION=allowed"));
        let got = receive(&journal);
        for (name, value) in [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "vkernel"),
            ("VKERNEL_CONTAINER", "web"),
            ("VKERNEL_EVENT", "exec"),
            ("VKERNEL_DECISION", "denied"),
            ("VKERNEL_REASON", "unknown-hash"),
            ("VKERNEL_PATH", "/tmp/x\nPRIORITY=0\nVKERNEL_DECISION=allowed"),
            ("VKERNEL_HASH", "blake3:00"),
            ("VKERNEL_PID", "7"),
        ] {
            assert_eq!(got[name], value, "{name}");
        }
        assert!(got["MESSAGE"].starts_with("exec denied unknown-hash web /tmp/x") && got["VKERNEL_RECORD_ID"].len() == 32, "{got:?}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_record_that_no_datagram_holds_arrives_as_sealed_memory() {
        let (path, destination) = place("large");
        let journal = UnixDatagram::bind(&path).unwrap();
        let Destination::Journald(socket) = destination else { panic!("a journal") };
        let mut sink = Journald::connect(&socket).unwrap();
        setsockopt(&sink.socket, sockopt::SndBuf, &4096).unwrap();
        let long = "x".repeat(100_000);
        sink.send(serde_json::json!({"path": long}).to_string().as_bytes()).unwrap();
        assert_eq!(receive(&journal)["VKERNEL_PATH"], long);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_a_journal_did_not_take_is_told_when_it_is_back_and_a_missing_one_is_an_error_at_once() {
        let (path, destination) = place("away");
        assert!(Audit::open("c", Some(&destination)).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut audit = Audit::open("c", Some(&destination)).unwrap();
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        audit.write(denied("/1"));
        audit.write(denied("/2"));
        let journal = UnixDatagram::bind(&path).unwrap();
        audit.write(denied("/3"));
        let (note, third) = (receive(&journal), receive(&journal));
        assert_eq!((note["VKERNEL_REASON"].as_str(), note["VKERNEL_DETAIL"].as_str(), third["VKERNEL_PATH"].as_str()), ("sink-failed", "2", "/3"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_journal_that_does_not_read_makes_one_record_wait_and_not_every_one() {
        let (path, destination) = place("full");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut audit = Audit::open("c", Some(&destination)).unwrap();
        let begun = std::time::Instant::now();
        for n in 0..2000 {
            audit.write(denied(&format!("/{n}")));
        }
        let took = begun.elapsed();
        assert!(took >= PATIENCE && took < PATIENCE * 4, "{took:?}");
        journal.set_nonblocking(true).unwrap();
        let mut taken = 0;
        let mut buffer = vec![0; 1 << 16];
        while journal.recv(&mut buffer).is_ok() {
            taken += 1;
        }
        journal.set_nonblocking(false).unwrap();
        audit.write(denied("/last"));
        assert_eq!(receive(&journal)["VKERNEL_DETAIL"], (2000 - taken).to_string());
        std::fs::remove_file(&path).unwrap();
    }
}
