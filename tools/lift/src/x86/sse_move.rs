//! SSE and SSE2 data transfer (SDM vol. 1, 5.5.1.1, 5.6.1.1, 5.6.3): moves between xmm registers, memory and general registers.
//!
//! Owns every move that changes no value; conversions are in `sse_convert`, lane rearrangements in `sse_shuffle`. The fact a newcomer gets wrong: movss
//! and movsd clear the upper lanes when they load from memory, and keep them when they copy a register.

use super::Semantics;
use crate::emit::{Emit, XmmClass, guest, guest_byte};
use iced_x86::{Instruction, Mnemonic, OpKind};

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Movaps, mov_vector),
    (Mnemonic::Movapd, mov_vector),
    (Mnemonic::Movups, mov_vector),
    (Mnemonic::Movupd, mov_vector),
    (Mnemonic::Movdqa, mov_vector),
    (Mnemonic::Movdqu, mov_vector),
    (Mnemonic::Lddqu, mov_vector),
    (Mnemonic::Movntdq, mov_vector),
    (Mnemonic::Movntdqa, mov_vector),
    (Mnemonic::Movntps, mov_vector),
    (Mnemonic::Movntpd, mov_vector),
    (Mnemonic::Movd, movd),
    (Mnemonic::Movq, movq),
    (Mnemonic::Movss, movss),
    (Mnemonic::Movsd, movsd),
    (Mnemonic::Movlps, movlps),
    (Mnemonic::Movlpd, movlps),
    (Mnemonic::Movhps, movhps),
    (Mnemonic::Movhpd, movhps),
    (Mnemonic::Movhlps, movhlps),
    (Mnemonic::Movlhps, movlhps),
    (Mnemonic::Maskmovdqu, maskmovdqu),
    (Mnemonic::Pmovmskb, |e, i| {
        mask_bits(e, i, |e| {
            e.s().i8x16_bitmask();
        })
    }),
    (Mnemonic::Movmskps, |e, i| {
        mask_bits(e, i, |e| {
            e.s().i32x4_bitmask();
        })
    }),
    (Mnemonic::Movmskpd, |e, i| {
        mask_bits(e, i, |e| {
            e.s().i64x2_bitmask();
        })
    }),
];

fn is_memory(i: &Instruction, k: u32) -> bool {
    i.op_kind(k) == OpKind::Memory
}

/// 16 bytes. A load into a scalar class takes the lane that is kept.
fn mov_vector(e: &mut Emit, i: &Instruction) {
    if is_memory(i, 0) {
        let off = e.address(i);
        e.vector(i, 1);
        e.s().v128_store(guest(off));
        return;
    }
    let to = Emit::xmm_number(i, 0);
    if !is_memory(i, 1) {
        return e.copy_xmm(to, Emit::xmm_number(i, 1));
    }
    match e.xmm_class[to] {
        XmmClass::V128 => {
            e.vector(i, 1);
            e.set_xmm(to);
        }
        XmmClass::F64 => {
            e.f64(i, 1);
            e.set_f64_zero(to);
        }
        XmmClass::F32 => {
            e.f32(i, 1);
            e.set_f32_zero(to);
        }
    }
}

fn is_xmm(i: &Instruction, k: u32) -> bool {
    i.op_kind(k) == OpKind::Register && i.op_register(k).is_xmm()
}

fn movd(e: &mut Emit, i: &Instruction) {
    if is_xmm(i, 0) {
        e.operand(i, 1);
        e.set_xmm_i32_zero(Emit::xmm_number(i, 0));
    } else {
        e.xmm_i32(Emit::xmm_number(i, 1));
        e.set_operand(i, 0);
    }
}

