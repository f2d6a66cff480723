//! Flag control, system and miscellaneous instructions (SDM vol. 1, 5.1.11, 5.1.13, 5.20): stc clc cmc std cld lahf sahf pushf popf, cpuid rdtsc rdtscp xgetbv,
//! nop and hints, and the instructions that only stop the guest.
//!
//! The fact a newcomer gets wrong: endbr64 and rdssp are NOPs because no shadow stack is presented; rdssp must then leave its register alone.

use super::RowTable;
use crate::emit::{Emit, Flag, Flags, Lazy};
use crate::registers::RegSet;
use iced_x86::{Code, Instruction, Mnemonic, Register, RflagsBits};
use syscalls::abi::{StopKind, helper, offset};

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Stc, stc),
    (Mnemonic::Clc, clc),
    (Mnemonic::Cmc, cmc),
    (Mnemonic::Std, std),
    (Mnemonic::Cld, cld),
    (Mnemonic::Lahf, lahf),
    (Mnemonic::Sahf, sahf),
    (Mnemonic::Pushfq, pushf),
    (Mnemonic::Popfq, popf),
    (Mnemonic::Cpuid, cpuid),
    (Mnemonic::Rdtsc, rdtsc),
    (Mnemonic::Rdtscp, rdtscp),
    (Mnemonic::Xgetbv, xgetbv),
    (Mnemonic::Nop, nothing),
    (Mnemonic::Reservednop, nothing),
    (Mnemonic::Endbr64, nothing),
    (Mnemonic::Endbr32, nothing),
    (Mnemonic::Rdsspd, nothing),
    (Mnemonic::Rdsspq, nothing),
    (Mnemonic::Prefetchnta, nothing),
    (Mnemonic::Prefetcht0, nothing),
    (Mnemonic::Prefetcht1, nothing),
    (Mnemonic::Prefetcht2, nothing),
    (Mnemonic::Prefetchw, nothing),
    (Mnemonic::Clflush, nothing),
    (Mnemonic::Ud0, undefined),
    (Mnemonic::Ud1, undefined),
    (Mnemonic::Ud2, undefined),
    (Mnemonic::Int3, breakpoint),
    (Mnemonic::Int1, breakpoint),
    (Mnemonic::Int, interrupt),
    (Mnemonic::Hlt, protection),
    (Mnemonic::In, protection),
    (Mnemonic::Out, protection),
    (Mnemonic::Insb, protection),
    (Mnemonic::Insd, protection),
    (Mnemonic::Insw, protection),
    (Mnemonic::Outsb, protection),
    (Mnemonic::Outsd, protection),
    (Mnemonic::Outsw, protection),
    (Mnemonic::Cli, protection),
    (Mnemonic::Sti, protection),
    (Mnemonic::Clts, protection),
    (Mnemonic::Invd, protection),
    (Mnemonic::Wbinvd, protection),
    (Mnemonic::Invlpg, protection),
    (Mnemonic::Rdmsr, protection),
    (Mnemonic::Wrmsr, protection),
    (Mnemonic::Lgdt, protection),
    (Mnemonic::Lidt, protection),
    (Mnemonic::Lldt, protection),
    (Mnemonic::Ltr, protection),
    (Mnemonic::Lmsw, protection),
    (Mnemonic::Swapgs, protection),
    (Mnemonic::Sysretq, protection),
    (Mnemonic::Sysexitq, protection),
    (Mnemonic::Iretq, protection),
    (Mnemonic::Iretd, protection),
    (Mnemonic::Iret, protection),
];

const CF: Flags = Flags(RflagsBits::CF);

fn stc(e: &mut Emit, _: &Instruction) {
    set_carry(e, |e| e.c32(1));
}
fn clc(e: &mut Emit, _: &Instruction) {
    set_carry(e, |e| e.c32(0));
}
fn cmc(e: &mut Emit, _: &Instruction) {
    set_carry(e, |e| {
        e.flag(Flag::Cf);
        e.s().i32_eqz();
    });
}

fn set_carry(e: &mut Emit, value: impl FnOnce(&mut Emit)) {
    if !e.live_flags.has(Flag::Cf) {
        return;
    }
    value(e);
    let kept = e.live_flags.without(CF);
    e.flags_to_locals(kept);
    e.set_flag(Flag::Cf);
}

fn std(e: &mut Emit, _: &Instruction) {
    e.cpu_store32(offset::DF, |e| e.c32(1));
}
fn cld(e: &mut Emit, _: &Instruction) {
    e.cpu_store32(offset::DF, |e| e.c32(0));
}

