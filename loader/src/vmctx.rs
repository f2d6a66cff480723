//! What resumable code is given as its instance: where the memories begin, and the host functions with their environment.
//!
//! Owns this one structure per thread, laid out as wasmer's compilers expect (`VMOffsets`). All shards import the same things in the same order (`link` checks it), and their code reads nothing else of an instance, so
//! one serves the code of every shard. The fact a newcomer gets wrong: wasmer itself makes instances only when a release is linked, never in a process that runs guests.

use crate::native::{self, Context};
use crate::reservation::Reservation;
use syscalls::abi::import;
use wasmer_types::{FunctionIndex, GlobalType, MemoryIndex, MemoryType, ModuleInfo, Mutability, SignatureIndex, TableType, Type, VMBuiltinFunctionIndex, VMOffsets};
use wasmer_vm::VMMemoryDefinition;

/// Memories of a shard.
const MEMORIES: usize = 3;
const POINTER_BYTES: u8 = 8;

/// An instance's context without an instance.
pub(crate) struct Vmctx {
    words: Box<[usize]>,
    _definitions: Box<[VMMemoryDefinition; MEMORIES]>,
}

/// What of a module decides where its code looks for imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    functions: usize,
    tables: usize,
    memories: usize,
    globals: usize,
    /// Tags, and what the module has of its own.
    others: usize,
}

impl Shape {
    /// Of every shard's module.
    pub(crate) const SHARD: Shape = Shape { functions: import::FUNCTIONS as usize, tables: 1, memories: MEMORIES, globals: 2, others: 0 };

    pub(crate) fn of(module: &ModuleInfo) -> Self {
        let (functions, tables, memories, globals) = (module.num_imported_functions, module.num_imported_tables, module.num_imported_memories, module.num_imported_globals);
        let own = (module.tables.len() - tables) + (module.memories.len() - memories) + (module.globals.len() - globals);
        Self { functions, tables, memories, globals, others: own + module.tags.len() + module.passive_data.len() }
    }

    /// A module of this shape and nothing more.
    fn module(self) -> ModuleInfo {
        let mut module = ModuleInfo::new();
        module.num_imported_functions = self.functions;
        module.num_imported_tables = self.tables;
        module.num_imported_memories = self.memories;
        module.num_imported_globals = self.globals;
        module.functions = std::iter::repeat_n(SignatureIndex::from_u32(0), self.functions).collect();
        module.tables = std::iter::repeat_n(TableType::new(Type::FuncRef, 0, None), self.tables).collect();
        module.memories = std::iter::repeat_n(MemoryType::new(0, None, false), self.memories).collect();
        module.globals = std::iter::repeat_n(GlobalType::new(Type::I64, Mutability::Const), self.globals).collect();
        module
    }
}

impl Vmctx {
    pub(crate) fn new(window: &Reservation, cpu: &Reservation, codemap: &Reservation, environment: *mut Context) -> Self {
        let offsets = VMOffsets::new(POINTER_BYTES, &Shape::SHARD.module());
        let mut words = vec![0usize; offsets.size_of_vmctx().div_ceil(POINTER_BYTES.into()) as usize];
        let mut put = |offset: u32, value: usize| words[offset as usize / usize::from(POINTER_BYTES)] = value;
        // Nothing reads the lengths: code relies on reservations.
        let definitions = Box::new([window, cpu, codemap].map(|r| VMMemoryDefinition { base: r.base(), current_length: 0 }));
        for (index, definition) in [import::MEM_INDEX, import::CPU_INDEX, import::CODEMAP_INDEX].into_iter().zip(definitions.iter()) {
            put(offsets.vmctx_vmmemory_import_definition(MemoryIndex::from_u32(index)), std::ptr::from_ref(definition) as usize);
        }
        for (index, body) in [(import::SYSCALL_INDEX, native::syscall_import as *const ()), (import::HELPER_INDEX, native::helper_import as *const ())] {
            put(offsets.vmctx_vmfunction_import_body(FunctionIndex::from_u32(index)), body as usize);
            put(offsets.vmctx_vmfunction_import_vmctx(FunctionIndex::from_u32(index)), environment as usize);
        }
        for index in 0..VMBuiltinFunctionIndex::builtin_functions_total_number() {
            put(offsets.vmctx_builtin_functions_begin() + index * u32::from(POINTER_BYTES), builtin(index) as usize);
        }
        Self { words: words.into(), _definitions: definitions }
    }

    pub(crate) fn address(&self) -> *const usize {
        self.words.as_ptr()
    }
}

/// The compiler's runtime as far as lifted code asks for it: `rep movs` and `rep stos`.
fn builtin(index: u32) -> *const () {
    match index {
        i if i == VMBuiltinFunctionIndex::get_memory_copy_index().index() => memory_copy as *const (),
        i if i == VMBuiltinFunctionIndex::get_imported_memory_fill_index().index() => memory_fill as *const (),
        _ => never_called as *const (),
    }
}

/// `memory.copy` within the window, whose addresses are the host's.
///
/// # Safety
/// Called by lifted code, for pages that it has just read and written.
unsafe extern "C" fn memory_copy(_: *const usize, _to: u32, _from: u32, to: u32, from: u32, len: u32) {
    // SAFETY: the window; overlapping ranges are fine.
    unsafe { std::ptr::copy(from as usize as *const u8, to as usize as *mut u8, len as usize) }
}

/// `memory.fill` within the window.
///
/// # Safety
/// As for `memory_copy`.
unsafe extern "C" fn memory_fill(_: *const usize, _memory: u32, to: u32, byte: u32, len: u32) {
    // SAFETY: the window.
    unsafe { std::ptr::write_bytes(to as usize as *mut u8, byte as u8, len as usize) }
}

extern "C" fn never_called() {
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_with_the_imports_of_a_shard_and_nothing_else_has_its_shape() {
        assert_eq!(Shape::of(&Shape::SHARD.module()), Shape::SHARD);
        let mut with_memory = Shape::SHARD.module();
        with_memory.memories.push(MemoryType::new(1, None, false));
        assert_ne!(Shape::of(&with_memory), Shape::SHARD);
    }
}
