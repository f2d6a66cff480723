//! vfork and clone(CLONE_VM | CLONE_VFORK) as posix_spawn uses it: a forked child with its own copy of memory, and a mailbox through which the
//! parent waits and learns what the child changed on the parent's stack.
//!
//! Why a copy: the child *becomes* another program in place, in the same host process, so it needs its own address space from the start. Why only
//! the stack: posix_spawn reports its error, and vfork users their status, in a local variable. Copying back all of memory would also copy half-changed
//! heaps; copying back nothing would lose the error. The fact a newcomer gets wrong: only *changed* bytes are copied back, for the parent's other
//! threads go on running and may write to that stack too.

use crate::errno::Errno;
use crate::guest::Window;
use crate::process::Process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How much of the parent's stack above rsp is watched.
const WATCHED: u64 = 256 << 10;
/// Room for changes: at worst every second word differs, each with a 16-byte header.
const BYTES: usize = 1 << 20;
const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// The child has not registered yet.
const STARTING: u32 = 1;
/// The child called exec or exit.
const DONE: u32 = 0;

/// The head of the shared mapping; changes follow.
#[repr(C)]
struct Shared {
    /// Robust list of the child: head (3 words), entry (1 word), then the futex word.
    head: [AtomicU64; 3],
    entry: AtomicU64,
    state: AtomicU32,
    _pad: u32,
    used: AtomicU64,
}

/// A mapping both processes see. Unmapped on drop in each of them.
pub(crate) struct Mailbox {
    shared: *mut Shared,
    /// The child's copy of the watched bytes as they were at the fork.
    snapshot: Vec<u8>,
    start: u64,
    /// This process is the child.
    joined: bool,
}

