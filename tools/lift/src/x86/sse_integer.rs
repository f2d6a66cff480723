//! SSE2, SSSE3, SSE4.1 and SSE4.2 packed integer arithmetic, comparison, logic and shifts (SDM vol. 1, 5.6.3, 5.8, 5.10, 5.11).
//!
//! Owns what works lane by lane or across neighbouring lanes and yields integers; rearrangements are in `sse_shuffle`. The logical instructions of the
//! floating-point groups (andps, xorpd, …) are here too: they are the same bits. The fact a newcomer gets wrong: x86 shift counts above the lane width give
//! zero (or the sign), WASM's are taken modulo the width.

use super::Semantics;
use crate::emit::{Emit, Flag, Lazy, XmmClass};
use iced_x86::{Instruction, Mnemonic, OpKind};

/// Rows `destination = op(destination, source)` that are one WASM instruction.
macro_rules! direct {
    ($($m:ident $op:ident,)*) => {
        &[$((Mnemonic::$m, (|e, i| binary(e, i, |e| { e.s().$op(); })) as Semantics),)*]
    };
}

pub(super) const DIRECT: &[(Mnemonic, Semantics)] = direct! {
    Paddb i8x16_add, Paddw i16x8_add, Paddd i32x4_add, Paddq i64x2_add,
    Psubb i8x16_sub, Psubw i16x8_sub, Psubd i32x4_sub, Psubq i64x2_sub,
    Paddsb i8x16_add_sat_s, Paddsw i16x8_add_sat_s, Paddusb i8x16_add_sat_u, Paddusw i16x8_add_sat_u,
    Psubsb i8x16_sub_sat_s, Psubsw i16x8_sub_sat_s, Psubusb i8x16_sub_sat_u, Psubusw i16x8_sub_sat_u,
    Pavgb i8x16_avgr_u, Pavgw i16x8_avgr_u,
    Pminub i8x16_min_u, Pminuw i16x8_min_u, Pminud i32x4_min_u, Pminsb i8x16_min_s, Pminsw i16x8_min_s, Pminsd i32x4_min_s,
    Pmaxub i8x16_max_u, Pmaxuw i16x8_max_u, Pmaxud i32x4_max_u, Pmaxsb i8x16_max_s, Pmaxsw i16x8_max_s, Pmaxsd i32x4_max_s,
    Pcmpeqb i8x16_eq, Pcmpeqw i16x8_eq, Pcmpeqd i32x4_eq, Pcmpeqq i64x2_eq,
    Pcmpgtb i8x16_gt_s, Pcmpgtw i16x8_gt_s, Pcmpgtd i32x4_gt_s, Pcmpgtq i64x2_gt_s,
    Pmullw i16x8_mul, Pmulld i32x4_mul, Pmaddwd i32x4_dot_i16x8_s,
    Packsswb i8x16_narrow_i16x8_s, Packuswb i8x16_narrow_i16x8_u, Packssdw i16x8_narrow_i32x4_s, Packusdw i16x8_narrow_i32x4_u,
};

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Pand, |e, i| bitwise(e, i, Bitwise::And)),
    (Mnemonic::Andps, |e, i| bitwise(e, i, Bitwise::And)),
    (Mnemonic::Andpd, |e, i| bitwise(e, i, Bitwise::And)),
    (Mnemonic::Pandn, |e, i| bitwise(e, i, Bitwise::AndNot)),
    (Mnemonic::Andnps, |e, i| bitwise(e, i, Bitwise::AndNot)),
    (Mnemonic::Andnpd, |e, i| bitwise(e, i, Bitwise::AndNot)),
    (Mnemonic::Por, |e, i| bitwise(e, i, Bitwise::Or)),
    (Mnemonic::Orps, |e, i| bitwise(e, i, Bitwise::Or)),
    (Mnemonic::Orpd, |e, i| bitwise(e, i, Bitwise::Or)),
    (Mnemonic::Pxor, |e, i| bitwise(e, i, Bitwise::Xor)),
    (Mnemonic::Xorps, |e, i| bitwise(e, i, Bitwise::Xor)),
    (Mnemonic::Xorpd, |e, i| bitwise(e, i, Bitwise::Xor)),
    (Mnemonic::Ptest, ptest),
    (Mnemonic::Pabsb, |e, i| {
        unary(e, i, |e| {
            e.s().i8x16_abs();
        })
    }),
    (Mnemonic::Pabsw, |e, i| {
        unary(e, i, |e| {
            e.s().i16x8_abs();
        })
    }),
    (Mnemonic::Pabsd, |e, i| {
        unary(e, i, |e| {
            e.s().i32x4_abs();
        })
    }),
    (Mnemonic::Psignb, |e, i| sign(e, i, 1)),
    (Mnemonic::Psignw, |e, i| sign(e, i, 2)),
    (Mnemonic::Psignd, |e, i| sign(e, i, 4)),
    (Mnemonic::Pmulhw, |e, i| high_product(e, i, true)),
    (Mnemonic::Pmulhuw, |e, i| high_product(e, i, false)),
    (Mnemonic::Pmulhrsw, pmulhrsw),
    (Mnemonic::Pmuludq, pmuludq),
    (Mnemonic::Pmuldq, pmuldq),
    (Mnemonic::Pmaddubsw, pmaddubsw),
    (Mnemonic::Psadbw, psadbw),
    (Mnemonic::Mpsadbw, mpsadbw),
    (Mnemonic::Phminposuw, phminposuw),
    (Mnemonic::Phaddw, |e, i| {
        horizontal(e, i, 2, |e| {
            e.s().i16x8_add();
        })
    }),
    (Mnemonic::Phaddd, |e, i| {
        horizontal(e, i, 4, |e| {
            e.s().i32x4_add();
        })
    }),
    (Mnemonic::Phaddsw, |e, i| {
        horizontal(e, i, 2, |e| {
            e.s().i16x8_add_sat_s();
        })
    }),
    (Mnemonic::Phsubw, |e, i| {
        horizontal(e, i, 2, |e| {
            e.s().i16x8_sub();
        })
    }),
    (Mnemonic::Phsubd, |e, i| {
        horizontal(e, i, 4, |e| {
            e.s().i32x4_sub();
        })
    }),
    (Mnemonic::Phsubsw, |e, i| {
        horizontal(e, i, 2, |e| {
            e.s().i16x8_sub_sat_s();
        })
    }),
    (Mnemonic::Psllw, |e, i| shift(e, i, 16, Shift::Left)),
    (Mnemonic::Pslld, |e, i| shift(e, i, 32, Shift::Left)),
    (Mnemonic::Psllq, |e, i| shift(e, i, 64, Shift::Left)),
    (Mnemonic::Psrlw, |e, i| shift(e, i, 16, Shift::Right)),
    (Mnemonic::Psrld, |e, i| shift(e, i, 32, Shift::Right)),
    (Mnemonic::Psrlq, |e, i| shift(e, i, 64, Shift::Right)),
    (Mnemonic::Psraw, |e, i| shift(e, i, 16, Shift::RightSigned)),
    (Mnemonic::Psrad, |e, i| shift(e, i, 32, Shift::RightSigned)),
];

