//! The ring through which workers tell of refused system calls: shared memory that workers inherit, so that none of them holds a descriptor (07, S7); the supervisor's can be handed on.
//! Owns its layout and both sides' access. The fact a newcomer gets wrong: the supervisor must survive any bytes in it, since a
//! compromised worker can write to it; a full ring counts drops, it never makes a guest wait.

use crate::sys;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SLOTS: u64 = 1024;
/// A slot reserved by a worker that died before it published it is skipped after this time.
pub const STUCK: Duration = Duration::from_secs(1);

#[repr(C)]
struct Slot {
    /// Position + 1 once the record is complete.
    published: AtomicU64,
    pid: AtomicU32,
    nr: AtomicU32,
    entry: AtomicU32,
    reason: AtomicU32,
    detail: AtomicU64,
}

#[repr(C)]
struct Shared {
    /// Next position to reserve.
    tail: AtomicU64,
    /// First position the supervisor has not read, as a hint for workers.
    head: AtomicU64,
    dropped: AtomicU64,
    slots: [Slot; SLOTS as usize],
}

/// One call that was refused, or that is worth telling of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The guest's own pid.
    pub pid: u32,
    pub nr: u32,
    /// Which program.
    pub entry: u32,
    pub(crate) reason: u32,
    /// A guest address, for reasons that have one.
    pub detail: u64,
}

impl Note {
    /// Not in the binary's allow-list.
    pub const NOT_LISTED: u32 = 0;
    /// No row in the syscall table.
    pub const NOT_IMPLEMENTED: u32 = 1;
    /// PROT_EXEC of something that is no signed library.
    pub const EXECUTABLE_MAPPING: u32 = 2;
    /// An instruction without semantics at `detail`.
    pub const GAP: u32 = 3;
    /// A handler returned from a fault of structured code at `detail`.
    pub const IRREPARABLE_FAULT: u32 = 4;
    /// A WASI program trapped.
    pub const TRAP: u32 = 7;

    /// Not in the binary's allow-list, and made all the same.
    pub const WOULD_REFUSE: u32 = 5;
    /// In the binary's allow-list.
    pub const USED: u32 = 6;

    pub fn new(nr: u32, entry: u32, reason: u32) -> Self {
        Self { pid: std::process::id(), nr, entry, reason, detail: 0 }
    }

    pub fn is_syscall(&self) -> bool {
        matches!(self.reason, Self::NOT_LISTED | Self::NOT_IMPLEMENTED | Self::WOULD_REFUSE | Self::USED)
    }

    pub fn was_let_through(&self) -> bool {
        matches!(self.reason, Self::WOULD_REFUSE | Self::USED)
    }

    pub fn reason(&self) -> &'static str {
        match self.reason {
            Self::NOT_LISTED => "syscall-not-listed",
            Self::NOT_IMPLEMENTED => "syscall-not-implemented",
            Self::EXECUTABLE_MAPPING => "executable-mapping",
            Self::GAP => "unlifted-instruction",
            Self::IRREPARABLE_FAULT => "irreparable-fault",
            Self::TRAP => "wasi-trap",
            Self::WOULD_REFUSE => policy::learn::WOULD_REFUSE,
            Self::USED => policy::learn::USED,
            _ => "unknown",
        }
    }
}

/// Both ends: the mapping is shared with every descendant, the descriptor is closed before guest code runs.
pub struct Ring {
    shared: *mut Shared,
    memory: OwnedFd,
    /// The supervisor's own position and the moment it got stuck: not in shared memory.
    read: Cell<u64>,
    stuck: Cell<Option<Instant>>,
    dropped_seen: Cell<u64>,
}

// SAFETY: workers only use `note`, which touches nothing but atomics; `drain` is the supervisor's, which has one thread.
unsafe impl Send for Ring {}
// SAFETY: as above; the cells are touched by `drain` only.
unsafe impl Sync for Ring {}

impl Ring {
    pub fn new() -> std::io::Result<Self> {
        let memory = sys::memfd(c"vkernel-ring")?;
        nix::unistd::ftruncate(&memory, size_of::<Shared>() as i64)?;
        Self::map(memory)
    }

    /// Another supervisor's, which had read so far. Its memory is the workers' too, so its size is checked each time.
    pub fn of(memory: OwnedFd, (read, dropped): (u64, u64)) -> std::io::Result<Self> {
        let ring = Self::map(memory)?;
        ring.read.set(read);
        ring.dropped_seen.set(dropped);
        Ok(ring)
    }

