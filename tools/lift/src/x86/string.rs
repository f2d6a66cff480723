//! String instructions (SDM vol. 1, 5.1.8): movs stos lods cmps scas with rep, repe, repne.
//!
//! The fact a newcomer gets wrong: rep movsb with an overlapping destination above the source repeats bytes, memory.copy does not. So the fast path is taken
//! only when the ranges do not overlap that way and both end below 4 GiB; everything else runs element by element, exact at every fault.

use super::RowTable;
use crate::emit::{Alu, Emit, Lazy, Width};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use syscalls::abi::{import, offset};
use wasm_encoder::MemArg;

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

/// Runs `body` while rcx is not 0, counting down; `more` pushes an i32: go on after this element?
fn repeat(e: &mut Emit, body: impl FnOnce(&mut Emit), more: impl FnOnce(&mut Emit)) {
    e.read(RCX);
    e.s().i64_const(0).i64_ne();
    e.if_then(|e| {
        e.do_while(|e| {
            body(e);
            e.read(RCX);
            e.s().i64_const(-1).i64_add();
            e.write(RCX);
            e.read(RCX);
            e.s().i64_const(0).i64_ne();
            more(e);
        });
    });
}

fn repeated(i: &Instruction) -> bool {
    i.has_rep_prefix() || i.has_repne_prefix()
}

fn once_or_repeat(e: &mut Emit, i: &Instruction, body: impl FnOnce(&mut Emit)) {
    if repeated(i) { repeat(e, body, |_| {}) } else { body(e) }
}

fn movs(e: &mut Emit, i: &Instruction) {
    with_registers(e, i, |e| movs_flat(e, i));
}

fn movs_flat(e: &mut Emit, i: &Instruction) {
    let w = width(i);
    let element = |e: &mut Emit, step: u32| {
        pointer(e, RDI);
        pointer(e, RSI);
        e.load(w, 0);
        e.store(w, 0);
        advance(e, RSI, step);
        advance(e, RDI, step);
    };
    if !repeated(i) {
        let step = step(e, w);
        return element(e, step);
    }
    // Ranges in bounds, forwards, and not (src < dst < src + bytes).
    let bytes = bulk_bytes(e, w);
    in_bounds(e, RDI, bytes);
    in_bounds(e, RSI, bytes);
    e.s().i32_and();
    pointer(e, RDI);
    pointer(e, RSI);
    e.s().i32_sub().i64_extend_i32_u().local_get(bytes).i64_ge_u().i32_and();
    bulk(
        e,
        |e| {
            probe(e, RSI, bytes);
            probe(e, RDI, bytes);
            pointer(e, RDI);
            pointer(e, RSI);
            e.s().local_get(bytes).i32_wrap_i64().memory_copy(import::MEM_INDEX, import::MEM_INDEX);
            advance(e, RSI, bytes);
            advance(e, RDI, bytes);
        },
        |e| {
            let step = step(e, w);
            repeat(e, |e| element(e, step), |_| {});
        },
    );
}

fn stos(e: &mut Emit, i: &Instruction) {
    with_registers(e, i, |e| stos_flat(e, i));
}

fn stos_flat(e: &mut Emit, i: &Instruction) {
    let w = width(i);
    let element = |e: &mut Emit, step: u32| {
        pointer(e, RDI);
        e.read(accumulator(w));
        e.store(w, 0);
        advance(e, RDI, step);
    };
    if !repeated(i) {
        let step = step(e, w);
        return element(e, step);
    }
    // memory.fill needs all bytes of the value equal.
    let bytes = bulk_bytes(e, w);
    in_bounds(e, RDI, bytes);
    if w > Width::W8 {
        let value = e.wide_temp(w, 2);
        e.read(accumulator(w));
        e.set(value);
        e.s().local_get(value);
        e.get(value);
        e.constant(Width::W32.max(w), 0xff);
        e.alu(w, Alu::And);
        e.constant(w, 0x0101_0101_0101_0101);
        e.alu(w, Alu::Mul);
        e.zero_extend(w);
        e.alu(w, Alu::Eq);
        e.s().i32_and();
    }
    bulk(
        e,
        |e| {
            probe(e, RDI, bytes);
            pointer(e, RDI);
            e.read(Register::EAX);
            e.s().local_get(bytes).i32_wrap_i64().memory_fill(import::MEM_INDEX);
            advance(e, RDI, bytes);
        },
        |e| {
            let step = step(e, w);
            repeat(e, |e| element(e, step), |_| {});
        },
    );
}

/// rcx * width in a local, or 2^33 (never in bounds) if the count is beyond any memory. DF set counts as that too.
fn bulk_bytes(e: &mut Emit, w: Width) -> u32 {
    let bytes = e.t64(1);
    e.read(RCX);
    e.s().i64_const(i64::from(w.bytes().trailing_zeros())).i64_shl().i64_const(1 << 33);
    e.read(RCX);
    e.s().i64_const(1 << 32).i64_lt_u();
    e.cpu_load32(offset::DF);
    e.s().i32_eqz().i32_and().select().local_set(bytes);
    bytes
}

/// Pushes i32: is [register, register + bytes) not empty, and does it end at or below 4 GiB?
fn in_bounds(e: &mut Emit, r: Register, bytes: u32) {
    pointer(e, r);
    e.s().i64_extend_i32_u().local_get(bytes).i64_add().i64_const(1 << 32).i64_le_u();
    e.s().local_get(bytes).i64_const(0).i64_ne().i32_and();
}

/// Touches both ends of a range, so that a bad pointer faults in lifted code and not in the runtime's memmove. Atomic: a dead plain load would be removed.
fn probe(e: &mut Emit, r: Register, bytes: u32) {
    let m = MemArg { offset: 0, align: 0, memory_index: import::MEM_INDEX };
    pointer(e, r);
    e.s().i32_atomic_load8_u(m).drop();
    pointer(e, r);
    e.s().local_get(bytes).i32_wrap_i64().i32_add().i32_const(1).i32_sub().i32_atomic_load8_u(m).drop();
}

/// Pops "fast path possible". The fast path takes all of rcx.
fn bulk(e: &mut Emit, fast: impl FnOnce(&mut Emit), slow: impl FnOnce(&mut Emit)) {
    e.if_else(
        |e| {
            fast(e);
            e.c64(0);
            e.write(RCX);
        },
        slow,
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
        once_or_repeat(e, i, |e| {
            pointer(e, RSI);
            e.load(w, 0);
            e.write(accumulator(w));
            advance(e, RSI, step);
        });
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
        repeat(e, body, |e| {
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
