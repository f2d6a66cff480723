//! What wasmer wants of a store before a shard's module can be an instance: memories, functions, globals, a table.
//!
//! Owns the imports of ARCHITECTURE.md ("Memories, table, imports") as wasmer objects, for as long as a release is linked. The fact a newcomer gets wrong: nothing runs in these instances. wasmer tells where a module's functions
//! are through a table that an instance has filled, and through nothing else.

use crate::native;
use crate::reservation::{FixedMemory, Reservation};
use std::cell::UnsafeCell;
use std::sync::Arc;
use syscalls::abi::import;
use wasmer::sys::engine::Engine as SysEngine;
use wasmer::{AsStoreMut, Extern, FunctionType, Global, Imports, Instance, Module, Store, TableType, Type, VMExternToExtern, Value};
use wasmer_vm::{
    InternalStoreHandle, LinearMemory, MaybeInstanceOwned, TableStyle, VMCallerCheckedAnyfunc, VMContext, VMExtern, VMFunction, VMFunctionBody, VMFunctionContext, VMFunctionKind,
    VMMemory, VMTable,
};

pub(crate) struct World {
    imports: Imports,
    /// Elements of the table, `slots` of them: pointers to function records, null where no instance has put one.
    table: *const *const VMCallerCheckedAnyfunc,
    slots: u32,
    instances: Vec<Instance>,
}

impl World {
    /// `reserved` stands for every memory: none is touched.
    pub(crate) fn new(store: &mut Store, reserved: &Arc<Reservation>, slots: u32) -> Self {
        let mut imports = Imports::new();
        let memory = |store: &mut Store, pages, shared| {
            let memory: Box<dyn LinearMemory + Send + Sync> = Box::new(FixedMemory::new(reserved.clone(), pages, shared));
            let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), VMMemory(memory));
            VMExtern::Memory(handle).to_extern(store)
        };
        imports.define(import::MODULE, import::MEM, memory(store, 65536, true));
        imports.define(import::MODULE, import::CPU, memory(store, 1, false));
        imports.define(import::MODULE, import::CODEMAP, memory(store, 65536, true));
        imports.define(import::LINUX, import::SYSCALL, host_function(store, native::syscall_import as *const (), &[], &[]));
        imports.define(import::X86, import::HELPER, host_function(store, native::helper_import as *const (), &[Type::I32, Type::I64, Type::I64], &[Type::I64]));
        let (table_extern, table) = make_table(store, slots);
        imports.define(import::MODULE, import::TABLE, table_extern);
        imports.define(import::MODULE, import::ANY, Global::new(store, Value::I64(0)));
        Self { imports, table, slots, instances: Vec::new() }
    }

    /// Makes an instance, whose functions are in the table afterwards. The error is wasmer's text.
    pub(crate) fn instance(&mut self, store: &mut Store, module: &Module, slot_base: u32) -> Result<(), String> {
        let mut imports = self.imports.clone();
        imports.define(import::MODULE, import::SLOT_BASE, Global::new(store, Value::I32(slot_base.cast_signed())));
        self.instances.push(Instance::new(store, module, &imports).map_err(|e| e.to_string())?);
        Ok(())
    }

    /// The function in an absolute slot, if an instance has put one there.
    pub(crate) fn function(&self, slot: u32) -> Option<&VMCallerCheckedAnyfunc> {
        assert!(slot < self.slots, "slots come from the megabinary's own numbering");
        // SAFETY: `table` has `slots` elements; each is null or points at a record that an instance in the store owns.
        unsafe { (*self.table.add(slot as usize)).as_ref() }
    }
}

/// A host function as lifted code imports it: called directly, without wasmer's glue.
fn host_function(store: &mut Store, body: *const (), params: &[Type], results: &[Type]) -> Extern {
    let signature = FunctionType::new(params.to_vec(), results.to_vec());
    let engine: &SysEngine = store.engine().as_sys();
    let type_signature_hash = engine.register_signature(&signature);
    let record = VMCallerCheckedAnyfunc {
        func_ptr: body.cast::<VMFunctionBody>(),
        type_signature_hash,
        vmctx: VMFunctionContext { host_env: std::ptr::null_mut() },
        call_trampoline: never_called,
    };
    let record = MaybeInstanceOwned::Host(Box::new(UnsafeCell::new(record)));
    // `host_data` must not be `()`: wasmer takes that as the mark of a wasm function with the hidden memory parameter.
    let function = VMFunction { anyfunc: record, signature, kind: VMFunctionKind::Static, host_data: Box::new(0u8) };
    let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), function);
    VMExtern::Function(handle).to_extern(store)
}

unsafe extern "C" fn never_called(_: *mut VMContext, _: *const VMFunctionBody, _: *mut wasmer_types::RawValue) {
    std::process::abort()
}

/// The table, every element null, and the address of its first element.
#[expect(clippy::cast_ptr_alignment, reason = "wasmer types the table's memory as bytes, and allocates it as records")]
fn make_table(store: &mut Store, slots: u32) -> (Extern, *const *const VMCallerCheckedAnyfunc) {
    let ty = TableType::new(Type::FuncRef, slots, Some(slots));
    let table = VMTable::new(&ty, &TableStyle::CallerChecksSignature).expect("a table of as many slots as the megabinary has functions");
    // SAFETY: the definition describes the table just made; its elements are pointers to function records (`RawTableElement`), and a table of fixed size never moves.
    let elements = unsafe { table.vmtable().as_ref().base.cast::<*const VMCallerCheckedAnyfunc>() };
    let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), table);
    (VMExtern::Table(handle).to_extern(store), elements)
}
