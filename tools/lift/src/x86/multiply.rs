//! Multiplication and division (SDM vol. 1, 5.1.2): mul imul div idiv.
//!
//! The fact a newcomer gets wrong: 128-bit products are made inline from four 32-bit ones (a helper call costs more), while 128/64 division goes to a
//! helper only when the high half matters.

use super::RowTable;
use crate::emit::{Alu, Emit, Flag, Lazy, Width};
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic, Register};
use syscalls::abi::{StopKind, helper};

pub(super) const ROWS: RowTable = &[(Mnemonic::Mul, mul), (Mnemonic::Imul, imul), (Mnemonic::Div, div), (Mnemonic::Idiv, idiv)];

/// Low and high halves of rax/rdx by width (8 bits: al and ah).
fn accumulator(w: Width) -> (Register, Register) {
    match w {
        Width::W8 => (Register::AL, Register::AH),
        Width::W16 => (Register::AX, Register::DX),
        Width::W32 => (Register::EAX, Register::EDX),
        Width::W64 => (Register::RAX, Register::RDX),
    }
}

fn mul(e: &mut Emit, i: &Instruction) {
    wide_multiply(e, i, false);
}

fn imul(e: &mut Emit, i: &Instruction) {
    match i.op_count() {
        1 => wide_multiply(e, i, true),
        2 => narrow_multiply(e, i, 0, 1),
        _ => narrow_multiply(e, i, 1, 2),
    }
}

/// Extends the value of `w` on the stack to i64.
fn extend(e: &mut Emit, w: Width, signed: bool) {
    if w.is_64() {
        return;
    }
    if signed {
        e.sign_extend(w);
        e.s().i64_extend_i32_s();
    } else {
        e.s().i64_extend_i32_u();
    }
}

/// high:low = low * operand.
fn wide_multiply(e: &mut Emit, i: &Instruction, signed: bool) {
    let w = e.width(i, 0);
    let (low, high) = accumulator(w);
    if w.is_64() {
        let (a, b, hi) = (e.t64(0), e.t64(1), e.t64(2));
        e.operand(i, 0);
        e.set(b);
        e.read(low);
        e.set(a);
        high_half(e, a, b, signed);
        e.set(hi);
        e.s().local_get(a).local_get(b).i64_mul();
        e.write(low);
        e.get(hi);
        e.write(high);
        overflow_flags(e, w, |e| {
            e.get(hi);
            if signed {
                e.read(low);
                e.s().i64_const(63).i64_shr_s().i64_ne();
            } else {
                e.c64(0);
                e.s().i64_ne();
            }
        });
        return product_flags(e, w, |e| e.read(low));
    }
    let p = e.t64(0);
    e.operand(i, 0);
    extend(e, w, signed);
    e.read(low);
    extend(e, w, signed);
    e.s().i64_mul().local_set(p);
    if w == Width::W8 {
        e.s().local_get(p).i32_wrap_i64();
        e.write(Register::AX);
    } else {
        e.s().local_get(p).i32_wrap_i64();
        e.write(low);
        e.s().local_get(p).i64_const(i64::from(w.bits())).i64_shr_u().i32_wrap_i64();
        e.write(high);
    }
    overflow_flags(e, w, |e| product_overflows(e, p, w, signed));
    product_flags(e, w, |e| {
        e.s().local_get(p).i32_wrap_i64();
        e.zero_extend(w);
    });
}

/// Pushes i32: does the product in `p` differ from its low `w` bits, extended?
fn product_overflows(e: &mut Emit, p: u32, w: Width, signed: bool) {
    if signed {
        e.s().local_get(p).i32_wrap_i64();
        extend(e, w, true);
        e.s().local_get(p).i64_ne();
    } else {
        e.s().local_get(p).i64_const(i64::from(w.bits())).i64_shr_u().i64_const(0).i64_ne();
    }
}

