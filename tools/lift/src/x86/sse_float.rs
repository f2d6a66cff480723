//! SSE to SSE4.1 floating-point arithmetic, comparison and rounding (SDM vol. 1, 5.5.1.2, 5.5.1.3, 5.6.1, 5.7, 5.10).
//!
//! Owns what computes on f32 and f64 lanes; conversions are in `sse_convert`, the bitwise instructions in `sse_integer`. Operands are pushed in x86 order, so
//! that the host instruction propagates the same NaN. Arithmetic obeys the modes in the *host's* MXCSR (to nearest, unless the runtime loads the guest's
//! there: then every form is exact, as the tests show). Where no operation of WASM raises the same exception flags, the instruction itself runs (`Emit::float`).
//! The fact a newcomer gets wrong: min and max return the *source* when an operand is a NaN or both are zero.

use super::Semantics;
use crate::emit::{Emit, Form, Lazy, Precision};
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic};
use syscalls::abi::{SseOp, float, helper};

macro_rules! packed {
    ($($m:ident $op:ident,)*) => {
        &[$((Mnemonic::$m, (|e, i| binary(e, i, |e| { e.s().$op(); })) as Semantics),)*]
    };
}
macro_rules! double {
    ($($m:ident $op:ident,)*) => {
        &[$((Mnemonic::$m, (|e, i| { e.f64(i, 0); e.f64(i, 1); e.s().$op(); e.set_f64(Emit::xmm_number(i, 0)); }) as Semantics),)*]
    };
}
macro_rules! single {
    ($($m:ident $op:ident,)*) => {
        &[$((Mnemonic::$m, (|e, i| { e.f32(i, 0); e.f32(i, 1); e.s().$op(); e.set_f32(Emit::xmm_number(i, 0)); }) as Semantics),)*]
    };
}

pub(super) const PACKED: &[(Mnemonic, Semantics)] = packed! {
    Addps f32x4_add, Subps f32x4_sub, Mulps f32x4_mul, Divps f32x4_div,
    Addpd f64x2_add, Subpd f64x2_sub, Mulpd f64x2_mul, Divpd f64x2_div,
};
pub(super) const DOUBLE: &[(Mnemonic, Semantics)] = double! { Addsd f64_add, Subsd f64_sub, Mulsd f64_mul, Divsd f64_div, };
pub(super) const SINGLE: &[(Mnemonic, Semantics)] = single! { Addss f32_add, Subss f32_sub, Mulss f32_mul, Divss f32_div, };

pub(super) const ROWS: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Sqrtsd, |e, i| {
        e.f64(i, 1);
        e.s().f64_sqrt();
        e.set_f64(Emit::xmm_number(i, 0));
    }),
    (Mnemonic::Sqrtss, |e, i| {
        e.f32(i, 1);
        e.s().f32_sqrt();
        e.set_f32(Emit::xmm_number(i, 0));
    }),
    (Mnemonic::Sqrtps, |e, i| {
        e.vector(i, 1);
        e.s().f32x4_sqrt();
        e.set_vector(i, 0);
    }),
    (Mnemonic::Sqrtpd, |e, i| {
        e.vector(i, 1);
        e.s().f64x2_sqrt();
        e.set_vector(i, 0);
    }),
    (Mnemonic::Minsd, |e, i| choose_double(e, i, true)),
    (Mnemonic::Maxsd, |e, i| choose_double(e, i, false)),
    (Mnemonic::Minss, |e, i| choose_single(e, i, true)),
    (Mnemonic::Maxss, |e, i| choose_single(e, i, false)),
    (Mnemonic::Minps, |e, i| {
        choose_packed(e, i, |e| {
            e.s().f32x4_pmin();
        })
    }),
    (Mnemonic::Maxps, |e, i| {
        choose_packed(e, i, |e| {
            e.s().f32x4_pmax();
        })
    }),
    (Mnemonic::Minpd, |e, i| {
        choose_packed(e, i, |e| {
            e.s().f64x2_pmin();
        })
    }),
    (Mnemonic::Maxpd, |e, i| {
        choose_packed(e, i, |e| {
            e.s().f64x2_pmax();
        })
    }),
    (Mnemonic::Comisd, |e, i| compare(e, i, Precision::Double)),
    (Mnemonic::Ucomisd, |e, i| compare(e, i, Precision::Double)),
    (Mnemonic::Comiss, |e, i| compare(e, i, Precision::Single)),
    (Mnemonic::Ucomiss, |e, i| compare(e, i, Precision::Single)),
    (Mnemonic::Cmpsd, cmpsd),
    (Mnemonic::Cmpss, cmpss),
    (Mnemonic::Cmppd, |e, i| compare_packed(e, i, true)),
    (Mnemonic::Cmpps, |e, i| compare_packed(e, i, false)),
    (Mnemonic::Roundsd, |e, i| round_scalar(e, i, true)),
    (Mnemonic::Roundss, |e, i| round_scalar(e, i, false)),
    (Mnemonic::Roundpd, |e, i| round_packed(e, i, true)),
    (Mnemonic::Roundps, |e, i| round_packed(e, i, false)),
    (Mnemonic::Rcpps, |e, i| approximate(e, i, SseOp::Rcpps)),
    (Mnemonic::Rsqrtps, |e, i| approximate(e, i, SseOp::Rsqrtps)),
    (Mnemonic::Rcpss, |e, i| approximate(e, i, SseOp::Rcpss)),
    (Mnemonic::Rsqrtss, |e, i| approximate(e, i, SseOp::Rsqrtss)),
    (Mnemonic::Haddps, |e, i| {
        horizontal(e, i, 4, |e| {
            e.s().f32x4_add();
        })
    }),
    (Mnemonic::Haddpd, |e, i| {
        horizontal(e, i, 8, |e| {
            e.s().f64x2_add();
        })
    }),
    (Mnemonic::Hsubps, |e, i| {
        horizontal(e, i, 4, |e| {
            e.s().f32x4_sub();
        })
    }),
    (Mnemonic::Hsubpd, |e, i| {
        horizontal(e, i, 8, |e| {
            e.s().f64x2_sub();
        })
    }),
    (Mnemonic::Addsubps, addsubps),
    (Mnemonic::Addsubpd, addsubpd),
    (Mnemonic::Dpps, dpps),
    (Mnemonic::Dppd, dppd),
];

