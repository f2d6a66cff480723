//! The opcode that x87 rows hand to the helper, for every encoding of D8..DF; what the helper does with it is tested in `loader`.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use lift::emit::{Emit, Flags, Form, step};
use lift::registers::{Effects, RegSet};
use lift::x86::{semantics, x87};

/// Every valid encoding: register forms, and memory forms at [rax], [rbp + 8], [rax + rcx] and rip-relative.
fn encodings() -> Vec<(Vec<u8>, Instruction)> {
    let mut all = Vec::new();
    for opcode in 0xd8..=0xdf_u8 {
        for reg in 0..8_u8 {
            let memory = [vec![reg << 3], vec![0x45 | reg << 3, 8], vec![0x04 | reg << 3, 0x08], vec![0x05 | reg << 3, 1, 0, 0, 0]];
            let registers = (0..8).map(|rm| vec![0xc0 | reg << 3 | rm]);
            for tail in memory.into_iter().chain(registers) {
                for prefix in [&[][..], &[0x64], &[0x48]] {
                    let mut bytes = prefix.to_vec();
                    bytes.push(opcode);
                    bytes.extend(&tail);
                    let i = Decoder::with_ip(64, &bytes, 0x1000, DecoderOptions::NONE).decode();
                    if !i.is_invalid() {
                        all.push((bytes[prefix.len()..].to_vec(), i));
                    }
                }
            }
        }
    }
    all
}

#[test]
fn the_helper_gets_the_opcode_bytes_without_addressing_mode() {
    let all = encodings();
    assert!(all.len() > 1000);
    for (bytes, i) in all {
        let modrm = if bytes[1] < 0xc0 { bytes[1] & 0x38 } else { bytes[1] };
        let expected = u16::from(bytes[0]) << 8 | u16::from(modrm);
        assert_eq!(x87::opcode(&i), Some(expected), "{i} {bytes:02x?}");
    }
}

#[test]
fn every_x87_encoding_of_the_manual_has_a_row() {
    // Compatibility nops of the 8087 and 287, which the manual does not list any more.
    let obsolete = ["fneni", "fndisi", "fnsetpm", "frstpm", "fstdw", "fstsg"];
    let missing: Vec<String> =
        encodings().into_iter().filter(|(_, i)| semantics(i).is_none()).map(|(_, i)| i.to_string()).filter(|text| !obsolete.iter().any(|o| text.starts_with(o))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn fnstsw_ax_reloads_rax_and_nothing_else() {
    let i = Decoder::with_ip(64, &[0xdf, 0xe0], 0x1000, DecoderOptions::NONE).decode();
    let mut e = Emit::new(Form::Resumable);
    step(&mut e, &i, Flags::NONE, &mut Effects::default());
    assert_eq!(e.valid, RegSet::RAX);
}
