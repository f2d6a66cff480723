//! `x86.helper`: what lifted code does not do inline, by executing the host's own instructions.
//!
//! Owns the operations of `syscalls::abi::helper`. Refuses to own semantics of its own where the host CPU has them: x87, pcmpXstrX, locked and
//! 128-bit operations run as the instruction itself on operands taken from `CpuState`. The fact a newcomer gets wrong: a helper that touches guest memory may
//! fault; it then has changed nothing in `CpuState`, and the guest gets the signal the native instruction would have got.

mod cpuid;
mod divide;
mod float;
mod guarded;
mod save;
mod string;
mod vector;
mod x87;

use crate::fault::Fixup;
use crate::native::Context;
pub(crate) use guarded::note_fault;
use guarded::{Guest, GuestFault};
use syscalls::abi::{CpuState, float as fp, helper as op};

/// What a helper returns to lifted code, or the guest's fault.
type Answer = Result<u64, GuestFault>;

/// Runs one operation. On a fault `context.fault` is set and the guest's frames must be left.
pub(crate) fn run(context: &mut Context, op: u32, a: u64, b: u64) -> Option<u64> {
    // SAFETY: the CPU state is mapped for the life of the context, and the thread that owns it is suspended in this call.
    let cpu = unsafe { &mut *context.cpu };
    let guest = Guest { base: context.window };
    match operate(cpu, guest, op, a, b) {
        Ok(value) => Some(value),
        Err(fault) => {
            context.fault = fault.host(context.window);
            None
        }
    }
}

/// A word of guest memory, if it can be read.
pub(crate) fn word(context: &Context, addr: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    Guest { base: context.window }.read(addr, &mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
}

fn operate(cpu: &mut CpuState, guest: Guest, operation: u32, a: u64, b: u64) -> Answer {
    match operation {
        op::CPUID => cpuid::cpuid(cpu),
        op::RDTSC => return Ok(vector::rdtsc()),
        op::XGETBV => return Ok(save::XCR0),
        op::MULHI_U => return Ok(((u128::from(a) * u128::from(b)) >> 64) as u64),
        op::MULHI_S => return Ok(((i128::from(a.cast_signed()) * i128::from(b.cast_signed())) >> 64) as u64),
        op::DIV64 => return Ok(divide::unsigned(cpu, a, b)),
        op::IDIV64 => return Ok(divide::signed(cpu, a.cast_signed())),
        op::CMPXCHG16B => return guest.cmpxchg16b(cpu, a),
        op::LOCK_ADD..=43 => return guest.locked(operation, cpu.scratch[0][0], a, b),
        op::PCMPISTRI..=op::PCMPESTRM => return Ok(string::compare(cpu, operation, a as u8, b != 0)),
        op::CRC32..=55 => return Ok(vector::crc32(operation - op::CRC32, a as u32, b)),
        op::PCLMULQDQ => vector::pclmulqdq(cpu, a as u8),
        op::LDMXCSR => save::ldmxcsr(cpu, a as u32)?,
        op::FXSAVE => save::fxsave(cpu, guest, a)?,
        op::FXRSTOR => save::fxrstor(cpu, guest, a)?,
        op::XSAVE | op::XSAVEC => save::xsave(cpu, guest, a, b, operation == op::XSAVEC)?,
        op::XRSTOR => save::xrstor(cpu, guest, a, b)?,
        op::STMXCSR => return Ok(u64::from(cpu.mxcsr)),
        op::SSE => vector::sse(cpu, a),
        op::X87 => x87::execute(cpu, guest, a as u16, a & op::X87_SHORT != 0, b)?,
        fp::FIRST..=fp::LAST => return float::execute(cpu, operation, a, b),
        op::TRACE => tracing::trace!(pc = a, "trace"),
        // A number the lifter does not know either: a shard of another ABI version, which the manifest's engine check excludes.
        _ => return Err(GuestFault::illegal()),
    }
    Ok(0)
}

/// Host code that may fault on guest memory, for the signal handler.
pub(crate) fn fixups() -> Vec<Fixup> {
    guarded::fixups()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A zeroed state with the reset values of the control registers.
    pub(crate) fn state() -> Box<CpuState> {
        // SAFETY: plain integers; all-zero is valid.
        let mut cpu = unsafe { Box::<CpuState>::new_zeroed().assume_init() };
        cpu.mxcsr = 0x1f80;
        cpu.fcw = 0x37f;
        cpu.fempty = 0xff;
        cpu
    }

    /// A guest whose window is this process: addresses are offsets from null, so tests pass host addresses.
    pub(crate) fn guest() -> Guest {
        Guest { base: std::ptr::null_mut() }
    }

    pub(crate) fn call(cpu: &mut CpuState, operation: u32, a: u64, b: u64) -> u64 {
        operate(cpu, guest(), operation, a, b).unwrap_or_else(|_| panic!("operation {operation} faulted"))
    }

    /// xorshift: enough variety for operands, and the same in every run.
    pub(crate) struct Random(pub(crate) u64);
    impl Random {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }
}