/// destination = f(destination, source), both pushed.
fn binary(e: &mut Emit, i: &Instruction, f: impl FnOnce(&mut Emit)) {
    e.vector(i, 0);
    e.vector(i, 1);
    f(e);
    e.set_vector(i, 0);
}

/// destination = f(source).
fn unary(e: &mut Emit, i: &Instruction, f: impl FnOnce(&mut Emit)) {
    e.vector(i, 1);
    f(e);
    e.set_vector(i, 0);
}

/// Puts destination and source into two vector locals.
fn operands(e: &mut Emit, i: &Instruction) -> (u32, u32) {
    let (a, b) = (e.tv(0), e.tv(1));
    e.vector(i, 0);
    e.set(a);
    e.vector(i, 1);
    e.set(b);
    (a, b)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bitwise {
    And,
    /// (not destination) and source.
    AndNot,
    Or,
    Xor,
}

/// Whole-register logic, also on registers that live as scalars: each result bit depends on the same bit of the operands.
fn bitwise(e: &mut Emit, i: &Instruction, op: Bitwise) {
    let same = i.op1_kind() == OpKind::Register && i.op0_register() == i.op1_register();
    if same && op == Bitwise::Xor {
        return e.clear_destination(i);
    }
    match e.common_class(i) {
        XmmClass::V128 => bitwise_vector(e, i, op),
        XmmClass::F64 => {
            for k in [0, 1] {
                e.f64(i, k);
                e.s().i64_reinterpret_f64();
                if k == 0 && op == Bitwise::AndNot {
                    e.s().i64_const(-1).i64_xor();
                }
            }
            match op {
                Bitwise::And | Bitwise::AndNot => e.s().i64_and(),
                Bitwise::Or => e.s().i64_or(),
                Bitwise::Xor => e.s().i64_xor(),
            };
            e.s().f64_reinterpret_i64();
            e.set_f64(Emit::xmm_number(i, 0));
        }
        XmmClass::F32 => {
            for k in [0, 1] {
                e.f32(i, k);
                e.s().i32_reinterpret_f32();
                if k == 0 && op == Bitwise::AndNot {
                    e.s().i32_const(-1).i32_xor();
                }
            }
            match op {
                Bitwise::And | Bitwise::AndNot => e.s().i32_and(),
                Bitwise::Or => e.s().i32_or(),
                Bitwise::Xor => e.s().i32_xor(),
            };
            e.s().f32_reinterpret_i32();
            e.set_f32(Emit::xmm_number(i, 0));
        }
    }
}

fn bitwise_vector(e: &mut Emit, i: &Instruction, op: Bitwise) {
    let (first, second) = if op == Bitwise::AndNot { (1, 0) } else { (0, 1) };
    e.vector(i, first);
    e.vector(i, second);
    match op {
        Bitwise::And => e.s().v128_and(),
        Bitwise::AndNot => e.s().v128_andnot(),
        Bitwise::Or => e.s().v128_or(),
        Bitwise::Xor => e.s().v128_xor(),
    };
    e.set_vector(i, 0);
}

/// ZF: no common bits; CF: source within destination.
fn ptest(e: &mut Emit, i: &Instruction) {
    let (a, b) = operands(e, i);
    e.get(a);
    e.get(b);
    e.s().v128_and().v128_any_true().i32_eqz();
    e.set_flag(Flag::Zf);
    e.get(b);
    e.get(a);
    e.s().v128_andnot().v128_any_true().i32_eqz();
    e.set_flag(Flag::Cf);
    for f in [Flag::Pf, Flag::Af, Flag::Sf, Flag::Of] {
        if e.live_flags.has(f) {
            e.c32(0);
            e.set_flag(f);
        }
    }
    e.lazy = Lazy::Locals;
}

/// a, 0 or -a by the sign of b.
fn sign(e: &mut Emit, i: &Instruction, bytes: u32) {
    let (a, b) = operands(e, i);
    let mask = e.tv(2);
    e.get(b);
    match bytes {
        1 => e.s().i32_const(7).i8x16_shr_s(),
        2 => e.s().i32_const(15).i16x8_shr_s(),
        _ => e.s().i32_const(31).i32x4_shr_s(),
    };
    e.set(mask);
    e.get(a);
    e.get(mask);
    e.s().v128_xor().local_get(mask);
    match bytes {
        1 => e.s().i8x16_sub().local_get(b).v128_const(0).i8x16_eq(),
        2 => e.s().i16x8_sub().local_get(b).v128_const(0).i16x8_eq(),
        _ => e.s().i32x4_sub().local_get(b).v128_const(0).i32x4_eq(),
    };
    e.s().v128_andnot();
    e.set_vector(i, 0);
}

/// High 16 bits of the 32-bit products.
fn high_product(e: &mut Emit, i: &Instruction, signed: bool) {
    let (a, b) = operands(e, i);
    e.s().local_get(a).local_get(b);
    if signed {
        e.s().i32x4_extmul_low_i16x8_s();
    } else {
        e.s().i32x4_extmul_low_i16x8_u();
    }
    e.s().local_get(a).local_get(b);
    if signed {
        e.s().i32x4_extmul_high_i16x8_s();
    } else {
        e.s().i32x4_extmul_high_i16x8_u();
    }
    e.shuffle([2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31]);
    e.set_vector(i, 0);
}

/// WASM saturates -1 × -1 to 7FFFH where x86 gives 8000H.
fn pmulhrsw(e: &mut Emit, i: &Instruction) {
    let (a, b) = operands(e, i);
    let minimum = i128::from_ne_bytes([0, 0x80].repeat(8).try_into().expect("16 bytes"));
    e.s().local_get(a).local_get(b).i16x8_q15mulr_sat_s();
    e.s().local_get(a).v128_const(minimum).i16x8_eq();
    e.s().local_get(b).v128_const(minimum).i16x8_eq();
    e.s().v128_and().v128_xor();
    e.set_vector(i, 0);
}

/// The even 32-bit lanes, twice.
const EVEN_DWORDS: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11];

