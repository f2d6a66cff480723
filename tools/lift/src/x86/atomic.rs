//! Locked operations: everything with a lock prefix, xchg with memory (locked without one), xadd, cmpxchg, cmpxchg8b, cmpxchg16b, and the fences.
//!
//! Aligned operands become WASM atomics; misaligned ones, which WASM traps on, go to a host helper. The fact a newcomer gets wrong: WASM compares the whole
//! i32 in a narrow cmpxchg, so the expected value must be zero-extended.

use super::RowTable;
use super::arithmetic::{carry_in, difference_flags, keep_carry, negation_flags, step_flags, sum_flags};
use super::bit::{bit_mask, bit_operand, carry_from_bit, keep_other_flags};
use super::logical::logic_flags;
use crate::emit::{Alu, Emit, Flag, Flags, Lazy, Width};
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic, OpKind, Register, RflagsBits};
use syscalls::abi::{helper, import, offset};
use wasm_encoder::{BlockType, MemArg};

/// Rows that need no lock prefix to be reached.
pub(super) const ROWS: RowTable = &[
    (Mnemonic::Xadd, xadd),
    (Mnemonic::Cmpxchg, cmpxchg),
    (Mnemonic::Cmpxchg8b, cmpxchg8b),
    (Mnemonic::Cmpxchg16b, cmpxchg16b),
    (Mnemonic::Mfence, mfence),
    (Mnemonic::Lfence, compiler_barrier),
    (Mnemonic::Sfence, compiler_barrier),
    (Mnemonic::Pause, compiler_barrier),
];

/// Rows for instructions with a lock prefix (or xchg with memory). Operand 0 is memory, except xchg's, where either may be.
pub(super) const LOCKED: RowTable = &[
    (Mnemonic::Add, add),
    (Mnemonic::Sub, sub),
    (Mnemonic::Adc, adc),
    (Mnemonic::Sbb, sbb),
    (Mnemonic::And, and),
    (Mnemonic::Or, or),
    (Mnemonic::Xor, xor),
    (Mnemonic::Not, not),
    (Mnemonic::Neg, neg),
    (Mnemonic::Inc, inc),
    (Mnemonic::Dec, dec),
    (Mnemonic::Bts, bts),
    (Mnemonic::Btr, btr),
    (Mnemonic::Btc, btc),
    (Mnemonic::Xadd, locked_xadd),
    (Mnemonic::Xchg, xchg),
    (Mnemonic::Cmpxchg, locked_cmpxchg),
    (Mnemonic::Cmpxchg8b, cmpxchg8b),
    (Mnemonic::Cmpxchg16b, cmpxchg16b),
];

/// Must the instruction go through `LOCKED`?
pub(super) fn is_locked(i: &Instruction) -> bool {
    i.has_lock_prefix() || i.mnemonic() == Mnemonic::Xchg && (i.op0_kind() == OpKind::Memory || i.op1_kind() == OpKind::Memory)
}

/// Read-modify-write operations that WASM has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rmw {
    Add,
    Sub,
    And,
    Or,
    Xor,
    Exchange,
}

impl Rmw {
    fn helper(self) -> u32 {
        match self {
            Rmw::Add => helper::LOCK_ADD,
            Rmw::Sub => helper::LOCK_SUB,
            Rmw::And => helper::LOCK_AND,
            Rmw::Or => helper::LOCK_OR,
            Rmw::Xor => helper::LOCK_XOR,
            Rmw::Exchange => helper::LOCK_XCHG,
        }
    }
    /// [address, operand] → [old value, zero-extended].
    fn emit(self, e: &mut Emit, w: Width) {
        let m = atomic(w);
        let mut s = e.s();
        macro_rules! pick {
            ($($op:ident $b8:ident $b16:ident $b32:ident $b64:ident;)*) => {
                match (self, w) { $((Rmw::$op, Width::W8) => s.$b8(m), (Rmw::$op, Width::W16) => s.$b16(m), (Rmw::$op, Width::W32) => s.$b32(m), (Rmw::$op, Width::W64) => s.$b64(m),)* }
            };
        }
        pick! {
            Add i32_atomic_rmw8_add_u i32_atomic_rmw16_add_u i32_atomic_rmw_add i64_atomic_rmw_add;
            Sub i32_atomic_rmw8_sub_u i32_atomic_rmw16_sub_u i32_atomic_rmw_sub i64_atomic_rmw_sub;
            And i32_atomic_rmw8_and_u i32_atomic_rmw16_and_u i32_atomic_rmw_and i64_atomic_rmw_and;
            Or i32_atomic_rmw8_or_u i32_atomic_rmw16_or_u i32_atomic_rmw_or i64_atomic_rmw_or;
            Xor i32_atomic_rmw8_xor_u i32_atomic_rmw16_xor_u i32_atomic_rmw_xor i64_atomic_rmw_xor;
            Exchange i32_atomic_rmw8_xchg_u i32_atomic_rmw16_xchg_u i32_atomic_rmw_xchg i64_atomic_rmw_xchg;
        };
    }
}

