//! `create` and `start`. Owns the three processes of a created container: the caller's child, which ends; init, which waits; and the supervisor, which waits for `start` and then serves.
//! Where a daemon runs, that is the supervisor.
//!
//! The fact a newcomer gets wrong: `start` is not the process that begins anything. It asks the supervisor, over a socket in the container's directory or the daemon's, and reports the answer.

use super::bundle::Bundle;
use super::log::Log;
use crate::audit::{self, Audit};
use crate::cgroup::Cgroup;
use crate::cli::Create;
use crate::container::{Place, Session, Started};
use crate::failure::Failure;
use crate::hooks::{self, Moment, Subject};
use crate::keeper::{Keeper, quiet};
use crate::launch::{self, Home, Launch, Manner};
use crate::release::{Release, Source};
use crate::rootfs::Layout;
use crate::scope::{self, Scope};
use crate::serve::{Kind, Running};
use crate::signals::Signals;
use crate::state::{self, Entry, Process, Record, Status};
use crate::supervisor::Until;
use crate::{check, mounts, sys};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The socket on which a supervisor takes requests.
const CONTROL: &str = "control";
/// The one request there is so far.
const START: &[u8] = b"start";

/// Makes a container that waits for `start`.
pub fn create(options: &Create, root: &Path, socket: &Path, log: &Log) -> Result<(), Failure> {
    check::require()?;
    keep_only(options.handed.preserve_fds)?;
    state::sweep(root);
    let bundle = Bundle::read(&options.bundle, options.manifest.as_deref())?;
    bundle.warnings.iter().for_each(|w| log.warn(w));
    let terminal = bundle.spec.process().as_ref().is_some_and(|p| p.terminal() == Some(true));
    if terminal != options.handed.console_socket.is_some() {
        let why = if terminal { "the process wants a terminal, and there is no socket to send it to" } else { "the process wants no terminal" };
        return Err(Failure::new("--console-socket", why, "give it exactly if process.terminal is true"));
    }
    let source = Source::new(&options.release, &bundle.manifest)?;
    let mut audit = source.audit(&options.id)?;
    let release = Release::open(source, &options.release, &mut audit)?;
    let mut making = Making(Some(Entry::create(root, record(options, &bundle, &release))?), log);
    let created = made(options, root, bundle, release, making.entry(), &mut audit, socket);
    if created.is_ok() {
        making.0 = None;
    }
    created.inspect_err(|failure| audit.write(launch::stopped(&Err(failure.clone()))))
}

/// A container that could not be made leaves nothing: its hooks, too, may have made something that others take away.
struct Making<'a>(Option<Entry>, &'a Log);

impl Making<'_> {
    fn entry(&mut self) -> &mut Entry {
        self.0.as_mut().expect("taken only at the end")
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.0.take() {
            let _ = super::delete(entry, true, self.1);
        }
    }
}

fn record(options: &Create, bundle: &Bundle, release: &Release) -> Record {
    Record {
        id: options.id.clone(),
        bundle: bundle.dir.clone(),
        created: audit::timestamp(std::time::SystemTime::now()),
        status: Status::Creating,
        supervisor: Process::of(Pid::this()),
        spec: bundle.spec.clone(),
        release: release.source.clone(),
        stop_signal: libc::SIGTERM,
        ..Record::default()
    }
}

