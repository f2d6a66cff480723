//! Starts a process of a container, its first one or a further one: forks it, has it build or enter its world and lock itself down, and hands the supervisor the listener.
//! Owns what is common to both and the host's side of the start; the child's side is `init`'s.
//!
//! The facts a newcomer gets wrong: init is at the same time the zygote and the guest's first program (it never executes anything), and each started process has a listener of
//! its own: the listener is the identity (07, S9). `unshare(NEWPID)` and a fork are used, not one clone3 with all namespaces; the fork itself is a clone3 where there is a version 2 control group to be born in (`sys::fork_into`).

use crate::cgroup::Cgroup;
use crate::failure::Failure;
use crate::filter::{self, AllowList, Program};
use crate::handshake::{Channel, Kind, pair};
use crate::hooks::Subject;
use crate::init;
use crate::namespaces::{self, Network, Owners};
use crate::rootfs::Layout;
use crate::sys;
use crate::zygote::Taken;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid, fork};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How init relates to the caller's terminal; see `terminal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// A new session without a terminal.
    Own,
    /// The caller's session and process group.
    Shared,
    /// The caller's session, an own process group that becomes the terminal's foreground group.
    Foreground,
    /// A new session with a terminal of the container's own.
    Terminal,
}

/// Where the process lives.
pub enum Place {
    /// In namespaces and mounts made for it.
    New(Layout),
    /// In those of this running container's init.
    Of(Pid),
}

/// A process to start in a container.
pub struct Container {
    /// What the caller described, in the words of runtime-spec; every command makes one.
    pub spec: Spec,
    pub subject: Subject,
    pub place: Place,
    pub network: Network,
    pub session: Session,
    pub cgroup: Cgroup,
    pub notify: Program,
    pub allow: AllowList,
    /// The seccomp profile of the description, in addition to ours.
    pub profile: Option<Program>,
    /// The signal mask guest code starts with.
    pub signal_mask: nix::sys::signal::SigSet,
    /// The process dies with the one that started it; otherwise whoever started it may leave (07, S23).
    pub tied: bool,
    /// Descriptors from 3 on that the guest inherits.
    pub preserved_fds: u32,
    /// It is told what to run, and where its streams are, after everything else was made (`zygote`).
    pub reserved: bool,
}

impl Container {
    /// Without a terminal, limits, or a profile of the description, tied to the caller.
    pub fn new(spec: Spec, place: Place, network: Network, allow: AllowList, signal_mask: nix::sys::signal::SigSet) -> Result<Self, Failure> {
        let notify = filter::notify_program()?;
        let (subject, session, cgroup) = (Subject::default(), Session::Own, Cgroup::default());
        Ok(Self { spec, subject, place, network, session, cgroup, notify, allow, profile: None, signal_mask, tied: true, preserved_fds: 0, reserved: false })
    }
}

/// A process that waits for `go`.
pub struct Started {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub listener: OwnedFd,
    /// The guest's `/`.
    pub root: OwnedFd,
    /// Master side of the container's own terminal.
    pub terminal: Option<OwnedFd>,
    channel: Channel,
}

/// What the supervisor of a started process holds.
pub struct Begun {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    pub listener: OwnedFd,
    pub root: OwnedFd,
}

