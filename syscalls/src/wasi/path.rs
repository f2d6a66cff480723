//! Where a path of a WASI program leads. Owns that it never leads out of the directory it is relative to: everything is opened by openat2(2) with RESOLVE_BENEATH, and whatever else is done, is done to the last
//! component in a directory that was opened so, without following it.
//!
//! The fact a newcomer gets wrong: no path is looked at here to find out whether it is good. `..`, links to absolute paths and links that somebody changes meanwhile are the kernel's to judge, at the moment it walks.

use super::call::Call;
use super::errno::Code;
use crate::errno::Errno;
use crate::guest::PATH_MAX;

/// A directory, open, and the name of something in it.
pub(super) struct Place {
    /// The host's descriptor.
    pub directory: u64,
    /// It was opened for this, and ends with it.
    ours: bool,
    /// Guest address of the terminated name.
    pub name: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.ours {
            let _ = crate::pass::quick(libc::SYS_close, &[self.directory]);
        }
    }
}

/// A descriptor of our own, closed at the end.
pub(super) struct Held(pub u64);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = crate::pass::quick(libc::SYS_close, &[self.0]);
    }
}

/// `lookupflags`: whether to follow a link at the end.
pub(super) fn follows(lookupflags: u64) -> Result<bool, Code> {
    if lookupflags >> 1 == 0 { Ok(lookupflags == 1) } else { Err(Code::INVAL) }
}

impl Call<'_> {
    /// A path argument: UTF-8, and nothing that no file can be called.
    pub(super) fn path(&mut self, pointer: u64, length: u64) -> Result<Vec<u8>, Code> {
        // As its length counts at most: it must be the module's memory all the same.
        self.program.memory.range(pointer, length)?;
        if length >= PATH_MAX as u64 {
            return Err(Code::NAMETOOLONG);
        }
        let path = self.program.memory.bytes_at(pointer, length)?;
        if std::str::from_utf8(&path).is_err() {
            return Err(Code::ILSEQ);
        }
        if path.contains(&0) { Err(Code::INVAL) } else { Ok(path) }
    }

    /// Opens `path` below `directory`, a host descriptor.
    pub(super) fn beneath(&mut self, directory: u64, path: &[u8], flags: i32, mode: u64) -> Result<u64, Code> {
        if path.is_empty() {
            return Err(Code::NOENT);
        }
        let text = self.lay(&[path, b"\0"].concat())?;
        // openat2(2) refuses what has no meaning.
        let flags = flags | libc::O_CLOEXEC | if flags & libc::O_PATH == 0 { libc::O_NOCTTY } else { 0 };
        let how = self.lay_words(&[flags as u64, mode, libc::RESOLVE_BENEATH])?;
        // The kernel gives up where something on the way was renamed meanwhile, and `..` could have led out.
        const TRIES: usize = 64;
        for _ in 0..TRIES {
            match self.linux(libc::SYS_openat2, libc::SYS_openat, &[directory, text, how, 24]) {
                Err(Errno::EAGAIN) => {}
                Err(Errno::EXDEV) => return Err(Code::PERM),
                answer => return Ok(answer?),
            }
        }
        Err(Code::AGAIN)
    }

    /// The directory that holds the last component of `path`, and its name there; a slash at its end stays.
    pub(super) fn place(&mut self, directory: u64, path: &[u8]) -> Result<Place, Code> {
        if path.is_empty() {
            return Err(Code::NOENT);
        }
        if path.starts_with(b"/") {
            return Err(Code::PERM);
        }
        let end = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
        let split = path[..end].iter().rposition(|b| *b == b'/');
        let (parent, name) = split.map_or((None, path), |at| (Some(&path[..at]), &path[at + 1..]));
        if path[split.map_or(0, |at| at + 1)..end] == *b".." {
            // What it names may lie outside: then it is not even there.
            drop(Held(self.beneath(directory, path, libc::O_PATH, 0)?));
        }
        let name = self.lay(&[name, b"\0"].concat())?;
        let Some(parent) = parent else { return Ok(Place { directory, ours: false, name }) };
        let directory = self.beneath(directory, parent, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        Ok(Place { directory, ours: true, name })
    }
}