impl Mailbox {
    /// Made before the fork; `rsp` is the parent's.
    pub(crate) fn new(process: &Process, rsp: u64) -> Result<Self, Errno> {
        // SAFETY: a fresh mapping outside everything else.
        let p = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0) };
        if p == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let mut mailbox = Self { shared: p.cast(), snapshot: Vec::new(), start: rsp & !7, joined: false };
        mailbox.shared().state.store(STARTING, Ordering::SeqCst);
        let end = process.memory().areas.at(rsp).map_or(rsp, |(_, a)| a.end.min(rsp.saturating_add(WATCHED)));
        let mut snapshot = vec![0; (end - mailbox.start) as usize & !7];
        if process.window.copy_in(mailbox.start, &mut snapshot).is_ok() {
            mailbox.snapshot = snapshot;
        }
        Ok(mailbox)
    }

    fn shared(&self) -> &Shared {
        // SAFETY: a live mapping of at least this size, zero-filled or written by this type only; all fields are atomics.
        unsafe { &*self.shared }
    }

    /// In the child, before guest code: the kernel marks the word and wakes the parent however this process ends.
    pub(crate) fn join(&mut self) {
        self.joined = true;
        let s = self.shared();
        let at = |a: &AtomicU64| std::ptr::from_ref(a) as u64;
        s.head[0].store(at(&s.entry), Ordering::SeqCst);
        s.head[1].store((&raw const s.state) as u64 - at(&s.entry), Ordering::SeqCst);
        s.entry.store(at(&s.head[0]), Ordering::SeqCst);
        // SAFETY: the head stays mapped until `drop` takes the registration back; gettid has no preconditions.
        unsafe {
            libc::syscall(libc::SYS_set_robust_list, s.head.as_ptr(), 24usize);
            s.state.store(libc::gettid() as u32 | FUTEX_WAITERS, Ordering::SeqCst);
        }
    }

    /// In a child of the child: it has nothing to report.
    pub(crate) fn leave(mut self) {
        self.joined = false;
    }

    /// In the child, at exec or exit: reports the changes and lets the parent go.
    pub(crate) fn done(self, window: Window) {
        self.report(window);
    }

    /// Changed runs of 8-byte words: address, length, bytes.
    fn report(&self, window: Window) {
        let mut now = vec![0; self.snapshot.len()];
        if now.is_empty() || window.copy_in(self.start, &mut now).is_err() {
            return;
        }
        let mut out = Vec::new();
        let differs = |i: usize| now[i..i + 8] != self.snapshot[i..i + 8];
        let mut i = 0;
        while i < now.len() {
            let from = i;
            while i < now.len() && differs(i) {
                i += 8;
            }
            if i > from {
                out.extend_from_slice(&(self.start + from as u64).to_le_bytes());
                out.extend_from_slice(&((i - from) as u64).to_le_bytes());
                out.extend_from_slice(&now[from..i]);
            }
            i += 8;
        }
        let room = BYTES - size_of::<Shared>();
        assert!(out.len() <= room, "at most three bytes are reported per watched byte");
        // SAFETY: `out` fits behind the head; the parent reads only after `state` is DONE.
        unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), self.shared.add(1).cast(), out.len()) };
        self.shared().used.store(out.len() as u64, Ordering::SeqCst);
    }

    /// In the parent: waits for `child`'s exec or end, then takes over the changes. As in Linux only death interrupts this: that of this thread (`tid`), because another one executes a program, is one too.
    pub(crate) fn wait(self, process: &Process, tid: libc::pid_t, child: libc::pid_t) {
        let state = &self.shared().state;
        loop {
            if process.threads().exec_by.is_some_and(|by| by != tid) {
                return;
            }
            let value = state.load(Ordering::SeqCst);
            if value == DONE || value & FUTEX_OWNER_DIED != 0 || (value == STARTING && is_gone(child)) {
                break;
            }
            // A child killed before it registered wakes nobody: look again now and then.
            let timeout = libc::timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let args = [(&raw const *state) as u64, libc::FUTEX_WAIT as u64, u64::from(value), (&raw const timeout) as u64, 0, 0];
            let _ = crate::pass::quick(libc::SYS_futex, &args);
        }
        self.take_over(process.window);
    }

    fn take_over(&self, window: Window) {
        let used = (self.shared().used.load(Ordering::SeqCst) as usize).min(BYTES - size_of::<Shared>());
        let mut bytes = vec![0u8; used];
        // SAFETY: `used` bytes lie inside the mapping; the child has finished writing.
        unsafe { std::ptr::copy_nonoverlapping(self.shared.add(1).cast(), bytes.as_mut_ptr(), used) };
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
        let mut rest = bytes.as_slice();
        while rest.len() >= 16 {
            let (at, len) = (word(&rest[..8]), word(&rest[8..16]) as usize);
            let Some(run) = rest.get(16..16 + len) else { return };
            // The child runs the same guest: what it wrote on its own stack goes on the guest's own stack, nowhere else.
            if at >= self.start && at + len as u64 <= self.start + WATCHED + 8 {
                let _ = window.copy_out(at, run);
            }
            rest = &rest[16 + len..];
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.joined {
            let state = &self.shared().state;
            state.store(DONE, Ordering::SeqCst);
            let args = [(&raw const *state) as u64, libc::FUTEX_WAKE as u64, 1, 0, 0, 0];
            let _ = crate::pass::quick(libc::SYS_futex, &args);
            // SAFETY: takes back the registration made in `join`; the runtime uses no robust mutexes.
            unsafe { libc::syscall(libc::SYS_set_robust_list, std::ptr::null::<u8>(), 24usize) };
        }
        // SAFETY: our own mapping; `self` is the only owner in this process.
        unsafe { libc::munmap(self.shared.cast(), BYTES) };
    }
}

/// Whether the child has ended (or was reaped because SIGCHLD is ignored).
fn is_gone(child: libc::pid_t) -> bool {
    // SAFETY: writes one siginfo, zeroed before.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let r = libc::waitid(libc::P_PID, child as u32, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
        r != 0 || info.si_pid() != 0
    }
}