impl Started {
    /// Where it waits for `go`.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Tells one that was made ready what to run.
    pub fn take(&self, taken: &Taken, streams: [BorrowedFd<'_>; 3]) -> Result<(), Failure> {
        let told = taken.file().map_err(|e| Failure::new("start container", e, ""))?;
        let [input, output, errors] = streams;
        self.channel.send(Kind::Take, &[input, output, errors, told.as_fd()], &[])
    }

    /// Lets guest code begin; from now on the listener must be served.
    pub fn go(self) -> Result<Begun, Failure> {
        self.channel.send(Kind::Go, &[], &[])?;
        Ok(Begun { pid: self.pid, pidfd: self.pidfd, listener: self.listener, root: self.root })
    }
}

/// What runs in the process once it is locked down: returns the exit code. One that was made ready runs what it was told.
pub type GuestMain = Box<dyn FnOnce(Option<Taken>) -> i32>;

/// Starts without anything to do meanwhile on the host.
pub fn start(container: &Container, load: impl FnOnce(&Container) -> Result<GuestMain, Failure>) -> Result<Started, Failure> {
    start_with(container, load, |_| Ok(()))
}

/// Forks the process. `load` runs in it while host paths are still visible and before any lock-down: it maps everything that is executable. `between` runs here when the namespaces
/// exist and nothing is mounted yet.
pub fn start_with(
    container: &Container,
    load: impl FnOnce(&Container) -> Result<GuestMain, Failure>,
    between: impl FnOnce(Pid) -> Result<(), Failure>,
) -> Result<Started, Failure> {
    let failure = |what: &'static str| move |e: nix::Error| Failure::new(format!("start container: {what}"), e.desc(), "run as root, see `vkernel check`");
    let doors = Doors::find(container)?;
    let (ours, theirs) = pair()?;
    let own = namespaces::open("/proc/self/ns/pid".as_ref())?;
    match pid_namespace(container)? {
        Some(other) => setns(other, CloneFlags::CLONE_NEWPID).map_err(failure("pid namespace"))?,
        None => unshare(CloneFlags::CLONE_NEWPID).map_err(failure("pid namespace"))?,
    }
    let forked = forked(&container.cgroup);
    if let Ok(Forked::Child { born }) = forked {
        drop(ours);
        init::live(container, &theirs, doors, born, load);
    }
    // Only children were to be in the new namespace; without this the supervisor could not make threads.
    setns(&own, CloneFlags::CLONE_NEWPID).map_err(failure("own pid namespace"))?;
    let Forked::Parent(child) = forked.map_err(failure("fork"))? else { unreachable!("the child lives in `init`") };
    drop((theirs, doors));
    welcome(container, child, ours, between).inspect_err(|_| {
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(child, None);
    })
}

enum Forked {
    Parent(Pid),
    Child {
        /// It is in its version 2 control group.
        born: bool,
    },
}

fn forked(cgroup: &Cgroup) -> nix::Result<Forked> {
    if let Some(Ok(child)) = cgroup.birthplace().map(|group| sys::fork_into(group.as_fd())) {
        return Ok(child.map_or(Forked::Child { born: true }, |pid| Forked::Parent(Pid::from_raw(pid as i32))));
    }
    // SAFETY: the child runs only this crate's start-up code and ends in `_exit`; libc's fork keeps the allocator usable in it.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(Forked::Child { born: false }),
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
    }
}

/// What the process enters later, opened while host process numbers still mean something.
pub struct Doors {
    pub user: OwnedFd,
    /// A running container's first process.
    pub init: Option<OwnedFd>,
}

impl Doors {
    fn find(container: &Container) -> Result<Self, Failure> {
        let gone = |e| Failure::new("enter the container", e, "it has ended");
        let init = match container.place {
            Place::Of(pid) => Some(sys::pidfd_open(pid.as_raw() as u32, 0).map_err(gone)?),
            Place::New(_) => None,
        };
        Ok(Self { user: user_namespace(container)?, init })
    }
}

fn user_namespace(container: &Container) -> Result<OwnedFd, Failure> {
    match (&container.place, namespaces::described(&container.spec, LinuxNamespaceType::User).flatten()) {
        (Place::Of(pid), _) => namespaces::open(format!("/proc/{pid}/ns/user").as_ref()),
        (Place::New(_), Some(path)) => namespaces::open_foreign(&path, "user"),
        (Place::New(_), None) => Owners::of(&container.spec).namespace(),
    }
}

fn pid_namespace(container: &Container) -> Result<Option<OwnedFd>, Failure> {
    match (&container.place, namespaces::described(&container.spec, LinuxNamespaceType::Pid)) {
        (Place::Of(pid), _) => namespaces::open(format!("/proc/{pid}/ns/pid").as_ref()).map(Some),
        (Place::New(_), Some(Some(path))) => namespaces::open_foreign(&path, "pid").map(Some),
        (Place::New(_), Some(None)) => Ok(None),
        (Place::New(_), None) => Err(Failure::new("pid namespace", "the description has none", "the host's processes are never shown to a guest; add {\"type\": \"pid\"}")),
    }
}

fn welcome(container: &Container, pid: Pid, channel: Channel, between: impl FnOnce(Pid) -> Result<(), Failure>) -> Result<Started, Failure> {
    let pidfd = sys::pidfd_open(pid.as_raw() as u32, 0).map_err(|e| Failure::new("pidfd_open", e, "see `vkernel check`"))?;
    channel.expect(Kind::Namespaces, 0)?;
    between(pid)?;
    channel.send(Kind::Proceed, &[], &[])?;
    let terminal = match container.session {
        Session::Terminal => channel.expect(Kind::Terminal, 1)?.pop(),
        _ => None,
    };
    let mut fds = channel.expect(Kind::Listener, 2)?.into_iter();
    channel.expect(Kind::Ready, 0)?;
    let (listener, root) = (fds.next().expect("two descriptors"), fds.next().expect("two descriptors"));
    Ok(Started { pid, pidfd, listener, root, terminal, channel })
}
