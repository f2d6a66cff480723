//! Places an artifact for AArch64 as the linker does: `place ARTIFACT ADDRESS OUT`. For `cargo xtask suite aarch64`, which runs what comes out.
//!
//! Owns the file it writes: where `VMContext` has what code asks for (`LAYOUT` words), how many functions there are and their addresses, eight bytes each, and from the next page on the image. The fact a newcomer gets wrong: on an AArch64 host wasmer would say
//! where functions are; here its section is read, which is all it does.

use loader::image::{Machine, place};
use object::{Object, ObjectSection};
use std::error::Error;
use syscalls::abi::import;
use wasmer_types::{FunctionIndex, GlobalType, MemoryIndex, MemoryType, ModuleInfo, Mutability, SignatureIndex, TableType, Type, VMBuiltinFunctionIndex, VMOffsets};

const PAGE: usize = 4096;
const LAYOUT: usize = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, artifact, address, out] = &arguments[..] else { return Err("place ARTIFACT ADDRESS OUT".into()) };
    let address = u64::from_str_radix(address.trim_start_matches("0x"), 16)?;
    let file = std::fs::read(artifact)?;
    // Nothing is mapped at address zero of the harness: a call of the runtime, which cannot happen, ends there.
    let image = place(&file, Machine::Aarch64, address, 0)?;
    let parsed = object::File::parse(&file[..])?;
    let section = parsed.section_by_name(".w.fn_offsets").ok_or("it has no table of functions")?;
    let offsets = section.data()?.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("eight bytes")));
    let addresses: Vec<u64> = offsets.map(|offset| address + offset).collect();
    let mut bytes = Vec::new();
    for word in layout().iter().chain(&[addresses.len() as u64]).chain(&addresses) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes.extend(image.bytes);
    Ok(std::fs::write(out, bytes)?)
}

/// Offsets of the memories' definitions, the imported functions, and the two of the compiler's runtime that are called.
fn layout() -> [u64; LAYOUT] {
    let mut module = ModuleInfo::new();
    (module.num_imported_functions, module.num_imported_tables, module.num_imported_memories, module.num_imported_globals) = (import::FUNCTIONS as usize, 1, 3, 2);
    module.functions = std::iter::repeat_n(SignatureIndex::from_u32(0), module.num_imported_functions).collect();
    module.tables = std::iter::repeat_n(TableType::new(Type::FuncRef, 0, None), 1).collect();
    module.memories = std::iter::repeat_n(MemoryType::new(0, None, false), 3).collect();
    module.globals = std::iter::repeat_n(GlobalType::new(Type::I64, Mutability::Const), 2).collect();
    let offsets = VMOffsets::new(8, &module);
    let builtin = |index: VMBuiltinFunctionIndex| offsets.vmctx_builtin_functions_begin() + 8 * index.index();
    let memories = [import::MEM_INDEX, import::CPU_INDEX, import::CODEMAP_INDEX].map(|m| offsets.vmctx_vmmemory_import_definition(MemoryIndex::from_u32(m)));
    let functions = [import::SYSCALL_INDEX, import::HELPER_INDEX].map(|f| offsets.vmctx_vmfunction_import_body(FunctionIndex::from_u32(f)));
    let runtime = [VMBuiltinFunctionIndex::get_memory_copy_index(), VMBuiltinFunctionIndex::get_imported_memory_fill_index()].map(builtin);
    let mut words = [0; LAYOUT];
    for (word, offset) in words.iter_mut().zip(memories.into_iter().chain(functions).chain(runtime)) {
        *word = u64::from(offset);
    }
    words
}
