//! Extensions and conversions (SDM vol. 1, 5.1.1): movzx movsx movsxd, cbw cwde cdqe, cwd cdq cqo, bswap.

use super::RowTable;
use crate::emit::{Emit, Width};
use iced_x86::{Instruction, Mnemonic, Register};

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Movzx, movzx),
    (Mnemonic::Movsx, movsx),
    (Mnemonic::Movsxd, movsx),
    (Mnemonic::Cbw, cbw),
    (Mnemonic::Cwde, cwde),
    (Mnemonic::Cdqe, cdqe),
    (Mnemonic::Cwd, cwd),
    (Mnemonic::Cdq, cdq),
    (Mnemonic::Cqo, cqo),
    (Mnemonic::Bswap, bswap),
];

fn movzx(e: &mut Emit, i: &Instruction) {
    e.operand(i, 1);
    if e.width(i, 0).is_64() {
        e.s().i64_extend_i32_u();
    }
    e.write(i.op0_register());
}

fn movsx(e: &mut Emit, i: &Instruction) {
    let from = e.width(i, 1);
    e.operand(i, 1);
    e.sign_extend(from);
    if e.width(i, 0).is_64() {
        e.s().i64_extend_i32_s();
    }
    e.write(i.op0_register());
}

fn cbw(e: &mut Emit, _: &Instruction) {
    e.read(Register::AL);
    e.s().i32_extend8_s();
    e.write(Register::AX);
}

fn cwde(e: &mut Emit, _: &Instruction) {
    e.read(Register::AX);
    e.s().i32_extend16_s();
    e.write(Register::EAX);
}

fn cdqe(e: &mut Emit, _: &Instruction) {
    e.read(Register::RAX);
    e.s().i64_extend32_s();
    e.write(Register::RAX);
}

fn cwd(e: &mut Emit, _: &Instruction) {
    e.read(Register::AX);
    e.s().i32_extend16_s().i32_const(16).i32_shr_s();
    e.write(Register::DX);
}

fn cdq(e: &mut Emit, _: &Instruction) {
    e.read(Register::EAX);
    e.s().i32_const(31).i32_shr_s();
    e.write(Register::EDX);
}

fn cqo(e: &mut Emit, _: &Instruction) {
    e.read(Register::RAX);
    e.s().i64_const(63).i64_shr_s();
    e.write(Register::RDX);
}

fn bswap(e: &mut Emit, i: &Instruction) {
    let r = i.op0_register();
    match e.width(i, 0) {
        Width::W64 => {
            e.read(r);
            bswap64(e);
        }
        Width::W32 => {
            e.read(r);
            bswap32(e);
        }
        // Undefined by the manual; CPUs give zero.
        _ => e.c32(0),
    }
    e.write(r);
}

/// Reverses the bytes of the i32 on the stack: within the halves, then the halves. LLVM knows this shape for a bswap.
fn bswap32(e: &mut Emit) {
    let t = e.t32(0);
    e.s().local_tee(t).i32_const(8).i32_shl().i32_const(0xff00_ff00_u32 as i32).i32_and();
    e.s().local_get(t).i32_const(8).i32_shr_u().i32_const(0x00ff_00ff).i32_and().i32_or();
    e.s().i32_const(16).i32_rotl();
}

/// Reverses the bytes of the i64 on the stack, as two halves.
fn bswap64(e: &mut Emit) {
    let t = e.t64(0);
    e.s().local_tee(t).i32_wrap_i64();
    bswap32(e);
    e.s().i64_extend_i32_u().i64_const(32).i64_shl();
    e.s().local_get(t).i64_const(32).i64_shr_u().i32_wrap_i64();
    bswap32(e);
    e.s().i64_extend_i32_u().i64_or();
}
