//! Shift and rotate (SDM vol. 1, 5.1.5): shl shr sar rol ror rcl rcr shld shrd.
//!
//! The fact a newcomer gets wrong: a masked count of 0 leaves every flag alone, and rotates leave SF, ZF, AF and PF alone at any count. A constant
//! count is decided here; a count in cl updates the flag locals inside an `if`.

use super::RowTable;
use crate::emit::{Alu, Emit, Flag, Flags, Lazy, Width};
use iced_x86::{Instruction, Mnemonic, OpKind, RflagsBits};

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Shl, shl),
    (Mnemonic::Sal, shl),
    (Mnemonic::Shr, shr),
    (Mnemonic::Sar, sar),
    (Mnemonic::Rol, rol),
    (Mnemonic::Ror, ror),
    (Mnemonic::Rcl, rcl),
    (Mnemonic::Rcr, rcr),
    (Mnemonic::Shld, shld),
    (Mnemonic::Shrd, shrd),
];

/// CF and OF: all that rotates write.
const ROTATE_FLAGS: Flags = Flags(RflagsBits::CF | RflagsBits::OF);

/// A masked shift count.
#[derive(Clone, Copy)]
enum Count {
    /// Not zero.
    Constant(u32),
    /// i32 local.
    Variable(u32),
}

/// The count operand, masked to 5 or 6 bits; None if it is the constant 0.
fn count(e: &mut Emit, i: &Instruction, w: Width) -> Option<Count> {
    let mask = if w.is_64() { 63 } else { 31 };
    let k = i.op_count() - 1;
    if i.op_kind(k) == OpKind::Register {
        e.read(iced_x86::Register::ECX);
        e.c32(mask);
        e.s().i32_and();
        let local = e.t32(0);
        e.set(local);
        return Some(Count::Variable(local));
    }
    let through_carry = matches!(i.mnemonic(), Mnemonic::Rcl | Mnemonic::Rcr);
    match i.immediate(k) as u32 & mask as u32 {
        0 => None,
        // All the way round.
        n if through_carry && n % (w.bits() + 1) == 0 => None,
        n => Some(Count::Constant(n)),
    }
}

impl Count {
    /// Pushes it as a value of `w`.
    fn push(self, e: &mut Emit, w: Width) {
        match self {
            Count::Constant(n) => e.constant(w, i64::from(n)),
            Count::Variable(l) => {
                e.get(l);
                e.from_i32(w);
            }
        }
    }
    /// Pushes `n - count`.
    fn push_from(self, e: &mut Emit, w: Width, n: u32) {
        match self {
            Count::Constant(c) => e.constant(w, i64::from(n as i32 - c as i32)),
            Count::Variable(l) => {
                e.c32(n as i32);
                e.get(l);
                e.s().i32_sub();
                e.from_i32(w);
            }
        }
    }
    /// Pushes `count - 1`.
    fn push_less_one(self, e: &mut Emit, w: Width) {
        match self {
            Count::Constant(n) => e.constant(w, i64::from(n) - 1),
            Count::Variable(l) => {
                e.get(l);
                e.c32(1);
                e.s().i32_sub();
                e.from_i32(w);
            }
        }
    }
}

/// The frame of all rows here. `value` gets (old value local, count) and pushes the new value; `set` computes flag locals from (old, new) when the count
/// is not 0. `written`: the flags the instruction changes; ZF, SF and PF among them come from the result.
fn shift(e: &mut Emit, i: &Instruction, written: Flags, value: impl FnOnce(&mut Emit, Width, u32, Count), set: impl FnOnce(&mut Emit, Width, u32, u32, Count)) {
    let w = e.width(i, 0);
    let Some(count) = count(e, i, w) else {
        // The register is written all the same: a 32-bit one is zero-extended.
        return e.modify(i, |_| {});
    };
    let flags = Flags(e.live_flags.0 & written.0);
    let from_result = written.has(Flag::Zf);
    let all_written = matches!(count, Count::Constant(_)) && from_result;
    if flags.any() && !all_written {
        // Some flags do survive, or, at a variable count, all may.
        let survivors = if matches!(count, Count::Constant(_)) { e.live_flags.without(written) } else { e.live_flags };
        e.flags_to_locals(survivors);
    }
    let a = e.wide_temp(w, 1);
    e.modify(i, |e| {
        e.set(a);
        value(e, w, a, count);
        if !flags.any() {
            return;
        }
        e.zero_extend(w);
        if all_written {
            let r = e.flag_r(w);
            e.set(r);
            set(e, w, a, r, count);
            e.lazy = Lazy::Result(w);
            return e.get(r);
        }
        let r = e.wide_temp(w, 2);
        e.set(r);
        let update = |e: &mut Emit| {
            set(e, w, a, r, count);
            if from_result {
                result_flags(e, w, r);
            }
        };
        match count {
            Count::Constant(_) => update(e),
            Count::Variable(l) => {
                e.get(l);
                e.if_then(update);
            }
        }
        e.get(r);
    });
}

