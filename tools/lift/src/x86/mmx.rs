//! MMX (SDM vol. 1, 5.4) and the 64-bit forms of SSE integer instructions: operands in mm0..mm7, which are the low halves of the x87 registers.
//!
//! Owns the forms whose lanes depend on the register being 64 bits wide, moves and conversions; the rest shares the rows of `sse_integer` and
//! `sse_shuffle`, which see an MMX register as a vector with a zero upper half. The fact a newcomer gets wrong: any MMX instruction makes all x87
//! registers valid and TOP zero, and a write fills the exponent with ones.

use super::sse_convert::{convert_doubles, convert_singles};
use super::{RowTable, Semantics};
use crate::emit::{Emit, guest_byte};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use syscalls::abi::float;

/// Forms of their own.
pub(super) const ROWS: RowTable = &[
    (Mnemonic::Movd, mov),
    (Mnemonic::Movq, mov),
    (Mnemonic::Movntq, mov),
    (Mnemonic::Movq2dq, |e, i| {
        e.vector(i, 1);
        e.set_vector(i, 0);
    }),
    (Mnemonic::Movdq2q, |e, i| {
        e.vector(i, 1);
        e.set_vector(i, 0);
    }),
    (Mnemonic::Maskmovq, maskmovq),
    (Mnemonic::Packsswb, |e, i| {
        joined(e, i, |e| {
            e.s().i8x16_narrow_i16x8_s();
        })
    }),
    (Mnemonic::Packuswb, |e, i| {
        joined(e, i, |e| {
            e.s().i8x16_narrow_i16x8_u();
        })
    }),
    (Mnemonic::Packssdw, |e, i| {
        joined(e, i, |e| {
            e.s().i16x8_narrow_i32x4_s();
        })
    }),
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
    (Mnemonic::Punpckhbw, |e, i| unpack_high(e, i, 1)),
    (Mnemonic::Punpckhwd, |e, i| unpack_high(e, i, 2)),
    (Mnemonic::Punpckhdq, |e, i| unpack_high(e, i, 4)),
    (Mnemonic::Pshufw, pshufw),
    (Mnemonic::Pshufb, pshufb),
    (Mnemonic::Palignr, palignr),
    (Mnemonic::Pinsrw, pinsrw),
    (Mnemonic::Pextrw, pextrw),
    (Mnemonic::Cvtpi2ps, cvtpi2ps),
    (Mnemonic::Cvtpi2pd, |e, i| {
        e.low(i, 1, 8);
        e.s().f64x2_convert_low_i32x4_s();
        e.set_vector(i, 0);
    }),
    (Mnemonic::Cvtps2pi, |e, i| singles(e, i, true)),
    (Mnemonic::Cvttps2pi, |e, i| singles(e, i, false)),
    (Mnemonic::Cvtpd2pi, |e, i| doubles(e, i, true)),
    (Mnemonic::Cvttpd2pi, |e, i| doubles(e, i, false)),
];

/// Mnemonics whose vector row is right for an MMX register too: lane by lane, or looking at low lanes only.
pub(super) fn shared(m: Mnemonic) -> bool {
    use Mnemonic::*;
    matches!(
        m,
        Paddb
            | Paddw
            | Paddd
            | Paddq
            | Psubb
            | Psubw
            | Psubd
            | Psubq
            | Paddsb
            | Paddsw
            | Paddusb
            | Paddusw
            | Psubsb
            | Psubsw
            | Psubusb
            | Psubusw
            | Pavgb
            | Pavgw
            | Pminub
            | Pminsw
            | Pmaxub
            | Pmaxsw
            | Pcmpeqb
            | Pcmpeqw
            | Pcmpeqd
            | Pcmpgtb
            | Pcmpgtw
            | Pcmpgtd
            | Pmullw
            | Pmulhw
            | Pmulhuw
            | Pmulhrsw
            | Pmaddwd
            | Pmaddubsw
            | Pmuludq
            | Psadbw
            | Pand
            | Pandn
            | Por
            | Pxor
            | Pabsb
            | Pabsw
            | Pabsd
            | Psignb
            | Psignw
            | Psignd
            | Psllw
            | Pslld
            | Psllq
            | Psrlw
            | Psrld
            | Psrlq
            | Psraw
            | Psrad
            | Punpcklbw
            | Punpcklwd
            | Punpckldq
            | Pmovmskb
    )
}

/// Has it an operand in an MMX register, or is it one of the conversions that have none with a memory operand?
pub(super) fn is_mmx(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Cvtpi2ps | Mnemonic::Cvtpi2pd) || has_mm(i)
}

fn has_mm(i: &Instruction) -> bool {
    (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).is_mm())
}

/// Emits a row and the change to the x87 state.
pub(super) fn emit(e: &mut Emit, i: &Instruction, row: Semantics) {
    row(e, i);
    if has_mm(i) {
        e.enter_mmx();
    }
}

fn is_mm(i: &Instruction, k: u32) -> bool {
    i.op_kind(k) == OpKind::Register && i.op_register(k).is_mm()
}

