//! Which instructions a program may execute without asking: those of x86-64-v2, as the guest's cpuid presents it (`loader/src/helper/cpuid.rs`).
//!
//! Owns the list of granted features. Refuses to own which instructions are lifted. The fact a newcomer gets wrong: an instruction can need several features (VEX-coded AES needs AVX and AES), and one that is
//! not granted gates it; features are granted by name, so a new one of iced's is gated until somebody thinks about it.

use iced_x86::{CpuidFeature, Instruction, Mnemonic};

/// Whether the guest is told that it has the feature, or every x86-64 processor has it.
fn granted(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(
        feature,
        INTEL8086
            | INTEL8086_ONLY
            | INTEL186
            | INTEL286
            | INTEL286_ONLY
            | INTEL386
            | INTEL386_ONLY
            | INTEL386_A0_ONLY
            | INTEL486
            | INTEL486_A_ONLY
            | X64
            | CPUID
            | TSC
            | MSR
            | CX8
            | CMOV
            | FPU
            | FPU287
            | FPU287XL_ONLY
            | FPU387
            | FPU387SL_ONLY
            | FXSR
            | MMX
            | SSE
            | SSE2
            | SSE3
            | SSSE3
            | SSE4_1
            | SSE4_2
            | POPCNT
            | CMPXCHG16B
            | SYSCALL
            | MULTIBYTENOP
            | PAUSE
    )
}

/// The features that a program must see in cpuid before it executes the instruction, and does not see. Empty: nothing gates it.
pub(super) fn missing(instruction: &Instruction) -> Vec<String> {
    if runs_anyway(instruction.mnemonic()) {
        return Vec::new();
    }
    let names = instruction.cpuid_features().iter().filter(|&&f| !granted(f)).map(|f| format!("{f:?}"));
    names.collect()
}

/// Processors without the feature execute these all the same, as `bsf`, `bsr` or nothing.
fn runs_anyway(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(mnemonic, Tzcnt | Lzcnt | Endbr32 | Endbr64 | Rdsspd | Rdsspq | Prefetchw | Prefetchwt1 | Cldemote | Bndmk | Bndcl | Bndcu | Bndcn | Bndmov | Bndldx | Bndstx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn gates(bytes: &[u8]) -> Vec<String> {
        missing(&Decoder::new(64, bytes, DecoderOptions::NONE).decode())
    }

    #[test]
    fn knows_what_x86_64_v2_lacks() {
        assert_eq!(gates(&[0xc5, 0xf8, 0x58, 0xc0]), ["AVX"]); // vaddps xmm0, xmm0, xmm0
        assert_eq!(gates(&[0x66, 0x0f, 0x38, 0xdc, 0xc1]), ["AES"]); // aesenc xmm0, xmm1
        assert_eq!(gates(&[0xc4, 0xe2, 0x79, 0xdc, 0xc1]), ["AES", "AVX"]); // vaesenc
        assert_eq!(gates(&[0x0f, 0xc7, 0xf0]), ["RDRAND"]);
    }

    #[test]
    fn gates_nothing_of_the_baseline() {
        for bytes in [
            &[0x90][..],
            &[0xf3, 0x0f, 0xbc, 0xc0],
            &[0xf3, 0x0f, 0xbd, 0xc0],
            &[0x0f, 0x05],
            &[0x0f, 0xae, 0xf0],
            &[0xf3, 0x0f, 0xb8, 0xc0],
            &[0x66, 0x0f, 0x3a, 0x63, 0xc1, 0],
            &[0xdf, 0x30],
            &[0x48, 0x0f, 0xc7, 0x0f],
            &[0x0f, 0xae, 0x00],
        ] {
            assert_eq!(gates(bytes), Vec::<String>::new(), "{bytes:x?}");
        }
    }
}
