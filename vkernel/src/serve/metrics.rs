//! Metrics for Prometheus: its text format over HTTP, on a TCP address or a UNIX socket. Owns names, help texts and the listener; the numbers are `tally`'s and the control groups'.
//!
//! The fact a newcomer gets wrong: nothing but `GET /metrics` is understood, one client at a time, each for two seconds at most. It says how much containers do, not what, and nothing can be
//! asked for by it; yet who can reach a TCP address is the administrator's to decide, so there is none by default.

use super::{Daemon, locked, tally};
use crate::failure::Failure;
use crate::state::Entry;
use crate::supervisor::Until;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PATIENCE: Option<Duration> = Some(Duration::from_secs(2));
const LARGEST_REQUEST_BYTES: u64 = 8 << 10;

/// Begins to answer, in a thread of its own.
pub(super) fn listen(daemon: &Arc<Daemon>, at: &str) -> Result<(), Failure> {
    let failure = |e: io::Error| Failure::new(format!("metrics at {at}"), e, "name a free HOST:PORT, or the path of a socket, in serve.toml");
    let daemon = daemon.clone();
    let work: Box<dyn FnOnce() + Send> = if at.starts_with('/') {
        let _ = std::fs::remove_file(at);
        let listener = UnixListener::bind(at).map_err(failure)?;
        Box::new(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(PATIENCE).and_then(|()| stream.set_write_timeout(PATIENCE)).and_then(|()| answer(&daemon, &stream, &stream));
            }
        })
    } else {
        let listener = TcpListener::bind(at).map_err(failure)?;
        Box::new(move || {
            for stream in listener.incoming().flatten() {
                let _ = stream.set_read_timeout(PATIENCE).and_then(|()| stream.set_write_timeout(PATIENCE)).and_then(|()| answer(&daemon, &stream, &stream));
            }
        })
    };
    std::thread::Builder::new().name("metrics".into()).stack_size(256 << 10).spawn(work).map(drop).map_err(failure)
}

fn answer(daemon: &Daemon, from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut lines = BufReader::new(from.take(LARGEST_REQUEST_BYTES)).lines();
    let request = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    // What a client says of itself is read, so that it is not cut off, and not looked at.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
        ["GET", "/metrics", ..] => ("200 OK", text(daemon)),
        _ => ("404 Not Found", "GET /metrics\n".to_owned()),
    };
    write!(to, "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn text(daemon: &Daemon) -> String {
    let tally = &daemon.tally;
    let served: Vec<_> = locked(&daemon.served).values().filter(|s| s.until == Until::End).cloned().collect();
    let mut out = String::new();
    family(&mut out, "vkernel_execs_allowed_total", "counter", "Requests to run or map a file that were allowed.", [(String::new(), tally.allowed.load(Ordering::Relaxed))]);
    let refused = tally.refused().into_iter().map(|(reason, n)| (label("reason", &reason), n));
    family(&mut out, "vkernel_execs_refused_total", "counter", "Requests to run or map a file that were refused.", refused);
    family(&mut out, "vkernel_hash_cache_hits_total", "counter", "Decisions for which no file had to be read.", [(String::new(), tally.hits.load(Ordering::Relaxed))]);
    let (counts, seconds) = tally.latencies();
    let name = "vkernel_decision_seconds";
    let _ = writeln!(out, "# HELP {name} Time from receiving a request to its decision.\n# TYPE {name} histogram");
    let bounds = tally::BOUNDS_US.iter().map(|us| (f64::from(*us) / 1e6).to_string()).chain(["+Inf".to_owned()]);
    let mut so_far = 0;
    for (bound, count) in bounds.zip(&counts) {
        so_far += count;
        let _ = writeln!(out, "{name}_bucket{} {so_far}", label("le", &bound));
    }
    let _ = writeln!(out, "{name}_sum {seconds}\n{name}_count {so_far}");
    family(&mut out, "vkernel_containers", "gauge", "Containers that the daemon serves.", [(String::new(), served.len() as u64)]);
    let permissive = served.iter().filter_map(|s| Entry::named(&s.root, &s.id).ok()).filter(|e| e.record.release.permissive).count();
    family(&mut out, "vkernel_containers_permissive", "gauge", "Containers whose lists of system calls are not enforced.", [(String::new(), permissive as u64)]);
    family(&mut out, "vkernel_clients", "gauge", "Connections to the daemon's socket.", [(String::new(), daemon.clients.load(Ordering::Relaxed) as u64)]);
    let usage: Vec<_> = served.iter().filter_map(|s| Entry::named(&s.root, &s.id).ok()).map(|e| (label("container", &e.record.id), e.record.cgroup.usage())).collect();
    for (name, member, help) in [
        ("vkernel_container_memory_bytes", "memory_bytes", "Memory in use by a container."),
        ("vkernel_container_processes", "processes", "Processes of a container."),
        ("vkernel_container_out_of_memory_kills", "out_of_memory_kills", "Processes of a container that the kernel killed for want of memory."),
    ] {
        family(&mut out, name, "gauge", help, usage.iter().filter_map(|(labels, usage)| Some((labels.clone(), usage[member].as_u64()?))));
    }
    out
}

fn family(out: &mut String, name: &str, kind: &str, help: &str, values: impl IntoIterator<Item = (String, u64)>) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

/// Values are ids and reason codes, but whoever made a container's id is not asked to know this format.
fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{}\"}}", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_families_begin_with_their_kind() {
        let mut out = String::new();
        family(&mut out, "x_total", "counter", "Help.", [(label("a", "b\"\\\n"), 3)]);
        assert_eq!(out, "# HELP x_total Help.\n# TYPE x_total counter\nx_total{a=\"b\\\"\\\\\\n\"} 3\n");
    }
}
