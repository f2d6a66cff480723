//! The caller's standard streams that are files of the host: what a guest may do to them beyond reading and writing.
//!
//! Owns two things: what is read is opened once more through a mount of its own that is read-only, and what is written goes through a pipe, as does output to systemd's journal. The fact a newcomer gets wrong: a descriptor is more than its mode says. Its link in
//! /proc opens the file again, also for writing, and fchmod(2) and fchown(2) take any descriptor, if the guest's root is the file's owner by number: a log could become a set-id program, and /dev/null nobody's.

use crate::failure::Failure;
use crate::namespaces::Owners;
use crate::{mounts, sys};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, Whence, fchown, lseek, pipe2};
use oci_spec::runtime::Spec;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// systemd's variable, see `is_journals`.
pub(crate) const JOURNAL: &str = "JOURNAL_STREAM";

const NAMES: [&str; 3] = ["standard input", "standard output", "standard error"];

fn failure(stream: usize, e: impl std::fmt::Display) -> Failure {
    Failure::new(NAMES[stream], e, "use a pipe instead: `cat FILE | vkernel run …`")
}

fn stream(number: usize) -> BorrowedFd<'static> {
    // SAFETY: the standard streams are open or not, but nobody's objects.
    unsafe { BorrowedFd::borrow_raw(number as i32) }
}

/// All three.
pub(crate) fn all() -> [BorrowedFd<'static>; 3] {
    [0, 1, 2].map(stream)
}

/// Devices (major 1) that do nothing but give or take bytes.
const BYTES_ONLY: [(u32, &str); 5] = [(3, "/dev/null"), (5, "/dev/zero"), (7, "/dev/full"), (8, "/dev/random"), (9, "/dev/urandom")];

/// In a process that is to run a guest, or gives it its streams, while it is in the host's mount namespace. Gives the mounts that the streams are on from now on: to let go of one, the kernel waits until no processor looks at it any
/// more, which can be done when nobody waits for it.
pub fn guard() -> Result<Vec<OwnedFd>, Failure> {
    let mut held = Vec::new();
    for number in 0..NAMES.len() {
        let Ok(st) = sys::fstat(stream(number)) else { continue };
        let flags = OFlag::from_bits_truncate(fcntl(stream(number), FcntlArg::F_GETFL).unwrap_or_default());
        let reads = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
        match st.st_mode & libc::S_IFMT {
            libc::S_IFDIR => return Err(failure(number, "is a directory of the host, from which a guest could go anywhere")),
            libc::S_IFREG if (reads || number == 0) && st.st_nlink > 0 => held.push(again(number, own_mount(stream(number)), OFlag::O_RDONLY, libc::MOUNT_ATTR_NODEV)?),
            libc::S_IFBLK => held.push(again(number, own_mount(stream(number)), flags & OFlag::O_ACCMODE, libc::MOUNT_ATTR_NODEV)?),
            libc::S_IFCHR if !stream(number).is_terminal() => held.push(match bytes_only(&st) {
                Some(device) => again(number, device, flags & OFlag::O_ACCMODE, 0)?,
                None => again(number, own_mount(stream(number)), flags & OFlag::O_ACCMODE, libc::MOUNT_ATTR_NODEV)?,
            }),
            _ => {}
        }
    }
    Ok(held)
}

/// A detached mount of this file alone. EINVAL for one of another mount namespace.
fn own_mount(file: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    sys::clone_tree(file, c"", false)
}

/// A mount of the device of the same number that this namespace has, for the caller's may be of another.
fn bytes_only(stream: &libc::stat) -> Option<std::io::Result<OwnedFd>> {
    let (_, path) = BYTES_ONLY.iter().find(|(minor, _)| stream.st_rdev == libc::makedev(1, *minor))?;
    let device = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let same = sys::fstat(device.as_fd()).is_ok_and(|st| (st.st_mode & libc::S_IFMT, st.st_rdev) == (libc::S_IFCHR, stream.st_rdev));
    same.then(|| own_mount(device.as_fd()))
}

/// Puts another description of the same file in the stream's place, on a mount that is nobody else's and read-only. `then` holds for whoever opens it again.
fn again(number: usize, tree: std::io::Result<OwnedFd>, mode: OFlag, then: u64) -> Result<OwnedFd, Failure> {
    let told = |e: std::io::Error| failure(number, e);
    let tree = tree.map_err(told)?;
    sys::make_read_only(tree.as_fd()).map_err(told)?;
    let mut how = std::fs::OpenOptions::new();
    // The access mode is given as it is: a device may be written on a read-only mount.
    how.read(mode != OFlag::O_WRONLY).write(mode != OFlag::O_RDONLY).custom_flags(libc::O_NOCTTY);
    let file = how.open(mounts::path_of(&tree)).map_err(told)?;
    if let Ok(at) = lseek(stream(number), 0, Whence::SeekCur) {
        let _ = lseek(&file, at, Whence::SeekSet);
    }
    sys::set_tree(tree.as_fd(), &libc::mount_attr { attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC | then, attr_clr: 0, propagation: 0, userns_fd: 0 })
        .map_err(told)?;
    put(file.as_fd(), number).map(|()| tree)
}

