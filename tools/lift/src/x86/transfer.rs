//! Data transfer (SDM vol. 1, 5.1.1): mov lea xchg push pop leave enter xlat movnti, cmovcc and setcc. Exchanges with memory are in `atomic.rs`.
//!
//! The fact a newcomer gets wrong: a 32-bit cmovcc clears the upper half of its destination even when the condition does not hold.

use super::RowTable;
use crate::emit::{Emit, Width};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use syscalls::abi::StopKind;

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Mov, mov),
    (Mnemonic::Movnti, mov),
    (Mnemonic::Lea, lea),
    (Mnemonic::Xchg, xchg),
    (Mnemonic::Push, push),
    (Mnemonic::Pop, pop),
    (Mnemonic::Leave, leave),
    (Mnemonic::Enter, enter),
    (Mnemonic::Xlatb, xlatb),
    (Mnemonic::Cmova, cmov),
    (Mnemonic::Cmovae, cmov),
    (Mnemonic::Cmovb, cmov),
    (Mnemonic::Cmovbe, cmov),
    (Mnemonic::Cmove, cmov),
    (Mnemonic::Cmovg, cmov),
    (Mnemonic::Cmovge, cmov),
    (Mnemonic::Cmovl, cmov),
    (Mnemonic::Cmovle, cmov),
    (Mnemonic::Cmovne, cmov),
    (Mnemonic::Cmovno, cmov),
    (Mnemonic::Cmovnp, cmov),
    (Mnemonic::Cmovns, cmov),
    (Mnemonic::Cmovo, cmov),
    (Mnemonic::Cmovp, cmov),
    (Mnemonic::Cmovs, cmov),
    (Mnemonic::Seta, set),
    (Mnemonic::Setae, set),
    (Mnemonic::Setb, set),
    (Mnemonic::Setbe, set),
    (Mnemonic::Sete, set),
    (Mnemonic::Setg, set),
    (Mnemonic::Setge, set),
    (Mnemonic::Setl, set),
    (Mnemonic::Setle, set),
    (Mnemonic::Setne, set),
    (Mnemonic::Setno, set),
    (Mnemonic::Setnp, set),
    (Mnemonic::Setns, set),
    (Mnemonic::Seto, set),
    (Mnemonic::Setp, set),
    (Mnemonic::Sets, set),
];

fn mov(e: &mut Emit, i: &Instruction) {
    let special = |k| i.op_kind(k) == OpKind::Register && !i.op_register(k).is_gpr();
    if special(0) {
        // A segment load with anything but the value it has, or a control register.
        return if i.op0_register().is_segment_register() { e.gap(i) } else { e.stop(i, StopKind::Protection) };
    }
    if special(1) {
        return match selector(i.op1_register()) {
            Some(s) => store_selector(e, i, s),
            None => e.stop(i, StopKind::Protection),
        };
    }
    if i.op0_kind() == OpKind::Memory {
        let w = e.width(i, 0);
        let off = e.address(i);
        e.operand(i, 1);
        e.store(w, off);
    } else {
        e.operand(i, 1);
        e.write(i.op0_register());
    }
}

/// The selectors Linux gives 64-bit programs.
fn selector(r: Register) -> Option<i32> {
    match r {
        Register::CS => Some(0x33),
        Register::SS => Some(0x2b),
        Register::DS | Register::ES | Register::FS | Register::GS => Some(0),
        _ => None,
    }
}

/// Memory takes 16 bits; a wider register is zero-extended.
fn store_selector(e: &mut Emit, i: &Instruction, selector: i32) {
    if i.op0_kind() == OpKind::Memory {
        let off = e.address(i);
        e.c32(selector);
        e.store(Width::W16, off);
    } else {
        let w = e.width(i, 0);
        e.constant(w, i64::from(selector));
        e.write(i.op0_register());
    }
}

fn lea(e: &mut Emit, i: &Instruction) {
    let destination = i.op0_register();
    if destination == Register::RSP && i.memory_base() == Register::RSP && i.memory_index() == Register::None {
        return e.rsp_add(i.memory_displacement64() as i32);
    }
    if destination.size() == 8 || i.segment_prefix() != Register::None {
        e.address64(i);
        let w = e.width(i, 0);
        e.narrow(w);
    } else {
        let off = e.address(i);
        if off != 0 {
            e.c32(off as i32);
            e.s().i32_add();
        }
    }
    e.write(destination);
}

