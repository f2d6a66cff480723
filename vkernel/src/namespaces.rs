//! The namespaces of a container: which are new, which are joined, and whose ids they map. Owns the user namespace's making and the order of entering.
//!
//! The fact a newcomer gets wrong: the user namespace is made *first*, by a child that ends at once, and entered *last*. So the other namespaces and the mounts belong to real
//! root and not to guest root, and yet mounts can be given the guest's owners while they are made.

use crate::failure::Failure;
use crate::{mounts, sys};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::{Capability, LinuxIdMapping, LinuxNamespaceType, Spec};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// For a process that waits.
const STACK_BYTES: usize = 16 << 10;

/// How many ids a namespace that nobody described maps: to themselves, so that files show the owners they have on disk, as in a chroot.
const ALL_IDS: u32 = 65536;

/// Which host ids stand behind the ids of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    users: Vec<[u32; 3]>,
    groups: Vec<[u32; 3]>,
}

impl Owners {
    pub fn of(spec: &Spec) -> Self {
        let lines = |maps: Option<&Vec<LinuxIdMapping>>| match maps {
            Some(maps) if !maps.is_empty() => maps.iter().map(|m| [m.container_id(), m.host_id(), m.size()]).collect(),
            _ => vec![[0, 0, ALL_IDS]],
        };
        let linux = spec.linux().as_ref();
        Self { users: lines(linux.and_then(|l| l.uid_mappings().as_ref())), groups: lines(linux.and_then(|l| l.gid_mappings().as_ref())) }
    }

    /// Every id is itself.
    pub fn are_the_hosts(&self) -> bool {
        self.users.iter().chain(&self.groups).all(|[guest, host, _]| guest == host)
    }

    /// The host's number of a guest's id.
    fn host(maps: &[[u32; 3]], id: u32) -> Option<u32> {
        maps.iter().find(|[guest, _, size]| id >= *guest && id - guest < *size).map(|[guest, host, _]| host + (id - guest))
    }

    /// Host ids of the user and group that the described process begins as.
    pub fn guest(&self, spec: &Spec) -> Option<(u32, u32)> {
        let user = spec.process().as_ref()?.user();
        Some((Self::host(&self.users, user.uid())?, Self::host(&self.groups, user.gid())?))
    }

    /// Owners in mount data are read by the namespace that mounts, which is the host's; and what names no owner would be the host's root.
    pub fn translate(&self, data: &mut Vec<String>) {
        if self.are_the_hosts() {
            return;
        }
        for (key, maps) in [("uid=", &self.users), ("gid=", &self.groups)] {
            let named = data.iter().find_map(|d| d.strip_prefix(key)).map_or(Some(0), |v| v.parse().ok());
            data.retain(|d| !d.starts_with(key));
            data.extend(named.and_then(|id| Self::host(maps, id)).map(|id| format!("{key}{id}")));
        }
    }

    fn text(maps: &[[u32; 3]]) -> String {
        maps.iter().map(|[guest, host, size]| format!("{guest} {host} {size}\n")).collect()
    }

    /// A user namespace with these maps.
    pub fn namespace(&self) -> Result<OwnedFd, Failure> {
        // The child looks at nothing but its stack, which stays until it is gone: `nix`'s clone would hand it a closure that lies in a frame of ours, and ours goes on.
        extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
            // Until it is killed: the namespace lives as long as somebody is in it or holds it.
            loop {
                // SAFETY: a plain system call, past libc, whose account of this thread is the caller's.
                unsafe { libc::syscall(libc::SYS_pause) };
            }
        }
        let mut stack = vec![0u128; STACK_BYTES / size_of::<u128>()];
        // SAFETY: the child shares this memory, which spares copying page tables; it starts at the end of a stack of its own, which is aligned, makes no call but pause(2), and is gone when this function returns.
        let child = unsafe { libc::clone(wait, stack.as_mut_ptr_range().end.cast(), libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD, std::ptr::null_mut()) };
        let advice = |e: nix::Error| Failure::new("user namespace", e.desc(), "raise /proc/sys/user/max_user_namespaces");
        let child = nix::errno::Errno::result(child).map(Pid::from_raw).map_err(advice)?;
        let held = self.hold(child);
        let _ = kill(child, Signal::SIGKILL);
        while waitpid(child, None) == Err(nix::Error::EINTR) {}
        drop(stack);
        held
    }

    fn hold(&self, child: Pid) -> Result<OwnedFd, Failure> {
        for (file, maps) in [("uid_map", &self.users), ("gid_map", &self.groups)] {
            let path = format!("/proc/{child}/{file}");
            std::fs::write(&path, Self::text(maps)).map_err(|e| Failure::new(format!("write {file}"), e, "map ids that this user namespace has, each once"))?;
        }
        open(Path::new(&format!("/proc/{child}/ns/user")))
    }
}

