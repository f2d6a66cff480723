//! Threads that answer clients: one per client at a time, and a few that wait for the next one. Owns how many wait.
//!
//! The fact a newcomer gets wrong: work is handed over only to a thread that is there to take it, or a new one begins.

use super::locked;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// Enough for a request, a hash's buffers and a reply.
const STACK_BYTES: usize = 512 << 10;
/// To make a thread takes longer than to answer most requests.
const MOST_WAITING: usize = 2;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub(super) struct Hands(Arc<Mutex<Vec<SyncSender<Work>>>>);

impl Hands {
    /// It is begun at once.
    pub(super) fn give(&self, mut work: Work) -> io::Result<()> {
        // Not while others want the list: who waits has to come to the meeting.
        while let Some(waiting) = { locked(&self.0).pop() } {
            match waiting.send(work) {
                Ok(()) => return Ok(()),
                Err(back) => work = back.0,
            }
        }
        let all = self.0.clone();
        let live = move || {
            work();
            loop {
                // Nothing is sent that nobody takes.
                let (sender, receiver) = sync_channel::<Work>(0);
                {
                    let mut all = locked(&all);
                    if all.len() >= MOST_WAITING {
                        return;
                    }
                    all.push(sender);
                }
                match receiver.recv() {
                    Ok(work) => work(),
                    Err(_) => return,
                }
            }
        };
        std::thread::Builder::new().name("client".into()).stack_size(STACK_BYTES).spawn(live).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn all_work_is_done_at_once_and_few_threads_are_left() {
        let hands = Hands::default();
        let (done, all) = channel();
        static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
        for _ in 0..50 {
            // Each waits for all others: no thread has two to do.
            for _ in 0..8 {
                let done = done.clone();
                let work = move || {
                    AT_ONCE.fetch_add(1, Ordering::SeqCst);
                    while !AT_ONCE.load(Ordering::SeqCst).is_multiple_of(8) {
                        std::thread::yield_now();
                    }
                    done.send(()).unwrap();
                };
                hands.give(Box::new(work)).unwrap();
            }
            (0..8).for_each(|_| all.recv().unwrap());
        }
        assert!(locked(&hands.0).len() <= MOST_WAITING);
    }
}
