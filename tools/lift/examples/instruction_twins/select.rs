//! Which encodings become instruction twins, and in which program.
//!
//! Owns the choice; `program.rs` writes it down, and `tests/twins.rs` holds it against the rows of `src/x86`. The fact a newcomer gets wrong: a mnemonic is left out
//! only by name, in `LEFT_OUT`, with its reason in that test.

#[path = "../../tests/support/forms.rs"]
mod forms;
#[path = "kind.rs"]
mod kind;
#[path = "../../tests/support/random.rs"]
mod random;

pub(crate) use kind::Kind;

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind, Register};
use lift::emit::{Emit, Flags, Form as EmitForm, step};
use lift::registers::Effects;
use random::Random;
use std::collections::BTreeMap;

/// What `forms` expects beside it.
mod native {
    pub(crate) const GUEST_CODE: u64 = 0x1000;
}

fn decode(bytes: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, native::GUEST_CODE, DecoderOptions::NONE).into_iter().collect()
}

/// Not comparable, or standing for too much: each with its reason in `tests/twins.rs`.
const LEFT_OUT: &[Mnemonic] = {
    use Mnemonic::*;
    &[
        Cpuid, Rdtsc, Rdtscp, Xgetbv, Rdsspd, Rdsspq, Int, Iret, Iretd, Iretq, Fxsave, Fxsave64, Fxrstor, Fxrstor64, Dpps, Dppd, Xsave, Xsave64, Xsaveopt, Xsaveopt64, Xsavec,
        Xsavec64, Xrstor, Xrstor64,
    ]
};

/// They only stop the guest: the signal is the result.
const STOPS: &[Mnemonic] = {
    use Mnemonic::*;
    &[
        Ud0, Ud1, Ud2, Int1, Int3, Hlt, In, Out, Insb, Insd, Insw, Outsb, Outsd, Outsw, Cli, Sti, Clts, Invd, Wbinvd, Invlpg, Rdmsr, Wrmsr, Lgdt, Lidt, Lldt, Ltr, Lmsw, Swapgs,
        Sysretq, Sysexitq,
    ]
};

/// Encodings per form.
const COUNT: u32 = 3;

#[cfg_attr(test, expect(dead_code, reason = "the test reads the names only"))]
pub(crate) struct Form {
    pub(crate) bytes: Vec<u8>,
    pub(crate) instruction: Instruction,
    pub(crate) kind: Kind,
}

pub(crate) type Groups = BTreeMap<&'static str, Vec<Form>>;

/// All forms by program. The same in every run.
pub(crate) fn groups() -> Groups {
    let mut random = Random::new(7);
    let mut groups = Groups::new();
    for code in Code::values() {
        let form = code.op_code();
        if !form.mode64() || form.encoding() != EncodingKind::Legacy {
            continue;
        }
        for bytes in forms::encodings(code, COUNT, &mut random) {
            add(&mut groups, bytes, false);
        }
        if form.can_use_lock_prefix() {
            for mut bytes in forms::encodings(code, 4 * COUNT, &mut random) {
                bytes.insert(0, 0xf0);
                add(&mut groups, bytes, true);
            }
        }
    }
    strings(&mut groups);
    groups
}

fn add(groups: &mut Groups, bytes: Vec<u8>, locked: bool) {
    let instruction = decode(&bytes)[0];
    if instruction.has_lock_prefix() == locked && usable(&instruction) {
        let group = if locked { "locked" } else { group(&instruction) };
        groups.entry(group).or_default().push(Form { bytes, instruction, kind: kind(&instruction) });
    }
}

