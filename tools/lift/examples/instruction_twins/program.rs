//! One assembly program: a function per form, and the table the driver walks.
//!
//! Owns the frame around an instruction. The fact a newcomer gets wrong: the registers are loaded and saved around each instruction within one function, because across
//! calls only what the ABI passes is defined.

use crate::select::{Form, Kind, has_memory, vector};
use iced_x86::{Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, Register, RflagsBits};
use std::fmt::{Result, Write};

const GENERAL: [&str; 16] = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
// Places in the driver's `state`.
const RSP: usize = 32;
const FLAGS: usize = 128;
const XMM: usize = 136;
const OWN_RSP: usize = 392;
const FX: usize = 400;
const MXCSR: usize = FX + 24;
const DEFAULT_MXCSR: usize = FX + 28;

/// Code of all forms, then the table (the driver's `struct form`).
pub(crate) fn program(forms: &[Form], s: &mut String) -> Result {
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

fn body(k: usize, form: &Form, s: &mut String) -> Result {
    let xmm = vector(&form.instruction);
    let stack = matches!(form.kind, Kind::Stack | Kind::FlagsOnStack);
    writeln!(s, ".type form{k}, @function\nform{k}:\n .cfi_startproc\n push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15")?;
    if form.kind == Kind::X87 {
        writeln!(s, " fxrstor [rip + state + {FX}]")?;
    }
    if xmm {
        (0..16).try_for_each(|n| writeln!(s, " movups xmm{n}, [rip + state + {}]", XMM + 16 * n))?;
    }
    if form.kind == Kind::Mxcsr {
        writeln!(s, " ldmxcsr [rip + state + {MXCSR}]")?;
    }
    writeln!(s, " push qword ptr [rip + state + {FLAGS}]\n popfq")?;
    let general = || GENERAL.iter().enumerate().filter(|(_, r)| **r != "rsp");
    general().try_for_each(|(n, r)| writeln!(s, " mov {r}, [rip + state + {}]", 8 * n))?;
    if stack {
        writeln!(s, " mov [rip + state + {OWN_RSP}], rsp\n mov rsp, [rip + state + {RSP}]")?;
    }
    writeln!(s, " .byte {}", form.bytes.iter().map(|b| format!("{b:#x}")).collect::<Vec<_>>().join(","))?;
    if stack {
        writeln!(s, " mov [rip + state + {RSP}], rsp\n mov rsp, [rip + state + {OWN_RSP}]")?;
    }
    general().try_for_each(|(n, r)| writeln!(s, " mov [rip + state + {}], {r}", 8 * n))?;
    writeln!(s, " pushfq\n pop qword ptr [rip + state + {FLAGS}]\n cld")?;
    if xmm {
        (0..16).try_for_each(|n| writeln!(s, " movups [rip + state + {}], xmm{n}", XMM + 16 * n))?;
    }
    if form.kind == Kind::Mxcsr {
        writeln!(s, " stmxcsr [rip + state + {MXCSR}]\n ldmxcsr [rip + state + {DEFAULT_MXCSR}]")?;
    }
    if form.kind == Kind::X87 {
        writeln!(s, " fxsave [rip + state + {FX}]\n fninit")?;
    }
    writeln!(s, " pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n ret\n .cfi_endproc\n.size form{k}, .-form{k}")
}

/// name, code, flag mask, displacement; base, index, bit offset registers (-1: none), operand bytes, kind.
fn table_row(k: usize, form: &Form, s: &mut String) -> Result {
    let i = &form.instruction;
    let memory = has_memory(i);
    let number = |r: Register| if memory && r != Register::None { r.full_register().number() as i32 } else { -1 };
    let bits = matches!(i.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc) && i.op1_kind() == OpKind::Register;
    let offset = if bits { number(i.op1_register()) } else { -1 };
    let displacement = if memory { i.memory_displacement64() } else { 0 };
    // Operands that are not named.
    let base = match i.mnemonic() {
        Mnemonic::Xlatb => Register::RBX,
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu => Register::RDI,
        Mnemonic::Leave => Register::RBP,
        _ => i.memory_base(),
    };
    let base = if i.mnemonic() == Mnemonic::Leave { 5 } else { number(base) };
    let index = if i.mnemonic() == Mnemonic::Xlatb { -1 } else { number(i.memory_index()) };
    writeln!(s, " .quad name{k}, form{k}, {:#x}, {displacement:#x}\n .long {base}, {index}, {offset}, {}, {}, 0", mask(i), i.memory_size().size(), form.kind as u8)
}

/// Defined flags, at their places in RFLAGS.
fn mask(i: &Instruction) -> u32 {
    let all = [(RflagsBits::CF, 0), (RflagsBits::PF, 2), (RflagsBits::AF, 4), (RflagsBits::ZF, 6), (RflagsBits::SF, 7), (RflagsBits::DF, 10), (RflagsBits::OF, 11)];
    all.iter().filter(|(b, _)| i.rflags_undefined() & b == 0).fold(0, |m, (_, n)| m | 1 << n)
}
