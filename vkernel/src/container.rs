//! Starts a container: forks its init into new namespaces, has it build its world and lock itself down, and hands the supervisor the
//! listener. Owns the order of steps on both sides; mounts are `rootfs`', the lock-down steps `lockdown`'s.
//!
//! The facts a newcomer gets wrong: init is at the same time the zygote and the guest's first program (it never executes anything), and
//! the user namespace is made *last*, so that the namespaces and mounts made before it belong to real root and not to guest root.
//! `unshare(NEWPID)` + fork is used instead of clone3 so that libc's own thread data stays right in the child.

use crate::failure::Failure;
use crate::filter::Program;
use crate::handshake::{Channel, Kind, pair};
use crate::lockdown::{self, Credentials};
use crate::rootfs::{self, Layout};
use crate::sys;
use crate::terminal;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{ForkResult, Pid, fork};
use std::os::fd::{AsFd, OwnedFd};

/// What the guest's network namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// An empty namespace, even loopback down.
    None,
    /// An empty namespace with loopback up.
    Loopback,
    /// The host's.
    Host,
}

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

/// A container to start.
pub struct Container {
    pub layout: Layout,
    pub hostname: String,
    pub network: Network,
    pub session: Session,
    pub cwd: String,
    /// `--user`: name or id, optionally `:group`.
    pub user: String,
    pub notify: Program,
    pub allow: Program,
    /// The signal mask guest code starts with.
    pub signal_mask: nix::sys::signal::SigSet,
}

/// A container whose init waits for `go`.
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

impl Started {
    /// Lets guest code begin; from now on the listener must be served.
    pub fn go(self) -> Result<(Pid, OwnedFd, OwnedFd, OwnedFd), Failure> {
        self.channel.send(Kind::Go, &[], &[])?;
        Ok((self.pid, self.pidfd, self.listener, self.root))
    }
}

/// What runs in init once it is locked down: returns the exit code.
pub type GuestMain = Box<dyn FnOnce(&Credentials) -> i32>;

/// Forks init. `load` runs in it while host paths are still visible and before any lock-down: it maps everything that is executable.
pub fn start(container: &Container, load: impl FnOnce(&Container) -> Result<GuestMain, Failure>) -> Result<Started, Failure> {
    let failure = |what: &'static str| move |e: nix::Error| Failure::new(format!("start container: {what}"), e.desc(), "run as root, see `vkernel check`");
    let (ours, theirs) = pair()?;
    let own = std::fs::File::open("/proc/self/ns/pid").map_err(|e| Failure::new("open /proc/self/ns/pid", e, "mount /proc"))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(failure("pid namespace"))?;
    // SAFETY: the child runs only this crate's start-up code and ends in `_exit`; libc's fork keeps the allocator usable in it.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        drop(ours);
        become_init(container, &theirs, load);
    }
    // Only children were to be in the new namespace; without this the supervisor could not make threads.
    setns(&own, CloneFlags::CLONE_NEWPID).map_err(failure("own pid namespace"))?;
    let Ok(ForkResult::Parent { child }) = forked else {
        return Err(failure("fork")(forked.err().unwrap_or(nix::Error::EAGAIN)));
    };
    drop(theirs);
    welcome(container, child, ours).inspect_err(|_| {
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(child, None);
    })
}

fn welcome(container: &Container, pid: Pid, channel: Channel) -> Result<Started, Failure> {
    let pidfd = sys::pidfd_open(pid.as_raw() as u32, 0).map_err(|e| Failure::new("pidfd_open", e, "see `vkernel check`"))?;
    let terminal = match container.session {
        Session::Terminal => channel.expect(Kind::Terminal, 1)?.pop(),
        _ => None,
    };
    channel.expect(Kind::UserNamespace, 0)?;
    for map in ["uid_map", "gid_map"] {
        // The identity map: files show the owners they have on disk, as in a chroot.
        std::fs::write(format!("/proc/{pid}/{map}"), "0 0 65536").map_err(|e| Failure::new(format!("write {map}"), e, "run in a user namespace that has ids 0 to 65535"))?;
    }
    channel.send(Kind::Mapped, &[], &[])?;
    let mut fds = channel.expect(Kind::Listener, 2)?.into_iter();
    channel.expect(Kind::Ready, 0)?;
    let (listener, root) = (fds.next().expect("two descriptors"), fds.next().expect("two descriptors"));
    Ok(Started { pid, pidfd, listener, root, terminal, channel })
}

/// The child's whole life.
fn become_init(container: &Container, channel: &Channel, load: impl FnOnce(&Container) -> Result<GuestMain, Failure>) -> ! {
    // A panic must not unwind into the supervisor's half of the program.
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match set_up(container, channel, load) {
        Ok((guest, who)) => guest(&who),
        Err(failure) => {
            // After "go" nobody listens any more.
            if channel.send(Kind::Failed, &[], &failure.encode()).is_err() {
                eprintln!("vkernel: {failure}");
            }
            i32::from(failure.code)
        }
    }));
    // SAFETY: ends the process without running the supervisor's exit handlers.
    unsafe { libc::_exit(code.unwrap_or(125)) }
}

