//! One assembly program: a function per piece of code, and the table the driver walks.
//!
//! Owns the frame around the code. The fact a newcomer gets wrong: the registers are loaded and saved around it within one function, because across
//! calls only what the ABI passes is defined.

use crate::Kind;
use iced_x86::RflagsBits;
use std::fmt::{Result, Write};

/// A piece of code and what the driver must know of it.
pub(crate) struct Entry {
    /// Without quotes and backslashes.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: Kind,
    /// Works on xmm registers.
    pub(crate) xmm: bool,
    /// The bits of RFLAGS that are compared.
    pub(crate) flags: u32,
    pub(crate) operand: Operand,
}

/// Registers that address the operand in memory, -1 for none.
pub(crate) struct Operand {
    pub(crate) base: i32,
    pub(crate) index: i32,
    pub(crate) bit_offset: i32,
    pub(crate) displacement: u64,
    pub(crate) bytes: usize,
}

impl Operand {
    #[allow(dead_code, reason = "for code whose operands the driver places by its kind")]
    pub(crate) const NONE: Operand = Operand { base: -1, index: -1, bit_offset: -1, displacement: 0, bytes: 0 };
}

/// Flags as iced numbers them, at their places in RFLAGS.
pub(crate) fn places(flags: u32) -> u32 {
    let all = [(RflagsBits::CF, 0), (RflagsBits::PF, 2), (RflagsBits::AF, 4), (RflagsBits::ZF, 6), (RflagsBits::SF, 7), (RflagsBits::DF, 10), (RflagsBits::OF, 11)];
    all.iter().filter(|(b, _)| flags & b != 0).fold(0, |m, (_, n)| m | 1 << n)
}

const GENERAL: [&str; 16] = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
// Places in the driver's `state`.
const RSP: usize = 32;
const FLAGS: usize = 128;
const XMM: usize = 136;
const OWN_RSP: usize = 392;
const FX: usize = 400;
const MXCSR: usize = FX + 24;
const DEFAULT_MXCSR: usize = FX + 28;

/// All code, then the table (the driver's `struct form`).
pub(crate) fn program(entries: &[Entry], s: &mut String) -> Result {
    writeln!(s, ".intel_syntax noprefix\n.text")?;
    for (k, entry) in entries.iter().enumerate() {
        body(k, entry, s)?;
    }
    writeln!(s, ".section .rodata")?;
    for (k, entry) in entries.iter().enumerate() {
        writeln!(s, "name{k}: .asciz \"{}\"", entry.name)?;
    }
    writeln!(s, ".section .data.rel.ro, \"aw\"\n.balign 8\n.globl forms, form_count\nforms:")?;
    for (k, entry) in entries.iter().enumerate() {
        let Operand { base, index, bit_offset, displacement, bytes } = entry.operand;
        writeln!(s, " .quad name{k}, form{k}, {:#x}, {displacement:#x}\n .long {base}, {index}, {bit_offset}, {bytes}, {}, 0", entry.flags, entry.kind as u8)?;
    }
    writeln!(s, "form_count: .quad {}\n.section .note.GNU-stack,\"\",@progbits", entries.len())
}

fn body(k: usize, entry: &Entry, s: &mut String) -> Result {
    let stack = matches!(entry.kind, Kind::Stack | Kind::FlagsOnStack | Kind::Block);
    let x87 = matches!(entry.kind, Kind::X87 | Kind::Block);
    let mxcsr = matches!(entry.kind, Kind::Mxcsr | Kind::Float);
    writeln!(s, ".type form{k}, @function\nform{k}:\n .cfi_startproc\n push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15")?;
    if x87 {
        writeln!(s, " fxrstor [rip + state + {FX}]")?;
    }
    if entry.xmm {
        (0..16).try_for_each(|n| writeln!(s, " movups xmm{n}, [rip + state + {}]", XMM + 16 * n))?;
    }
    if mxcsr {
        writeln!(s, " ldmxcsr [rip + state + {MXCSR}]")?;
    }
    writeln!(s, " push qword ptr [rip + state + {FLAGS}]\n popfq")?;
    let general = || GENERAL.iter().enumerate().filter(|(_, r)| **r != "rsp");
    general().try_for_each(|(n, r)| writeln!(s, " mov {r}, [rip + state + {}]", 8 * n))?;
    if stack {
        writeln!(s, " mov [rip + state + {OWN_RSP}], rsp\n mov rsp, [rip + state + {RSP}]")?;
    }
    writeln!(s, " .byte {}", entry.bytes.iter().map(|b| format!("{b:#x}")).collect::<Vec<_>>().join(","))?;
    if stack {
        writeln!(s, " mov [rip + state + {RSP}], rsp\n mov rsp, [rip + state + {OWN_RSP}]")?;
    }
    general().try_for_each(|(n, r)| writeln!(s, " mov [rip + state + {}], {r}", 8 * n))?;
    writeln!(s, " pushfq\n pop qword ptr [rip + state + {FLAGS}]\n cld")?;
    if entry.xmm {
        (0..16).try_for_each(|n| writeln!(s, " movups [rip + state + {}], xmm{n}", XMM + 16 * n))?;
    }
    if mxcsr {
        writeln!(s, " stmxcsr [rip + state + {MXCSR}]\n ldmxcsr [rip + state + {DEFAULT_MXCSR}]")?;
    }
    if x87 {
        writeln!(s, " fxsave [rip + state + {FX}]\n fninit")?;
    }
    writeln!(s, " pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n ret\n .cfi_endproc\n.size form{k}, .-form{k}")
}