fn binary(e: &mut Emit, i: &Instruction, f: impl FnOnce(&mut Emit)) {
    e.vector(i, 0);
    e.vector(i, 1);
    f(e);
    e.set_vector(i, 0);
}

/// destination < source ? destination : source (or >).
fn choose_double(e: &mut Emit, i: &Instruction, minimum: bool) {
    let (a, b) = (e.tf64(0), e.tf64(1));
    e.f64(i, 0);
    e.tee(a);
    e.f64(i, 1);
    e.tee(b);
    if e.form == Form::Resumable {
        invalid_if_unordered(e, Precision::Double, (a, b));
    }
    e.s().local_get(a).local_get(b);
    if minimum {
        e.s().f64_lt();
    } else {
        e.s().f64_gt();
    }
    e.s().select();
    e.set_f64(Emit::xmm_number(i, 0));
}

fn choose_single(e: &mut Emit, i: &Instruction, minimum: bool) {
    let (a, b) = (e.tf32(0), e.tf32(1));
    e.f32(i, 0);
    e.tee(a);
    e.f32(i, 1);
    e.tee(b);
    if e.form == Form::Resumable {
        invalid_if_unordered(e, Precision::Single, (a, b));
    }
    e.s().local_get(a).local_get(b);
    if minimum {
        e.s().f32_lt();
    } else {
        e.s().f32_gt();
    }
    e.s().select();
    e.set_f32(Emit::xmm_number(i, 0));
}

/// WASM's pmin(a, b) is b < a ? b : a: source first.
fn choose_packed(e: &mut Emit, i: &Instruction, f: impl FnOnce(&mut Emit)) {
    e.vector(i, 1);
    e.vector(i, 0);
    f(e);
    e.set_vector(i, 0);
}

/// comis and ucomis differ in the exceptions they raise only: comis calls any NaN invalid, ucomis and the comparisons of WASM only signalling ones. The operands are kept, conditions compare them.
fn compare(e: &mut Emit, i: &Instruction, p: Precision) {
    let (a, b) = e.float_flag_operands(p);
    for (k, local) in [(0, a), (1, b)] {
        match p {
            Precision::Double => e.f64(i, k),
            Precision::Single => e.f32(i, k),
        }
        e.set(local);
    }
    let signalling = matches!(i.mnemonic(), Mnemonic::Comisd | Mnemonic::Comiss);
    if !e.live_flags.any() {
        // Nothing will compare them.
        return run_comparison(e, p, signalling, (a, b));
    }
    if signalling {
        invalid_if_unordered(e, p, (a, b));
    }
    e.lazy = Lazy::Compare(p);
}