fn set_up(container: &Container, channel: &Channel, load: impl FnOnce(&Container) -> Result<GuestMain, Failure>) -> Result<(GuestMain, Credentials), Failure> {
    forget_environment();
    default_dispositions();
    let guest = load(container)?;
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
    if container.network != Network::Host {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    let failure = |what: &'static str| move |e: nix::Error| Failure::new(format!("start container: {what}"), e.desc(), "run as root, see `vkernel check`");
    unshare(flags).map_err(failure("namespaces"))?;
    // No memfd can be executed in this pid namespace (Linux ≥ 6.3), for natives that enter from outside.
    let _ = std::fs::write("/proc/sys/vm/memfd_noexec", "2");
    rootfs::enter(&container.layout)?;
    nix::unistd::sethostname(&container.hostname).map_err(failure("hostname"))?;
    if container.network == Network::Loopback {
        loopback_up().map_err(|e| Failure::new("start container: loopback", e, "use networking none"))?;
    }
    match container.session {
        Session::Own => nix::unistd::setsid().map(drop).map_err(failure("setsid"))?,
        Session::Foreground => nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(failure("setpgid"))?,
        Session::Shared => {}
        Session::Terminal => channel.send(Kind::Terminal, &[terminal::make(&credentials(&container.user)?)?.as_fd()], &[])?,
    }
    unshare(CloneFlags::CLONE_NEWUSER).map_err(failure("user namespace"))?;
    channel.send(Kind::UserNamespace, &[], &[])?;
    channel.expect(Kind::Mapped, 0)?;
    Ok((guest, lock_down(container, channel)?))
}

fn lock_down(container: &Container, channel: &Channel) -> Result<Credentials, Failure> {
    let who = credentials(&container.user)?;
    let root = std::fs::File::open("/").map_err(|e| Failure::new("open /", e, "check the image's root directory"))?;
    lockdown::no_core_files()?;
    let listener = lockdown::install_notify(&container.notify)?;
    channel.send(Kind::Listener, &[listener.as_fd(), root.as_fd()], &[])?;
    // A worker that kept it could answer its own requests.
    drop(listener);
    drop(root);
    lockdown::refuse_exec_gain()?;
    lockdown::refuse_execute()?;
    lockdown::take_credentials(&who)?;
    // As the guest's user: a directory it may not enter is its error.
    std::env::set_current_dir(&container.cwd).map_err(|e| Failure::new(format!("working directory {}", container.cwd), e, "choose another with --workdir").with_code(127))?;
    channel.send(Kind::Ready, &[], &[])?;
    channel.expect(Kind::Go, 0)?;
    nix::sys::signal::sigprocmask(nix::sys::signal::SigmaskHow::SIG_SETMASK, Some(&container.signal_mask), None).map_err(|e| Failure::new("sigprocmask", e.desc(), ""))?;
    lockdown::install_allow_list(&container.allow)?;
    sys::close_from(3).map_err(|e| Failure::new("close_range", e, "see `vkernel check`"))?;
    Ok(who)
}

/// As a program started by exec would find them; before `load`, which installs handlers of its own.
fn default_dispositions() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for s in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: SIG_DFL has no preconditions. Rust ignores SIGPIPE at start; guests expect the default.
        let _ = unsafe { signal(s, SigHandler::SigDfl) };
    }
}

/// The caller's environment may hold secrets; init's memory is the guest's to read should it break out of its window (07, S16).
fn forget_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: single-threaded child; every string `environ` points to is NUL-terminated and writable (initial stack or heap).
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            libc::explicit_bzero(text.cast(), libc::strlen(text));
            entry = entry.add(1);
        }
        libc::clearenv();
    }
}

/// `name|uid[:group|gid]`, looked up in the container's own /etc/passwd and /etc/group.
fn credentials(user: &str) -> Result<Credentials, Failure> {
    let unknown = |what: &str, name: &str| Failure::new(format!("{what} {name}"), "not in the container", "use a number or a name from the image's /etc/passwd and /etc/group");
    let (name, group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let line = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.len() > 3 && (f[0] == name || f[2] == name));
    let uid = match (&line, name.parse::<u32>()) {
        (Some(f), _) => f[2].parse().map_err(|_| unknown("user", name))?,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(unknown("user", name)),
    };
    let by_passwd = line.as_ref().and_then(|f| f[3].parse().ok()).unwrap_or(0);
    let find = |g: &str| groups.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.len() > 2 && f[0] == g).and_then(|f| f[2].parse().ok());
    let gid = match group {
        None => by_passwd,
        Some(g) => g.parse().ok().or_else(|| find(g)).ok_or_else(|| unknown("group", g))?,
    };
    let login = line.as_ref().map_or("", |f| f[0]);
    let member = |f: &Vec<&str>| f.len() > 3 && f[3].split(',').any(|m| m == login && !login.is_empty());
    let extra = groups.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(member).filter_map(|f| f[2].parse().ok());
    let home = line.as_ref().and_then(|f| f.get(5)).filter(|h| !h.is_empty()).map_or("/", |h| h).to_owned();
    Ok(Credentials { home, uid, gid, groups: if group.is_some() { vec![gid] } else { std::iter::once(gid).chain(extra).collect() } })
}

fn loopback_up() -> std::io::Result<()> {
    let socket = nix::sys::socket::socket(nix::sys::socket::AddressFamily::Inet, nix::sys::socket::SockType::Datagram, nix::sys::socket::SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is valid; the ioctls read a name and flags from it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        sys::check(libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request).into()).map(drop)
    }
}
