//! The bytes of an ELF image that wasmer's loader maps: headers, text, a page of address slots, and what is read but not mapped.
//!
//! Owns the layout. Addresses count from the text, so that nothing but text and slots is mapped (fork pays for every mapping). The fact a newcomer gets wrong: wasmer finds its own parts by section name and the relocations through the dynamic
//! symbol section; the block table has a program header of its own, because the loader reads only those.

use crate::processor::Architecture;
use object::elf;
use syscalls::abi::section::BLOCK_TABLE_SEGMENT;

/// What a slot holds once the image is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// The address of this offset of the text.
    Text(u64),
    /// The address of a function of wasmer's runtime.
    Symbol(&'static str),
}

pub struct Image<'a> {
    pub architecture: Architecture,
    pub text: &'a [u8],
    pub slots: &'a [Dynamic],
    /// Of functions and trampolines in the text, ascending.
    pub offsets: &'a [u64],
    pub module_info: &'a [u8],
    pub table: &'a [u8],
}

const PAGE: usize = 4096;
/// Where the text begins in the file. Headers, symbols and relocations of every runtime function there is fit below.
const TEXT: usize = 4 * PAGE;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;

const PT_LOAD: u32 = 1;
const READ: u32 = 4;
const WRITE: u32 = 2;
const EXECUTE: u32 = 1;

const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_RELA: u32 = 4;
const SHT_DYNSYM: u32 = 11;

/// The machine, and its relocations that write an address of this image, and one of a symbol.
fn machine(architecture: Architecture) -> (u16, u64, u64) {
    let (machine, relative, symbol) = match architecture {
        Architecture::X86_64 => (elf::EM_X86_64, elf::R_X86_64_RELATIVE, elf::R_X86_64_GLOB_DAT),
        Architecture::Aarch64 => (elf::EM_AARCH64, elf::R_AARCH64_RELATIVE, elf::R_AARCH64_GLOB_DAT),
    };
    (machine.0, u64::from(relative.0), u64::from(symbol.0))
}

struct Section {
    name: &'static str,
    kind: u32,
    offset: usize,
    bytes: usize,
    link: u32,
    entry_bytes: u64,
}

