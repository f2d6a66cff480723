//! Requests to answers. Owns which command answers which request; what a command does is that command's.
//!
//! The fact a newcomer gets wrong: nothing here acts inside a container. What starts there starts through the command line, locked down like anything else (07, S25).

use super::calls;
use super::connection::Connection;
use super::lines::Line;
use super::zygotes::Zygotes;
use super::{Daemon, GLANCE, again, locked};
use crate::cli::{Cli, Command, Logs};
use crate::decide::Decider;
use crate::failure::Failure;
use crate::state::Entry;
use crate::supervisor::Until;
use crate::{commands, describe, log, oci, sys};
use clap::Parser;
use policy::{Decision, Digest, Verified};
use serde_json::{Value, json};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vkernel_client::{Call, LARGEST_LINE_BYTES, Reply, Request};

/// A failure in the socket's words.
pub(crate) fn error(failure: &Failure) -> Reply {
    Reply::Error { what: failure.what.clone(), why: failure.why.clone(), advice: failure.advice.clone() }
}

fn ok(result: Value) -> Reply {
    Reply::Ok { entry_point: None, result }
}

/// Answers one client until it goes.
pub(super) fn talk(daemon: &Arc<Daemon>, connection: &mut Connection) -> std::io::Result<()> {
    while let Some(line) = connection.line()? {
        let fds = connection.take_fds();
        let bad = |why: &str| error(&Failure::new("request", why, "see vkernel-api(7)"));
        let (id, reply) = match line {
            Line::TooLong => (None, bad(&format!("is longer than {LARGEST_LINE_BYTES} bytes"))),
            Line::Whole(bytes) => match Call::parse(&bytes) {
                Err((id, why)) => (id, bad(&why)),
                // From now on a container answers.
                Ok(Call { id, request: Request::Take { wish } }) => match hand_over(daemon, connection, id.as_ref(), wish) {
                    Ok(()) => return Ok(()),
                    Err(failure) => (id, error(&failure)),
                },
                Ok(Call { id, request }) => {
                    let reply = answer(daemon, connection, id.as_ref(), request, fds);
                    (id, reply.unwrap_or_else(|failure| error(&failure)))
                }
            },
        };
        connection.answer(id.as_ref(), reply)?;
    }
    Ok(())
}

/// What the client means, and its streams, are asked for when they are of use: as long as streams lay here, who reads what the client writes would wait for this daemon.
fn hand_over(daemon: &Arc<Daemon>, connection: &mut Connection, id: Option<&Value>, wish: Value) -> Result<(), Failure> {
    let settings = daemon.settings();
    let understood = daemon.zygotes.understood(&settings, wish)?;
    let lost = |e: std::io::Error| Failure::new("client", e, "");
    connection.answer(id, Reply::Event { event: json!(understood.wanted) }).map_err(lost)?;
    let told = connection.line().map_err(lost)?;
    let streams = connection.take_fds();
    let wish = Zygotes::meant(understood, told)?;
    daemon.zygotes.take(&settings, daemon.descriptors, &wish, connection.as_fd(), streams)
}

/// The last answer; those before it are written here.
fn answer(daemon: &Arc<Daemon>, connection: &mut Connection, id: Option<&Value>, request: Request, fds: Vec<OwnedFd>) -> Result<Reply, Failure> {
    let find = |name: &str| Entry::find(&daemon.root, name);
    let nothing = |result: Result<(), Failure>| result.map(|()| ok(Value::Null));
    match request {
        Request::Exec { container, path, hash, size, library } => decision(daemon, &find(&container)?, path.as_deref(), hash.as_deref(), size, library),
        Request::Syscall { .. } => calls::answer(daemon, connection, request),
        Request::Run { manifest, options, command } => run(daemon, &manifest, options, &command).map(ok),
        Request::Ps { all } => Ok(ok(commands::rows(&daemon.root, all).into())),
        Request::Inspect { container } => {
            let entry = find(&container)?;
            let mut told = commands::inspect(&entry);
            told["daemon"] = daemon.find(&entry).is_some().into();
            Ok(ok(told))
        }
        Request::Wait { container } => Ok(ok(commands::wait(&find(&container)?).into())),
        Request::Start { container } => nothing(oci::start(&find(&container)?, &oci::Log::default())),
        Request::Kill { container, signal, all } => nothing(oci::kill(&find(&container)?, describe::signal(signal.as_deref().unwrap_or("SIGTERM"))?, all)),
        Request::Stop { container, seconds } => nothing(commands::stop(&find(&container)?, seconds.unwrap_or(10))),
        Request::Rm { container, force } => nothing(commands::rm(&find(&container)?, force, &oci::Log::default())),
        Request::Logs { container, tail, follow } => {
            let options = Logs { follow, timestamps: false, tail, container };
            commands::log_lines(&options, &find(&options.container)?, &mut |line| {
                let Some((time, stream, whole, text)) = log::parse(line) else { return Ok(()) };
                let event = json!({"time": time, "stream": stream, "whole": whole, "text": String::from_utf8_lossy(text)});
                connection.answer(id, Reply::Event { event }).map_err(|e| Failure::new("client", e, ""))
            })?;
            Ok(ok(Value::Null))
        }
        Request::Stats { container } => {
            let entry = find(&container)?;
            Ok(ok(entry.record.cgroup.usage()))
        }
        Request::Events { container } => {
            let subscription = daemon.events.subscribe();
            while !connection.is_closed() {
                let Some(event) = subscription.next(GLANCE) else { continue };
                let wanted = container.as_ref().is_none_or(|c| event["container"] == **c || event.get("missed").is_some());
                if wanted {
                    connection.answer(id, Reply::Event { event }).map_err(|e| Failure::new("client", e, ""))?;
                }
            }
            Ok(ok(Value::Null))
        }
        Request::Reload => daemon.reload().map(|told| ok(told.into())),
        Request::Status => Ok(ok(status(daemon))),
        Request::Adopt { container, root, waits, further } => {
            daemon.adopt(Path::new(&root), &container, fds, waits, further)?;
            Ok(ok(json!({"pid": std::process::id()})))
        }
        Request::Take { .. } => unreachable!("`talk` answers it"),
        Request::Go { container, root } => {
            let entry = Entry::named(Path::new(&root), &container)?;
            let served = daemon.find(&entry).ok_or_else(|| Failure::new(format!("start {container}"), "this daemon does not serve it", "delete it with --force"))?;
            nothing(served.go(daemon))
        }
    }
}

