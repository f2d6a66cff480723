//! One guest thread as syscalls see it. Owns what Linux keeps per task: CPU state, tid address, robust list, alternate stack, signal mask.

use crate::abi::CpuState;
use crate::guest::Window;
use crate::process::Process;
use crate::table::Row;
use std::sync::Arc;

/// A guest thread, running on the host thread that calls into the table.
pub struct Thread {
    /// The thread's `CpuState` (memory 1 of its store).
    pub cpu: *mut CpuState,
    pub process: Arc<Process>,
}

impl Thread {
    /// Guest memory.
    pub fn window(&self) -> Window {
        self.process.window
    }
}

pub const ROWS: &[Row] = &[];
