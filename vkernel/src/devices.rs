//! /dev of a container: the few nodes every program expects, those the description names, and the usual links. Owns nodes and links; the tmpfs they stand on is a mount of the description.
//!
//! The fact a newcomer gets wrong: the tmpfs is nodev. A node works only because it is a bind mount of its own without that flag; one that a guest could make would be dead.

use crate::failure::Failure;
use crate::mounts::{self, Kind, LOCKED};
use crate::rootfs::io_failure;
use oci_spec::runtime::{LinuxDeviceType, Spec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Nodes every container has, bound from the host.
const COMMON: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A node and where it goes.
pub type Node = (PathBuf, OwnedFd);

/// Takes hold of the host's nodes.
pub fn of_host() -> Result<Vec<Node>, Failure> {
    let node = |name: &&str| {
        let path = Path::new("/dev").join(name);
        mounts::detached(&path, false).map(|tree| (path, tree))
    };
    COMMON.iter().map(node).collect()
}

/// Makes the devices of the description in `stage`, a tmpfs that allows it.
pub fn make(spec: &Spec, stage: &Path) -> Result<Vec<Node>, Failure> {
    let devices = spec.linux().as_ref().and_then(|l| l.devices().clone()).unwrap_or_default();
    let mut made = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        // The common ones are there already; a description that lists them again means these.
        if COMMON.iter().any(|name| device.path() == &Path::new("/dev").join(name)) {
            continue;
        }
        let failure = |e: std::io::Error| Failure::new(format!("device {}", device.path().display()), e, "leave the device out");
        let kind = match device.typ() {
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            _ => libc::S_IFCHR,
        };
        let here = stage.join(n.to_string());
        let name = std::ffi::CString::new(here.as_os_str().as_bytes()).expect("digits hold no NUL");
        let mode = kind | (device.file_mode().unwrap_or(0o666) & 0o777);
        // SAFETY: a terminated path and plain numbers.
        crate::sys::check(unsafe { libc::mknod(name.as_ptr(), mode, libc::makedev(device.major() as u32, device.minor() as u32)) }.into()).map_err(failure)?;
        std::os::unix::fs::chown(&here, Some(device.uid().unwrap_or(0)), Some(device.gid().unwrap_or(0))).map_err(failure)?;
        std::fs::set_permissions(&here, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777)).map_err(failure)?;
        made.push((device.path().clone(), mounts::detached(&here, false)?));
    }
    Ok(made)
}

/// Puts nodes where they belong.
pub fn attach(root: BorrowedFd<'_>, nodes: &[Node]) -> Result<(), Failure> {
    for (path, tree) in nodes {
        let to = mounts::place(root, path, Kind::File)?;
        mounts::attach(tree, to.as_fd(), LOCKED, true, path)?;
    }
    Ok(())
}

/// Fills a fresh /dev.
pub fn fill(root: BorrowedFd<'_>, nodes: &[Node]) -> Result<(), Failure> {
    attach(root, nodes)?;
    let dev = mounts::place(root, Path::new("/dev"), Kind::Directory)?;
    let links = [("pts/ptmx", "ptmx"), ("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"), ("/proc/self/fd/2", "stderr")];
    for (target, name) in links {
        symlink(target, Path::new(&mounts::path_of(&dev)).join(name)).map_err(io_failure(Path::new("/dev")))?;
    }
    Ok(())
}