/// comis for its exception. LLVM puts the instruction itself here; in the other form it is a call, made for NaNs only.
fn invalid_if_unordered(e: &mut Emit, p: Precision, operands: (u32, u32)) {
    if e.form == Form::Structured {
        return run_comparison(e, p, true, operands);
    }
    unordered(e, p, operands);
    e.if_then(|e| run_comparison(e, p, true, operands));
}

/// Pushes i32: is an operand a NaN?
fn unordered(e: &mut Emit, p: Precision, (a, b): (u32, u32)) {
    let mut s = e.s();
    s.local_get(a).local_get(a);
    match p {
        Precision::Double => s.f64_ne().local_get(b).local_get(b).f64_ne().i32_or(),
        Precision::Single => s.f32_ne().local_get(b).local_get(b).f32_ne().i32_or(),
    };
}

/// The instruction itself, for its flags in MXCSR.
fn run_comparison(e: &mut Emit, p: Precision, signalling: bool, (a, b): (u32, u32)) {
    let operation = match (p, signalling) {
        (Precision::Double, true) => float::COMISD,
        (Precision::Double, false) => float::UCOMISD,
        (Precision::Single, true) => float::COMISS,
        (Precision::Single, false) => float::UCOMISS,
    };
    e.float(operation, |e| {
        for local in [a, b] {
            e.get(local);
            match p {
                Precision::Double => e.s().i64_reinterpret_f64(),
                Precision::Single => e.s().i32_reinterpret_f32().i64_extend_i32_u(),
            };
        }
    });
    e.s().drop();
}

/// One of the eight comparison predicates, split into the test and whether it is negated: 0 eq, 1 lt, 2 le, 3 unord, 4 neq, 5 nlt, 6 nle, 7 ord.
fn predicate(i: &Instruction) -> (u8, bool) {
    let p = i.immediate8() & 7;
    (p & 3, p & 4 != 0)
}

/// lt and le and their opposites call any NaN invalid, the others only signalling ones.
fn signals(test: u8) -> bool {
    matches!(test, 1 | 2)
}

/// The SSE2 cmpsd; the string instruction of the same name is in `string`.
fn cmpsd(e: &mut Emit, i: &Instruction) {
    let (a, b) = (e.tf64(0), e.tf64(1));
    let (test, negated) = predicate(i);
    e.f64(i, 0);
    e.set(a);
    e.f64(i, 1);
    e.set(b);
    if signals(test) {
        invalid_if_unordered(e, Precision::Double, (a, b));
    }
    e.c64(0);
    e.s().local_get(a).local_get(b);
    match test {
        0 => e.s().f64_eq(),
        1 => e.s().f64_lt(),
        2 => e.s().f64_le(),
        _ => e.s().drop().local_get(a).f64_ne().local_get(b).local_get(b).f64_ne().i32_or(),
    };
    if negated {
        e.s().i32_eqz();
    }
    e.s().i64_extend_i32_u().i64_sub().f64_reinterpret_i64();
    e.set_f64(Emit::xmm_number(i, 0));
}

fn cmpss(e: &mut Emit, i: &Instruction) {
    let (a, b) = (e.tf32(0), e.tf32(1));
    let (test, negated) = predicate(i);
    e.f32(i, 0);
    e.set(a);
    e.f32(i, 1);
    e.set(b);
    if signals(test) {
        invalid_if_unordered(e, Precision::Single, (a, b));
    }
    e.c32(0);
    e.s().local_get(a).local_get(b);
    match test {
        0 => e.s().f32_eq(),
        1 => e.s().f32_lt(),
        2 => e.s().f32_le(),
        _ => e.s().drop().local_get(a).f32_ne().local_get(b).local_get(b).f32_ne().i32_or(),
    };
    if negated {
        e.s().i32_eqz();
    }
    e.s().i32_sub().f32_reinterpret_i32();
    e.set_f32(Emit::xmm_number(i, 0));
}