/// ZF, SF and PF of local `r` into the flag locals, if live.
fn result_flags(e: &mut Emit, w: Width, r: u32) {
    let live = e.live_flags;
    if live.has(Flag::Zf) {
        e.get(r);
        e.eqz(w);
        e.set_flag(Flag::Zf);
    }
    if live.has(Flag::Sf) {
        e.get(r);
        e.is_negative(w);
        e.set_flag(Flag::Sf);
    }
    if live.has(Flag::Pf) {
        e.get(r);
        e.parity(w);
        e.set_flag(Flag::Pf);
    }
}

/// Sets a live flag to bit 0 of the value of `w` that `value` pushes.
fn set_low_bit(e: &mut Emit, f: Flag, w: Width, value: impl FnOnce(&mut Emit)) {
    if e.live_flags.has(f) {
        value(e);
        e.to_i32(w);
        e.s().i32_const(1).i32_and();
        e.set_flag(f);
    }
}

/// Sets OF, if live, to the sign of the value that `value` pushes.
fn set_overflow(e: &mut Emit, w: Width, value: impl FnOnce(&mut Emit)) {
    if e.live_flags.has(Flag::Of) {
        value(e);
        e.is_negative(w);
        e.set_flag(Flag::Of);
    }
}

/// AF is undefined after a shift; CPUs clear it.
fn clear_auxiliary(e: &mut Emit) {
    if e.live_flags.has(Flag::Af) {
        e.c32(0);
        e.set_flag(Flag::Af);
    }
}

/// Pushes `local` operated with a constant.
fn with_constant(e: &mut Emit, w: Width, local: u32, op: Alu, c: i64) {
    e.get(local);
    e.constant(w, c);
    e.alu(w, op);
}

/// Pushes x ^ y.
fn differ(e: &mut Emit, w: Width, x: u32, y: u32) {
    e.get(x);
    e.get(y);
    e.alu(w, Alu::Xor);
}

fn shl(e: &mut Emit, i: &Instruction) {
    shift(
        e,
        i,
        Flags::ALL,
        |e, w, a, c| {
            e.get(a);
            c.push(e, w);
            e.alu(w, Alu::Shl);
        },
        |e, w, a, r, c| {
            // The last bit out. A narrow value is shifted within 32 bits; counts beyond its width give 0, as CPUs do.
            set_low_bit(e, Flag::Cf, w, |e| {
                e.get(a);
                if w < Width::W32 {
                    c.push(e, w);
                    e.alu(w, Alu::Shl);
                    e.constant(Width::W32, i64::from(w.bits()));
                } else {
                    c.push_from(e, w, w.bits());
                }
                e.alu(w, Alu::ShrU);
            });
            // Count 1: did the sign change? Undefined for others.
            set_overflow(e, w, |e| differ(e, w, a, r));
            clear_auxiliary(e);
        },
    );
}

fn shr(e: &mut Emit, i: &Instruction) {
    shift(
        e,
        i,
        Flags::ALL,
        |e, w, a, c| {
            e.get(a);
            c.push(e, w);
            e.alu(w, Alu::ShrU);
        },
        |e, w, a, _, c| {
            set_low_bit(e, Flag::Cf, w, |e| {
                e.get(a);
                c.push_less_one(e, w);
                e.alu(w, Alu::ShrU);
            });
            set_overflow(e, w, |e| e.get(a));
            clear_auxiliary(e);
        },
    );
}

fn sar(e: &mut Emit, i: &Instruction) {
    let signed = |e: &mut Emit, w: Width, a: u32| {
        e.get(a);
        e.sign_extend(w);
    };
    shift(
        e,
        i,
        Flags::ALL,
        |e, w, a, c| {
            signed(e, w, a);
            c.push(e, w);
            e.alu(w, Alu::ShrS);
        },
        |e, w, a, _, c| {
            set_low_bit(e, Flag::Cf, w, |e| {
                signed(e, w, a);
                c.push_less_one(e, w);
                e.alu(w, Alu::ShrS);
            });
            set_overflow(e, w, |e| e.constant(w, 0));
            clear_auxiliary(e);
        },
    );
}