/// Flags and their bit numbers in RFLAGS.
const BITS: [(Flag, i32); 6] = [(Flag::Cf, 0), (Flag::Pf, 2), (Flag::Af, 4), (Flag::Zf, 6), (Flag::Sf, 7), (Flag::Of, 11)];

/// Pushes `fixed` with the given flags at their places.
fn pack(e: &mut Emit, flags: &[(Flag, i32)], fixed: i32) {
    e.c32(fixed);
    for (f, bit) in flags {
        e.flag(*f);
        if *bit > 0 {
            e.c32(*bit);
            e.s().i32_shl();
        }
        e.s().i32_or();
    }
}

/// The live ones of `flags` from the i32 in `word` to the flag locals.
fn unpack(e: &mut Emit, flags: &[(Flag, i32)], word: u32) {
    for (f, bit) in flags {
        if e.live_flags.has(*f) {
            e.s().local_get(word).i32_const(*bit).i32_shr_u().i32_const(1).i32_and();
            e.set_flag(*f);
        }
    }
    e.lazy = Lazy::Locals;
}

fn lahf(e: &mut Emit, _: &Instruction) {
    pack(e, &BITS[..5], 2);
    e.write(Register::AH);
}

fn sahf(e: &mut Emit, _: &Instruction) {
    let word = e.t32(0);
    e.read(Register::AH);
    e.set(word);
    e.flags_to_locals(Flags(e.live_flags.0 & RflagsBits::OF));
    unpack(e, &BITS[..5], word);
}

/// IF is always 1 in user mode.
const IF: i32 = 0x200;

fn pushf(e: &mut Emit, i: &Instruction) {
    if i.code() != Code::Pushfq {
        return e.gap(i);
    }
    pack(e, &BITS, IF | 2);
    e.cpu_load32(offset::DF);
    e.s().i32_const(10).i32_shl().i32_or().i64_extend_i32_u();
    e.push64();
}

fn popf(e: &mut Emit, i: &Instruction) {
    if i.code() != Code::Popfq {
        return e.gap(i);
    }
    let word = e.t32(0);
    e.pop64();
    e.s().i32_wrap_i64().local_set(word);
    unpack(e, &BITS, word);
    e.cpu_store32(offset::DF, |e| {
        e.s().local_get(word).i32_const(10).i32_shr_u().i32_const(1).i32_and();
    });
}

fn cpuid(e: &mut Emit, _: &Instruction) {
    let inputs = RegSet::gpr(0).or(RegSet::gpr(1));
    e.helper(helper::CPUID, inputs, inputs.or(RegSet::gpr(2)).or(RegSet::gpr(3)), |e| {
        e.c64(0);
        e.c64(0);
    });
    e.s().drop();
}

/// Splits the i64 on the stack into edx:eax.
fn write_edx_eax(e: &mut Emit) {
    let t = e.t64(0);
    e.s().local_tee(t).i32_wrap_i64();
    e.write(Register::EAX);
    e.s().local_get(t).i64_const(32).i64_shr_u().i32_wrap_i64();
    e.write(Register::EDX);
}

fn rdtsc(e: &mut Emit, _: &Instruction) {
    e.helper(helper::RDTSC, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.c64(0);
        e.c64(0);
    });
    write_edx_eax(e);
}

/// The processor number is 0.
fn rdtscp(e: &mut Emit, i: &Instruction) {
    rdtsc(e, i);
    e.c32(0);
    e.write(Register::ECX);
}

fn xgetbv(e: &mut Emit, _: &Instruction) {
    e.helper(helper::XGETBV, RegSet::EMPTY, RegSet::EMPTY, |e| {
        e.read(Register::ECX);
        e.s().i64_extend_i32_u();
        e.c64(0);
    });
    write_edx_eax(e);
}

fn nothing(_: &mut Emit, _: &Instruction) {}

fn undefined(e: &mut Emit, i: &Instruction) {
    e.stop(i, StopKind::Undefined);
}
fn breakpoint(e: &mut Emit, i: &Instruction) {
    e.stop(i, StopKind::Breakpoint);
}
/// `int 3` in two bytes traps as the one-byte form does; Linux lets user mode use no other vector but 0x80, which is not translated.
fn interrupt(e: &mut Emit, i: &Instruction) {
    if i.immediate8() == 3 { breakpoint(e, i) } else { protection(e, i) }
}
fn protection(e: &mut Emit, i: &Instruction) {
    e.stop(i, StopKind::Protection);
}
