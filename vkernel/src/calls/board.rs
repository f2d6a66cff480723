//! Where a worker that makes calls for somebody writes what became of them: memory shared with the command that started it, so that it holds no descriptor (07, S7). Owns its layout and both sides' access.
//!
//! The fact a newcomer gets wrong: what stands there is the worker's word. Whoever reads it bounds it, and takes it for nothing but outcomes.

use std::sync::atomic::{AtomicU32, Ordering};
use vkernel_client::{LARGEST_LINE_BYTES, Outcome};

#[repr(C)]
struct Shared {
    /// How many calls were begun.
    begun: AtomicU32,
    /// How many bytes of the text are there; 0 until it is whole.
    length: AtomicU32,
    text: [u8; LARGEST_LINE_BYTES],
}

/// Both ends; inherited by fork.
pub(super) struct Board {
    shared: *mut Shared,
}

impl Board {
    /// For the life of the process.
    pub(super) fn new() -> std::io::Result<Self> {
        // SAFETY: a fresh mapping at an address the kernel chooses; zeroes are a valid `Shared`.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0) };
        if at == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(Self { shared: at.cast() }) }
    }

    fn begun(&self) -> &AtomicU32 {
        // SAFETY: the mapping lives as long as the process, and is touched through atomics only.
        unsafe { &(*self.shared).begun }
    }

    fn length(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &(*self.shared).length }
    }

    /// The worker's: one more call begins.
    pub(super) fn begin(&self) {
        self.begun().fetch_add(1, Ordering::Relaxed);
    }

    /// The worker's: all of it. False if it is too long.
    pub(super) fn publish(&self, outcomes: &[Outcome]) -> bool {
        let Ok(text) = serde_json::to_vec(outcomes) else { return false };
        if text.len() > LARGEST_LINE_BYTES {
            return false;
        }
        // SAFETY: the text fits, and nobody reads it before its length is there.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), (&raw mut (*self.shared).text).cast(), text.len()) };
        self.length().store(text.len() as u32, Ordering::Release);
        true
    }

    /// The call that was begun last, counted from 0; `None` if none was.
    pub(super) fn last(&self) -> Option<usize> {
        (self.begun().load(Ordering::Relaxed) as usize).checked_sub(1)
    }

    /// Once the worker has ended: what it says, if that is what it should be.
    pub(super) fn outcomes(&self) -> Option<Vec<Outcome>> {
        let length = (self.length().load(Ordering::Acquire) as usize).min(LARGEST_LINE_BYTES);
        let mut text = vec![0; length];
        // SAFETY: inside the mapping. A copy, because the memory may have another writer if the worker was taken over.
        unsafe { std::ptr::copy_nonoverlapping((&raw const (*self.shared).text).cast(), text.as_mut_ptr(), length) };
        serde_json::from_slice(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_or_no_outcome_is_not_taken() {
        let board = Board::new().unwrap();
        assert_eq!((board.last(), board.outcomes()), (None, None));
        let all = vec![Outcome::Done { result: 3, out: vec![] }, Outcome::Failed { errno: "ENOENT".into() }];
        board.begin();
        board.begin();
        assert!(board.publish(&all));
        assert_eq!((board.last(), board.outcomes()), (Some(1), Some(all)));
        board.length().store(u32::MAX, Ordering::Relaxed);
        assert_eq!(board.outcomes(), None);
        board.length().store(3, Ordering::Relaxed);
        assert_eq!(board.outcomes(), None);
        assert!(!board.publish(&vec![Outcome::Failed { errno: "x".repeat(1000) }; 1100]));
    }
}
