//! Single instructions with plain operands: crc32, pclmulqdq, rcp/rsqrt, rdtsc.

use core::arch::asm;
use syscalls::abi::{CpuState, SseOp};

pub(super) fn rdtsc() -> u64 {
    // SAFETY: reads the counter; Linux leaves it readable.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CRC-32C of `1 << width` bytes.
pub(super) fn crc32(width: u32, crc: u32, data: u64) -> u64 {
    let mut crc = u64::from(crc);
    // SAFETY: SSE4.2 is part of the platform (design, Platform); registers only.
    unsafe {
        match width {
            0 => asm!("crc32 {0:e}, {1}", inout(reg) crc, in(reg_byte) data as u8),
            1 => asm!("crc32 {0:e}, {1:x}", inout(reg) crc, in(reg) data),
            2 => asm!("crc32 {0:e}, {1:e}", inout(reg) crc, in(reg) data),
            _ => asm!("crc32 {0:r}, {1:r}", inout(reg) crc, in(reg) data),
        }
    }
    crc
}

/// Carry-less product of the halves that bits 0 and 4 choose.
pub(super) fn pclmulqdq(cpu: &mut CpuState, imm: u8) {
    let a = cpu.scratch[0][usize::from(imm & 1)];
    let b = cpu.scratch[1][usize::from(imm >> 4 & 1)];
    // Shift and add: this instruction is not presented by cpuid, so nothing depends on its speed, and the host may lack it.
    let product = (0..64).filter(|i| b >> i & 1 == 1).fold(0u128, |sum, i| sum ^ u128::from(a) << i);
    cpu.scratch[2] = [product as u64, (product >> 64) as u64];
}

/// The approximations, whose result bits are the host's.
pub(super) fn sse(cpu: &mut CpuState, operation: u64) {
    let s = &mut cpu.scratch;
    macro_rules! run {
        ($name:literal) => {
            // SAFETY: two operands in, one out, all inside `scratch`; xmm0 and xmm1 are declared.
            unsafe {
                asm!(
                    "movdqu xmm0, [{s}]",
                    "movdqu xmm1, [{s} + 16]",
                    concat!($name, " xmm0, xmm1"),
                    "movdqu [{s} + 32], xmm0",
                    s = in(reg) s.as_mut_ptr(), out("xmm0") _, out("xmm1") _,
                )
            }
        };
    }
    match operation {
        n if n == SseOp::Rcpps as u64 => run!("rcpps"),
        n if n == SseOp::Rcpss as u64 => run!("rcpss"),
        n if n == SseOp::Rsqrtps as u64 => run!("rsqrtps"),
        _ => run!("rsqrtss"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::testing::{Random, call, state};
    use syscalls::abi::helper as op;

    #[test]
    fn crc32c_of_the_standard_check_string() {
        let mut crc = 0xffff_ffff;
        for b in b"123456789" {
            crc = call(&mut state(), op::CRC32, crc, u64::from(*b));
        }
        assert_eq!(crc ^ 0xffff_ffff, 0xe306_9283);
    }

    #[test]
    fn crc32_of_a_word_is_that_of_its_bytes() {
        let mut random = Random(5);
        for width in 1..4 {
            let (start, data) = (random.next() & 0xffff_ffff, random.next());
            let bytes = (0..1 << width).fold(start, |crc, i| call(&mut state(), op::CRC32, crc, data >> (8 * i) & 0xff));
            assert_eq!(call(&mut state(), op::CRC32 + width, start, data), bytes, "width {width}");
        }
    }

    #[test]
    fn multiplies_without_carry_the_chosen_halves() {
        let mut cpu = state();
        (cpu.scratch[0], cpu.scratch[1]) = ([3, 5], [3, 1 << 63]);
        call(&mut cpu, op::PCLMULQDQ, 0x00, 0);
        assert_eq!(cpu.scratch[2], [5, 0]);
        call(&mut cpu, op::PCLMULQDQ, 0x11, 0);
        assert_eq!(cpu.scratch[2], [1 << 63, 2]);
    }

    #[test]
    fn approximates_with_the_hosts_own_bits() {
        use core::arch::x86_64::*;
        let mut cpu = state();
        let source = [1.5f32, 3.0, 1e-3, 7e9];
        let words = |f: [f32; 4]| [u64::from(f[0].to_bits()) | u64::from(f[1].to_bits()) << 32, u64::from(f[2].to_bits()) | u64::from(f[3].to_bits()) << 32];
        (cpu.scratch[0], cpu.scratch[1]) = (words([9.0; 4]), words(source));
        call(&mut cpu, op::SSE, SseOp::Rsqrtss as u64, 0);
        // SAFETY: SSE is part of x86-64.
        let native: [f32; 4] = unsafe {
            let v = _mm_rsqrt_ss(_mm_loadu_ps(source.as_ptr()));
            std::mem::transmute(_mm_move_ss(_mm_set1_ps(9.0), v))
        };
        assert_eq!(cpu.scratch[2], words(native));
    }
}