/// Atomic accesses state their natural alignment, as WASM demands; offsets are in the address already.
fn atomic(w: Width) -> MemArg {
    MemArg { offset: 0, align: w.bytes().trailing_zeros(), memory_index: import::MEM_INDEX }
}

/// The operand's address, offset included, into a local.
fn address_local(e: &mut Emit, i: &Instruction) -> u32 {
    let off = e.address(i);
    settle(e, off)
}

/// Pops an address, adds `off`, into a local.
fn settle(e: &mut Emit, off: u64) -> u32 {
    if off != 0 {
        e.c32(off as i32);
        e.s().i32_add();
    }
    let address = e.t32(5);
    e.set(address);
    address
}

/// Chooses by the alignment of `address`; both arms leave their result in a local.
fn by_alignment(e: &mut Emit, w: Width, address: u32, aligned: impl FnOnce(&mut Emit), misaligned: impl FnOnce(&mut Emit)) {
    if w == Width::W8 {
        return aligned(e);
    }
    e.get(address);
    e.c32(w.bytes() as i32 - 1);
    e.s().i32_and().i32_eqz();
    e.if_else(aligned, misaligned);
}

/// `[address] = [address] op operand` in one step; locals in, local of the old value (zero-extended) out.
fn read_modify_write(e: &mut Emit, w: Width, op: Rmw, address: u32, operand: u32) -> u32 {
    let old = e.wide_temp(w, 6);
    by_alignment(
        e,
        w,
        address,
        |e| {
            e.get(address);
            e.get(operand);
            op.emit(e, w);
            e.set(old);
        },
        |e| {
            e.helper(op.helper() + w as u32, RegSet::EMPTY, RegSet::EMPTY, |e| {
                e.s().local_get(address).i64_extend_i32_u().local_get(operand);
                e.widen(w);
            });
            e.narrow(w);
            e.set(old);
        },
    );
    old
}

/// `if [address] == expected { [address] = new }` in one step; returns the local of the old value.
fn compare_exchange(e: &mut Emit, w: Width, address: u32, expected: u32, new: u32) -> u32 {
    let old = e.wide_temp(w, 6);
    by_alignment(
        e,
        w,
        address,
        |e| {
            e.s().local_get(address).local_get(expected).local_get(new);
            let m = atomic(w);
            match w {
                Width::W8 => e.s().i32_atomic_rmw8_cmpxchg_u(m),
                Width::W16 => e.s().i32_atomic_rmw16_cmpxchg_u(m),
                Width::W32 => e.s().i32_atomic_rmw_cmpxchg(m),
                Width::W64 => e.s().i64_atomic_rmw_cmpxchg(m),
            };
            e.set(old);
        },
        |e| {
            e.cpu_store64(offset::scratch(0), |e| {
                e.get(expected);
                e.widen(w);
            });
            e.helper(helper::LOCK_CMPXCHG + w as u32, RegSet::EMPTY, RegSet::EMPTY, |e| {
                e.s().local_get(address).i64_extend_i32_u().local_get(new);
                e.widen(w);
            });
            e.narrow(w);
            e.set(old);
        },
    );
    old
}

