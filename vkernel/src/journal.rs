//! What a supervisor is about to do, where its death does not reach: one request at a time, in shared memory that outlives the process (07, S19). Owns the layout, the order in which it is
//! written, and what follows from what a dead supervisor left.
//!
//! The fact a newcomer gets wrong: the kernel writes a request straight into the journal. A request that was received and not noted could never be answered, because the kernel does not
//! deliver it again. No guest has this memory; the workers' ring is another one.

use crate::audit::{Audit, Decision, Event, Record};
use crate::listener::{Answer, Listener, Request};
use crate::protocol::LIBRARY_MARK;
use crate::supervisor::{self, Until};
use crate::sys;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Layout version: a daemon does not take over what another version of it left.
const MAGIC: u64 = u64::from_be_bytes(*b"vkjrnl\0\x01");
/// Room for a record: two paths of 4096 bytes, each of which JSON may write sixfold.
const INTENT_BYTES: usize = 56 << 10;
const NAME_BYTES: usize = 4096 + 256 + 2;

/// Nothing is going on.
const IDLE: u32 = 0;
/// The kernel may have written a request.
const RECEIVING: u32 = 1;
/// It was decided; the answer may have been sent, the record may have been written.
const DECIDED: u32 = 2;

/// Reason code of requests that a dead supervisor left without a decision.
const UNDECIDED: &str = "supervisor-died";

#[repr(C)]
struct Shared {
    magic: AtomicU64,
    state: AtomicU32,
    intent_length: AtomicU32,
    /// The audit log's length before the record.
    log_length: AtomicU64,
    /// Not of the container's first process: `Until::Nobody`.
    further: AtomicU32,
    /// When the container began, in seconds since 1970: what is older came with its image.
    begun: AtomicU64,
    /// How far the workers' ring was read, and what it had lost by then.
    ring: [AtomicU64; 2],
    request: Request,
    /// Directory of the container's record and its id, each ended by a zero byte; then the record that is to be written.
    name: [u8; NAME_BYTES],
    intent: [u8; INTENT_BYTES],
}

/// One supervisor's.
pub struct Journal {
    shared: NonNull<Shared>,
    memory: OwnedFd,
}

// SAFETY: one thread writes it (the supervisor's); others only look at atomics and at the name, which is written once before there are others.
unsafe impl Send for Journal {}
// SAFETY: as above.
unsafe impl Sync for Journal {}

