//! The segments of an artifact as they will stand in memory, with every address in them right: the part of linking that is a function of bytes alone.
//!
//! Owns the relocations that an image may have, by machine. Asks nobody what fits this host: `link` does. The fact a newcomer gets wrong: code for AArch64 is placed here as well as that for x86-64, on either machine; but nothing that runs it is written yet.

use object::LittleEndian;
use object::elf::{self, FileHeader64, PT_LOAD, SHT_RELA};
use object::read::elf::{FileHeader, ProgramHeader, Rela, SectionHeader, Sym};
use std::fmt;

/// What code in an artifact is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
}

impl Machine {
    /// What this program was built for.
    pub const HOST: Machine = if cfg!(target_arch = "aarch64") { Machine::Aarch64 } else { Machine::X86_64 };

    fn number(self) -> elf::Machine {
        match self {
            Machine::X86_64 => elf::EM_X86_64,
            Machine::Aarch64 => elf::EM_AARCH64,
        }
    }

    /// What a relocation writes, always eight bytes.
    fn value(self, kind: elf::RelocationType) -> Option<Value> {
        match (self, kind) {
            (Machine::X86_64, elf::R_X86_64_RELATIVE) | (Machine::Aarch64, elf::R_AARCH64_RELATIVE) => Some(Value::Relative),
            (Machine::X86_64, elf::R_X86_64_64 | elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT) => Some(Value::Symbol),
            (Machine::Aarch64, elf::R_AARCH64_ABS64 | elf::R_AARCH64_GLOB_DAT | elf::R_AARCH64_JUMP_SLOT) => Some(Value::Symbol),
            _ => None,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::X86_64 => "x86-64",
            Machine::Aarch64 => "aarch64",
        })
    }
}

enum Value {
    /// An address of the image itself.
    Relative,
    /// A symbol's.
    Symbol,
}

pub struct Image {
    /// Whole pages.
    pub bytes: Vec<u8>,
    /// File offset, length in the file, place in `bytes`.
    segments: Vec<(u64, u64, u64)>,
}

impl Image {
    /// Where in `bytes` the byte at this offset of the file is.
    pub fn place(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find(|(start, len, _)| (*start..start + len).contains(&offset)).map(|(start, _, at)| at + (offset - start))
    }
}

/// The only functions of the compiler's runtime that code of ours names: for traps that cannot happen, and for unwinding that nobody does.
const NEVER_CALLED: [&[u8]; 2] = [b"wasmer_vm_raise_trap", b"wasmer_eh_personality"];

/// Longest image: displacements in code reach 2 GiB.
const LONGEST: u64 = 1 << 31;
const PAGE: u64 = 4096;

