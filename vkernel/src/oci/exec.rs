//! `exec`: a further process of a running container. Owns turning options or a process description into one, and the two ways of being looked after: by the caller, or by a supervisor
//! of its own, or the daemon, when detached.
//!
//! The facts a newcomer gets wrong: it has a listener of its own, so it needs the release too, and only the very one the container runs (07, S15); and descendants that outlive an
//! attached one can start nothing any more, because their listener went with the caller.

use super::create::{keep_only, leave, pid_file};
use crate::audit::Audit;
use crate::calls;
use crate::cli::Exec;
use crate::container::{Place, Session, Started};
use crate::describe;
use crate::failure::Failure;
use crate::hooks::Subject;
use crate::launch::{Home, Launch, Manner};
use crate::lockdown;
use crate::release::Release;
use crate::serve::{Kind, Running};
use crate::signals::Signals;
use crate::state::{Entry, Status};
use crate::streams::Diverted;
use crate::supervisor::Until;
use crate::terminal::{self, Foreground, Relay};
use crate::user::Database;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{ForkResult, Pid, fork};
use oci_spec::runtime::Process;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Starts it; the result is its exit code, or 0 once a detached one runs.
pub fn exec(options: &Exec, entry: &Entry, socket: &Path) -> Result<i32, Failure> {
    keep_only(options.handed.preserve_fds)?;
    match entry.status() {
        Status::Running | Status::Created => {}
        status => return Err(Failure::new(format!("exec in {}", entry.record.id), format!("the container is {status}"), "it must run")),
    }
    if options.calls {
        return calls::make(options, entry);
    }
    let mut audit = entry.record.release.audit(&entry.record.id)?;
    let release = Release::again(entry.record.release.clone(), &mut audit)?;
    let process = process(options, entry)?;
    let terminal = process.terminal() == Some(true);
    let mut spec = entry.record.spec.clone();
    spec.set_process(Some(process));
    let mut signals = Signals::take_over()?;
    let session = match (terminal, options.detach) {
        (true, _) => Session::Terminal,
        (false, true) => Session::Own,
        (false, false) => terminal::plan(),
    };
    signals.terminal_is_shared = session == Session::Shared;
    let daemon = if options.detach { Running::find(socket)? } else { None };
    let manner = Manner { tied: !options.detach, handed: daemon.is_some(), preserved_fds: options.handed.preserve_fds, strace: options.strace, ..Manner::default() };
    let subject = Subject { id: entry.record.id.clone(), bundle: entry.record.bundle.clone() };
    let place = Place::Of(Pid::from_raw(entry.record.init.pid));
    let home = Home { subject, place, cgroup: entry.record.cgroup.clone() };
    let mut launch = Launch::new(release, spec, home, &signals, manner)?;
    launch.container.session = session;
    // One in the background writes where its caller wants, who is gone then.
    let files = (!options.detach).then(|| Diverted::divert(&launch.container.spec)).transpose()?;
    let mut started = launch.start(&audit)?;
    if let Some(socket) = &options.handed.console_socket {
        let master = started.terminal.take().ok_or_else(|| Failure::new("--console-socket", "the process wants no terminal", "give it with --tty only"))?;
        send_terminal(socket, std::os::fd::AsFd::as_fd(&master))?;
    }
    pid_file(options.handed.pid_file.as_deref(), started.pid)?;
    match (daemon, files) {
        (Some(mut daemon), _) => {
            daemon.adopt(entry.root(), &entry.record.id, &started, launch.ring(), Kind::Further)?;
            started.go().map(|_| 0)
        }
        (None, None) => detached(options, entry, launch, started, &mut audit, &signals),
        (None, Some(files)) => attached(entry, launch, started, files, &mut audit, signals),
    }
}