fn put(file: BorrowedFd<'_>, number: usize) -> Result<(), Failure> {
    // SAFETY: plain numbers; the streams are nobody's objects.
    if unsafe { libc::dup2(file.as_raw_fd(), number as i32) } < 0 { Err(failure(number, std::io::Error::last_os_error())) } else { Ok(()) }
}

/// Whether a unit's output goes to systemd's journal (JOURNAL_STREAM, systemd.exec(5)). What a guest wrote there itself would be filed under its own process, which is in no unit: `journalctl --unit` would not have it.
fn is_journals(stream: &libc::stat, told: Option<&str>) -> bool {
    stream.st_mode & libc::S_IFMT == libc::S_IFSOCK && told.is_some_and(|t| t == format!("{}:{}", stream.st_dev, stream.st_ino))
}

/// Files of the host that a guest is to write, or cannot be given to read, and the journal: from `divert` on the process's own streams are pipes, which a container that is started now inherits; from `pump` on they are the files again.
#[derive(Default)]
pub struct Diverted {
    output: Vec<Way>,
    input: Option<Way>,
}

struct Way {
    /// Our end.
    pipe: OwnedFd,
    file: OwnedFd,
    numbers: Vec<usize>,
}

impl Way {
    fn restore(&self) {
        self.numbers.iter().for_each(|n| drop(put(self.file.as_fd(), *n)));
    }
}

impl Diverted {
    /// Output and errors that go to the same file go through the same pipe, in their order.
    pub fn divert(spec: &Spec) -> Result<Self, Failure> {
        let mut ways: Vec<(Way, (u64, u64))> = Vec::new();
        for number in [1, 2] {
            let Ok(st) = sys::fstat(stream(number)) else { continue };
            if st.st_mode & libc::S_IFMT != libc::S_IFREG && !is_journals(&st, std::env::var(JOURNAL).ok().as_deref()) {
                continue;
            }
            let identity = (st.st_dev, st.st_ino);
            if let Some((way, _)) = ways.iter_mut().find(|(_, i)| *i == identity) {
                way.numbers.push(number);
                put(stream(way.numbers[0]), number)?;
                continue;
            }
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failure(number, e))?;
            // A guest opens its /dev/stdout again.
            if let Some((user, group)) = Owners::of(spec).guest(spec) {
                fchown(&writer, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(|e| failure(number, e))?;
            }
            let file = stream(number).try_clone_to_owned().map_err(|e| failure(number, e))?;
            put(writer.as_fd(), number)?;
            ways.push((Way { pipe: reader, file, numbers: vec![number] }, identity));
        }
        Ok(Self { output: ways.into_iter().map(|(way, _)| way).collect(), input: Self::input()? })
    }

    /// `guard` cannot give a file of another mount namespace to be read.
    fn input() -> Result<Option<Way>, Failure> {
        let is_file = sys::fstat(stream(0)).is_ok_and(|st| st.st_mode & libc::S_IFMT == libc::S_IFREG && st.st_nlink > 0);
        if !is_file || own_mount(stream(0)).is_ok() {
            return Ok(None);
        }
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failure(0, e))?;
        let file = stream(0).try_clone_to_owned().map_err(|e| failure(0, e))?;
        put(reader.as_fd(), 0)?;
        Ok(Some(Way { pipe: writer, file, numbers: vec![0] }))
    }

    /// Lets go of the pipes' ends that the container inherited, and begins to copy.
    pub fn pump(mut self) -> Result<Pump, Failure> {
        self.restore();
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let spawn = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(256 << 10);
        for way in std::mem::take(&mut self.output) {
            let (number, over) = (way.numbers[0], over.clone());
            let copy = move || copy(File::from(way.pipe), &mut File::from(way.file), &over);
            threads.push(spawn("output").spawn(copy).map_err(|e| failure(number, e))?);
        }
        if let Some(way) = self.input.take() {
            // Nobody waits for it: it may hold what the guest never read.
            let copy = move || drop(std::io::copy(&mut File::from(way.file), &mut File::from(way.pipe)));
            spawn("input").spawn(copy).map_err(|e| failure(0, e))?;
        }
        Ok(Pump { threads, over })
    }

    fn restore(&self) {
        self.output.iter().chain(&self.input).for_each(Way::restore);
    }
}

/// A start that failed has something to say.
impl Drop for Diverted {
    fn drop(&mut self) {
        self.restore();
        for way in std::mem::take(&mut self.output) {
            copy(File::from(way.pipe), &mut File::from(way.file), &AtomicBool::new(true));
        }
    }
}

/// The threads that copy.
pub struct Pump {
    threads: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Pump {
    /// Waits until everything is written that was written when the first process ended: descendants of a further process may keep a pipe for ever.
    pub fn finish(self) {
        self.over.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|t| drop(t.join()));
    }
}

fn copy(mut from: File, to: &mut File, over: &AtomicBool) {
    let mut block = vec![0; 64 << 10];
    loop {
        let was_over = over.load(Ordering::Acquire);
        let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(if was_over { 0u16 } else { 20 })) {
            Ok(0) if was_over => return,
            Ok(0) | Err(nix::Error::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        match from.read(&mut block) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            // When the file takes no more, the guest is told by its pipe.
            Ok(n) if n > 0 && to.write_all(&block[..n]).is_ok() => {}
            _ => return,
        }
    }
}