/// Address, operand 1 (both in locals), then the operation. Returns (old, operand).
fn simple(e: &mut Emit, i: &Instruction, op: Rmw) -> (u32, u32) {
    let w = e.width(i, 0);
    let address = address_local(e, i);
    let operand = e.wide_temp(w, 4);
    e.operand(i, 1);
    e.set(operand);
    (read_modify_write(e, w, op, address, operand), operand)
}

fn add(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let (old, operand) = simple(e, i, Rmw::Add);
    addition_flags(e, w, old, operand);
}

/// Flags of old + operand.
fn addition_flags(e: &mut Emit, w: Width, old: u32, operand: u32) {
    if !e.live_flags.any() {
        return;
    }
    let (a, r) = (e.flag_a(w), e.flag_r(w));
    e.get(old);
    e.tee(a);
    e.get(operand);
    e.alu(w, Alu::Add);
    e.zero_extend(w);
    e.set(r);
    e.lazy = Lazy::Add(w);
}

fn sub(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let (old, operand) = simple(e, i, Rmw::Sub);
    comparison_flags(e, w, old, operand);
}

/// Flags of x - y.
fn comparison_flags(e: &mut Emit, w: Width, x: u32, y: u32) {
    if !e.live_flags.any() {
        return;
    }
    let (a, b) = (e.flag_a(w), e.flag_b(w));
    e.get(x);
    e.set(a);
    e.get(y);
    e.set(b);
    e.lazy = Lazy::Sub(w);
}

fn adc(e: &mut Emit, i: &Instruction) {
    with_carry(e, i, Rmw::Add);
}

fn sbb(e: &mut Emit, i: &Instruction) {
    with_carry(e, i, Rmw::Sub);
}

/// The carry joins the operand: the sum in memory is the same.
fn with_carry(e: &mut Emit, i: &Instruction, op: Rmw) {
    let w = e.width(i, 0);
    let carry = carry_in(e, w);
    let address = address_local(e, i);
    let (b, total) = (e.wide_temp(w, 4), e.wide_temp(w, 3));
    e.operand(i, 1);
    e.tee(b);
    e.get(carry);
    e.alu(w, Alu::Add);
    e.set(total);
    let old = read_modify_write(e, w, op, address, total);
    if e.live_flags.any() {
        e.get(old);
        e.get(total);
        e.alu(w, if op == Rmw::Add { Alu::Add } else { Alu::Sub });
        if op == Rmw::Add {
            sum_flags(e, w, old, b, carry)
        } else {
            difference_flags(e, w, old, b, carry)
        }
        e.s().drop();
    }
}

fn and(e: &mut Emit, i: &Instruction) {
    logic(e, i, Rmw::And, Alu::And);
}
fn or(e: &mut Emit, i: &Instruction) {
    logic(e, i, Rmw::Or, Alu::Or);
}
fn xor(e: &mut Emit, i: &Instruction) {
    logic(e, i, Rmw::Xor, Alu::Xor);
}

fn logic(e: &mut Emit, i: &Instruction, op: Rmw, alu: Alu) {
    let w = e.width(i, 0);
    let (old, operand) = simple(e, i, op);
    if e.live_flags.any() {
        e.get(old);
        e.get(operand);
        e.alu(w, alu);
        logic_flags(e, w);
        e.s().drop();
    }
}

fn not(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let address = address_local(e, i);
    let ones = e.wide_temp(w, 4);
    e.constant(w, -1);
    e.set(ones);
    read_modify_write(e, w, Rmw::Xor, address, ones);
}

/// No WASM instruction for it: compare-exchange until nobody was faster.
fn neg(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let address = address_local(e, i);
    let (expected, new) = (e.wide_temp(w, 4), e.wide_temp(w, 3));
    e.get(address);
    e.load(w, 0);
    let seen = e.wide_temp(w, 6);
    e.set(seen);
    e.s().loop_(BlockType::Empty);
    e.depth += 1;
    e.get(seen);
    e.set(expected);
    e.constant(w, 0);
    e.get(expected);
    e.alu(w, Alu::Sub);
    e.set(new);
    let old = compare_exchange(e, w, address, expected, new);
    e.get(old);
    e.get(expected);
    e.alu(w, Alu::Ne);
    e.s().br_if(0).end();
    e.depth -= 1;
    if e.live_flags.any() {
        negation_flags(e, w, expected);
    }
}

