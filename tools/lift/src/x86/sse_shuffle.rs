//! SSE to SSE4.1 rearrangements (SDM vol. 1, 5.5.1.4, 5.6.1.4, 5.6.3, 5.8, 5.10): unpack, shuffle, blend, insert, extract, extend, byte shifts.
//!
//! Owns what moves lanes without computing. The fact a newcomer gets wrong: `pshufb` looks at bit 7 and bits 3:0 of an index only, WASM's swizzle at all of it.

use super::Semantics;
use crate::emit::{Emit, guest, guest_byte};
use iced_x86::{Instruction, Mnemonic, OpKind};

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Punpcklbw, |e, i| unpack(e, i, 1, false)),
    (Mnemonic::Punpcklwd, |e, i| unpack(e, i, 2, false)),
    (Mnemonic::Punpckldq, |e, i| unpack(e, i, 4, false)),
    (Mnemonic::Punpcklqdq, |e, i| unpack(e, i, 8, false)),
    (Mnemonic::Unpcklps, |e, i| unpack(e, i, 4, false)),
    (Mnemonic::Unpcklpd, |e, i| unpack(e, i, 8, false)),
    (Mnemonic::Punpckhbw, |e, i| unpack(e, i, 1, true)),
    (Mnemonic::Punpckhwd, |e, i| unpack(e, i, 2, true)),
    (Mnemonic::Punpckhdq, |e, i| unpack(e, i, 4, true)),
    (Mnemonic::Punpckhqdq, |e, i| unpack(e, i, 8, true)),
    (Mnemonic::Unpckhps, |e, i| unpack(e, i, 4, true)),
    (Mnemonic::Unpckhpd, |e, i| unpack(e, i, 8, true)),
    (Mnemonic::Pshufd, |e, i| shuffle_one(e, i, |k, imm| Lane { bytes: 4, index: imm >> (2 * k) & 3 })),
    (Mnemonic::Pshuflw, |e, i| shuffle_one(e, i, |k, imm| Lane { bytes: 2, index: if k < 4 { imm >> (2 * k) & 3 } else { k } })),
    (Mnemonic::Pshufhw, |e, i| shuffle_one(e, i, |k, imm| Lane { bytes: 2, index: if k < 4 { k } else { 4 + (imm >> (2 * (k - 4)) & 3) } })),
    (Mnemonic::Movshdup, |e, i| shuffle_one(e, i, |k, _| Lane { bytes: 4, index: k | 1 })),
    (Mnemonic::Movsldup, |e, i| shuffle_one(e, i, |k, _| Lane { bytes: 4, index: k & 2 })),
    (Mnemonic::Movddup, movddup),
    (Mnemonic::Shufps, |e, i| shuffle_two(e, i, |k, imm| Lane { bytes: 4, index: (imm >> (2 * k) & 3) + if k < 2 { 0 } else { 4 } })),
    (Mnemonic::Shufpd, |e, i| shuffle_two(e, i, |k, imm| Lane { bytes: 8, index: (imm >> k & 1) + 2 * k })),
    (Mnemonic::Blendps, |e, i| shuffle_two(e, i, |k, imm| Lane { bytes: 4, index: k + 4 * (imm >> k & 1) })),
    (Mnemonic::Blendpd, |e, i| shuffle_two(e, i, |k, imm| Lane { bytes: 8, index: k + 2 * (imm >> k & 1) })),
    (Mnemonic::Pblendw, |e, i| shuffle_two(e, i, |k, imm| Lane { bytes: 2, index: k + 8 * (imm >> k & 1) })),
    (Mnemonic::Pblendvb, |e, i| blend_variable(e, i, 1)),
    (Mnemonic::Blendvps, |e, i| blend_variable(e, i, 4)),
    (Mnemonic::Blendvpd, |e, i| blend_variable(e, i, 8)),
    (Mnemonic::Pshufb, pshufb),
    (Mnemonic::Palignr, palignr),
    (Mnemonic::Pslldq, pslldq),
    (Mnemonic::Psrldq, psrldq),
    (Mnemonic::Pinsrb, |e, i| insert(e, i, 1)),
    (Mnemonic::Pinsrw, |e, i| insert(e, i, 2)),
    (Mnemonic::Pinsrd, |e, i| insert(e, i, 4)),
    (Mnemonic::Pinsrq, |e, i| insert(e, i, 8)),
    (Mnemonic::Pextrb, |e, i| extract(e, i, 1)),
    (Mnemonic::Pextrw, |e, i| extract(e, i, 2)),
    (Mnemonic::Pextrd, |e, i| extract(e, i, 4)),
    (Mnemonic::Pextrq, |e, i| extract(e, i, 8)),
    (Mnemonic::Extractps, |e, i| extract(e, i, 4)),
    (Mnemonic::Insertps, insertps),
    (Mnemonic::Pmovsxbw, |e, i| extend(e, i, true, 1, 2)),
    (Mnemonic::Pmovsxbd, |e, i| extend(e, i, true, 1, 4)),
    (Mnemonic::Pmovsxbq, |e, i| extend(e, i, true, 1, 8)),
    (Mnemonic::Pmovsxwd, |e, i| extend(e, i, true, 2, 4)),
    (Mnemonic::Pmovsxwq, |e, i| extend(e, i, true, 2, 8)),
    (Mnemonic::Pmovsxdq, |e, i| extend(e, i, true, 4, 8)),
    (Mnemonic::Pmovzxbw, |e, i| extend(e, i, false, 1, 2)),
    (Mnemonic::Pmovzxbd, |e, i| extend(e, i, false, 1, 4)),
    (Mnemonic::Pmovzxbq, |e, i| extend(e, i, false, 1, 8)),
    (Mnemonic::Pmovzxwd, |e, i| extend(e, i, false, 2, 4)),
    (Mnemonic::Pmovzxwq, |e, i| extend(e, i, false, 2, 8)),
    (Mnemonic::Pmovzxdq, |e, i| extend(e, i, false, 4, 8)),
];