impl Image<'_> {
    /// Distance from the start of the text to the slots.
    pub fn slots_after(text_bytes: usize) -> usize {
        text_bytes.next_multiple_of(PAGE)
    }

    pub fn write(&self) -> Vec<u8> {
        let slots_at = TEXT + Self::slots_after(self.text.len());
        let slot_bytes = 8 * self.slots.len();
        let (symbols, names, relocations) = self.dynamic(slots_at);
        let mut out = vec![0; HEADER_BYTES];
        let mut segments = vec![(PT_LOAD, READ | EXECUTE, TEXT, self.text.len())];
        if slot_bytes != 0 {
            segments.push((PT_LOAD, READ | WRITE, slots_at, slot_bytes));
        }
        let table_at = (slots_at + slot_bytes).next_multiple_of(PAGE);
        segments.push((BLOCK_TABLE_SEGMENT, READ, table_at, self.table.len()));
        for &(kind, flags, at, bytes) in &segments {
            out.extend(kind.to_le_bytes().iter().chain(&flags.to_le_bytes()));
            for field in [at, at - TEXT, at - TEXT, bytes, bytes, PAGE] {
                out.extend((field as u64).to_le_bytes());
            }
        }
        let mut sections = vec![Section { name: "", kind: 0, offset: 0, bytes: 0, link: 0, entry_bytes: 0 }];
        let mut section = |out: &mut Vec<u8>, at: usize, bytes: &[u8], name, kind, link, entry_bytes| {
            assert!(at >= out.len(), "sections are laid out in order");
            out.resize(at, 0);
            out.extend(bytes);
            sections.push(Section { name, kind, offset: at, bytes: bytes.len(), link, entry_bytes });
            out.len().next_multiple_of(16)
        };
        let at = out.len().next_multiple_of(16);
        let at = section(&mut out, at, &symbols, ".dynsym", SHT_DYNSYM, 2, 24);
        let at = section(&mut out, at, &names, ".dynstr", SHT_STRTAB, 0, 0);
        section(&mut out, at, &relocations, ".rela.dyn", SHT_RELA, 1, 24);
        section(&mut out, TEXT, self.text, ".text", SHT_PROGBITS, 0, 0);
        section(&mut out, slots_at, &vec![0; slot_bytes], ".got", SHT_PROGBITS, 0, 0);
        let at = section(&mut out, table_at, self.table, ".vkernel.blocks", SHT_PROGBITS, 0, 0);
        let at = section(&mut out, at, self.module_info, ".w.module_info", SHT_PROGBITS, 0, 0);
        let offsets: Vec<u8> = self.offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
        let at = section(&mut out, at, &offsets, ".w.fn_offsets", SHT_PROGBITS, 0, 0);
        let mut section_names = Vec::new();
        let mut name_offsets: Vec<u32> = Vec::new();
        for name in sections.iter().map(|s| s.name).chain([".shstrtab"]) {
            name_offsets.push(section_names.len() as u32);
            section_names.extend(name.bytes().chain([0]));
        }
        out.resize(at, 0);
        out.extend(&section_names);
        sections.push(Section { name: ".shstrtab", kind: SHT_STRTAB, offset: at, bytes: section_names.len(), link: 0, entry_bytes: 0 });
        out.resize(out.len().next_multiple_of(16), 0);
        let headers_at = out.len();
        for (s, name) in sections.iter().zip(name_offsets) {
            out.extend(name.to_le_bytes().iter().chain(&s.kind.to_le_bytes()));
            for field in [0, s.offset.saturating_sub(TEXT) as u64, s.offset as u64, s.bytes as u64] {
                out.extend(field.to_le_bytes());
            }
            out.extend(s.link.to_le_bytes().iter().chain(&u32::from(s.kind == SHT_DYNSYM).to_le_bytes()));
            out.extend(16u64.to_le_bytes().iter().chain(&s.entry_bytes.to_le_bytes()));
        }
        header(&mut out, machine(self.architecture).0, segments.len() as u16, headers_at as u64, sections.len() as u16);
        out
    }

    /// Symbol table, its names, relocations of the slots.
    fn dynamic(&self, slots_at: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (mut symbols, mut names, mut relocations) = (vec![0; 24], vec![0], Vec::new());
        let (_, relative, of_symbol) = machine(self.architecture);
        for (i, slot) in self.slots.iter().enumerate() {
            let (info, addend) = match slot {
                Dynamic::Text(offset) => (relative, *offset),
                Dynamic::Symbol(name) => {
                    let index = (symbols.len() / 24) as u64;
                    // Name, then global function without a section: undefined here.
                    symbols.extend((names.len() as u32).to_le_bytes());
                    symbols.extend([0x12, 0, 0, 0]);
                    symbols.extend([0; 16]);
                    names.extend(name.bytes().chain([0]));
                    (index << 32 | of_symbol, 0)
                }
            };
            for field in [(slots_at - TEXT + 8 * i) as u64, info, addend] {
                relocations.extend(field.to_le_bytes());
            }
        }
        (symbols, names, relocations)
    }
}

fn header(out: &mut [u8], machine: u16, segments: u16, sections_at: u64, sections: u16) {
    out[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    // ET_DYN, the machine, version 1.
    put(16, &3u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(32, &(HEADER_BYTES as u64).to_le_bytes());
    put(40, &sections_at.to_le_bytes());
    for (i, half) in [HEADER_BYTES as u16, PROGRAM_HEADER_BYTES as u16, segments, 64, sections, sections - 1].into_iter().enumerate() {
        put(52 + 2 * i, &half.to_le_bytes());
    }
}
