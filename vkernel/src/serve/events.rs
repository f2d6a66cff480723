//! Decisions as they are made, for clients that ask for `events`. Owns the queues. The fact a newcomer gets wrong: a client that does not read never makes a guest wait; it is told how
//! many records it missed.

use crate::audit::Tap;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

const LONGEST_QUEUE: usize = 4096;

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    missed: u64,
}

/// One client's.
pub(super) struct Subscription {
    queue: Mutex<Queue>,
    bell: Condvar,
    all: Arc<Events>,
}

#[derive(Default)]
pub(super) struct Events {
    subscribers: Mutex<Vec<Weak<Subscription>>>,
    count: AtomicUsize,
}

impl Events {
    pub(super) fn subscribe(self: &Arc<Self>) -> Arc<Subscription> {
        let new = Arc::new(Subscription { queue: Mutex::default(), bell: Condvar::new(), all: self.clone() });
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&new));
        self.count.fetch_add(1, Ordering::Relaxed);
        new
    }
}

impl Tap for Events {
    fn is_wanted(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    fn pass(&self, line: &[u8]) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|s| s.upgrade().map(|s| s.push(line)).is_some());
    }
}

impl Subscription {
    fn push(&self, line: &[u8]) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.lines.len() < LONGEST_QUEUE {
            queue.lines.push_back(line.to_owned())
        } else {
            queue.missed += 1
        }
        self.bell.notify_one();
    }

    /// The next record, if one comes within the time.
    pub(super) fn next(&self, limit: Duration) -> Option<Value> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut queue, _) = self.bell.wait_timeout_while(queue, limit, |q| q.lines.is_empty() && q.missed == 0).unwrap_or_else(PoisonError::into_inner);
        match queue.lines.pop_front() {
            Some(line) => serde_json::from_slice(&line).ok(),
            None if queue.missed > 0 => Some(json!({"missed": std::mem::take(&mut queue.missed)})),
            None => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.all.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_is_told_what_it_missed_and_holds_up_nobody() {
        let events = Arc::new(Events::default());
        events.pass(b"{}");
        assert!(!events.is_wanted());
        let one = events.subscribe();
        for n in 0..LONGEST_QUEUE + 3 {
            events.pass(n.to_string().as_bytes());
        }
        let soon = Duration::from_millis(1);
        assert_eq!(one.next(soon), Some(json!(0)));
        let rest = std::iter::from_fn(|| one.next(soon)).last();
        assert_eq!(rest, Some(json!({"missed": 3})));
        drop(one);
        assert!(!events.is_wanted());
    }
}
