//! What one instruction makes of a general register, for the walk in `values`.
//!
//! Owns the instructions compilers use to make small constants. Refuses to guess: everything else is open. The fact a newcomer gets wrong: only the low 32 bits of the result are looked at (the kernel looks at no
//! more of a system call's number), so 32- and 64-bit forms are alike; narrower ones keep the bits above.

use super::values::number;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeSet;

pub(super) type Function = Box<dyn Fn(u32) -> Vec<u32>>;

pub(super) enum Step {
    Values(BTreeSet<u32>),
    /// A copy of that register as it was before the instruction with that index of the block.
    From(usize, usize),
    /// The register as before, or that one.
    Either(usize),
    /// Computed from that register as it was before this instruction.
    Computed(usize, Function),
    Open(&'static str),
}

/// `before` are the instructions of the block in front of `i`, which writes the register.
pub(super) fn step(i: &Instruction, register: usize, before: &[Instruction], constant: &dyn Fn(u64) -> Option<u32>) -> Step {
    let destination = i.op0_register();
    if i.op0_kind() != OpKind::Register || !destination.is_gpr() || number(destination) != register || i.mnemonic() == Mnemonic::Xchg {
        return exchanged(i, register, before.len());
    }
    match destination.size() {
        1 | 2 => narrow(i, register),
        _ => wide(i, register, before, constant),
    }
}

/// `xchg` of two whole registers.
fn exchanged(i: &Instruction, register: usize, here: usize) -> Step {
    let whole = |r: Register| r.is_gpr32() || r.is_gpr64();
    if i.mnemonic() == Mnemonic::Xchg && i.op1_kind() == OpKind::Register && i.op0_kind() == OpKind::Register && whole(i.op0_register()) && whole(i.op1_register()) {
        let other = if number(i.op0_register()) == register { i.op1_register() } else { i.op0_register() };
        return Step::From(number(other), here);
    }
    Step::Open("written by the way")
}

fn only(value: u32) -> Step {
    Step::Values(BTreeSet::from([value]))
}

fn computed(register: usize, f: impl Fn(u32) -> u32 + 'static) -> Step {
    Step::Computed(register, Box::new(move |v| vec![f(v)]))
}

fn immediate(i: &Instruction) -> Option<u32> {
    let last = i.op_count().checked_sub(1)?;
    let kind = i.op_kind(last);
    let is = !matches!(kind, OpKind::Register | OpKind::Memory) && i.op_count() > 1;
    is.then(|| i.immediate(last) as u32)
}

/// Writes of the low 8 or 16 bits.
fn narrow(i: &Instruction, register: usize) -> Step {
    let destination = i.op0_register();
    if matches!(destination, Register::AH | Register::BH | Register::CH | Register::DH) {
        return Step::Open("written in part");
    }
    let mask: u32 = if destination.size() == 1 { 0xff } else { 0xffff };
    if i.mnemonic() == Mnemonic::Mov
        && let Some(value) = immediate(i)
    {
        return computed(register, move |v| v & !mask | value & mask);
    }
    if destination.size() == 1 && i.is_setcc() {
        return Step::Computed(register, Box::new(|v| vec![v & !0xff, v & !0xff | 1]));
    }
    Step::Open("written in part")
}

trait SetCondition {
    fn is_setcc(&self) -> bool;
}

impl SetCondition for Instruction {
    fn is_setcc(&self) -> bool {
        use Mnemonic::*;
        matches!(self.mnemonic(), Seta | Setae | Setb | Setbe | Sete | Setg | Setge | Setl | Setle | Setne | Setno | Setnp | Setns | Seto | Setp | Sets)
    }
}

fn wide(i: &Instruction, register: usize, before: &[Instruction], constant: &dyn Fn(u64) -> Option<u32>) -> Step {
    use Mnemonic::*;
    let value = immediate(i);
    let same = i.op_count() == 2 && i.op1_kind() == OpKind::Register && i.op0_register() == i.op1_register();
    match (i.mnemonic(), value) {
        (Mov, Some(value)) => only(value),
        (Mov, None) if i.op1_kind() == OpKind::Register && i.op1_register().is_gpr() => Step::From(number(i.op1_register()), before.len()),
        (Mov, None) if i.is_ip_rel_memory_operand() => constant(i.ip_rel_memory_address()).map_or(Step::Open("loaded from memory"), only),
        (Movsxd, _) if i.op1_kind() == OpKind::Register => Step::From(number(i.op1_register()), before.len()),
        (Movzx | Movsx, _) if i.op1_kind() == OpKind::Register => extended(i),
        (Xor | Sub, _) if same => only(0),
        (Sbb, _) if same => Step::Values(BTreeSet::from([0, u32::MAX])),
        (Or, Some(u32::MAX)) => only(u32::MAX),
        (And, Some(0)) => only(0),
        (Add, Some(n)) => computed(register, move |v| v.wrapping_add(n)),
        (Sub, Some(n)) => computed(register, move |v| v.wrapping_sub(n)),
        (And, Some(n)) => computed(register, move |v| v & n),
        (Or, Some(n)) => computed(register, move |v| v | n),
        (Xor, Some(n)) => computed(register, move |v| v ^ n),
        (Inc, _) => computed(register, |v| v.wrapping_add(1)),
        (Dec, _) => computed(register, |v| v.wrapping_sub(1)),
        (Neg, _) => computed(register, u32::wrapping_neg),
        (Not, _) => computed(register, |v| !v),
        (Lea, _) => address(i),
        (Pop, _) => popped(before),
        (m, _) if is_conditional_move(m) && i.op1_kind() == OpKind::Register => Step::Either(number(i.op1_register())),
        _ if i.op_count() > 1 && i.op1_kind() == OpKind::Memory => Step::Open("loaded from memory"),
        _ => Step::Open("computed"),
    }
}

fn is_conditional_move(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(m, Cmova | Cmovae | Cmovb | Cmovbe | Cmove | Cmovg | Cmovge | Cmovl | Cmovle | Cmovne | Cmovno | Cmovnp | Cmovns | Cmovo | Cmovp | Cmovs)
}

/// `movzx` and `movsx` between registers.
fn extended(i: &Instruction) -> Step {
    let source = i.op1_register();
    if matches!(source, Register::AH | Register::BH | Register::CH | Register::DH) {
        return Step::Open("computed");
    }
    let shift = 32 - 8 * source.size() as u32;
    let signed = i.mnemonic() == Mnemonic::Movsx;
    computed(number(source), move |v| if signed { ((v << shift) as i32 >> shift) as u32 } else { v << shift >> shift })
}

/// `lea` of a constant, or of one register and a displacement.
fn address(i: &Instruction) -> Step {
    let offset = i.memory_displacement64() as u32;
    match (i.memory_base(), i.memory_index()) {
        (Register::None, Register::None) => only(offset),
        (Register::RIP | Register::EIP, Register::None) => only(offset),
        (base, Register::None) => computed(number(base), move |v| v.wrapping_add(offset)),
        _ => Step::Open("computed"),
    }
}

/// What the `push` that belongs to a `pop` pushed, if both stand in one block with nothing else at the stack pointer between.
fn popped(before: &[Instruction]) -> Step {
    let mut depth = 0;
    for (index, i) in before.iter().enumerate().rev() {
        match i.mnemonic() {
            Mnemonic::Pop => depth += 1,
            Mnemonic::Push if depth > 0 => depth -= 1,
            Mnemonic::Push if i.op0_kind() == OpKind::Register && i.op0_register().is_gpr() => return Step::From(number(i.op0_register()), index),
            Mnemonic::Push if !matches!(i.op0_kind(), OpKind::Register | OpKind::Memory) => return only(i.immediate(0) as u32),
            _ if i.stack_pointer_increment() != 0 || (i.op0_kind() == OpKind::Register && number(i.op0_register()) == number(Register::RSP)) => break,
            // The pushed word may have been changed where it lies.
            _ if i.op0_kind() == OpKind::Memory => break,
            _ => {}
        }
    }
    Step::Open("loaded from memory")
}
