//! One guest thread's wasm side: a store, its table, its CPU memory, and instances of the shards it has met.
//!
//! Owns everything wasmer wants per thread. Instances are made when a slot is first needed (in the zygote: all at once, so that forked workers find them made). The fact a
//! newcomer gets wrong: instances hold no guest state, so exec, fork and rebinding never touch them.

use crate::fault;
use crate::megabinary::{LoadError, Megabinary, ShardId};
use crate::native::{self, Context, Values};
use crate::reservation::{FixedMemory, Reservation};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::Arc;
use syscalls::abi::{CpuState, import};
use wasmer::sys::engine::Engine as SysEngine;
use wasmer::{AsStoreMut, Extern, FunctionType, Global, Imports, Instance, Module, Store, TableType, Type, VMExternToExtern, Value};
use wasmer_vm::{
    InternalStoreHandle, LinearMemory, MaybeInstanceOwned, TableStyle, VMCallerCheckedAnyfunc, VMContext, VMExtern, VMFunction, VMFunctionBody, VMFunctionContext, VMFunctionKind,
    VMMemory, VMTable,
};

/// A thread's machine. Not `Send`: made and used on the thread that runs it (or forks).
pub struct Machine {
    pub(crate) megabinary: &'static Megabinary,
    pub(crate) context: Box<Context>,
    store: Store,
    imports: Imports,
    /// Elements of the table, `megabinary.slots` of them: pointers to function records.
    table: *mut *const VMCallerCheckedAnyfunc,
    miss: *const VMCallerCheckedAnyfunc,
    instances: Vec<Instance>,
    /// Which instances exist, by shard.
    made: Vec<Made>,
    /// Recent answers of `Megabinary::block`, by pc.
    pub(crate) blocks: BlockCache,
}

/// The forms of a shard this thread has instances of.
#[derive(Clone, Copy, Default)]
struct Made {
    structured: bool,
    resumable: bool,
}

