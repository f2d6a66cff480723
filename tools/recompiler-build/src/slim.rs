//! Takes out of LLVM's ELF image what a run never uses but would pay for at every start and fork: the unwind tables' registration and the page of the personality pointer.
//!
//! Owns three changes of bytes in place; nothing moves. Lifted frames are never unwound: faults and tagged exits cut the whole native stack (`loader/src/native.rs`). The fact a newcomer gets wrong: the
//! relocation of the personality pointer stays, because wasmer wants every relocation's place mapped; it is pointed at the dynamic section, which nobody reads at run time.

use crate::link::LinkError;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader, Rela, SectionHeader};
use object::{Endianness, Object, ObjectSection, ObjectSegment, elf};

const PERSONALITY: &str = "wasmer_eh_personality";

/// One change: where in the file, and to what.
type Patch = (usize, Vec<u8>);

/// The image without its unwind registration and with one mapping less. An image without a page for nothing but the personality pointer keeps its pages.
pub fn image(mut bytes: Vec<u8>) -> Result<Vec<u8>, LinkError> {
    let patches = patches(&bytes).map_err(|e| LinkError::Artifact(e.to_string()))?;
    for (at, new) in patches {
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    Ok(bytes)
}

fn patches(bytes: &[u8]) -> object::Result<Vec<Patch>> {
    let file: ElfFile64<'_, Endianness> = ElfFile64::parse(bytes)?;
    let endian = file.endian();
    let mut patches = personality(&file, bytes)?;
    // wasmer registers what has this name; nothing else that runs looks at names of sections.
    let name = b"\0.eh_frame\0";
    let index = file.elf_header().shstrndx(endian, bytes)?;
    let names = file.elf_section_table().section(object::SectionIndex(index as usize))?;
    if let Some(i) = names.data(endian, bytes)?.windows(name.len()).position(|w| w == name) {
        patches.push((names.sh_offset(endian) as usize + i + 2, b"no".to_vec()));
    }
    Ok(patches)
}

/// Unmaps the last segment if it holds the personality pointer alone.
fn personality(file: &ElfFile64<'_, Endianness>, bytes: &[u8]) -> object::Result<Vec<Patch>> {
    let endian = file.endian();
    let (Some(dynamic), Some(data), Some(last)) = (file.section_by_name(".dynamic"), file.section_by_name(".data"), file.segments().last()) else { return Ok(Vec::new()) };
    let alone = last.address() == data.address() && last.size() == 8 && data.size() == 8;
    if !alone {
        return Ok(Vec::new());
    }
    let mut patches = Vec::new();
    for section in file.elf_section_table().iter() {
        let Some((relocations, link)) = section.rela(endian, bytes)? else { continue };
        let symbols = file.elf_section_table().symbol_table_by_index(endian, bytes, link)?;
        let at = section.sh_offset(endian) as usize;
        for (i, r) in relocations.iter().enumerate() {
            let Some(symbol) = r.symbol(endian, false) else { continue };
            let name = symbols.symbol_name(endian, symbols.symbol(symbol)?)?;
            if r.r_offset(endian) != data.address() || name != PERSONALITY.as_bytes() {
                continue;
            }
            patches.push((at + i * size_of_val(r), dynamic.address().to_le_bytes().to_vec()));
        }
    }
    let header = file.elf_program_headers().iter().rposition(|h| h.p_type(endian) == elf::PT_LOAD);
    if let (1, Some(i)) = (patches.len(), header) {
        let at = file.elf_header().e_phoff(endian) as usize + i * size_of_val(&file.elf_program_headers()[i]);
        patches.push((at, 0u32.to_le_bytes().to_vec()));
        return Ok(patches);
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::compile::{Job, compile};
    use crate::processor::Processor;
    use policy::manifest::Form;
    use std::num::NonZero;

    /// `(func)` as a module.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";

    #[test]
    fn the_structured_image_registers_no_unwind_tables_and_maps_no_page_for_the_personality() {
        let cache = tempfile::tempdir().unwrap();
        let job = Job { name: "m", form: Form::Structured, module: MODULE };
        let bytes = compile(&Cache::open(Some(cache.path())).unwrap(), &job, &Processor::native(), NonZero::<usize>::MIN).unwrap().bytes;
        let file = object::File::parse(&bytes[..]).unwrap();
        assert!(file.section_by_name(".eh_frame").is_none());
        assert!(file.section_by_name(".no_frame").is_some());
        let mapped: Vec<_> = file.segments().map(|s| s.address()..s.address() + s.size()).collect();
        let pointer = file.section_by_name(".data").unwrap().address();
        assert!(!mapped.iter().any(|m| m.contains(&pointer)), "{pointer:#x} in {mapped:x?}");
        for (at, _) in file.dynamic_relocations().unwrap() {
            assert!(mapped.iter().any(|m| m.contains(&at)), "the relocation of {at:#x} has no place in {mapped:x?}");
        }
    }
}
