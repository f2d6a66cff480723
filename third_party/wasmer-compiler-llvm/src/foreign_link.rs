//! Links the objects of a module for another architecture than this program's. wasmer's own link (`emit_metadata_and_link`) does not say which one they are for, and its linker then takes the host's only.
//!
//! Owns that one difference: sections, symbols and options are wasmer's, so that what is made is an image as wasmer makes one on a machine of that architecture. Refuses to link for the host. The fact a newcomer gets wrong: the objects go through files,
//! because wasmer's file system in memory is its own.

use object::write::{Object, Relocation, StandardSegment, Symbol, SymbolSection};
use object::{RelocationEncoding, RelocationFlags, RelocationKind, SectionFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope, elf};
use std::fs;
use std::io;
use target_lexicon::{Architecture, BinaryFormat, HOST};
use wasmer_compiler::misc::{CompiledFunctionExt, CompiledKind};
use wasmer_compiler::object::get_object_for_target;
use wasmer_compiler::{
    CompiledObjects, EH_FRAME_SECTION_NAME, WASMER_FUNCTION_OFFSETS_SECTION_NAME, WASMER_MODULE_INFO_SECTION_NAME, WASMER_TRAP_FUNCTION_OFFSETS_SECTION_NAME,
};
use wasmer_types::entity::EntityRef;
use wasmer_types::target::Target;
use wasmer_types::{CompileError, FunctionIndex, FunctionType, LocalFunctionIndex, SignatureIndex};

/// The linker's name for a target, if it is another one than the host.
pub(crate) fn emulation(target: &Target) -> Option<&'static str> {
    let triple = target.triple();
    match (triple.architecture, triple.binary_format) {
        (architecture, BinaryFormat::Elf) if architecture == HOST.architecture => None,
        (Architecture::Aarch64(_), BinaryFormat::Elf) => Some("aarch64linux"),
        (Architecture::X86_64, BinaryFormat::Elf) => Some("elf_x86_64"),
        _ => None,
    }
}

/// The image of a module.
pub(crate) fn link(pool: &rayon::ThreadPool, target: &Target, emulation: &str, compile_info: &[u8], objects: CompiledObjects) -> Result<Vec<u8>, CompileError> {
    let failed = |e: io::Error| CompileError::Resource(format!("cannot keep objects to link: {e}"));
    let meta = meta_object(target, compile_info, &objects).map_err(CompileError::Codegen)?;
    let directory = tempfile::tempdir().map_err(failed)?;
    let image = directory.path().join("wasmer-image.so");
    let mut arguments: Vec<String> = ["ld", "-m", emulation, "-Bsymbolic", "-shared", "-z", "now", "-z", "relro", "-o"].map(str::to_owned).into();
    arguments.push(image.display().to_string());
    let CompiledObjects { object_files, import_trampoline_object_files, trampoline_object_files, dynamic_trampoline_object_files } = objects;
    let all = object_files.into_iter().chain(import_trampoline_object_files).chain(trampoline_object_files).chain(dynamic_trampoline_object_files);
    // The synthetic end of `.eh_frame` comes last, with the meta object.
    for (index, object) in all.chain([meta]).enumerate() {
        let path = directory.path().join(format!("object-{index}.o"));
        fs::write(&path, object).map_err(failed)?;
        arguments.push(path.display().to_string());
    }
    pool.install(|| run(&arguments)).map_err(|e| CompileError::Codegen(format!("Wild linker failed: {e}")))?;
    fs::read(&image).map_err(failed)
}

fn run(arguments: &[String]) -> Result<(), String> {
    let words = || arguments.iter().map(String::as_str);
    let mut parsed = libwild::Args::new(words).map_err(|e| format!("{e:?}"))?;
    parsed.parse(words).map_err(|e| format!("{e:?}"))?;
    libwild::Linker::new().run(&parsed).map(drop).map_err(|e| format!("{e:?}"))
}

/// What wasmer reads back: the module's description, and where its functions and their traps are.
fn meta_object(target: &Target, compile_info: &[u8], objects: &CompiledObjects) -> Result<Vec<u8>, String> {
    let mut object = get_object_for_target(target.triple()).map_err(|e| format!("cannot describe the module: {e}"))?;
    let info = kept(&mut object, WASMER_MODULE_INFO_SECTION_NAME);
    object.append_section_data(info, compile_info, 8);
    let end = object.add_section(object.segment_name(StandardSegment::Debug).to_vec(), EH_FRAME_SECTION_NAME.to_vec(), SectionKind::Debug);
    object.append_section_data(end, &0u64.to_ne_bytes(), 4);
    let local = |i| CompiledKind::Local(LocalFunctionIndex::new(i), String::new());
    let nothing = || FunctionType::new([], []);
    let functions = 0..objects.object_files.len();
    let calls = (0..objects.trampoline_object_files.len()).map(|i| CompiledKind::FunctionCallTrampoline(SignatureIndex::new(i), nothing()));
    let dynamic = (0..objects.dynamic_trampoline_object_files.len()).map(|i| CompiledKind::DynamicFunctionTrampoline(FunctionIndex::new(i), nothing()));
    let addresses = kept(&mut object, WASMER_FUNCTION_OFFSETS_SECTION_NAME);
    for kind in functions.clone().map(local).chain(calls).chain(dynamic) {
        address(&mut object, addresses, kind.linkage_name(), SymbolKind::Text, SymbolScope::Unknown, false)?;
    }
    let traps = kept(&mut object, WASMER_TRAP_FUNCTION_OFFSETS_SECTION_NAME);
    for kind in functions.map(local) {
        address(&mut object, traps, kind.traps_name(), SymbolKind::Data, SymbolScope::Linkage, true)?;
    }
    object.write().map_err(|e| format!("cannot write the description of the module: {e}"))
}

/// A section that the linker keeps although nothing refers to it.
fn kept(object: &mut Object<'_>, name: &[u8]) -> object::write::SectionId {
    let section = object.add_section(object.segment_name(StandardSegment::Data).to_vec(), name.to_vec(), SectionKind::Other);
    object.section_mut(section).flags = SectionFlags::Elf { sh_type: elf::SHT_PROGBITS, sh_flags: elf::SHF_GNU_RETAIN };
    section
}

/// One more address in a section: that of a symbol of another object.
fn address(object: &mut Object<'_>, section: object::write::SectionId, name: String, kind: SymbolKind, scope: SymbolScope, weak: bool) -> Result<(), String> {
    let offset = object.append_section_data(section, &[0; 8], 8);
    let symbol = Symbol { name: name.clone().into_bytes(), value: 0, size: 0, kind, scope, weak, section: SymbolSection::Undefined, flags: SymbolFlags::None };
    let symbol = object.add_symbol(symbol);
    let flags = RelocationFlags::Generic { kind: RelocationKind::Absolute, encoding: RelocationEncoding::Generic, size: 64 };
    object.add_relocation(section, Relocation { offset, flags, symbol, addend: 0 }).map_err(|e| format!("cannot refer to {name}: {e}"))
}
