//! The audit log: one JSON line per decision. Owns the event's shape and what is told of lost ones; decides nothing and never blocks a guest, because every
//! record is written after the answer has been sent. What is to be written stands in the journal before (07, S19).
//!
//! The fact a newcomer gets wrong: fields such as `path` come from the guest and may be lies; `hash` is what the supervisor itself computed.

mod journald;
mod sink;

pub use sink::Destination;

use serde::Serialize;
use sink::Sink;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What happened.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    PolicyLoad,
    SignatureFailure,
    ContainerStart,
    ContainerStop,
    Exec,
    Library,
    /// An exec that is no request of the runtime: a native process, or a worker that was taken over.
    NativeExec,
    /// A system call the binary's list does not name, or one that is recorded; reported by the worker itself.
    Syscall,
    /// The kernel killed processes of the container for want of memory.
    OutOfMemory,
    /// Something else a worker reports about its guest.
    Guest,
    /// Records that did not fit into the workers' ring.
    Dropped,
    /// The daemon began, ended, or took containers over.
    Daemon,
    /// Somebody asked the daemon for system calls in a container.
    SyscallRequest,
}

#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Allowed,
    Denied,
    /// Nothing was decided: start, stop, counters.
    Noted,
}

/// One line. Empty fields are left out.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub time: String,
    pub container: String,
    pub event: Event,
    pub decision: Decision,
    /// A stable code, see vkernel(1).
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Number of a system call; its name is the detail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nr: Option<u32>,
    /// Names of variables that the program did not get.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stripped: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<f64>,
    /// The record was made by a worker, which may be compromised.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_worker: bool,
}

impl Record {
    pub fn new(event: Event, decision: Decision, reason: impl Into<String>) -> Self {
        Self {
            time: String::new(),
            container: String::new(),
            event,
            decision,
            reason: reason.into(),
            pid: None,
            hash: None,
            path: None,
            detail: None,
            nr: None,
            stripped: Vec::new(),
            latency_us: None,
            from_worker: false,
        }
    }

    pub fn latency(mut self, since: std::time::Instant) -> Self {
        self.latency_us = Some((since.elapsed().as_nanos() as f64 / 100.0).round() / 10.0);
        self
    }
}

/// Somebody who wants to see records as they are written, besides the file.
pub trait Tap: Send + Sync {
    /// Whether anybody looks just now: nothing is made up for nobody.
    fn is_wanted(&self) -> bool;
    fn pass(&self, line: &[u8]);
}

/// Where records go.
pub struct Audit {
    container: String,
    sink: Option<Sink>,
    tap: Option<Arc<dyn Tap>>,
    /// Records that could not be written; reported when writing works again, or at the end to whoever started the container.
    lost: u64,
}

impl Audit {
    /// Appends to what is there; without a destination, nothing is kept.
    pub fn open(container: &str, destination: Option<&Destination>) -> std::io::Result<Self> {
        Ok(Self { container: container.to_owned(), sink: destination.map(Destination::open).transpose()?, tap: None, lost: 0 })
    }

    pub fn tapped(mut self, tap: Arc<dyn Tap>) -> Self {
        self.tap = Some(tap);
        self
    }

    pub fn enabled(&self) -> bool {
        self.sink.is_some() || self.tap.as_ref().is_some_and(|t| t.is_wanted())
    }

    pub fn write(&mut self, record: Record) {
        if let Some(line) = self.line(record) {
            self.put(&line);
        }
    }

    /// A record as it will stand in the log; `None` if nobody wants it.
    pub fn line(&self, mut record: Record) -> Option<Vec<u8>> {
        if !self.enabled() {
            return None;
        }
        record.time = timestamp(SystemTime::now());
        record.container.clone_from(&self.container);
        let mut line = serde_json::to_vec(&record).ok()?;
        line.push(b'\n');
        Some(line)
    }

