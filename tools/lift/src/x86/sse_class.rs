//! What each instruction asks of the way an xmm register lives (`emit::XmmClass`): the input of the class-selection analysis.
//!
//! Owns the knowledge which rows of the sse files can work on a register that lives as one f64 or f32. Anything not listed asks for a vector. The fact a
//! newcomer gets wrong: in a scalar class the upper lanes do not exist, so an instruction that hands them on (a 16-byte store, an unpack) must ask for `V128`.

use crate::emit::XmmClass;
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic, OpKind};

/// What one use of a register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The register must live in exactly this class.
    Class(XmmClass),
    /// Any class; when the instruction has two xmm operands, the same one for both.
    Any,
}

/// Each xmm operand (register number) with what the instruction asks for; empty when it uses no xmm register. `writes_or_reads` are the registers of
/// the instruction's `Effect`: implicit ones (xmm0 of blendvps, all of fxsave) ask for vectors.
pub fn scalar_class(i: &Instruction, writes_or_reads: RegSet) -> Vec<(usize, Needs)> {
    let mut uses = Vec::new();
    let mut implicit = writes_or_reads.and(RegSet::XMM);
    for k in 0..i.op_count() {
        if i.op_kind(k) == OpKind::Register && i.op_register(k).is_xmm() {
            let n = i.op_register(k).number();
            uses.push((n, operand(i, k)));
            implicit = implicit.minus(RegSet::xmm(n));
        }
    }
    uses.extend(implicit.iter().map(|bit| (bit - 16, Needs::Class(XmmClass::V128))));
    uses
}

const F64: Needs = Needs::Class(XmmClass::F64);
const F32: Needs = Needs::Class(XmmClass::F32);
const V128: Needs = Needs::Class(XmmClass::V128);

/// What operand `k`, an xmm register, asks for.
fn operand(i: &Instruction, k: u32) -> Needs {
    use Mnemonic::*;
    match i.mnemonic() {
        Movsd | Addsd | Subsd | Mulsd | Divsd | Sqrtsd | Minsd | Maxsd | Ucomisd | Comisd | Cmpsd | Roundsd | Cvtsi2sd | Cvttsd2si | Cvtsd2si | Movlpd => F64,
        Movss | Addss | Subss | Mulss | Divss | Sqrtss | Minss | Maxss | Ucomiss | Comiss | Cmpss | Roundss | Cvtsi2ss | Cvttss2si | Cvtss2si | Movd => F32,
        Cvtss2sd => [F64, F32][k as usize & 1],
        Cvtsd2ss => [F32, F64][k as usize & 1],
        // The low half, also between xmm registers: of two singles a copy of the first alone would lose the second.
        Movq => F64,
        Movaps | Movapd | Movdqa | Movups | Movupd | Movdqu if i.op0_kind() != OpKind::Memory => Needs::Any,
        Andps | Andpd | Andnps | Andnpd | Orps | Orpd | Xorps | Xorpd | Pand | Pandn | Por | Pxor => Needs::Any,
        _ => V128,
    }
}
