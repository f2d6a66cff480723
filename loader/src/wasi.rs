//! WASI programs: from a mapped module to its end. Owns the instance, its memory as wasmer sees it, the imports, and what a trap is.
//!
//! Does not own what the functions do (`syscalls::wasi`). The fact a newcomer gets wrong: such code keeps wasmer's own calling convention and runs on wasmer's stack, so here wasmer does call and catch; but the result of a call is
//! taken as a bare `Trap`. wasmer's `RuntimeError` would look for names of frames in the artifact's file, through a descriptor that was closed long ago (`artifact`).

use crate::machine::Machine;
use crate::megabinary::LoadError;
use std::cell::UnsafeCell;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;
use syscalls::Thread;
use syscalls::wasi::{self, Function, LinearMemory, PAGE_BYTES, Program, Start};
use wasmer::sys::{BaseTunables, NativeEngineExt, Tunables};
use wasmer::{AsStoreMut, Engine, Extern, FunctionType, Imports, Instance, MemoryType, Module, Pages, Store, TableType, Type, VMExternToExtern};
use wasmer_vm::{
    InternalStoreHandle, MaybeInstanceOwned, MemoryError, MemoryStyle, TableStyle, Trap, VMCallerCheckedAnyfunc, VMConfig, VMContext, VMExtern, VMFunction, VMFunctionBody,
    VMFunctionContext, VMFunctionKind, VMMemory, VMMemoryDefinition, VMSignatureHash, VMTable, VMTableDefinition, on_host_stack, wasmer_call_trampoline,
};

/// Native stack of a program: modules keep most of theirs in their own memory.
const STACK_BYTES: usize = 64 << 20;

/// A program as the caller of the loader describes it.
#[derive(Clone, Debug)]
pub struct ModuleInput {
    pub name: String,
    pub code: PathBuf,
}

/// One program, mapped.
pub struct WasiModule {
    pub name: String,
    pub(crate) code: Module,
}

/// How a program came to its end, if `proc_exit` was not it.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    Returned,
    /// Why it can go no further.
    Trapped(String),
}

/// What the imports work on.
struct Running {
    thread: *mut Thread,
    program: Program,
}

/// The environment of one imported function.
struct Import {
    running: *mut Running,
    function: &'static Function,
}

impl Machine {
    /// Runs a WASI program on the calling thread, which is the only one of its process.
    pub fn run_wasi(&mut self, thread: &mut Thread, start: &Start) -> Result<Ended, LoadError> {
        self.prepare_thread()?;
        let module = self.megabinary.module(start.module);
        let failure = |text: String| LoadError::Instance { shard: module.name.clone(), text };
        let memory = Arc::new(LinearMemory::new(thread.process.clone()));
        let mut engine = self.megabinary.engine.clone();
        engine.set_tunables(OwnMemory { memory: memory.clone(), base: BaseTunables::new(), config: VMConfig { wasm_stack_size: Some(STACK_BYTES) } });
        let mut store = Store::new(engine);
        let program = Program::new(thread, memory, start);
        let mut running = Running { thread, program };
        let environments: Vec<Import> = wasi::FUNCTIONS.iter().map(|function| Import { running: &raw mut running, function }).collect();
        let mut imports = Imports::new();
        for (import, hash) in environments.iter().zip(&self.megabinary.wasi_signatures) {
            imports.define(wasi::MODULE, import.function.name, host_function(&mut store, import, *hash));
        }
        let instance = Instance::new(&mut store, &module.code, &imports).map_err(|e| failure(e.to_string()))?;
        let start = instance.exports.get_extern("_start").ok_or_else(|| failure("it exports no _start".into()))?;
        let VMExtern::Function(handle) = start.to_vm_extern().unwrap_sys() else { return Err(failure("_start is no function".into())) };
        // SAFETY: the record lives as long as the instance, which the store owns.
        let record = unsafe { *handle.get(store.objects_mut().as_sys()).anyfunc.as_ptr().as_ref() };
        let config = VMConfig { wasm_stack_size: Some(STACK_BYTES) };
        // SAFETY: `_start` has neither parameters nor results (the build looked at its type), so no value is read or written.
        let done = unsafe { wasmer_call_trampoline(None, &config, record.vmctx, record.call_trampoline, record.func_ptr, std::ptr::null_mut()) };
        Ok(match done {
            Ok(()) => Ended::Returned,
            Err(trap) => Ended::Trapped(text(&trap)),
        })
    }
}

/// What a trap is called.
fn text(trap: &Trap) -> String {
    match trap {
        Trap::Lib { trap_code, .. } => trap_code.message().to_owned(),
        Trap::Wasm { signal_trap: Some(code), .. } => code.message().to_owned(),
        Trap::Wasm { .. } => "a fault of the processor".to_owned(),
        Trap::OOM { .. } => "out of memory".to_owned(),
        Trap::UncaughtException { .. } => "an exception that nobody catches".to_owned(),
        Trap::User(error) => error.to_string(),
    }
}

fn signature(function: &Function) -> FunctionType {
    let parameters: Vec<Type> = function.parameters.bytes().map(|p| if p == b'I' { Type::I64 } else { Type::I32 }).collect();
    FunctionType::new(parameters, if function.returns() { vec![Type::I32] } else { Vec::new() })
}

/// The numbers by which code knows the types of WASI's functions, in their order. For the zygote: no other thread may hold the engine's lock when a process forks.
pub(crate) fn signatures(engine: &Engine) -> Vec<VMSignatureHash> {
    wasi::FUNCTIONS.iter().map(|f| engine.as_sys().register_signature(&signature(f))).collect()
}

