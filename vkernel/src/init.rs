//! The life of a started process up to its first guest instruction: environment, code, control group, namespaces, mounts, session, credentials, lock-down. Owns this order.
//!
//! The fact a newcomer gets wrong: the user namespace is entered after everything was mounted, and the lock-down comes after that; until then this is real root running our code
//! only, from then on it is the guest's user running anything.

use crate::container::{Container, Doors, GuestMain, Place, Session};
use crate::failure::Failure;
use crate::handshake::{Channel, Kind};
use crate::hooks::{self, Moment};
use crate::lockdown::{self, Credentials};
use crate::namespaces::{self, Owners};
use crate::zygote::Taken;
use crate::{rootfs, streams, sys, terminal};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The child's whole life. `born`: it is in its version 2 control group.
pub fn live(container: &Container, channel: &Channel, doors: Doors, born: bool, load: impl FnOnce(&Container) -> Result<GuestMain, Failure>) -> ! {
    // A panic must not unwind into the supervisor's half of the program.
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match set_up(container, channel, doors, born, load) {
        Ok((guest, taken)) => guest(taken),
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

fn set_up(
    container: &Container,
    channel: &Channel,
    doors: Doors,
    born: bool,
    load: impl FnOnce(&Container) -> Result<GuestMain, Failure>,
) -> Result<(GuestMain, Option<Taken>), Failure> {
    let failure = |what: &'static str| move |e: nix::Error| Failure::new(format!("start container: {what}"), e.desc(), "run as root, see `vkernel check`");
    // Whoever enters a running container is in its guests' sight from now on, with all that is still open here (CVE-2016-9962). Landlock keeps them off too, where the kernel has it.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).map_err(|e| Failure::new("start container: PR_SET_DUMPABLE", e, "see `vkernel check`"))?;
    forget_environment();
    default_dispositions();
    // With a terminal of its own it has none of the caller's; who is told later gets streams that were looked at.
    if container.session != Session::Terminal && !container.reserved {
        drop(streams::guard()?);
    }
    container.cgroup.enter(born)?;
    if let Some(score) = container.spec.process().as_ref().and_then(|p| p.oom_score_adj()) {
        // While procfs is the host's: the guest's is read-only.
        std::fs::write("/proc/self/oom_score_adj", score.to_string()).map_err(|e| Failure::new(format!("oom_score_adj {score}"), e, "use -1000 to 1000"))?;
    }
    let guest = load(container)?;
    let who = Credentials::of(&container.spec)?;
    let Doors { user, init } = doors;
    match &container.place {
        Place::Of(_) => {
            init.as_ref().map_or(Ok(()), namespaces::join)?;
            channel.send(Kind::Namespaces, &[], &[])?;
            channel.expect(Kind::Proceed, 0)?;
        }
        Place::New(layout) => {
            namespaces::enter(&container.spec, &container.network)?;
            rootfs::part()?;
            namespaces::set_kernel(&container.spec, &container.network)?;
            // No memfd can be executed in this pid namespace (Linux ≥ 6.3), for natives that enter from outside.
            let _ = std::fs::write("/proc/sys/vm/memfd_noexec", "2");
            channel.send(Kind::Namespaces, &[], &[])?;
            channel.expect(Kind::Proceed, 0)?;
            hooks::run(&container.spec, &container.subject, Moment::CreateContainer, Some(Pid::this()))?;
            rootfs::enter(&container.spec, layout, &Owners::of(&container.spec), user.as_fd())?;
            if let Some(name) = container.spec.hostname() {
                nix::unistd::sethostname(name).map_err(failure("hostname"))?;
            }
        }
    }
    match container.session {
        Session::Own => nix::unistd::setsid().map(drop).map_err(failure("setsid"))?,
        Session::Foreground => nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(failure("setpgid"))?,
        Session::Shared => {}
        Session::Terminal => channel.send(Kind::Terminal, &[terminal::make(&who)?.as_fd()], &[])?,
    }
    lockdown::limits(&container.spec)?;
    setns(&user, CloneFlags::CLONE_NEWUSER).map_err(failure("user namespace"))?;
    drop((user, init));
    let taken = lock_down(container, channel, &who)?;
    Ok((guest, taken))
}

fn lock_down(container: &Container, channel: &Channel, who: &Credentials) -> Result<Option<Taken>, Failure> {
    let root = std::fs::File::open("/").map_err(|e| Failure::new("open /", e, "check the image's root directory"))?;
    lockdown::no_core_files()?;
    let listener = lockdown::install_notify(&container.notify)?;
    channel.send(Kind::Listener, &[listener.as_fd(), root.as_fd()], &[])?;
    // A worker that kept it could answer its own requests.
    drop(listener);
    lockdown::refuse_exec_gain()?;
    lockdown::refuse_execute()?;
    lockdown::take_credentials(who, container.tied)?;
    let cwd = container.spec.process().as_ref().map_or("/".as_ref(), |p| p.cwd().as_path());
    enter(root, cwd).map_err(|e| Failure::new(format!("working directory {}", cwd.display()), e, "choose another with --workdir").with_code(127))?;
    lockdown::install_allow_list(&container.allow.first)?;
    channel.send(Kind::Ready, &[], &[])?;
    let taken = if container.reserved { Some(Taken::received(channel.expect(Kind::Take, 4)?)?) } else { None };
    channel.expect(Kind::Go, 0)?;
    let mask = taken.as_ref().map_or(container.signal_mask, Taken::signal_mask);
    nix::sys::signal::sigprocmask(nix::sys::signal::SigmaskHow::SIG_SETMASK, Some(&mask), None).map_err(|e| Failure::new("sigprocmask", e.desc(), ""))?;
    sys::close_from(3 + container.preserved_fds).map_err(|e| Failure::new("close_range", e, "see `vkernel check`"))?;
    if let Some(profile) = &container.profile {
        lockdown::install_profile(profile)?;
    }
    lockdown::install_allow_list(&container.allow.rest)?;
    Ok(taken)
}

/// Changes the working directory as the guest's user: one it may not enter is its error. The image says which, and descriptors of this process may still be directories of the host: no magic link leads out through them
/// (CVE-2024-21626 of runc).
fn enter(root: std::fs::File, cwd: &Path) -> std::io::Result<()> {
    let path = CString::new(cwd.as_os_str().as_bytes()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let directory = sys::open_in_root(root.as_fd(), &path, libc::O_PATH | libc::O_DIRECTORY)?;
    nix::unistd::fchdir(&directory).map_err(Into::into)
}

/// As a program started by exec would find them; before `load`, which installs handlers of its own. All of them: Rust ignores SIGPIPE at start, and posix_spawn(3) lets its child ignore signals 32 and 33, of which libc's own calls will not hear.
fn default_dispositions() {
    /// `struct sigaction` as the kernel has it on x86-64: handler, flags, restorer, mask.
    const DEFAULT: [u64; 4] = [libc::SIG_DFL as u64, 0, 0, 0];
    for signal in 1..=64 {
        // SAFETY: a valid action, and no old one asked for. SIGKILL and SIGSTOP are refused, and always have it.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null_mut::<u64>(), size_of::<u64>()) };
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
