//! SSE and SSE2 conversions (SDM vol. 1, 5.5.1.6, 5.6.1.6, 5.6.2): between integers, single and double precision.
//!
//! Owns every cvt instruction on xmm registers. Conversions to a floating-point format round as the host does (see `sse_float`); those to integers are the processor's own instruction,
//! because no operation of WASM raises the same exception flags. The fact a newcomer gets wrong: out-of-range values and NaNs give the integer indefinite 80000000H, where WASM's `trunc_sat` saturates.

use super::Semantics;
use crate::emit::{Emit, Form, guest};
use iced_x86::{Instruction, Mnemonic, OpKind};
use syscalls::abi::float;

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
        e.opaque(true);
        e.s().f64_convert_i64_s();
    } else {
        // Always exact.
        e.s().f64_convert_i32_s();
    }
    e.set_f64(Emit::xmm_number(i, 0));
}

/// A constant must not be rounded when it is compiled: the mode is not known then.
fn cvtsi2ss(e: &mut Emit, i: &Instruction) {
    let wide = e.width(i, 1).is_64();
    e.operand(i, 1);
    e.opaque(wide);
    if wide {
        e.s().f32_convert_i64_s();
    } else {
        e.s().f32_convert_i32_s();
    }
    e.set_f32(Emit::xmm_number(i, 0));
}

/// 2^31 and 2^63: the first values above the signed ranges. Values below them saturate to the indefinite already.
const ABOVE_I32: f64 = 2_147_483_648.0;
const ABOVE_I64: f64 = 9_223_372_036_854_775_808.0;

/// By the processor's own instruction. Truncations in the resumable form are WASM's, for speed: Cranelift begins them with the same instruction, so that the flags are the same.
fn double_to_integer(e: &mut Emit, i: &Instruction, round: bool) {
    let wide = i.op0_register().size() == 8;
    e.f64(i, 1);
    if !round && e.form == Form::Resumable {
        let x = e.tf64(0);
        e.tee(x);
        if wide {
            e.s().i64_trunc_sat_f64_s().i64_const(i64::MIN);
        } else {
            e.s().i32_trunc_sat_f64_s().i32_const(i32::MIN);
        }
        below_double(e, x, if wide { ABOVE_I64 } else { ABOVE_I32 });
        e.s().select();
    } else {
        e.s().i64_reinterpret_f64();
        convert(e, if round { float::CVTSD2SI } else { float::CVTTSD2SI }, wide);
    }
    e.write(i.op0_register());
}

fn single_to_integer(e: &mut Emit, i: &Instruction, round: bool) {
    let wide = i.op0_register().size() == 8;
    e.f32(i, 1);
    if !round && e.form == Form::Resumable {
        let x = e.tf32(0);
        e.tee(x);
        if wide {
            e.s().i64_trunc_sat_f32_s().i64_const(i64::MIN);
        } else {
            e.s().i32_trunc_sat_f32_s().i32_const(i32::MIN);
        }
        below_single(e, x, if wide { ABOVE_I64 } else { ABOVE_I32 });
        e.s().select();
    } else {
        e.s().i32_reinterpret_f32().i64_extend_i32_u();
        convert(e, if round { float::CVTSS2SI } else { float::CVTTSS2SI }, wide);
    }
    e.write(i.op0_register());
}

/// Pushes i32: is the number in a local below a limit, and no NaN? By its bits: comparing denormals would raise DE.
fn below_double(e: &mut Emit, x: u32, limit: f64) {
    let bits = e.t64(0);
    e.s().local_get(x).i64_reinterpret_f64().local_tee(bits).i64_const(limit.to_bits().cast_signed()).i64_lt_u();
    e.s().local_get(bits).i64_const(i64::MIN).i64_sub().i64_const(f64::INFINITY.to_bits().cast_signed()).i64_le_u().i32_or();
}

fn below_single(e: &mut Emit, x: u32, limit: f64) {
    let bits = e.t32(0);
    e.s().local_get(x).i32_reinterpret_f32().local_tee(bits).i32_const((limit as f32).to_bits().cast_signed()).i32_lt_u();
    e.s().local_get(bits).i32_const(i32::MIN).i32_sub().i32_const(f32::INFINITY.to_bits().cast_signed()).i32_le_u().i32_or();
}

/// Pops the bits of a number, pushes the integer: i64 if `wide`, whose operation is the next one, else i32.
fn convert(e: &mut Emit, operation: u32, wide: bool) {
    let bits = e.t64(0);
    e.set(bits);
    e.float(operation + u32::from(wide), |e| {
        e.get(bits);
        e.c64(0);
    });
    if !wide {
        e.s().i32_wrap_i64();
    }
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

fn singles_to_integers(e: &mut Emit, i: &Instruction, round: bool) {
    e.vector(i, 1);
    convert_singles(e, if round { float::CVTPS2DQ } else { float::CVTTPS2DQ });
    e.set_vector(i, 0);
}

/// Pops four singles, pushes the result of an operation that takes two of them at a time.
pub(super) fn convert_singles(e: &mut Emit, operation: u32) {
    let x = e.tv(0);
    e.s().local_set(x).v128_const(0);
    for half in 0..2 {
        e.float(operation, |e| {
            e.s().local_get(x).i64x2_extract_lane(half).i64_const(0);
        });
        e.s().i64x2_replace_lane(half);
    }
}

/// Two integers into the low half; the upper one is cleared.
fn doubles_to_integers(e: &mut Emit, i: &Instruction, round: bool) {
    e.vector(i, 1);
    convert_doubles(e, if round { float::CVTPD2DQ } else { float::CVTTPD2DQ });
    e.set_vector(i, 0);
}

/// Pops two doubles, pushes them as integers in the low half.
pub(super) fn convert_doubles(e: &mut Emit, operation: u32) {
    let x = e.tv(0);
    e.s().local_set(x).v128_const(0);
    e.float(operation, |e| {
        e.s().local_get(x).i64x2_extract_lane(0).local_get(x).i64x2_extract_lane(1);
    });
    e.s().i64x2_replace_lane(0);
}
