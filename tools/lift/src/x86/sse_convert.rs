//! SSE and SSE2 conversions (SDM vol. 1, 5.5.1.6, 5.6.1.6, 5.6.2): between integers, single and double precision.
//!
//! Owns every cvt instruction on xmm registers. Conversions to a floating-point format round as the host does (see `sse_float`); those to integers look at MXCSR (`cvt`) or truncate (`cvtt`).
//! The fact a newcomer gets wrong: out-of-range values and NaNs give the integer indefinite 80000000H, where WASM's `trunc_sat` saturates.

use super::Semantics;
use super::sse_float::round_current;
use crate::emit::{Emit, guest};
use iced_x86::{Instruction, Mnemonic, OpKind};

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Cvtsi2sd, cvtsi2sd),
    (Mnemonic::Cvtsi2ss, cvtsi2ss),
    (Mnemonic::Cvttsd2si, |e, i| double_to_integer(e, i, false)),
    (Mnemonic::Cvtsd2si, |e, i| double_to_integer(e, i, true)),
    (Mnemonic::Cvttss2si, |e, i| single_to_integer(e, i, false)),
    (Mnemonic::Cvtss2si, |e, i| single_to_integer(e, i, true)),
    (Mnemonic::Cvtsd2ss, |e, i| {
        e.f64(i, 1);
        e.s().f32_demote_f64();
        e.set_f32(Emit::xmm_number(i, 0));
    }),
    (Mnemonic::Cvtss2sd, |e, i| {
        e.f32(i, 1);
        e.s().f64_promote_f32();
        e.set_f64(Emit::xmm_number(i, 0));
    }),
    (Mnemonic::Cvtps2pd, |e, i| {
        widen(e, i, |e| {
            e.s().f64x2_promote_low_f32x4();
        })
    }),
    (Mnemonic::Cvtdq2pd, |e, i| {
        widen(e, i, |e| {
            e.s().f64x2_convert_low_i32x4_s();
        })
    }),
    (Mnemonic::Cvtpd2ps, |e, i| {
        e.vector(i, 1);
        e.s().f32x4_demote_f64x2_zero();
        e.set_vector(i, 0);
    }),
    (Mnemonic::Cvtdq2ps, |e, i| {
        e.vector(i, 1);
        e.s().f32x4_convert_i32x4_s();
        e.set_vector(i, 0);
    }),
    (Mnemonic::Cvttps2dq, |e, i| singles_to_integers(e, i, false)),
    (Mnemonic::Cvtps2dq, |e, i| singles_to_integers(e, i, true)),
    (Mnemonic::Cvttpd2dq, |e, i| doubles_to_integers(e, i, false)),
    (Mnemonic::Cvtpd2dq, |e, i| doubles_to_integers(e, i, true)),
];

fn cvtsi2sd(e: &mut Emit, i: &Instruction) {
    e.operand(i, 1);
    if e.width(i, 1).is_64() {
        e.s().f64_convert_i64_s();
    } else {
        e.s().f64_convert_i32_s();
    }
    e.set_f64(Emit::xmm_number(i, 0));
}

fn cvtsi2ss(e: &mut Emit, i: &Instruction) {
    e.operand(i, 1);
    if e.width(i, 1).is_64() {
        e.s().f32_convert_i64_s();
    } else {
        e.s().f32_convert_i32_s();
    }
    e.set_f32(Emit::xmm_number(i, 0));
}

/// 2^31 and 2^63: the first values above the signed ranges. Values below them saturate to the indefinite already.
const ABOVE_I32: f64 = 2_147_483_648.0;
const ABOVE_I64: f64 = 9_223_372_036_854_775_808.0;

fn double_to_integer(e: &mut Emit, i: &Instruction, round: bool) {
    let x = e.tf64(0);
    e.f64(i, 1);
    if round {
        round_current(e, x, true, false);
    }
    e.set(x);
    e.get(x);
    if i.op0_register().size() == 8 {
        e.s().i64_trunc_sat_f64_s().i64_const(i64::MIN).local_get(x).f64_const(ABOVE_I64.into());
    } else {
        e.s().i32_trunc_sat_f64_s().i32_const(i32::MIN).local_get(x).f64_const(ABOVE_I32.into());
    }
    e.s().f64_lt().select();
    e.write(i.op0_register());
}

fn single_to_integer(e: &mut Emit, i: &Instruction, round: bool) {
    let x = e.tf32(0);
    e.f32(i, 1);
    if round {
        round_current(e, x, false, false);
    }
    e.set(x);
    e.get(x);
    if i.op0_register().size() == 8 {
        e.s().i64_trunc_sat_f32_s().i64_const(i64::MIN).local_get(x).f32_const((ABOVE_I64 as f32).into());
    } else {
        e.s().i32_trunc_sat_f32_s().i32_const(i32::MIN).local_get(x).f32_const((ABOVE_I32 as f32).into());
    }
    e.s().f32_lt().select();
    e.write(i.op0_register());
}

/// From the low 64 bits of the source.
fn widen(e: &mut Emit, i: &Instruction, f: impl FnOnce(&mut Emit)) {
    if i.op1_kind() == OpKind::Memory {
        let off = e.address(i);
        e.s().v128_load64_zero(guest(off));
    } else {
        e.vector(i, 1);
    }
    f(e);
    e.set_vector(i, 0);
}

/// Integer indefinite in every lane.
const INDEFINITE: i128 = i128::from_ne_bytes([0, 0, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0x80]);

fn singles_to_integers(e: &mut Emit, i: &Instruction, round: bool) {
    let x = e.tv(0);
    e.vector(i, 1);
    if round {
        round_current(e, x, false, true);
    }
    e.set(x);
    truncate_singles(e, x);
    e.set_vector(i, 0);
}

/// Pushes the four singles of a local as integers, indefinite when out of range.
pub(super) fn truncate_singles(e: &mut Emit, x: u32) {
    e.s().local_get(x).i32x4_trunc_sat_f32x4_s().v128_const(INDEFINITE);
    e.s().local_get(x).f32_const((ABOVE_I32 as f32).into()).f32x4_splat().f32x4_lt().v128_bitselect();
}

/// Two integers into the low half; the upper one is cleared.
fn doubles_to_integers(e: &mut Emit, i: &Instruction, round: bool) {
    let x = e.tv(0);
    e.vector(i, 1);
    if round {
        round_current(e, x, true, true);
    }
    e.set(x);
    truncate_doubles(e, x);
    e.set_vector(i, 0);
}

/// Pushes the two doubles of a local as integers in the low half, indefinite when out of range.
pub(super) fn truncate_doubles(e: &mut Emit, x: u32) {
    e.s().local_get(x).i32x4_trunc_sat_f64x2_s_zero().v128_const(INDEFINITE);
    e.s().local_get(x).f64_const(ABOVE_I32.into()).f64x2_splat().f64x2_lt().v128_const(-1);
    e.shuffle([0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23]);
    e.s().v128_bitselect();
}
