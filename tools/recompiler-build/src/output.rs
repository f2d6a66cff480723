//! Writing result files so that nobody ever sees half of one, nor half of a release.
//!
//! Owns the order: write all to files without names, give them temporary names, rename. The fact a newcomer gets wrong: there is no clean-up code for Ctrl-C or a full disk, because a file without a name vanishes with the process, whatever ends it.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum OutputError {
    #[error("cannot write {path}: nothing was changed, free some space or choose another place")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot give {path} its new contents: files beside it may be new already, make them again")]
    Rename { path: PathBuf, source: io::Error },
}

/// Replaces `path` by these bytes, wholly or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    Written::new(path, bytes)?.give(path)
}

/// Makes a directory and its parents.
pub fn directory(path: &Path) -> Result<(), OutputError> {
    std::fs::create_dir_all(path).map_err(|source| OutputError::Write { path: path.into(), source })
}

/// Files that are replaced together: whatever can fail for lack of space or time does so before the first of them changes.
#[derive(Default)]
pub struct Together {
    written: Vec<(PathBuf, Written)>,
    removed: Vec<PathBuf>,
}

enum Written {
    Unnamed(File),
    /// Where the file system has no unnamed files.
    Named(tempfile::NamedTempFile),
}

impl Together {
    pub fn new() -> Together {
        // Each file is open until the end.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        Together::default()
    }

    pub fn replace(&mut self, path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
        self.written.push((path.into(), Written::new(path, bytes)?));
        Ok(())
    }

    pub fn remove(&mut self, path: PathBuf) {
        self.removed.push(path);
    }

    /// Removes, then replaces in the order of the calls.
    pub fn commit(self) -> Result<(), OutputError> {
        for path in self.removed {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(OutputError::Rename { path, source }),
                _ => {}
            }
        }
        self.written.into_iter().try_for_each(|(path, written)| written.give(&path))
    }
}

impl Written {
    fn new(path: &Path, bytes: &[u8]) -> Result<Written, OutputError> {
        write(path, bytes).map_err(|source| OutputError::Write { path: path.into(), source })
    }

    fn give(self, path: &Path) -> Result<(), OutputError> {
        rename(self, path).map_err(|source| OutputError::Rename { path: path.into(), source })
    }
}

fn rename(written: Written, path: &Path) -> io::Result<()> {
    match written {
        Written::Named(file) => file.persist(path).map(drop).map_err(|e| e.error),
        Written::Unnamed(file) => {
            let fd = format!("/proc/self/fd/{}", file.as_raw_fd());
            let link = |temporary: &Path| Ok(linkat(CWD, &fd, CWD, temporary, AtFlags::SYMLINK_FOLLOW)?);
            // It tries other names while one is taken.
            tempfile::Builder::new().make_in(parent(path), link)?.into_temp_path().persist(path).map_err(|e| e.error)
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<Written> {
    path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = parent(path);
    let written = match open(directory, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)) {
        Ok(fd) => Written::Unnamed(File::from(fd)),
        // Some file systems have no unnamed files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => Written::Named(tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(directory)?),
        Err(e) => return Err(e.into()),
    };
    let mut file = match &written {
        Written::Unnamed(file) => file,
        Written::Named(file) => file.as_file(),
    };
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_change_together_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| dir.path().join(name));
        replace(&a, b"old").unwrap();
        replace(&c, b"old").unwrap();
        let begin = || {
            let mut files = Together::new();
            files.replace(&a, b"new").unwrap();
            files.replace(&b, b"new").unwrap();
            files.remove(c.clone());
            files.remove(dir.path().join("never there"));
            files
        };
        drop(begin());
        assert_eq!(std::fs::read(&a).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let mut files = begin();
        assert!(files.replace(&dir.path().join("none/d"), b"new").is_err());
        files.commit().unwrap();
        assert!(!c.exists() && [&a, &b].map(|p| std::fs::read(p).unwrap()) == [b"new", b"new"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn says_where_it_could_not_write() {
        let error = replace(Path::new("/nonexistent/f"), b"").unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nonexistent/f: nothing was changed"), "{error}");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "No such file or directory (os error 2)");
    }
}