fn pmuludq(e: &mut Emit, i: &Instruction) {
    for k in [0, 1] {
        e.vector(i, k);
        e.s().v128_const(0x0000_0000_ffff_ffff_0000_0000_ffff_ffff).v128_and();
    }
    e.s().i64x2_mul();
    e.set_vector(i, 0);
}

fn pmuldq(e: &mut Emit, i: &Instruction) {
    for k in [0, 1] {
        let t = e.tv(k as u8);
        e.vector(i, k);
        e.tee(t);
        e.get(t);
        e.shuffle(EVEN_DWORDS);
    }
    e.s().i64x2_extmul_low_i32x4_s();
    e.set_vector(i, 0);
}

/// Unsigned bytes of the destination × signed bytes of the source, neighbours added with saturation.
fn pmaddubsw(e: &mut Emit, i: &Instruction) {
    let (a, b) = operands(e, i);
    let low_bytes = i128::from_ne_bytes([0xff, 0].repeat(8).try_into().expect("16 bytes"));
    e.s().local_get(a).v128_const(low_bytes).v128_and();
    e.s().local_get(b).i32_const(8).i16x8_shl().i32_const(8).i16x8_shr_s().i16x8_mul();
    e.s().local_get(a).i32_const(8).i16x8_shr_u();
    e.s().local_get(b).i32_const(8).i16x8_shr_s().i16x8_mul();
    e.s().i16x8_add_sat_s();
    e.set_vector(i, 0);
}

