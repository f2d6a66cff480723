//! Writing result files so that nobody ever sees half of one.
//!
//! Owns the order: write to a file without a name, give it a temporary name, rename. The fact a newcomer gets wrong: there is no clean-up code for Ctrl-C or a full disk,
//! because a file without a name vanishes with the process, whatever ends it.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum OutputError {
    #[error("cannot write {path}: {source}: nothing was changed, free some space or choose another place")]
    Write { path: PathBuf, source: io::Error },
}

/// Replaces `path` by these bytes, wholly or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    write(path, bytes).map_err(|source| OutputError::Write { path: path.into(), source })
}

/// Makes a directory and its parents.
pub fn directory(path: &Path) -> Result<(), OutputError> {
    std::fs::create_dir_all(path).map_err(|source| OutputError::Write { path: path.into(), source })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let mode = Mode::from_raw_mode(0o644);
    let unnamed = match open(directory, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode) {
        Ok(fd) => File::from(fd),
        // Some file systems have no unnamed files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => return write_named(directory, path, bytes),
        Err(e) => return Err(e.into()),
    };
    (&unnamed).write_all(bytes)?;
    unnamed.sync_all()?;
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let fd = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
    linkat(CWD, &fd, CWD, &temporary, AtFlags::SYMLINK_FOLLOW)?;
    std::fs::rename(&temporary, path).inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

fn write_named(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
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
    fn says_where_it_could_not_write() {
        let error = replace(Path::new("/nonexistent/f"), b"").unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nonexistent/f: No such file"), "{error}");
    }
}
