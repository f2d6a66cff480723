//! Mounts as runtime-spec describes them: option words, places inside the image, and attaching. Owns every way a caller's mount comes into a container; the order is `rootfs`'.
//!
//! The fact a newcomer gets wrong: a destination is a path *inside the image*, whose symbolic links the image chose. It is resolved with the image as root and then only
//! used as an open descriptor, so that no link of the image leads a mount to the host (07, S6).

use crate::failure::Failure;
use crate::sys;
use nix::mount::{MsFlags, mount};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Everything a container mounts has these: nothing in it is executed natively, is a device, or raises privileges (04, point 8).
pub const LOCKED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Option words of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub flags: MsFlags,
    pub recursive: bool,
    pub bind: bool,
    /// What the file system itself is told.
    pub data: Vec<String>,
}

/// Splits option words as mount(8) and runc do; `suid`, `dev` and `exec` are heard and not obeyed.
pub fn options<'a>(words: impl IntoIterator<Item = &'a str>) -> Options {
    let mut found = Options { flags: LOCKED, recursive: false, bind: false, data: Vec::new() };
    for word in words {
        let (set, clear) = match word {
            "ro" | "rro" => (MsFlags::MS_RDONLY, MsFlags::empty()),
            "rw" => (MsFlags::empty(), MsFlags::MS_RDONLY),
            "noatime" => (MsFlags::MS_NOATIME, MsFlags::empty()),
            "nodiratime" => (MsFlags::MS_NODIRATIME, MsFlags::empty()),
            "relatime" => (MsFlags::MS_RELATIME, MsFlags::empty()),
            "strictatime" => (MsFlags::MS_STRICTATIME, MsFlags::empty()),
            "sync" => (MsFlags::MS_SYNCHRONOUS, MsFlags::empty()),
            "dirsync" => (MsFlags::MS_DIRSYNC, MsFlags::empty()),
            "bind" => {
                found.bind = true;
                continue;
            }
            "rbind" => {
                (found.bind, found.recursive) = (true, true);
                continue;
            }
            // Already so, refused, or the default; every mount of a container is private to it.
            "defaults" | "nosuid" | "nodev" | "noexec" | "suid" | "dev" | "exec" | "async" | "atime" | "diratime" | "norelatime" | "private" | "rprivate" | "slave" | "rslave"
            | "shared" | "rshared" | "unbindable" | "runbindable" | "tmpcopyup" | "z" | "Z" | "U" | "copy" | "nocopy" => continue,
            other => {
                found.data.push(other.to_owned());
                continue;
            }
        };
        found.flags = (found.flags - clear) | set;
    }
    found
}

/// What must lie at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |e| Failure::new(format!("mount point {}", path.display()), e, "check the image's root directory")
}

fn c(path: &[u8]) -> Result<CString, Failure> {
    CString::new(path).map_err(|_| Failure::new("mount point", "holds a NUL byte", "leave it out"))
}

/// Opens the place `path` of the image, made as far as it is not there.
pub fn place(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<OwnedFd, Failure> {
    let failure = at(path);
    let mut so_far = Vec::new();
    let mut here = sys::open_in_root(root, c".", libc::O_PATH).map_err(&failure)?;
    let mut parts = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut next = parts.next();
    while let Some(name) = next {
        next = parts.next();
        so_far.push(b'/');
        so_far.extend_from_slice(name.as_bytes());
        let whole = c(&so_far)?;
        here = match sys::open_in_root(root, &whole, libc::O_PATH) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                make(here.as_fd(), &c(name.as_bytes())?, next.is_some() || kind == Kind::Directory).map_err(&failure)?;
                sys::open_in_root(root, &whole, libc::O_PATH).map_err(&failure)?
            }
            other => other.map_err(&failure)?,
        };
    }
    Ok(here)
}

fn make(parent: BorrowedFd<'_>, name: &CString, directory: bool) -> std::io::Result<()> {
    // SAFETY: `name` is NUL-terminated; the descriptor of a new file is closed at once.
    unsafe {
        if directory {
            return sys::check(libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o755).into()).map(drop);
        }
        sys::check(libc::mknodat(parent.as_raw_fd(), name.as_ptr(), libc::S_IFREG | 0o644, 0).into()).map(drop)
    }
}

