//! Writes assembly programs that run every form of every row with random operands and print a checksum per form: `instruction_twins DIR`. Linked with
//! `integration-tests/programs/x86/driver.c`, one program per group; its output natively and lifted must be equal.
//!
//! Owns which encodings are in which program. The fact a newcomer gets wrong: the registers are loaded and saved around each instruction within one function,
//! because across calls only what the ABI passes is defined.

#[path = "../tests/support/forms.rs"]
mod forms;
#[path = "../tests/support/random.rs"]
mod random;

/// What `forms` expects beside it.
mod native {
    pub(crate) const GUEST_CODE: u64 = 0x1000;
}
use random::Random;

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, Register, RflagsBits};
use std::collections::BTreeMap;
use std::fmt::Write;

fn decode(bytes: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, bytes, native::GUEST_CODE, DecoderOptions::NONE).into_iter().collect()
}

/// Not comparable by nature, changing what the driver stands on, or privileged.
const LEFT_OUT: &[Mnemonic] = {
    use Mnemonic::*;
    &[
        Cpuid, Rdtsc, Rdtscp, Xgetbv, Rdsspd, Rdsspq, Push, Pop, Pushfq, Popfq, Enter, Leave, Xlatb, Int, Int1, Int3, Ud0, Ud1, Ud2, Hlt, In, Out, Cli, Sti, Clts, Invd, Wbinvd,
        Invlpg, Rdmsr, Wrmsr, Lgdt, Lidt, Lldt, Ltr, Lmsw, Swapgs, Sysretq, Sysexitq, Iretq, Iretd, Iret, Std, Insb, Insd, Insw, Outsb, Outsd, Outsw, Ldmxcsr, Stmxcsr, Cmpxchg16b,
        Clflush, Maskmovdqu, Emms, Rcpps, Rcpss, Rsqrtps, Rsqrtss,
    ]
};

/// Encodings per form.
const COUNT: u32 = 3;

struct Form {
    bytes: Vec<u8>,
    instruction: Instruction,
    /// rsi, rdi and rcx are operands without being named.
    string: bool,
}

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| {
        eprintln!("usage: instruction_twins DIR");
        std::process::exit(2)
    });
    let mut random = Random::new(7);
    let mut groups: BTreeMap<&str, Vec<Form>> = BTreeMap::new();
    for code in Code::values() {
        let form = code.op_code();
        if !form.mode64() || form.encoding() != EncodingKind::Legacy {
            continue;
        }
        for bytes in forms::encodings(code, COUNT, &mut random) {
            add(&mut groups, bytes);
        }
        if form.can_use_lock_prefix() {
            for bytes in forms::encodings(code, 4 * COUNT, &mut random) {
                add_locked(&mut groups, bytes);
            }
        }
    }
    strings(&mut groups);
    for (name, forms) in groups {
        let mut source = String::new();
        program(&forms, &mut source).expect("a String takes all");
        std::fs::write(std::path::Path::new(&directory).join(format!("{name}.s")), source)?;
        println!("{name} {}", forms.len());
    }
    Ok(())
}

/// The instruction to its group.
fn add(groups: &mut BTreeMap<&'static str, Vec<Form>>, bytes: Vec<u8>) {
    let instruction = decode(&bytes)[0];
    if !usable(&instruction) {
        return;
    }
    groups.entry(group(&instruction)).or_default().push(Form { bytes, instruction, string: false });
}

fn add_locked(groups: &mut BTreeMap<&'static str, Vec<Form>>, mut bytes: Vec<u8>) {
    bytes.insert(0, 0xf0);
    let instruction = decode(&bytes)[0];
    if instruction.has_lock_prefix() && usable(&instruction) {
        groups.entry("locked").or_default().push(Form { bytes, instruction, string: false });
    }
}

fn usable(i: &Instruction) -> bool {
    let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    let shifts_base = i.op_count() == 2 && i.op1_register().full_register() == i.memory_base() && memory;
    let rsp = i.op_count() > 0 && i.op0_register().full_register() == Register::RSP || i.memory_base() == Register::RSP;
    let selector = (0..i.op_count()).any(|k| i.op_register(k).is_segment_register());
    let x87 = (0..i.op_count()).any(|k| i.op_register(k).is_st() || i.op_register(k).is_mm());
    let extended = i.mnemonic().to_string_lower().starts_with(['f']) || i.mnemonic().to_string_lower().starts_with("xsave");
    !LEFT_OUT.contains(&i.mnemonic())
        && lift::x86::semantics(i).is_some()
        && !i.is_string_instruction()
        && !(shifts_base || rsp || selector || x87 || extended)
        && !i.mnemonic().to_string_lower().starts_with("xrstor")
}