/// Pushes the value repeated to fill 32 bits, so that a 32-bit rotate rotates it.
fn repeated(e: &mut Emit, w: Width, a: u32) {
    e.get(a);
    match w {
        Width::W8 => {
            e.s().i32_const(0x0101_0101).i32_mul();
        }
        Width::W16 => {
            e.s().i32_const(0x0001_0001).i32_mul();
        }
        _ => {}
    }
}

fn rol(e: &mut Emit, i: &Instruction) {
    shift(
        e,
        i,
        ROTATE_FLAGS,
        |e, w, a, c| {
            repeated(e, w, a);
            c.push(e, w);
            e.alu(w, Alu::Rotl);
        },
        |e, w, _, r, _| {
            set_low_bit(e, Flag::Cf, w, |e| e.get(r));
            // Count 1: MSB ^ CF.
            set_overflow(e, w, |e| {
                with_constant(e, w, r, Alu::Shl, i64::from(w.bits() - 1));
                e.get(r);
                e.alu(w, Alu::Xor);
            });
        },
    );
}

fn ror(e: &mut Emit, i: &Instruction) {
    shift(
        e,
        i,
        ROTATE_FLAGS,
        |e, w, a, c| {
            repeated(e, w, a);
            c.push(e, w);
            e.alu(w, Alu::Rotr);
        },
        |e, w, _, r, _| {
            set_low_bit(e, Flag::Cf, w, |e| with_constant(e, w, r, Alu::ShrU, i64::from(w.bits() - 1)));
            top_bits_differ(e, w, r);
        },
    );
}

/// OF of ror and rcr by 1: the two top bits of the result differ.
fn top_bits_differ(e: &mut Emit, w: Width, r: u32) {
    set_overflow(e, w, |e| {
        with_constant(e, w, r, Alu::Shl, 1);
        e.get(r);
        e.alu(w, Alu::Xor);
    });
}

/// The carry as an i64 0/1 in a local (rotates through carry).
fn carry(e: &mut Emit) -> u32 {
    e.flag(Flag::Cf);
    e.s().i64_extend_i32_u();
    let l = e.t64(3);
    e.set(l);
    l
}

fn rcl(e: &mut Emit, i: &Instruction) {
    let cf = carry(e);
    // The carry that comes out, as bit 0 of an i64.
    let out = e.t64(4);
    shift(
        e,
        i,
        ROTATE_FLAGS,
        |e, w, a, c| if w.is_64() { rotate_carry_64(e, a, cf, out, c, Alu::Shl) } else { rotate_carry(e, w, a, cf, out, c, Alu::Shl) },
        |e, w, _, r, _| {
            set_low_bit(e, Flag::Cf, Width::W64, |e| e.get(out));
            // MSB of the result ^ CF.
            set_overflow(e, w, |e| {
                e.get(out);
                e.narrow(w);
                e.constant(w, i64::from(w.bits() - 1));
                e.alu(w, Alu::Shl);
                e.get(r);
                e.alu(w, Alu::Xor);
            });
        },
    );
}

fn rcr(e: &mut Emit, i: &Instruction) {
    let cf = carry(e);
    let out = e.t64(4);
    shift(
        e,
        i,
        ROTATE_FLAGS,
        |e, w, a, c| if w.is_64() { rotate_carry_64(e, a, cf, out, c, Alu::ShrU) } else { rotate_carry(e, w, a, cf, out, c, Alu::ShrU) },
        |e, w, _, r, _| {
            set_low_bit(e, Flag::Cf, Width::W64, |e| e.get(out));
            top_bits_differ(e, w, r);
        },
    );
}

/// Up to 32 bits: CF:value as one number of width + 1 bits in an i64, rotated. Pushes the value; the new carry goes to `out`.
fn rotate_carry(e: &mut Emit, w: Width, a: u32, cf: u32, out: u32, c: Count, op: Alu) {
    let n = w.bits() + 1;
    let (x, k) = (e.t64(5), e.t64(6));
    e.get(a);
    e.s().i64_extend_i32_u().local_get(cf).i64_const(i64::from(w.bits())).i64_shl().i64_or().local_set(x);
    match c {
        Count::Constant(v) => e.c64(i64::from(v % n)),
        Count::Variable(l) => {
            e.get(l);
            e.s().i32_const(n as i32).i32_rem_u().i64_extend_i32_u();
        }
    }
    e.set(k);
    let back = if op == Alu::Shl { Alu::ShrU } else { Alu::Shl };
    e.get(x);
    e.get(k);
    e.alu(Width::W64, op);
    e.get(x);
    e.c64(i64::from(n));
    e.get(k);
    e.s().i64_sub();
    e.alu(Width::W64, back);
    e.s().i64_or().local_tee(x).i64_const(i64::from(w.bits())).i64_shr_u().local_set(out);
    e.get(x);
    e.s().i32_wrap_i64();
    e.zero_extend(w);
}