    fn map(memory: OwnedFd) -> std::io::Result<Self> {
        if sys::fstat(memory.as_fd())?.st_size != size_of::<Shared>() as i64 {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        // SAFETY: a fresh mapping at an address the kernel chooses, of a file that has this size and that nobody else can truncate; any bytes are a valid `Shared`.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, memory.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self { shared: at.cast(), memory, read: Cell::new(0), stuck: Cell::new(None), dropped_seen: Cell::new(0) })
    }

    /// How far it was read, for `of`.
    pub fn position(&self) -> (u64, u64) {
        (self.read.get(), self.dropped_seen.get())
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped in `new` and never unmapped; all fields are atomics.
        unsafe { &*self.shared }
    }

    /// Worker side: leaves a note, or counts it as dropped.
    pub fn note(&self, note: Note) {
        let s = self.shared();
        let mut at = s.tail.load(Ordering::Relaxed);
        loop {
            if at.wrapping_sub(s.head.load(Ordering::Acquire)) >= SLOTS {
                s.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            match s.tail.compare_exchange_weak(at, at + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => at = now,
            }
        }
        let slot = &s.slots[(at % SLOTS) as usize];
        slot.pid.store(note.pid, Ordering::Relaxed);
        slot.nr.store(note.nr, Ordering::Relaxed);
        slot.entry.store(note.entry, Ordering::Relaxed);
        slot.reason.store(note.reason, Ordering::Relaxed);
        slot.detail.store(note.detail, Ordering::Relaxed);
        slot.published.store(at + 1, Ordering::Release);
    }

    /// Supervisor side: everything that has arrived, and how many were dropped since the last call. Never more than one ring full. A slot that nobody publishes within `patience` counts as dropped.
    pub fn drain(&self, patience: Duration) -> (Vec<Note>, u64) {
        let s = self.shared();
        let mut notes = Vec::new();
        let mut at = self.read.get();
        for _ in 0..SLOTS {
            if s.tail.load(Ordering::Acquire) <= at {
                break;
            }
            let slot = &s.slots[(at % SLOTS) as usize];
            if slot.published.load(Ordering::Acquire) == at + 1 {
                let load = |a: &AtomicU32| a.load(Ordering::Relaxed);
                let detail = slot.detail.load(Ordering::Relaxed);
                notes.push(Note { pid: load(&slot.pid), nr: load(&slot.nr), entry: load(&slot.entry), reason: load(&slot.reason), detail });
            } else if patience.is_zero() || self.stuck.get().is_some_and(|since| since.elapsed() > patience) {
                s.dropped.fetch_add(1, Ordering::Relaxed);
            } else {
                self.stuck.set(self.stuck.get().or(Some(Instant::now())));
                break;
            }
            self.stuck.set(None);
            at += 1;
        }
        self.read.set(at);
        s.head.store(at, Ordering::Release);
        let dropped = s.dropped.load(Ordering::Relaxed);
        (notes, dropped.saturating_sub(self.dropped_seen.replace(dropped)))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this size; nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.shared.cast(), size_of::<Shared>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_arrive_in_order_and_overflow_is_counted() {
        let ring = Ring::new().unwrap();
        for i in 0..SLOTS as u32 + 5 {
            ring.note(Note::new(i, 2, Note::NOT_LISTED));
        }
        let (notes, dropped) = ring.drain(STUCK);
        assert_eq!(notes.len() as u64, SLOTS);
        assert_eq!(notes[3].nr, 3);
        assert_eq!(dropped, 5);
        ring.note(Note::new(9, 2, Note::NOT_IMPLEMENTED));
        let (notes, dropped) = ring.drain(STUCK);
        assert_eq!((notes.len(), dropped), (1, 0));
        assert_eq!(notes[0].reason(), "syscall-not-implemented");
    }

    /// A worker that is killed between reserving a slot and publishing it must not hide what others wrote behind it.
    #[test]
    fn at_the_end_a_slot_that_nobody_published_counts_as_dropped() {
        let ring = Ring::new().unwrap();
        ring.shared().tail.fetch_add(1, Ordering::AcqRel);
        ring.note(Note::new(7, 2, Note::NOT_LISTED));
        let before = ring.drain(STUCK);
        assert_eq!((before.0.len(), before.1), (0, 0));
        let (notes, dropped) = ring.drain(Duration::ZERO);
        assert_eq!((notes.len(), dropped), (1, 1));
    }
}
