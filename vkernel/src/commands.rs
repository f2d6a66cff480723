//! `ps`, `inspect`, `logs`, `wait`, `stop` and `rm`: what an operator does with containers that run in the background. Owns waiting and what is printed.
//!
//! The fact a newcomer gets wrong: these commands ask nobody. They read records, look at processes, and send signals; a supervisor that hangs stops none of them.

use crate::cli::{Logs, Ps};
use crate::failure::Failure;
use crate::log::{self, FILE};
use crate::state::{self, Entry, Status};
use crate::{oci, sys, terminal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The containers of this host, or the processes of one.
pub fn ps(options: &Ps, root: &Path) -> Result<String, Failure> {
    match &options.container {
        Some(name) => Ok(processes(&Entry::find(root, name)?, options.format == "json")),
        None => Ok(containers(options, root)),
    }
}

/// As `runc ps` prints them: the numbers alone for programs.
fn processes(entry: &Entry, json: bool) -> String {
    let members = entry.record.cgroup.members();
    if json {
        return format!("{}\n", json!(members));
    }
    let command = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
        format!("{pid:<8} {}\n", terminal::harmless(&line))
    };
    members.iter().map(command).fold(format!("{:<8} COMMAND\n", "PID"), |text, line| text + &line)
}

fn containers(options: &Ps, root: &Path) -> String {
    let entries = shown(root, options.all);
    if options.quiet {
        return entries.iter().map(|e| format!("{}\n", e.record.id)).collect();
    }
    if options.format == "json" {
        return format!("{}\n", Value::from(entries.iter().map(row).collect::<Vec<_>>()));
    }
    let mut text = format!("{:<14} {:<10} {:<8} {:<28} {:<16} {:<10} COMMAND\n", "CONTAINER", "STATUS", "PID", "CREATED", "NAME", "POLICY");
    for e in &entries {
        let r = row(e);
        let word = |key: &str| r[key].as_str().map_or_else(|| r[key].to_string(), str::to_owned);
        let status = match &e.record.exit {
            Some(exit) if e.status() == Status::Stopped => format!("exit {}", exit.code),
            _ => word("status"),
        };
        let name = e.record.name.as_deref().unwrap_or("-");
        let policy = if e.record.release.permissive { "permissive" } else { "enforced" };
        text += &format!("{:<14.14} {status:<10} {:<8} {:<28} {name:<16} {policy:<10} {}\n", word("id"), word("pid"), word("created"), word("command"));
    }
    text
}

fn shown(root: &Path, all: bool) -> Vec<Entry> {
    state::all(root).into_iter().filter(|e| all || e.status() != Status::Stopped).collect()
}

/// The same for programs.
pub fn rows(root: &Path, all: bool) -> Vec<Value> {
    shown(root, all).iter().map(row).collect()
}

