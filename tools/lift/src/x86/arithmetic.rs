//! Binary arithmetic (SDM vol. 1, 5.1.2): add adc sub sbb cmp inc dec neg. Multiplication and division are in `multiply.rs`.
//!
//! The fact a newcomer gets wrong: inc and dec keep CF. A pending lazy flag lives in the operand locals that the row is about to overwrite, so CF moves to
//! its own local first.

use super::{RowTable, same_register, stack_adjust};
use crate::emit::{Alu, Emit, Flag, Flags, Lazy, Width};
use iced_x86::{Instruction, Mnemonic, RflagsBits};

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Add, add),
    (Mnemonic::Adc, adc),
    (Mnemonic::Sub, sub),
    (Mnemonic::Sbb, sbb),
    (Mnemonic::Cmp, cmp),
    (Mnemonic::Inc, inc),
    (Mnemonic::Dec, dec),
    (Mnemonic::Neg, neg),
];

const CF: Flags = Flags(RflagsBits::CF);

fn add(e: &mut Emit, i: &Instruction) {
    if stack_adjust(e, i, 1) {
        return;
    }
    let w = e.width(i, 0);
    let flags = e.live_flags.any();
    e.modify(i, |e| {
        if flags {
            let a = e.flag_a(w);
            e.tee(a);
        }
        e.operand(i, 1);
        e.alu(w, Alu::Add);
        if flags {
            e.zero_extend(w);
            let r = e.flag_r(w);
            e.tee(r);
        }
    });
    if flags {
        e.lazy = Lazy::Add(w);
    }
}

fn sub(e: &mut Emit, i: &Instruction) {
    if stack_adjust(e, i, -1) {
        return;
    }
    let w = e.width(i, 0);
    if same_register(i) && w >= Width::W32 {
        return super::logical::clear(e, i, w);
    }
    let flags = e.live_flags.any();
    e.modify(i, |e| {
        if flags {
            let a = e.flag_a(w);
            e.tee(a);
        }
        e.operand(i, 1);
        if flags {
            let b = e.flag_b(w);
            e.tee(b);
        }
        e.alu(w, Alu::Sub);
    });
    if flags {
        e.lazy = Lazy::Sub(w);
    }
}

fn cmp(e: &mut Emit, i: &Instruction) {
    if !e.live_flags.any() {
        return e.touch(i);
    }
    let w = e.width(i, 0);
    e.operand(i, 0);
    let a = e.flag_a(w);
    e.set(a);
    e.operand(i, 1);
    let b = e.flag_b(w);
    e.set(b);
    e.lazy = Lazy::Sub(w);
}

/// a + b + CF.
fn adc(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let carry = carry_in(e, w);
    e.modify(i, |e| {
        let (a, b) = operands(e, i, w);
        e.get(a);
        e.get(b);
        e.alu(w, Alu::Add);
        e.get(carry);
        e.alu(w, Alu::Add);
        sum_flags(e, w, a, b, carry);
    });
}

/// Pops a + b + carry; leaves it zero-extended, with flags as of an addition.
pub(super) fn sum_flags(e: &mut Emit, w: Width, a: u32, b: u32, carry: u32) {
    let r = e.flag_r(w);
    e.zero_extend(w);
    e.set(r);
    if e.live_flags.has(Flag::Cf) {
        // Without carry in: r < a; with it: r <= a.
        e.get(r);
        e.get(a);
        e.alu(w, Alu::LtU);
        e.get(r);
        e.get(a);
        e.alu(w, Alu::Eq);
        e.get(carry);
        e.to_i32(w);
        e.s().i32_and().i32_or();
        e.set_flag(Flag::Cf);
    }
    if e.live_flags.has(Flag::Of) {
        // (a ^ r) & (b ^ r)
        xor(e, w, a, r);
        xor(e, w, b, r);
        e.alu(w, Alu::And);
        e.is_negative(w);
        e.set_flag(Flag::Of);
    }
    carry_out_of_bit_3(e, w, a, b, r);
    e.lazy = Lazy::Result(w);
    e.get(r);
}

/// a - b - CF.
fn sbb(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let carry = carry_in(e, w);
    if same_register(i) {
        return spread_carry(e, i, w, carry);
    }
    e.modify(i, |e| {
        let (a, b) = operands(e, i, w);
        e.get(a);
        e.get(b);
        e.alu(w, Alu::Sub);
        e.get(carry);
        e.alu(w, Alu::Sub);
        difference_flags(e, w, a, b, carry);
    });
}

/// `sbb r,r`: 0 or -1; CF stays, AF is CF, OF is 0.
fn spread_carry(e: &mut Emit, i: &Instruction, w: Width, carry: u32) {
    for (f, copies) in [(Flag::Cf, true), (Flag::Af, true), (Flag::Of, false)] {
        if e.live_flags.has(f) {
            if copies {
                e.get(carry);
                e.to_i32(w);
            } else {
                e.c32(0);
            }
            e.set_flag(f);
        }
    }
    e.constant(w, 0);
    e.get(carry);
    e.alu(w, Alu::Sub);
    if e.live_flags.any() {
        e.zero_extend(w);
        let r = e.flag_r(w);
        e.tee(r);
        e.lazy = Lazy::Result(w);
    }
    e.write(i.op0_register());
}

