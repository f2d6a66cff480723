//! From an open file to a verdict: what kind of object it is, its digest, the policy's word on it, and for scripts the interpreter's.
//! Owns reading and hashing guest files (regular ones only, size checked first, read(2) in blocks, never mmap) and the digest cache.
//!
//! The fact a newcomer gets wrong: a stale cache entry can only choose a wrong *approved* entry, never unapproved code, because what a
//! worker becomes is always code of the signed megabinary and never the file.

use crate::protocol::{self, Grant, HEAD_BYTES, SCRIPT_DEPTH};
use crate::sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Digest of a file.
pub type Hash = [u8; 32];

/// What is asked of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Program,
    Library,
}

/// The policy's part, as two pure functions.
pub struct Rules<'a> {
    /// Whether any approved object has this size: others are refused before a byte is read (07, S17).
    pub known_size: &'a dyn Fn(u64) -> bool,
    /// Entry number, or why not (a stable reason code).
    pub decide: &'a dyn Fn(Wanted, &Hash) -> Result<u32, &'static str>,
}

/// Why an object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub errno: i32,
    pub reason: &'static str,
}

fn refuse<T>(errno: i32, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { errno, reason })
}

/// What was found out about one request.
pub struct Verdict {
    pub result: Result<Grant, Refusal>,
    /// Of the object that decided: the program, or the last interpreter.
    pub hash: Option<Hash>,
}

/// Identity of an unchanged file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    dev: u64,
    ino: u64,
    size: i64,
    ctime: (i64, i64),
}

/// Decides for one container.
pub struct Decider<'a> {
    rules: Rules<'a>,
    root: OwnedFd,
    cache: HashMap<Key, Hash>,
    /// Only files whose ctime lies well before this are remembered: those the image brought along.
    started: i64,
}

impl<'a> Decider<'a> {
    pub fn new(rules: Rules<'a>, root: OwnedFd) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        Self { rules, root, cache: HashMap::new(), started: now }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    pub fn library(&mut self, file: BorrowedFd<'_>) -> Verdict {
        self.object(file, Wanted::Library)
    }

    /// A program or a script.
    pub fn program(&mut self, file: BorrowedFd<'_>) -> Verdict {
        let mut owned: Option<OwnedFd> = None;
        for scripts in 0..=SCRIPT_DEPTH {
            let file = owned.as_ref().map_or(file, AsFd::as_fd);
            let next = match self.interpreter(file) {
                Err(refusal) => return Verdict { result: Err(refusal), hash: None },
                Ok(None) => {
                    let mut verdict = self.object(file, Wanted::Program);
                    if let Ok(grant) = &mut verdict.result {
                        grant.scripts = scripts;
                    }
                    return verdict;
                }
                Ok(Some(next)) => next,
            };
            owned = Some(next);
        }
        Verdict { result: refuse(libc::ELOOP, "script-depth"), hash: None }
    }

    /// The interpreter named by a script's first line, opened inside the container's root.
    fn interpreter(&self, file: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Refusal> {
        let file = regular(file)?;
        let mut head = [0u8; HEAD_BYTES];
        let mut length = 0;
        while length < HEAD_BYTES {
            match file.read_at(&mut head[length..], length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(_) => return refuse(libc::EIO, "unreadable"),
            }
        }
        let (name, _) = match protocol::interpreter(&head[..length]) {
            None => return Ok(None),
            Some(None) => return refuse(libc::ENOEXEC, "script-without-interpreter"),
            Some(Some(found)) => found,
        };
        if name.first() != Some(&b'/') {
            return refuse(libc::EACCES, "relative-interpreter");
        }
        let name = CString::new(name).map_err(|_| Refusal { errno: libc::ENOEXEC, reason: "script-without-interpreter" })?;
        match sys::open_in_root(self.root.as_fd(), &name, libc::O_PATH) {
            Ok(found) => Ok(Some(found)),
            Err(e) => refuse(e.raw_os_error().unwrap_or(libc::EACCES), "interpreter-not-found"),
        }
    }

    fn object(&mut self, file: BorrowedFd<'_>, wanted: Wanted) -> Verdict {
        match self.hash(file) {
            Err(refusal) => Verdict { result: Err(refusal), hash: None },
            Ok(hash) => {
                let decided = (self.rules.decide)(wanted, &hash);
                let result = decided.map(|entry| Grant { entry, scripts: 0 }).map_err(|reason| Refusal { errno: libc::EACCES, reason });
                Verdict { result, hash: Some(hash) }
            }
        }
    }

    fn hash(&mut self, file: BorrowedFd<'_>) -> Result<Hash, Refusal> {
        let st = sys::fstat(file).map_err(|_| Refusal { errno: libc::EACCES, reason: "unreadable" })?;
        if st.st_mode & libc::S_IFMT != libc::S_IFREG {
            return refuse(libc::EACCES, "not-a-regular-file");
        }
        let key = Key { dev: st.st_dev, ino: st.st_ino, size: st.st_size, ctime: (st.st_ctime, st.st_ctime_nsec) };
        if let Some(hash) = self.cache.get(&key) {
            return Ok(*hash);
        }
        let file = regular(file)?;
        if !(self.rules.known_size)(st.st_size as u64) {
            let mut magic = [0u8; 4];
            let is_elf = file.read_at(&mut magic, 0).is_ok_and(|n| n == 4) && magic == *b"\x7fELF";
            // Shells take ENOEXEC as "run it as a script of mine"; Linux answers the same for such a file.
            return if is_elf { refuse(libc::EACCES, "unknown-size") } else { refuse(libc::ENOEXEC, "not-a-program") };
        }
        let hash = digest(&file, st.st_size as u64)?;
        if st.st_ctime + 2 < self.started {
            self.cache.insert(key, hash);
        }
        Ok(hash)
    }
}

/// A fresh read-only description of a regular file; refuses everything else before opening it.
fn regular(file: BorrowedFd<'_>) -> Result<std::fs::File, Refusal> {
    match sys::fstat(file) {
        Ok(st) if st.st_mode & libc::S_IFMT == libc::S_IFREG => {}
        Ok(_) => return refuse(libc::EACCES, "not-a-regular-file"),
        Err(_) => return refuse(libc::EACCES, "unreadable"),
    }
    sys::reopen(file).map(std::fs::File::from).map_err(|_| Refusal { errno: libc::EACCES, reason: "unreadable" })
}

/// Reads exactly `size` bytes and one more, which must not be there: a growing file is not hashed for ever.
fn digest(file: &std::fs::File, size: u64) -> Result<Hash, Refusal> {
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0u8; 128 << 10];
    let mut at = 0u64;
    loop {
        match file.read_at(&mut block, at) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&block[..n]);
                at += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return refuse(libc::EACCES, "unreadable"),
        }
        if at > size {
            break;
        }
    }
    if at == size { Ok(*hasher.finalize().as_bytes()) } else { refuse(libc::EACCES, "changed-while-hashed") }
}
