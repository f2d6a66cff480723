//! The container's view of files: overlay (or bind) of the image's root directory, the mounts of its description, devices, covers, pivot_root. Owns the order in which
//! they are made; all of them live in the container's mount namespace only, so the kernel removes them with the last process.
//!
//! The facts a newcomer gets wrong: mounts are made as real root *before* the user namespace is entered, so guest root cannot undo any of them; and what is bound from the
//! host is taken hold of before the stage covers /tmp, because it may well lie there.

use crate::devices;
use crate::failure::Failure;
use crate::mounts::{self, Kind, LOCKED, Options};
use crate::namespaces::Owners;
use crate::sys;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use oci_spec::runtime::{Mount, Spec};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What to put under the guest's `/`.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The image's root directory on the host.
    pub root: PathBuf,
    /// The guest writes into the image's directory itself instead of a tmpfs that disappears.
    pub writable: bool,
}

/// A directory that exists on every host; what we mount over it is seen in our mount namespace only.
const STAGE: &str = "/tmp";

fn failure<'a>(what: &'a str, at: &'a str) -> impl Fn(nix::Error) -> Failure + 'a {
    move |e| Failure::new(format!("mount {what} on {at}"), e.desc(), "see `vkernel check`")
}

pub(crate) fn io_failure(at: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |e| Failure::new(format!("prepare {}", at.display()), e, "check the image's root directory")
}

fn none() -> Option<&'static str> {
    None
}

/// Where the image of a release lies unless somebody names it.
pub fn beside(manifest: &Path) -> PathBuf {
    manifest.parent().unwrap_or(Path::new("")).join("rootfs")
}

/// Host trees the guest gets to write: the image's, volumes, and where overlays of a description keep what is written.
pub fn written(spec: &Spec, layout: &Layout) -> Vec<PathBuf> {
    let tree = |m: &Mount| {
        let options = options_of(m);
        let upper = |o: &String| ["upperdir=", "workdir="].iter().find_map(|key| o.strip_prefix(key)).map(PathBuf::from);
        let volume = m.source().clone().filter(|_| options.bind && !options.flags.contains(MsFlags::MS_RDONLY));
        volume.into_iter().chain(options.data.iter().filter_map(upper)).collect::<Vec<_>>()
    };
    layout.writable.then(|| layout.root.clone()).into_iter().chain(spec.mounts().iter().flatten().flat_map(tree)).collect()
}

/// File systems that a description may mount: all others have their content from a device or a host, and would be read, and perhaps changed, as the host's root. They can be mounted on the host and bound.
const MOUNTED: [&str; 10] = ["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup", "cgroup2", "overlay", "bind"];

fn options_of(m: &Mount) -> Options {
    let mut options = mounts::options(m.options().iter().flatten().map(String::as_str));
    options.bind |= m.typ().as_deref() == Some("bind");
    options
}

/// Makes every mount of this namespace invisible to all others, and theirs to it.
pub fn part() -> Result<(), Failure> {
    mount(none(), "/", none(), MsFlags::MS_REC | MsFlags::MS_PRIVATE, none()).map_err(failure("private", "/"))
}