/// A name under which the kernel reaches exactly this open file.
pub fn path_of(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Mounts a file system of its own on an open place.
pub fn file_system(name: &str, to: BorrowedFd<'_>, source: &str, flags: MsFlags, data: &str, shown: &Path) -> Result<(), Failure> {
    let data = (!data.is_empty()).then_some(data);
    mount(Some(source), path_of(&to.as_raw_fd()).as_str(), Some(name), flags, data)
        .map_err(|e| Failure::new(format!("mount {name} on {}", shown.display()), e.desc(), "see `vkernel check`, or leave the mount out"))
}

/// A detached, private copy of a host tree. To be made before the host's directories are covered.
pub fn detached(source: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let failure = |e| Failure::new(format!("bind {}", source.display()), e, "name a file or directory of this host");
    // SAFETY: the descriptor number is a constant of the call's convention.
    let here = unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) };
    sys::clone_tree(here, &c(source.as_os_str().as_bytes())?, recursive).map_err(failure)
}

/// A mount of this mount namespace (proc(5), mountinfo).
pub struct Mounted<'a> {
    pub at: &'a Path,
    /// Its file system, and that one's own options.
    pub kind: &'a str,
    pub options: &'a str,
}

/// What the text of /proc/self/mountinfo lists, in its order.
pub fn mounted(mountinfo: &str) -> impl Iterator<Item = Mounted<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        Some(Mounted { at: Path::new(head.split(' ').nth(4)?), kind: tail.next()?, options: tail.nth(1).unwrap_or_default() })
    })
}