fn attached(entry: &Entry, launch: Launch, mut started: Started, files: Diverted, audit: &mut Audit, mut signals: Signals) -> Result<i32, Failure> {
    let files = files.pump()?;
    let _terminal = (launch.container.session == Session::Foreground).then(|| Foreground::give(started.pid));
    let relay = started.terminal.take().map(Relay::new).transpose()?;
    signals.terminal = relay.as_ref().map(Relay::master).transpose()?;
    let code = launch.serve(started.go()?, &launch.journal(entry.root(), Until::End)?, audit, &signals)?;
    files.finish();
    if let Some(relay) = relay {
        relay.finish();
    }
    Ok(code.unwrap_or(255))
}

fn detached(options: &Exec, entry: &Entry, launch: Launch, started: Started, audit: &mut Audit, signals: &Signals) -> Result<i32, Failure> {
    // SAFETY: single-threaded; the child ends in `_exit`.
    match unsafe { fork() }.map_err(|e| Failure::new("start supervisor", e.desc(), ""))? {
        ForkResult::Parent { .. } => Ok(0),
        ForkResult::Child => {
            leave(options.handed.preserve_fds);
            let _ = launch.journal(entry.root(), Until::Nobody).and_then(|journal| launch.serve(started.go()?, &journal, audit, signals));
            // SAFETY: ends the process without the caller's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// From a file, or the container's own process with what the options change.
pub(crate) fn process(options: &Exec, entry: &Entry) -> Result<Process, Failure> {
    if let Some(file) = &options.process {
        let what = || format!("--process {}", file.display());
        let bytes = std::fs::read(file).map_err(|e| Failure::new(what(), e, "name a process description"))?;
        let mut process: Process = serde_json::from_slice(&bytes).map_err(|e| Failure::new(what(), e, "write it as runtime-spec says"))?;
        let mut env = process.env().clone().unwrap_or_default();
        describe::with_home(&mut env, &users(entry).home(process.user().uid()));
        process.set_env(Some(env));
        return Ok(process);
    }
    let mut process = entry.record.spec.process().clone().ok_or_else(|| Failure::new("exec", "the container has no process to be like", "use --process"))?;
    if options.command.is_empty() && !options.calls {
        return Err(Failure::new("exec", "names no program", "write it after the container, or use --process"));
    }
    process.set_args(Some(options.command.clone()));
    process.set_terminal(Some(options.tty));
    let mut env = process.env().clone().unwrap_or_default();
    options.env.iter().for_each(|e| describe::set(&mut env, e.clone()));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut uid = process.user().uid();
    if let Some(user) = &options.user {
        let found = users(entry).user(user)?;
        uid = found.uid;
        env.retain(|e| !e.starts_with("HOME="));
        describe::with_home(&mut env, &found.home);
        let user = process.user_mut();
        user.set_uid(found.uid).set_gid(found.gid).set_additional_gids(Some(found.groups));
    }
    if options.user.is_some() || !options.cap.is_empty() {
        // What the container was given, and no more: `--cap-drop` holds for whoever enters it.
        let held = process.capabilities().as_ref().and_then(|c| c.bounding().clone()).unwrap_or_default();
        let held: Vec<String> = held.iter().map(lockdown::capability_name).collect();
        let sets = describe::capabilities(&held, &options.cap, &[], uid)?;
        process.set_capabilities(serde_json::from_value(sets).ok());
    }
    process.set_env(Some(env));
    Ok(process)
}

fn users(entry: &Entry) -> Database {
    Database::of(Path::new(&format!("/proc/{}/root", entry.record.init.pid)))
}

/// Gives the caller the master side of a terminal, over the socket that it listens on (runc's docs/terminals.md).
pub(super) fn send_terminal(socket: &Path, master: BorrowedFd<'_>) -> Result<(), Failure> {
    let failure = |e: std::io::Error| Failure::new(format!("--console-socket {}", socket.display()), e, "listen there for the terminal");
    let stream = UnixStream::connect(socket).map_err(failure)?;
    let fds = [master.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"/dev/ptmx")], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop).map_err(|e| failure(e.into()))
}
