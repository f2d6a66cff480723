//! Every MMX and SSE to SSE4.2 instruction, lifted and executed next to the host CPU on edge and random register states.
//!
//! Owns the comparison; the forms are found by decoding the whole opcode space (`forms`), so a new row is tested without being listed. The fact a newcomer
//! gets wrong: of two NaNs added or multiplied x86 keeps the first, the engine may have swapped them; that payload alone is not compared.

mod forms;
mod guest;
mod host;
mod states;

use forms::Form;
use iced_x86::{Instruction, Mnemonic, RflagsBits};
use lift::emit::XmmClass;
use states::State;

#[test]
fn every_vector_instruction_does_what_the_host_cpu_does() {
    let forms = forms::all();
    let mut cpu = host::Cpu::new();
    let mut lifted = guest::Guest::new(&forms);
    let only = std::env::var("ONLY").ok();
    let mut failures: std::collections::BTreeMap<String, (u32, String)> = std::collections::BTreeMap::new();
    let mut mnemonics = std::collections::BTreeSet::new();
    for (k, form) in forms.iter().enumerate() {
        if only.as_ref().is_some_and(|o| !form.instruction.to_string().starts_with(o.as_str())) {
            continue;
        }
        mnemonics.insert(format!("{:?}", form.instruction.mnemonic()));
        if lifted.gaps[k] {
            failures.insert(format!("{} {:02x?}", form.instruction, form.bytes), (0, "gap".to_owned()));
            continue;
        }
        cpu.load(&form.bytes);
        for (n, before) in states::all(&form.instruction).into_iter().enumerate() {
            if before.mxcsr & DAZ != 0 && chooses(&form.instruction) {
                continue;
            }
            let expected = cpu.run(&before);
            let got = lifted.run(k, &before);
            if let Some(what) = difference(form, &before, &expected, &got) {
                let entry = failures.entry(format!("{} {:02x?} {:?}", form.instruction, form.bytes, &form.classes[..4])).or_insert((0, format!("state {n}: {what}")));
                entry.0 += 1;
            }
        }
    }
    for (form, (count, first)) in &failures {
        println!("{form}: {count} states differ; {first}");
    }
    println!("{} forms of {} mnemonics", forms.len(), mnemonics.len());
    assert!(only.is_some() || mnemonics.len() >= 249, "only {} mnemonics were found", mnemonics.len());
    assert!(failures.is_empty(), "{} of {} forms differ from the host CPU", failures.len(), forms.len());
}

/// Denormals are zeros.
const DAZ: u32 = 0x40;

/// Minimum and maximum are a comparison and a selection: under DAZ the processor also flushes the chosen denormal, lifted code does not.
fn chooses(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(i.mnemonic(), Minsd | Minss | Minpd | Minps | Maxsd | Maxss | Maxpd | Maxps)
}

/// Bits of the flags the instruction defines.
fn defined_flags(i: &Instruction) -> u32 {
    const ARITHMETIC: u32 = RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF;
    i.rflags_modified() & ARITHMETIC & !i.rflags_undefined()
}

fn difference(form: &Form, before: &State, expected: &State, got: &State) -> Option<String> {
    let i = &form.instruction;
    for n in 0..16 {
        if n != 4 && expected.gpr[n] != got.gpr[n] {
            return Some(format!("general register {n}: host {:#x}, lifted {:#x}; {}", expected.gpr[n], got.gpr[n], before.describe(i)));
        }
        // A scalar class keeps its lane only.
        let kept = match form.classes[n] {
            XmmClass::V128 => u128::MAX,
            XmmClass::F64 => u128::from(u64::MAX),
            XmmClass::F32 => u128::from(u32::MAX),
        };
        let (host, lifted) = (expected.xmm[n] & kept, got.xmm[n] & kept);
        if host != lifted && !(float_width(i).is_some_and(|w| same_but_nans(host, lifted, w))) {
            return Some(format!("xmm{n}: host {}, lifted {}; {}", hex(expected.xmm[n]), hex(got.xmm[n]), before.describe(i)));
        }
    }
    for n in 0..8 {
        if (expected.st[n] ^ got.st[n]) << 48 != 0 {
            return Some(format!("x87 register {n}: host {:020x}, lifted {:020x}; {}", expected.st[n], got.st[n], before.describe(i)));
        }
    }
    if expected.empty != got.empty {
        return Some(format!("empty x87 registers: host {:#x}, lifted {:#x}", expected.empty, got.empty));
    }
    let flags = defined_flags(i);
    if (expected.flags ^ got.flags) & flags != 0 {
        return Some(format!("flags: host {:#x}, lifted {:#x}; {}", expected.flags & flags, got.flags & flags, before.describe(i)));
    }
    if flags == defined_flags_all() && expected.conditions() != got.conditions {
        return Some(format!("conditions: host {:016b}, lifted {:016b}; {}", expected.conditions(), got.conditions, before.describe(i)));
    }
    if expected.memory != got.memory {
        return Some(format!("memory; {}", before.describe(i)));
    }
    None
}

fn defined_flags_all() -> u32 {
    RflagsBits::CF | RflagsBits::PF | RflagsBits::AF | RflagsBits::ZF | RflagsBits::SF | RflagsBits::OF
}

/// Lane width of results whose NaN payload may be that of either operand: the engine may swap the operands of commutative arithmetic.
fn float_width(i: &Instruction) -> Option<usize> {
    use Mnemonic::*;
    match i.mnemonic() {
        // In which order products are added is not said: Intel's and AMD's differ.
        Addps | Mulps | Addss | Mulss | Dpps => Some(4),
        Addpd | Mulpd | Addsd | Mulsd | Dppd => Some(8),
        _ => None,
    }
}

/// Equal lane by lane, or both quiet NaNs.
fn same_but_nans(a: u128, b: u128, width: usize) -> bool {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    a.chunks(width).zip(b.chunks(width)).all(|(a, b)| a == b || quiet_nan(a) && quiet_nan(b))
}

fn quiet_nan(lane: &[u8]) -> bool {
    match lane.len() {
        4 => {
            let v = u32::from_le_bytes(lane.try_into().expect("4 bytes"));
            v & 0x7fc0_0000 == 0x7fc0_0000
        }
        _ => {
            let v = u64::from_le_bytes(lane.try_into().expect("8 bytes"));
            v & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000
        }
    }
}

fn hex(v: u128) -> String {
    format!("{:016x}_{:016x}", (v >> 64) as u64, v as u64)
}