fn row(e: &Entry) -> Value {
    let status = e.status();
    let args = e.record.spec.process().as_ref().and_then(|p| p.args().clone()).unwrap_or_default();
    json!({
        "id": e.record.id, "name": e.record.name, "status": status, "pid": if status == Status::Stopped { 0 } else { e.record.init.pid }, "created": e.record.created,
        "command": args.join(" "), "exitCode": e.record.exit.as_ref().map(|x| x.code), "manifest": e.record.release.digest,
        "permissive": e.record.release.permissive,
        "ports": e.record.attachment.iter().flat_map(|a| &a.ports).map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Everything that is known of one, but for what it was told in its environment.
pub fn inspect(entry: &Entry) -> Value {
    let mut state = row(entry);
    let mut spec = serde_json::to_value(&entry.record.spec).unwrap_or_default();
    if let Some(env) = spec["process"]["env"].as_array_mut() {
        // Values are often secrets; names are enough to see what was set.
        env.iter_mut().for_each(|e| *e = e.as_str().unwrap_or_default().split('=').next().unwrap_or_default().into());
    }
    state["addresses"] = json!(entry.record.attachment.iter().flat_map(|a| a.addresses()).collect::<Vec<_>>());
    state["bundle"] = json!(entry.record.bundle);
    state["spec"] = spec;
    state["cgroup"] = json!(entry.record.cgroup);
    state["release"] = json!(entry.record.release.manifest);
    state["supervisor"] = json!(entry.record.supervisor.pid);
    state["oomKilled"] = json!(entry.record.exit.as_ref().is_some_and(|e| e.oom_killed));
    state["finished"] = json!(entry.record.exit.as_ref().map(|e| &e.at));
    state
}

/// What a detached container has written, each line to the stream that it was written to.
pub fn logs(options: &Logs, entry: &Entry) -> Result<(), Failure> {
    log_lines(options, entry, &mut |line| show(line, options.timestamps))
}

/// Each line as it stands in the log, without its end.
pub fn log_lines(options: &Logs, entry: &Entry, each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let path = entry.path(FILE);
    if !path.exists() {
        return Err(Failure::new(format!("logs of {}", entry.record.id), "there are none", "only containers of `vkernel run --detach` are logged"));
    }
    let mut text = std::fs::read(log::older(&path)).unwrap_or_default();
    text.extend(std::fs::read(&path).unwrap_or_default());
    let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    let skipped = options.tail.map_or(0, |n| lines.len().saturating_sub(n));
    lines[skipped..].iter().try_for_each(|line| each(line.strip_suffix(b"\n").unwrap_or(line)))?;
    if options.follow { follow(entry, &path, each) } else { Ok(()) }
}

/// What comes, until the container has ended and nothing more can come.
fn follow(entry: &Entry, path: &Path, each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut seen = std::fs::metadata(path).map_or(0, |m| m.len());
    loop {
        let ended = entry.again().is_none_or(|e| e.status() == Status::Stopped);
        let now = std::fs::read(path).unwrap_or_default();
        // A shorter one is a new file.
        let from = if (now.len() as u64) < seen { 0 } else { seen as usize };
        let whole = now.iter().rposition(|b| *b == b'\n').map_or(from, |n| n + 1);
        now[from..whole.max(from)].split_inclusive(|b| *b == b'\n').try_for_each(|line| each(line.strip_suffix(b"\n").unwrap_or(line)))?;
        seen = whole.max(from) as u64;
        if ended {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn show(line: &[u8], timestamps: bool) -> Result<(), Failure> {
    let Some((time, stream, whole, text)) = log::parse(line) else { return Ok(()) };
    let mut out = if timestamps { format!("{time} ").into_bytes() } else { Vec::new() };
    out.extend_from_slice(text);
    if whole {
        out.push(b'\n');
    }
    let written = if stream == "stderr" { std::io::stderr().write_all(&out) } else { std::io::stdout().write_all(&out) };
    match written {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new("standard output", e, "")),
        _ => Ok(()),
    }
}

/// Waits until init is gone, or until the time is over; whether it is gone.
fn gone_within(entry: &Entry, limit: Option<Duration>) -> bool {
    let Some(init) = entry.record.init.open() else { return true };
    let begun = Instant::now();
    loop {
        let left = limit.map(|l| l.saturating_sub(begun.elapsed()));
        let timeout = left.map_or(PollTimeout::NONE, |l| PollTimeout::try_from(l).unwrap_or(PollTimeout::MAX));
        match poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if limit.is_some_and(|l| begun.elapsed() >= l) => return false,
            Ok(0) | Err(nix::Error::EINTR) => {}
            _ => return true,
        }
    }
}

/// Waits for the end; the exit code, or 255 if nobody knows it: init was not our supervisor's child.
pub fn wait(entry: &Entry) -> i32 {
    // A container that is to be forgotten takes its record along; this file is open by then.
    let code = std::fs::File::open(entry.path(state::EXIT));
    gone_within(entry, None);
    // Its supervisor writes the code down a moment later, or forgets the container.
    let limit = Instant::now() + Duration::from_secs(5);
    let mut last = entry.clone();
    while let Some(now) = entry.again() {
        last = now;
        if last.record.exit.is_some() || !last.record.supervisor.is_alive() || Instant::now() > limit {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let written = || code.ok().and_then(|file| std::io::read_to_string(file).ok()).and_then(|text| text.parse().ok());
    last.record.exit.map(|exit| exit.code).or_else(written).unwrap_or(255)
}

/// The stop signal first; then, when the time is over, the end.
pub fn stop(entry: &Entry, seconds: u32) -> Result<(), Failure> {
    if entry.status() == Status::Stopped {
        return Ok(());
    }
    if entry.status() == Status::Paused {
        oci::freeze(entry, false)?;
    }
    if let Some(init) = entry.record.init.open() {
        let _ = sys::pidfd_send_signal(init.as_fd(), entry.record.stop_signal);
        if !gone_within(entry, Some(Duration::from_secs(seconds.into()))) {
            let _ = sys::pidfd_send_signal(init.as_fd(), libc::SIGKILL);
            gone_within(entry, Some(Duration::from_secs(10)));
        }
    }
    wait(entry);
    Ok(())
}

/// `rm`: as `delete`, and the supervisor has time to end first.
pub fn rm(entry: &Entry, force: bool, log: &oci::Log) -> Result<(), Failure> {
    if force && entry.status() != Status::Stopped {
        let _ = oci::kill(entry, libc::SIGKILL, false);
        wait(entry);
    }
    match entry.again() {
        Some(entry) => oci::delete(entry, force, log),
        // Forgotten by itself.
        None => Ok(()),
    }
}