/// Sums of absolute byte differences, one per half.
fn psadbw(e: &mut Emit, i: &Instruction) {
    let (a, b) = operands(e, i);
    let sums = e.tv(2);
    e.s().local_get(a).local_get(b).i8x16_sub_sat_u();
    e.s().local_get(b).local_get(a).i8x16_sub_sat_u().v128_or();
    e.s().i16x8_extadd_pairwise_i8x16_u().i32x4_extadd_pairwise_i16x8_u().local_tee(sums);
    e.s().v128_const(0x0000_0000_ffff_ffff_0000_0000_ffff_ffff).v128_and();
    e.s().local_get(sums).i32_const(32).i64x2_shr_u().i64x2_add();
    e.set_vector(i, 0);
}

/// Eight sums of four absolute differences: a sliding window of the destination against four bytes of the source.
fn mpsadbw(e: &mut Emit, i: &Instruction) {
    let (a, b) = operands(e, i);
    let window = (i.immediate8() >> 2 & 1) * 4;
    let block = (i.immediate8() & 3) * 4;
    for k in 0..4 {
        e.s().local_get(a).local_get(a);
        e.shuffle(std::array::from_fn(|n| (window + k + n as u8).min(15)));
        e.s().i16x8_extend_low_i8x16_u().local_get(b).i8x16_extract_lane_u(block + k).i16x8_splat().i16x8_sub().i16x8_abs();
        if k > 0 {
            e.s().i16x8_add();
        }
    }
    e.set_vector(i, 0);
}