pub fn open(path: &Path) -> Result<OwnedFd, Failure> {
    std::fs::File::open(path).map(OwnedFd::from).map_err(|e| Failure::new(format!("namespace {}", path.display()), e, "name a namespace that exists"))
}

/// Is it the caller's?
pub fn is_own(path: &Path, kind: &str) -> bool {
    sys::identity(path).is_some_and(|found| Some(found) == sys::identity(&Path::new("/proc/self/ns").join(kind)))
}

/// One that a description names: a neighbour's, but not the host's (`kind` as in /proc/self/ns), in which guest root would be more than a guest. Must be called in the host's.
pub fn open_foreign(path: &Path, kind: &str) -> Result<OwnedFd, Failure> {
    let found = open(path)?;
    if is_own(mounts::path_of(&found).as_ref(), kind) {
        return Err(Failure::new(
            format!("namespace {}", path.display()),
            format!("is the host's {kind} namespace"),
            "leave the path out for one of its own, or name another container's",
        ));
    }
    Ok(found)
}

/// What the guest's network namespace holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// An empty namespace, even loopback down.
    None,
    /// An empty namespace with loopback up.
    Loopback,
    /// The host's.
    Host,
    /// One that somebody else made.
    Path(PathBuf),
}

/// A namespace of the description: `None` if it has none of this kind, else the path it names.
pub fn described(spec: &Spec, kind: LinuxNamespaceType) -> Option<Option<PathBuf>> {
    let all = spec.linux().as_ref()?.namespaces().as_ref()?;
    all.iter().find(|n| n.typ() == kind).map(|n| n.path().clone())
}

/// Namespaces that a container always has of its own or of a neighbour's, never the host's: without them nothing here holds.
const OWN: [(LinuxNamespaceType, CloneFlags); 4] = [
    (LinuxNamespaceType::Mount, CloneFlags::CLONE_NEWNS),
    (LinuxNamespaceType::Uts, CloneFlags::CLONE_NEWUTS),
    (LinuxNamespaceType::Ipc, CloneFlags::CLONE_NEWIPC),
    (LinuxNamespaceType::Cgroup, CloneFlags::CLONE_NEWCGROUP),
];

/// Enters the namespaces of a new container but user and pid; those nobody described are made too.
pub fn enter(spec: &Spec, network: &Network) -> Result<(), Failure> {
    let failure = |e: nix::Error| Failure::new("enter namespaces", e.desc(), "run as root, see `vkernel check`");
    let mut new = CloneFlags::empty();
    let mut joined = Vec::new();
    for (kind, flag) in OWN {
        match described(spec, kind).flatten() {
            Some(path) if kind != LinuxNamespaceType::Mount => joined.push((open_foreign(&path, &kind.to_string())?, flag)),
            _ => new |= flag,
        }
    }
    match network {
        Network::None | Network::Loopback => new |= CloneFlags::CLONE_NEWNET,
        Network::Path(path) => joined.push((open_foreign(path, "net")?, CloneFlags::CLONE_NEWNET)),
        Network::Host => {}
    }
    for (fd, flag) in &joined {
        setns(fd, *flag).map_err(failure)?;
    }
    unshare(new).map_err(failure)?;
    if *network == Network::Loopback {
        loopback_up().map_err(|e| Failure::new("loopback", e, "use --network none"))?;
    }
    if matches!(network, Network::None | Network::Loopback) && may_bind_every_port(spec) {
        open_every_port();
    }
    Ok(())
}