/// Which source lane (of the concatenated operands) a result lane takes.
struct Lane {
    bytes: u8,
    index: u8,
}

/// Byte indices of a lane-wise shuffle.
fn bytes_of(imm: u8, lane: impl Fn(u8, u8) -> Lane) -> [u8; 16] {
    let width = lane(0, imm).bytes;
    std::array::from_fn(|n| {
        let n = n as u8;
        lane(n / width, imm).index * width + n % width
    })
}

/// The immediate, or 0 for instructions without one.
fn immediate(i: &Instruction) -> u8 {
    if i.op_count() == 3 { i.immediate8() } else { 0 }
}

/// Result lanes from the source only.
fn shuffle_one(e: &mut Emit, i: &Instruction, lane: impl Fn(u8, u8) -> Lane) {
    let t = e.tv(0);
    e.vector(i, 1);
    e.tee(t);
    e.get(t);
    e.shuffle(bytes_of(immediate(i), lane));
    e.set_vector(i, 0);
}

/// Result lanes from destination (first) and source.
fn shuffle_two(e: &mut Emit, i: &Instruction, lane: impl Fn(u8, u8) -> Lane) {
    e.vector(i, 0);
    e.vector(i, 1);
    e.shuffle(bytes_of(immediate(i), lane));
    e.set_vector(i, 0);
}

/// Interleaves the low or high halves.
fn unpack(e: &mut Emit, i: &Instruction, bytes: u8, high: bool) {
    let lanes = 16 / bytes;
    let first = if high { lanes / 2 } else { 0 };
    shuffle_two(e, i, |k, _| Lane { bytes, index: first + k / 2 + k % 2 * lanes });
}

fn movddup(e: &mut Emit, i: &Instruction) {
    if i.op1_kind() == OpKind::Memory {
        let off = e.address(i);
        e.s().v128_load64_splat(guest(off));
        e.set_vector(i, 0);
    } else {
        shuffle_one(e, i, |_, _| Lane { bytes: 8, index: 0 });
    }
}

/// By the sign bits of the implicit xmm0.
fn blend_variable(e: &mut Emit, i: &Instruction, bytes: u32) {
    e.vector(i, 1);
    e.vector(i, 0);
    e.xmm(0);
    match bytes {
        1 => e.s().i32_const(7).i8x16_shr_s(),
        4 => e.s().i32_const(31).i32x4_shr_s(),
        _ => e.s().i32_const(63).i64x2_shr_s(),
    };
    e.s().v128_bitselect();
    e.set_vector(i, 0);
}

fn pshufb(e: &mut Emit, i: &Instruction) {
    e.vector(i, 0);
    e.vector(i, 1);
    e.s().v128_const(i128::from_ne_bytes([0x8f; 16])).v128_and().i8x16_swizzle();
    e.set_vector(i, 0);
}

/// Bytes `imm..imm+16` of destination:source followed by zeros.
fn palignr(e: &mut Emit, i: &Instruction) {
    let n = i.immediate8();
    match n {
        0..=15 => {
            e.vector(i, 1);
            e.vector(i, 0);
            e.shuffle(std::array::from_fn(|k| n + k as u8));
        }
        16..=31 => {
            e.vector(i, 0);
            e.s().v128_const(0);
            e.shuffle(std::array::from_fn(|k| n - 16 + k as u8));
        }
        _ => {
            e.s().v128_const(0);
        }
    }
    e.set_vector(i, 0);
}

