//! The resumable form's native code as an ELF image that is mapped, not deserialised.
//!
//! Owns the link of a Cranelift artifact (functions, trampolines, relocations) into one image, in the layout wasmer gives its own LLVM images, plus the block table in a segment of ours. Knows nothing
//! of caches or manifests. The fact a newcomer gets wrong: nothing in the text needs a relocation at load; what code refers to outside itself goes through a table in the one writable page, so
//! every process shares the text with the page cache, and fork copies no page tables for it.

use crate::elf_image::{Dynamic, Image};
use syscalls::abi::section::{BLOCK_TABLE_MAGIC, BLOCKS};
use thiserror::Error;
use wasmer_compiler::serialize::{MetadataHeader, RkyvSerializableCompilation, SerializableCompilation, SerializableModule};
use wasmer_compiler::types::relocation::{Relocation, RelocationKind, RelocationTarget};
use wasmer_compiler::{ArtifactBuild, LIBCALLS_ELF};

#[derive(Debug, Error)]
pub enum LinkError {
    #[error("the compiler's output cannot be read back: {0}")]
    Artifact(String),
    #[error("relocation {kind:?} against {target:?} has no place in an image: please report this")]
    Relocation { kind: RelocationKind, target: RelocationTarget },
    #[error("code at {at:#x} loads an address in a way that is not known: please report this")]
    AddressLoad { at: usize },
    #[error("section {BLOCKS} is not a table of blocks in order of their addresses: rebuild the shard")]
    Blocks,
    #[error("the image has no place for {bytes} bytes of code")]
    TooLarge { bytes: usize },
}

/// The image of a serialised Cranelift artifact.
pub fn image(artifact: &[u8]) -> Result<Vec<u8>, LinkError> {
    let unreadable = |e: &dyn std::fmt::Display| LinkError::Artifact(e.to_string());
    // A copy of its own: the archive wants its first byte aligned, as allocations are.
    let body = artifact.get(ArtifactBuild::MAGIC_HEADER.len() + MetadataHeader::LEN..).ok_or_else(|| unreadable(&"too short"))?.to_vec();
    let archive = SerializableModule::archive_from_slice_checked(&body).map_err(|e| unreadable(&e))?;
    let mut module = SerializableModule::deserialize_from_archive(archive).map_err(|e| unreadable(&e))?;
    let placeholder = SerializableCompilation::Elf(Vec::new());
    let SerializableCompilation::Rkyv(code) = std::mem::replace(&mut module.compilation, placeholder) else {
        return Err(unreadable(&"it is an image already"));
    };
    let table = block_table(&take_blocks(&mut module))?;
    let linked = Linker::default().link(&code)?;
    let info = module.serialize().map_err(|e| unreadable(&e))?;
    let image = Image { text: &linked.text, slots: &linked.slots, offsets: &linked.offsets, module_info: &info, table: &table };
    Ok(image.write())
}

/// The block section, taken out of what wasmer would copy at every start; names of functions and exports go as well.
fn take_blocks(module: &mut SerializableModule) -> Vec<u8> {
    let info = std::sync::Arc::make_mut(&mut module.compile_info.module);
    let blocks = info.custom_sections.get(BLOCKS).map(|&i| info.custom_sections_data[i].to_vec());
    info.custom_sections.clear();
    info.custom_sections_data.clear();
    info.function_names.clear();
    blocks.unwrap_or_default()
}

/// Header (magic, number of functions, number of blocks, zero) and the blocks: what the loader searches in place.
fn block_table(blocks: &[u8]) -> Result<Vec<u8>, LinkError> {
    let words: Vec<u32> = blocks.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    if !blocks.len().is_multiple_of(12) || words.chunks_exact(3).zip(words.chunks_exact(3).skip(1)).any(|(a, b)| a[0] >= b[0]) {
        return Err(LinkError::Blocks);
    }
    let functions = words.chunks_exact(3).map(|b| b[1] + 1).max().unwrap_or(0);
    let header = [BLOCK_TABLE_MAGIC, functions, (words.len() / 3) as u32, 0];
    Ok(header.iter().flat_map(|w| w.to_le_bytes()).chain(blocks.iter().copied()).collect())
}