/// A network namespace is not the guest's user namespace's, so CAP_NET_BIND_SERVICE means nothing there. In one of the container's own this stands for it, as Docker does it for all; others' are left as they are. An old kernel's refusal
/// is that of the guest's bind(2).
fn open_every_port() {
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

pub fn may_bind_every_port(spec: &Spec) -> bool {
    let granted = spec.process().as_ref().and_then(|p| p.capabilities().as_ref()?.permitted().as_ref());
    granted.is_some_and(|all| all.contains(&Capability::NetBindService))
}

/// Enters those of a running container but user and pid.
pub fn join(init: &OwnedFd) -> Result<(), Failure> {
    let all = OWN.iter().fold(CloneFlags::CLONE_NEWNET, |all, (_, flag)| all | *flag);
    setns(init, all).map_err(|e| Failure::new("enter the container", e.desc(), "it may have ended"))
}

/// A new network namespace with loopback up, mounted on a new file: it lives until `unmount`.
pub fn mount_network(at: &Path, every_port: bool) -> Result<(), Failure> {
    let failure = |e: std::io::Error| Failure::new(format!("network namespace {}", at.display()), e, "see `vkernel check`");
    std::fs::File::create_new(at).map_err(failure)?;
    // A thread of its own: this one stays where it is.
    let made = std::thread::scope(|scope| {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            loopback_up()?;
            if every_port {
                open_every_port();
            }
            mount(Some("/proc/thread-self/ns/net"), at, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(std::io::Error::from)
        };
        scope.spawn(make).join()
    });
    made.unwrap_or_else(|_| Err(std::io::Error::other("its thread panicked"))).map_err(failure)
}

/// Whether a namespace is mounted there.
pub fn is_mounted(at: &Path) -> bool {
    nix::sys::statfs::statfs(at).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Takes one away, and the file.
pub fn unmount(at: &Path) {
    let _ = umount2(at, MntFlags::MNT_DETACH);
    let _ = std::fs::remove_file(at);
}

fn loopback_up() -> std::io::Result<()> {
    let socket = nix::sys::socket::socket(nix::sys::socket::AddressFamily::Inet, nix::sys::socket::SockType::Datagram, nix::sys::socket::SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is valid; the ioctls read a name and flags from it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        sys::check(libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd()), libc::SIOCSIFFLAGS, &raw const request).into()).map(drop)
    }
}

/// Kernel settings that belong to a namespace of the container: all others are the host's.
pub fn set_kernel(spec: &Spec, network: &Network) -> Result<(), Failure> {
    let Some(settings) = spec.linux().as_ref().and_then(|l| l.sysctl().clone()) else { return Ok(()) };
    for (name, value) in settings {
        let path = name.replace('.', "/");
        let ipc = ["kernel/msg", "kernel/shm", "kernel/sem", "fs/mqueue/"].iter().any(|p| path.starts_with(p));
        let own = ipc || (path.starts_with("net/") && *network != Network::Host) || path == "kernel/domainname";
        if !own || path.split('/').any(|part| part.is_empty() || part == "..") {
            return Err(Failure::new(format!("sysctl {name}"), "is the host's", "name settings of the container's own network or IPC namespace"));
        }
        std::fs::write(Path::new("/proc/sys").join(&path), value).map_err(|e| Failure::new(format!("sysctl {name}"), e, "leave it out"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_namespace_open_runs_nothing_of_ours() {
        let owners = Owners { users: vec![[0, 0, 1]], groups: vec![[0, 0, 1]] };
        let own = std::fs::metadata("/proc/self/ns/user").unwrap();
        for _ in 0..300 {
            let made = std::fs::File::from(owners.namespace().unwrap()).metadata().unwrap();
            assert_ne!(std::os::unix::fs::MetadataExt::ino(&made), std::os::unix::fs::MetadataExt::ino(&own));
            // A child that ran into a fault would have left std's lock taken, in which threads begin and end.
            std::thread::spawn(|| ()).join().unwrap();
        }
    }

    #[test]
    fn owners_in_mount_data_are_translated_and_missing_ones_are_guest_root() {
        let owners = Owners { users: vec![[0, 100_000, 1000]], groups: vec![[0, 200_000, 10]] };
        let mut data = vec!["mode=755".to_owned(), "gid=5".to_owned()];
        owners.translate(&mut data);
        assert_eq!(data, ["mode=755", "uid=100000", "gid=200005"]);
        let mut unmapped = vec!["gid=50".to_owned()];
        owners.translate(&mut unmapped);
        assert_eq!(unmapped, ["uid=100000"]);
        let mut same = vec!["gid=5".to_owned()];
        Owners::of(&Spec::default()).translate(&mut same);
        assert_eq!(same, ["gid=5"]);
    }

    #[test]
    fn a_user_namespace_has_the_maps_it_was_asked_for() {
        let owners = Owners { users: vec![[0, 100_000, 1000]], groups: vec![[0, 0, 5], [5, 200_000, 10]] };
        let held = owners.namespace().unwrap();
        let kind = std::fs::read_link(crate::mounts::path_of(&held)).unwrap();
        assert!(kind.to_string_lossy().starts_with("user:["), "{kind:?}");
        let twice = Owners { users: vec![[0, 0, 10], [5, 100, 10]], groups: vec![[0, 0, 1]] };
        assert!(twice.namespace().unwrap_err().to_string().contains("uid_map"));
    }
}