fn compare_packed(e: &mut Emit, i: &Instruction, double: bool) {
    let (a, b) = (e.tv(0), e.tv(1));
    let (test, negated) = predicate(i);
    e.vector(i, 0);
    e.set(a);
    e.vector(i, 1);
    e.set(b);
    e.s().local_get(a).local_get(b);
    match (test, double) {
        (0, true) => e.s().f64x2_eq(),
        (1, true) => e.s().f64x2_lt(),
        (2, true) => e.s().f64x2_le(),
        (_, true) => e.s().drop().local_get(a).f64x2_ne().local_get(b).local_get(b).f64x2_ne().v128_or(),
        (0, false) => e.s().f32x4_eq(),
        (1, false) => e.s().f32x4_lt(),
        (2, false) => e.s().f32x4_le(),
        (_, false) => e.s().drop().local_get(a).f32x4_ne().local_get(b).local_get(b).f32x4_ne().v128_or(),
    };
    if negated {
        e.s().v128_not();
    }
    e.set_vector(i, 0);
}

/// Runs the host's instruction under the guest's MXCSR on scratch[0] (destination) and scratch[1] (source): result in scratch[2] or, for general registers, on the stack.
fn host(e: &mut Emit, op: SseOp) {
    e.helper(helper::SSE, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.c64(op as i64);
        e.c64(0);
    });
}

/// Rounds the value on the stack by the constant mode of an immediate.
fn round_constant(e: &mut Emit, mode: u8, double: bool, packed: bool) {
    let mut s = e.s();
    match (mode & 3, double, packed) {
        (0, true, false) => s.f64_nearest(),
        (1, true, false) => s.f64_floor(),
        (2, true, false) => s.f64_ceil(),
        (_, true, false) => s.f64_trunc(),
        (0, false, false) => s.f32_nearest(),
        (1, false, false) => s.f32_floor(),
        (2, false, false) => s.f32_ceil(),
        (_, false, false) => s.f32_trunc(),
        (0, true, true) => s.f64x2_nearest(),
        (1, true, true) => s.f64x2_floor(),
        (2, true, true) => s.f64x2_ceil(),
        (_, true, true) => s.f64x2_trunc(),
        (0, false, true) => s.f32x4_nearest(),
        (1, false, true) => s.f32x4_floor(),
        (2, false, true) => s.f32x4_ceil(),
        (_, false, true) => s.f32x4_trunc(),
    };
}

/// Is a rounding of WASM what the immediate says? It fixes the mode, and bit 3 says whether an inexact result stays silent: it does as LLVM makes it, and raises PE as Cranelift does.
/// To nearest LLVM rounds as MXCSR says, whatever that is.
fn is_wasm_rounding(e: &Emit, imm: u8) -> bool {
    imm & 4 == 0 && (imm & 8 != 0) == (e.form == Form::Structured) && (imm & 3 != 0 || e.form == Form::Resumable)
}

fn round_scalar(e: &mut Emit, i: &Instruction, double: bool) {
    let imm = i.immediate8() & 15;
    let n = Emit::xmm_number(i, 0);
    if double {
        e.f64(i, 1)
    } else {
        e.f32(i, 1)
    }
    if is_wasm_rounding(e, imm) {
        round_constant(e, imm, double, false);
    } else if double {
        let bits = e.t64(0);
        e.s().i64_reinterpret_f64().local_set(bits);
        round_on_host(e, float::ROUNDSD, imm, |e| e.get(bits));
        e.s().f64_reinterpret_i64();
    } else {
        let bits = e.t32(0);
        e.s().i32_reinterpret_f32().local_set(bits);
        round_on_host(e, float::ROUNDPS, imm, |e| {
            e.s().local_get(bits).i64_extend_i32_u();
        });
        e.s().i32_wrap_i64().f32_reinterpret_i32();
    }
    if double { e.set_f64(n) } else { e.set_f32(n) }
}

fn round_packed(e: &mut Emit, i: &Instruction, double: bool) {
    let imm = i.immediate8() & 15;
    e.vector(i, 1);
    if is_wasm_rounding(e, imm) {
        round_constant(e, imm, double, true);
        return e.set_vector(i, 0);
    }
    let x = e.tv(0);
    e.s().local_set(x).v128_const(0);
    for half in 0..2 {
        round_on_host(e, if double { float::ROUNDSD } else { float::ROUNDPS }, imm, |e| {
            e.s().local_get(x).i64x2_extract_lane(half);
        });
        e.s().i64x2_replace_lane(half);
    }
    e.set_vector(i, 0);
}

/// Rounds the double, or the two singles, whose bits `operand` pushes.
fn round_on_host(e: &mut Emit, operation: u32, imm: u8, operand: impl FnOnce(&mut Emit)) {
    e.float(operation + u32::from(imm), |e| {
        operand(e);
        e.c64(0);
    });
}

