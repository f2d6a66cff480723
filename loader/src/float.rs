//! MXCSR: lifted code runs with the guest's, host code with its own.
//!
//! Owns the switch between the two. The fact a newcomer gets wrong: the guest's status flags are sticky *in the register* while lifted code runs, so they are collected into
//! `CpuState` before host code looks at them or floating-point instructions of the host run.

use core::arch::asm;
use syscalls::abi::{CpuState, helper as op};

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

/// Before lifted code runs: the register, which holds `held`, becomes the guest's.
pub(crate) fn enter(cpu: &CpuState, held: u32) {
    if cpu.mxcsr != held {
        set(cpu.mxcsr);
    }
}

/// After lifted code ran: collects its flags, makes the register fit for host code (which does not look at flags), and tells what it holds.
pub(crate) fn leave(cpu: &mut CpuState) -> u32 {
    let held = get();
    cpu.mxcsr |= held & STATUS;
    if held & !STATUS == HOST_MXCSR {
        return held;
    }
    set(HOST_MXCSR);
    HOST_MXCSR
}

/// Does this helper run floating-point instructions, or look at MXCSR?
pub(crate) fn concerns(operation: u32) -> bool {
    matches!(operation, op::LDMXCSR..=op::STMXCSR)
}

/// Collects the guest's flags and gives the register to the host, if the guest has changed more than flags.
pub(crate) fn to_host(cpu: &mut CpuState) -> u32 {
    cpu.mxcsr |= get() & STATUS;
    if cpu.mxcsr & !STATUS != HOST_MXCSR {
        set(HOST_MXCSR);
    }
    cpu.mxcsr
}

/// Back to the guest, whose register was `before`.
pub(crate) fn to_guest(cpu: &CpuState, before: u32) {
    if cpu.mxcsr != before || before & !STATUS != HOST_MXCSR {
        set(cpu.mxcsr);
    }
}

/// Sets the register to the guest's, whatever host code left in it.
pub(crate) fn restore(cpu: &CpuState) {
    set(cpu.mxcsr);
}