/// op0 = op[x] * op[y], truncated.
fn narrow_multiply(e: &mut Emit, i: &Instruction, x: u32, y: u32) {
    let w = e.width(i, 0);
    let check = e.live_flags.has(Flag::Cf) || e.live_flags.has(Flag::Of);
    e.operand(i, x);
    if !check {
        e.operand(i, y);
        e.alu(w, Alu::Mul);
        return e.write(i.op0_register());
    }
    if w.is_64() {
        let (a, b) = (e.t64(0), e.t64(1));
        e.set(a);
        e.operand(i, y);
        e.set(b);
        e.s().local_get(a).local_get(b).i64_mul();
        e.write(i.op0_register());
        overflow_flags(e, w, |e| {
            high_half(e, a, b, true);
            e.s().local_get(a).local_get(b).i64_mul().i64_const(63).i64_shr_s().i64_ne();
        });
        return product_flags(e, w, |e| {
            e.s().local_get(a).local_get(b).i64_mul();
        });
    }
    let p = e.t64(0);
    extend(e, w, true);
    e.operand(i, y);
    extend(e, w, true);
    e.s().i64_mul().local_tee(p).i32_wrap_i64();
    e.write(i.op0_register());
    overflow_flags(e, w, |e| product_overflows(e, p, w, true));
    product_flags(e, w, |e| {
        e.s().local_get(p).i32_wrap_i64();
        e.zero_extend(w);
    });
}

/// CF and OF, if live, from the i32 that `overflow` pushes.
fn overflow_flags(e: &mut Emit, _: Width, overflow: impl FnOnce(&mut Emit)) {
    let (cf, of) = (e.live_flags.has(Flag::Cf), e.live_flags.has(Flag::Of));
    if !cf && !of {
        return;
    }
    overflow(e);
    let c = e.flag_local(Flag::Cf);
    if cf && of {
        e.tee(c);
        e.set_flag(Flag::Of);
    } else {
        e.set_flag(if cf { Flag::Cf } else { Flag::Of });
    }
}

/// The undefined flags follow the low half of the product; AF is 0.
fn product_flags(e: &mut Emit, w: Width, low: impl FnOnce(&mut Emit)) {
    if !e.live_flags.any() {
        return;
    }
    if e.live_flags.has(Flag::Af) {
        e.c32(0);
        e.set_flag(Flag::Af);
    }
    low(e);
    let r = e.flag_r(w);
    e.set(r);
    e.lazy = Lazy::Result(w);
}

/// Pushes the high 64 bits of a * b (locals): schoolbook on 32-bit halves; a signed product subtracts what the sign bits added.
fn high_half(e: &mut Emit, a: u32, b: u32, signed: bool) {
    const LOW: i64 = 0xffff_ffff;
    let (ah, bl, m) = (e.t64(3), e.t64(4), e.t64(5));
    let bh = e.t64(6);
    e.s().local_get(a).i64_const(32).i64_shr_u().local_set(ah);
    e.s().local_get(b).i64_const(32).i64_shr_u().local_set(bh);
    e.s().local_get(b).i64_const(LOW).i64_and().local_set(bl);
    // m = ah * bl + (al * bl >> 32)
    e.s().local_get(ah).local_get(bl).i64_mul();
    e.s().local_get(a).i64_const(LOW).i64_and().local_get(bl).i64_mul().i64_const(32).i64_shr_u().i64_add().local_set(m);
    // high = ah * bh + (m >> 32) + (al * bh + low(m) >> 32)
    e.s().local_get(ah).local_get(bh).i64_mul();
    e.s().local_get(m).i64_const(32).i64_shr_u().i64_add();
    e.s().local_get(a).i64_const(LOW).i64_and().local_get(bh).i64_mul().local_get(m).i64_const(LOW).i64_and().i64_add();
    e.s().i64_const(32).i64_shr_u().i64_add();
    if signed {
        for (x, y) in [(a, b), (b, a)] {
            e.s().local_get(x).i64_const(63).i64_shr_s().local_get(y).i64_and().i64_sub();
        }
    }
}

fn div(e: &mut Emit, i: &Instruction) {
    divide(e, i, false);
}

fn idiv(e: &mut Emit, i: &Instruction) {
    divide(e, i, true);
}

/// Stops with #DE when the i32 on the stack is not 0.
fn divide_error(e: &mut Emit, i: &Instruction) {
    e.if_then(|e| e.stop(i, StopKind::Divide));
}

