//! String instructions (SDM vol. 1, 5.1.8): movs stos lods cmps scas with rep, repe, repne.
//!
//! The fact a newcomer gets wrong: rep movsb with an overlapping destination above the source repeats bytes, memory.copy does not. So whole pieces are copied only within a page, forwards, and when
//! the ranges do not overlap that way; everything else runs element by element. A fault leaves rcx, rsi and rdi as the processor does: behind the elements that are done.

use super::RowTable;
use crate::emit::{Alu, Emit, Form, Lazy, Width};
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use syscalls::abi::{import, offset};

pub(super) const ROWS: RowTable = &[
    (Mnemonic::Movsb, movs),
    (Mnemonic::Movsw, movs),
    (Mnemonic::Movsd, movs),
    (Mnemonic::Movsq, movs),
    (Mnemonic::Stosb, stos),
    (Mnemonic::Stosw, stos),
    (Mnemonic::Stosd, stos),
    (Mnemonic::Stosq, stos),
    (Mnemonic::Lodsb, lods),
    (Mnemonic::Lodsw, lods),
    (Mnemonic::Lodsd, lods),
    (Mnemonic::Lodsq, lods),
    (Mnemonic::Cmpsb, cmps),
    (Mnemonic::Cmpsw, cmps),
    (Mnemonic::Cmpsd, cmps),
    (Mnemonic::Cmpsq, cmps),
    (Mnemonic::Scasb, scas),
    (Mnemonic::Scasw, scas),
    (Mnemonic::Scasd, scas),
    (Mnemonic::Scasq, scas),
];

const RSI: Register = Register::RSI;
const RDI: Register = Register::RDI;
const RCX: Register = Register::RCX;

/// Runs a row whose addresses and count are the 64-bit registers. (`movsd` and `cmpsd` are also SSE mnemonics: those never come here, see `mod.rs`.)
/// With an address-size prefix they are the 32-bit ones, which wrap there and leave zeros above them. (With a count of 0 processors clear what is above rsi and rdi for movs, but not for cmps.)
fn with_registers(e: &mut Emit, i: &Instruction, row: impl FnOnce(&mut Emit)) {
    if matches!(i.segment_prefix(), Register::FS | Register::GS) {
        return e.gap(i);
    }
    let kinds = [i.op0_kind(), i.op1_kind()];
    let narrow = [(OpKind::MemorySegESI, Register::ESI), (OpKind::MemoryESEDI, Register::EDI)];
    let mut registers: Vec<Register> = narrow.iter().filter(|(kind, _)| kinds.contains(kind)).map(|(_, register)| *register).collect();
    if !registers.is_empty() && repeated(i) {
        registers.push(Register::ECX);
    }
    let truncate = |e: &mut Emit| {
        for r in &registers {
            e.read(*r);
            e.write(*r);
        }
    };
    truncate(e);
    row(e);
    truncate(e);
}

fn width(i: &Instruction) -> Width {
    Width::from_bytes(i.memory_size().size())
}

/// Bytes per step (negative when DF is set) into a local.
fn step(e: &mut Emit, w: Width) -> u32 {
    let l = e.t64(0);
    e.c64(i64::from(w.bytes()));
    e.cpu_load32(offset::DF);
    e.s().i64_extend_i32_u().i64_const(i64::from(w.bytes().trailing_zeros()) + 1).i64_shl().i64_sub();
    e.set(l);
    l
}

/// register += step.
fn advance(e: &mut Emit, r: Register, step: u32) {
    e.read(r);
    e.get(step);
    e.s().i64_add();
    e.write(r);
}

/// Pushes the i32 address in a register.
fn pointer(e: &mut Emit, r: Register) {
    e.read(r);
    e.s().i32_wrap_i64();
}

/// Runs `body` while rcx is not 0, counting down; `pointers` are what it moves; `more` pushes an i32: go on after this element?
fn repeat(e: &mut Emit, pointers: RegSet, body: impl FnOnce(&mut Emit), more: impl FnOnce(&mut Emit)) {
    while_count(
        e,
        pointers,
        |e| {
            body(e);
            count_down(e, |e| e.c64(1));
        },
        more,
    );
}

