//! pcmpistri, pcmpistrm, pcmpestri, pcmpestrm: the host's own instruction, one stub per immediate.
//!
//! The fact a newcomer gets wrong: the lengths of the e-forms are signed and saturate by absolute value, so 32-bit lengths are sign-extended and the REX.W form serves both.

use core::arch::{global_asm, naked_asm};
use syscalls::abi::{CpuState, helper as op};

const STUB_BYTES: usize = 8;

/// Index (ecx) of the i-forms; mask → scratch[2]; flags → `CpuState`.
pub(super) fn compare(cpu: &mut CpuState, operation: u32, imm: u8, wide: bool) -> u64 {
    let form = (operation - op::PCMPISTRI) as usize;
    let length = |n: u64| if wide { n } else { i64::from(n as i32).cast_unsigned() };
    // SAFETY: the label of 4 * 256 stubs; the index stays inside.
    let stub = unsafe { (&raw const vkernel_string_stubs).add((form * 256 + imm as usize) * STUB_BYTES) };
    // SAFETY: scratch holds three 16-byte operands; the stub is one instruction and a return.
    let packed = unsafe { execute(&mut cpu.scratch, stub, length(cpu.gpr[0]), length(cpu.gpr[2])) };
    let flags = (packed >> 32) as u32;
    (cpu.cf, cpu.zf, cpu.sf, cpu.of) = (flags & 1, flags >> 6 & 1, flags >> 7 & 1, flags >> 11 & 1);
    (cpu.af, cpu.pf) = (0, 0);
    packed & 0xffff_ffff
}

/// Flags in the high half, ecx in the low one.
#[unsafe(naked)]
unsafe extern "C" fn execute(scratch: *mut [[u64; 2]; 4], stub: *const u8, first: u64, second: u64) -> u64 {
    naked_asm!(
        "movdqu xmm0, [rdi]",
        "movdqu xmm1, [rdi + 16]",
        "mov rax, rdx",
        "mov rdx, rcx",
        "xor ecx, ecx",
        "call rsi",
        "pushfq",
        "pop rax",
        "movdqu [rdi + 32], xmm0",
        "shl rax, 32",
        "mov ecx, ecx",
        "or rax, rcx",
        "ret",
    )
}

unsafe extern "C" {
    static vkernel_string_stubs: u8;
}

// 66 [48] 0f 3a /r ib with xmm0, xmm1: 62 = istrm, 63 = istri, 60 = estrm, 61 = estri; the order is that of the operation numbers.
global_asm!(
    ".p2align 4",
    "vkernel_string_stubs:",
    ".irp opcode, 0x63, 0x62",
    "  .set vkernel_imm, 0",
    "  .rept 256",
    "    .byte 0x66, 0x0f, 0x3a, \\opcode, 0xc1, vkernel_imm, 0xc3, 0x90",
    "    .set vkernel_imm, vkernel_imm + 1",
    "  .endr",
    ".endr",
    ".irp opcode, 0x61, 0x60",
    "  .set vkernel_imm, 0",
    "  .rept 256",
    "    .byte 0x66, 0x48, 0x0f, 0x3a, \\opcode, 0xc1, vkernel_imm, 0xc3",
    "    .set vkernel_imm, vkernel_imm + 1",
    "  .endr",
    ".endr",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::testing::{Random, call, state};
    use core::arch::x86_64::*;

    fn operands(random: &mut Random) -> [[u64; 2]; 2] {
        // Few distinct bytes and some zeros, so that comparisons match and strings end.
        std::array::from_fn(|_| std::array::from_fn(|_| random.next() & 0x0303_0303_0303_0303))
    }

    #[target_feature(enable = "sse4.2")]
    fn native_istri<const IMM: i32>(s: &[[u64; 2]; 2]) -> (i32, [i32; 4]) {
        let v = |x: &[u64; 2]| _mm_set_epi64x(x[1].cast_signed(), x[0].cast_signed());
        let (a, b) = (v(&s[0]), v(&s[1]));
        (_mm_cmpistri::<IMM>(a, b), [_mm_cmpistrc::<IMM>(a, b), _mm_cmpistrz::<IMM>(a, b), _mm_cmpistrs::<IMM>(a, b), _mm_cmpistro::<IMM>(a, b)])
    }

    #[target_feature(enable = "sse4.2")]
    fn native_estrm<const IMM: i32>(s: &[[u64; 2]; 2], la: i32, lb: i32) -> ([u64; 2], [i32; 4]) {
        let v = |x: &[u64; 2]| _mm_set_epi64x(x[1].cast_signed(), x[0].cast_signed());
        let (a, b) = (v(&s[0]), v(&s[1]));
        let m = _mm_cmpestrm::<IMM>(a, la, b, lb);
        (
            [_mm_extract_epi64::<0>(m).cast_unsigned(), _mm_extract_epi64::<1>(m).cast_unsigned()],
            [_mm_cmpestrc::<IMM>(a, la, b, lb), _mm_cmpestrz::<IMM>(a, la, b, lb), _mm_cmpestrs::<IMM>(a, la, b, lb), _mm_cmpestro::<IMM>(a, la, b, lb)],
        )
    }

    fn check<const IMM: i32>(random: &mut Random) {
        for _ in 0..300 {
            let s = operands(random);
            let mut cpu = state();
            (cpu.scratch[0], cpu.scratch[1]) = (s[0], s[1]);
            let index = call(&mut cpu, op::PCMPISTRI, IMM as u64, 0);
            let flags = |c: &CpuState| [c.cf as i32, c.zf as i32, c.sf as i32, c.of as i32];
            // SAFETY: every host of this project has SSE4.2.
            let native = unsafe { native_istri::<IMM>(&s) };
            assert_eq!((index as i32, flags(&cpu)), native, "pcmpistri {IMM:#x} {s:x?}");
            let (la, lb) = ((random.next() % 40) as i32 - 20, (random.next() % 40) as i32 - 20);
            (cpu.gpr[0], cpu.gpr[2]) = (u64::from(la as u32) | 7 << 40, u64::from(lb as u32));
            (cpu.scratch[0], cpu.scratch[1]) = (s[0], s[1]);
            call(&mut cpu, op::PCMPESTRM, IMM as u64, 0);
            // SAFETY: as above.
            let native = unsafe { native_estrm::<IMM>(&s, la, lb) };
            assert_eq!((cpu.scratch[2], flags(&cpu)), native, "pcmpestrm {IMM:#x} {la} {lb} {s:x?}");
        }
    }

    #[test]
    fn compares_strings_as_the_host_does() {
        let mut random = Random(4711);
        check::<0x00>(&mut random);
        check::<0x08>(&mut random);
        check::<0x0c>(&mut random);
        check::<0x1a>(&mut random);
        check::<0x3a>(&mut random);
        check::<0x44>(&mut random);
        check::<0x55>(&mut random);
        check::<0x62>(&mut random);
        check::<0x7f>(&mut random);
    }
}