fn pslldq(e: &mut Emit, i: &Instruction) {
    let n = i.immediate8().min(16);
    e.s().v128_const(0);
    e.vector(i, 0);
    e.shuffle(std::array::from_fn(|k| 16 - n + k as u8));
    e.set_vector(i, 0);
}

fn psrldq(e: &mut Emit, i: &Instruction) {
    let n = i.immediate8().min(16);
    e.vector(i, 0);
    e.s().v128_const(0);
    e.shuffle(std::array::from_fn(|k| n + k as u8));
    e.set_vector(i, 0);
}

/// A general register (its low part) or memory into one lane.
fn insert(e: &mut Emit, i: &Instruction, bytes: u8) {
    let lane = i.immediate8() & (16 / bytes - 1);
    if i.op1_kind() == OpKind::Memory {
        let off = e.address(i);
        e.vector(i, 0);
        match bytes {
            1 => e.s().v128_load8_lane(guest_byte(off), lane),
            2 => e.s().v128_load16_lane(guest(off), lane),
            4 => e.s().v128_load32_lane(guest(off), lane),
            _ => e.s().v128_load64_lane(guest(off), lane),
        };
    } else {
        e.vector(i, 0);
        e.read(i.op1_register());
        if bytes < 8 && i.op1_register().size() == 8 {
            e.s().i32_wrap_i64();
        }
        match bytes {
            1 => e.s().i8x16_replace_lane(lane),
            2 => e.s().i16x8_replace_lane(lane),
            4 => e.s().i32x4_replace_lane(lane),
            _ => e.s().i64x2_replace_lane(lane),
        };
    }
    e.set_vector(i, 0);
}

/// One lane into memory or, zero-extended, into a general register.
fn extract(e: &mut Emit, i: &Instruction, bytes: u8) {
    let lane = i.immediate8() & (16 / bytes - 1);
    if i.op0_kind() == OpKind::Memory {
        let off = e.address(i);
        e.vector(i, 1);
        match bytes {
            1 => e.s().v128_store8_lane(guest_byte(off), lane),
            2 => e.s().v128_store16_lane(guest(off), lane),
            4 => e.s().v128_store32_lane(guest(off), lane),
            _ => e.s().v128_store64_lane(guest(off), lane),
        };
        return;
    }
    e.vector(i, 1);
    match bytes {
        1 => e.s().i8x16_extract_lane_u(lane),
        2 => e.s().i16x8_extract_lane_u(lane),
        4 => e.s().i32x4_extract_lane(lane),
        _ => {
            e.s().i64x2_extract_lane(lane);
            return e.write(i.op0_register());
        }
    };
    e.set_general(i, 0);
}

/// Lane imm[7:6] of the source (lane 0 of memory) into lane imm[5:4]; lanes in imm[3:0] become zero.
fn insertps(e: &mut Emit, i: &Instruction) {
    let imm = i.immediate8();
    let (to, from) = (imm >> 4 & 3, if i.op1_kind() == OpKind::Memory { 0 } else { imm >> 6 });
    e.vector(i, 0);
    e.low(i, 1, 4);
    e.shuffle(bytes_of(0, |k, _| Lane { bytes: 4, index: if k == to { 4 + from } else { k } }));
    if imm & 15 != 0 {
        e.s().v128_const(0);
        e.shuffle(bytes_of(0, |k, _| Lane { bytes: 4, index: if imm >> k & 1 == 1 { 4 + k } else { k } }));
    }
    e.set_vector(i, 0);
}

/// The low lanes of `from` bytes widened to `to` bytes.
fn extend(e: &mut Emit, i: &Instruction, signed: bool, from: u32, to: u32) {
    e.low(i, 1, 16 * from / to);
    let mut bytes = from;
    while bytes < to {
        let mut s = e.s();
        match (bytes, signed) {
            (1, true) => s.i16x8_extend_low_i8x16_s(),
            (1, false) => s.i16x8_extend_low_i8x16_u(),
            (2, true) => s.i32x4_extend_low_i16x8_s(),
            (2, false) => s.i32x4_extend_low_i16x8_u(),
            (_, true) => s.i64x2_extend_low_i32x4_s(),
            (_, false) => s.i64x2_extend_low_i32x4_u(),
        };
        bytes *= 2;
    }
    e.set_vector(i, 0);
}