/// Pops a - b - carry; leaves it zero-extended, with flags as of a subtraction.
pub(super) fn difference_flags(e: &mut Emit, w: Width, a: u32, b: u32, carry: u32) {
    let r = e.flag_r(w);
    e.zero_extend(w);
    e.set(r);
    if e.live_flags.has(Flag::Cf) {
        // Without borrow in: a < b; with it: a <= b.
        e.get(a);
        e.get(b);
        e.alu(w, Alu::LtU);
        e.get(a);
        e.get(b);
        e.alu(w, Alu::Eq);
        e.get(carry);
        e.to_i32(w);
        e.s().i32_and().i32_or();
        e.set_flag(Flag::Cf);
    }
    if e.live_flags.has(Flag::Of) {
        // (a ^ b) & (a ^ r)
        xor(e, w, a, b);
        xor(e, w, a, r);
        e.alu(w, Alu::And);
        e.is_negative(w);
        e.set_flag(Flag::Of);
    }
    carry_out_of_bit_3(e, w, a, b, r);
    e.lazy = Lazy::Result(w);
    e.get(r);
}

fn xor(e: &mut Emit, w: Width, x: u32, y: u32) {
    e.get(x);
    e.get(y);
    e.alu(w, Alu::Xor);
}

/// AF, when live: bit 4 of a ^ b ^ r.
fn carry_out_of_bit_3(e: &mut Emit, w: Width, a: u32, b: u32, r: u32) {
    if !e.live_flags.has(Flag::Af) {
        return;
    }
    xor(e, w, a, b);
    e.get(r);
    e.alu(w, Alu::Xor);
    e.to_i32(w);
    e.s().i32_const(4).i32_shr_u().i32_const(1).i32_and();
    e.set_flag(Flag::Af);
}

/// CF as a value of width class `w`, in a local.
pub(super) fn carry_in(e: &mut Emit, w: Width) -> u32 {
    e.flag(Flag::Cf);
    e.from_i32(w);
    let carry = e.wide_temp(w, 0);
    e.set(carry);
    carry
}

/// Operand 0 (on the stack) and operand 1 into locals.
fn operands(e: &mut Emit, i: &Instruction, w: Width) -> (u32, u32) {
    let (a, b) = (e.wide_temp(w, 1), e.wide_temp(w, 2));
    e.set(a);
    e.operand(i, 1);
    e.set(b);
    (a, b)
}

fn inc(e: &mut Emit, i: &Instruction) {
    step(e, i, Alu::Add);
}

fn dec(e: &mut Emit, i: &Instruction) {
    step(e, i, Alu::Sub);
}

fn step(e: &mut Emit, i: &Instruction, op: Alu) {
    let w = e.width(i, 0);
    keep_carry(e);
    e.modify(i, |e| {
        e.constant(w, 1);
        e.alu(w, op);
        step_flags(e, w, op);
    });
}

/// Before inc and dec: CF, if live, to its local.
pub(super) fn keep_carry(e: &mut Emit) {
    if e.live_flags.has(Flag::Cf) {
        e.flags_to_locals(CF);
    }
}

/// Flags of inc (Add) or dec (Sub); the result stays on the stack.
pub(super) fn step_flags(e: &mut Emit, w: Width, op: Alu) {
    if !e.live_flags.any() {
        return;
    }
    let r = e.flag_r(w);
    e.zero_extend(w);
    e.tee(r);
    let minimum = 1_u64 << (w.bits() - 1);
    let (overflowed, low) = if op == Alu::Add { (minimum, 0) } else { (minimum - 1, 0xf) };
    if e.live_flags.has(Flag::Of) {
        e.get(r);
        e.constant(w, overflowed as i64);
        e.alu(w, Alu::Eq);
        e.set_flag(Flag::Of);
    }
    if e.live_flags.has(Flag::Af) {
        e.get(r);
        e.to_i32(w);
        e.s().i32_const(0xf).i32_and().i32_const(low).i32_eq();
        e.set_flag(Flag::Af);
    }
    e.lazy = Lazy::Result(w);
}

/// 0 - a.
fn neg(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let flags = e.live_flags.any();
    let t = e.wide_temp(w, 0);
    e.modify(i, |e| {
        e.set(t);
        e.constant(w, 0);
        e.get(t);
        if flags {
            negation_flags(e, w, t);
        }
        e.alu(w, Alu::Sub);
    });
}

/// Flags of 0 - t.
pub(super) fn negation_flags(e: &mut Emit, w: Width, t: u32) {
    let (a, b) = (e.flag_a(w), e.flag_b(w));
    e.constant(w, 0);
    e.set(a);
    e.get(t);
    e.set(b);
    e.lazy = Lazy::Sub(w);
}
