//! Floating-point instructions run for their exception flags as much as for their result: `syscalls::abi::float`.
//!
//! Owns the guest's MXCSR around one instruction. The fact a newcomer gets wrong: an unmasked exception must not trap in host code. The instruction runs with all masked; what it raised is held against the guest's masks afterwards.

use super::guarded::GuestFault;
use core::arch::asm;
use syscalls::abi::{CpuState, float as op};
use syscalls::signal::trap;

/// The exception flags; the masks are the same bits, `MASKS` higher.
const FLAGS: u32 = 0x3f;
const MASKS: u32 = 7;
const HOST_MXCSR: u32 = 0x1f80;

/// Runs an operation of `op::FIRST..=op::LAST` on the bits `a` and `b`.
pub(super) fn execute(cpu: &mut CpuState, operation: u32, a: u64, b: u64) -> Result<u64, GuestFault> {
    let mut mxcsr = cpu.mxcsr & !FLAGS | FLAGS << MASKS;
    let result = on_host(&mut mxcsr, operation, a, b);
    cpu.mxcsr |= mxcsr & FLAGS;
    let unmasked = mxcsr & FLAGS & !(cpu.mxcsr >> MASKS);
    if unmasked == 0 { Ok(result) } else { Err(GuestFault::floating_point(trap::SIMD, unmasked as u16)) }
}

/// One instruction under `mxcsr`, which has the flags it raised afterwards: operands in xmm0 and xmm1, the result in rax.
macro_rules! run {
    ($mxcsr:ident, $a:ident, $b:ident, $($instruction:literal),+ $(; $imm:ident)?) => {{
        let result: u64;
        let default = HOST_MXCSR;
        // SAFETY: registers only, all declared; `mxcsr` masks every exception, and the host's register is the default again afterwards.
        unsafe {
            asm!(
                "movq xmm0, {a}", "movq xmm1, {b}", "ldmxcsr [{m}]", $($instruction,)+ "stmxcsr [{m}]", "ldmxcsr [{d}]",
                a = in(reg) $a, b = in(reg) $b, m = in(reg) std::ptr::from_mut($mxcsr), d = in(reg) &raw const default,
                inout("rax") 0_u64 => result, out("xmm0") _, out("xmm1") _, $($imm = const $imm,)?
            );
        }
        result
    }};
}

fn on_host(mxcsr: &mut u32, operation: u32, a: u64, b: u64) -> u64 {
    match operation {
        op::COMISS => run!(mxcsr, a, b, "comiss xmm0, xmm1"),
        op::COMISD => run!(mxcsr, a, b, "comisd xmm0, xmm1"),
        op::UCOMISS => run!(mxcsr, a, b, "ucomiss xmm0, xmm1"),
        op::UCOMISD => run!(mxcsr, a, b, "ucomisd xmm0, xmm1"),
        op::CVTSS2SI => run!(mxcsr, a, b, "cvtss2si eax, xmm0"),
        op::CVTSS2SI64 => run!(mxcsr, a, b, "cvtss2si rax, xmm0"),
        op::CVTSD2SI => run!(mxcsr, a, b, "cvtsd2si eax, xmm0"),
        op::CVTSD2SI64 => run!(mxcsr, a, b, "cvtsd2si rax, xmm0"),
        op::CVTTSS2SI => run!(mxcsr, a, b, "cvttss2si eax, xmm0"),
        op::CVTTSS2SI64 => run!(mxcsr, a, b, "cvttss2si rax, xmm0"),
        op::CVTTSD2SI => run!(mxcsr, a, b, "cvttsd2si eax, xmm0"),
        op::CVTTSD2SI64 => run!(mxcsr, a, b, "cvttsd2si rax, xmm0"),
        op::CVTPS2DQ => run!(mxcsr, a, b, "cvtps2dq xmm0, xmm0", "movq rax, xmm0"),
        op::CVTPD2DQ => run!(mxcsr, a, b, "punpcklqdq xmm0, xmm1", "cvtpd2dq xmm0, xmm0", "movq rax, xmm0"),
        op::CVTTPS2DQ => run!(mxcsr, a, b, "cvttps2dq xmm0, xmm0", "movq rax, xmm0"),
        op::CVTTPD2DQ => run!(mxcsr, a, b, "punpcklqdq xmm0, xmm1", "cvttpd2dq xmm0, xmm0", "movq rax, xmm0"),
        _ => round(mxcsr, operation, a),
    }
}