    /// Writes what `line` gave.
    pub fn put(&mut self, line: &[u8]) {
        if let Some(tap) = self.tap.as_ref().filter(|t| t.is_wanted()) {
            tap.pass(line);
        }
        self.confess();
        if !self.append(line) {
            self.lost += 1;
        }
    }

    /// Tells the log how many records are not in it.
    fn confess(&mut self) {
        if self.lost == 0 {
            return;
        }
        let mut note = Record::new(Event::Dropped, Decision::Noted, "sink-failed");
        note.detail = Some(self.lost.to_string());
        if self.line(note).is_some_and(|note| self.append(&note)) {
            self.lost = 0;
        }
    }

    fn append(&mut self, line: &[u8]) -> bool {
        self.sink.as_mut().is_none_or(|sink| sink.append(line))
    }

    /// How long the log is, for `put_once`.
    pub fn length(&self) -> u64 {
        self.sink.as_ref().map_or(0, Sink::length)
    }

    /// Writes a line that somebody who died may have written already, or half, since the log had this length.
    pub fn put_once(&mut self, line: &[u8], since: u64) {
        let Some(sink) = &self.sink else { return };
        match sink.complete(line, since) {
            Some(whole) => self.lost += u64::from(!whole),
            None => self.put(line),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.confess();
        if self.lost > 0 {
            eprintln!("vkernel: audit log: {} records could not be written: make room where it lies", self.lost);
        }
    }
}

/// RFC 3339, UTC, microseconds.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Days to civil date, Howard Hinnant's algorithm.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:06}Z", since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(timestamp(UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_micros(1_709_210_096_000_007)), "2024-02-29T12:34:56.000007Z");
    }

    #[test]
    fn a_line_that_was_cut_off_takes_no_other_with_it() {
        let path = std::env::temp_dir().join(format!("vkernel-audit-cut-{}", std::process::id()));
        let mut audit = Audit::open("c", Some(&path.clone().into())).unwrap();
        audit.write(Record::new(Event::Exec, Decision::Denied, "first"));
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"time\":").unwrap();
        audit.lost = 3;
        audit.write(Record::new(Event::Exec, Decision::Denied, "second"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let reasons: Vec<_> = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).map(|v| v["reason"].as_str().unwrap().to_owned()).ok()).collect();
        assert_eq!(reasons, [Some("first".into()), None, Some("sink-failed".into()), Some("second".into())]);
    }

    #[test]
    fn a_record_is_one_json_line_with_the_guest_s_path_escaped() {
        let dir = std::env::temp_dir().join(format!("vkernel-audit-{}", std::process::id()));
        let mut audit = Audit::open("c", Some(&dir.clone().into())).unwrap();
        let mut r = Record::new(Event::Exec, Decision::Denied, "unknown-hash");
        r.path = Some("/a\n\"b".into());
        audit.write(r);
        let text = std::fs::read_to_string(&dir).unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(text.lines().count(), 1);
        let v: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(v["reason"], "unknown-hash");
        assert_eq!(v["path"], "/a\n\"b");
    }

    #[test]
    fn a_line_that_may_be_there_already_is_written_once() {
        let path = std::env::temp_dir().join(format!("vkernel-audit-once-{}", std::process::id()));
        let lines = || std::fs::read_to_string(&path).unwrap();
        for there in [0, 1, 20, usize::MAX] {
            let mut audit = Audit::open("c", Some(&path.clone().into())).unwrap();
            audit.write(Record::new(Event::Exec, Decision::Allowed, "listed"));
            let (before, since) = (lines(), audit.length());
            let line = audit.line(Record::new(Event::Exec, Decision::Denied, "unknown-hash")).unwrap();
            // What the process that died had written of it.
            audit.append(&line[..there.min(line.len())]);
            if there == usize::MAX {
                audit.write(Record::new(Event::Exec, Decision::Allowed, "of-another"));
            }
            audit.put_once(&line, since);
            let text = lines();
            assert!(text.starts_with(&before) && text.matches("unknown-hash").count() == 1 && text.ends_with('\n'), "{there}: {text}");
            assert!(text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{text}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