fn status(daemon: &Daemon) -> Value {
    let (latencies, seconds) = daemon.tally.latencies();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "clients": daemon.clients.load(Ordering::Relaxed),
        "containers": locked(&daemon.served).values().filter(|s| s.until == Until::End).map(|s| s.id.clone()).collect::<Vec<_>>(),
        "processes": locked(&daemon.served).len(),
        "zygotes": daemon.zygotes.status(),
        "allowed": daemon.tally.allowed.load(Ordering::Relaxed),
        "refused": daemon.tally.refused(),
        "latency": {"bounds_us": super::tally::BOUNDS_US, "counts": latencies, "sum_seconds": seconds},
    })
}

/// Through the command line, as anybody else: its checks, its errors, its locked-down worker.
fn run(daemon: &Daemon, manifest: &str, options: Vec<String>, command: &[String]) -> Result<Value, Failure> {
    let options: Vec<String> = options.into_iter().filter(|o| o != "--detach" && o != "-d").collect();
    let words: Vec<&str> =
        ["vkernel", "run", "--detach"].into_iter().chain(options.iter().map(String::as_str)).chain([manifest, "--"]).chain(command.iter().map(String::as_str)).collect();
    let wrong = |why: &str| Failure::new("run", why, "see `vkernel run --help`");
    let parsed = Cli::try_parse_from(&words).map_err(|e| wrong(e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ")))?;
    // An option that swallowed the manifest, or the mark before the program, would run something else.
    let as_meant = matches!(&parsed.command, Command::Run(r) if r.life.detach && r.manifest == Path::new(manifest) && r.command == command);
    if !as_meant || command.is_empty() {
        return Err(wrong("the options do not leave manifest and command what they are"));
    }
    let mut child = again(daemon.descriptors, || Ok(()));
    child.arg("--root").arg(&daemon.root).arg("--socket").arg(&daemon.socket).args(&words[1..]).stdin(Stdio::null());
    let out = child.output().map_err(|e| wrong(&e.to_string()))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(Failure::new("run", said.trim().trim_start_matches("vkernel: "), ""));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().into())
}

/// What an exec would be answered.
fn decision(daemon: &Daemon, entry: &Entry, path: Option<&str>, hash: Option<&str>, size: Option<u64>, library: bool) -> Result<Reply, Failure> {
    let served = daemon.find(entry);
    let policy = match &served {
        Some(served) => served.policy(),
        None => Some(daemon.policies.get(&entry.record.release, &daemon.settings())?),
    };
    let Some(policy) = policy else { return Ok(Reply::Denied { reason: "release-revoked".into() }) };
    let denied = |reason: &str| Reply::Denied { reason: reason.to_owned() };
    if let Some(hash) = hash {
        let digest: Digest = hash.parse().map_err(|e| Failure::new(format!("hash {hash}"), e, "write blake3:… or sha256:… and 64 hexadecimal digits"))?;
        let size = size.or_else(|| listed_size(&policy, &digest)).unwrap_or(0);
        let decided = if library { policy::decide_library(&policy, &digest, size) } else { policy::decide_exec(&policy, &digest, size) };
        return Ok(match decided {
            Decision::Allow { entry } => Reply::Ok { entry_point: Some(entry), result: Value::Null },
            Decision::Refuse(reason) => denied(reason.code()),
        });
    }
    let path = path.ok_or_else(|| Failure::new("exec", "names neither a hash nor a path", "see vkernel-api(7)"))?;
    let failure = |e: std::io::Error| Failure::new(format!("{path} in container {}", entry.record.id), e, "name a file that it has");
    let root: OwnedFd = match &served {
        Some(served) => served.root_directory().map_err(failure)?,
        None => std::fs::File::open(format!("/proc/{}/root", entry.record.init.pid)).map_err(failure)?.into(),
    };
    let name = CString::new(path).map_err(|e| failure(e.into()))?;
    let file = sys::open_in_root(root.as_fd(), &name, libc::O_PATH).map_err(failure)?;
    let mut decider = Decider::new(policy, root, std::time::UNIX_EPOCH);
    let verdict = if library { decider.library(file.as_fd()) } else { decider.program(file.as_fd(), false) };
    Ok(match verdict.result {
        Ok(grant) => Reply::Ok { entry_point: Some(grant.entry), result: Value::Null },
        Err(refusal) => denied(refusal.reason),
    })
}

fn listed_size(policy: &Verified, digest: &Digest) -> Option<u64> {
    let m = policy.manifest();
    let binary = m.binaries.get(digest).map(|b| b.size);
    binary.or_else(|| m.libraries.get(digest).map(|l| l.size)).or_else(|| m.scripts.get(digest).map(|s| s.size))
}
