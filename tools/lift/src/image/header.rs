//! ELF header, program headers, section headers and the dynamic section, read with every count and offset treated as an allegation.
//!
//! Owns `ImageError`. Refuses to own what the tables contain (symbols, relocations, frames). The fact a newcomer gets wrong: section
//! headers may be missing or lie; the program headers and the dynamic section decide, as they do for the kernel and ld.so.

use super::{GUEST_LIMIT, Image, ImageKind, Segment};
use crate::language::Language;
use syscalls::abi::CODE_LIMIT;
use thiserror::Error;

/// Why a file cannot be lifted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    #[error("not an ELF file: it does not begin with 7f 45 4c 46; give an executable or a shared object")]
    NotElf,
    #[error("32-bit ELF file: only 64-bit x86-64 programs can be lifted; use the amd64 package")]
    Elf32,
    #[error("big-endian ELF file: only x86-64 programs can be lifted")]
    BigEndian,
    #[error("ELF file for machine {machine} ({name}): only x86-64 (62) can be lifted; use the amd64 package")]
    Machine { machine: u16, name: &'static str },
    #[error("ELF type {kind} is neither an executable (2) nor a shared object (3): link it first")]
    Type { kind: u16 },
    #[error("truncated ELF file: {what} needs bytes {start:#x}..{end:#x}, the file has {length:#x}")]
    Truncated { what: &'static str, start: u64, end: u64, length: u64 },
    #[error("program header size is {size}, not 56: the file is damaged")]
    HeaderSize { size: u16 },
    #[error("{count} program headers: Linux itself refuses more than 1170")]
    TooManyHeaders { count: u16 },
    #[error("no loadable segment: nothing to lift")]
    NoSegments,
    #[error("segment at {address:#x}: file size {file_size:#x} is larger than memory size {memory_size:#x}")]
    FileSize { address: u64, file_size: u64, memory_size: u64 },
    #[error("segments overlap: {first:#x}..{first_end:#x} and the one at {second:#x}")]
    Overlap { first: u64, first_end: u64, second: u64 },
    #[error("segment at {address:#x} with {size:#x} bytes ends above {limit:#x}: choose a lower base address")]
    AddressSpace { address: u64, size: u64, limit: u64 },
    #[error("segments copy {total:#x} bytes from a file of {length:#x}: the file is damaged")]
    Repeated { total: u64, length: u64 },
    #[error("non-PIE executable cannot be moved to base {base:#x}: it keeps its own addresses, give base 0")]
    FixedAddress { base: u64 },
    #[error("{what} at {address:#x} with {size:#x} bytes lies outside the segments: the file is damaged")]
    Table { what: &'static str, address: u64, size: u64 },
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(offset..)?.get(..2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..)?.get(..4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..)?.get(..8)?.try_into().ok()?))
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PT_GNU_RELRO: u32 = 0x6474_e552;
/// load_elf_phdrs in Linux refuses tables above 64 KiB.
const MAX_HEADERS: u16 = 1170;

#[derive(Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) name: u32,
    pub(super) kind: u32,
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) link: u32,
}

pub(super) struct Header {
    base: u64,
    kind: ImageKind,
    entry: u64,
    programs: Vec<ProgramHeader>,
    pub(super) sections: Vec<Section>,
    /// `sh_addr` of .eh_frame: only static executables without PT_GNU_EH_FRAME need it.
    pub(super) eh_frame_section: Option<u64>,
}

impl Header {
    pub(super) fn parse(bytes: &[u8], base: u64) -> Result<Header, ImageError> {
        let length = bytes.len() as u64;
        if bytes.get(..4) != Some(b"\x7fELF") {
            return Err(ImageError::NotElf);
        }
        let truncated = |what, start, end| ImageError::Truncated { what, start, end, length };
        match bytes.get(4..6) {
            Some([2, 1]) => {}
            Some([1, _]) => return Err(ImageError::Elf32),
            Some([2, 2]) => return Err(ImageError::BigEndian),
            Some(_) => return Err(ImageError::NotElf),
            None => return Err(truncated("the ELF header", 0, 64)),
        }
        if bytes.len() < 64 {
            return Err(truncated("the ELF header", 0, 64));
        }
        let half = |offset| u16_at(bytes, offset).expect("within the 64-byte header");
        let word = |offset| u64_at(bytes, offset).expect("within the 64-byte header");
        let machine = half(18);
        if machine != 62 {
            return Err(ImageError::Machine { machine, name: machine_name(machine) });
        }
        let kind = match half(16) {
            2 => ImageKind::Fixed,
            3 => ImageKind::Relocatable,
            kind => return Err(ImageError::Type { kind }),
        };
        if kind == ImageKind::Fixed && base != 0 {
            return Err(ImageError::FixedAddress { base });
        }
        let programs = program_headers(bytes, word(32), half(54), half(56))?;
        let sections = section_headers(bytes, word(40), half(58), half(60));
        let eh_frame_section = section_named(".eh_frame", &sections, half(62), bytes).map(|s| s.address);
        Ok(Header { base, kind, entry: word(24), programs, sections, eh_frame_section })
    }

