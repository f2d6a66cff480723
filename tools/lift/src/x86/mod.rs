//! What each instruction does, one file per instruction group (Intel's names). Owns the lookup mnemonic → row.
//!
//! A row is a function `fn(&mut Emit, &Instruction)`; bodies go read, compute, write, flags. Rows never touch `CpuState` for registers (see `emit`). An
//! instruction (or a form of it) without a row becomes a gap. Three tables: `movsd` and `cmpsd` are each two instructions, and a lock prefix
//! changes the code of nearly all of its instructions.

use crate::emit::Emit;
use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind, Register};
use std::sync::LazyLock;

mod arithmetic;
mod atomic;
mod bit;
mod convert;
mod logical;
mod mmx;
mod multiply;
mod shift;
pub mod sse_class;
mod sse_convert;
mod sse_float;
mod sse_integer;
mod sse_move;
mod sse_shuffle;
mod sse_string;
mod string;
mod system;
mod transfer;
pub mod x87;

/// Emits one instruction.
pub type Semantics = fn(&mut Emit, &Instruction);

type RowTable = &'static [(Mnemonic, Semantics)];

/// All groups but string instructions and locked forms.
const GROUPS: &[RowTable] = &[
    arithmetic::ROWS,
    atomic::ROWS,
    bit::ROWS,
    convert::ROWS,
    logical::ROWS,
    multiply::ROWS,
    shift::ROWS,
    sse_convert::ROWS,
    sse_float::DOUBLE,
    sse_float::PACKED,
    sse_float::ROWS,
    sse_float::SINGLE,
    sse_integer::DIRECT,
    sse_integer::ROWS,
    sse_move::ROWS,
    sse_shuffle::ROWS,
    sse_string::ROWS,
    system::ROWS,
    transfer::ROWS,
    x87::ROWS,
    x87::STATE,
];

/// Rows by mnemonic number.
type Index = LazyLock<Vec<Option<Semantics>>>;

static GENERAL: Index = LazyLock::new(|| index(GROUPS));
static STRING: Index = LazyLock::new(|| index(&[string::ROWS]));
static LOCKED: Index = LazyLock::new(|| index(&[atomic::LOCKED]));
static MMX: Index = LazyLock::new(|| index(&[mmx::ROWS]));

fn index(groups: &[RowTable]) -> Vec<Option<Semantics>> {
    let mut v: Vec<Option<Semantics>> = vec![None; Mnemonic::values().count()];
    for (m, f) in groups.iter().copied().flatten() {
        assert!(v[*m as usize].is_none(), "two rows for {m:?}");
        v[*m as usize] = Some(*f);
    }
    v
}

/// The row of an instruction. VEX/EVEX encodings have none: they run only behind CPUID bits we do not present.
pub fn semantics(i: &Instruction) -> Option<Semantics> {
    if i.encoding() != EncodingKind::Legacy {
        return None;
    }
    if mmx::is_mmx(i) {
        return MMX[i.mnemonic() as usize].or(GENERAL[i.mnemonic() as usize].filter(|_| mmx::shared(i.mnemonic())));
    }
    let table = if i.is_string_instruction() && STRING[i.mnemonic() as usize].is_some() {
        &STRING
    } else if atomic::is_locked(i) {
        &LOCKED
    } else {
        &GENERAL
    };
    table[i.mnemonic() as usize]
}

/// Emits `i`, or a gap when there is no row.
pub fn emit(e: &mut Emit, i: &Instruction) {
    match semantics(i) {
        Some(f) if mmx::is_mmx(i) => mmx::emit(e, i, f),
        Some(f) => f(e, i),
        None => e.gap(i),
    }
}

/// Are operands 0 and 1 the same register?
fn same_register(i: &Instruction) -> bool {
    i.op0_kind() == OpKind::Register && i.op1_kind() == OpKind::Register && i.op0_register() == i.op1_register()
}

/// `add rsp, imm` (sign 1) or `sub rsp, imm` (sign -1) in a function with a static stack: moves the tracked offset. The analysis saw to it
/// that nobody reads the flags.
fn stack_adjust(e: &mut Emit, i: &Instruction, sign: i32) -> bool {
    let adjusts = e.stack.is_some() && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RSP;
    if adjusts {
        e.rsp_add(sign * i.immediate(1) as i32);
    }
    adjusts
}
