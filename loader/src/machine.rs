//! One guest thread's side: its CPU state, what structured code finds behind it, and a store with instances of the resumable forms it has met.
//!
//! Owns everything wasmer wants per thread. Instances are made when a slot is first needed (in the zygote: all at once, so that forked workers find them made). The fact a
//! newcomer gets wrong: instances hold no guest state, so exec, fork and rebinding never touch them.

use crate::fault;
use crate::megabinary::{LoadError, Megabinary, ShardId};
use crate::native::{self, Context, Registers, Values};
use crate::reservation::Reservation;
use crate::world::World;
use std::sync::Arc;
use syscalls::abi::{CpuState, Links, import};
use wasmer::Store;
use wasmer_vm::{VMCallerCheckedAnyfunc, VMContext};

/// A thread's machine. Not `Send`: made and used on the thread that runs it (or forks).
pub struct Machine {
    pub(crate) megabinary: &'static Megabinary,
    pub(crate) context: Box<Context>,
    store: Store,
    world: World,
    /// Whose instances exist, by shard.
    made: Vec<bool>,
    /// Recent answers of `Megabinary::block`, by pc.
    pub(crate) blocks: BlockCache,
}

impl Machine {
    /// Makes the machine of a thread, without any instance yet. `megabinary` lives for ever: code cannot be unmapped while anything may return into it.
    pub fn new(megabinary: &'static Megabinary) -> Result<Self, LoadError> {
        let mut store = Store::new(megabinary.engine.clone());
        let cpu_memory = Arc::new(Reservation::of_thread().map_err(LoadError::Reserve)?);
        cpu_memory.map_anonymous(0, 1 << 16, libc::PROT_READ | libc::PROT_WRITE).map_err(LoadError::Reserve)?;
        #[expect(clippy::cast_ptr_alignment, reason = "a reservation starts on a page")]
        let cpu = cpu_memory.base().cast::<CpuState>();
        let mut context = Context::new(cpu, megabinary.window()).map_err(LoadError::Reserve)?;
        let env: *mut Context = &mut *context;
        let mut imports = [0; import::FUNCTIONS as usize];
        imports[import::SYSCALL_INDEX as usize] = native::syscall_import as *const () as usize;
        imports[import::HELPER_INDEX as usize] = native::helper_import as *const () as usize;
        let codemap = &megabinary.codemap.reservation;
        let links = Links { codemap: codemap.base() as usize, code: megabinary.code.table() as usize, environment: env as usize, imports };
        // SAFETY: the page was just mapped, and the links lie in it, behind the state.
        unsafe { cpu.byte_add(Links::AT as usize).cast::<Links>().write(links) };
        let world = World::new(&mut store, &megabinary.window, &cpu_memory, codemap, env, megabinary.slots);
        let made = vec![false; megabinary.shards().count()];
        Ok(Self { megabinary, context, store, world, made, blocks: BlockCache::default() })
    }

    /// Makes the instances of every shard now (zygote).
    pub fn instantiate_all(&mut self) -> Result<(), LoadError> {
        let megabinary = self.megabinary;
        megabinary.shards().try_for_each(|(id, _)| self.make(id))
    }

    /// The thread's CPU state.
    pub fn cpu(&self) -> *mut CpuState {
        self.context.cpu
    }

    /// The resumable function in an absolute slot, instantiating its shard if this thread has not met it.
    fn function(&mut self, slot: u32) -> Result<VMCallerCheckedAnyfunc, LoadError> {
        let owner = self.megabinary.owner(slot).expect("slots of blocks belong to a shard");
        self.make(owner)?;
        let missing = || LoadError::Instance { shard: self.megabinary.shard(owner).name.clone(), text: format!("its element segment leaves slot {slot} empty") };
        self.world.function(slot).copied().ok_or_else(missing)
    }

    fn make(&mut self, id: ShardId) -> Result<(), LoadError> {
        if std::mem::replace(&mut self.made[id.0], true) {
            return Ok(());
        }
        let shard = self.megabinary.shard(id);
        self.world.instance(&mut self.store, &shard.resumable, shard.resumable_base).map_err(|text| LoadError::Instance { shard: shard.name.clone(), text })
    }

    /// Prepares this thread for running lifted code.
    pub(crate) fn prepare_thread(&mut self) -> Result<(), LoadError> {
        // SAFETY: the machine owns the context, and leaves the thread when dropped.
        unsafe { fault::enter_thread(&mut *self.context) }.map_err(LoadError::Handlers)
    }

    /// Calls the structured function in a slot on the native stack: registers in, registers out (`abi::structured`). False after a fault.
    pub(crate) fn call_structured(&mut self, slot: u32, registers: &mut Registers) -> bool {
        // SAFETY: the code table holds addresses of structured functions, and this thread's GS leads to its CPU state and links.
        unsafe { native::enter_structured(&mut self.context, self.megabinary.code.address(slot), registers) }
    }

    /// Calls the resumable function in a slot on the native stack. False after a fault.
    pub(crate) fn call_resumable(&mut self, slot: u32, values: &mut Values) -> Result<bool, LoadError> {
        let function = self.function(slot)?;
        // SAFETY: the record comes from this machine's table, so its instance imports this machine's context and memories.
        unsafe {
            let vmctx: *mut VMContext = function.vmctx.vmctx;
            Ok(native::enter(&mut self.context, function.call_trampoline, vmctx, function.func_ptr, values))
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
