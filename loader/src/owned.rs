//! What threads have reserved of the address space for themselves: CPU state and native stack.
//!
//! Owns the list by which a forked child, where one thread is left, gives back what the others had; without it that would stay through every exec, for nobody unmaps it there. The fact a newcomer gets
//! wrong: nothing here takes a lock, because the other threads may be anywhere when one forks.

use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Of one range. Never freed: a free one is used again.
struct Entry {
    /// Where the range begins; `FREE` or `CLAIMED` while there is none.
    start: AtomicUsize,
    bytes: AtomicUsize,
    /// `pthread_self` of the thread, which is the same in the child.
    owner: AtomicUsize,
    next: AtomicPtr<Entry>,
}

const FREE: usize = 0;
const CLAIMED: usize = 1;

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());

/// A range of the calling thread's. To be dropped before the range is unmapped, on any thread: what is in the list is there.
#[derive(Debug)]
pub(crate) struct Owned(usize);

impl Owned {
    /// Notes a range that was just mapped.
    pub(crate) fn new(range: Range<usize>) -> Self {
        let entry = claim();
        entry.bytes.store(range.len(), Ordering::SeqCst);
        entry.owner.store(this_thread(), Ordering::SeqCst);
        entry.start.store(range.start, Ordering::SeqCst);
        Self(std::ptr::from_ref(entry).expose_provenance())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by `new` from an entry, which lives for ever.
        let entry = unsafe { &*std::ptr::with_exposed_provenance::<Entry>(self.0) };
        entry.start.store(FREE, Ordering::SeqCst);
    }
}

fn this_thread() -> usize {
    // SAFETY: no preconditions.
    unsafe { libc::pthread_self() as usize }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: null or a leaked box; entries are only added, at the front.
    let at = |p: &AtomicPtr<Entry>| unsafe { p.load(Ordering::SeqCst).as_ref() };
    std::iter::successors(at(&FIRST), move |e| at(&e.next))
}

fn claim() -> &'static Entry {
    if let Some(free) = entries().find(|e| e.start.compare_exchange(FREE, CLAIMED, Ordering::SeqCst, Ordering::SeqCst).is_ok()) {
        return free;
    }
    let new = Box::leak(Box::new(Entry { start: AtomicUsize::new(CLAIMED), bytes: AtomicUsize::new(0), owner: AtomicUsize::new(0), next: AtomicPtr::default() }));
    let add = |first| {
        new.next.store(first, Ordering::SeqCst);
        Some(std::ptr::from_ref(&*new).cast_mut())
    };
    let _ = FIRST.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
    new
}

/// In a forked child: unmaps what belonged to threads that are not here.
pub fn forked() {
    let this = this_thread();
    for entry in entries().filter(|e| e.owner.load(Ordering::SeqCst) != this) {
        let start = entry.start.swap(FREE, Ordering::SeqCst);
        if start > CLAIMED {
            // SAFETY: a range of a thread that no longer is; nobody else knows it, and its owner takes it out of the list before unmapping it.
            unsafe { libc::munmap(std::ptr::without_provenance_mut(start), entry.bytes.load(Ordering::SeqCst)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn map() -> (Range<usize>, Owned) {
        // SAFETY: a new private mapping.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) } as usize;
        (start..start + 4096, Owned::new(start..start + 4096))
    }

    fn is_mapped(range: &Range<usize>) -> bool {
        // SAFETY: changes nothing.
        unsafe { libc::msync(std::ptr::without_provenance_mut(range.start), range.len(), libc::MS_ASYNC) == 0 }
    }

    #[test]
    fn a_forked_child_keeps_its_own_thread_s_ranges_and_gives_back_the_others() {
        let (own, _owned) = map();
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            let (range, owned) = map();
            tell.send(range).unwrap();
            let _ = ended.recv();
            drop(owned);
        });
        let range = told.recv().unwrap();
        // SAFETY: the child makes system calls only, and ends.
        let status = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                let before = is_mapped(&own) && is_mapped(&range);
                forked();
                libc::_exit(i32::from(!(before && is_mapped(&own) && !is_mapped(&range))));
            }
            let mut status = -1;
            libc::waitpid(pid, &raw mut status, 0);
            status
        };
        assert_eq!(status, 0);
        assert!(is_mapped(&range));
        drop(end);
        other.join().unwrap();
    }
}