impl Machine {
    /// Makes the machine of a thread, without any instance yet. `megabinary` lives for ever: code cannot be unmapped while anything may return into it.
    pub fn new(megabinary: &'static Megabinary) -> Result<Self, LoadError> {
        let mut store = Store::new(megabinary.engine.clone());
        let cpu_memory = Arc::new(Reservation::new().map_err(LoadError::Reserve)?);
        cpu_memory.map_anonymous(0, 1 << 16, libc::PROT_READ | libc::PROT_WRITE).map_err(LoadError::Reserve)?;
        #[expect(clippy::cast_ptr_alignment, reason = "a reservation starts on a page")]
        let cpu = cpu_memory.base().cast::<CpuState>();
        let mut context = Context::new(cpu, megabinary.window()).map_err(LoadError::Reserve)?;
        let env: *mut Context = &mut *context;

        let mut imports = Imports::new();
        let memory = |store: &mut Store, r: &Arc<Reservation>, pages, shared| {
            let memory: Box<dyn LinearMemory + Send + Sync> = Box::new(FixedMemory::new(r.clone(), pages, shared));
            let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), VMMemory(memory));
            VMExtern::Memory(handle).to_extern(store)
        };
        imports.define(import::MODULE, import::MEM, memory(&mut store, &megabinary.window, 65536, true));
        imports.define(import::MODULE, import::CPU, memory(&mut store, &cpu_memory, 1, false));
        imports.define(import::MODULE, import::CODEMAP, memory(&mut store, &megabinary.codemap.reservation, 65536, true));

        let (syscall, _) = host_function(&mut store, native::syscall_import as *const (), env, &[], &[]);
        imports.define(import::LINUX, import::SYSCALL, syscall);
        let (helper, _) = host_function(&mut store, native::helper_import as *const (), env, &[Type::I32, Type::I64, Type::I64], &[Type::I64]);
        imports.define(import::X86, import::HELPER, helper);

        let (_, miss) = host_function(&mut store, native::miss_with_base as *const (), env, &[Type::I32, Type::I64, Type::I64, Type::I64], &[Type::I64, Type::I64]);
        let (table_extern, table) = make_table(&mut store, megabinary.slots, miss);
        imports.define(import::MODULE, import::TABLE, table_extern);
        let made = vec![Made::default(); megabinary.shards().count()];
        Ok(Self { megabinary, context, store, imports, table, miss, instances: Vec::new(), made, blocks: BlockCache::default() })
    }

    /// Makes the instances of every shard now (zygote).
    pub fn instantiate_all(&mut self) -> Result<(), LoadError> {
        let megabinary = self.megabinary;
        megabinary.shards().try_for_each(|(id, _)| {
            self.make_structured(id)?;
            self.make_resumable(id)
        })
    }

    /// The thread's CPU state.
    pub fn cpu(&self) -> *mut CpuState {
        self.context.cpu
    }

    /// The function in an absolute slot, instantiating its shard if this thread has not met it.
    pub(crate) fn function(&mut self, slot: u32) -> Result<&VMCallerCheckedAnyfunc, LoadError> {
        assert!(slot < self.megabinary.slots, "slots come from the megabinary's own numbering");
        // SAFETY: `table` has `slots` elements and each points at a record owned by the store (see `make_table` and wasmer's element segments).
        unsafe {
            if *self.table.add(slot as usize) == self.miss
                && let Some(owner) = self.megabinary.owner(slot)
            {
                if slot < self.megabinary.shard(owner).resumable_base {
                    self.make_structured(owner)?
                } else {
                    self.make_resumable(owner)?
                }
                if *self.table.add(slot as usize) == self.miss {
                    let text = format!("its element segment leaves slot {slot} empty");
                    return Err(LoadError::Instance { shard: self.megabinary.shard(owner).name.clone(), text });
                }
            }
            Ok(&**self.table.add(slot as usize))
        }
    }

    fn make_structured(&mut self, id: ShardId) -> Result<(), LoadError> {
        if std::mem::replace(&mut self.made[id.0].structured, true) {
            return Ok(());
        }
        let shard = self.megabinary.shard(id);
        self.instance(&shard.structured, shard.structured_base).map_err(|text| LoadError::Instance { shard: shard.name.clone(), text })
    }

    fn make_resumable(&mut self, id: ShardId) -> Result<(), LoadError> {
        if std::mem::replace(&mut self.made[id.0].resumable, true) {
            return Ok(());
        }
        let shard = self.megabinary.shard(id);
        self.instance(&shard.resumable, shard.resumable_base).map_err(|text| LoadError::Instance { shard: shard.name.clone(), text })
    }

    fn instance(&mut self, module: &Module, slot_base: u32) -> Result<(), String> {
        let slot_base = Global::new(&mut self.store, Value::I32(slot_base.cast_signed()));
        let mut imports = self.imports.clone();
        imports.define(import::MODULE, import::SLOT_BASE, slot_base);
        let instance = Instance::new(&mut self.store, module, &imports).map_err(|e| e.to_string())?;
        self.instances.push(instance);
        Ok(())
    }

    /// Prepares this thread for running lifted code. Bound objects get their structured instances now: a call through the table to a missing one would unwind every frame to the
    /// dispatcher, and a thread's main loop would go on in the slower resumable form.
    pub(crate) fn prepare_thread(&mut self) -> Result<(), LoadError> {
        let megabinary = self.megabinary;
        for (id, shard) in megabinary.shards() {
            if shard.is_bound() {
                self.make_structured(id)?;
            }
        }
        // SAFETY: the machine owns the context, and leaves the thread when dropped.
        unsafe { fault::enter_thread(&mut *self.context) }.map_err(LoadError::Handlers)
    }

    /// Calls a function record on the native stack. False after a fault.
    pub(crate) fn call(&mut self, function: VMCallerCheckedAnyfunc, values: &mut Values) -> bool {
        // SAFETY: the record comes from this machine's table, so its instance imports this machine's context and memories.
        unsafe {
            let vmctx: *mut VMContext = function.vmctx.vmctx;
            native::enter(&mut self.context, function.call_trampoline, vmctx, function.func_ptr, values)
        }
    }
}

