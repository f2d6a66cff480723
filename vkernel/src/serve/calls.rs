//! `syscall` requests: who asks for what, whether that is allowed on this host, and how long it may take. Owns the record of each, written before anything is called, and the life of the command that makes the calls.
//!
//! The fact a newcomer gets wrong: it is off unless serve.toml says otherwise. Whoever may use the socket is root and could do worse, but not in a way that a release's lists bound and a log tells.

use super::connection::Connection;
use super::{Daemon, again};
use crate::audit::{Decision, Event, Record};
use crate::calls::plan::{self, Plan};
use crate::calls::{self, Order};
use crate::failure::Failure;
use crate::state::Entry;
use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::process::Child;
use std::time::{Duration, Instant};
use vkernel_client::{Invocation, Reply, Request};

/// What starting and ending may take besides the calls.
const START: Duration = Duration::from_secs(30);

/// Why nothing is called: a code for the log, and the answer.
type Refusal = (&'static str, Result<Reply, Failure>);

/// A `syscall` request, from its words to its answer.
pub(super) fn answer(daemon: &Daemon, connection: &Connection, request: Request) -> Result<Reply, Failure> {
    let Request::Syscall { container, name, args, calls, keep_going, program, user, cwd, seconds } = request else {
        return Err(failure("this is another request"));
    };
    let seconds = seconds.unwrap_or(plan::USUAL_SECONDS);
    let found = Entry::find(&daemon.root, &container);
    let calls = one_or_several(name, args, calls);
    let refusal = refused(daemon, &found, &calls, program.as_deref(), seconds);
    let audit = match &found {
        Ok(entry) => daemon.audit_of(entry),
        // Its name is all that is known of it.
        Err(_) => daemon.own_audit(&plan::shown(&container)).map(|audit| audit.tapped(daemon.events.clone())),
    };
    let mut record = match &refusal {
        Some((reason, _)) => Record::new(Event::SyscallRequest, Decision::Denied, *reason),
        None => Record::new(Event::SyscallRequest, Decision::Allowed, "asked"),
    };
    let (uid, pid) = connection.peer();
    record.pid = pid;
    record.detail = Some(told(uid, user.as_deref(), program.as_deref(), calls.as_deref().unwrap_or_default()));
    // What cannot be told is not done.
    audit?.write(record);
    if let Some((_, answer)) = refusal {
        return answer;
    }
    let (entry, calls) = (found?, calls.map_err(failure)?);
    let order = Order { calls, keep_going, program, seconds, audit: daemon.settings().file.audit.clone() };
    let options = [("--user", user), ("--cwd", cwd)];
    let options = options.into_iter().filter_map(|(option, value)| value.map(|v| format!("{option}={v}"))).collect();
    let (child, mut files) = start(daemon, &entry, &order, options).map_err(failure)?;
    let done = attend(child, connection, Duration::from_secs(seconds.into()) + START)?;
    let mut text = |n: usize| -> std::io::Result<String> {
        let mut text = Vec::new();
        files[n].rewind()?;
        files[n].read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let (out, said) = (text(0).map_err(failure)?, text(1).map_err(failure)?);
    if !done {
        // The command says what it found wrong in its last line; before it there may be warnings.
        let last = said.lines().last().unwrap_or_default();
        return Err(failure(last.trim_start_matches("vkernel: ").trim_start_matches("syscall: ")));
    }
    let result: Value = serde_json::from_str(&out).map_err(failure)?;
    Ok(Reply::Ok { entry_point: None, result })
}

fn failure(why: impl std::fmt::Display) -> Failure {
    Failure::new("syscall", why, "")
}

fn one_or_several(name: Option<String>, args: Vec<vkernel_client::Argument>, calls: Vec<Invocation>) -> Result<Vec<Invocation>, String> {
    match name {
        Some(name) if calls.is_empty() => Ok(vec![Invocation { name, args }]),
        None if args.is_empty() => Ok(calls),
        _ => Err("has one call (name and args) and several (calls): write either".into()),
    }
}

fn refused(daemon: &Daemon, found: &Result<Entry, Failure>, asked: &Result<Vec<Invocation>, String>, program: Option<&str>, seconds: u32) -> Option<Refusal> {
    if !daemon.settings().file.syscall_requests {
        let failure = Failure::new("syscall", "such requests are not allowed on this host", "set syscall_requests = true in serve.toml and reload it, see vkernel-serve(8)");
        return Some(("requests-off", Err(failure)));
    }
    let entry = match found {
        Ok(entry) => entry,
        Err(failure) => return Some(("no-container", Err(failure.clone()))),
    };
    let denied = |reason: &'static str| Some((reason, Ok(Reply::Denied { reason: reason.into() })));
    let policy = match daemon.find(entry) {
        Some(served) => Ok(served.policy()),
        None => daemon.policies.get(&entry.record.release, &daemon.settings()).map(Some),
    };
    let policy = match policy {
        Ok(Some(policy)) => policy,
        Ok(None) => return denied("release-revoked"),
        Err(failure) => return Some(("release-revoked", Err(failure))),
    };
    match program.map(|name| calls::program(&policy, name).map(|(digest, binary)| policy::decide_exec(&policy, digest, binary.size))) {
        None | Some(Ok(policy::Decision::Allow { .. })) => {}
        Some(Ok(policy::Decision::Refuse(reason))) => return denied(reason.code()),
        Some(Err(failure)) => return Some(("bad-calls", Err(failure))),
    }
    let checked = asked.as_ref().map_err(Clone::clone).and_then(|calls| Plan::of(calls).map(drop));
    let wrong = checked.err().or_else(|| (!(1..=plan::MOST_SECONDS).contains(&seconds)).then(|| format!("wants {seconds} seconds; 1 to {} can be had", plan::MOST_SECONDS)))?;
    Some(("bad-calls", Err(Failure::new("syscall", wrong, "see vkernel-api(7)"))))
}

/// Who, as whom, what: for the log, which is not to grow with what a client makes up.
fn told(uid: Option<u32>, user: Option<&str>, program: Option<&str>, calls: &[Invocation]) -> String {
    let mut text = uid.map_or_else(|| "somebody".into(), |uid| format!("uid {uid}"));
    for (word, value) in [("user", user), ("as", program)] {
        if let Some(value) = value {
            text.push_str(&format!(", {word} {}", value.chars().take(256).flat_map(char::escape_default).collect::<String>()));
        }
    }
    let names: Vec<String> = calls.iter().take(plan::MOST_CALLS).map(|c| plan::shown(&c.name)).collect();
    let more = if calls.len() > names.len() { format!(" and {} more", calls.len() - names.len()) } else { String::new() };
    format!("{text}: {}{more}", names.join(", "))
}

/// Executes `vkernel exec --calls`; its output goes to files in memory, so that nothing it writes can make it wait.
fn start(daemon: &Daemon, entry: &Entry, order: &Order, options: Vec<String>) -> std::io::Result<(Child, [File; 2])> {
    let file = || sys::memfd(c"vkernel-calls").map(File::from);
    let (asked, files) = (sys::memory_file(c"vkernel-calls", &serde_json::to_vec(order)?)?, [file()?, file()?]);
    // With the thread that waits for it: nobody else knows its client, or its time.
    let mut child = again(daemon.descriptors, || sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map(drop));
    child.arg("--root").arg(&daemon.root).arg("--socket").arg(&daemon.socket).args(["exec", "--calls"]).args(options).arg("--").arg(&entry.record.id);
    child.stdin(asked).stdout(files[0].try_clone()?).stderr(files[1].try_clone()?);
    Ok((child.spawn()?, files))
}

/// Waits for the command's end, the client's, or that of its time; whether it did what it was to do. Killed, it takes the process in the container with it.
fn attend(mut child: Child, connection: &Connection, limit: Duration) -> Result<bool, Failure> {
    let watched = watch(&child, connection, Instant::now() + limit);
    if watched.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(failure);
    watched?;
    Ok(status?.success())
}

fn watch(child: &Child, connection: &Connection, limit: Instant) -> Result<(), Failure> {
    let pidfd = sys::pidfd_open(child.id(), 0).map_err(failure)?;
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(connection.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return Err(failure("its time has passed before the calls could be made, or their process could not be ended: is the container frozen?")),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(failure(e.desc())),
        }
        let is = |i: usize, what: PollFlags| fds[i].revents().is_some_and(|r| r.intersects(what));
        if is(0, PollFlags::POLLIN) {
            return Ok(());
        }
        if is(1, PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Err(failure("the client has gone"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_form_and_its_record_is_bounded() {
        let call = || Invocation::new("getpid", []);
        assert_eq!(one_or_several(Some("getpid".into()), vec![], vec![]), Ok(vec![call()]));
        assert_eq!(one_or_several(None, vec![], vec![call(), call()]).map(|c| c.len()), Ok(2));
        assert!(one_or_several(Some("getpid".into()), vec![], vec![call()]).is_err() && one_or_several(None, vec![1.into()], vec![call()]).is_err());
        assert_eq!(told(Some(0), Some("a:b"), None, &[call(), Invocation::new("x\n", [])]), "uid 0, user a:b: getpid, x\\n");
        let many = vec![Invocation::new(&"x".repeat(1000), []); 5000];
        let text = told(None, None, Some(&"y".repeat(100_000)), &many);
        assert!(text.len() < 8192 && text.ends_with(" and 4936 more"), "{}", text.len());
    }
}