    /// Copies the segments to their guest addresses.
    pub(super) fn place(&self, bytes: &[u8], base: u64) -> Result<Image, ImageError> {
        let mut segments = Vec::new();
        let mut total = 0u64;
        for header in self.programs.iter().filter(|h| h.kind == PT_LOAD && (h.memory_size | h.file_size) != 0) {
            let segment = place_segment(bytes, base, header)?;
            total += segment.bytes.len() as u64;
            if total > 2 * bytes.len() as u64 {
                return Err(ImageError::Repeated { total, length: bytes.len() as u64 });
            }
            segments.push(segment);
        }
        segments.sort_by_key(|s| s.start);
        for pair in segments.windows(2) {
            let first_end = pair[0].start + pair[0].memory_size;
            if first_end > pair[1].start {
                return Err(ImageError::Overlap { first: pair[0].start, first_end, second: pair[1].start });
            }
        }
        if segments.is_empty() {
            return Err(ImageError::NoSegments);
        }
        let range = |h: &ProgramHeader| {
            let start = base.wrapping_add(h.address);
            (start, start.saturating_add(h.memory_size))
        };
        let mut image = Image {
            language: Language::of(bytes),
            base,
            kind: self.kind,
            entry: None,
            segments,
            relro: self.programs.iter().filter(|h| h.kind == PT_GNU_RELRO).map(range).collect(),
            symbols: Vec::new(),
            frames: Vec::new(),
            init_fini: Vec::new(),
            relocation_targets: Vec::new(),
            imports: Vec::new(),
            descriptors: Vec::new(),
            open_words: Vec::new(),
            lazy_entries: Vec::new(),
            interpreter: None,
            dynamic: DynamicFacts::default(),
        };
        let entry = base.wrapping_add(self.entry);
        image.entry = (self.entry != 0 && image.is_code(entry)).then_some(entry);
        image.interpreter = self.first(PT_INTERP).map(|h| image.string_at(base.wrapping_add(h.address)));
        Ok(image)
    }

    fn first(&self, kind: u32) -> Option<&ProgramHeader> {
        self.programs.iter().find(|h| h.kind == kind)
    }

    /// Guest address of .eh_frame_hdr.
    pub(super) fn eh_frame_header(&self) -> Option<u64> {
        Some(self.base.wrapping_add(self.first(PT_GNU_EH_FRAME)?.address))
    }

    pub(super) fn dynamic_tables(&self, image: &Image) -> Result<DynamicTables, ImageError> {
        let mut tables = DynamicTables { base: image.base, entries: Vec::new() };
        let Some(header) = self.first(PT_DYNAMIC) else { return Ok(tables) };
        let address = image.base.wrapping_add(header.address);
        let size = header.file_size;
        let outside = || ImageError::Table { what: "dynamic section", address, size };
        let bytes = image.bytes(address, usize::try_from(size).map_err(|_| outside())?).ok_or_else(outside)?;
        for entry in bytes.chunks_exact(16) {
            let tag = u64_at(entry, 0).expect("16-byte chunk");
            if tag == 0 {
                break;
            }
            tables.entries.push((tag, u64_at(entry, 8).expect("16-byte chunk")));
        }
        Ok(tables)
    }
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        3 => "i386",
        40 => "arm",
        183 => "aarch64",
        243 => "riscv",
        21 => "ppc64",
        22 => "s390x",
        _ => "unknown",
    }
}

fn program_headers(bytes: &[u8], offset: u64, size: u16, count: u16) -> Result<Vec<ProgramHeader>, ImageError> {
    if count > MAX_HEADERS {
        return Err(ImageError::TooManyHeaders { count });
    }
    if count != 0 && size != 56 {
        return Err(ImageError::HeaderSize { size });
    }
    let length = bytes.len() as u64;
    let end = offset.saturating_add(u64::from(count) * 56);
    if end > length {
        return Err(ImageError::Truncated { what: "the program header table", start: offset, end, length });
    }
    Ok(bytes[offset as usize..end as usize]
        .chunks_exact(56)
        .map(|b| {
            let word = |o| u64_at(b, o).expect("56-byte chunk");
            let half = |o| u32_at(b, o).expect("56-byte chunk");
            ProgramHeader { kind: half(0), flags: half(4), offset: word(8), address: word(16), file_size: word(32), memory_size: word(40) }
        })
        .collect())
}

