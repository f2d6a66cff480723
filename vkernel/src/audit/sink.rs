//! Where records go: a file, or systemd's journal. Owns how a destination is written on the command line and in records, and what a file that was cut off means for the next line.
//!
//! The fact a newcomer gets wrong: a full disk cuts a line off, and whoever writes next, perhaps another process, must not lose a record to that.

use super::journald::Journald;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const JOURNALD: &str = "journald";
/// Of the host's journal; a namespace of it has another one.
const SOCKET: &str = "/run/systemd/journal/socket";

/// `FILE`, `journald` or `journald:SOCKET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum Destination {
    File(PathBuf),
    Journald(PathBuf),
}

impl From<PathBuf> for Destination {
    fn from(text: PathBuf) -> Self {
        match text.to_str().and_then(|t| t.strip_prefix(JOURNALD)) {
            Some("") => Self::Journald(SOCKET.into()),
            Some(rest) if rest.starts_with(":/") => Self::Journald(rest[1..].into()),
            _ => Self::File(text),
        }
    }
}

impl From<OsString> for Destination {
    fn from(text: OsString) -> Self {
        PathBuf::from(text).into()
    }
}

impl From<Destination> for PathBuf {
    fn from(destination: Destination) -> PathBuf {
        match destination {
            Destination::File(path) => path,
            Destination::Journald(socket) => format!("{JOURNALD}:{}", socket.display()).into(),
        }
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        PathBuf::from(self.clone()).display().fmt(f)
    }
}

impl Destination {
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Journald(_) => None,
        }
    }

    /// The same for a process with another working directory.
    pub fn absolute(&self) -> io::Result<Self> {
        match self {
            Self::File(path) => std::path::absolute(path).map(Self::File),
            Self::Journald(_) => Ok(self.clone()),
        }
    }

    pub(super) fn open(&self) -> io::Result<Sink> {
        match self {
            Self::File(path) => open_file(path).map(Sink::File),
            Self::Journald(socket) => Journald::connect(socket).map(Sink::Journald),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let how = |read| OpenOptions::new().read(read).append(true).create(true).mode(0o600).custom_flags(libc::O_CLOEXEC).open(path);
    // A pipe or a terminal of somebody else's may only be written.
    how(true).or_else(|_| how(false))
}

pub(super) enum Sink {
    File(File),
    Journald(Journald),
}

impl Sink {
    /// One write per line, so that lines of several supervisors appending to the same file do not mix. A full disk cuts a line off: the next one, whoever writes it, begins behind that.
    pub(super) fn append(&mut self, line: &[u8]) -> bool {
        match self {
            Self::File(file) => alone(file, |mut file| if is_cut_off(file) { file.write_all(&[b"\n", line].concat()).is_ok() } else { file.write_all(line).is_ok() }),
            Self::Journald(journald) => journald.send(line).is_ok(),
        }
    }

    /// How long it is; of what is no file nobody can tell.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::File(file) => file.metadata().map_or(0, |m| m.len()),
            Self::Journald(_) => 0,
        }
    }

    /// Completes a line that somebody who died may have written since the log had this length: the kernel may have ended the write between two pages. Whether it is whole now; `None` if nothing
    /// of it is there. The journal cannot be asked; there the same line is the same record, by its id.
    pub(super) fn complete(&self, line: &[u8], since: u64) -> Option<bool> {
        let Self::File(file) = self else { return None };
        alone(file, |mut file| {
            // A shorter log is another one.
            let later = read_from(file, if since <= self.length() { since } else { 0 }).ok()?;
            if later.windows(line.len()).any(|w| w == line) {
                return Some(true);
            }
            let part = (1..line.len()).rev().find(|n| later.ends_with(&line[..*n]))?;
            Some(file.write_all(&line[part..]).is_ok())
        })
    }
}

/// While nobody else who writes the log this way is in the middle of a line: a file grows by pages, so that others see a line before its end. What cannot be locked is written all the same.
fn alone<T>(file: &File, act: impl FnOnce(&File) -> T) -> T {
    let locked = file.lock().is_ok();
    let done = act(file);
    if locked {
        let _ = file.unlock();
    }
    done
}

fn read_from(file: &File, from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len().saturating_sub(from) as usize];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// Does the file's last line lack its end? Of what is no file nobody can tell.
fn is_cut_off(file: &File) -> bool {
    let mut last = [0];
    let end = file.metadata().ok().filter(Metadata::is_file).map_or(0, |m| m.len());
    end > 0 && file.read_at(&mut last, end - 1).is_ok_and(|n| n == 1) && last != *b"\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_being_written_is_not_taken_for_one_that_was_cut_off() {
        let path = std::env::temp_dir().join(format!("vkernel-sink-{}", std::process::id()));
        let log = Destination::File(path.clone());
        // Longer than a page: each write makes the file longer at least twice.
        let line = [vec![b'x'; 5000], vec![b'\n']].concat();
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    let mut sink = log.open().unwrap();
                    (0..500).for_each(|_| assert!(sink.append(&line)));
                });
            }
        });
        assert!(std::fs::read(&path).unwrap() == line.repeat(8 * 500));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_destination_is_written_as_it_is_read() {
        let of = |text: &str| Destination::from(PathBuf::from(text));
        assert_eq!(of("journald"), Destination::Journald(SOCKET.into()));
        assert_eq!(of("journald:/run/systemd/journal.shop/socket"), Destination::Journald("/run/systemd/journal.shop/socket".into()));
        for file in ["./journald", "journald.log", "journald:x", "/var/log/x"] {
            assert_eq!(of(file), Destination::File(file.into()));
        }
        for text in ["journald", "journald:/a", "/x"] {
            let json = serde_json::to_string(&of(text)).unwrap();
            assert_eq!(serde_json::from_str::<Destination>(&json).unwrap(), of(text), "{json}");
        }
    }
}
