//! MXCSR: lifted code runs with the guest's, host code with its own.
//!
//! Owns the switch between the two. The fact a newcomer gets wrong: the guest's status flags are sticky *in the register* while lifted code runs, so they are collected into
//! `CpuState` before host code looks at them or floating-point instructions of the host run.

use core::arch::asm;
use syscalls::abi::{CpuState, float, helper as op};

/// All exceptions masked, round to nearest: what the System V ABI promises host code (3.2.1).
const HOST_MXCSR: u32 = 0x1f80;

/// The exception flags, bits 0..5.
const STATUS: u32 = 0x3f;

fn get() -> u32 {
    let mut value = 0;
    // SAFETY: writes four bytes to `value`.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value
}

fn set(value: u32) {
    // SAFETY: no reserved bit is set: `CpuState.mxcsr` is checked wherever the guest writes it.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags, readonly)) };
}

/// Does this helper run floating-point instructions, or look at MXCSR?
pub(crate) fn concerns(operation: u32) -> bool {
    matches!(operation, op::LDMXCSR..=op::STMXCSR | float::FIRST..=float::LAST)
}

/// After lifted code ran: collects the guest's flags, and makes the register fit for host code, which does not look at flags.
pub(crate) fn to_host(cpu: &mut CpuState) {
    cpu.mxcsr |= get() & STATUS;
    if cpu.mxcsr & !STATUS != HOST_MXCSR {
        set(HOST_MXCSR);
    }
}

/// Before lifted code runs: the register becomes the guest's, whatever host code left in it. Reading it costs little, loading it more than the rest of `native::enter`.
pub(crate) fn to_guest(cpu: &CpuState) {
    if get() != cpu.mxcsr {
        set(cpu.mxcsr);
    }
}