impl Journal {
    /// For a process of the container `id` whose record is below `root`.
    pub fn new(root: &Path, id: &str, until: Until) -> io::Result<Self> {
        let memory = sys::memfd(c"vkernel-journal")?;
        nix::unistd::ftruncate(&memory, size_of::<Shared>() as i64)?;
        let journal = Self::map(memory)?;
        let name: Vec<u8> = [root.as_os_str().as_bytes(), b"\0", id.as_bytes(), b"\0"].concat();
        if name.len() > NAME_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: nobody else has this mapping yet; the name fits.
        unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), (&raw mut (*journal.shared.as_ptr()).name).cast(), name.len()) };
        journal.shared().further.store(u32::from(until == Until::Nobody), Ordering::Relaxed);
        journal.shared().begun.store(std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_secs()), Ordering::Relaxed);
        journal.shared().magic.store(MAGIC, Ordering::Release);
        Ok(journal)
    }

    /// What another process left.
    pub fn of(memory: OwnedFd) -> io::Result<Self> {
        if sys::fstat(memory.as_fd())?.st_size != size_of::<Shared>() as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is no journal of this version"));
        }
        let journal = Self::map(memory)?;
        if journal.shared().magic.load(Ordering::Acquire) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is no journal of this version"));
        }
        Ok(journal)
    }

    fn map(memory: OwnedFd) -> io::Result<Self> {
        // SAFETY: a fresh shared mapping of a file of our own that has this size; any bytes are a valid `Shared`.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, memory.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { shared: NonNull::new(at.cast()).expect("not at address 0"), memory })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped in `map` until drop. The plain fields are written by the one supervisor only, through raw pointers, and read by it or after its death.
        unsafe { self.shared.as_ref() }
    }

    /// Directory and id of the container.
    pub fn container(&self) -> Option<(PathBuf, String)> {
        let mut parts = self.shared().name.split(|b| *b == 0);
        let root = PathBuf::from(OsStr::from_bytes(parts.next()?));
        let id = String::from_utf8(parts.next()?.to_vec()).ok()?;
        (!id.is_empty()).then_some((root, id))
    }

    /// How long there is somebody to serve.
    pub fn until(&self) -> Until {
        if self.shared().further.load(Ordering::Relaxed) == 0 { Until::End } else { Until::Nobody }
    }

    /// When the container began, whoever serves it now.
    pub fn begun(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.shared().begun.load(Ordering::Relaxed))
    }

    /// The next request; `None` when its sender died meanwhile.
    pub fn receive(&self, listener: &Listener) -> io::Result<Option<Request>> {
        // SAFETY: this supervisor's alone, see `shared`.
        let request = unsafe { &mut (*self.shared.as_ptr()).request };
        *request = Request::EMPTY;
        self.shared().state.store(RECEIVING, Ordering::Release);
        let received = listener.receive_into(request)?;
        let request = *request;
        if !received {
            self.settled();
        }
        Ok(received.then_some(request))
    }

    /// Before the answer is sent: what the audit log will say.
    pub fn decided(&self, line: Option<&[u8]>, log_length: u64) {
        let s = self.shared();
        let line = line.filter(|l| l.len() <= INTENT_BYTES).unwrap_or_default();
        // SAFETY: this supervisor's alone, see `shared`; the line fits.
        unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), (&raw mut (*self.shared.as_ptr()).intent).cast(), line.len()) };
        s.intent_length.store(line.len() as u32, Ordering::Relaxed);
        s.log_length.store(log_length, Ordering::Relaxed);
        s.state.store(DECIDED, Ordering::Release);
    }

    /// The record is in the log.
    pub fn settled(&self) {
        self.shared().state.store(IDLE, Ordering::Release);
    }

    /// How far the workers' ring was read.
    pub fn ring(&self) -> (u64, u64) {
        let [read, dropped] = &self.shared().ring;
        (read.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed))
    }

    pub fn ring_read(&self, (read, dropped): (u64, u64)) {
        self.shared().ring[0].store(read, Ordering::Relaxed);
        self.shared().ring[1].store(dropped, Ordering::Relaxed);
    }

    /// After its supervisor's death: a request that still waits is refused, and there is exactly one record of it. Without a listener nobody waits any more.
    pub fn settle(&self, listener: Option<&Listener>, audit: &mut Audit) {
        let s = self.shared();
        let state = s.state.load(Ordering::Acquire);
        let request = s.request;
        if state == IDLE || (state == RECEIVING && request.id == 0) {
            return self.settled();
        }
        let path = listener.and_then(|l| supervisor::object(l, &request).ok()).and_then(|file| sys::path_of(file.as_fd()));
        // If the kernel takes this answer, there was none yet.
        let waited = listener.is_some_and(|l| l.answer(&request, Answer::Errno(libc::EACCES)));
        if state == DECIDED && !waited {
            let line = &s.intent[..(s.intent_length.load(Ordering::Relaxed) as usize).min(INTENT_BYTES)];
            if !line.is_empty() {
                audit.put_once(line, s.log_length.load(Ordering::Relaxed));
            }
        } else {
            let event = if request.args[2] == LIBRARY_MARK { Event::Library } else { Event::Exec };
            let mut record = Record::new(event, Decision::Denied, UNDECIDED);
            record.pid = Some(request.pid);
            record.path = path;
            audit.write(record);
        }
        self.settled();
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this size; nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.shared.as_ptr().cast(), size_of::<Shared>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(journal: &Journal) -> Journal {
        Journal::of(journal.as_fd().try_clone_to_owned().unwrap()).unwrap()
    }

    #[test]
    fn whatever_its_supervisor_was_doing_a_request_has_one_record() {
        let path = std::env::temp_dir().join(format!("vkernel-journal-{}", std::process::id()));
        let reasons = |journal: &Journal| {
            let mut audit = Audit::open("c", Some(&path.clone().into())).unwrap();
            again(journal).settle(None, &mut audit);
            again(journal).settle(None, &mut audit);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let journal = Journal::new("/run/x".as_ref(), "web", Until::Nobody).unwrap();
        assert_eq!(again(&journal).container(), Some(("/run/x".into(), "web".into())));
        assert_eq!(again(&journal).until(), Until::Nobody);
        assert_eq!(reasons(&journal), [""; 0]);
        let receive = |id| {
            // SAFETY: no other thread has the journal.
            unsafe { (*journal.shared.as_ptr()).request = Request { id, ..Request::EMPTY } };
            journal.shared().state.store(RECEIVING, Ordering::Release);
        };
        receive(0);
        assert_eq!(reasons(&journal), [""; 0], "it waited for a request");
        receive(7);
        assert_eq!(reasons(&journal), [UNDECIDED], "it was deciding");
        let audit = Audit::open("c", Some(&path.clone().into())).unwrap();
        let line = audit.line(Record::new(Event::Exec, Decision::Allowed, "listed")).unwrap();
        receive(8);
        journal.decided(Some(&line), audit.length());
        assert_eq!(reasons(&journal), ["listed"], "it was about to answer, or to write");
        let mut audit = Audit::open("c", Some(&path.clone().into())).unwrap();
        receive(9);
        journal.decided(Some(&line), audit.length());
        audit.put(&line);
        assert_eq!(reasons(&journal), ["listed"], "it had written");
        drop(Audit::open("c", Some(&path.clone().into())).unwrap());
        journal.settled();
        assert_eq!(reasons(&journal), [""; 0]);
    }

    #[test]
    fn what_is_no_journal_is_not_taken_over() {
        let other = sys::memfd(c"other").unwrap();
        assert!(Journal::of(other.try_clone().unwrap()).is_err());
        nix::unistd::ftruncate(&other, size_of::<Shared>() as i64).unwrap();
        assert!(Journal::of(other).is_err());
        assert!(Journal::new("/".as_ref(), &"x".repeat(NAME_BYTES), Until::End).is_err());
    }
}
