//! The resumable form's native code as an ELF image that is mapped, not deserialised.
//!
//! Owns the link of a Cranelift artifact (functions, trampolines, relocations) into one image, in the layout wasmer gives its own LLVM images, plus the block table in a segment of ours. Knows nothing
//! of caches or manifests. The fact a newcomer gets wrong: nothing in the text needs a relocation at load; what code refers to outside itself goes through a table in the one writable page, so
//! every process shares the text with the page cache, and fork copies no page tables for it.

use crate::elf_image::{Dynamic, Image};
use crate::processor::Architecture;
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
pub fn image(artifact: &[u8], architecture: Architecture) -> Result<Vec<u8>, LinkError> {
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
    let linked = Linker::new(architecture).link(&code)?;
    let info = module.serialize().map_err(|e| unreadable(&e))?;
    let image = Image { architecture, text: &linked.text, slots: &linked.slots, offsets: &linked.offsets, module_info: &info, table: &table };
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

struct Linker {
    architecture: Architecture,
    text: Vec<u8>,
    /// Text offsets in wasmer's order: functions, one trampoline per signature, one per import.
    offsets: Vec<u64>,
    slots: Vec<Dynamic>,
    /// Jumps through a slot, for calls of the runtime: (slot, text offset).
    stubs: Vec<(usize, usize)>,
    /// Places in the text that hold the distance to a slot, as the architecture writes one: (place, slot).
    slot_references: Vec<(usize, usize)>,
}

/// Code of a function starts at a multiple of this.
const ALIGN: usize = 16;

/// AArch64: what a call or jump reaches in either direction.
const BRANCH_REACH: usize = 128 << 20;

impl Linker {
    fn new(architecture: Architecture) -> Linker {
        Linker { architecture, text: Vec::new(), offsets: Vec::new(), slots: Vec::new(), stubs: Vec::new(), slot_references: Vec::new() }
    }

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
        // A displacement of x86-64 reaches 2 GiB; an image keeps far below it.
        let longest = match self.architecture {
            Architecture::X86_64 => 1 << 30,
            Architecture::Aarch64 => BRANCH_REACH,
        };
        if self.text.len() > longest {
            return Err(LinkError::TooLarge { bytes: self.text.len() });
        }
        let slots = Image::slots_after(self.text.len());
        for (place, slot) in std::mem::take(&mut self.slot_references) {
            match self.architecture {
                Architecture::X86_64 => self.displace(place, (slots + 8 * slot) as i64, -4),
                Architecture::Aarch64 => self.load_by_page(place, slots + 8 * slot),
            }
        }
        Ok(self)
    }

    fn align(&mut self) {
        // int3, or udf: nothing may run between functions.
        let nothing = if self.architecture == Architecture::X86_64 { 0xcc } else { 0 };
        self.text.resize(self.text.len().next_multiple_of(ALIGN), nothing);
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
            (RelocationKind::Arm64Call, target) if r.addend == 0 => {
                let target = match target {
                    RelocationTarget::LocalFunc(f) => self.function(f.as_u32()),
                    RelocationTarget::LibCall(_) => self.stub(target).ok_or_else(wrong)?,
                    _ => return Err(wrong()),
                };
                // An immediate of 26 bits counts instructions; `link` keeps the text within its reach.
                let distance = (target as i64 - place as i64) >> 2;
                self.change(place, !0x03ff_ffff, distance as u32 & 0x03ff_ffff);
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

    fn word(&self, place: usize) -> u32 {
        u32::from_le_bytes(self.text[place..place + 4].try_into().expect("four bytes"))
    }

    /// Keeps some bits of an instruction and sets others.
    fn change(&mut self, place: usize, keep: u32, bits: u32) {
        let word = self.word(place) & keep | bits;
        self.text[place..place + 4].copy_from_slice(&word.to_le_bytes());
    }

    /// AArch64: makes `adrp register, page; ldr register, [register, offset in it]`, at `place`, load what stands at a text offset. The image begins at a page.
    fn load_by_page(&mut self, place: usize, target: usize) {
        let pages = (target >> 12) as i64 - (place >> 12) as i64;
        let (low, high) = (pages as u32 & 3, (pages >> 2) as u32 & 0x7_ffff);
        self.change(place, !(3 << 29 | 0x7_ffff << 5), low << 29 | high << 5);
        self.change(place + 4, !(0xfff << 10), ((target & 0xfff) as u32 >> 3) << 10);
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
        match self.architecture {
            Architecture::X86_64 => {
                // jmp qword ptr [rip + distance to the slot]
                self.text.extend([0xff, 0x25, 0, 0, 0, 0]);
                self.slot_references.push((at + 2, slot));
            }
            Architecture::Aarch64 => {
                // adrp x16, …; ldr x16, [x16, …]; br x16
                self.text.extend([0x9000_0010u32, 0xf940_0210, 0xd61f_0200].iter().flat_map(|i| i.to_le_bytes()));
                self.slot_references.push((at, slot));
            }
        }
        self.stubs.push((slot, at));
        Some(at as u64)
    }

    /// Turns code that has the address in itself (at `place`) into a load of the register from a slot, which is no longer.
    fn load_from_slot(&mut self, place: usize, slot: usize) -> Result<(), LinkError> {
        match self.architecture {
            Architecture::X86_64 => self.load_from_slot_x86(place, slot),
            Architecture::Aarch64 => self.load_from_slot_arm(place, slot),
        }
    }

    /// `ldr register, .+8; b .+12; address`.
    fn load_from_slot_arm(&mut self, place: usize, slot: usize) -> Result<(), LinkError> {
        const NOP: u32 = 0xd503_201f;
        let start = place.checked_sub(8).ok_or(LinkError::AddressLoad { at: place })?;
        let (load, jump) = (self.word(start), self.word(start + 4));
        if load & !0x1f != 0x5800_0040 || jump != 0x1400_0003 {
            return Err(LinkError::AddressLoad { at: place });
        }
        let register = load & 0x1f;
        for (k, instruction) in [0x9000_0000 | register, 0xf940_0000 | register << 5 | register, NOP, NOP].into_iter().enumerate() {
            self.change(start + 4 * k, 0, instruction);
        }
        self.slot_references.push((start, slot));
        Ok(())
    }

    /// `movabs register, address`.
    fn load_from_slot_x86(&mut self, place: usize, slot: usize) -> Result<(), LinkError> {
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
        link_for(Architecture::X86_64, functions)
    }

    fn link_for(architecture: Architecture, functions: &[(&[u8], Vec<Relocation>)]) -> Result<Linker, LinkError> {
        let mut code = RkyvSerializableCompilation::default();
        for (bytes, relocations) in functions {
            code.function_bodies.push(body(bytes));
            code.function_relocations.push(relocations.clone());
        }
        Linker::new(architecture).link(&code)
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

    fn words(instructions: &[u32]) -> Vec<u8> {
        instructions.iter().flat_map(|i| i.to_le_bytes()).collect()
    }

    /// Where `adrp; ldr` at `at` loads from.
    fn loads_from(linked: &Linker, at: usize) -> usize {
        let (page, load) = (linked.word(at), linked.word(at + 4));
        assert_eq!((page & 0x9f00_001f, load & 0xffc0_001f), (0x9000_0000 | load & 0x1f, 0xf940_0000 | load & 0x1f));
        let pages = (page >> 5 & 0x7_ffff) << 2 | page >> 29 & 3;
        (at & !0xfff) + ((pages as usize) << 12) + ((load >> 10 & 0xfff) as usize) * 8
    }

    #[test]
    fn on_aarch64_calls_count_instructions_and_the_runtime_is_reached_through_a_slot() {
        let call = |target| relocation(RelocationKind::Arm64Call, target, 4, 0);
        let caller = words(&[0xd503_201f, 0x9400_0000, 0xd65f_03c0]);
        let own = call(RelocationTarget::LocalFunc(LocalFunctionIndex::from_u32(0)));
        let runtime = call(RelocationTarget::LibCall(LibCall::RaiseTrap));
        let linked = link_for(Architecture::Aarch64, &[(&caller, vec![runtime]), (&caller, vec![own])]).unwrap();
        assert_eq!(linked.offsets, [0, 16]);
        assert_eq!(linked.text[12..16], [0; 4], "nothing runs between functions");
        // From 20 back to 0: five instructions.
        assert_eq!(linked.word(20), 0x9400_0000 | (-5i32 as u32 & 0x03ff_ffff));
        let stub = 4 + 4 * (linked.word(4) & 0x03ff_ffff) as usize;
        assert_eq!(loads_from(&linked, stub), Image::slots_after(linked.text.len()));
        assert_eq!(linked.word(stub + 8), 0xd61f_0200);
        assert_eq!(linked.slots, [Dynamic::Symbol("wasmer_vm_raise_trap")]);
    }

    #[test]
    fn on_aarch64_an_address_in_code_becomes_a_load_of_the_same_register() {
        // Over a page's end, so that the distance in pages counts.
        let mut code = words(&[0xd503_201f; 1024]);
        code.extend(words(&[0x5800_0049, 0x1400_0003, 0, 0, 0xd65f_03c0]));
        let own = RelocationTarget::LocalFunc(LocalFunctionIndex::from_u32(0));
        let linked = link_for(Architecture::Aarch64, &[(&code, vec![relocation(RelocationKind::Abs8, own, 4096 + 8, 0)])]).unwrap();
        assert_eq!(linked.word(4096) & 0x1f, 9);
        assert_eq!(loads_from(&linked, 4096), 8192);
        assert_eq!((linked.word(4096 + 8), linked.word(4096 + 12)), (0xd503_201f, 0xd503_201f));
        assert_eq!(linked.slots, [Dynamic::Text(0)]);
        let foreign = words(&[0x5800_0069, 0x1400_0003, 0, 0]);
        assert!(matches!(link_for(Architecture::Aarch64, &[(&foreign, vec![relocation(RelocationKind::Abs8, own, 8, 0)])]), Err(LinkError::AddressLoad { .. })));
    }

    #[test]
    fn the_text_is_mapped_without_write_permission_and_relocations_touch_slots_only() {
        let slots = [Dynamic::Text(3), Dynamic::Symbol("wasmer_vm_raise_trap")];
        let bytes = Image { architecture: Architecture::X86_64, text: &[0xc3; 5000], slots: &slots, offsets: &[0], module_info: b"info", table: b"table" }.write();
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