/// Direct-mapped cache of resumable blocks: (pc, slot, block). Emptied when what is bound has changed.
pub(crate) struct BlockCache {
    lines: Box<[(u64, u32, u32); BLOCK_LINES]>,
    generation: u64,
}

const BLOCK_LINES: usize = 1024;

impl Default for BlockCache {
    fn default() -> Self {
        Self { lines: Box::new([(u64::MAX, 0, 0); BLOCK_LINES]), generation: 0 }
    }
}

impl BlockCache {
    pub(crate) fn block(&mut self, megabinary: &Megabinary, pc: u64) -> Option<(u32, u32)> {
        let generation = megabinary.generation();
        if self.generation != generation {
            self.lines.fill((u64::MAX, 0, 0));
            self.generation = generation;
        }
        let line = &mut self.lines[(pc ^ pc >> 10) as usize % BLOCK_LINES];
        if line.0 != pc {
            let (slot, block) = megabinary.block(pc)?;
            *line = (pc, slot, block);
        }
        Some((line.1, line.2))
    }
}

/// A host function that lifted code calls directly, with `env` as first argument: no stack switch, no wasmer glue.
fn host_function(store: &mut Store, body: *const (), env: *mut Context, params: &[Type], results: &[Type]) -> (Extern, *const VMCallerCheckedAnyfunc) {
    let signature = FunctionType::new(params.to_vec(), results.to_vec());
    let engine: &SysEngine = store.engine().as_sys();
    let type_signature_hash = engine.register_signature(&signature);
    let record = VMCallerCheckedAnyfunc {
        func_ptr: body.cast::<VMFunctionBody>(),
        type_signature_hash,
        vmctx: VMFunctionContext { host_env: env.cast::<c_void>() },
        call_trampoline: never_called,
    };
    let record = MaybeInstanceOwned::Host(Box::new(UnsafeCell::new(record)));
    let address = record.as_ptr().as_ptr().cast_const();
    // `host_data` must not be `()`: wasmer takes that as the mark of a wasm function with the hidden memory parameter.
    let function = VMFunction { anyfunc: record, signature, kind: VMFunctionKind::Static, host_data: Box::new(0u8) };
    let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), function);
    (VMExtern::Function(handle).to_extern(store), address)
}

unsafe extern "C" fn never_called(_: *mut VMContext, _: *const VMFunctionBody, _: *mut wasmer_types::RawValue) {
    std::process::abort()
}

/// The table, every slot holding the miss stub, and the address of its first element.
#[expect(clippy::cast_ptr_alignment, reason = "wasmer types the table's memory as bytes, and allocates it as records")]
fn make_table(store: &mut Store, slots: u32, miss: *const VMCallerCheckedAnyfunc) -> (Extern, *mut *const VMCallerCheckedAnyfunc) {
    let ty = TableType::new(Type::FuncRef, slots, Some(slots));
    let table = VMTable::new(&ty, &TableStyle::CallerChecksSignature).expect("a table of as many slots as the megabinary has functions");
    // SAFETY: the definition describes the table just made; its elements are pointers to function records (`RawTableElement`), and a table of fixed size never moves.
    let elements = unsafe { table.vmtable().as_ref().base.cast::<*const VMCallerCheckedAnyfunc>() };
    for i in 0..slots as usize {
        // SAFETY: `slots` elements, see above.
        unsafe { elements.add(i).write(miss) };
    }
    let handle = InternalStoreHandle::new(store.objects_mut().as_sys_mut(), table);
    (VMExtern::Table(handle).to_extern(store), elements)
}