fn movq(e: &mut Emit, i: &Instruction) {
    if is_xmm(i, 0) && is_xmm(i, 1) {
        let (to, from) = (Emit::xmm_number(i, 0), Emit::xmm_number(i, 1));
        if e.xmm_class[to] != XmmClass::V128 && e.xmm_class[to] == e.xmm_class[from] {
            return e.copy_xmm(to, from);
        }
        e.xmm_i64(from);
        e.set_xmm_i64_zero(to);
    } else if is_xmm(i, 0) {
        let to = Emit::xmm_number(i, 0);
        if is_memory(i, 1) && e.xmm_class[to] == XmmClass::V128 {
            e.low(i, 1, 8);
            e.set_xmm(to);
        } else {
            e.operand(i, 1);
            e.set_xmm_i64_zero(to);
        }
    } else {
        e.xmm_i64(Emit::xmm_number(i, 1));
        e.set_operand(i, 0);
    }
}

fn movss(e: &mut Emit, i: &Instruction) {
    if is_memory(i, 0) {
        let off = e.address(i);
        e.f32(i, 1);
        e.s().f32_store(guest(off));
    } else if is_memory(i, 1) {
        e.f32(i, 1);
        e.set_f32_zero(Emit::xmm_number(i, 0));
    } else {
        e.f32(i, 1);
        e.set_f32(Emit::xmm_number(i, 0));
    }
}

/// The SSE2 movsd; the string instruction of the same name is in `string`.
fn movsd(e: &mut Emit, i: &Instruction) {
    if is_memory(i, 0) {
        let off = e.address(i);
        e.f64(i, 1);
        e.s().f64_store(guest(off));
    } else if is_memory(i, 1) {
        e.f64(i, 1);
        e.set_f64_zero(Emit::xmm_number(i, 0));
    } else {
        e.f64(i, 1);
        e.set_f64(Emit::xmm_number(i, 0));
    }
}

/// Low half ↔ memory; the upper half stays.
fn movlps(e: &mut Emit, i: &Instruction) {
    if is_memory(i, 0) {
        let off = e.address(i);
        e.xmm_i64(Emit::xmm_number(i, 1));
        e.s().i64_store(guest(off));
    } else {
        e.f64(i, 1);
        e.set_f64(Emit::xmm_number(i, 0));
    }
}

/// High half ↔ memory.
fn movhps(e: &mut Emit, i: &Instruction) {
    let off = e.address(i);
    if is_memory(i, 0) {
        e.vector(i, 1);
        e.s().i64x2_extract_lane(1).i64_store(guest(off));
    } else {
        e.vector(i, 0);
        e.s().v128_load64_lane(guest(off), 1);
        e.set_vector(i, 0);
    }
}

const LOW_LOW: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const SOURCE_HIGH_DEST_HIGH: [u8; 16] = [24, 25, 26, 27, 28, 29, 30, 31, 8, 9, 10, 11, 12, 13, 14, 15];

fn movhlps(e: &mut Emit, i: &Instruction) {
    e.vector(i, 0);
    e.vector(i, 1);
    e.shuffle(SOURCE_HIGH_DEST_HIGH);
    e.set_vector(i, 0);
}

fn movlhps(e: &mut Emit, i: &Instruction) {
    e.vector(i, 0);
    e.vector(i, 1);
    e.shuffle(LOW_LOW);
    e.set_vector(i, 0);
}

/// Stores only the bytes whose mask byte has its sign bit set: the others must not even be touched.
fn maskmovdqu(e: &mut Emit, i: &Instruction) {
    // iced gives the implicit [rdi] operand as operand 0 with its segment.
    if i.segment_prefix() != iced_x86::Register::None {
        return e.gap(i);
    }
    let (mask, address) = (e.t32(0), e.t32(1));
    e.vector(i, 2);
    e.s().i8x16_bitmask();
    e.set(mask);
    e.gpr64(7);
    e.s().i32_wrap_i64();
    e.set(address);
    for lane in 0..16 {
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

/// One sign bit per lane into a general register, zero-extended.
fn mask_bits(e: &mut Emit, i: &Instruction, bitmask: impl FnOnce(&mut Emit)) {
    e.vector(i, 1);
    bitmask(e);
    e.set_general(i, 0);
}