/// Names of mnemonics, for prefixes.
trait Lower {
    fn to_string_lower(&self) -> String;
}
impl Lower for Mnemonic {
    fn to_string_lower(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

fn vector(i: &Instruction) -> bool {
    (0..i.op_count()).any(|k| i.op_register(k).is_xmm())
}

fn group(i: &Instruction) -> &'static str {
    use Mnemonic::*;
    match i.mnemonic() {
        _ if vector(i) => {
            let float = i.mnemonic().to_string_lower();
            if float.ends_with("ps") || float.ends_with("pd") || float.ends_with("ss") || float.ends_with("sd") || float.starts_with("cvt") { "sse_float" } else { "sse_integer" }
        }
        Add | Adc | Sub | Sbb | Cmp | Inc | Dec | Neg => "arithmetic",
        Mul | Imul => "multiply",
        Div | Idiv => "divide",
        And | Or | Xor | Not | Test => "logical",
        Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd => "shift",
        Bt | Bts | Btr | Btc | Bsf | Bsr | Tzcnt | Lzcnt | Popcnt | Crc32 => "bit",
        Xadd | Cmpxchg | Cmpxchg8b | Xchg => "exchange",
        _ => "transfer",
    }
}

fn strings(groups: &mut BTreeMap<&'static str, Vec<Form>>) {
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
                groups.entry("string").or_default().push(Form { bytes, instruction, string: true });
            }
        }
    }
}

const GENERAL: [&str; 16] = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// Code of all forms, then the table the driver walks (its `struct form`).
fn program(forms: &[Form], s: &mut String) -> std::fmt::Result {
    writeln!(s, ".intel_syntax noprefix\n.text")?;
    for (k, form) in forms.iter().enumerate() {
        body(k, form, s)?;
    }
    writeln!(s, ".section .rodata")?;
    let mut formatter = NasmFormatter::new();
    for (k, form) in forms.iter().enumerate() {
        let mut text = String::new();
        formatter.format(&form.instruction, &mut text);
        writeln!(s, "name{k}: .asciz \"{text} [{}]\"", form.bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())?;
    }
    writeln!(s, ".section .data.rel.ro, \"aw\"\n.balign 8\n.globl forms, form_count\nforms:")?;
    for (k, form) in forms.iter().enumerate() {
        table_row(k, form, s)?;
    }
    writeln!(s, "form_count: .quad {}\n.section .note.GNU-stack,\"\",@progbits", forms.len())
}

fn body(k: usize, form: &Form, s: &mut String) -> std::fmt::Result {
    let xmm = vector(&form.instruction);
    writeln!(s, ".type form{k}, @function\nform{k}:\n .cfi_startproc\n push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15")?;
    if xmm {
        (0..16).try_for_each(|n| writeln!(s, " movups xmm{n}, [rip + state + {}]", 136 + 16 * n))?;
    }
    writeln!(s, " push qword ptr [rip + state + 128]\n popfq")?;
    let general = || GENERAL.iter().enumerate().filter(|(_, r)| **r != "rsp");
    general().try_for_each(|(n, r)| writeln!(s, " mov {r}, [rip + state + {}]", 8 * n))?;
    writeln!(s, " .byte {}", form.bytes.iter().map(|b| format!("{b:#x}")).collect::<Vec<_>>().join(","))?;
    general().try_for_each(|(n, r)| writeln!(s, " mov [rip + state + {}], {r}", 8 * n))?;
    writeln!(s, " pushfq\n pop qword ptr [rip + state + 128]\n cld")?;
    if xmm {
        (0..16).try_for_each(|n| writeln!(s, " movups [rip + state + {}], xmm{n}", 136 + 16 * n))?;
    }
    writeln!(s, " pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n ret\n .cfi_endproc\n.size form{k}, .-form{k}")
}

/// name, code, flag mask, displacement; base, index, bit offset registers (-1: none), operand bytes, string.
fn table_row(k: usize, form: &Form, s: &mut String) -> std::fmt::Result {
    let i = &form.instruction;
    let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    let number = |r: Register| if memory && r != Register::None { r.full_register().number() as i32 } else { -1 };
    let bits = matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc) && i.op1_kind() == OpKind::Register;
    let offset = if bits { number(i.op1_register()) } else { -1 };
    let displacement = if memory { i.memory_displacement64() } else { 0 };
    writeln!(
        s,
        " .quad name{k}, form{k}, {:#x}, {displacement:#x}\n .long {}, {}, {offset}, {}, {}, 0",
        mask(i),
        number(i.memory_base()),
        number(i.memory_index()),
        i.memory_size().size(),
        u8::from(form.string)
    )
}

/// Defined flags, at their places in RFLAGS.
fn mask(i: &Instruction) -> u32 {
    let all = [(RflagsBits::CF, 0), (RflagsBits::PF, 2), (RflagsBits::AF, 4), (RflagsBits::ZF, 6), (RflagsBits::SF, 7), (RflagsBits::DF, 10), (RflagsBits::OF, 11)];
    all.iter().filter(|(b, _)| i.rflags_undefined() & b == 0).fold(0, |m, (_, n)| m | 1 << n)
}
