//! One look at the running containers, and what two looks say together. Owns the figures; they come from records, control groups and procfs.
//!
//! The fact a newcomer gets wrong: a figure that this host does not count is absent, not 0.

use super::feed::Counts;
use crate::state::{self, Entry, Status};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// A container at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    pub id: String,
    pub name: Option<String>,
    pub status: Status,
    pub permissive: bool,
    pub cpu_us: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// The host's memory where there is no limit.
    pub memory_limit_bytes: Option<u64>,
    pub processes: Option<u64>,
    /// Received and sent, in a network namespace of its own.
    pub network_bytes: Option<(u64, u64)>,
    /// Read and written.
    pub block_bytes: Option<(u64, u64)>,
    pub age_seconds: Option<f64>,
    /// What a daemon has said of it.
    pub counts: Option<Counts>,
}

pub struct Sample {
    at: Instant,
    pub rows: Vec<Row>,
}

/// A container over some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reading {
    #[serde(flatten)]
    pub row: Row,
    pub cpu_percent: Option<f64>,
    /// Since it began.
    pub average_cpu_percent: Option<f64>,
    pub execs_per_second: Option<f64>,
}

impl Sample {
    pub fn take(root: &Path, counts: &BTreeMap<String, Counts>) -> Self {
        Self::of(&state::all(root), counts)
    }

    /// Of those that run.
    pub fn of(entries: &[Entry], counts: &BTreeMap<String, Counts>) -> Self {
        let memory = host_memory();
        let rows = entries.iter().filter(|e| e.status() != Status::Stopped).map(|e| row(e, counts, memory)).collect();
        Self { at: Instant::now(), rows }
    }
}

fn row(entry: &Entry, counts: &BTreeMap<String, Counts>, host_memory: Option<u64>) -> Row {
    let r = &entry.record;
    let usage = r.cgroup.usage();
    let number = |name: &str| usage[name].as_u64();
    // Version 1 says "no limit" as the largest number of pages.
    let limit = number("memory_limit_bytes").filter(|limit| host_memory.is_none_or(|host| *limit < host)).or(host_memory);
    let pair = |a: &str, b: &str| Some((number(a)?, number(b)?));
    Row {
        id: r.id.clone(),
        name: r.name.clone(),
        status: entry.status(),
        permissive: r.release.permissive,
        cpu_us: number("cpu_us"),
        memory_bytes: number("memory_bytes"),
        memory_limit_bytes: limit,
        processes: number("processes").or_else(|| Some(r.cgroup.members().len() as u64)),
        network_bytes: network(r.init.pid),
        block_bytes: pair("block_read_bytes", "block_written_bytes"),
        age_seconds: r.init.age().map(|age| age.as_secs_f64()),
        counts: r.daemon.is_some().then(|| counts.get(&r.id).copied().unwrap_or_default()),
    }
}

/// Of all interfaces but loopback, unless they are the host's.
fn network(pid: i32) -> Option<(u64, u64)> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let own = namespace(&pid.to_string())?;
    if Some(own) == namespace("self") {
        return None;
    }
    interfaces(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
}

fn interfaces(dev: &str) -> Option<(u64, u64)> {
    let mut sum = None;
    for (name, rest) in dev.lines().filter_map(|l| l.split_once(':')).filter(|(name, _)| name.trim() != "lo") {
        let fields: Vec<u64> = rest.split_whitespace().filter_map(|f| f.parse().ok()).collect();
        let (received, sent) = sum.unwrap_or((0, 0));
        debug_assert!(!name.is_empty());
        sum = Some((received + fields.first()?, sent + fields.get(8)?));
    }
    sum
}

fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What happened between two looks.
pub fn readings(before: &Sample, now: &Sample) -> Vec<Reading> {
    let passed = now.at.duration_since(before.at);
    now.rows.iter().map(|row| reading(before.rows.iter().find(|r| r.id == row.id), row, passed)).collect()
}

fn reading(before: Option<&Row>, row: &Row, passed: Duration) -> Reading {
    let seconds = passed.as_secs_f64();
    let rate = |was: Option<u64>, is: Option<u64>| (seconds > 0.0).then_some(is?.saturating_sub(was?) as f64 / seconds);
    Reading {
        cpu_percent: rate(before.and_then(|b| b.cpu_us), row.cpu_us).map(|us| us / 1e4),
        average_cpu_percent: row.cpu_us.zip(row.age_seconds.filter(|s| *s > 0.0)).map(|(us, age)| us as f64 / 1e4 / age),
        execs_per_second: rate(before.and_then(|b| b.counts).map(|c| c.execs), row.counts.map(|c| c.execs)),
        row: row.clone(),
    }
}

/// One sample for programs.
pub fn json(all: &[Reading], daemon: bool) -> Value {
    json!({"daemon": daemon, "containers": all})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_changed_over_the_time_and_absent_where_nobody_counts() {
        let before = Row { id: "a".into(), cpu_us: Some(1_000_000), counts: Some(Counts { execs: 5, denials: 0 }), ..Row::default() };
        let now = Row { cpu_us: Some(1_500_000), counts: Some(Counts { execs: 25, denials: 1 }), age_seconds: Some(10.0), ..before.clone() };
        let two = reading(Some(&before), &now, Duration::from_secs(2));
        assert_eq!((two.cpu_percent, two.average_cpu_percent, two.execs_per_second), (Some(25.0), Some(15.0), Some(10.0)));
        let new = reading(None, &now, Duration::from_secs(2));
        assert_eq!((new.cpu_percent, new.execs_per_second), (None, None));
        let unserved = reading(Some(&before), &Row { counts: None, cpu_us: None, ..now }, Duration::from_secs(2));
        assert_eq!((unserved.cpu_percent, unserved.average_cpu_percent, unserved.execs_per_second), (None, None, None));
    }

    #[test]
    fn loopback_is_no_traffic() {
        let head = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n";
        let row = |name: &str, received: u64, sent: u64| format!("{name:>6}: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n");
        assert_eq!(interfaces(&format!("{head}{}", row("lo", 7, 7))), None);
        assert_eq!(interfaces(&format!("{head}{}{}{}", row("lo", 7, 7), row("eth0", 10, 20), row("eth1", 1, 2))), Some((11, 22)));
    }
}
