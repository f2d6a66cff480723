//! What a build costs: the time and the output of each stage per megabyte of x86 text, and the most memory that was in use at once.
//!
//! Owns the stopwatch and the table. Refuses to own stages. The fact a newcomer gets wrong: the text of a stage is what it *worked on now*. What came out of a cache cost nothing, and counting it would make every second build look fast.

use serde::Serialize;
use std::fmt::Write;
use std::time::Instant;

/// `sysconf(_SC_CLK_TCK)` of every Linux for x86-64.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one stage did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Executable bytes of the objects it worked on.
    pub text_bytes: u64,
    /// Bytes of what it made of them.
    pub made_bytes: u64,
}

/// What one stage cost.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub name: &'static str,
    pub seconds: f64,
    /// Of all threads.
    pub cpu_seconds: f64,
    pub text_bytes: u64,
    pub made_bytes: u64,
}

impl Stage {
    /// `value` per megabyte of text; `None` if there was none.
    fn per_megabyte(&self, value: f64) -> Option<f64> {
        (self.text_bytes > 0).then(|| value / megabytes(self.text_bytes))
    }
}

/// The stages of a build in their order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cost {
    pub stages: Vec<Stage>,
    /// The most that was resident at once, of this process; 0 if the kernel does not say.
    pub peak_memory_bytes: u64,
}

impl Cost {
    /// Does a stage's work and writes down what it took.
    pub fn stage<T>(&mut self, name: &'static str, work: impl FnOnce() -> anyhow::Result<(T, Work)>) -> anyhow::Result<T> {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (result, done) = work()?;
        let cpu_seconds = cpu_seconds() - cpu;
        self.stages.push(Stage { name, seconds: wall.elapsed().as_secs_f64(), cpu_seconds, text_bytes: done.text_bytes, made_bytes: done.made_bytes });
        self.peak_memory_bytes = peak_memory_bytes();
        Ok(result)
    }

    /// For people.
    pub fn table(&self) -> String {
        let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
        let mut out = format!("{:<10} {:>8} {:>9} {:>9} {:>8} {:>9} {:>10}\n", "stage", "seconds", "CPU s", "text MB", "s per MB", "made MB", "MB per MB");
        for s in &self.stages {
            let (seconds, made) = (s.per_megabyte(s.seconds), megabytes(s.made_bytes));
            let _ = write!(out, "{:<10} {:>8.2} {:>9.2} {:>9.2} {:>8} ", s.name, s.seconds, s.cpu_seconds, megabytes(s.text_bytes), number(seconds));
            let _ = writeln!(out, "{made:>9.2} {:>10}", number(s.per_megabyte(made)));
        }
        let _ = writeln!(out, "peak memory {:.0} MB", megabytes(self.peak_memory_bytes));
        out
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Processor time of this process so far: fields 14 and 15 of proc(5)'s stat, counted from behind the name, which may hold spaces.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = behind.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_charged_what_its_threads_burnt() {
        let mut cost = Cost::default();
        let spin = || {
            let start = Instant::now();
            while start.elapsed().as_millis() < 200 {}
        };
        let work = || {
            std::thread::scope(|s| s.spawn(spin).join().expect("it only spins"));
            Ok(((), Work { text_bytes: 2_000_000, made_bytes: 8_000_000 }))
        };
        cost.stage("spin", work).expect("it cannot fail");
        let s = &cost.stages[0];
        assert!(s.seconds >= 0.2 && s.cpu_seconds > 0.0, "{s:?}");
        assert_eq!(s.per_megabyte(megabytes(s.made_bytes)), Some(4.0));
        assert!(cost.peak_memory_bytes > 1 << 20);
        assert!(cost.table().lines().nth(1).expect("the stage").ends_with("4.00"), "{}", cost.table());
    }

    #[test]
    fn a_stage_that_found_everything_in_the_cache_has_no_rate() {
        let mut cost = Cost::default();
        cost.stage("lift", || Ok(((), Work::default()))).expect("it cannot fail");
        assert!(cost.table().lines().nth(1).expect("the stage").ends_with('-'));
    }

    #[test]
    fn a_stage_that_fails_is_not_in_the_table() {
        let mut cost = Cost::default();
        assert!(cost.stage("lift", || anyhow::bail!("no") as anyhow::Result<((), Work)>).is_err());
        assert!(cost.stages.is_empty());
    }
}
