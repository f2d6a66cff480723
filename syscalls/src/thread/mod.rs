//! One guest thread as syscalls see it. Owns what Linux keeps per task: CPU state, tid address, robust list, alternate stack, signal mask.
//! A guest thread is a host thread; its tid is the host's.
//!
//! The fact a newcomer gets wrong: `CpuState` is written by signal handlers of the same host thread (only `poll`), so it is reached
//! through a raw pointer and never kept as a long-lived reference across a blocking call.

mod end;
mod rows;
mod start;

use crate::abi::CpuState;
use crate::guest::Window;
use crate::process::Process;
use crate::signal::ThreadSignals;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::sync::{MutexGuard, PoisonError};

pub(crate) use end::{ending, exec_alone, exit, walk_robust_list};
pub(crate) use start::{CloneArgs, new_thread};

/// Indices into `CpuState.gpr`.
pub mod reg {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
}

/// What the dispatcher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on at `CpuState.rip`.
    Continue,
    /// The thread is gone for the guest: leave the dispatcher. The leader's host thread ends with `SYS_exit(status)`, others return.
    ThreadExit(i32),
}

/// A guest thread, running on the host thread that calls into the table.
pub struct Thread {
    /// The thread's `CpuState` (memory 1 of its store).
    pub cpu: *mut CpuState,
    pub process: Arc<Process>,
    pub tid: libc::pid_t,
    /// set_tid_address / CLONE_CHILD_CLEARTID; 0 = none.
    pub clear_child_tid: u64,
    /// set_robust_list; 0 = none.
    pub robust_list: u64,
    pub signals: ThreadSignals,
    /// The row replaced the register state (rt_sigreturn, execve): dispatch leaves rax, rcx and r11 alone.
    pub replaced: bool,
    /// The guest asked for this thread's end.
    pub exit: Option<i32>,
    /// The process has become a WASI program, which is to be started.
    pub wasi: Option<crate::wasi::Start>,
    /// This process is a vfork child whose parent waits.
    pub(crate) vfork: Option<crate::process::vfork::Mailbox>,
}

impl Thread {
    /// The first thread of a process, on the calling host thread.
    ///
    /// # Safety
    /// `cpu` must stay valid and be this host thread's alone (but for `poll`) as long as the thread lives.
    pub unsafe fn start(process: Arc<Process>, cpu: *mut CpuState) -> Self {
        // SAFETY: gettid has no preconditions.
        let tid = unsafe { libc::gettid() };
        let signals = ThreadSignals::new(cpu, 0);
        signals.start(&process);
        process.threads().tids.push(tid);
        Self { cpu, process, tid, clear_child_tid: 0, robust_list: 0, signals, replaced: false, exit: None, wasi: None, vfork: None }
    }

    /// Guest memory.
    pub fn window(&self) -> Window {
        self.process.window
    }

    /// The register state. Do not keep the reference across a blocking call.
    #[allow(clippy::mut_from_ref, reason = "the state lives in wasm memory, not in self")]
    pub fn cpu(&mut self) -> &mut CpuState {
        // SAFETY: `start` and `begin` require validity and exclusivity; `&mut self` keeps references unique.
        unsafe { &mut *self.cpu }
    }

    /// Makes code return to the dispatcher.
    pub fn request_poll(&mut self) {
        self.signals.request_poll();
    }
}

/// What a new thread starts with; made by clone, consumed on the new host thread.
pub struct NewThread {
    pub process: Arc<Process>,
    /// Registers: the parent's, with rax 0, the new stack and TLS.
    pub state: Box<CpuState>,
    pub mask: u64,
    /// CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, CLONE_PARENT_SETTID addresses; 0 = none.
    pub clear_child_tid: u64,
    pub set_child_tid: u64,
    pub set_parent_tid: u64,
    pub ready: Sender<libc::pid_t>,
}

impl NewThread {
    /// Becomes the thread on the calling host thread (all signals blocked): copies the registers into `cpu`, stores the tids, reports to the parent.
    ///
    /// # Safety
    /// As `Thread::start`.
    pub unsafe fn begin(self, cpu: *mut CpuState) -> Thread {
        // SAFETY: the caller promises that `cpu` is valid and ours.
        unsafe { cpu.write(*self.state) };
        // SAFETY: gettid has no preconditions.
        let tid = unsafe { libc::gettid() };
        let window = self.process.window;
        let signals = ThreadSignals::new(cpu, self.mask);
        signals.allow_faults();
        for at in [self.set_child_tid, self.set_parent_tid] {
            if at != 0 {
                // As in Linux a bad address is the caller's loss.
                let _ = window.write(at, &tid);
            }
        }
        let process = self.process;
        process.threads().tids.push(tid);
        // The parent is gone only if the process is ending.
        let _ = self.ready.send(tid);
        signals.apply_mask();
        let clear_child_tid = self.clear_child_tid;
        Thread { cpu, process, tid, clear_child_tid, robust_list: 0, signals, replaced: false, exit: None, wasi: None, vfork: None }
    }
}

/// What execve(2) keeps of the thread that called it.
pub(crate) struct Handover {
    pub prepared: Box<crate::exec::Prepared>,
    pub mask: u64,
    pub credentials: crate::process::Credentials,
}

/// The live threads of a process.
#[derive(Default)]
pub struct ThreadList {
    pub tids: Vec<libc::pid_t>,
    /// A thread is executing a program: the others end.
    pub(crate) exec_by: Option<libc::pid_t>,
    /// The image a non-leader hands to the leader, with its mask and credentials.
    pub(crate) handover: Option<Handover>,
}

impl Process {
    pub(crate) fn threads(&self) -> MutexGuard<'_, ThreadList> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

crate::pass::family! { rows::PASSED, rows::ROWS, rows::REFUSED }
