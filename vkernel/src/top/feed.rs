//! What a daemon says while it happens: counts per container, and the last refusals. Owns the connection and that it is made again; also `vkernel events`, which prints the same.
//!
//! The fact a newcomer gets wrong: paths come from guests, and a terminal obeys what is written to it. Nothing of a guest's is shown with its control characters.

use crate::cli::watch::Events;
use crate::failure::Failure;
use crate::state::Entry;
use crate::terminal;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vkernel_client::{Client, Error, Request};

/// Refusals that are kept for the screen.
const KEPT: usize = 200;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub execs: u64,
    pub denials: u64,
}

#[derive(Default)]
struct Seen {
    connected: bool,
    counts: BTreeMap<String, Counts>,
    recent: VecDeque<String>,
}

impl Seen {
    fn take(&mut self, event: &Value) {
        if let Some(missed) = event["missed"].as_u64() {
            return self.keep(format!("{missed} records were missed"));
        }
        let counts = self.counts.entry(event["container"].as_str().unwrap_or_default().to_owned()).or_default();
        counts.execs += u64::from(event["event"] == "exec" && event["decision"] == "allowed");
        if event["decision"] == "denied" {
            counts.denials += 1;
            self.keep(line(event));
        }
    }

    fn keep(&mut self, text: String) {
        self.recent.push_front(text);
        self.recent.truncate(KEPT);
    }
}

/// Followed in a thread of its own until the process ends.
pub struct Feed(Arc<Mutex<Seen>>);

impl Feed {
    pub fn follow(socket: &Path) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shared, socket) = (seen.clone(), PathBuf::from(socket));
        let work = move || {
            loop {
                let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(mut client) = Client::connect(&socket) {
                    lock().connected = true;
                    let _ = client.stream(&Request::Events { container: None }, |event| {
                        lock().take(&event);
                        true
                    });
                    lock().connected = false;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        };
        // Without it there are no counts, as without a daemon.
        let _ = std::thread::Builder::new().name("events".into()).spawn(work);
        Self(seen)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_connected(&self) -> bool {
        self.seen().connected
    }

    pub fn wait_until_connected(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.is_connected() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn counts(&self) -> BTreeMap<String, Counts> {
        self.seen().counts.clone()
    }

    /// The newest first.
    pub fn recent(&self) -> Vec<String> {
        self.seen().recent.iter().cloned().collect()
    }
}

/// An audit record in a line, without a character that a terminal would obey.
pub fn line(event: &Value) -> String {
    let word = |key: &str| event[key].as_str().unwrap_or_default();
    let time = word("time").split('T').nth(1).and_then(|t| t.split('.').next()).unwrap_or_default();
    let parts = [time, word("container"), word("event"), word("decision"), word("reason"), word("path"), word("detail")];
    let text = parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" ");
    terminal::harmless(&text)
}

/// `vkernel events`: until somebody ends it, or the reader goes.
pub fn events(options: &Events, root: &Path, socket: &Path) -> Result<(), Failure> {
    let container = options.container.as_deref().map(|name| Entry::find(root, name)).transpose()?.map(|e| e.record.id);
    let nobody = |e: std::io::Error| Failure::new(format!("daemon at {}", socket.display()), e, "start `vkernel serve`, or follow the file of --audit");
    let mut client = Client::connect(socket).map_err(nobody)?;
    let done = client.stream(&Request::Events { container }, |event| {
        let wanted = !options.denied || event["decision"] == "denied" || event.get("missed").is_some();
        let text = match (options.json, event["missed"].as_u64()) {
            (true, _) => event.to_string(),
            (false, Some(missed)) => format!("{missed} records were missed"),
            (false, None) => line(&event),
        };
        !wanted || writeln!(std::io::stdout(), "{text}").is_ok()
    });
    match done {
        Ok(()) => Ok(()),
        Err(Error::Io(e)) => Err(nobody(e)),
        Err(e) => Err(Failure::new("vkernel events", e, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn execs_and_refusals_are_counted_per_container_and_nothing_of_a_guest_moves_the_cursor() {
        let mut seen = Seen::default();
        let event = |container: &str, event: &str, decision: &str| json!({"time": "2026-01-01T10:20:30.123456Z", "container": container, "event": event, "decision": decision, "reason": "r", "path": "/a\u{1b}[2Jb"});
        for (c, e, d) in [("a", "exec", "allowed"), ("a", "exec", "denied"), ("a", "library", "allowed"), ("b", "syscall", "denied")] {
            seen.take(&event(c, e, d));
        }
        seen.take(&json!({"missed": 4}));
        assert_eq!((seen.counts["a"], seen.counts["b"]), (Counts { execs: 1, denials: 1 }, Counts { execs: 0, denials: 1 }));
        assert_eq!(seen.recent, ["4 records were missed", "10:20:30 b syscall denied r /a\u{fffd}[2Jb", "10:20:30 a exec denied r /a\u{fffd}[2Jb"]);
    }
}
