//! x87 and the state instructions of SSE (SDM vol. 1, 5.2, 5.5.2, 5.13): every D8–DF instruction, MXCSR, fxsave/xsave.
//!
//! Owns the call conventions of the helpers that do the work: 80-bit results cannot be had from WASM, and speed is irrelevant (printf and strtod of long
//! double). The fact a newcomer gets wrong: `fnstsw ax` and `fcomi` write the general state (rax, flags), the rest touches only the x87 part of `CpuState`.

use super::Semantics;
use crate::emit::{Emit, Flags, Width};
use crate::registers::RegSet;
use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpKind};
use syscalls::abi::{helper, offset};

macro_rules! x87 {
    ($($m:ident)*) => { &[$((Mnemonic::$m, x87 as Semantics),)*] };
}

/// Everything with an opcode of D8..DF.
pub(super) const ROWS: &[(Mnemonic, Semantics)] = x87! {
    Fadd Faddp Fiadd Fsub Fsubp Fisub Fsubr Fsubrp Fisubr Fmul Fmulp Fimul Fdiv Fdivp Fidiv Fdivr Fdivrp Fidivr
    Fld Fst Fstp Fstpnce Fild Fist Fistp Fisttp Fbld Fbstp Fxch Fld1 Fldz Fldpi Fldl2e Fldl2t Fldlg2 Fldln2
    Fcmovb Fcmove Fcmovbe Fcmovu Fcmovnb Fcmovne Fcmovnbe Fcmovnu
    Fcom Fcomp Fcompp Fucom Fucomp Fucompp Ficom Ficomp Fcomi Fcomip Fucomi Fucomip Ftst Fxam
    Fchs Fabs Frndint Fscale Fsqrt Fxtract Fprem Fprem1 Fsin Fcos Fsincos Fptan Fpatan F2xm1 Fyl2x Fyl2xp1
    Fincstp Fdecstp Ffree Ffreep Fnop Fninit Fnclex Fldcw Fnstenv Fldenv Fnsave Frstor
};

pub(super) const STATE: &[(Mnemonic, Semantics)] = &[
    (Mnemonic::Wait, wait),
    (Mnemonic::Emms, emms),
    (Mnemonic::Fnstcw, fnstcw),
    (Mnemonic::Fnstsw, fnstsw),
    (Mnemonic::Ldmxcsr, ldmxcsr),
    (Mnemonic::Stmxcsr, stmxcsr),
    (Mnemonic::Fxsave, |e, i| save(e, i, helper::FXSAVE)),
    (Mnemonic::Fxsave64, |e, i| save(e, i, helper::FXSAVE)),
    (Mnemonic::Xsave, |e, i| save(e, i, helper::XSAVE)),
    (Mnemonic::Xsave64, |e, i| save(e, i, helper::XSAVE)),
    (Mnemonic::Xsaveopt, |e, i| save(e, i, helper::XSAVE)),
    (Mnemonic::Xsaveopt64, |e, i| save(e, i, helper::XSAVE)),
    (Mnemonic::Xsavec, |e, i| save(e, i, helper::XSAVEC)),
    (Mnemonic::Xsavec64, |e, i| save(e, i, helper::XSAVEC)),
    (Mnemonic::Fxrstor, |e, i| restore(e, i, helper::FXRSTOR)),
    (Mnemonic::Fxrstor64, |e, i| restore(e, i, helper::FXRSTOR)),
    (Mnemonic::Xrstor, |e, i| restore(e, i, helper::XRSTOR)),
    (Mnemonic::Xrstor64, |e, i| restore(e, i, helper::XRSTOR)),
];

/// Opcode byte and ModRM byte of an x87 instruction, as `helper::X87` takes them: `(opcode & 0xff) << 8 | modrm`. The addressing mode of a memory operand is
/// cleared (mod and rm are 0): its address goes separately. Taken from the encoder, so that no second opcode table exists.
pub fn opcode(i: &Instruction) -> Option<u16> {
    let mut encoder = Encoder::new(64);
    encoder.encode(i, i.ip()).ok()?;
    let bytes = encoder.take_buffer();
    let k = bytes.iter().position(|b| (0xd8..=0xdf).contains(b))?;
    let modrm = *bytes.get(k + 1)?;
    let modrm = if modrm < 0xc0 { modrm & 0x38 } else { modrm };
    Some(u16::from(bytes[k]) << 8 | u16::from(modrm))
}