#[derive(Default)]
struct Linker {
    text: Vec<u8>,
    /// Text offsets in wasmer's order: functions, one trampoline per signature, one per import.
    offsets: Vec<u64>,
    slots: Vec<Dynamic>,
    /// Jumps through a slot, for calls of the runtime: (slot, text offset).
    stubs: Vec<(usize, usize)>,
    /// 32-bit places in the text that hold the distance to a slot: (place, slot).
    slot_references: Vec<(usize, usize)>,
}

/// Code of an x86-64 function starts at a multiple of this.
const ALIGN: usize = 16;

impl Linker {
    fn link(mut self, code: &RkyvSerializableCompilation) -> Result<Linker, LinkError> {
        let bodies = code.function_bodies.values().chain(code.function_call_trampolines.values()).chain(code.dynamic_function_trampolines.values());
        for body in bodies {
            self.align();
            self.offsets.push(self.text.len() as u64);
            self.text.extend(&body.body);
        }
        for ((_, relocations), at) in code.function_relocations.iter().zip(self.offsets.clone()) {
            for r in relocations {
                self.relocate(at as usize + r.offset as usize, r)?;
            }
        }
        self.align();
        // A displacement reaches 2 GiB; an image keeps far below it.
        if self.text.len() > 1 << 30 {
            return Err(LinkError::TooLarge { bytes: self.text.len() });
        }
        let slots = Image::slots_after(self.text.len());
        for (place, slot) in std::mem::take(&mut self.slot_references) {
            self.displace(place, (slots + 8 * slot) as i64, -4);
        }
        Ok(self)
    }

    fn align(&mut self) {
        // int3: nothing may run between functions.
        self.text.resize(self.text.len().next_multiple_of(ALIGN), 0xcc);
    }

