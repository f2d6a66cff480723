//! cpuid: the processor the guest sees, which is x86-64-v2 and nothing more.
//!
//! Owns the leaves. The host's own cpuid is never shown: what is lifted decides, not what the host has. The fact a newcomer gets wrong: glibc computes its string
//! thresholds from leaves 2 and 4; absent or odd cache sizes make it choose nonsense.

use syscalls::abi::CpuState;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;

/// SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT.
const FEATURES_ECX: u32 = 1 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23;
/// FPU, TSC, CMPXCHG8B, CMOV, MMX, FXSR, SSE, SSE2.
const FEATURES_EDX: u32 = 1 | 1 << 4 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
/// Family 6, model 0x1a (Nehalem, the first x86-64-v2 processor), stepping 5.
const SIGNATURE: u32 = 0x0001_06a5;
const HIGHEST_BASIC: u32 = 7;
const HIGHEST_EXTENDED: u32 = 0x8000_0008;
const BRAND: &[u8; 48] = b"vkernel lifted x86-64-v2 processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// (eax, ebx, ecx, edx)
type Leaf = [u32; 4];

pub(super) fn cpuid(cpu: &mut CpuState) {
    let [eax, ebx, ecx, edx] = leaf(cpu.gpr[RAX] as u32, cpu.gpr[RCX] as u32);
    for (register, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
        cpu.gpr[register] = u64::from(value);
    }
}

fn leaf(number: u32, sub: u32) -> Leaf {
    match number {
        0 => vendor(HIGHEST_BASIC),
        // One logical processor, cache lines of 64 bytes.
        1 => [SIGNATURE, 1 << 16 | 8 << 8, FEATURES_ECX, FEATURES_EDX],
        // Descriptor 0xff: leaf 4 describes the caches.
        2 => [0x00ff_ff01, 0, 0, 0],
        4 => cache(sub),
        0x8000_0000 => vendor(HIGHEST_EXTENDED),
        // LAHF/SAHF; SYSCALL, NX, long mode.
        0x8000_0001 => [0, 0, 1, 1 << 11 | 1 << 20 | 1 << 29],
        0x8000_0002..=0x8000_0004 => brand(number),
        // L2: 1 MiB, 16 ways, lines of 64 bytes.
        0x8000_0006 => [0, 0, 1024 << 16 | 8 << 12 | 64, 0],
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        0x8000_0008 => [0x3030, 0, 0, 0],
        _ => [0; 4],
    }
}

fn vendor(highest: u32) -> Leaf {
    let word = |b: &[u8; 4]| u32::from_le_bytes(*b);
    [highest, word(b"Genu"), word(b"ntel"), word(b"ineI")]
}

/// Deterministic cache parameters: 32 KiB L1 data and instruction, 1 MiB L2, 8 MiB L3, all with lines of 64 bytes.
fn cache(sub: u32) -> Leaf {
    let (kind, level, kib, ways) = match sub {
        0 => (1, 1, 32, 8),
        1 => (2, 1, 32, 8),
        2 => (3, 2, 1024, 16),
        3 => (3, 3, 8192, 16),
        _ => return [0; 4],
    };
    let sets = kib * 1024 / (64 * ways);
    [kind | level << 5 | 1 << 8, (ways - 1) << 22 | 63, sets - 1, 0]
}

fn brand(number: u32) -> Leaf {
    let from = (number - 0x8000_0002) as usize * 16;
    std::array::from_fn(|i| {
        let at = from + 4 * i;
        u32::from_le_bytes([BRAND[at], BRAND[at + 1], BRAND[at + 2], BRAND[at + 3]])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presents_x86_64_v2_and_nothing_that_is_not_lifted() {
        let [_, _, ecx, edx] = leaf(1, 0);
        for (name, bit) in [("pclmulqdq", 1), ("fma", 12), ("aes", 25), ("xsave", 26), ("osxsave", 27), ("avx", 28), ("rdrand", 30)] {
            assert_eq!(ecx >> bit & 1, 0, "{name}");
        }
        assert_eq!(edx >> 26 & 1, 1, "sse2");
        assert_eq!(leaf(7, 0), [0; 4], "no avx2, bmi, erms, rtm, fsgsbase");
    }

    #[test]
    fn cache_sizes_are_what_the_parameters_multiply_to() {
        for (sub, bytes) in [(0, 32 << 10), (2, 1 << 20), (3, 8 << 20)] {
            let [_, ebx, ecx, _] = leaf(4, sub);
            let ways = (ebx >> 22) + 1;
            let lines = (ebx & 0xfff) + 1;
            assert_eq!(ways * lines * (ecx + 1), bytes);
        }
        assert_eq!(leaf(4, 4), [0; 4]);
    }

    #[test]
    fn writes_all_four_registers_zero_extended() {
        let mut cpu = crate::helper::testing::state();
        cpu.gpr = [!0; 16];
        cpu.gpr[RAX] = 0;
        cpuid(&mut cpu);
        assert_eq!(cpu.gpr[RBX], 0x756e_6547);
        assert_eq!(cpu.gpr[RAX], u64::from(HIGHEST_BASIC));
    }
}
