//! Parsing of ELF files: each refusal beside a twin that differs in one field and is accepted.

mod elf;

use elf::{DATA, Part, TEXT, file, program, put16, put32, put64};
use lift::image::{Image, ImageError, ImageKind};

const BASE: u64 = 0x1000_0000;

fn good() -> Vec<u8> {
    program(&[0xc3], &[0; 16])
}

fn refusal(edit: impl FnOnce(&mut Vec<u8>)) -> ImageError {
    let mut bytes = good();
    assert!(Image::parse(&bytes, BASE).is_ok(), "the twin without the defect is accepted");
    edit(&mut bytes);
    let error = Image::parse(&bytes, BASE).expect_err("the defect is refused");
    assert_eq!(error.to_string().lines().count(), 1);
    error
}

#[test]
fn accepts_a_small_program_at_its_base() {
    let image = Image::parse(&good(), BASE).unwrap();
    assert_eq!(image.entry, Some(BASE + TEXT));
    assert_eq!(image.kind, ImageKind::Relocatable);
    assert_eq!(image.bytes(BASE + TEXT, 1), Some(&[0xc3][..]));
    assert!(image.is_code(BASE + TEXT) && !image.is_code(BASE + DATA));
}

#[test]
fn refuses_what_is_not_elf() {
    assert_eq!(refusal(|b| b[0] = 0x7e), ImageError::NotElf);
    assert_eq!(Image::parse(b"", 0).unwrap_err(), ImageError::NotElf);
    assert_eq!(Image::parse(b"#!/bin/sh\n", 0).unwrap_err(), ImageError::NotElf);
}

#[test]
fn refuses_32_bit_files() {
    assert_eq!(refusal(|b| b[4] = 1), ImageError::Elf32);
}

#[test]
fn refuses_big_endian_files() {
    assert_eq!(refusal(|b| b[5] = 2), ImageError::BigEndian);
}

#[test]
fn refuses_aarch64_by_name() {
    let error = refusal(|b| put16(b, 18, 183));
    assert_eq!(error, ImageError::Machine { machine: 183, name: "aarch64" });
    assert!(error.to_string().contains("aarch64"));
}

#[test]
fn refuses_object_files() {
    assert_eq!(refusal(|b| put16(b, 16, 1)), ImageError::Type { kind: 1 });
}

#[test]
fn refuses_a_file_cut_anywhere_in_its_segments_or_headers() {
    let bytes = good();
    for length in (4..bytes.len()).step_by(7) {
        let error = Image::parse(&bytes[..length], BASE).expect_err("cut");
        assert!(matches!(error, ImageError::Truncated { .. }), "{length}: {error}");
    }
}

#[test]
fn refuses_65535_program_headers() {
    assert_eq!(refusal(|b| put16(b, 56, 65535)), ImageError::TooManyHeaders { count: 65535 });
}

#[test]
fn refuses_more_program_headers_than_the_file_holds() {
    assert!(matches!(refusal(|b| put16(b, 56, 1000)), ImageError::Truncated { what: "the program header table", .. }));
}

#[test]
fn refuses_program_headers_of_another_size() {
    assert_eq!(refusal(|b| put16(b, 54, 57)), ImageError::HeaderSize { size: 57 });
}

#[test]
fn refuses_a_file_without_segments() {
    assert_eq!(refusal(|b| put16(b, 56, 0)), ImageError::NoSegments);
}

#[test]
fn refuses_a_segment_beyond_the_file() {
    assert!(matches!(refusal(|b| put64(b, 64 + 8, 1 << 40)), ImageError::Truncated { what: "a segment", .. }));
}

#[test]
fn refuses_a_segment_larger_in_the_file_than_in_memory() {
    assert!(matches!(refusal(|b| put64(b, 64 + 40, 0)), ImageError::FileSize { .. }));
    assert!(matches!(refusal(|b| put64(b, 64 + 56 + 40, 8)), ImageError::FileSize { .. }));
}

#[test]
fn refuses_overlapping_segments() {
    assert!(matches!(refusal(|b| put64(b, 64 + 40, DATA)), ImageError::Overlap { .. }));
}

#[test]
fn refuses_segments_outside_the_guest_address_space() {
    assert!(matches!(refusal(|b| put64(b, 64 + 56 + 40, 1 << 33)), ImageError::AddressSpace { .. }));
    assert!(matches!(refusal(|b| put64(b, 64 + 56 + 16, u64::MAX - 4)), ImageError::AddressSpace { .. }));
    assert!(matches!(Image::parse(&good(), 1 << 30), Err(ImageError::AddressSpace { .. })), "code ends below 2^30");
}