    fn relocate(&mut self, place: usize, r: &Relocation) -> Result<(), LinkError> {
        let wrong = || LinkError::Relocation { kind: r.kind, target: r.reloc_target };
        match (r.kind, r.reloc_target) {
            (RelocationKind::PCRel4 | RelocationKind::X86CallPCRel4 | RelocationKind::X86CallPLTRel4, target) => {
                let target = match target {
                    RelocationTarget::LocalFunc(f) => self.function(f.as_u32()),
                    RelocationTarget::LibCall(_) => self.stub(target).ok_or_else(wrong)?,
                    _ => return Err(wrong()),
                };
                self.displace(place, target as i64, r.addend);
            }
            (RelocationKind::Abs8, target) if r.addend == 0 => {
                let slot = self.slot(target).ok_or_else(wrong)?;
                self.load_from_slot(place, slot)?;
            }
            (RelocationKind::X86GOTPCRel4, target) if r.addend == -4 => {
                let slot = self.slot(target).ok_or_else(wrong)?;
                self.slot_references.push((place, slot));
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn function(&self, index: u32) -> u64 {
        self.offsets[index as usize]
    }

    /// Writes the distance from `place` to `target`, both text offsets.
    fn displace(&mut self, place: usize, target: i64, addend: i64) {
        let distance = target + addend - place as i64;
        self.text[place..place + 4].copy_from_slice(&(distance as i32).to_le_bytes());
    }

    /// The slot that holds the address of `target` at run time.
    fn slot(&mut self, target: RelocationTarget) -> Option<usize> {
        let content = match target {
            RelocationTarget::LocalFunc(f) => Dynamic::Text(self.function(f.as_u32())),
            RelocationTarget::LibCall(call) => Dynamic::Symbol(LIBCALLS_ELF.entries().filter(|(_, c)| **c == call).map(|(name, _)| *name).min()?),
            _ => return None,
        };
        let known = self.slots.iter().position(|s| *s == content);
        Some(known.unwrap_or_else(|| {
            self.slots.push(content);
            self.slots.len() - 1
        }))
    }

    /// A jump to what a slot holds, in reach of every call.
    fn stub(&mut self, target: RelocationTarget) -> Option<u64> {
        let slot = self.slot(target)?;
        if let Some((_, at)) = self.stubs.iter().find(|(s, _)| *s == slot) {
            return Some(*at as u64);
        }
        self.align();
        let at = self.text.len();
        // jmp qword ptr [rip + distance to the slot]
        self.text.extend([0xff, 0x25, 0, 0, 0, 0]);
        self.slot_references.push((at + 2, slot));
        self.stubs.push((slot, at));
        Some(at as u64)
    }

    /// Turns `movabs register, address` (the address at `place`) into a load of the register from a slot, which is shorter.
    fn load_from_slot(&mut self, place: usize, slot: usize) -> Result<(), LinkError> {
        let start = place.checked_sub(2).ok_or(LinkError::AddressLoad { at: place })?;
        let (rex, opcode) = (self.text[start], self.text[start + 1]);
        if !matches!(rex, 0x48 | 0x49) || !(0xb8..=0xbf).contains(&opcode) {
            return Err(LinkError::AddressLoad { at: place });
        }
        // The register moves from opcode + REX.B to ModRM.reg + REX.R; a nop of three bytes fills the rest.
        let rex = 0x48 | (rex & 1) << 2;
        let modrm = (opcode & 7) << 3 | 5;
        self.text[start..start + 10].copy_from_slice(&[rex, 0x8b, modrm, 0, 0, 0, 0, 0x0f, 0x1f, 0x00]);
        self.slot_references.push((start + 3, slot));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment};
    use wasmer_compiler::types::function::FunctionBody;
    use wasmer_types::{LibCall, LocalFunctionIndex};

    fn body(bytes: &[u8]) -> FunctionBody {
        FunctionBody { body: bytes.to_vec(), unwind_info: None }
    }

    fn relocation(kind: RelocationKind, reloc_target: RelocationTarget, offset: u32, addend: i64) -> Relocation {
        Relocation { kind, reloc_target, offset, addend }
    }

    /// Functions with their relocations, linked.
    fn link(functions: &[(&[u8], Vec<Relocation>)]) -> Result<Linker, LinkError> {
        let mut code = RkyvSerializableCompilation::default();
        for (bytes, relocations) in functions {
            code.function_bodies.push(body(bytes));
            code.function_relocations.push(relocations.clone());
        }
        Linker::default().link(&code)
    }

    fn displacement(text: &[u8], at: usize) -> i64 {
        i64::from(i32::from_le_bytes(text[at..at + 4].try_into().unwrap()))
    }

    #[test]
    fn a_call_of_another_function_reaches_its_first_byte() {
        let call = [0xe8, 0, 0, 0, 0, 0xc3];
        let to_second = relocation(RelocationKind::X86CallPCRel4, RelocationTarget::LocalFunc(LocalFunctionIndex::from_u32(1)), 1, -4);
        let linked = link(&[(&call, vec![to_second]), (&[0xc3], vec![])]).unwrap();
        assert_eq!(linked.offsets, [0, 16]);
        assert_eq!(5 + displacement(&linked.text, 1), 16);
        assert_eq!(linked.text[6..16], [0xcc; 10], "nothing runs between functions");
    }

    #[test]
    fn a_call_of_the_runtime_jumps_through_a_slot_shared_by_all_callers() {
        let call = [0xe8, 0, 0, 0, 0, 0xc3];
        let r = || vec![relocation(RelocationKind::X86CallPCRel4, RelocationTarget::LibCall(LibCall::RaiseTrap), 1, -4)];
        let linked = link(&[(&call, r()), (&call, r())]).unwrap();
        let stub = (5 + displacement(&linked.text, 1)) as usize;
        assert_eq!(21 + displacement(&linked.text, 17), stub as i64);
        assert_eq!(linked.text[stub..stub + 2], [0xff, 0x25]);
        assert_eq!(stub as i64 + 6 + displacement(&linked.text, stub + 2), Image::slots_after(linked.text.len()) as i64);
        assert_eq!(linked.slots, [Dynamic::Symbol("wasmer_vm_raise_trap")]);
    }

    #[test]
    fn an_absolute_address_in_code_becomes_a_load_of_the_same_register() {
        // movabs r9, 0; movabs rcx, 0
        let code = [0x49, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0];
        let own = RelocationTarget::LocalFunc(LocalFunctionIndex::from_u32(0));
        let linked = link(&[(&code, vec![relocation(RelocationKind::Abs8, own, 2, 0), relocation(RelocationKind::Abs8, own, 12, 0)])]).unwrap();
        // mov r9, [rip + d]; nop; mov rcx, [rip + d]; nop
        assert_eq!((&linked.text[..3], &linked.text[7..10]), (&[0x4c, 0x8b, 0x0d][..], &[0x0f, 0x1f, 0][..]));
        assert_eq!(linked.text[10..13], [0x48, 0x8b, 0x0d]);
        let slots = Image::slots_after(linked.text.len()) as i64;
        assert_eq!((7 + displacement(&linked.text, 3), 17 + displacement(&linked.text, 13)), (slots, slots));
        assert_eq!(linked.slots, [Dynamic::Text(0)]);
    }

    #[test]
    fn an_address_that_is_no_operand_of_movabs_is_refused() {
        let code = [0x90, 0x90, 0, 0, 0, 0, 0, 0, 0, 0];
        let own = RelocationTarget::LocalFunc(LocalFunctionIndex::from_u32(0));
        assert!(matches!(link(&[(&code, vec![relocation(RelocationKind::Abs8, own, 2, 0)])]), Err(LinkError::AddressLoad { .. })));
        assert!(matches!(link(&[(&code, vec![relocation(RelocationKind::Abs4, own, 2, 0)])]), Err(LinkError::Relocation { .. })));
    }

    #[test]
    fn the_text_is_mapped_without_write_permission_and_relocations_touch_slots_only() {
        let slots = [Dynamic::Text(3), Dynamic::Symbol("wasmer_vm_raise_trap")];
        let bytes = Image { text: &[0xc3; 5000], slots: &slots, offsets: &[0], module_info: b"info", table: b"table" }.write();
        let file = object::File::parse(&bytes[..]).unwrap();
        let flags = |s: &object::Segment<'_, '_>| match s.flags() {
            object::SegmentFlags::Elf { p_flags, .. } => (s.address(), p_flags.0),
            other => panic!("{other:?}"),
        };
        let segments: Vec<_> = file.segments().map(|s| flags(&s)).collect();
        assert_eq!(segments, [(0, 5), (0x2000, 6)]);
        let places: Vec<u64> = file.dynamic_relocations().unwrap().map(|(at, _)| at).collect();
        assert_eq!(places, [0x2000, 0x2008]);
        assert_eq!(file.dynamic_symbols().count(), 1);
    }

    #[test]
    fn blocks_that_are_not_in_order_are_refused() {
        let bytes = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let good = bytes(&[0x1000, 0, 0, 0x1010, 4, 1]);
        let table = block_table(&good).unwrap();
        assert_eq!(table[..16], bytes(&[BLOCK_TABLE_MAGIC, 5, 2, 0])[..]);
        assert_eq!(table[16..], good[..]);
        assert!(matches!(block_table(&bytes(&[0x1010, 0, 0, 0x1010, 4, 1])), Err(LinkError::Blocks)));
        assert!(matches!(block_table(&good[1..]), Err(LinkError::Blocks)));
    }
}