/// Register with register; with memory it is a locked operation.
fn xchg(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let t = e.wide_temp(w, 0);
    e.operand(i, 0);
    e.set(t);
    e.operand(i, 1);
    e.write(i.op0_register());
    e.get(t);
    e.write(i.op1_register());
}

fn push(e: &mut Emit, i: &Instruction) {
    if i.stack_pointer_increment() == -2 {
        return push16(e, i);
    }
    match i.op0_kind() {
        OpKind::Register if i.op0_register().is_segment_register() => e.c64(0),
        OpKind::Register | OpKind::Memory => e.operand(i, 0),
        _ => e.c64(i.immediate(0) as i64),
    }
    e.push64();
}

fn pop(e: &mut Emit, i: &Instruction) {
    if i.op0_kind() == OpKind::Register && !i.op0_register().is_gpr() {
        return e.gap(i);
    }
    if i.stack_pointer_increment() == 2 {
        return pop16(e, i);
    }
    // A destination in memory is addressed with the new rsp, as the manual says.
    e.pop64();
    e.set_operand(i, 0);
}

fn push16(e: &mut Emit, i: &Instruction) {
    match i.op0_kind() {
        OpKind::Register if i.op0_register().is_segment_register() => e.c32(0),
        OpKind::Register | OpKind::Memory => e.operand(i, 0),
        _ => e.c32(i.immediate(0) as i32),
    }
    push_word(e);
}

/// Pops i32 and pushes its low half on the guest stack.
fn push_word(e: &mut Emit) {
    let t = e.t32(0);
    e.set(t);
    e.rsp_add(-2);
    let off = e.rsp_address();
    e.get(t);
    e.store(Width::W16, off);
}

fn pop16(e: &mut Emit, i: &Instruction) {
    let t = e.t32(0);
    let off = e.rsp_address();
    e.load(Width::W16, off);
    e.set(t);
    e.rsp_add(2);
    e.get(t);
    e.set_operand(i, 0);
}

fn leave(e: &mut Emit, i: &Instruction) {
    if i.code() != Code::Leaveq || e.stack.is_some() {
        return e.gap(i);
    }
    e.read(Register::RBP);
    e.write(Register::RSP);
    e.pop64();
    e.write(Register::RBP);
}

/// Pushes rbp, then as many of the outer frames' pointers as the level says, the last of them the new frame's own.
fn enter(e: &mut Emit, i: &Instruction) {
    if e.stack.is_some() {
        return e.gap(i);
    }
    let (width, pointer, rbp) = if i.code() == Code::Enterq_imm16_imm8 { (Width::W64, Register::RSP, Register::RBP) } else { (Width::W16, Register::SP, Register::BP) };
    let push = |e: &mut Emit| if width == Width::W64 { e.push64() } else { push_word(e) };
    let level = i64::from(i.immediate8_2nd() & 31);
    let frame = e.wide_temp(width, 2);
    e.read(rbp);
    push(e);
    e.read(pointer);
    e.set(frame);
    for outer in 1..level {
        e.read(Register::RBP);
        e.s().i64_const(-i64::from(width.bytes()) * outer).i64_add().i32_wrap_i64();
        e.load(width, 0);
        push(e);
    }
    if level > 0 {
        e.get(frame);
        push(e);
    }
    e.get(frame);
    e.write(rbp);
    e.rsp_add(-i32::from(i.immediate16()));
}

/// al = [rbx + al].
fn xlatb(e: &mut Emit, i: &Instruction) {
    if i.segment_prefix() != Register::None || i.memory_base() != Register::RBX {
        return e.gap(i);
    }
    e.read(Register::EBX);
    e.read(Register::AL);
    e.s().i32_add();
    e.load(Width::W8, 0);
    e.write(Register::AL);
}

/// The source is read whatever the condition.
fn cmov(e: &mut Emit, i: &Instruction) {
    e.operand(i, 1);
    e.operand(i, 0);
    e.condition(i.condition_code());
    e.s().select();
    e.write(i.op0_register());
}

fn set(e: &mut Emit, i: &Instruction) {
    e.condition(i.condition_code());
    e.set_operand(i, 0);
}
