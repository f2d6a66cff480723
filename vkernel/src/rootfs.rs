//! The container's view of files: overlay (or bind) of the image's root directory, /proc, /dev, /sys, pivot_root. Owns every mount of a
//! container; all of them live in its mount namespace only, so the kernel removes them with the last process.
//!
//! The fact a newcomer gets wrong: mounts are made as real root *before* the user namespace exists, so guest root cannot undo any of them.

use crate::failure::Failure;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// What to put under the guest's `/`.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The image's root directory on the host.
    pub root: std::path::PathBuf,
    /// The guest writes into the image's directory itself instead of a tmpfs that disappears.
    pub writable: bool,
    /// Leave /proc, /dev and /sys as they are in the image.
    pub bare: bool,
}

/// A directory that exists on every host; what we mount over it is seen in our mount namespace only.
const STAGE: &str = "/tmp";

fn failure<'a>(what: &'a str, at: &'a str) -> impl Fn(nix::Error) -> Failure + 'a {
    move |e| Failure::new(format!("mount {what} on {at}"), e.desc(), "see `vkernel check`")
}

fn io_failure(at: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |e| Failure::new(format!("prepare {}", at.display()), e, "check the image's root directory")
}

fn none() -> Option<&'static str> {
    None
}

fn locked() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

/// Builds the tree in the calling process's own mount namespace and makes it `/`.
pub fn enter(layout: &Layout) -> Result<(), Failure> {
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none()).map_err(failure("private", "/"))?;
    // Opened before the stage covers it: the image may well lie below /tmp.
    let image = open_directory(&layout.root)?;
    let below = format!("/proc/self/fd/{}", image.as_raw_fd());
    mount(Some("vkernel"), STAGE, Some("tmpfs"), locked(), Some("mode=0755")).map_err(failure("tmpfs", STAGE))?;
    std::env::set_current_dir(STAGE).map_err(io_failure(Path::new(STAGE)))?;
    for dir in ["root", "upper", "work"] {
        fs::create_dir(dir).map_err(io_failure(Path::new(dir)))?;
    }
    if layout.writable {
        mount(Some(below.as_str()), "root", none(), MsFlags::MS_BIND, none()).map_err(failure("image", "/"))?;
        mount(none(), "root", none(), MsFlags::MS_BIND | MsFlags::MS_REMOUNT | locked(), none()).map_err(failure("image", "/"))?;
    } else {
        like(Path::new(&below), Path::new("upper"))?;
        let options = format!("lowerdir={below},upperdir=upper,workdir=work");
        mount(Some("vkernel"), "root", Some("overlay"), locked(), Some(options.as_str())).map_err(failure("overlay", "/"))?;
    }
    std::env::set_current_dir("root").map_err(io_failure(Path::new("root")))?;
    if !layout.bare {
        furnish()?;
    }
    drop(image);
    // The old root ends up on top of the new one, and is then detached: no directory for it is needed.
    nix::unistd::pivot_root(".", ".").map_err(failure("root", "/"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failure("old root", "/"))?;
    std::env::set_current_dir("/").map_err(io_failure(Path::new("/")))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path);
    file.map(OwnedFd::from).map_err(|e| Failure::new(format!("image root {}", path.display()), e, "name the image's root directory with --rootfs DIR"))
}

/// Gives `to` owner, mode and times of `from`.
fn like(from: &Path, to: &Path) -> Result<(), Failure> {
    let meta = fs::metadata(from).map_err(io_failure(from))?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())).map_err(io_failure(to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(io_failure(to))?;
    let times = fs::FileTimes::new().set_accessed(meta.accessed().map_err(io_failure(from))?).set_modified(meta.modified().map_err(io_failure(from))?);
    fs::File::open(to).and_then(|f| f.set_times(times)).map_err(io_failure(to))
}

/// proc, dev and sys, each only where the image has the directory (never through a symbolic link of the image).
fn furnish() -> Result<(), Failure> {
    let is_dir = |p: &str| fs::symlink_metadata(p).is_ok_and(|m| m.is_dir());
    if is_dir("proc") {
        mount(Some("proc"), "proc", Some("proc"), locked() | MsFlags::MS_RDONLY, none()).map_err(failure("proc", "/proc"))?;
    }
    if is_dir("dev") {
        devices()?;
    }
    if is_dir("sys") {
        mount(Some("sysfs"), "sys", Some("sysfs"), locked() | MsFlags::MS_RDONLY, none()).map_err(failure("sysfs", "/sys"))?;
    }
    for file in ["proc/kcore", "proc/keys", "proc/timer_list", "proc/sched_debug", "proc/vmallocinfo", "proc/sysrq-trigger"] {
        if Path::new(file).exists() {
            bind_node("/dev/null", file)?;
        }
    }
    Ok(())
}

/// One of the host's device nodes, nosuid and noexec but of course not nodev.
fn bind_node(host: &str, here: &str) -> Result<(), Failure> {
    mount(Some(host), here, none(), MsFlags::MS_BIND, none()).map_err(failure(host, here))?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(none(), here, none(), flags, none()).map_err(failure(host, here))
}

/// A small /dev. The tmpfs is nodev; the nodes are the host's own, bound one by one.
fn devices() -> Result<(), Failure> {
    let mode = fs::metadata("dev").map_err(io_failure(Path::new("/dev")))?.mode() & 0o7777;
    let stat_like = fs::metadata("dev").and_then(|m| m.modified()).map_err(io_failure(Path::new("/dev")))?;
    mount(Some("tmpfs"), "dev", Some("tmpfs"), locked(), Some(format!("mode={mode:o},size=64k").as_str())).map_err(failure("tmpfs", "/dev"))?;
    for node in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (host, here) = (format!("/dev/{node}"), format!("dev/{node}"));
        fs::write(&here, "").map_err(io_failure(Path::new(&here)))?;
        bind_node(&host, &here)?;
    }
    for dir in ["dev/pts", "dev/shm"] {
        fs::create_dir(dir).map_err(io_failure(Path::new(dir)))?;
    }
    let pts = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount(Some("devpts"), "dev/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, pts).map_err(failure("devpts", "/dev/pts"))?;
    mount(Some("shm"), "dev/shm", Some("tmpfs"), locked(), Some("mode=1777,size=64m")).map_err(failure("tmpfs", "/dev/shm"))?;
    let links = [("pts/ptmx", "ptmx"), ("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"), ("/proc/self/fd/2", "stderr")];
    for (target, name) in links {
        symlink(target, format!("dev/{name}")).map_err(io_failure(Path::new("/dev")))?;
    }
    let dev = fs::File::open("dev").map_err(io_failure(Path::new("/dev")))?;
    dev.set_modified(stat_like).map_err(io_failure(Path::new("/dev")))
}
