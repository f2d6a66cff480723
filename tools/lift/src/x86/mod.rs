//! What each instruction does, one file per instruction group (Intel's names). Owns the lookup mnemonic → row.
//!
//! A row is a function `fn(&mut Emit, &Instruction)`; bodies go read, compute, write, flags. Rows never touch `CpuState` for registers (see `emit`). An
//! instruction (or a form of it) without a row becomes a gap.

use crate::emit::Emit;
use iced_x86::{EncodingKind, Instruction, Mnemonic};

mod arithmetic;

/// Emits one instruction.
pub type Semantics = fn(&mut Emit, &Instruction);

/// All groups.
const GROUPS: &[&[(Mnemonic, Semantics)]] = &[arithmetic::ROWS];

/// The row of a mnemonic.
pub fn semantics(m: Mnemonic) -> Option<Semantics> {
    static INDEX: std::sync::LazyLock<Vec<Option<Semantics>>> = std::sync::LazyLock::new(|| {
        let mut v = vec![None; iced_x86::Mnemonic::values().count()];
        for (m, f) in GROUPS.iter().copied().flatten() {
            v[*m as usize] = Some(*f);
        }
        v
    });
    INDEX[m as usize]
}

/// Emits `i`, or a gap when there is no row. VEX/EVEX encodings are gaps: they run only behind CPUID bits we do not present.
pub fn emit(e: &mut Emit, i: &Instruction) {
    match semantics(i.mnemonic()) {
        Some(f) if i.encoding() == EncodingKind::Legacy => f(e, i),
        _ => e.gap(i),
    }
}