/// Approximations have model-specific bits: the host's own instruction gives them.
fn approximate(e: &mut Emit, i: &Instruction, op: SseOp) {
    e.vector(i, 0);
    e.set_scratch(0);
    if matches!(op, SseOp::Rcpss | SseOp::Rsqrtss) {
        e.low(i, 1, 4)
    } else {
        e.vector(i, 1)
    }
    e.set_scratch(1);
    host(e, op);
    e.s().drop();
    e.scratch(2);
    e.set_vector(i, 0);
}

/// Even lanes and odd lanes of destination:source into two locals.
fn split(e: &mut Emit, i: &Instruction, bytes: u8) {
    let (a, b) = (e.tv(0), e.tv(1));
    e.vector(i, 0);
    e.set(a);
    e.vector(i, 1);
    e.set(b);
    for odd in [0, bytes] {
        e.s().local_get(a).local_get(b);
        e.shuffle(std::array::from_fn(|n| n as u8 / bytes * 2 * bytes + n as u8 % bytes + odd));
    }
}

fn horizontal(e: &mut Emit, i: &Instruction, bytes: u8, f: impl FnOnce(&mut Emit)) {
    split(e, i, bytes);
    f(e);
    e.set_vector(i, 0);
}

/// Even lanes subtract, odd lanes add. What a lane does not do raises no exception: it is done to zeros.
fn addsubps(e: &mut Emit, i: &Instruction) {
    add_and_subtract(e, i, dword_mask(0b0101), |e, odd| {
        if odd {
            e.s().f32x4_add();
        } else {
            e.s().f32x4_sub();
        }
    });
}

fn addsubpd(e: &mut Emit, i: &Instruction) {
    add_and_subtract(e, i, dword_mask(0b0011), |e, odd| {
        if odd {
            e.s().f64x2_add();
        } else {
            e.s().f64x2_sub();
        }
    });
}

fn add_and_subtract(e: &mut Emit, i: &Instruction, even: i128, operation: impl Fn(&mut Emit, bool)) {
    let (a, b) = (e.tv(0), e.tv(1));
    e.vector(i, 0);
    e.set(a);
    e.vector(i, 1);
    e.set(b);
    for (odd, lanes) in [(true, !even), (false, even)] {
        e.s().local_get(a).v128_const(lanes).v128_and().local_get(b).v128_const(lanes).v128_and();
        operation(e, odd);
    }
    e.s().v128_const(!even).v128_bitselect();
    e.set_vector(i, 0);
}

/// A constant whose 32-bit lanes are all ones where `mask` has a bit.
fn dword_mask(mask: u8) -> i128 {
    (0..4).filter(|k| mask >> k & 1 == 1).fold(0, |m, k| m | 0xffff_ffff << (32 * k))
}

/// Products of the lanes in imm[7:4], summed pairwise, into the lanes of imm[3:0].
fn dpps(e: &mut Emit, i: &Instruction) {
    let imm = i.immediate8();
    let t = e.tv(0);
    binary_masked(e, i, dword_mask(imm >> 4), |e| {
        e.s().f32x4_mul();
    });
    // The order of the operands decides which NaN stays: the neighbour first, the other half second.
    e.s().local_tee(t).local_get(t);
    e.shuffle([4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11]);
    e.s().local_get(t).f32x4_add();
    e.s().local_tee(t).local_get(t).local_get(t);
    e.shuffle([8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
    e.s().f32x4_add();
    e.s().v128_const(dword_mask(imm)).v128_and();
    e.set_vector(i, 0);
}

fn dppd(e: &mut Emit, i: &Instruction) {
    let imm = i.immediate8();
    let t = e.tv(0);
    let wide = |m: u8| dword_mask(((m & 1) * 3) | ((m >> 1 & 1) * 12));
    binary_masked(e, i, wide(imm >> 4), |e| {
        e.s().f64x2_mul();
    });
    e.s().local_tee(t).local_get(t).local_get(t);
    e.shuffle([8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
    e.s().f64x2_add().v128_const(wide(imm)).v128_and();
    e.set_vector(i, 0);
}

/// Lanes outside the mask are zeros before the operation: it raises no exception for them.
fn binary_masked(e: &mut Emit, i: &Instruction, mask: i128, f: impl FnOnce(&mut Emit)) {
    for k in [0, 1] {
        e.vector(i, k);
        e.s().v128_const(mask).v128_and();
    }
    f(e);
}
