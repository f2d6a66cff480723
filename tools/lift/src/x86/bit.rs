//! Bit and byte instructions (SDM vol. 1, 5.1.6): bt bts btr btc, bsf bsr tzcnt lzcnt popcnt, crc32.
//!
//! The fact a newcomer gets wrong: with a register bit offset and a memory operand, bt addresses memory up to 2^60 bytes away from the operand. And bsf and
//! bsr of 0 leave the destination alone, which programs rely on.

use super::RowTable;
use crate::emit::{Alu, Emit, Flag, Flags, Lazy, Width};
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic, OpKind, RflagsBits};
use syscalls::abi::helper;

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Bt, bt),
    (Mnemonic::Bts, bts),
    (Mnemonic::Btr, btr),
    (Mnemonic::Btc, btc),
    (Mnemonic::Bsf, bsf),
    (Mnemonic::Bsr, bsr),
    (Mnemonic::Tzcnt, tzcnt),
    (Mnemonic::Lzcnt, lzcnt),
    (Mnemonic::Popcnt, popcnt),
    (Mnemonic::Crc32, crc32),
];

const CF: Flags = Flags(RflagsBits::CF);

fn bt(e: &mut Emit, i: &Instruction) {
    bit_test(e, i, None);
}
fn bts(e: &mut Emit, i: &Instruction) {
    bit_test(e, i, Some(Alu::Or));
}
fn btr(e: &mut Emit, i: &Instruction) {
    bit_test(e, i, Some(Alu::And));
}
fn btc(e: &mut Emit, i: &Instruction) {
    bit_test(e, i, Some(Alu::Xor));
}

/// Where a bit string operand is: the unit's address (memory form, i32 local) and the bit number within it (local of `w`).
pub(super) struct BitOperand {
    pub(super) address: u32,
    pub(super) offset: u64,
    pub(super) bit: u32,
}

/// Computes the address of the unit that holds the addressed bit. Memory forms only.
pub(super) fn bit_operand(e: &mut Emit, i: &Instruction, w: Width) -> BitOperand {
    let (address, bit) = (e.t32(0), e.wide_temp(w, 1));
    let offset = e.address(i);
    if i.op1_kind() == OpKind::Register {
        // Signed bit offset: whole units move the address.
        e.operand(i, 1);
        e.sign_extend(w);
        e.constant(w.max(Width::W32), i64::from(w.bits().trailing_zeros()));
        e.alu(w, Alu::ShrS);
        e.to_i32(w);
        e.c32(w.bytes().trailing_zeros() as i32);
        e.s().i32_shl().i32_add();
    }
    e.set(address);
    bit_number(e, i, w, bit);
    BitOperand { address, offset, bit }
}

/// Bit number modulo the width into a local.
fn bit_number(e: &mut Emit, i: &Instruction, w: Width, bit: u32) {
    e.operand(i, 1);
    e.constant(w, i64::from(w.bits() - 1));
    e.alu(w, Alu::And);
    e.set(bit);
}

/// Only CF changes: the manual promises ZF alone besides, processors leave all others too (`Flags::left_by`).
pub(super) fn keep_other_flags(e: &mut Emit) {
    let kept = e.live_flags.without(CF);
    e.flags_to_locals(kept);
}

/// CF, if live: bit `bit` of `value` (locals of `w`).
pub(super) fn carry_from_bit(e: &mut Emit, w: Width, value: u32, bit: u32) {
    if !e.live_flags.has(Flag::Cf) {
        return;
    }
    e.get(value);
    e.get(bit);
    e.alu(w, Alu::ShrU);
    e.to_i32(w);
    e.s().i32_const(1).i32_and();
    e.set_flag(Flag::Cf);
}

/// Pushes the mask for `op`: the bit alone, or all others for btr (And).
pub(super) fn bit_mask(e: &mut Emit, w: Width, op: Alu, bit: u32) {
    // All 32 bits of a narrow mask: the upper ones are cut off later.
    e.constant(w.max(Width::W32), if op == Alu::And { -2 } else { 1 });
    e.get(bit);
    e.alu(w, if op == Alu::And { Alu::Rotl } else { Alu::Shl });
}

fn bit_test(e: &mut Emit, i: &Instruction, op: Option<Alu>) {
    let w = e.width(i, 0);
    keep_other_flags(e);
    let value = e.wide_temp(w, 2);
    if i.op0_kind() == OpKind::Memory {
        let b = bit_operand(e, i, w);
        e.get(b.address);
        e.load(w, b.offset);
        e.set(value);
        carry_from_bit(e, w, value, b.bit);
        if let Some(op) = op {
            e.get(b.address);
            e.get(value);
            bit_mask(e, w, op, b.bit);
            e.alu(w, op);
            e.store(w, b.offset);
        }
        return;
    }
    let bit = e.wide_temp(w, 1);
    bit_number(e, i, w, bit);
    e.operand(i, 0);
    e.set(value);
    carry_from_bit(e, w, value, bit);
    if let Some(op) = op {
        e.get(value);
        bit_mask(e, w, op, bit);
        e.alu(w, op);
        e.write(i.op0_register());
    }
}

