//! What a detached container writes: one file beside its record, in the format of podman's k8s-file driver (time, stream, F for a whole line or P for a part, text). Owns the pipes, the
//! file and its bound. The fact a newcomer gets wrong: the file is bounded, because a guest writes it; when it is full it becomes the old one and the old one before is gone.

use crate::audit::timestamp;
use crate::failure::Failure;
use nix::unistd::pipe;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Name of the file in a container's directory.
pub const FILE: &str = "log";
/// Of one file; there are at most two.
const LARGEST_BYTES: u64 = 8 << 20;
/// A line is cut into parts of this size.
const PART_BYTES: usize = 8192;

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("container log", e, "see whether the state directory can be written")
}

/// Where the other file of a log is.
pub fn older(path: &Path) -> PathBuf {
    path.with_extension("old")
}

struct Sink {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Sink {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failure)?;
        Ok(Self { path: path.to_owned(), file, written: 0 })
    }

    fn line(&mut self, stream: &str, part: &[u8], whole: bool) {
        let mut text = format!("{} {stream} {} ", timestamp(SystemTime::now()), if whole { 'F' } else { 'P' }).into_bytes();
        text.extend_from_slice(part);
        text.push(b'\n');
        if self.written + text.len() as u64 > LARGEST_BYTES {
            let renamed = std::fs::rename(&self.path, older(&self.path));
            if let Some(next) = renamed.ok().and_then(|()| Self::open(&self.path).ok()) {
                *self = next;
            }
        }
        self.written += text.len() as u64;
        let _ = self.file.write_all(&text);
    }
}

/// The streams of a container that is about to start: this process's own until `pump`, so that the container inherits them.
pub struct Output {
    readers: [(OwnedFd, &'static str); 2],
    sink: Sink,
}

/// The threads that write the log.
pub struct Pump(Vec<JoinHandle<()>>);

impl Output {
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let sink = Sink::open(path)?;
        let mut readers = Vec::new();
        for (stream, name) in [(1, "stdout"), (2, "stderr")] {
            let (reader, writer) = pipe().map_err(failure)?;
            // SAFETY: plain descriptor numbers; the standard streams are nobody's objects here.
            if unsafe { libc::dup2(writer.as_raw_fd(), stream) } < 0 {
                return Err(failure(std::io::Error::last_os_error()));
            }
            readers.push((reader, name));
        }
        let null = File::open("/dev/null").map_err(failure)?;
        // SAFETY: as above.
        unsafe { libc::dup2(null.as_raw_fd(), 0) };
        let readers = readers.try_into().map_err(|_| failure("two streams"))?;
        Ok(Self { readers, sink })
    }

    /// Lets go of the streams, so that their end is the container's, and begins to write.
    pub fn pump(self) -> Result<Pump, Failure> {
        crate::keeper::quiet();
        let sink = Arc::new(Mutex::new(self.sink));
        let one = |(reader, name): (OwnedFd, &'static str)| {
            let sink = sink.clone();
            std::thread::Builder::new().name(name.into()).stack_size(64 << 10).spawn(move || copy(File::from(reader), name, &sink)).map_err(failure)
        };
        self.readers.into_iter().map(one).collect::<Result<_, _>>().map(Pump)
    }
}

impl Pump {
    /// Waits until everything is written: the last process has closed its side.
    pub fn finish(self) {
        for thread in self.0 {
            let _ = thread.join();
        }
    }
}

fn copy(mut from: impl Read, name: &str, sink: &Mutex<Sink>) {
    let mut buffer = [0; PART_BYTES];
    let mut held: Vec<u8> = Vec::new();
    let put = |part: &[u8], whole| sink.lock().unwrap_or_else(PoisonError::into_inner).line(name, part, whole);
    loop {
        let n = match from.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        for piece in buffer[..n].split_inclusive(|b| *b == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(rest) => {
                    held.extend_from_slice(rest);
                    put(&held, true);
                    held.clear();
                }
                None => held.extend_from_slice(piece),
            }
            if held.len() >= PART_BYTES {
                put(&held, false);
                held.clear();
            }
        }
    }
    if !held.is_empty() {
        put(&held, false);
    }
}

/// One line of a log, taken apart again: time, stream, whether it ends a line, text.
pub fn parse(line: &[u8]) -> Option<(&str, &str, bool, &[u8])> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let mut word = || parts.next().and_then(|w| std::str::from_utf8(w).ok());
    let (time, stream, whole) = (word()?, word()?, word()? == "F");
    Some((time, stream, whole, parts.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_parts_of_lines_are_kept_apart_and_the_log_is_bounded() {
        let dir = std::env::temp_dir().join(format!("vkernel-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(FILE);
        let sink = Mutex::new(Sink::open(&path).unwrap());
        copy(&b"one\n\ntwo words\nend"[..], "stdout", &sink);
        let text = std::fs::read(&path).unwrap();
        let lines: Vec<_> = text.split(|b| *b == b'\n').filter_map(parse).map(|(_, stream, whole, text)| (stream, whole, text)).collect();
        assert_eq!(lines, [("stdout", true, &b"one"[..]), ("stdout", true, b""), ("stdout", true, b"two words"), ("stdout", false, b"end")]);
        let long = vec![b'x'; LARGEST_BYTES as usize * 3];
        copy(&long[..], "stderr", &sink);
        let size = |p: &Path| std::fs::metadata(p).unwrap().len();
        assert!(size(&path) <= LARGEST_BYTES && size(&older(&path)) <= LARGEST_BYTES);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