fn inc(e: &mut Emit, i: &Instruction) {
    step(e, i, Rmw::Add, Alu::Add);
}
fn dec(e: &mut Emit, i: &Instruction) {
    step(e, i, Rmw::Sub, Alu::Sub);
}

fn step(e: &mut Emit, i: &Instruction, op: Rmw, alu: Alu) {
    let w = e.width(i, 0);
    keep_carry(e);
    let address = address_local(e, i);
    let one = e.wide_temp(w, 4);
    e.constant(w, 1);
    e.set(one);
    let old = read_modify_write(e, w, op, address, one);
    e.get(old);
    e.get(one);
    e.alu(w, alu);
    step_flags(e, w, alu);
    e.s().drop();
}

fn bts(e: &mut Emit, i: &Instruction) {
    bit(e, i, Rmw::Or, Alu::Or);
}
fn btr(e: &mut Emit, i: &Instruction) {
    bit(e, i, Rmw::And, Alu::And);
}
fn btc(e: &mut Emit, i: &Instruction) {
    bit(e, i, Rmw::Xor, Alu::Xor);
}

fn bit(e: &mut Emit, i: &Instruction, op: Rmw, alu: Alu) {
    let w = e.width(i, 0);
    keep_other_flags(e);
    let b = bit_operand(e, i, w);
    e.get(b.address);
    let address = settle(e, b.offset);
    let mask = e.wide_temp(w, 4);
    bit_mask(e, w, alu, b.bit);
    e.zero_extend(w);
    e.set(mask);
    let old = read_modify_write(e, w, op, address, mask);
    carry_from_bit(e, w, old, b.bit);
}

fn xchg(e: &mut Emit, i: &Instruction) {
    // Assemblers put either operand first; the encoding is the same.
    let register = if i.op0_kind() == OpKind::Register { i.op0_register() } else { i.op1_register() };
    let w = Width::from_bytes(register.size());
    let address = address_local(e, i);
    let operand = e.wide_temp(w, 4);
    e.read(register);
    e.set(operand);
    let old = read_modify_write(e, w, Rmw::Exchange, address, operand);
    e.get(old);
    e.write(register);
}

fn locked_xadd(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let (old, operand) = simple(e, i, Rmw::Add);
    e.get(old);
    e.write(i.op1_register());
    addition_flags(e, w, old, operand);
}

/// Without lock: sum to operand 0, old operand 0 to operand 1 (written first: they may be one register).
fn xadd(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    if i.op0_kind() == OpKind::Memory {
        return locked_xadd(e, i);
    }
    let (old, operand) = (e.wide_temp(w, 6), e.wide_temp(w, 4));
    e.operand(i, 1);
    e.set(operand);
    e.operand(i, 0);
    e.tee(old);
    e.write(i.op1_register());
    e.get(old);
    e.get(operand);
    e.alu(w, Alu::Add);
    e.write(i.op0_register());
    addition_flags(e, w, old, operand);
}

fn accumulator(w: Width) -> Register {
    match w {
        Width::W8 => Register::AL,
        Width::W16 => Register::AX,
        Width::W32 => Register::EAX,
        Width::W64 => Register::RAX,
    }
}

fn locked_cmpxchg(e: &mut Emit, i: &Instruction) {
    let w = e.width(i, 0);
    let address = address_local(e, i);
    let (expected, new) = (e.wide_temp(w, 4), e.wide_temp(w, 3));
    e.read(accumulator(w));
    e.set(expected);
    e.operand(i, 1);
    e.set(new);
    let old = compare_exchange(e, w, address, expected, new);
    load_accumulator(e, w, old, expected);
    comparison_flags(e, w, expected, old);
}