#[test]
fn refuses_segments_that_all_copy_the_same_bytes() {
    let big = vec![0x90; 0x2000];
    let mut parts = vec![];
    for copy in 0..4u64 {
        parts.push(Part { flags: 5, address: TEXT + copy * 0x2000, bytes: &big });
    }
    let mut bytes = file(&parts);
    assert!(Image::parse(&bytes, BASE).is_ok());
    for copy in 0..4 {
        put64(&mut bytes, 64 + 56 * copy + 8, TEXT);
    }
    bytes.truncate(0x3000);
    assert!(matches!(Image::parse(&bytes, BASE), Err(ImageError::Repeated { .. })));
}

#[test]
fn refuses_to_move_a_fixed_executable() {
    let mut bytes = good();
    put16(&mut bytes, 16, 2);
    assert_eq!(Image::parse(&bytes, 0x5000).unwrap_err(), ImageError::FixedAddress { base: 0x5000 });
    assert_eq!(Image::parse(&bytes, 0).unwrap().kind, ImageKind::Fixed);
}

#[test]
fn refuses_a_dynamic_section_outside_the_segments() {
    let mut bytes = good();
    put32(&mut bytes, 64 + 56, 2);
    put64(&mut bytes, 64 + 56 + 16, 0x9000);
    assert!(matches!(Image::parse(&bytes, BASE), Err(ImageError::Table { what: "dynamic section", .. })));
    put64(&mut bytes, 64 + 56 + 16, TEXT);
    put64(&mut bytes, 64 + 56 + 32, 1);
    assert!(Image::parse(&bytes, BASE).is_ok());
}

#[test]
fn applies_relative_relocations_of_both_encodings() {
    // .dynamic: DT_RELA/RELASZ at DATA+0x100 (one entry), DT_RELR/RELRSZ at DATA+0x140 (an address, then a bitmap for the next word).
    let mut data = vec![0u8; 0x300];
    let dynamic = [(7u64, DATA + 0x100), (8, 24), (36, DATA + 0x140), (35, 16), (0, 0)];
    for (index, (tag, value)) in dynamic.into_iter().enumerate() {
        put64(&mut data, index * 16, tag);
        put64(&mut data, index * 16 + 8, value);
    }
    for (at, value) in [(0x100, DATA + 0x200), (0x108, 8), (0x110, TEXT), (0x140, DATA + 0x208), (0x148, 0b11), (0x208, TEXT + 1), (0x210, TEXT + 2)] {
        put64(&mut data, at, value);
    }
    let mut bytes =
        file(&[Part { flags: 5, address: TEXT, bytes: &[0x90, 0x90, 0xc3] }, Part { flags: 6, address: DATA, bytes: &data }, Part { flags: 6, address: DATA, bytes: &data[..80] }]);
    put32(&mut bytes, 64 + 2 * 56, 2);
    let image = Image::parse(&bytes, BASE).unwrap();
    for (place, target) in [(0x200, TEXT), (0x208, TEXT + 1), (0x210, TEXT + 2)] {
        assert_eq!(image.u64_at(BASE + DATA + place), Some(BASE + target));
    }
    assert_eq!(image.relocation_targets, [BASE + TEXT, BASE + TEXT + 1, BASE + TEXT + 2]);
}

#[test]
fn reads_what_the_dynamic_section_of_ls_says() {
    let Ok(bytes) = std::fs::read("/usr/bin/ls") else { return eprintln!("SKIPPED: no /usr/bin/ls here") };
    let image = Image::parse(&bytes, BASE).unwrap();
    assert_eq!(image.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    assert_eq!(image.dynamic.needed, ["libselinux.so.1", "libc.so.6"]);
    assert!(!image.dynamic.text_relocations);
    assert!(image.init_fini.len() >= 4, ".init, .fini and their arrays");
    assert!(image.frames.len() > 100);
}

#[test]
fn reads_landing_pads_of_c_plus_plus() {
    let path = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
    let Ok(bytes) = std::fs::read(path) else { return eprintln!("SKIPPED: no {path} here") };
    let image = Image::parse(&bytes, BASE).unwrap();
    let pads: usize = image.frames.iter().map(|f| f.landing_pads.len()).sum();
    assert!(pads > 1000, "{pads}");
    assert!(image.symbols.iter().any(|s| s.exported && s.name == "__cxa_throw"));
}