fn usable(i: &Instruction) -> bool {
    let memory = has_memory(i);
    // One kind a form.
    let mxcsr_by_rsp = matches!(i.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr) && i.memory_base() == Register::RSP;
    let shifts_base = i.op_count() == 2 && i.op1_register().full_register() == i.memory_base() && memory;
    let selector = (0..i.op_count()).any(|k| i.op_register(k).is_segment_register());
    // A probe of the new frame may fall off the data.
    let deep = i.mnemonic() == Mnemonic::Enter && i.immediate16() > 0x800;
    let string = i.is_string_instruction() && !STOPS.contains(&i.mnemonic());
    let unfit = forms::is_makers_choice(i) || shifts_base || selector || deep || mxcsr_by_rsp || string || LEFT_OUT.contains(&i.mnemonic());
    !unfit && has_meaning(i)
}

/// Has a row, and the row is not a gap for this form: refused is a result of its own, not a difference.
fn has_meaning(i: &Instruction) -> bool {
    if lift::x86::semantics(i).is_none() {
        return false;
    }
    let mut e = Emit::new(EmitForm::Resumable);
    step(&mut e, i, Flags::NONE, &mut Effects::default());
    e.finish().2.is_empty()
}

pub(crate) fn has_memory(i: &Instruction) -> bool {
    (0..i.op_count()).any(|k| matches!(i.op_kind(k), OpKind::Memory | OpKind::MemorySegRDI))
}

fn kind(i: &Instruction) -> Kind {
    use Mnemonic::*;
    match i.mnemonic() {
        m if STOPS.contains(&m) => Kind::Stop,
        Popfq => Kind::FlagsOnStack,
        Ldmxcsr | Stmxcsr => Kind::Mxcsr,
        Push | Pop | Pushfq | Enter | Leave => Kind::Stack,
        _ if i.memory_base() == Register::RSP => Kind::Stack,
        _ if x87(i) || mmx(i) => Kind::X87,
        _ => Kind::Plain,
    }
}

fn x87(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Wait || format!("{:?}", i.mnemonic()).starts_with('F')
}

fn mmx(i: &Instruction) -> bool {
    i.mnemonic() == Mnemonic::Emms || (0..i.op_count()).any(|k| i.op_register(k).is_mm())
}

pub(crate) fn vector(i: &Instruction) -> bool {
    (0..i.op_count()).any(|k| i.op_register(k).is_xmm())
}

fn group(i: &Instruction) -> &'static str {
    use Mnemonic::*;
    match i.mnemonic() {
        m if STOPS.contains(&m) => "stop",
        _ if x87(i) => "x87",
        _ if mmx(i) => "mmx",
        m if vector(i) => {
            let name = format!("{m:?}").to_lowercase();
            let float = name.starts_with("cvt") || ["ps", "pd", "ss", "sd"].iter().any(|e| name.ends_with(e));
            if float { "sse_float" } else { "sse_integer" }
        }
        Push | Pop | Pushfq | Popfq | Enter | Leave => "stack",
        Add | Adc | Sub | Sbb | Cmp | Inc | Dec | Neg => "arithmetic",
        Mul | Imul => "multiply",
        Div | Idiv => "divide",
        And | Or | Xor | Not | Test => "logical",
        Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd => "shift",
        Bt | Bts | Btr | Btc | Bsf | Bsr | Tzcnt | Lzcnt | Popcnt | Crc32 => "bit",
        Xadd | Cmpxchg | Cmpxchg8b | Cmpxchg16b | Xchg => "exchange",
        _ => "transfer",
    }
}

fn strings(groups: &mut Groups) {
    for opcode in [0xa4_u8, 0xaa, 0xac, 0xa6, 0xae] {
        for size in [&[][..], &[0x66], &[], &[0x48]].into_iter().enumerate() {
            for prefix in [&[][..], &[0xf3], &[0xf2]] {
                if prefix == [0xf2] && opcode != 0xa6 && opcode != 0xae {
                    continue;
                }
                let mut bytes = if size.1 == [0x66] { vec![0x66] } else { vec![] };
                bytes.extend(prefix);
                bytes.extend(size.1.iter().filter(|b| **b == 0x48));
                bytes.push(opcode + u8::from(size.0 > 0));
                let instruction = decode(&bytes)[0];
                groups.entry("string").or_default().push(Form { bytes, instruction, kind: Kind::String });
            }
        }
    }
}