/// An immediate is part of the instruction: one for each.
fn round(mxcsr: &mut u32, operation: u32, a: u64) -> u64 {
    let double = operation >= op::ROUNDSD;
    macro_rules! immediates {
        ($($imm:literal)*) => {
            match operation & 15 {
                $($imm if double => rounded_double::<$imm>(mxcsr, a),)*
                $($imm => rounded_singles::<$imm>(mxcsr, a),)*
                _ => unreachable!("four bits"),
            }
        };
    }
    immediates!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

fn rounded_double<const IMM: u8>(mxcsr: &mut u32, a: u64) -> u64 {
    run!(mxcsr, a, a, "roundsd xmm0, xmm0, {IMM}", "movq rax, xmm0"; IMM)
}

fn rounded_singles<const IMM: u8>(mxcsr: &mut u32, a: u64) -> u64 {
    run!(mxcsr, a, a, "roundps xmm0, xmm0, {IMM}", "movq rax, xmm0"; IMM)
}

const _: () = assert!(op::ROUNDPS & 15 == 0 && op::ROUNDSD & 15 == 0 && op::ROUNDSD > op::ROUNDPS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::testing::{call, state};

    const INVALID: u32 = 1;
    const PRECISION: u32 = 0x20;
    const NAN: u64 = 0x7ff8_0000_0000_0000;

    #[test]
    fn flags_are_sticky_and_those_of_the_instruction() {
        let mut cpu = state();
        call(&mut cpu, op::UCOMISD, NAN, 0);
        assert_eq!(cpu.mxcsr, 0x1f80, "quiet");
        call(&mut cpu, op::COMISD, NAN, 0);
        assert_eq!(cpu.mxcsr, 0x1f80 | INVALID);
        assert_eq!(call(&mut cpu, op::CVTSD2SI64, 2.5f64.to_bits(), 0), 2);
        assert_eq!(cpu.mxcsr, 0x1f80 | INVALID | PRECISION);
    }

    #[test]
    fn rounds_as_the_guests_mode_says_unless_the_immediate_does() {
        let mut cpu = state();
        cpu.mxcsr = 0x5f80;
        let x = 2.25f64.to_bits();
        assert_eq!(call(&mut cpu, op::CVTSD2SI, x, 0), 3);
        assert_eq!(call(&mut cpu, op::CVTTSD2SI, x, 0), 2);
        for (immediate, expected) in [(4, 3.0f64), (0, 2.0), (1, 2.0), (2, 3.0), (3, 2.0)] {
            cpu.mxcsr = 0x5f80;
            assert_eq!(call(&mut cpu, op::ROUNDSD + immediate, x, 0), expected.to_bits());
            assert_eq!(cpu.mxcsr & PRECISION, PRECISION);
            cpu.mxcsr = 0x5f80;
            assert_eq!(call(&mut cpu, op::ROUNDSD + immediate + 8, x, 0), expected.to_bits());
            assert_eq!(cpu.mxcsr & PRECISION, 0, "suppressed by the immediate");
        }
    }

    #[test]
    fn an_unmasked_exception_is_the_guests_signal_and_not_the_hosts() {
        let mut cpu = state();
        cpu.mxcsr = 0x1f00;
        assert_eq!(execute(&mut cpu, op::CVTTSD2SI, NAN, 0), Err(GuestFault::floating_point(trap::SIMD, INVALID as u16)));
        assert_eq!(cpu.mxcsr & FLAGS, INVALID);
        assert!(execute(&mut cpu, op::CVTTSD2SI, 2.5f64.to_bits(), 0).is_ok(), "inexact is masked");
    }

    #[test]
    fn two_lanes_convert_at_once() {
        let mut cpu = state();
        let singles = u64::from(1.5f32.to_bits()) | u64::from((-2.75f32).to_bits()) << 32;
        assert_eq!(call(&mut cpu, op::CVTTPS2DQ, singles, 0), 0xffff_fffe_0000_0001);
        assert_eq!(call(&mut cpu, op::CVTPS2DQ, singles, 0), 0xffff_fffd_0000_0002);
        assert_eq!(call(&mut cpu, op::CVTTPD2DQ, 1.5f64.to_bits(), (-2.75f64).to_bits()), 0xffff_fffe_0000_0001);
        assert_eq!(call(&mut cpu, op::CVTPD2DQ, 1.5f64.to_bits(), (-2.75f64).to_bits()), 0xffff_fffd_0000_0002);
        assert_eq!(call(&mut cpu, op::ROUNDPS + 1, singles, 0), u64::from(1f32.to_bits()) | u64::from((-3f32).to_bits()) << 32);
    }
}