/// File systems in which a write goes to the kernel, or to everybody.
const KERNELS: [&str; 14] =
    ["proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "bpf", "binfmt_misc", "securityfs", "selinuxfs", "configfs", "efivarfs", "pstore", "fusectl"];

/// Makes read-only what of a detached tree of `source` is the kernel's: the tree itself, or what is mounted below. Files there ask for the host's root, which guest root may be.
pub fn guard_kernels(tree: &OwnedFd, source: &Path) -> Result<(), Failure> {
    let failure = |e: std::io::Error| Failure::new(format!("bind {}", source.display()), e, "name another file or directory of this host");
    let source = source.canonicalize().map_err(failure)?;
    let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(failure)?;
    let is_kernels = |m: &Mounted| KERNELS.contains(&m.kind);
    // The last mount over a place is the one that is seen there.
    if mounted(&text).filter(|m| source.starts_with(m.at)).max_by_key(|m| m.at.as_os_str().len()).is_some_and(|m| is_kernels(&m)) {
        return sys::make_read_only(tree.as_fd()).map_err(failure);
    }
    for m in mounted(&text).filter(is_kernels) {
        let Ok(below) = m.at.strip_prefix(&source) else { continue };
        match sys::open_plain(tree.as_fd(), &c(below.as_os_str().as_bytes())?, libc::O_PATH) {
            Ok(place) => sys::make_read_only(place.as_fd()).map_err(failure)?,
            // Not taken along, or covered.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => return Err(failure(e)),
        }
    }
    Ok(())
}

/// Whether a tree's root is a directory.
pub fn kind(tree: &OwnedFd) -> Kind {
    let is_directory = std::fs::metadata(path_of(tree)).is_ok_and(|m| m.is_dir());
    if is_directory { Kind::Directory } else { Kind::File }
}

/// Attaches a detached tree with these flags; a device node stays usable only if `device`.
pub fn attach(tree: &OwnedFd, to: BorrowedFd<'_>, flags: MsFlags, device: bool, shown: &Path) -> Result<(), Failure> {
    let failure = |e| Failure::new(format!("bind on {}", shown.display()), e, "see `vkernel check`, or leave the mount out");
    let mut attributes = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    for (flag, attribute) in [
        (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ] {
        if flags.contains(flag) && !(device && flag == MsFlags::MS_NODEV) {
            attributes.attr_set |= attribute;
        }
    }
    if device {
        attributes.attr_clr |= libc::MOUNT_ATTR_NODEV;
    }
    sys::set_tree(tree.as_fd(), &attributes).map_err(failure)?;
    sys::attach(tree.as_fd(), to).map_err(failure)
}

/// Shows the owners of a detached tree as the user namespace maps them (Linux ≥ 5.12; on overlay layers ≥ 5.19).
pub fn map_owners(tree: &OwnedFd, user_namespace: BorrowedFd<'_>) -> Result<(), Failure> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd: user_namespace.as_raw_fd() as u64 };
    sys::set_tree(tree.as_fd(), &attributes).map_err(|e| Failure::new("map the image's owners", e, "keep the image on ext4, xfs, btrfs or tmpfs, or run without --uidmap"))
}

/// Covers a place so that nothing of it can be read: a device for files, an empty directory for directories. What is not there needs no cover. `/dev` is still the host's.
pub fn mask(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let Some(place) = there(root, path)? else { return Ok(()) };
    if std::fs::metadata(path_of(&place)).is_ok_and(|m| m.is_dir()) {
        return file_system("tmpfs", place.as_fd(), "masked", LOCKED | MsFlags::MS_RDONLY, "size=0,mode=0755", Path::new(path));
    }
    // One each, of the host's: a detached tree cannot be copied before Linux 6.15 (EINVAL).
    attach(&detached(Path::new("/dev/null"), false)?, place.as_fd(), LOCKED, true, Path::new(path))
}

/// Makes a place and everything mounted below it read-only.
pub fn read_only(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let Some(place) = there(root, path)? else { return Ok(()) };
    let copy = sys::clone_tree(place.as_fd(), c"", true).map_err(|e| Failure::new(format!("read-only {path}"), e, "see `vkernel check`"))?;
    attach(&copy, place.as_fd(), LOCKED | MsFlags::MS_RDONLY, false, Path::new(path))
}

fn there(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Failure> {
    match sys::open_in_root(root, &c(path.as_bytes())?, libc::O_PATH) {
        Ok(place) => Ok(Some(place)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(e) => Err(at(Path::new(path))(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_words_become_flags_and_the_rest_is_the_file_systems() {
        let o = options(["rbind", "ro", "suid", "exec", "dev", "rshared", "size=64k", "mode=755"]);
        assert_eq!(o, Options { flags: LOCKED | MsFlags::MS_RDONLY, recursive: true, bind: true, data: vec!["size=64k".into(), "mode=755".into()] });
        assert_eq!(options(["ro", "rw", "strictatime"]).flags, LOCKED | MsFlags::MS_STRICTATIME);
    }

    #[test]
    fn a_link_of_the_image_leads_no_mount_out_of_it() {
        let dir = std::env::temp_dir().join(format!("vkernel-places-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("image/inner")).unwrap();
        for (link, to) in [("image/out", "../.."), ("image/absolute", "/inner"), ("image/lost", "/nowhere")] {
            std::os::unix::fs::symlink(to, dir.join(link)).unwrap();
        }
        let root = OwnedFd::from(std::fs::File::open(dir.join("image")).unwrap());
        let reached = |path: &str| place(root.as_fd(), Path::new(path), Kind::Directory).map(|p| std::fs::read_link(path_of(&p)).unwrap());
        let image = std::fs::canonicalize(dir.join("image")).unwrap();
        assert_eq!(reached("/out/out/new/deep").unwrap(), image.join("new/deep"));
        assert_eq!(reached("/absolute/x").unwrap(), image.join("inner/x"));
        assert_eq!(reached("/../../up").unwrap(), image.join("up"));
        assert!(reached("/lost/x").is_err(), "a link to nowhere is not followed to a directory that we make");
        let file = place(root.as_fd(), Path::new("/etc/made"), Kind::File).unwrap();
        assert!(std::fs::metadata(path_of(&file)).unwrap().is_file());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
