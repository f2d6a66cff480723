//! `vkernel stats`: what containers use, with podman's columns. Owns the table; the figures are `top::sample`'s.
//!
//! The fact a newcomer gets wrong: a percentage needs two looks. Even one sample is made of two, a moment apart.

use crate::cli::watch::Stats;
use crate::failure::Failure;
use crate::state::{self, Entry};
use crate::top::sample::{Reading, Sample, readings};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Between the two looks of the first sample.
const MOMENT: Duration = Duration::from_millis(250);

/// Prints samples until it is told to end; one with `--no-stream`.
pub fn stats(options: &Stats, root: &Path) -> Result<(), Failure> {
    // Named ones must exist; among all, who comes and goes is seen.
    let named = options.containers.iter().map(|name| Entry::find(root, name).map(|e| e.record.id)).collect::<Result<Vec<_>, _>>()?;
    let look = || {
        let entries: Vec<Entry> = state::all(root).into_iter().filter(|e| named.is_empty() || named.contains(&e.record.id)).collect();
        Sample::of(&entries, &BTreeMap::new())
    };
    let clear = if std::io::stdout().is_terminal() && !options.no_stream && !options.json { "\x1b[2J\x1b[H" } else { "" };
    let (mut before, mut pause) = (look(), MOMENT);
    loop {
        std::thread::sleep(pause);
        let now = look();
        let all = readings(&before, &now);
        let text = if options.json { serde_json::to_string(&all).expect("plain data") + "\n" } else { table(&all) };
        let written = std::io::stdout().write_all(format!("{clear}{text}").as_bytes()).and_then(|()| std::io::stdout().flush());
        match written {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            other => other.map_err(|e| Failure::new("standard output", e, ""))?,
        }
        if options.no_stream {
            return Ok(());
        }
        (before, pause) = (now, Duration::from_secs_f64(options.interval));
    }
}

fn bytes(n: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    units.iter().find(|(size, _)| n >= *size).map_or_else(|| format!("{n}B"), |(size, unit)| format!("{:.4}{unit}", n as f64 / *size as f64))
}

fn table(all: &[Reading]) -> String {
    let mut text = format!(
        "{:<13} {:<14} {:<8} {:<23} {:<8} {:<23} {:<23} {:<6} {:<12} AVG CPU %\n",
        "ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "CPU TIME"
    );
    let percent = |p: Option<f64>| p.map_or_else(|| "--".into(), |p| format!("{p:.2}%"));
    let pair = |p: Option<(u64, u64)>| p.map_or_else(|| "-- / --".into(), |(a, b)| format!("{} / {}", bytes(a), bytes(b)));
    for Reading { row, cpu_percent, average_cpu_percent, .. } in all {
        let memory = row.memory_bytes.zip(row.memory_limit_bytes);
        let (id, name) = (row.id.chars().take(12).collect::<String>(), row.name.clone().unwrap_or_else(|| row.id.clone()));
        text += &format!(
            "{id:<13} {name:<14} {:<8} {:<23} {:<8} {:<23} {:<23} {:<6} {:<12} {}\n",
            percent(*cpu_percent),
            pair(memory),
            percent(memory.map(|(used, limit)| used as f64 * 100.0 / limit.max(1) as f64)),
            pair(row.network_bytes),
            pair(row.block_bytes),
            row.processes.map_or_else(|| "--".into(), |n| n.to_string()),
            row.cpu_us.map_or_else(|| "--".into(), |us| format!("{:.6}s", us as f64 / 1e6)),
            percent(*average_cpu_percent),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::Row;

    #[test]
    fn what_is_counted_is_shown_as_podman_does_and_the_rest_as_unknown() {
        let row = Row {
            id: "0123456789abcdef".into(),
            memory_bytes: Some(2_500_000),
            memory_limit_bytes: Some(10_000_000),
            cpu_us: Some(1_500_000),
            processes: Some(3),
            ..Row::default()
        };
        let text = table(&[Reading { row, cpu_percent: Some(12.345), ..Reading::default() }]);
        let line = text.lines().nth(1).unwrap();
        for part in ["0123456789ab ", "12.35%", "2.5000MB / 10.0000MB", "25.00%", "-- / --", "1.500000s"] {
            assert!(line.contains(part), "{part}: {text}");
        }
        assert_eq!([bytes(7), bytes(1500), bytes(3_000_000_000)], ["7B", "1.5000kB", "3.0000GB"]);
    }
}