fn made(options: &Create, root: &Path, bundle: Bundle, release: Release, entry: &mut Entry, audit: &mut Audit, socket: &Path) -> Result<(), Failure> {
    let terminal = options.handed.console_socket.is_some();
    let daemon = Running::find(socket)?;
    let linux = bundle.spec.linux().as_ref();
    let described = linux.and_then(|l| l.cgroups_path().as_deref());
    let path = Cgroup::path(described, &options.id);
    // An empty one, too: whoever deletes its owner ends what is in it.
    if let Some(owner) = state::all(root).iter().find(|e| e.record.cgroup.is_at(&path)) {
        return Err(Failure::new(format!("control group {}", path.display()), format!("is that of container {}", owner.record.id), "delete that one first"));
    }
    let scope = described.and_then(|p| Scope::described(&p.to_string_lossy())).filter(|_| scope::is_systemds());
    let begun = scope.map(|scope| scope.begin()).transpose()?;
    let cgroup = Cgroup::make(&path, linux.and_then(|l| l.resources().as_ref()))?;
    let layout = Layout { root: bundle.rootfs, writable: true };
    entry.record.cgroup = cgroup.clone();
    entry.save()?;
    let signals = Signals::take_over()?;
    let subject = Subject { id: options.id.clone(), bundle: bundle.dir };
    let home = Home { subject, place: Place::New(layout), cgroup };
    let manner = Manner { preserved_fds: options.handed.preserve_fds, handed: daemon.is_some(), ..Manner::default() };
    let mut launch = Launch::new(release, bundle.spec, home, &signals, manner)?;
    launch.container.session = if terminal { Session::Terminal } else { Session::Own };
    let started = launch.start(audit)?;
    // Its first process is in the scope.
    drop(begun);
    let pid = started.pid;
    entry.record.init = Process::of(pid);
    entry.record.status = Status::Created;
    let done = match daemon {
        Some(daemon) => give_up(options, &launch, started, entry, audit, (daemon, socket)),
        None => hand_over(options, launch, started, entry, audit, signals),
    };
    // Until here it is our child: nobody else would wait for it.
    done.inspect_err(|_| {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    })
}

fn introduce(options: &Create, launch: &Launch, started: &mut Started, audit: &mut Audit) -> Result<(), Failure> {
    if let (Some(master), Some(socket)) = (started.terminal.take(), &options.handed.console_socket) {
        super::exec::send_terminal(socket, master.as_fd())?;
    }
    audit.write(launch.release.started(started.pid.as_raw() as u32));
    Ok(())
}

/// To the daemon, which waits for `start` too.
fn give_up(options: &Create, launch: &Launch, mut started: Started, entry: &mut Entry, audit: &mut Audit, (mut daemon, socket): (Running, &Path)) -> Result<(), Failure> {
    introduce(options, launch, &mut started, audit)?;
    entry.save()?;
    entry.record.supervisor = daemon.adopt(entry.root(), &entry.record.id, &started, launch.ring(), Kind::Waiting)?;
    entry.record.daemon = Some(socket.to_owned());
    entry.save()?;
    pid_file(options.handed.pid_file.as_deref(), started.pid)
}

