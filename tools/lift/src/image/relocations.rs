//! Relocations applied to the analysis view.
//!
//! Owns RELATIVE (RELA and RELR), 64, GLOB_DAT, JUMP_SLOT and IRELATIVE as far as they stay inside this object. Refuses to resolve
//! symbols of other objects. The fact a newcomer gets wrong: an IRELATIVE place gets the *result* of its resolver, so the place is left
//! alone and only the resolver is noted as code; a lazy JUMP_SLOT place points back into the PLT; and a symbol of this object need not be
//! the one that ld.so finds, so what is written for it says where code is, not what the guest will read (`Image::open_words`).

use super::header::{DynamicTables, ImageError, u64_at};
use super::symbols::DynamicSymbols;
use super::{Image, Import};

const R_64: u64 = 1;
const R_GLOB_DAT: u64 = 6;
const R_JUMP_SLOT: u64 = 7;
const R_RELATIVE: u64 = 8;
const R_TLSDESC: u64 = 36;
const R_IRELATIVE: u64 = 37;

/// Names of imports kept, in all: many relocations may name one long symbol.
const MAX_IMPORT_BYTES: usize = 16 << 20;

pub(super) fn apply(image: &mut Image, tables: &DynamicTables, symbols: &DynamicSymbols) -> Result<(), ImageError> {
    let mut targets = Vec::new();
    let mut name_bytes = 0;
    for (what, address, size) in [("relocation table (DT_RELA)", 7, 8), ("relocation table (DT_JMPREL)", 23, 2)] {
        let table = tables.table(image, what, address, size)?.to_vec();
        for entry in table.chunks_exact(24) {
            let word = |offset| u64_at(entry, offset).expect("24-byte chunk");
            relocate(image, word(0), word(8), word(16), symbols, &mut targets);
            if name_bytes < MAX_IMPORT_BYTES
                && let Some(import) = import(image, word(0), word(8), symbols)
            {
                name_bytes += import.name.len();
                image.imports.push(import);
            }
        }
    }
    let table = tables.table(image, "relocation table (DT_RELR)", 36, 35)?.to_vec();
    relative_relocations(image, &table, &mut targets);
    image.imports.sort_by_key(|i| i.place);
    image.open_words.sort_unstable();
    image.relocation_targets = code_addresses(image, targets);
    let lazy = std::mem::take(&mut image.lazy_entries);
    image.lazy_entries = code_addresses(image, lazy);
    Ok(())
}

/// Those in executable segments, sorted, each once.
fn code_addresses(image: &Image, mut addresses: Vec<u64>) -> Vec<u64> {
    addresses.retain(|&a| image.is_code(a));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn relocate(image: &mut Image, offset: u64, info: u64, addend: u64, symbols: &DynamicSymbols, targets: &mut Vec<u64>) {
    let place = image.base.wrapping_add(offset);
    let symbol = || symbols.symbols.get((info >> 32) as usize).filter(|s| s.is_local_address()).map(|s| s.value);
    if info & 0xffff_ffff != R_RELATIVE {
        image.open_words.push(place);
    }
    let value = match info & 0xffff_ffff {
        R_RELATIVE => Some(addend),
        R_64 => symbol().map(|v| v.wrapping_add(addend)),
        R_GLOB_DAT => symbol(),
        R_JUMP_SLOT => symbol().or_else(|| {
            let lazy = image.u64_at(place).filter(|&v| v != 0)?;
            image.lazy_entries.push(image.base.wrapping_add(lazy));
            Some(lazy)
        }),
        R_TLSDESC => {
            image.descriptors.push(place);
            None
        }
        R_IRELATIVE => {
            targets.push(image.base.wrapping_add(addend));
            None
        }
        _ => None,
    };
    if let Some(value) = value {
        let value = image.base.wrapping_add(value);
        if image.write_u64(place, value) {
            targets.push(value);
        }
    }
}

fn import(image: &Image, offset: u64, info: u64, symbols: &DynamicSymbols) -> Option<Import> {
    let data = match info & 0xffff_ffff {
        R_64 => true,
        R_GLOB_DAT | R_JUMP_SLOT => false,
        _ => return None,
    };
    let name = symbols.name(image, (info >> 32) as usize)?;
    Some(Import { place: image.base.wrapping_add(offset), name, data })
}

/// RELR: an even word is an address, an odd word a bitmap over the 63 words that follow the last one.
fn relative_relocations(image: &mut Image, table: &[u8], targets: &mut Vec<u64>) {
    let mut next = 0u64;
    for entry in table.chunks_exact(8) {
        let word = u64_at(entry, 0).expect("8-byte chunk");
        if word & 1 == 0 {
            add_base(image, word, targets);
            next = word.wrapping_add(8);
        } else {
            for bit in 0..63u64 {
                if word >> (bit + 1) & 1 != 0 {
                    add_base(image, next.wrapping_add(bit * 8), targets);
                }
            }
            next = next.wrapping_add(63 * 8);
        }
    }
}

fn add_base(image: &mut Image, offset: u64, targets: &mut Vec<u64>) {
    let place = image.base.wrapping_add(offset);
    if let Some(value) = image.u64_at(place) {
        let value = value.wrapping_add(image.base);
        image.write_u64(place, value);
        targets.push(value);
    }
}