/// Builds the tree in the calling process's own mount namespace and makes it `/`. `user_namespace`: whose owners the image's files get, if they are to be mapped.
pub fn enter(spec: &Spec, layout: &Layout, owners: &Owners, user_namespace: BorrowedFd<'_>) -> Result<(), Failure> {
    let image = image(layout, owners, user_namespace)?;
    let mut below = mounts::path_of(&image);
    let plans = spec.mounts().iter().flatten().map(|m| Plan::new(m, owners)).collect::<Result<Vec<_>, _>>()?;
    let nodes = devices::of_host()?;
    // Not nodev: devices of the description are made here, and bound from here.
    mount(Some("vkernel"), STAGE, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("mode=0755")).map_err(failure("tmpfs", STAGE))?;
    std::env::set_current_dir(STAGE).map_err(io_failure(Path::new(STAGE)))?;
    for dir in ["root", "lower", "upper", "work", "nodes"] {
        fs::create_dir(dir).map_err(io_failure(Path::new(dir)))?;
    }
    if layout.writable {
        let to = fs::File::open("root").map_err(io_failure(Path::new("root")))?;
        mounts::attach(&image, to.as_fd(), LOCKED, false, Path::new("/"))?;
    } else {
        if !owners.are_the_hosts() {
            // Overlayfs takes no layer from a tree that is attached nowhere.
            let to = fs::File::open("lower").map_err(io_failure(Path::new("lower")))?;
            mounts::attach(&image, to.as_fd(), LOCKED | MsFlags::MS_RDONLY, false, Path::new("/"))?;
            below = "lower".into();
        }
        like(Path::new(&below), Path::new("upper"))?;
        let options = format!("lowerdir={below},upperdir=upper,workdir=work");
        mount(Some("vkernel"), "root", Some("overlay"), LOCKED, Some(options.as_str())).map_err(failure("overlay", "/"))?;
    }
    let made = devices::make(spec, Path::new("nodes"))?;
    std::env::set_current_dir("root").map_err(io_failure(Path::new("root")))?;
    let root = OwnedFd::from(fs::File::open(".").map_err(io_failure(Path::new("/")))?);
    for plan in &plans {
        plan.mount(root.as_fd())?;
        if plan.destination == Path::new("/dev") && plan.name == "tmpfs" {
            devices::fill(root.as_fd(), &nodes)?;
        }
    }
    if plans.iter().any(|p| p.destination == Path::new("/proc")) {
        demand_procfs(root.as_fd())?;
    }
    devices::attach(root.as_fd(), &made)?;
    if let Some(plan) = plans.iter().find(|p| p.dresses_dev()) {
        plan.restore_times(root.as_fd())?;
    }
    cover(spec, root.as_fd())?;
    if spec.root().as_ref().is_some_and(|r| r.readonly() == Some(true)) {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | LOCKED;
        mount(none(), ".", none(), flags, none()).map_err(failure("read-only", "/"))?;
    }
    drop((image, root));
    // The old root ends up on top of the new one, and is then detached: no directory for it is needed.
    nix::unistd::pivot_root(".", ".").map_err(failure("root", "/"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(failure("old root", "/"))?;
    std::env::set_current_dir("/").map_err(io_failure(Path::new("/")))
}

/// What the description put on /proc must be a whole procfs, or a bind of one: guests' processes believe it (07, S5).
fn demand_procfs(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let failure = |e: std::io::Error| Failure::new("mount on /proc", e, "mount a procfs there");
    let place = sys::open_plain(root, c"/proc", libc::O_PATH).map_err(failure)?;
    if !syscalls::fs::is_procfs_root(place.as_raw_fd() as u64).map_err(|e| failure(std::io::Error::from_raw_os_error(e.0)))? {
        return Err(Failure::new("mount on /proc", "is not a procfs", "mount a procfs there"));
    }
    Ok(())
}

/// Masked and read-only paths of the description.
fn cover(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    for path in linux.readonly_paths().iter().flatten() {
        mounts::read_only(root, path)?;
    }
    for path in linux.masked_paths().iter().flatten() {
        mounts::mask(root, path)?;
    }
    Ok(())
}

/// The image's root directory: the directory itself to lie below an overlay, or a detached copy of its mount.
fn image(layout: &Layout, owners: &Owners, user_namespace: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let named = |e| Failure::new(format!("image root {}", layout.root.display()), e, "name the image's root directory with --rootfs DIR");
    let directory = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(&layout.root).map(OwnedFd::from).map_err(named)?;
    if layout.writable {
        return mounts::detached(&layout.root, true);
    }
    if owners.are_the_hosts() {
        return Ok(directory);
    }
    let tree = sys::clone_tree(directory.as_fd(), c"", false).map_err(named)?;
    mounts::map_owners(&tree, user_namespace)?;
    Ok(tree)
}

/// Gives `to` owner, mode and times of `from`.
fn like(from: &Path, to: &Path) -> Result<(), Failure> {
    let meta = fs::metadata(from).map_err(io_failure(from))?;
    std::os::unix::fs::chown(to, Some(meta.uid()), Some(meta.gid())).map_err(io_failure(to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(io_failure(to))?;
    let times = fs::FileTimes::new().set_accessed(meta.accessed().map_err(io_failure(from))?).set_modified(meta.modified().map_err(io_failure(from))?);
    fs::File::open(to).and_then(|f| f.set_times(times)).map_err(io_failure(to))
}

/// One mount of the description, its source at hand.
struct Plan {
    destination: PathBuf,
    name: String,
    source: String,
    options: Options,
    tree: Option<OwnedFd>,
    /// Modification time of what it hides, for /dev.
    hidden: std::cell::Cell<Option<std::time::SystemTime>>,
}

impl Plan {
    fn new(m: &Mount, owners: &Owners) -> Result<Self, Failure> {
        let mut options = options_of(m);
        let source = m.source().clone().unwrap_or_else(|| "none".into());
        let name = m.typ().clone().unwrap_or_default();
        if !options.bind && !MOUNTED.contains(&name.as_str()) {
            return Err(Failure::new(
                format!("mount {name} on {}", m.destination().display()),
                "is no kind of file system that containers mount",
                "mount it on the host, and bind it",
            ));
        }
        let tree = options.bind.then(|| mounts::detached(&source, options.recursive)).transpose()?;
        tree.as_ref().map_or(Ok(()), |tree| mounts::guard_kernels(tree, &source))?;
        match name.as_str() {
            // Opening `mem` for writing is then EROFS, whatever else is found (07, S5).
            "proc" | "sysfs" | "cgroup" | "cgroup2" => options.flags |= MsFlags::MS_RDONLY,
            "devpts" => options.flags -= MsFlags::MS_NODEV,
            _ => {}
        }
        if matches!(name.as_str(), "tmpfs" | "devpts") {
            owners.translate(&mut options.data);
        }
        Ok(Self { destination: m.destination().clone(), name, source: source.to_string_lossy().into_owned(), options, tree, hidden: None.into() })
    }

    fn mount(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        if let Some(tree) = &self.tree {
            let to = mounts::place(root, &self.destination, mounts::kind(tree))?;
            return mounts::attach(tree, to.as_fd(), self.options.flags, false, &self.destination);
        }
        let to = mounts::place(root, &self.destination, Kind::Directory)?;
        let mut data = self.options.data.clone();
        match self.name.as_str() {
            "proc" | "sysfs" => self.refuse_links(root)?,
            "cgroup" | "cgroup2" => return crate::cgroup::show(root, to.as_fd(), &self.destination),
            "tmpfs" => {
                let meta = fs::metadata(mounts::path_of(&to)).map_err(io_failure(&self.destination))?;
                self.hidden.set(meta.modified().ok());
                // A new mount point looks like the directory it hides, unless it is told otherwise.
                if !data.iter().any(|d| d.starts_with("mode=")) {
                    data.push(format!("mode={:o}", meta.mode() & 0o7777));
                }
            }
            _ => {}
        }
        mounts::file_system(&self.name, to.as_fd(), &self.source, self.options.flags, &data.join(","), &self.destination)
    }

    /// A link in the place of /proc would let the image choose what the runtime believes to be procfs.
    fn refuse_links(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(self.destination.as_os_str().as_bytes()).map_err(|_| Failure::new("mount point", "holds a NUL byte", ""))?;
        let found = sys::open_plain(root, &path, libc::O_PATH).map(drop);
        found.map_err(|e| Failure::new(format!("mount {} on {}", self.name, self.destination.display()), e, "the image must have a plain directory there"))
    }

    fn dresses_dev(&self) -> bool {
        self.destination == Path::new("/dev") && self.hidden.get().is_some()
    }

    /// Making devices changed the time of /dev, which a guest could see.
    fn restore_times(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let to = mounts::place(root, &self.destination, Kind::Directory)?;
        let Some(time) = self.hidden.get() else { return Ok(()) };
        fs::File::open(mounts::path_of(&to)).and_then(|f| f.set_modified(time)).map_err(io_failure(&self.destination))
    }
}
