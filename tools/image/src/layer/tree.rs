//! The directory tree a layer is applied to, reached through descriptors only.
//!
//! Owns every system call that makes, changes or removes something. Each takes a directory's descriptor and one name; directories are opened by the kernel with RESOLVE_IN_ROOT or RESOLVE_NO_SYMLINKS, so no string is ever
//! resolved from the host's root. The fact a newcomer gets wrong: a symlink of a *lower* layer on the way is followed, inside the image (`/lib` in Debian); one of the same layer is an attack.

use super::error::{LayerError, show};
use super::member::{Kind, Member};
use super::path::Inside;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::rc::Rc;

/// What stands between a directory and a path to it.
pub(super) enum Obstacle {
    Missing,
    NotADirectory(Inside),
    Symlink(Inside),
}

/// An open directory and its path without symlinks.
#[derive(Clone)]
pub(super) struct Dir {
    pub(super) fd: Rc<OwnedFd>,
    pub(super) path: Inside,
}

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// The host's name of the root, to turn the kernel's answer into a path inside.
    host: Vec<u8>,
    /// Owners, devices and privileged attributes can be set.
    pub(super) privileged: bool,
    last: Option<(Inside, Dir)>,
}

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn host(what: &'static str, path: &Inside) -> impl Fn(Errno) -> LayerError {
    let path = path.show();
    move |e| LayerError::Host { path: path.clone(), what, source: e.into() }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Tree> {
        let fd = fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let host = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?.into_os_string().into_vec();
        Ok(Tree { root: Rc::new(fd), host, privileged: rustix::process::geteuid().is_root(), last: None })
    }

    pub(super) fn root(&self) -> Dir {
        Dir { fd: self.root.clone(), path: Inside::root() }
    }

    /// Must be called when a directory was removed or replaced.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// A directory by its path; nothing but directories may stand on the way.
    pub(super) fn directory(&mut self, path: &Inside) -> Result<Result<Dir, Obstacle>, LayerError> {
        if let Some((_, dir)) = self.last.as_ref().filter(|(p, _)| p == path) {
            return Ok(Ok(dir.clone()));
        }
        let mut at = self.root();
        for part in path.parts() {
            let below = at.path.join(part);
            let opened = fs::openat2(&at.fd, name(part), DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV);
            at = match opened {
                Ok(fd) => Dir { fd: Rc::new(fd), path: below },
                Err(Errno::NOENT) => return Ok(Err(Obstacle::Missing)),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let kind = kind_of(at.fd.as_fd(), part).map_err(host("cannot look at it", &below))?;
                    return Ok(Err(if kind == Some(FileType::Symlink) { Obstacle::Symlink(below) } else { Obstacle::NotADirectory(below) }));
                }
                Err(e) => return Err(host("cannot open the directory", &below)(e)),
            };
        }
        self.last = Some((path.clone(), at.clone()));
        Ok(Ok(at))
    }

    /// A directory that a symlink leads to, found by the kernel with the image as its root.
    pub(super) fn followed(&self, link: &Inside) -> Result<Option<Dir>, LayerError> {
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        match fs::openat2(&self.root, name(link.bytes()), DIRECTORY, Mode::empty(), flags) {
            Ok(fd) => {
                let real = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|source| LayerError::Host {
                    path: link.show(),
                    what: "cannot find its place",
                    source,
                })?;
                let inside = real.as_os_str().as_bytes().strip_prefix(&self.host[..]).unwrap_or_default();
                Ok(Some(Dir { fd: Rc::new(fd), path: Inside::parse(inside)? }))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(host("cannot follow it", link)(e)),
        }
    }

    /// Makes a directory with usual permissions, for parents an archive does not list.
    pub(super) fn make_directory(&self, dir: &Dir, part: &[u8]) -> Result<(), LayerError> {
        let below = dir.path.join(part);
        fs::mkdirat(&dir.fd, name(part), Mode::from_raw_mode(0o755)).map_err(host("cannot make the directory", &below))?;
        fs::chmodat(&dir.fd, name(part), Mode::from_raw_mode(0o755), AtFlags::empty()).map_err(host("cannot set its permissions", &below))
    }

    /// Makes a member that holds no data; regular files are made empty and returned open.
    pub(super) fn make(&self, dir: &Dir, part: &[u8], member: &Member) -> Result<Option<OwnedFd>, LayerError> {
        let path = dir.path.join(part);
        let fail = host("cannot make it", &path);
        let private = Mode::from_raw_mode(0o600);
        let node = |kind, major, minor| fs::mknodat(&dir.fd, name(part), kind, private, fs::makedev(major, minor));
        let made = match member.kind {
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = fs::openat2(&dir.fd, name(part), flags, private, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS);
                return fd.map(Some).map_err(fail);
            }
            Kind::Directory => fs::mkdirat(&dir.fd, name(part), Mode::from_raw_mode(0o700)),
            Kind::Symlink => fs::symlinkat(name(&member.link), &dir.fd, name(part)),
            Kind::Fifo => node(FileType::Fifo, 0, 0),
            Kind::Character { major, minor } => node(FileType::CharacterDevice, major, minor),
            Kind::Block { major, minor } => node(FileType::BlockDevice, major, minor),
            Kind::HardLink => unreachable!("hard links are made by link()"),
        };
        made.map(|()| None).map_err(fail)
    }

    pub(super) fn link(&self, from: &Dir, from_part: &[u8], to: &Dir, part: &[u8]) -> Result<(), LayerError> {
        fs::linkat(&from.fd, name(from_part), &to.fd, name(part), AtFlags::empty()).map_err(host("cannot make the hard link", &to.path.join(part)))
    }

    /// Owner, attributes, permissions and times, in the order that keeps them: a change of owner clears setuid bits and capabilities. Returns how many attributes were left out.
    pub(super) fn dress(&self, dir: &Dir, part: &[u8], member: &Member) -> Result<u64, LayerError> {
        let path = dir.path.join(part);
        if self.privileged {
            let owner = (Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)));
            fs::chownat(&dir.fd, name(part), owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(host("cannot set its owner", &path))?;
        }
        let mut left_out = 0;
        // The kernel resolves the magic link to our descriptor; the last component is not followed.
        let proc: OsString = [OsStr::new(&format!("/proc/self/fd/{}/", dir.fd.as_raw_fd())), name(part)].into_iter().collect();
        for (key, value) in &member.xattrs {
            left_out += u64::from(!self.attribute(&proc, key, value).map_err(host("cannot set an extended attribute", &path))?);
        }
        if member.kind != Kind::Symlink {
            let mode = if member.kind == Kind::Directory { member.mode | 0o700 } else { member.mode };
            fs::chmodat(&dir.fd, name(part), Mode::from_raw_mode(mode), AtFlags::empty()).map_err(host("cannot set its permissions", &path))?;
        }
        if member.kind != Kind::Directory {
            fs::utimensat(&dir.fd, name(part), &times(member.mtime_seconds, member.mtime_nanoseconds), AtFlags::SYMLINK_NOFOLLOW).map_err(host("cannot set its time", &path))?;
        }
        Ok(left_out)
    }

    /// Whether the attribute was set. Those that steer overlayfs or the host's own security modules are not the image's to set.
    fn attribute(&self, proc: &OsStr, key: &[u8], value: &[u8]) -> Result<bool, Errno> {
        let wanted = key.starts_with(b"user.") || key == b"security.capability" || key.starts_with(b"system.posix_acl_");
        if !wanted || key.starts_with(b"user.overlay.") || (!self.privileged && !key.starts_with(b"user.")) {
            return Ok(false);
        }
        match fs::lsetxattr(Path::new(proc), name(key), value, XattrFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Final permissions and time of a directory, set when nothing is written into it any more.
    pub(super) fn finish_directory(&self, dir: &Dir, mode: u32, time: (i64, u32)) -> Result<(), LayerError> {
        let fd = fs::openat(&dir.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(host("cannot open the directory", &dir.path))?;
        fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(host("cannot set its permissions", &dir.path))?;
        fs::futimens(&fd, &times(time.0, time.1)).map_err(host("cannot set its time", &dir.path))
    }

    pub(super) fn kind(&self, dir: &Dir, part: &[u8]) -> Result<Option<FileType>, LayerError> {
        kind_of(dir.fd.as_fd(), part).map_err(host("cannot look at it", &dir.path.join(part)))
    }

    /// Names in a directory.
    pub(super) fn names(&self, dir: &Dir) -> Result<Vec<Vec<u8>>, LayerError> {
        let fail = host("cannot list it", &dir.path);
        let fd = fs::openat(&dir.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(&fail)?;
        let mut names = Vec::new();
        for entry in fs::Dir::new(fd).map_err(&fail)? {
            let entry = entry.map_err(&fail)?;
            let bytes = entry.file_name().to_bytes();
            if bytes != b"." && bytes != b".." {
                names.push(bytes.to_vec());
            }
        }
        Ok(names)
    }

    pub(super) fn subdirectory(&self, dir: &Dir, part: &[u8]) -> Result<Dir, LayerError> {
        let path = dir.path.join(part);
        let fd = fs::openat2(&dir.fd, name(part), DIRECTORY | OFlags::NOFOLLOW, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV);
        Ok(Dir { fd: Rc::new(fd.map_err(host("cannot open the directory", &path))?), path })
    }

    /// Removes whatever is there, with everything below it.
    pub(super) fn remove(&mut self, dir: &Dir, part: &[u8]) -> Result<(), LayerError> {
        let path = dir.path.join(part);
        match self.kind(dir, part)? {
            None => return Ok(()),
            Some(FileType::Directory) => {
                self.forget();
                let below = self.subdirectory(dir, part)?;
                for child in self.names(&below)? {
                    self.remove(&below, &child)?;
                }
                fs::unlinkat(&dir.fd, name(part), AtFlags::REMOVEDIR)
            }
            Some(_) => fs::unlinkat(&dir.fd, name(part), AtFlags::empty()),
        }
        .map_err(host("cannot remove it", &path))
    }
}

fn kind_of(dir: BorrowedFd<'_>, part: &[u8]) -> Result<Option<FileType>, Errno> {
    match fs::statat(dir, name(part), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let t = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: t, last_modification: t }
}

/// Names as messages show them.
pub(super) fn shown(dir: &Dir, part: &[u8]) -> String {
    show(dir.path.join(part).bytes())
}
