//! Files of the guest as the supervisor looks at them: regular ones only, read(2) in blocks, never mapped; and what was found out about them, for as long as they stay what they are. Owns the cache, its key and reading.
//!
//! The fact a newcomer gets wrong: only files that are older than the container are remembered, those that the image brought along. The time of a change is as coarse as the kernel's clock tick, so a file that was just
//! written can change again and look the same.

use crate::decide::{Refusal, refuse};
use crate::sys;
use policy::{Algorithm, Digest};
use std::collections::HashMap;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

/// Identity of an unchanged file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    dev: u64,
    ino: u64,
    size: i64,
    ctime: (i64, i64),
}

/// What was found out about one.
#[derive(Clone, Copy, Default)]
struct Found {
    digests: Option<Digests>,
    no_script: bool,
}

/// One file, by every function the manifest uses.
#[derive(Clone, Copy)]
pub(crate) struct Digests {
    pub blake3: Digest,
    pub sha256: Option<Digest>,
}

impl Digests {
    pub(crate) fn all(&self) -> Vec<Digest> {
        self.sha256.into_iter().chain([self.blake3]).collect()
    }

    pub(crate) fn is(&self, expected: Option<Digest>) -> bool {
        expected.is_none_or(|e| self.blake3 == e || self.sha256 == Some(e))
    }
}

/// What is remembered.
pub(crate) struct Files {
    found: HashMap<Key, Found>,
    /// When the container began.
    started: i64,
    hits: u64,
}

impl Files {
    pub(crate) fn new(begun: SystemTime) -> Self {
        let started = begun.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        Self { found: HashMap::new(), started, hits: 0 }
    }

    /// How often a digest was known already.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    pub(crate) fn digests(&mut self, st: &libc::stat) -> Option<Digests> {
        let digests = self.found.get(&key(st)).and_then(|found| found.digests);
        self.hits += u64::from(digests.is_some());
        digests
    }

    pub(crate) fn keep_digests(&mut self, st: &libc::stat, digests: Digests) {
        self.keep(st, |found| found.digests = Some(digests));
    }

    /// It does not begin with `#!`.
    pub(crate) fn is_no_script(&self, st: &libc::stat) -> bool {
        self.found.get(&key(st)).is_some_and(|found| found.no_script)
    }

    pub(crate) fn keep_no_script(&mut self, st: &libc::stat) {
        self.keep(st, |found| found.no_script = true);
    }

    fn keep(&mut self, st: &libc::stat, what: impl FnOnce(&mut Found)) {
        if st.st_ctime + 2 < self.started {
            what(self.found.entry(key(st)).or_default());
        }
    }
}

fn key(st: &libc::stat) -> Key {
    Key { dev: st.st_dev, ino: st.st_ino, size: st.st_size, ctime: (st.st_ctime, st.st_ctime_nsec) }
}

/// Of a regular file; refuses everything else.
pub(crate) fn stat(file: BorrowedFd<'_>) -> Result<libc::stat, Refusal> {
    match sys::fstat(file) {
        Ok(st) if st.st_mode & libc::S_IFMT == libc::S_IFREG => Ok(st),
        Ok(_) => refuse(libc::EACCES, "not-a-regular-file"),
        Err(_) => refuse(libc::EACCES, "unreadable"),
    }
}

/// A fresh read-only description of a file that `stat` found to be regular.
pub(crate) fn opened(file: BorrowedFd<'_>) -> Result<std::fs::File, Refusal> {
    sys::reopen(file).map(std::fs::File::from).map_err(|_| Refusal { errno: libc::EACCES, reason: "unreadable" })
}

/// Reads exactly `size` bytes and one more, which must not be there: a growing file is not hashed for ever.
pub(crate) fn digest(file: &std::fs::File, size: u64, with_sha256: bool) -> Result<Digests, Refusal> {
    let one = |algorithm| {
        let mut reader = Bounded { file, at: 0, end: size + 1 };
        let digest = Digest::of_reader(algorithm, &mut reader).map_err(|_| Refusal { errno: libc::EACCES, reason: "unreadable" })?;
        if reader.at == size { Ok(digest) } else { refuse(libc::EACCES, "changed-while-hashed") }
    };
    Ok(Digests { blake3: one(Algorithm::Blake3)?, sha256: if with_sha256 { Some(one(Algorithm::Sha256)?) } else { None } })
}

/// The same of all its bytes at once, which are what was hashed.
pub(crate) fn read(file: &std::fs::File, size: u64, with_sha256: bool) -> Result<(Vec<u8>, Digests), Refusal> {
    let unreadable = |_| Refusal { errno: libc::EACCES, reason: "unreadable" };
    let mut bytes = Vec::with_capacity(size as usize + 1);
    Bounded { file, at: 0, end: size + 1 }.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 != size {
        return refuse(libc::EACCES, "changed-while-hashed");
    }
    let one = |algorithm| Digest::of_reader(algorithm, &mut &bytes[..]).map_err(unreadable);
    let digests = Digests { blake3: one(Algorithm::Blake3)?, sha256: if with_sha256 { Some(one(Algorithm::Sha256)?) } else { None } };
    Ok((bytes, digests))
}

/// Positioned reads up to `end`.
struct Bounded<'a> {
    file: &'a std::fs::File,
    at: u64,
    end: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, block: &mut [u8]) -> std::io::Result<usize> {
        let room = block.len().min((self.end - self.at) as usize);
        let n = self.file.read_at(&mut block[..room], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
