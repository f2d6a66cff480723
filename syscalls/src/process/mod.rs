//! One guest process. Owns what its threads share: window, memory ledger, signal actions, exe facts, allow-list, limits, the list of threads.
//! Refuses to own: descriptors and their CLOEXEC flags (host descriptors *are* guest descriptors), credentials, pids (the kernel's).
//!
//! The fact a newcomer gets wrong: locks here are also taken around fork, in the order of the fields, so no handler may hold one across a blocking call.

mod credentials;
mod fork;
pub(crate) mod group;
mod limits;
mod pidfd;
mod prctl;
mod rows;
pub(crate) mod vfork;

pub use credentials::tie_to_parent;
pub(crate) use credentials::{Credentials, supplementary_groups};
pub(crate) use prctl::exec_credentials;

use crate::fs::scripts::Script;
use crate::guest::Window;
use crate::host::{Event, Host, ObjectId};
use crate::mm::Memory;
use crate::signal::Actions;
use crate::table::MAX_NR;
use crate::thread::ThreadList;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which syscalls a program may make: one bit per number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowList(pub [u64; MAX_NR / 64]);

impl AllowList {
    pub const NONE: AllowList = AllowList([0; MAX_NR / 64]);
    pub const ALL: AllowList = AllowList([u64::MAX; MAX_NR / 64]);

    pub fn insert(&mut self, nr: u32) {
        if let Some(word) = self.0.get_mut(nr as usize / 64) {
            *word |= 1 << (nr % 64);
        }
    }

    pub fn contains(&self, nr: u64) -> bool {
        usize::try_from(nr / 64).ok().and_then(|i| self.0.get(i)).is_some_and(|w| w >> (nr % 64) & 1 == 1)
    }
}

/// The program a process runs, as /proc/self shows it.
#[derive(Clone, Debug)]
pub struct Exe {
    pub id: ObjectId,
    /// Absolute path for /proc/self/exe.
    pub path: CString,
    pub argv: Vec<CString>,
    /// Task name (at most 15 bytes): /proc/self/comm.
    pub comm: Vec<u8>,
    /// The auxiliary vector, for /proc/self/auxv.
    pub auxv: Vec<[u64; 2]>,
    /// Guest addresses of the argument and environment strings: /proc/self/cmdline, environ.
    pub args: (u64, u64),
    pub env: (u64, u64),
    /// What it runs, if it is told a script that was judged.
    pub scripts: Vec<Script>,
}

/// Emulated resource limits: (soft, hard). All others are the host's.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub address_space: (u64, u64),
    pub data: (u64, u64),
    pub stack: (u64, u64),
    pub core: (u64, u64),
    /// Open files: the hard limit; the host's may be higher.
    pub files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let infinity = libc::RLIM_INFINITY;
        Self { address_space: (infinity, infinity), data: (infinity, infinity), stack: (8 << 20, infinity), core: (0, infinity), files: infinity }
    }
}

/// State shared by the threads of a guest process.
pub struct Process {
    pub window: Window,
    pub host: Arc<dyn Host>,
    pub memory: Mutex<Memory>,
    pub actions: Mutex<Actions>,
    pub exe: Mutex<Option<Exe>>,
    pub limits: Mutex<Limits>,
    pub threads: Mutex<ThreadList>,
    /// Whether `exe` has scripts, for every open to see.
    pub has_scripts: AtomicBool,
    /// `--strace`.
    pub strace: AtomicBool,
    allow: [AtomicU64; MAX_NR / 64],
    /// Numbers already reported as unknown in this program.
    unknown: [AtomicU64; MAX_NR / 64],
}

impl Process {
    /// A process with an empty address space. The window must be all PROT_NONE; `Thread::start` follows, then `exec::start`.
    pub fn new(window: Window, host: Arc<dyn Host>) -> Arc<Self> {
        Arc::new(Self {
            window,
            host,
            memory: Mutex::new(Memory::new(window)),
            actions: Mutex::new(Actions::default()),
            exe: Mutex::new(None),
            limits: Mutex::new(Limits::default()),
            threads: Mutex::new(ThreadList::default()),
            has_scripts: AtomicBool::new(false),
            strace: AtomicBool::new(false),
            allow: [const { AtomicU64::new(0) }; MAX_NR / 64],
            unknown: [const { AtomicU64::new(0) }; MAX_NR / 64],
        })
    }

    /// Whether the current program may make this syscall and nobody wants to know of it.
    pub fn allows(&self, nr: u64) -> bool {
        usize::try_from(nr / 64).ok().and_then(|i| self.allow.get(i)).is_some_and(|w| w.load(Ordering::Relaxed) >> (nr % 64) & 1 == 1)
    }

    /// Sets the allow-list; exec does.
    pub fn set_allow(&self, list: &AllowList) {
        for (word, bits) in self.allow.iter().zip(list.0) {
            word.store(bits, Ordering::Relaxed);
        }
    }

    /// A new program with this list; under `Watch::recorded` the first use of each listed call is news, too.
    pub(crate) fn begin_list(&self, list: &AllowList) {
        self.set_allow(if self.host.watch().recorded { &AllowList::NONE } else { list });
        self.forget_unknown();
    }

    /// Whether a call that is not allowed yet is made all the same under the host's `Watch`; it is recorded, and allowed from now on.
    pub(crate) fn lets_through(&self, nr: u64) -> bool {
        let watch = self.host.watch();
        let program = self.exe.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|exe| exe.id);
        let listed = watch.recorded && program.is_some_and(|id| self.host.object(id).allow.contains(nr));
        let Some(word) = usize::try_from(nr / 64).ok().and_then(|i| self.allow.get(i)).filter(|_| listed || watch.permissive) else { return false };
        let bit = 1 << (nr % 64);
        if word.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.host.audit(&if listed { Event::Used { nr } } else { Event::WouldRefuse { nr } });
        }
        true
    }

    /// A new program: its unknown numbers are news again.
    fn forget_unknown(&self) {
        self.unknown.iter().for_each(|w| w.store(0, Ordering::Relaxed));
    }

    /// True the first time a program uses this unknown number.
    pub fn first_unknown(&self, nr: u64) -> bool {
        let Some(word) = usize::try_from(nr / 64).ok().and_then(|i| self.unknown.get(i)) else { return false };
        word.fetch_or(1 << (nr % 64), Ordering::Relaxed) >> (nr % 64) & 1 == 0
    }
}

/// A vfork child stops sharing its parent's fate: exec or exit.
pub(crate) fn vfork_done(t: &mut crate::thread::Thread) {
    if let Some(mailbox) = t.vfork.take() {
        mailbox.done(t.process.window);
    }
}

crate::pass::family! { rows::PASSED, rows::ROWS, credentials::PASSED, credentials::ROWS, limits::ROWS, prctl::ROWS, rows::REFUSED, crate::exec::ROWS }

#[cfg(test)]
mod tests;