/// 64 bits: the three parts of the result, for counts 1..63; count 0 keeps the value.
fn rotate_carry_64(e: &mut Emit, a: u32, cf: u32, out: u32, c: Count, op: Alu) {
    let w = Width::W64;
    let back = if op == Alu::Shl { Alu::ShrU } else { Alu::Shl };
    // The part that moves on, the part that wraps by one bit less, and the carry between them.
    e.get(a);
    c.push(e, w);
    e.alu(w, op);
    with_constant(e, w, a, back, 1);
    c.push_from(e, w, 64);
    e.alu(w, back);
    e.s().i64_or();
    e.get(cf);
    if op == Alu::Shl {
        c.push_less_one(e, w)
    } else {
        c.push_from(e, w, 64)
    }
    e.s().i64_shl().i64_or();
    if let Count::Variable(l) = c {
        let t = e.t64(5);
        e.s().local_set(t).local_get(t).local_get(a).local_get(l).select();
    }
    e.get(a);
    if op == Alu::Shl {
        c.push_from(e, w, 64)
    } else {
        c.push_less_one(e, w)
    }
    e.s().i64_shr_u().local_set(out);
}

fn shld(e: &mut Emit, i: &Instruction) {
    double_shift(e, i, Alu::Shl);
}

fn shrd(e: &mut Emit, i: &Instruction) {
    double_shift(e, i, Alu::ShrU);
}

fn double_shift(e: &mut Emit, i: &Instruction, op: Alu) {
    let w = e.width(i, 0);
    let b = e.wide_temp(w, 3);
    e.operand(i, 1);
    e.set(b);
    let back = if op == Alu::Shl { Alu::ShrU } else { Alu::Shl };
    shift(
        e,
        i,
        Flags::ALL,
        |e, w, a, c| {
            if w == Width::W16 {
                triple(e, a, b);
                c.push(e, Width::W64);
                e.alu(Width::W64, op);
                e.s().i64_const(if op == Alu::Shl { 32 } else { 0 }).i64_shr_u().i32_wrap_i64();
                e.zero_extend(w);
                return;
            }
            e.get(a);
            c.push(e, w);
            e.alu(w, op);
            e.get(b);
            c.push_from(e, w, w.bits());
            e.alu(w, back);
            e.alu(w, Alu::Or);
            if let Count::Variable(l) = c {
                // A shift by width - 0 would be one by 0.
                let t = e.wide_temp(w, 4);
                e.s().local_set(t).local_get(t).local_get(a).local_get(l).select();
            }
        },
        |e, w, a, r, c| {
            if w == Width::W16 {
                set_low_bit(e, Flag::Cf, Width::W64, |e| {
                    triple(e, a, b);
                    if op == Alu::Shl {
                        c.push(e, Width::W64)
                    } else {
                        c.push_less_one(e, Width::W64)
                    }
                    e.alu(Width::W64, op);
                    e.s().i64_const(if op == Alu::Shl { 48 } else { 0 }).i64_shr_u();
                });
            } else {
                set_low_bit(e, Flag::Cf, w, |e| {
                    e.get(a);
                    if op == Alu::Shl {
                        c.push_from(e, w, w.bits())
                    } else {
                        c.push_less_one(e, w)
                    }
                    e.alu(w, Alu::ShrU);
                });
            }
            set_overflow(e, w, |e| differ(e, w, a, r));
            clear_auxiliary(e);
        },
    );
}

/// Pushes a:b:a as a 48-bit number: what CPUs shift for a 16-bit double shift by up to 31.
fn triple(e: &mut Emit, a: u32, b: u32) {
    e.get(a);
    e.s().i64_extend_i32_u().i64_const(0x1_0000_0001).i64_mul();
    e.get(b);
    e.s().i64_extend_i32_u().i64_const(16).i64_shl().i64_or();
}