/// Runs `body`, which counts rcx down, while rcx is not 0.
fn while_count(e: &mut Emit, pointers: RegSet, body: impl FnOnce(&mut Emit), more: impl FnOnce(&mut Emit)) {
    e.read(RCX);
    e.s().i64_const(0).i64_ne();
    e.if_then(|e| {
        e.do_while(|e| {
            body(e);
            // A handler that repairs a fault goes on at this instruction, which begins a block of the resumable form (`emit/restart.rs`), with these registers.
            if e.form == Form::Resumable {
                e.flush(pointers.or(RegSet::gpr(1)));
            }
            e.read(RCX);
            e.s().i64_const(0).i64_ne();
            more(e);
        });
    });
}

/// rcx -= what `count` pushes.
fn count_down(e: &mut Emit, count: impl FnOnce(&mut Emit)) {
    e.read(RCX);
    count(e);
    e.s().i64_sub();
    e.write(RCX);
}

fn repeated(i: &Instruction) -> bool {
    i.has_rep_prefix() || i.has_repne_prefix()
}

fn movs(e: &mut Emit, i: &Instruction) {
    with_registers(e, i, |e| movs_flat(e, i));
}

fn movs_flat(e: &mut Emit, i: &Instruction) {
    let w = width(i);
    let step = step(e, w);
    let first = |e: &mut Emit| {
        pointer(e, RDI);
        pointer(e, RSI);
        e.load(w, 0);
        e.store(w, 0);
    };
    let element = |e: &mut Emit| {
        first(e);
        advance(e, RSI, step);
        advance(e, RDI, step);
    };
    if !repeated(i) {
        return element(e);
    }
    while_count(
        e,
        RegSet::gpr(6).or(RegSet::gpr(7)),
        |e| {
            let bytes = piece(e, w, &[RSI, RDI]);
            // Not (src < dst < src + bytes).
            pointer(e, RDI);
            pointer(e, RSI);
            e.s().i32_sub().i64_extend_i32_u().local_get(bytes).i64_ge_u();
            bulk(e, w, bytes, element, |e| {
                // A fault is this one's, in lifted code, and not one of the runtime's memmove. Its source may lie in its destination: it is not done twice.
                element(e);
                let rest = e.t64(3);
                e.s().local_get(bytes).i64_const(i64::from(w.bytes())).i64_sub().local_set(rest);
                pointer(e, RDI);
                pointer(e, RSI);
                e.s().local_get(rest).i32_wrap_i64().memory_copy(import::MEM_INDEX, import::MEM_INDEX);
                advance(e, RSI, rest);
                advance(e, RDI, rest);
            });
        },
        |_| {},
    );
}

fn stos(e: &mut Emit, i: &Instruction) {
    with_registers(e, i, |e| stos_flat(e, i));
}

fn stos_flat(e: &mut Emit, i: &Instruction) {
    let w = width(i);
    let step = step(e, w);
    let first = |e: &mut Emit| {
        pointer(e, RDI);
        e.read(accumulator(w));
        e.store(w, 0);
    };
    let element = |e: &mut Emit| {
        first(e);
        advance(e, RDI, step);
    };
    if !repeated(i) {
        return element(e);
    }
    let uniform = e.t32(0);
    all_bytes_equal(e, w);
    e.set(uniform);
    while_count(
        e,
        RegSet::gpr(7),
        |e| {
            let bytes = piece(e, w, &[RDI]);
            e.get(uniform);
            bulk(e, w, bytes, element, |e| {
                first(e);
                pointer(e, RDI);
                e.read(Register::EAX);
                e.s().local_get(bytes).i32_wrap_i64().memory_fill(import::MEM_INDEX);
                advance(e, RDI, bytes);
            });
        },
        |_| {},
    );
}

/// Pushes i32: are all bytes of the accumulator equal, as memory.fill needs them?
fn all_bytes_equal(e: &mut Emit, w: Width) {
    if w == Width::W8 {
        return e.c32(1);
    }
    let value = e.wide_temp(w, 2);
    e.read(accumulator(w));
    e.tee(value);
    e.get(value);
    e.constant(Width::W32.max(w), 0xff);
    e.alu(w, Alu::And);
    e.constant(w, 0x0101_0101_0101_0101);
    e.alu(w, Alu::Mul);
    e.zero_extend(w);
    e.alu(w, Alu::Eq);
}

const PAGE: i64 = 4096;

