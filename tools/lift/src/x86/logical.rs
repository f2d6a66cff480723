//! Logical instructions (SDM vol. 1, 5.1.4): and or xor not test.

use super::{RowTable, same_register};
use crate::emit::{Alu, Emit, Form, Lazy, Width};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

pub(super) const ROWS: RowTable = &[(Mnemonic::And, and), (Mnemonic::Or, or), (Mnemonic::Xor, xor), (Mnemonic::Not, not), (Mnemonic::Test, test)];

fn and(e: &mut Emit, i: &Instruction) {
    logic(e, i, Alu::And);
}

fn or(e: &mut Emit, i: &Instruction) {
    // gcc's probe of a stack that may end: `or qword [rsp],0`, of which LLVM would leave nothing.
    if e.form == Form::Structured
        && i.memory_base() == Register::RSP
        && i.op0_kind() == OpKind::Memory
        && i.op1_kind() != OpKind::Register
        && i.immediate(1) == 0
        && !e.live_flags.any()
    {
        return e.touch(i);
    }
    logic(e, i, Alu::Or);
}

fn xor(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    if same_register(i) && w >= Width::W32 {
        clear(e, i, w);
    } else {
        logic(e, i, Alu::Xor);
    }
}

/// The zeroing idioms `xor r,r` and `sub r,r`: they do not read the register, and all flags are constants.
pub(super) fn clear(e: &mut Emit, i: &Instruction, w: Width) {
    e.constant(w, 0);
    e.write(i.op0_register());
    if e.live_flags.any() {
        let r = e.flag_r(w);
        e.constant(w, 0);
        e.set(r);
        e.lazy = Lazy::Logic(w);
    }
}

fn logic(e: &mut Emit, i: &Instruction, op: Alu) {
    let w = e.width(i, 0);
    e.modify(i, |e| {
        e.operand(i, 1);
        e.alu(w, op);
        logic_flags(e, w);
    });
}

/// Flags of a logic result, which stays on the stack.
pub(super) fn logic_flags(e: &mut Emit, w: Width) {
    if e.live_flags.any() {
        let r = e.flag_r(w);
        e.tee(r);
        e.lazy = Lazy::Logic(w);
    }
}

fn not(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    e.modify(i, |e| {
        e.constant(w, -1);
        e.alu(w, Alu::Xor);
    });
}

fn test(e: &mut Emit, i: &Instruction) {
    if !e.live_flags.any() {
        return e.touch(i);
    }
    let w = e.width(i, 0);
    e.operand(i, 0);
    if !same_register(i) {
        e.operand(i, 1);
        e.alu(w, Alu::And);
    }
    let r = e.flag_r(w);
    e.set(r);
    e.lazy = Lazy::Logic(w);
}