/// 32 or 64 bits between an MMX register and a general one, memory or another MMX register.
fn mov(e: &mut Emit, i: &Instruction) {
    if is_mm(i, 0) && is_mm(i, 1) {
        e.vector(i, 1);
        return e.set_vector(i, 0);
    }
    let (mm, other) = if is_mm(i, 0) { (0, 1) } else { (1, 0) };
    let wide = e.width(i, other).is_64();
    if mm == 1 {
        e.vector(i, 1);
        if wide {
            e.s().i64x2_extract_lane(0);
        } else {
            e.s().i32x4_extract_lane(0);
        }
        return e.set_operand(i, 0);
    }
    e.s().v128_const(0);
    e.operand(i, 1);
    if wide {
        e.s().i64x2_replace_lane(0);
    } else {
        e.s().i32x4_replace_lane(0);
    }
    e.set_vector(i, 0);
}

fn maskmovq(e: &mut Emit, i: &Instruction) {
    if i.segment_prefix() != Register::None {
        return e.gap(i);
    }
    let (mask, address) = (e.t32(0), e.t32(1));
    e.vector(i, 2);
    e.s().i8x16_bitmask().local_set(mask);
    e.gpr64(7);
    e.s().i32_wrap_i64().local_set(address);
    for lane in 0..8 {
        e.get(mask);
        e.c32(1 << lane);
        e.s().i32_and();
        e.if_then(|e| {
            e.get(address);
            e.vector(i, 1);
            e.s().v128_store8_lane(guest_byte(lane), lane as u8);
        });
    }
}

const LOW_LOW: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];

/// destination = low half of f(v, v) with v = source:destination.
fn joined(e: &mut Emit, i: &Instruction, f: impl FnOnce(&mut Emit)) {
    let v = e.tv(0);
    e.vector(i, 0);
    e.vector(i, 1);
    e.shuffle(LOW_LOW);
    e.s().local_tee(v).local_get(v);
    f(e);
    e.set_vector(i, 0);
}

/// f(even lanes, odd lanes) of source:destination.
fn horizontal(e: &mut Emit, i: &Instruction, bytes: u8, f: impl FnOnce(&mut Emit)) {
    let v = e.tv(0);
    e.vector(i, 0);
    e.vector(i, 1);
    e.shuffle(LOW_LOW);
    e.set(v);
    for odd in [0, bytes] {
        e.s().local_get(v).local_get(v);
        e.shuffle(std::array::from_fn(|n| {
            let n = n as u8 & 7;
            n / bytes * 2 * bytes + n % bytes + odd
        }));
    }
    f(e);
    e.set_vector(i, 0);
}

/// Interleaves the upper four bytes.
fn unpack_high(e: &mut Emit, i: &Instruction, bytes: u8) {
    e.vector(i, 0);
    e.vector(i, 1);
    e.shuffle(std::array::from_fn(|n| {
        let n = n as u8 & 7;
        let lane = n / bytes;
        4 + lane / 2 * bytes + n % bytes + lane % 2 * 16
    }));
    e.set_vector(i, 0);
}

fn pshufw(e: &mut Emit, i: &Instruction) {
    let (v, imm) = (e.tv(0), i.immediate8());
    e.vector(i, 1);
    e.s().local_tee(v).local_get(v);
    e.shuffle(std::array::from_fn(|n| {
        let n = n as u8 & 7;
        (imm >> (n & 6) & 3) * 2 + (n & 1)
    }));
    e.set_vector(i, 0);
}

fn pshufb(e: &mut Emit, i: &Instruction) {
    e.vector(i, 0);
    e.vector(i, 1);
    e.s().v128_const(i128::from_ne_bytes([0x87; 16])).v128_and().i8x16_swizzle();
    e.set_vector(i, 0);
}

/// Bytes `imm..imm+8` of destination:source followed by zeros.
fn palignr(e: &mut Emit, i: &Instruction) {
    let n = i.immediate8().min(16);
    e.vector(i, 1);
    e.vector(i, 0);
    e.shuffle(LOW_LOW);
    e.s().v128_const(0);
    e.shuffle(std::array::from_fn(|k| n + (k as u8 & 7)));
    e.set_vector(i, 0);
}

fn pinsrw(e: &mut Emit, i: &Instruction) {
    let lane = i.immediate8() & 3;
    e.vector(i, 0);
    if i.op1_kind() == OpKind::Memory {
        e.operand(i, 1);
    } else {
        e.read(i.op1_register());
        if i.op1_register().size() == 8 {
            e.s().i32_wrap_i64();
        }
    }
    e.s().i16x8_replace_lane(lane);
    e.set_vector(i, 0);
}

fn pextrw(e: &mut Emit, i: &Instruction) {
    e.vector(i, 1);
    e.s().i16x8_extract_lane_u(i.immediate8() & 3);
    e.set_general(i, 0);
}

/// Two integers to the low singles; the upper ones stay.
fn cvtpi2ps(e: &mut Emit, i: &Instruction) {
    e.low(i, 1, 8);
    e.s().f32x4_convert_i32x4_s();
    e.vector(i, 0);
    e.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31]);
    e.set_vector(i, 0);
}

/// The upper two of an xmm register are no operands: converting them could raise exceptions.
fn singles(e: &mut Emit, i: &Instruction, round: bool) {
    e.low(i, 1, 8);
    e.s().v128_const(i128::from(u64::MAX)).v128_and();
    convert_singles(e, if round { float::CVTPS2DQ } else { float::CVTTPS2DQ });
    e.set_vector(i, 0);
}

fn doubles(e: &mut Emit, i: &Instruction, round: bool) {
    e.vector(i, 1);
    convert_doubles(e, if round { float::CVTPD2DQ } else { float::CVTTPD2DQ });
    e.set_vector(i, 0);
}