/// An imported function, which code calls directly with `import` before the arguments.
fn host_function(store: &mut Store, import: &Import, hash: VMSignatureHash) -> Extern {
    let record = VMCallerCheckedAnyfunc {
        func_ptr: called as *const () as *const VMFunctionBody,
        type_signature_hash: hash,
        vmctx: VMFunctionContext { host_env: std::ptr::from_ref(import).cast_mut().cast() },
        call_trampoline: never_called,
    };
    let anyfunc = MaybeInstanceOwned::Host(Box::new(UnsafeCell::new(record)));
    // `host_data`: as in `world::host_function`.
    let function = VMFunction { anyfunc, signature: signature(import.function), kind: VMFunctionKind::Static, host_data: Box::new(0u8) };
    let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), function);
    VMExtern::Function(handle).to_extern(store)
}

/// Every imported function. Arguments that the function does not have are whatever stands in their place, and so is the upper half of those of 32 bits: neither is looked at.
unsafe extern "C" fn called(import: *const Import, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64, h: u64, i: u64) -> u32 {
    let values = [a, b, c, d, e, f, g, h, i];
    // SAFETY: `run_wasi` keeps environments, program and thread until the program has ended, and uses none of them meanwhile.
    let (function, Running { thread, program }) = unsafe { ((*import).function, &mut *(*import).running) };
    let mut words = [0; 9];
    for ((word, value), kind) in words.iter_mut().zip(values).zip(function.parameters.bytes()) {
        *word = if kind == b'I' { value } else { value & 0xffff_ffff };
    }
    // SAFETY: as above.
    let thread = unsafe { &mut **thread };
    // There may be little left of the program's own stack.
    on_host_stack(|| program.call(thread, function, &words[..function.parameters.len()]).into())
}

unsafe extern "C" fn never_called(_: *mut VMContext, _: *const VMFunctionBody, _: *mut wasmer_types::RawValue) {
    std::process::abort()
}

/// Puts a module's memory where the guest's is.
struct OwnMemory {
    memory: Arc<LinearMemory>,
    base: BaseTunables,
    config: VMConfig,
}

impl Tunables for OwnMemory {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.base.memory_style(memory)
    }
    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }
    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "a WASI program has its own memory".into() })
    }
    unsafe fn create_vm_memory(&self, ty: &MemoryType, _: &MemoryStyle, definition: NonNull<VMMemoryDefinition>) -> Result<VMMemory, MemoryError> {
        if self.memory.bytes() != 0 || ty.shared {
            return Err(MemoryError::UnsupportedOperation { message: "a WASI program has one memory, which nobody shares".into() });
        }
        let mut memory = WindowMemory { memory: self.memory.clone(), definition, ty: *ty };
        memory.more(ty.minimum)?;
        Ok(VMMemory(Box::new(memory)))
    }
    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(ty, style)
    }
    unsafe fn create_vm_table(&self, ty: &TableType, style: &TableStyle, definition: NonNull<VMTableDefinition>) -> Result<VMTable, String> {
        // SAFETY: the caller's own promise.
        unsafe { self.base.create_vm_table(ty, style, definition) }
    }
    fn vmconfig(&self) -> &VMConfig {
        &self.config
    }
}

/// The memory of a program in wasmer's words. Compiled code finds base and length where `definition` points.
#[derive(Debug)]
struct WindowMemory {
    memory: Arc<LinearMemory>,
    definition: NonNull<VMMemoryDefinition>,
    ty: MemoryType,
}

// SAFETY: used on the one thread of the program; the definition lies in the instance, which owns this.
unsafe impl Send for WindowMemory {}
// SAFETY: as above.
unsafe impl Sync for WindowMemory {}

impl WindowMemory {
    fn more(&mut self, pages: Pages) -> Result<(), MemoryError> {
        self.memory.grow(pages.0.into()).map_err(|_| MemoryError::CouldNotGrow { current: self.pages(), attempted_delta: pages })?;
        let definition = VMMemoryDefinition { base: self.memory.host_base(), current_length: self.memory.bytes() as usize };
        // SAFETY: as `create_vm_memory` was promised; no code of the module runs meanwhile.
        unsafe { self.definition.write(definition) };
        Ok(())
    }

    fn pages(&self) -> Pages {
        Pages((self.memory.bytes() / PAGE_BYTES) as u32)
    }
}

impl wasmer_vm::LinearMemory for WindowMemory {
    fn ty(&self) -> MemoryType {
        MemoryType { minimum: self.pages(), ..self.ty }
    }
    fn size(&self) -> Pages {
        self.pages()
    }
    fn style(&self) -> MemoryStyle {
        MemoryStyle::Static
    }
    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let current = self.pages();
        let within = current.0.checked_add(delta.0).is_some_and(|sum| self.ty.maximum.is_none_or(|maximum| sum <= maximum.0));
        if !within {
            return Err(MemoryError::CouldNotGrow { current, attempted_delta: delta });
        }
        self.more(delta)?;
        Ok(current)
    }
    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.definition
    }
    fn try_clone(&self) -> Result<Box<dyn wasmer_vm::LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "a WASI program has one thread".into() })
    }
    fn copy(&self) -> Result<Box<dyn wasmer_vm::LinearMemory + Send + Sync + 'static>, MemoryError> {
        self.try_clone()
    }
}