/// Lays out the segments for `address`. Calls of the compiler's runtime lead to `trap`.
pub fn place(file: &[u8], machine: Machine, address: u64, trap: u64) -> Result<Image, String> {
    let text = |e: object::Error| e.to_string();
    let header = FileHeader64::<LittleEndian>::parse(file).map_err(text)?;
    if header.e_machine(LittleEndian) != machine.number() {
        return Err(format!("it is no code for {machine}"));
    }
    let loads: Vec<_> = header.program_headers(LittleEndian, file).map_err(text)?.iter().filter(|p| p.p_type(LittleEndian) == PT_LOAD).collect();
    let end = loads.iter().filter_map(|p| p.p_vaddr(LittleEndian).checked_add(p.p_memsz(LittleEndian))).max().unwrap_or(0);
    if end > LONGEST || loads.iter().any(|p| p.p_vaddr(LittleEndian).checked_add(p.p_memsz(LittleEndian)).is_none()) {
        return Err("it is too long".into());
    }
    let mut image = Image { bytes: vec![0; end.next_multiple_of(PAGE) as usize], segments: Vec::new() };
    for p in loads {
        let data = p.data(LittleEndian, file).map_err(|()| "a segment lies outside the file".to_owned())?;
        let at = p.p_vaddr(LittleEndian);
        image.bytes.get_mut(at as usize..at as usize + data.len()).ok_or("a segment is longer than its memory")?.copy_from_slice(data);
        image.segments.push((p.p_offset(LittleEndian), data.len() as u64, at));
    }
    let sections = header.sections(LittleEndian, file).map_err(text)?;
    for section in sections.iter().filter(|s| s.sh_type(LittleEndian) == SHT_RELA) {
        let Some((relocations, symbols)) = section.rela(LittleEndian, file).map_err(text)? else { continue };
        let symbols = sections.symbol_table_by_index(LittleEndian, file, symbols).map_err(text)?;
        for r in relocations {
            let symbol = symbols.symbol(object::SymbolIndex(r.r_sym(LittleEndian, false) as usize)).ok();
            let name = symbol.and_then(|s| s.name(LittleEndian, symbols.strings()).ok()).unwrap_or_default();
            let kind = r.r_type(LittleEndian, false);
            let value = match (machine.value(kind), symbol) {
                (Some(Value::Relative), _) => address.wrapping_add_signed(r.r_addend(LittleEndian)),
                (Some(Value::Symbol), Some(_)) if NEVER_CALLED.contains(&name) => trap,
                _ => return Err(format!("relocation {kind} against {:?}", String::from_utf8_lossy(name))),
            };
            let at = r.r_offset(LittleEndian) as usize;
            let place = at.checked_add(8).and_then(|end| image.bytes.get_mut(at..end)).ok_or("a relocation lies outside its segments")?;
            place.copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: u64 = 0x1000_0000_0000;
    const TRAP: u64 = 0x2000;
    const TEXT: u64 = 0x1000;

    /// An image of one segment, of the file's second page, with these relocations; `wasmer_vm_raise_trap` is symbol 1, another one symbol 2.
    fn file(machine: elf::Machine, relocations: &[(u64, elf::RelocationType, u64, i64)]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(16, &3u16.to_le_bytes());
        put(18, &machine.0.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &[64, 0, 56, 0, 1, 0, 64, 0, 4, 0, 2, 0]);
        for field in [1 | 5 << 32, TEXT, 0, 0, 0x1000, 0x1000, 0x1000] {
            bytes.extend(u64::to_le_bytes(field));
        }
        bytes.resize(2 * TEXT as usize, 0x11);
        let names = b"\0wasmer_vm_raise_trap\0other\0";
        let (symbols_at, mut symbols) = (bytes.len(), vec![0; 24]);
        for name in [1u32, 22] {
            symbols.extend(name.to_le_bytes().iter().chain(&[0x12, 0, 0, 0]).chain(&[0; 16]));
        }
        bytes.extend(&symbols);
        let names_at = bytes.len();
        bytes.extend(names);
        // Tables stand at whole words.
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let relocations_at = bytes.len();
        for (at, kind, symbol, addend) in relocations {
            for field in [*at, symbol << 32 | u64::from(kind.0), *addend as u64] {
                bytes.extend(field.to_le_bytes());
            }
        }
        let sections_at = bytes.len() as u64;
        let sections = [(0, 0, 0, 0, 0), (11, symbols_at, symbols.len(), 2, 24), (3, names_at, names.len(), 0, 0), (4, relocations_at, 24 * relocations.len(), 1, 24)];
        for (kind, at, len, link, entry) in sections {
            bytes.extend([0u32, kind].iter().flat_map(|w| w.to_le_bytes()));
            bytes.extend([0, 0, at as u64, len as u64].iter().flat_map(|w| w.to_le_bytes()));
            bytes.extend([link, 0u32].iter().flat_map(|w| w.to_le_bytes()));
            bytes.extend([1, entry as u64].iter().flat_map(|w| w.to_le_bytes()));
        }
        bytes[40..48].copy_from_slice(&sections_at.to_le_bytes());
        bytes
    }

    fn word(image: &Image, at: usize) -> u64 {
        u64::from_le_bytes(image.bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn addresses_of_the_image_and_of_the_runtime_are_written_on_both_machines() {
        let x86 = [(0x10, elf::R_X86_64_RELATIVE, 0, 0x40), (0x18, elf::R_X86_64_GLOB_DAT, 1, 0)];
        let arm = [(0x10, elf::R_AARCH64_RELATIVE, 0, 0x40), (0x18, elf::R_AARCH64_GLOB_DAT, 1, 0), (0x20, elf::R_AARCH64_ABS64, 1, 0), (0x28, elf::R_AARCH64_JUMP_SLOT, 1, 0)];
        for (machine, relocations) in [(Machine::X86_64, &x86[..]), (Machine::Aarch64, &arm)] {
            let image = place(&file(machine.number(), relocations), machine, ADDRESS, TRAP).unwrap();
            assert_eq!((word(&image, 0x10), word(&image, 0x18)), (ADDRESS + 0x40, TRAP));
            assert_eq!(word(&image, 0x30), 0x1111_1111_1111_1111);
            assert_eq!(image.place(TEXT + 8), Some(8));
            assert_eq!(image.place(8), None);
        }
    }

    #[test]
    fn code_for_another_machine_and_what_nothing_provides_is_refused() {
        let refused = |machine, relocations: &[_]| place(&file(elf::EM_AARCH64, relocations), machine, ADDRESS, TRAP).err().unwrap();
        assert_eq!(refused(Machine::X86_64, &[]), "it is no code for x86-64");
        // A symbol that is nobody's, x86's numbers, what is known but lies outside.
        assert!(refused(Machine::Aarch64, &[(0, elf::R_AARCH64_GLOB_DAT, 2, 0)]).contains("other"));
        assert!(refused(Machine::Aarch64, &[(0, elf::R_X86_64_RELATIVE, 0, 0)]).contains("relocation"));
        assert!(refused(Machine::Aarch64, &[(0, elf::R_AARCH64_CALL26, 1, 0)]).contains("relocation"));
        assert!(refused(Machine::Aarch64, &[(0xffc, elf::R_AARCH64_RELATIVE, 0, 0)]).contains("outside"));
    }
}
