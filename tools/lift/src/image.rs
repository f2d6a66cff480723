//! One ELF64 x86-64 file, placed at a guest base address: what the guest will find in memory, and every fact that tells where code is.
//!
//! Owns the parsing of hostile files and the relocated *analysis view*. Refuses to own decoding (see `discover`) and the mapping that
//! the guest sees: relocations are applied here only so that jump tables and pointers can be read; the guest's own ld.so does it at run time.
//! The fact a newcomer gets wrong: every address in here is a guest address (`p_vaddr + base`), also those read from tables in the file.

mod frames;
mod header;
mod relocations;
mod symbols;

use crate::language::Language;
pub use header::{DynamicFacts, ImageError};

/// Guest addresses are 32 bits wide.
const GUEST_LIMIT: u64 = 1 << 32;

/// A PT_LOAD segment at its guest address.
#[derive(Clone, Debug)]
pub struct Segment {
    pub start: u64,
    /// The file's bytes with relocations applied; the rest up to `memory_size` is zero.
    pub bytes: Vec<u8>,
    pub memory_size: u64,
    pub file_offset: u64,
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

impl Segment {
    /// End of the bytes that come from the file.
    pub fn file_end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A symbol defined in an executable segment.
#[derive(Clone, Debug)]
pub struct Symbol {
    pub address: u64,
    pub size: u64,
    pub name: String,
    /// STT_FUNC or STT_GNU_IFUNC; otherwise an assembly label.
    pub function: bool,
    pub global: bool,
    /// In the dynamic symbol table: other objects can call it.
    pub exported: bool,
}

/// A call frame description: compilers make one for every function and one for its cold part.
#[derive(Clone, Debug)]
pub struct Frame {
    pub start: u64,
    pub end: u64,
    /// The CFA at `start` is not rsp+8: this is the cold part of a function, entered by a jump with the frame set up.
    pub mid_frame: bool,
    /// Exceptions may end a call here in a handler of this frame: it has language-specific data, whether or not its landing pads could be read.
    pub catches: bool,
    pub landing_pads: Vec<u64>,
}

/// A word that ld.so fills with the address of a symbol, whoever defines it.
#[derive(Clone, Debug)]
pub struct Import {
    pub place: u64,
    pub name: String,
    /// The word is data (a table of functions), not an entry of the object's global offset table.
    pub data: bool,
}

/// How the file wants to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// ET_EXEC: keeps its own addresses, base 0.
    Fixed,
    /// ET_DYN: PIE or shared object.
    Relocatable,
}

/// A parsed file at `base`.
#[derive(Clone, Debug)]
pub struct Image {
    pub base: u64,
    pub kind: ImageKind,
    /// Set if its functions do not keep the System V convention.
    pub language: Option<Language>,
    /// None for shared objects without one.
    pub entry: Option<u64>,
    /// PT_LOAD segments by address, not overlapping.
    pub segments: Vec<Segment>,
    /// PT_GNU_RELRO: read-only after relocation.
    pub relro: Vec<(u64, u64)>,
    /// Sorted by address.
    pub symbols: Vec<Symbol>,
    /// Sorted by address, not overlapping.
    pub frames: Vec<Frame>,
    /// Functions that ld.so or libc calls: DT_INIT, DT_INIT_ARRAY, DT_PREINIT_ARRAY, DT_FINI, DT_FINI_ARRAY.
    pub init_fini: Vec<u64>,
    /// Addresses in executable segments that a relocation stores somewhere, or calls (IRELATIVE resolvers).
    pub relocation_targets: Vec<u64>,
    /// Words whose value only ld.so knows: of symbols, which another object may define first, and what resolvers and thread-local storage give. Sorted.
    pub open_words: Vec<u64>,
    /// Where the places of JUMP_SLOT relocations lead until ld.so has found their symbol.
    pub lazy_entries: Vec<u64>,
    /// By place, as far as the names have sane lengths.
    pub imports: Vec<Import>,
    /// TLS descriptors: pairs of words that ld.so fills with a function and its argument.
    pub descriptors: Vec<u64>,
    pub interpreter: Option<String>,
    pub dynamic: DynamicFacts,
}

impl Image {
    /// Parses `bytes` as placed at guest address `base`, which must be 0 for a non-PIE executable.
    pub fn parse(bytes: &[u8], base: u64) -> Result<Image, ImageError> {
        let header = header::Header::parse(bytes, base)?;
        let mut image = header.place(bytes, base)?;
        let tables = header.dynamic_tables(&image)?;
        let dynamic_symbols = symbols::dynamic(&header, &tables, &image);
        relocations::apply(&mut image, &tables, &dynamic_symbols)?;
        image.symbols = symbols::code_symbols(&header, &dynamic_symbols, &image, bytes);
        image.frames = frames::read(&header, &image);
        image.init_fini = tables.init_fini(&image);
        image.dynamic = tables.facts(&image);
        Ok(image)
    }

    /// The segment that holds `address` in its file part.
    pub fn segment(&self, address: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.start <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (address < segment.file_end()).then_some(segment)
    }

    /// The bytes from `address` to the end of the segment's file part.
    pub fn rest(&self, address: u64) -> &[u8] {
        self.segment(address).map_or(&[], |s| &s.bytes[(address - s.start) as usize..])
    }

    pub fn bytes(&self, address: u64, count: usize) -> Option<&[u8]> {
        self.rest(address).get(..count)
    }

    pub fn u32_at(&self, address: u64) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(address, 4)?.try_into().ok()?))
    }

    pub fn u64_at(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(address, 8)?.try_into().ok()?))
    }

    /// Whether the guest may execute the byte at `address`.
    pub fn is_code(&self, address: u64) -> bool {
        self.segment(address).is_some_and(|s| s.execute)
    }

    /// Whether the `count` bytes at `address` are what the guest finds there, and nothing can change them once the program runs.
    pub fn is_constant(&self, address: u64, count: u64) -> bool {
        let fixed = self.segment(address).is_some_and(|s| !s.write) || self.relro.iter().any(|&(start, end)| start <= address && address < end);
        let open = self.open_words.partition_point(|&w| w.saturating_add(7) < address);
        fixed && self.open_words.get(open).is_none_or(|&w| w >= address.saturating_add(count))
    }

    /// The frame whose range holds `address`, as an index into `frames`.
    pub fn frame_index(&self, address: u64) -> Option<usize> {
        let after = self.frames.partition_point(|f| f.start <= address);
        let index = after.checked_sub(1)?;
        (address < self.frames[index].end).then_some(index)
    }

    fn write_u64(&mut self, address: u64, value: u64) -> bool {
        let after = self.segments.partition_point(|s| s.start <= address);
        let Some(segment) = after.checked_sub(1).and_then(|i| self.segments.get_mut(i)) else { return false };
        let offset = (address - segment.start) as usize;
        let Some(place) = segment.bytes.get_mut(offset..).and_then(|b| b.get_mut(..8)) else { return false };
        place.copy_from_slice(&value.to_le_bytes());
        true
    }

    fn string_at(&self, address: u64) -> String {
        symbols::string(self.rest(address), 0)
    }
}
