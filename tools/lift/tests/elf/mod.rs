//! Tiny ELF files for the tests of `image` and `discover`, and the host's own files.
//!
//! Owns building a file from a few segments. Refuses to be clever: no sections, no symbols; what a test needs beyond that it takes from
//! Debian's files. The fact a newcomer gets wrong: every test binary compiles its own copy, so not every function is used in each.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;

/// Where the first segment of a tiny file lies, in the file and in memory.
pub(crate) const TEXT: u64 = 0x1000;
pub(crate) const DATA: u64 = 0x4000;

/// A segment: flags, address, bytes. File offset = address.
pub(crate) struct Part<'a> {
    pub flags: u32,
    pub address: u64,
    pub bytes: &'a [u8],
}

/// ET_DYN with the given PT_LOADs and no entry point.
pub(crate) fn file(parts: &[Part]) -> Vec<u8> {
    let mut out = vec![0u8; 64 + 56 * parts.len()];
    out[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
    put16(&mut out, 16, 3);
    put16(&mut out, 18, 62);
    put32(&mut out, 20, 1);
    put64(&mut out, 32, 64);
    put16(&mut out, 52, 64);
    put16(&mut out, 54, 56);
    put16(&mut out, 56, parts.len() as u16);
    for (index, part) in parts.iter().enumerate() {
        let at = 64 + 56 * index;
        put32(&mut out, at, 1);
        put32(&mut out, at + 4, part.flags);
        for (offset, value) in [(8, part.address), (16, part.address), (24, part.address), (32, part.bytes.len() as u64), (40, part.bytes.len() as u64), (48, 4096)] {
            put64(&mut out, at + offset, value);
        }
        let end = part.address as usize + part.bytes.len();
        if out.len() < end {
            out.resize(end, 0);
        }
        out[part.address as usize..end].copy_from_slice(part.bytes);
    }
    out
}

/// One code segment at `TEXT` that is entered at its start, and one read-only data segment at `DATA`.
pub(crate) fn program(code: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = file(&[Part { flags: 5, address: TEXT, bytes: code }, Part { flags: 4, address: DATA, bytes: data }]);
    put64(&mut out, 24, TEXT);
    out
}

pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Debian's own files that issue 2 wants lifted completely.
pub(crate) const DEBIAN: [&str; 10] = [
    "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libselinux.so.1",
    "/usr/lib/x86_64-linux-gnu/libpcre2-8.so.0",
    "/usr/lib/x86_64-linux-gnu/libtinfo.so.6",
    "/usr/bin/ls",
    "/usr/bin/sort",
    "/usr/bin/bash",
    "/usr/bin/grep",
    "/usr/bin/sed",
];

/// Calls `check` with each of Debian's files; says which are missing here.
pub(crate) fn each_debian_file(mut check: impl FnMut(&str, &[u8])) {
    let mut seen = 0;
    for path in DEBIAN {
        match fs::read(path) {
            Ok(bytes) => {
                check(path, &bytes);
                seen += 1;
            }
            Err(error) => eprintln!("SKIPPED {path}: {error}"),
        }
    }
    assert!(seen > 0, "none of Debian's files is here");
}
