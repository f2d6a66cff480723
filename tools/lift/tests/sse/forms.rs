//! Finds the instruction forms to test by decoding prefix × opcode map × opcode × operand kind.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, OpKind, Register};
use lift::emit::XmmClass;
use lift::registers::Effects;
use lift::x86::sse_class::{Needs, scalar_class};
use std::collections::HashSet;

pub(crate) struct Form {
    pub(crate) bytes: Vec<u8>,
    pub(crate) instruction: Instruction,
    /// How the registers live.
    pub(crate) classes: [XmmClass; 16],
}

/// Immediates that cover every field: selectors, masks, counts below, at and above each width.
const IMMEDIATES: [u8; 24] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0f, 0x10, 0x11, 0x1b, 0x1f, 0x20, 0x31, 0x3f, 0x40, 0x55, 0x80, 0xaa, 0xe4, 0xff];

pub(crate) fn all() -> Vec<Form> {
    let mut forms = Vec::new();
    let mut seen = HashSet::new();
    let prefixes: [&[u8]; 4] = [&[], &[0x66], &[0xf3], &[0xf2]];
    let maps: [&[u8]; 3] = [&[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    for map in maps {
        for opcode in 0..=255_u8 {
            for prefix in prefixes {
                for rex in [None, Some(0x48_u8)] {
                    // Registers 1 and 2; 3 twice; 0 and 3; memory at [rdi + 16].
                    for modrm in [vec![0xca], vec![0xdb], vec![0xc3], vec![0xd8], vec![0x4f, 0x10]] {
                        let mut bytes = prefix.to_vec();
                        bytes.extend(rex);
                        bytes.extend(map);
                        bytes.push(opcode);
                        bytes.extend(&modrm);
                        with_immediates(&bytes, &mut forms, &mut seen);
                    }
                    // Group opcodes (shifts by an immediate): every reg field.
                    for reg in 0..8 {
                        let mut bytes = prefix.to_vec();
                        bytes.extend(map);
                        bytes.extend([opcode, 0xc2 | reg << 3]);
                        with_immediates(&bytes, &mut forms, &mut seen);
                    }
                }
            }
        }
    }
    forms
}

fn with_immediates(bytes: &[u8], forms: &mut Vec<Form>, seen: &mut HashSet<Vec<u8>>) {
    for imm in IMMEDIATES {
        let mut full = bytes.to_vec();
        full.push(imm);
        let i = Decoder::with_ip(64, &full, 0x10_0000, DecoderOptions::NONE).decode();
        let full = full[..i.len()].to_vec();
        if !wanted(&i) || !seen.insert(full.clone()) {
            return;
        }
        for classes in classes(&i) {
            forms.push(Form { bytes: full.clone(), instruction: i, classes });
        }
        if i.len() == bytes.len() {
            return;
        }
    }
}

/// Legacy-encoded instructions with an xmm or MMX operand that have a row and that the host can run.
fn wanted(i: &Instruction) -> bool {
    use Mnemonic::*;
    let xmm = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).is_xmm());
    let mmx = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).is_mm());
    let vendor = matches!(i.mnemonic(), Extrq | Insertq | Movntsd | Movntss | Pi2fw | Pf2iw);
    // Not in x86-64-v2: gaps.
    let beyond = [CpuidFeature::AES, CpuidFeature::SHA, CpuidFeature::GFNI, CpuidFeature::AESKLE, CpuidFeature::WIDE_KL];
    let beyond = i.cpuid_features().iter().any(|f| beyond.contains(f));
    let stack = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).full_register() == Register::RSP);
    !i.is_invalid() && !stack && (xmm || mmx) && !vendor && !beyond && !i.is_privileged() && i.encoding() == EncodingKind::Legacy && i.memory_displacement64() <= 0x10
}

/// All vectors, and every choice of scalar classes the instruction allows.
fn classes(i: &Instruction) -> Vec<[XmmClass; 16]> {
    let effect = Effects::default().of(i);
    let uses = scalar_class(i, effect.reads.or(effect.writes));
    let mut choices = vec![[XmmClass::V128; 16]];
    for any in [XmmClass::F64, XmmClass::F32] {
        let mut chosen = [XmmClass::V128; 16];
        let mut conflict = false;
        for (n, needs) in &uses {
            let class = if let Needs::Class(c) = needs { *c } else { any };
            conflict |= chosen[*n] != XmmClass::V128 && chosen[*n] != class;
            chosen[*n] = class;
        }
        if !conflict && !choices.contains(&chosen) {
            choices.push(chosen);
        }
    }
    choices
}