/// To a supervisor of its own.
fn hand_over(options: &Create, launch: Launch, mut started: Started, entry: &mut Entry, audit: &mut Audit, signals: Signals) -> Result<(), Failure> {
    introduce(options, &launch, &mut started, audit)?;
    let control = {
        let (_dir, path) = socket(entry)?;
        UnixListener::bind(path).map_err(|e| Failure::new("control socket", e, "choose another place with --root DIR"))?
    };
    let pid = started.pid;
    // SAFETY: single-threaded; the child ends in `_exit`.
    match unsafe { fork() }.map_err(|e| Failure::new("start supervisor", e.desc(), ""))? {
        ForkResult::Parent { child } => {
            entry.record.supervisor = Process::of(child);
            entry.save()?;
            pid_file(options.handed.pid_file.as_deref(), pid)
        }
        ForkResult::Child => {
            entry.record.supervisor = Process::of(Pid::this());
            leave(options.handed.preserve_fds);
            supervise(launch, started, entry, &control, audit, &signals);
            // SAFETY: ends the process without the caller's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// What the caller left open is not the guest's, but for what it was told to inherit (07, S16). A number that is not open would become a descriptor of ours, and the guest would inherit that.
pub(super) fn keep_only(preserved: u32) -> Result<(), Failure> {
    // SAFETY: the number is only asked about.
    let is_open = |fd: u32| nix::fcntl::fcntl(unsafe { BorrowedFd::borrow_raw(fd as i32) }, nix::fcntl::FcntlArg::F_GETFD).is_ok();
    let closed = (3..3u32.saturating_add(preserved)).find(|fd| !is_open(*fd));
    if let Some(fd) = closed {
        return Err(Failure::new(format!("--preserve-fds {preserved}"), format!("descriptor {fd} is not open"), "pass it, or preserve fewer"));
    }
    sys::close_from(3 + preserved).map_err(|e| Failure::new("close_range", e, "see `vkernel check`"))
}

/// A supervisor has nothing of its caller's: no session, no stream, no descriptor meant for the guest.
pub(super) fn leave(preserved_fds: u32) {
    let _ = setsid();
    quiet();
    if preserved_fds > 0 {
        // SAFETY: these numbers are the caller's descriptors, nobody's objects here.
        unsafe { libc::syscall(libc::SYS_close_range, 3, 2 + preserved_fds, 0) };
    }
    // SAFETY: a terminated name.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"vkernel-super".as_ptr()) };
}

pub(super) fn pid_file(file: Option<&Path>, pid: Pid) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, pid.to_string()).map_err(|e| Failure::new(format!("--pid-file {}", file.display()), e, "name a file that can be written"))
}

fn supervise(launch: Launch, started: Started, entry: &mut Entry, control: &UnixListener, audit: &mut Audit, signals: &Signals) {
    let Ok(journal) = launch.journal(entry.root(), Until::End) else { return };
    let keeper = Keeper::fork(entry, Some(&journal));
    if let Some(mut caller) = wanted(&started, control) {
        let begun = match started.go() {
            Ok(begun) => begun,
            Err(failure) => return drop(caller.write_all(&failure.encode())),
        };
        entry.record.status = Status::Running;
        entry.save_if_there();
        let _ = caller.write_all(b"ok");
        drop(caller);
        let result = launch.serve(begun, &journal, audit, signals);
        audit.write(launch::stopped(&result));
    }
    entry.record.status = Status::Stopped;
    entry.save_if_there();
    if let Ok(keeper) = keeper {
        keeper.dismiss();
    }
}

/// Waits for `start`; `None` when init ended before.
fn wanted(started: &Started, control: &UnixListener) -> Option<UnixStream> {
    loop {
        let mut fds = [PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(started.pidfd.as_fd(), PollFlags::POLLIN)];
        if let Err(e) = poll(&mut fds, PollTimeout::NONE)
            && e != nix::Error::EINTR
        {
            return None;
        }
        let ready = |i: usize| fds[i].revents().is_some_and(|r| !r.is_empty());
        if ready(1) {
            return None;
        }
        if ready(0)
            && let Ok((mut caller, _)) = control.accept()
        {
            let mut request = [0; START.len()];
            if caller.read_exact(&mut request).is_ok() && request == *START {
                return Some(caller);
            }
        }
    }
}

/// The directory of the socket, and a path to it that is short whatever the directory's is: the kernel takes 107 bytes.
fn socket(entry: &Entry) -> Result<(File, String), Failure> {
    let dir = File::open(entry.path("")).map_err(|e| Failure::new("control socket", e, "choose another place with --root DIR"))?;
    let path = format!("{}/{CONTROL}", mounts::path_of(&dir));
    Ok((dir, path))
}

/// Lets a created container begin.
pub fn start(entry: &Entry, log: &Log) -> Result<(), Failure> {
    let what = || format!("start {}", entry.record.id);
    match entry.status() {
        Status::Created => {}
        status => return Err(Failure::new(what(), format!("the container is {status}"), "only a created one can be started")),
    }
    match &entry.record.daemon {
        None => ask_supervisor(entry)?,
        Some(socket) => {
            let daemon = Running::find(socket)?
                .ok_or_else(|| Failure::new(what(), format!("no daemon listens at {}", socket.display()), "start `vkernel serve`, or delete it with --force"));
            daemon?.go(entry.root(), &entry.record.id)?;
        }
    }
    let subject = Subject { id: entry.record.id.clone(), bundle: entry.record.bundle.clone() };
    hooks::run_warning(&entry.record.spec, &subject, Moment::PostStart, Some(Pid::from_raw(entry.record.init.pid)), log);
    Ok(())
}

fn ask_supervisor(entry: &Entry) -> Result<(), Failure> {
    let what = || format!("start {}", entry.record.id);
    let lost = |e: std::io::Error| Failure::new(what(), format!("its supervisor does not answer: {e}"), "delete it with --force");
    let (_dir, path) = socket(entry)?;
    let mut supervisor = UnixStream::connect(path).map_err(lost)?;
    supervisor.write_all(START).map_err(lost)?;
    let mut answer = Vec::new();
    supervisor.read_to_end(&mut answer).map_err(lost)?;
    match answer.as_slice() {
        b"ok" => Ok(()),
        b"" => Err(lost(std::io::ErrorKind::UnexpectedEof.into())),
        told => Err(Failure::decode(told)),
    }
}