/// The smallest word and its index (the lowest one on ties), the rest zero: compares `word << 16 | index`.
fn phminposuw(e: &mut Emit, i: &Instruction) {
    let (v, keys, other) = (e.tv(0), e.tv(1), e.tv(2));
    let indices = |base: i128| base | (base + 1) << 32 | (base + 2) << 64 | (base + 3) << 96;
    e.vector(i, 1);
    e.set(v);
    e.s().local_get(v).i32x4_extend_low_i16x8_u().i32_const(16).i32x4_shl().v128_const(indices(0)).v128_or();
    e.s().local_get(v).i32x4_extend_high_i16x8_u().i32_const(16).i32x4_shl().v128_const(indices(4)).v128_or();
    e.s().i32x4_min_u().local_tee(keys).local_get(keys).local_get(keys);
    e.shuffle([8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
    e.s().i32x4_min_u().local_tee(other).local_get(other).local_get(other);
    e.shuffle([4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11]);
    e.s().i32x4_min_u().i32x4_extract_lane(0).i32_const(16).i32_rotl();
    e.set_xmm_i32_zero(Emit::xmm_number(i, 0));
}

/// Neighbouring lanes of destination, then of source: f(even lanes, odd lanes).
fn horizontal(e: &mut Emit, i: &Instruction, bytes: u8, f: impl FnOnce(&mut Emit)) {
    let (a, b) = operands(e, i);
    let pick = |odd: u8| {
        std::array::from_fn(|n| {
            let n = n as u8;
            n / bytes * 2 * bytes + n % bytes + odd * bytes
        })
    };
    for odd in [0, 1] {
        e.s().local_get(a).local_get(b);
        e.shuffle(pick(odd));
    }
    f(e);
    e.set_vector(i, 0);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shift {
    Left,
    Right,
    RightSigned,
}

/// Pops i32 count (below the width) and vector.
fn shift_lanes(e: &mut Emit, bits: u32, kind: Shift) {
    let mut s = e.s();
    match (kind, bits) {
        (Shift::Left, 16) => s.i16x8_shl(),
        (Shift::Left, 32) => s.i32x4_shl(),
        (Shift::Left, _) => s.i64x2_shl(),
        (Shift::Right, 16) => s.i16x8_shr_u(),
        (Shift::Right, 32) => s.i32x4_shr_u(),
        (Shift::Right, _) => s.i64x2_shr_u(),
        (Shift::RightSigned, 16) => s.i16x8_shr_s(),
        (Shift::RightSigned, _) => s.i32x4_shr_s(),
    };
}

fn shift(e: &mut Emit, i: &Instruction, bits: u32, kind: Shift) {
    if matches!(i.op1_kind(), OpKind::Immediate8) {
        let count = u32::from(i.immediate8());
        if count >= bits && kind != Shift::RightSigned {
            return e.clear_destination(i);
        }
        e.vector(i, 0);
        e.c32(count.min(bits - 1) as i32);
        shift_lanes(e, bits, kind);
        return e.set_vector(i, 0);
    }
    let count = e.t64(0);
    e.low(i, 1, 8);
    e.s().i64x2_extract_lane(0);
    e.set(count);
    e.vector(i, 0);
    if kind == Shift::RightSigned {
        e.get(count);
        e.c64(i64::from(bits - 1));
        e.get(count);
        e.c64(i64::from(bits - 1));
        e.s().i64_lt_u().select().i32_wrap_i64();
        shift_lanes(e, bits, kind);
    } else {
        e.get(count);
        e.s().i32_wrap_i64();
        shift_lanes(e, bits, kind);
        e.s().v128_const(0).local_get(count);
        e.c64(i64::from(bits));
        e.s().i64_lt_u().select();
    }
    e.set_vector(i, 0);
}