/// Pops a value of `w` (zero-extended), pushes its trailing zeros; narrow widths see a bit above them.
fn trailing_zeros(e: &mut Emit, w: Width) {
    match w {
        Width::W64 => e.s().i64_ctz(),
        Width::W32 => e.s().i32_ctz(),
        _ => e.s().i32_const(1 << w.bits()).i32_or().i32_ctz(),
    };
}

/// Pops a value of `w`, pushes its leading zeros within `w`.
fn leading_zeros(e: &mut Emit, w: Width) {
    match w {
        Width::W64 => e.s().i64_clz(),
        Width::W32 => e.s().i32_clz(),
        _ => e.s().i32_clz().i32_const(32 - w.bits() as i32).i32_sub(),
    };
}

/// Flags of a bit scan follow its source: ZF says it is 0; the others are undefined.
fn scan(e: &mut Emit, i: &Instruction, index: impl FnOnce(&mut Emit, Width)) {
    let w = e.width(i, 0);
    let source = e.wide_temp(w, 0);
    e.operand(i, 1);
    e.set(source);
    // The whole destination register stays when the source is 0, the upper half of a 32-bit one included.
    let wide = i.op0_register().full_register();
    e.get(source);
    index(e, w);
    e.widen(w);
    if w == Width::W16 {
        e.read(wide);
        e.s().i64_const(!0xffff).i64_and().i64_or();
    }
    e.read(wide);
    e.get(source);
    e.eqz(w);
    e.s().i32_eqz().select();
    e.write(wide);
    e.get(source);
    super::logical::logic_flags(e, w);
    e.s().drop();
}

fn bsf(e: &mut Emit, i: &Instruction) {
    scan(e, i, trailing_zeros);
}

fn bsr(e: &mut Emit, i: &Instruction) {
    scan(e, i, |e, w| {
        let n = e.wide_temp(w, 1);
        leading_zeros(e, w);
        e.set(n);
        e.constant(w, i64::from(w.bits() - 1));
        e.get(n);
        e.alu(w, Alu::Sub);
    });
}

fn tzcnt(e: &mut Emit, i: &Instruction) {
    zero_count(e, i, trailing_zeros);
}

fn lzcnt(e: &mut Emit, i: &Instruction) {
    zero_count(e, i, leading_zeros);
}

/// CF: the source is 0; ZF: the result is 0; the others are undefined: 0, as on Intel's processors.
fn zero_count(e: &mut Emit, i: &Instruction, count: impl FnOnce(&mut Emit, Width)) {
    let w = e.width(i, 0);
    let flags = e.live_flags.any();
    e.operand(i, 1);
    if flags {
        let source = e.wide_temp(w, 0);
        e.tee(source);
        e.eqz(w);
        e.set_flag(Flag::Cf);
        e.get(source);
    }
    count(e, w);
    if flags {
        let r = e.flag_r(w);
        e.tee(r);
        e.get(r);
        e.eqz(w);
        e.set_flag(Flag::Zf);
        for f in [Flag::Of, Flag::Sf, Flag::Af, Flag::Pf] {
            if e.live_flags.has(f) {
                e.c32(0);
                e.set_flag(f);
            }
        }
        e.lazy = Lazy::Locals;
    }
    e.write(i.op0_register());
}

/// ZF: the source is 0; all other flags 0.
fn popcnt(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    e.operand(i, 1);
    if e.live_flags.any() {
        let source = e.wide_temp(w, 0);
        e.tee(source);
        e.eqz(w);
        e.set_flag(Flag::Zf);
        for f in Flag::ALL {
            if f != Flag::Zf && e.live_flags.has(f) {
                e.c32(0);
                e.set_flag(f);
            }
        }
        e.lazy = Lazy::Locals;
        e.get(source);
    }
    if w.is_64() {
        e.s().i64_popcnt();
    } else {
        e.s().i32_popcnt();
    }
    e.write(i.op0_register());
}

/// CRC-32C; a 64-bit destination is zero-extended.
fn crc32(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 1);
    let destination = i.op0_register().full_register32();
    let data = e.t64(0);
    e.operand(i, 1);
    e.widen(w);
    e.set(data);
    e.helper(helper::CRC32 + w as u32, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.read(destination);
        e.s().i64_extend_i32_u();
        e.get(data);
    });
    e.s().i32_wrap_i64();
    e.write(destination);
}
