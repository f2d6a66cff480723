//! The two symbol tables.
//!
//! Owns reading names, addresses and the size of the dynamic table (which the file states only through its hash tables). Refuses to own
//! what a symbol means for discovery. The fact a newcomer gets wrong: the dynamic table has no count anywhere in the dynamic section.

use super::header::{DynamicTables, Header, u16_at, u32_at, u64_at};
use super::{Image, Symbol};

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
/// A name longer than this is not a name.
const MAX_NAME: usize = 4096;

/// A symbol as written in the file; `value` is not yet a guest address.
#[derive(Clone, Copy)]
pub(super) struct RawSymbol {
    pub(super) name: u32,
    info: u8,
    section: u16,
    pub(super) value: u64,
    size: u64,
}

impl RawSymbol {
    fn read(bytes: &[u8]) -> Option<RawSymbol> {
        Some(RawSymbol { name: u32_at(bytes, 0)?, info: *bytes.get(4)?, section: u16_at(bytes, 6)?, value: u64_at(bytes, 8)?, size: u64_at(bytes, 16)? })
    }

    /// Defined in this object at an address (not absolute, not thread-local).
    pub(super) fn is_local_address(&self) -> bool {
        self.section != 0 && self.section < 0xff00 && self.info & 15 != 6
    }
}

/// The dynamic symbols with the address of their string table.
pub(super) struct DynamicSymbols {
    pub(super) symbols: Vec<RawSymbol>,
    strings: u64,
}

impl DynamicSymbols {
    pub(super) fn name(&self, image: &Image, index: usize) -> Option<String> {
        let name = string(image.rest(self.strings), self.symbols.get(index)?.name as usize);
        (!name.is_empty()).then_some(name)
    }
}

/// A NUL-terminated string; lossy, and cut where no sane name would end.
pub(super) fn string(bytes: &[u8], offset: usize) -> String {
    let rest = bytes.get(offset..).unwrap_or(&[]);
    let end = rest.iter().take(MAX_NAME).position(|&b| b == 0).unwrap_or(rest.len().min(MAX_NAME));
    String::from_utf8_lossy(&rest[..end]).into_owned()
}

pub(super) fn dynamic(header: &Header, tables: &DynamicTables, image: &Image) -> DynamicSymbols {
    let mut found = DynamicSymbols { symbols: Vec::new(), strings: tables.address(5).unwrap_or(0) };
    let Some(address) = tables.address(6) else { return found };
    let from_sections = header.sections.iter().find(|s| s.kind == SHT_DYNSYM && image.base.wrapping_add(s.address) == address).map(|s| s.size / 24);
    let count = from_sections.or_else(|| sysv_hash_count(tables, image)).or_else(|| gnu_hash_count(tables, image)).unwrap_or(0);
    found.symbols = image.rest(address).chunks_exact(24).take(count.min(usize::MAX as u64) as usize).filter_map(RawSymbol::read).collect();
    found
}

/// DT_HASH: nchain equals the number of symbols.
fn sysv_hash_count(tables: &DynamicTables, image: &Image) -> Option<u64> {
    image.u32_at(tables.address(4)?.checked_add(4)?).map(u64::from)
}

/// DT_GNU_HASH: the highest bucket start, then on to the end of its chain.
fn gnu_hash_count(tables: &DynamicTables, image: &Image) -> Option<u64> {
    let table = image.rest(tables.address(0x6fff_fef5)?);
    let (buckets, offset, bloom) = (u32_at(table, 0)? as usize, u32_at(table, 4)?, u32_at(table, 8)? as usize);
    let buckets_at = 16usize.checked_add(bloom.checked_mul(8)?)?;
    let chains_at = buckets_at.checked_add(buckets.checked_mul(4)?)?;
    let highest = table.get(buckets_at..chains_at)?.chunks_exact(4).filter_map(|b| u32_at(b, 0)).max()?;
    if highest < offset {
        return Some(u64::from(offset));
    }
    let chain = table.get(chains_at..)?.get((highest - offset) as usize * 4..)?;
    let length = chain.chunks_exact(4).position(|b| b[0] & 1 != 0)? as u64;
    Some(u64::from(highest) + length + 1)
}

/// Every symbol in executable segments from both tables, by address; one entry per name and address.
pub(super) fn code_symbols(header: &Header, dynamic: &DynamicSymbols, image: &Image, bytes: &[u8]) -> Vec<Symbol> {
    let mut found = Vec::new();
    let mut name_bytes = 2 * bytes.len();
    let names = image.rest(dynamic.strings);
    for raw in &dynamic.symbols {
        push(&mut found, raw, names, true, image, &mut name_bytes);
    }
    for section in header.sections.iter().filter(|s| s.kind == SHT_SYMTAB) {
        let Some(table) = file_range(bytes, section.offset, section.size) else { continue };
        let strings = header.sections.get(section.link as usize).and_then(|s| file_range(bytes, s.offset, s.size)).unwrap_or(&[]);
        for raw in table.chunks_exact(24).filter_map(RawSymbol::read) {
            push(&mut found, &raw, strings, false, image, &mut name_bytes);
        }
    }
    found.sort_by(|a, b| (a.address, &a.name, !a.exported).cmp(&(b.address, &b.name, !b.exported)));
    found.dedup_by(|later, first| later.address == first.address && later.name == first.name);
    found
}

fn file_range(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    bytes.get(usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(size)?).ok()?)
}

fn push(found: &mut Vec<Symbol>, raw: &RawSymbol, names: &[u8], exported: bool, image: &Image, name_bytes: &mut usize) {
    let address = image.base.wrapping_add(raw.value);
    let kind = raw.info & 15;
    // STT_NOTYPE, STT_FUNC and STT_GNU_IFUNC can name code; sections, files, objects and thread-locals cannot.
    if !raw.is_local_address() || !matches!(kind, 0 | STT_FUNC | STT_GNU_IFUNC) || !image.is_code(address) {
        return;
    }
    // Many symbols may share one long name; a damaged file is not worth more memory than twice its size.
    let name = if *name_bytes == 0 { String::new() } else { string(names, raw.name as usize) };
    *name_bytes = name_bytes.saturating_sub(name.len());
    found.push(Symbol { address, size: raw.size, name, function: kind != 0, global: raw.info >> 4 != 0, exported: exported && raw.info >> 4 != 0 });
}