/// Raises a pending exception, as any waiting instruction does: fnop is one.
fn wait(e: &mut Emit, _i: &Instruction) {
    const FNOP: i64 = 0xd9d0;
    e.helper(helper::X87, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.c64(FNOP);
        e.c64(0);
    });
    e.s().drop();
}

fn memory_operand(i: &Instruction) -> bool {
    (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory)
}

fn x87(e: &mut Emit, i: &Instruction) {
    let Some(code) = opcode(i) else { return e.gap(i) };
    let short = matches!(i.code(), Code::Fldenv_m14byte | Code::Fnstenv_m14byte | Code::Frstor_m94byte | Code::Fnsave_m94byte);
    let prefix = if short { helper::X87_SHORT } else { 0 };
    let registers = if code == 0xdfe0 { RegSet::RAX } else { RegSet::EMPTY };
    let read = Flags::read_by(i);
    if read.any() {
        e.flags_to_state(read);
    }
    let sets_flags = matches!(i.mnemonic(), Mnemonic::Fcomi | Mnemonic::Fcomip | Mnemonic::Fucomi | Mnemonic::Fucomip);
    e.helper(helper::X87, registers, registers, |e| {
        e.c64((prefix | u64::from(code)).cast_signed());
        if memory_operand(i) { e.address_for_helper(i) } else { e.c64(0) }
    });
    e.s().drop();
    if sets_flags {
        e.flags_in_state();
    }
}

/// All registers empty, TOP zero (processors do that too, though the manual says so of the other MMX instructions only). `fempty` is a 16-bit field after fcw and fsw.
fn emms(e: &mut Emit, _i: &Instruction) {
    e.enter_mmx();
    e.c32(0);
    e.c32(0xff);
    e.store_x87_empty();
}

/// printf and strtod ask for the rounding mode at every number: no helper for that.
fn fnstcw(e: &mut Emit, i: &Instruction) {
    let off = e.address(i);
    e.cpu_load16(offset::FCW);
    e.store(Width::W16, off);
}

/// The status word and TOP, which `CpuState` keeps apart.
fn fnstsw(e: &mut Emit, i: &Instruction) {
    let off = if memory_operand(i) { Some(e.address(i)) } else { None };
    e.cpu_load16(offset::FSW);
    e.cpu_load16(offset::FTOP);
    e.s().i32_const(11).i32_shl().i32_or();
    match off {
        Some(off) => e.store(Width::W16, off),
        None => e.write(i.op0_register()),
    }
}

fn ldmxcsr(e: &mut Emit, i: &Instruction) {
    let off = e.address(i);
    let value = e.t32(0);
    e.load(Width::W32, off);
    e.set(value);
    e.helper(helper::LDMXCSR, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.get(value);
        e.s().i64_extend_i32_u();
        e.c64(0);
    });
    e.s().drop();
}

fn stmxcsr(e: &mut Emit, i: &Instruction) {
    let value = e.t32(0);
    e.helper(helper::STMXCSR, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.c64(0);
        e.c64(0);
    });
    e.s().i32_wrap_i64().local_set(value);
    let off = e.address(i);
    e.get(value);
    e.store(Width::W32, off);
}

/// Requested components: edx:eax for the xsave family, ignored by fxsave.
fn mask(e: &mut Emit, i: &Instruction) {
    if matches!(i.mnemonic(), Mnemonic::Fxsave | Mnemonic::Fxsave64 | Mnemonic::Fxrstor | Mnemonic::Fxrstor64) {
        return e.c64(-1);
    }
    e.gpr64(2);
    e.c64(32);
    e.s().i64_shl();
    e.gpr64(0);
    e.c64(0xffff_ffff);
    e.s().i64_and().i64_or();
}

fn save(e: &mut Emit, i: &Instruction, op: u32) {
    e.helper(op, RegSet::XMM, RegSet::EMPTY, |e| {
        e.address_for_helper(i);
        mask(e, i);
    });
    e.s().drop();
}

/// All xmm registers are reloaded; those the mask leaves alone were flushed before.
fn restore(e: &mut Emit, i: &Instruction, op: u32) {
    e.helper(op, RegSet::XMM, RegSet::XMM, |e| {
        e.address_for_helper(i);
        mask(e, i);
    });
    e.s().drop();
}
