//! Damaged files: parsing and discovery never panic and never take long, whatever the bytes.

mod elf;

use elf::{Part, TEXT, file, program, put64};
use lift::discover::discover;
use lift::image::Image;
use std::time::{Duration, Instant};

const BASE: u64 = 0x1000_0000;

/// xorshift64: the same mutations in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A value that breaks code which trusts it.
fn nasty(random: &mut Random, length: usize) -> u64 {
    match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => length as u64 - 1,
        3 => 1 << random.below(64),
        4 => random.next() % (2 * length as u64),
        _ => random.next(),
    }
}

/// Where tables of offsets and counts are: the headers, .dynamic, relocations, symbols and frames of a small file.
fn mutate(random: &mut Random, original: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = if random.below(3) == 0 { random.below(0x400) } else { random.below(bytes.len() - 8) } & !3;
        match random.below(4) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at..at + 4].copy_from_slice(&(random.next() as u32).to_le_bytes()),
            _ => {
                let value = nasty(random, original.len());
                put64(&mut bytes, at, value);
            }
        }
    }
    if random.below(20) == 0 {
        bytes.truncate(random.below(original.len()));
    }
    bytes
}

fn survive(bytes: &[u8]) -> bool {
    let base = if bytes.get(16) == Some(&2) { 0 } else { BASE };
    let Ok(image) = Image::parse(bytes, base) else { return false };
    let program = discover(&image);
    assert!(program.stats.covered_bytes <= program.stats.executable_bytes);
    program.block_owners();
    true
}

#[test]
fn mutated_files_never_panic() {
    let Ok(original) = std::fs::read("/usr/bin/true") else { return eprintln!("SKIPPED: no /usr/bin/true here") };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for _ in 0..600 {
        accepted += u32::from(survive(&mutate(&mut random, &original)));
    }
    assert!(accepted > 100, "most mutations must get past the header, or nothing is tested: {accepted}");
}

#[test]
fn random_bytes_as_code_never_panic() {
    let mut random = Random(1);
    for _ in 0..200 {
        let code: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
        let data: Vec<u8> = (0..4096).map(|_| random.next() as u8).collect();
        assert!(survive(&program(&code, &data)));
    }
}

fn quick(what: &str, bytes: &[u8]) {
    let start = Instant::now();
    assert!(survive(bytes), "{what}");
    println!("{what}: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
}

#[test]
fn repetitive_code_takes_linear_time() {
    let size = 1 << 20;
    let repeat = |pattern: &[u8]| pattern.iter().copied().cycle().take(size).collect::<Vec<u8>>();
    let cases: [(&str, Vec<u8>); 8] = [
        ("indirect jumps", repeat(&[0xff, 0xe0])),
        ("table jumps without bounds", repeat(&[0xff, 0x24, 0xc2])),
        ("branches to the next instruction", repeat(&[0x75, 0x00])),
        ("branches backwards", repeat(&[0x90, 0x75, 0xfd])),
        ("calls of the next instruction", repeat(&[0xe8, 0, 0, 0, 0])),
        ("jumps into the middle", repeat(&[0xeb, 0xff, 0xc0])),
        ("invalid bytes", repeat(&[0x06])),
        ("loads and jumps", repeat(&[0x48, 0x8d, 0x15, 0xf9, 0xff, 0xff, 0xff, 0x48, 0x63, 0x04, 0xba, 0x48, 0x01, 0xd0, 0xff, 0xe0])),
    ];
    for (what, code) in &cases {
        quick(what, &file(&[Part { flags: 5, address: TEXT, bytes: code }]));
    }
}

#[test]
fn every_branch_to_one_place_takes_linear_time() {
    // 170,000 conditional jumps to the same shared tail, each from a function of its own.
    let mut code = Vec::new();
    while code.len() < 1 << 20 {
        let distance = -(code.len() as i64 + 6);
        code.extend([0x0f, 0x85]);
        code.extend((distance as i32).to_le_bytes());
        code.extend([0xff, 0xe0]);
    }
    quick("shared tail", &program(&code, &[]));
}
