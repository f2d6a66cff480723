//! Counts of decisions, for `status` and metrics. Owns the numbers. The fact a newcomer gets wrong: they begin at zero with each daemon; the audit log is what lasts.

use crate::audit::{Decision, Record};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Upper bounds of the latency histogram, in microseconds.
pub(super) const BOUNDS_US: [u32; 10] = [5, 10, 20, 50, 100, 250, 1_000, 5_000, 25_000, 100_000];

#[derive(Default)]
pub(super) struct Tally {
    pub(super) allowed: AtomicU64,
    /// Decisions for which no file was read.
    pub(super) hits: AtomicU64,
    refused: Mutex<BTreeMap<String, u64>>,
    /// One per bound, and one for what took longer.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    nanoseconds: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, record: &Record, hit: bool) {
        self.hits.fetch_add(u64::from(hit), Ordering::Relaxed);
        if record.decision == Decision::Allowed {
            self.allowed.fetch_add(1, Ordering::Relaxed);
        } else {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(record.reason.clone()).or_default() += 1;
        }
        if let Some(us) = record.latency_us {
            let bucket = BOUNDS_US.iter().position(|b| us <= f64::from(*b)).unwrap_or(BOUNDS_US.len());
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
            self.nanoseconds.fetch_add((us * 1000.0) as u64, Ordering::Relaxed);
        }
    }

    /// By reason.
    pub(super) fn refused(&self) -> BTreeMap<String, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts per bucket, and the sum in seconds.
    pub(super) fn latencies(&self) -> (Vec<u64>, f64) {
        (self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect(), self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Event;

    #[test]
    fn decisions_are_counted_by_reason_and_time() {
        let tally = Tally::default();
        let record = |decision, reason: &str, us| Record { latency_us: Some(us), ..Record::new(Event::Exec, decision, reason) };
        tally.count(&record(Decision::Allowed, "listed", 4.9), true);
        tally.count(&record(Decision::Denied, "unknown-hash", 20.0), false);
        tally.count(&record(Decision::Denied, "unknown-hash", 1e9), false);
        let (counts, seconds) = tally.latencies();
        assert_eq!(counts, [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!((seconds - 1000.0).abs() < 0.001);
        assert_eq!((tally.allowed.into_inner(), tally.hits.into_inner(), tally.refused.into_inner().unwrap()["unknown-hash"]), (1, 1, 2));
    }
}