fn divide(e: &mut Emit, i: &Instruction, signed: bool) {
    let w = e.width(i, 0);
    let divisor = e.t64(0);
    e.operand(i, 0);
    extend(e, w, signed);
    e.set(divisor);
    if w.is_64() {
        return divide_64(e, i, divisor, signed);
    }
    let (low, high) = accumulator(w);
    let (n, q) = (e.t64(1), e.t64(2));
    // The dividend of twice the width, as an i64.
    if w == Width::W8 {
        e.read(Register::AX);
        extend(e, Width::W16, signed);
    } else {
        e.read(high);
        extend(e, w, signed);
        e.s().i64_const(i64::from(w.bits())).i64_shl();
        e.read(low);
        e.s().i64_extend_i32_u().i64_or();
    }
    e.set(n);
    e.s().local_get(divisor).i64_eqz();
    if signed && w == Width::W32 {
        // The one dividend whose quotient does not fit an i64.
        e.s().local_get(n).i64_const(i64::MIN).i64_eq().local_get(divisor).i64_const(-1).i64_eq().i32_and().i32_or();
    }
    divide_error(e, i);
    e.s().local_get(n).local_get(divisor);
    quotient(e, signed);
    e.s().local_set(q);
    product_overflows(e, q, w, signed);
    divide_error(e, i);
    let r = e.t64(3);
    e.s().local_get(n).local_get(q).local_get(divisor).i64_mul().i64_sub().local_set(r);
    e.s().local_get(q).i32_wrap_i64();
    e.write(low);
    e.s().local_get(r).i32_wrap_i64();
    e.write(high);
}

/// rdx:rax / divisor. When rdx is only the extension of rax the division is an i64 one.
fn divide_64(e: &mut Emit, i: &Instruction, divisor: u32, signed: bool) {
    let (rax, rdx) = (Register::RAX, Register::RDX);
    e.read(rdx);
    if signed {
        e.read(rax);
        e.s().i64_const(63).i64_shr_s().i64_eq();
        // rax + MIN and divisor + 1 are both 0 for the overflowing case.
        e.read(rax);
        e.s().i64_const(i64::MIN).i64_xor().local_get(divisor).i64_const(-1).i64_xor().i64_or().i64_const(0).i64_ne().i32_and();
    } else {
        e.s().i64_eqz();
    }
    e.s().local_get(divisor).i64_const(0).i64_ne().i32_and();
    // Both arms leave rax and rdx valid and dirty.
    let both = RegSet::RAX.or(RegSet::gpr(2));
    let (valid, dirty) = (e.valid, e.dirty);
    e.if_else(
        |e| {
            let q = e.t64(2);
            e.read(rax);
            e.get(divisor);
            quotient(e, signed);
            e.set(q);
            remainder_and_quotient(e, q, divisor);
        },
        |e| {
            // The copies in CpuState may be stale here even where this path thinks them clean.
            e.dirty = dirty.or(both);
            if signed {
                e.helper(helper::IDIV64, both, both, |e| {
                    e.get(divisor);
                    e.c64(0);
                });
                e.s().i32_wrap_i64();
                return divide_error(e, i);
            }
            // The quotient fits if the high half is less than the divisor, which is then not 0.
            e.read(rdx);
            e.s().local_get(divisor).i64_ge_u();
            divide_error(e, i);
            e.helper(helper::DIV64, RegSet::RAX, RegSet(0), |e| {
                e.get(divisor);
                e.read(rdx);
            });
            let q = e.t64(2);
            e.set(q);
            remainder_and_quotient(e, q, divisor);
        },
    );
    e.valid = valid.or(both);
    e.dirty = dirty.or(both);
}

/// rdx and rax from the quotient and the low half of the dividend: the remainder fits, so that the high half does not matter.
fn remainder_and_quotient(e: &mut Emit, q: u32, divisor: u32) {
    e.read(Register::RAX);
    e.s().local_get(q).local_get(divisor).i64_mul().i64_sub();
    e.write(Register::RDX);
    e.get(q);
    e.write(Register::RAX);
}

fn quotient(e: &mut Emit, signed: bool) {
    if signed {
        e.s().i64_div_s();
    } else {
        e.s().i64_div_u();
    }
}