/// Sections are a bonus: whatever is damaged reads as absent.
fn section_headers(bytes: &[u8], offset: u64, size: u16, count: u16) -> Vec<Section> {
    if size != 64 || offset == 0 {
        return Vec::new();
    }
    let Some(table) = usize::try_from(offset).ok().and_then(|o| bytes.get(o..)) else { return Vec::new() };
    table
        .chunks_exact(64)
        .take(count as usize)
        .map(|b| {
            let word = |o| u64_at(b, o).expect("64-byte chunk");
            let half = |o| u32_at(b, o).expect("64-byte chunk");
            Section { name: half(0), kind: half(4), address: word(16), offset: word(24), size: word(32), link: half(40) }
        })
        .collect()
}

fn section_named<'s>(wanted: &str, sections: &'s [Section], names: u16, bytes: &[u8]) -> Option<&'s Section> {
    let names = sections.get(names as usize)?;
    sections.iter().find(|s| {
        let start = names.offset.saturating_add(u64::from(s.name)) as usize;
        bytes.get(start..).and_then(|b| b.get(..wanted.len() + 1)).is_some_and(|n| &n[..wanted.len()] == wanted.as_bytes() && n[wanted.len()] == 0)
    })
}

fn place_segment(bytes: &[u8], base: u64, header: &ProgramHeader) -> Result<Segment, ImageError> {
    let &ProgramHeader { offset, address, file_size, memory_size, flags, .. } = header;
    if file_size > memory_size {
        return Err(ImageError::FileSize { address, file_size, memory_size });
    }
    let execute = flags & 1 != 0;
    let limit = if execute { CODE_LIMIT } else { GUEST_LIMIT };
    let start = base.checked_add(address);
    let Some(start) = start.filter(|s| s.checked_add(memory_size).is_some_and(|end| end <= limit)) else {
        return Err(ImageError::AddressSpace { address: base.saturating_add(address), size: memory_size, limit });
    };
    let end = offset.saturating_add(file_size);
    let length = bytes.len() as u64;
    if end > length {
        return Err(ImageError::Truncated { what: "a segment", start: offset, end, length });
    }
    Ok(Segment { start, bytes: bytes[offset as usize..end as usize].to_vec(), memory_size, file_offset: offset, read: flags & 4 != 0, write: flags & 2 != 0, execute })
}

/// What the dynamic section says about the object as a whole; the library's name and what it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DynamicFacts {
    pub present: bool,
    pub soname: Option<String>,
    pub needed: Vec<String>,
    pub rpath: Option<String>,
    pub runpath: Option<String>,
    /// DT_FLAGS (DF_*).
    pub flags: u64,
    /// DT_FLAGS_1 (DF_1_*).
    pub flags_1: u64,
    /// DT_TEXTREL or DF_TEXTREL: relocations change code, so lifted code would not be what runs.
    pub text_relocations: bool,
}

/// The dynamic section, tag by tag.
pub(super) struct DynamicTables {
    base: u64,
    entries: Vec<(u64, u64)>,
}

impl DynamicTables {
    pub(super) fn value(&self, tag: u64) -> Option<u64> {
        self.entries.iter().find(|e| e.0 == tag).map(|e| e.1)
    }

    /// A tag whose value is an address, as a guest address.
    pub(super) fn address(&self, tag: u64) -> Option<u64> {
        Some(self.base.wrapping_add(self.value(tag)?))
    }

    /// The bytes of a table given by an address tag and a size tag.
    pub(super) fn table<'i>(&self, image: &'i Image, what: &'static str, address: u64, size: u64) -> Result<&'i [u8], ImageError> {
        let (Some(address), Some(size)) = (self.address(address), self.value(size)) else { return Ok(&[]) };
        if size == 0 {
            return Ok(&[]);
        }
        usize::try_from(size).ok().and_then(|s| image.bytes(address, s)).ok_or(ImageError::Table { what, address, size })
    }

    pub(super) fn init_fini(&self, image: &Image) -> Vec<u64> {
        let mut found: Vec<u64> = [12, 13].into_iter().filter_map(|tag| self.address(tag)).collect();
        for (address, size) in [(25, 27), (26, 28), (32, 33)] {
            let words = self.table(image, "constructor array", address, size).unwrap_or(&[]);
            found.extend(words.chunks_exact(8).filter_map(|w| u64_at(w, 0)));
        }
        found.retain(|&a| image.is_code(a));
        found
    }

    pub(super) fn facts(&self, image: &Image) -> DynamicFacts {
        let strings = self.address(5);
        let string = |offset: u64| strings.map(|s| image.string_at(s.wrapping_add(offset)));
        let named = |tag| self.value(tag).and_then(string);
        let flags = self.value(30).unwrap_or(0);
        DynamicFacts {
            present: !self.entries.is_empty(),
            soname: named(14),
            needed: self.entries.iter().filter(|e| e.0 == 1).filter_map(|e| string(e.1)).collect(),
            rpath: named(15),
            runpath: named(29),
            flags,
            flags_1: self.value(0x6fff_fffb).unwrap_or(0),
            text_relocations: self.value(22).is_some() || flags & 4 != 0,
        }
    }
}