/// The accumulator takes the old value unless they were equal; a 32-bit one then keeps its upper half, too.
fn load_accumulator(e: &mut Emit, w: Width, old: u32, expected: u32) {
    if w == Width::W32 {
        e.get(old);
        e.s().i64_extend_i32_u();
        e.read(Register::RAX);
        e.get(old);
        e.get(expected);
        e.alu(w, Alu::Ne);
        e.s().select();
        e.write(Register::RAX);
    } else {
        e.get(old);
        e.write(accumulator(w));
    }
}

/// Without lock. In memory the atomic form is as right; between registers it is a select.
fn cmpxchg(e: &mut Emit, i: &Instruction) {
    if i.op0_kind() == OpKind::Memory {
        return locked_cmpxchg(e, i);
    }
    let w = e.width(i, 0);
    let (expected, old) = (e.wide_temp(w, 4), e.wide_temp(w, 6));
    let new = e.wide_temp(w, 3);
    e.read(accumulator(w));
    e.set(expected);
    e.operand(i, 0);
    e.set(old);
    e.operand(i, 1);
    e.set(new);
    load_accumulator(e, w, old, expected);
    if w == Width::W32 {
        // The upper half is cleared only when the register is replaced.
        let whole = i.op0_register().full_register();
        e.get(new);
        e.s().i64_extend_i32_u();
        e.read(whole);
        e.get(old);
        e.get(expected);
        e.s().i32_eq().select();
        e.write(whole);
    } else {
        e.get(new);
        e.get(old);
        e.get(old);
        e.get(expected);
        e.alu(w, Alu::Eq);
        e.s().select();
        e.write(i.op0_register());
    }
    comparison_flags(e, w, expected, old);
}

/// ZF alone changes: keeps the other live flags.
fn only_zero_flag(e: &mut Emit) {
    let kept = e.live_flags.without(Flags(RflagsBits::ZF));
    e.flags_to_locals(kept);
}

/// edx:eax against 8 bytes, ecx:ebx as the new value.
fn cmpxchg8b(e: &mut Emit, i: &Instruction) {
    let w = Width::W64;
    only_zero_flag(e);
    let address = address_local(e, i);
    let (expected, new) = (e.t64(4), e.t64(3));
    for (high, low, local) in [(Register::EDX, Register::EAX, expected), (Register::ECX, Register::EBX, new)] {
        e.read(high);
        e.s().i64_extend_i32_u().i64_const(32).i64_shl();
        e.read(low);
        e.s().i64_extend_i32_u().i64_or().local_set(local);
    }
    let old = compare_exchange(e, w, address, expected, new);
    let equal = e.flag_local(Flag::Zf);
    e.s().local_get(old).local_get(expected).i64_eq().local_set(equal);
    for (register, shift) in [(Register::RAX, 0), (Register::RDX, 32)] {
        e.read(register);
        e.s().local_get(old).i64_const(shift).i64_shr_u().i64_const(0xffff_ffff).i64_and();
        e.s().local_get(equal).select();
        e.write(register);
    }
}

fn cmpxchg16b(e: &mut Emit, i: &Instruction) {
    only_zero_flag(e);
    let address = address_local(e, i);
    let accumulator = RegSet::RAX.or(RegSet::gpr(2));
    let all = accumulator.or(RegSet::gpr(1)).or(RegSet::gpr(3));
    e.helper(helper::CMPXCHG16B, all, accumulator, |e| {
        e.s().local_get(address).i64_extend_i32_u().i64_const(0);
    });
    // The helper's copies may be older than `dirty` says: rax and rdx were just loaded.
    e.s().i32_wrap_i64();
    e.set_flag(Flag::Zf);
}

fn mfence(e: &mut Emit, _: &Instruction) {
    e.s().atomic_fence();
}

/// lfence and sfence order nothing that plain x86 accesses do not; pause is a hint. The compiler must not move accesses across them: an atomic load says so.
fn compiler_barrier(e: &mut Emit, _: &Instruction) {
    e.c32(0);
    e.s().i32_atomic_load(MemArg { offset: offset::POLL, align: 2, memory_index: import::CPU_INDEX }).drop();
}