/// Bytes of the elements still to do that lie in the pages where all `pointers` are, in a local; 0 when DF is set. Within a page the first access says whether the others fault.
fn piece(e: &mut Emit, w: Width, pointers: &[Register]) -> u32 {
    let (bytes, room) = (e.t64(1), e.t64(2));
    let shift = i64::from(w.bytes().trailing_zeros());
    // A count times the width may be beyond 64 bits.
    e.read(RCX);
    e.set(room);
    e.c64(PAGE);
    e.set(bytes);
    smaller(e, room, bytes);
    e.s().i64_const(shift).i64_shl().local_set(bytes);
    for r in pointers {
        e.c64(PAGE);
        e.read(*r);
        e.s().i64_const(PAGE - 1).i64_and().i64_sub().local_set(room);
        smaller(e, room, bytes);
        e.set(bytes);
    }
    e.s().local_get(bytes).i64_const(-i64::from(w.bytes())).i64_and().i64_const(0);
    e.cpu_load32(offset::DF);
    e.s().i32_eqz().select().local_set(bytes);
    bytes
}

/// Pushes the smaller of two locals.
fn smaller(e: &mut Emit, a: u32, b: u32) {
    e.s().local_get(a).local_get(b).local_get(a).local_get(b).i64_lt_u().select();
}

/// Pops "as a whole if there is more than one element": `whole` does `bytes`, else `element` one; rcx counts them down.
fn bulk(e: &mut Emit, w: Width, bytes: u32, element: impl FnOnce(&mut Emit), whole: impl FnOnce(&mut Emit)) {
    e.s().local_get(bytes).i64_const(i64::from(w.bytes())).i64_gt_u().i32_and();
    e.if_else(
        |e| {
            whole(e);
            count_down(e, |e| {
                e.s().local_get(bytes).i64_const(i64::from(w.bytes().trailing_zeros())).i64_shr_u();
            });
        },
        |e| {
            element(e);
            count_down(e, |e| e.c64(1));
        },
    );
}

fn accumulator(w: Width) -> Register {
    match w {
        Width::W8 => Register::AL,
        Width::W16 => Register::AX,
        Width::W32 => Register::EAX,
        Width::W64 => Register::RAX,
    }
}

fn lods(e: &mut Emit, i: &Instruction) {
    with_registers(e, i, |e| {
        let w = width(i);
        let step = step(e, w);
        let element = |e: &mut Emit| {
            pointer(e, RSI);
            e.load(w, 0);
            e.write(accumulator(w));
            advance(e, RSI, step);
        };
        if repeated(i) {
            // What was loaded last is seen by nobody unless a fault shows it.
            repeat(e, RegSet::gpr(6).or(RegSet::RAX), element, |_| {});
        } else {
            element(e);
        }
    });
}

fn cmps(e: &mut Emit, i: &Instruction) {
    compare(e, i, |e, w| {
        pointer(e, RSI);
        e.load(w, 0);
        pointer(e, RDI);
        e.load(w, 0);
    });
}

fn scas(e: &mut Emit, i: &Instruction) {
    compare(e, i, |e, w| {
        e.read(accumulator(w));
        pointer(e, RDI);
        e.load(w, 0);
    });
}

/// `operands` pushes a and b; flags are those of a - b of the last element. No element at all leaves the flags.
fn compare(e: &mut Emit, i: &Instruction, operands: impl FnOnce(&mut Emit, Width)) {
    with_registers(e, i, |e| compare_flat(e, i, operands));
}

fn compare_flat(e: &mut Emit, i: &Instruction, operands: impl FnOnce(&mut Emit, Width)) {
    let w = width(i);
    let live = e.live_flags;
    if repeated(i) {
        e.flags_to_locals(live);
    }
    let step = step(e, w);
    let (a, b) = (e.flag_a(w), e.flag_b(w));
    let both = matches!(i.mnemonic(), Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq);
    let body = |e: &mut Emit| {
        operands(e, w);
        e.set(b);
        e.set(a);
        if both {
            advance(e, RSI, step);
        }
        advance(e, RDI, step);
    };
    if !repeated(i) {
        body(e);
        e.lazy = Lazy::Sub(w);
        return;
    }
    let while_equal = i.has_repe_prefix();
    e.read(RCX);
    e.s().i64_const(0).i64_ne();
    e.if_then(|e| {
        let pointers = if both { RegSet::gpr(6).or(RegSet::gpr(7)) } else { RegSet::gpr(7) };
        repeat(e, pointers, body, |e| {
            e.get(a);
            e.get(b);
            e.alu(w, if while_equal { Alu::Eq } else { Alu::Ne });
            e.s().i32_and();
        });
        e.lazy = Lazy::Sub(w);
        e.flags_to_locals(live);
    });
    e.lazy = Lazy::Locals;
}
