//! SSE4.2 string comparison (SDM vol. 1, 5.11.1): pcmpistri, pcmpistrm, pcmpestri, pcmpestrm; and pclmulqdq, the other one that is only a helper call.
//!
//! Owns only the way to the helper, which does the aggregation. The fact a newcomer gets wrong: without REX.W the lengths of the e-forms are eax and edx.

use super::Semantics;
use crate::emit::Emit;
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic};
use syscalls::abi::helper;

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Pcmpistri, |e, i| compare(e, i, helper::PCMPISTRI, Lengths::Implicit)),
    (Mnemonic::Pcmpistrm, |e, i| compare(e, i, helper::PCMPISTRM, Lengths::Implicit)),
    (Mnemonic::Pcmpestri, |e, i| compare(e, i, helper::PCMPESTRI, Lengths::Doubleword)),
    (Mnemonic::Pcmpestrm, |e, i| compare(e, i, helper::PCMPESTRM, Lengths::Doubleword)),
    (Mnemonic::Pcmpestri64, |e, i| compare(e, i, helper::PCMPESTRI, Lengths::Quadword)),
    (Mnemonic::Pclmulqdq, pclmulqdq),
    (Mnemonic::Pcmpestrm64, |e, i| compare(e, i, helper::PCMPESTRM, Lengths::Quadword)),
];

/// Carry-less product. cpuid does not present it; programs that do not ask get the right result all the same.
fn pclmulqdq(e: &mut Emit, i: &Instruction) {
    e.vector(i, 0);
    e.set_scratch(0);
    e.vector(i, 1);
    e.set_scratch(1);
    e.helper(helper::PCLMULQDQ, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.c64(i64::from(i.immediate8()));
        e.c64(0);
    });
    e.s().drop();
    e.scratch(2);
    e.set_vector(i, 0);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    Implicit,
    Doubleword,
    Quadword,
}

fn compare(e: &mut Emit, i: &Instruction, op: u32, lengths: Lengths) {
    e.vector(i, 0);
    e.set_scratch(0);
    e.vector(i, 1);
    e.set_scratch(1);
    let reads = if lengths == Lengths::Implicit { RegSet::EMPTY } else { RegSet::RAX.or(RegSet::gpr(2)) };
    e.helper(op, reads, RegSet::EMPTY, |e| {
        e.c64(i64::from(i.immediate8()));
        e.c64(i64::from(lengths == Lengths::Quadword));
    });
    if matches!(op, helper::PCMPISTRM | helper::PCMPESTRM) {
        e.s().drop();
        e.scratch(2);
        e.set_xmm(0);
    } else {
        e.set_gpr64(1);
    }
    e.flags_in_state();
}
