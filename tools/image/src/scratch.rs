//! Directories that appear whole or not at all.
//!
//! Owns the order: make `.new-…` beside the final place, fill it, rename it. The fact a newcomer gets wrong: an interrupted run removes its own directory, but a killed one cannot; so every run removes what nobody holds a lock on.

use anyhow::Context;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = ".new-";

/// A directory being filled; removed when dropped.
pub struct Scratch {
    path: PathBuf,
    /// Held as long as somebody fills it.
    _lock: OwnedFd,
}

impl Scratch {
    /// A private directory in `parent`: setuid files and devices of an image must not be reachable by other users while it is unpacked, or ever.
    pub fn new(parent: &Path) -> anyhow::Result<Scratch> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        // One at a time: between its making and its lock, a directory looks like one that a killed run left.
        let turn = open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).with_context(|| format!("cannot open {}", parent.display()))?;
        flock(&turn, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {}", parent.display()))?;
        sweep(parent);
        let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).with_context(|| format!("cannot write into {}", parent.display()))?.keep();
        let lock = lock(&path).with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Scratch { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory its name. If somebody else made the same meanwhile, theirs stays.
    pub fn publish(self, place: &Path) -> anyhow::Result<()> {
        match fs::rename(&self.path, place) {
            Err(_) if place.is_dir() => Ok(()),
            done => done.with_context(|| format!("cannot make {}", place.display())),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After `publish` there is nothing at this path; otherwise what stays is swept by the next run.
        let _ = remove(&self.path);
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(path)
}

fn lock(path: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    Ok(fd)
}

/// Removes what killed runs left.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && lock(&entry.path()).is_ok() {
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_is_gone_and_what_was_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".new-killed")).unwrap();
        let first = Scratch::new(dir.path()).unwrap();
        fs::write(first.path().join("f"), "1").unwrap();
        let second = Scratch::new(dir.path()).unwrap();
        assert!(first.path().exists(), "in use");
        let names = || fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names(), 2);
        drop(second);
        first.publish(&dir.path().join("done")).unwrap();
        assert_eq!((names(), fs::read(dir.path().join("done/f")).unwrap()), (1, b"1".to_vec()));
    }

    #[test]
    fn nobody_sweeps_what_another_one_is_making() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    for _ in 0..100 {
                        let mine = Scratch::new(dir.path()).unwrap();
                        fs::write(mine.path().join("f"), "1").unwrap();
                        std::thread::yield_now();
                        assert!(mine.path().join("f").exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
