//! One guest thread's side: its CPU state, what structured code finds behind it, and what resumable code takes for its instance.
//!
//! Owns everything code wants per thread. The fact a newcomer gets wrong: nothing of it belongs to a shard or a program, so exec, fork and rebinding never touch it.

use crate::fault;
use crate::megabinary::{LoadError, Megabinary};
use crate::native::{self, Context, Registers};
use crate::reservation::Reservation;
use crate::vmctx::Vmctx;
use syscalls::abi::{CpuState, Links, import};

/// A thread's machine. Not `Send`: made and used on the thread that runs it (or forks).
pub struct Machine {
    pub(crate) megabinary: &'static Megabinary,
    pub(crate) context: Box<Context>,
    vmctx: Vmctx,
    /// Holds the CPU state.
    _cpu_memory: Reservation,
    /// Recent answers of `Megabinary::block`, by pc.
    pub(crate) blocks: BlockCache,
}

impl Machine {
    /// Makes the machine of a thread. `megabinary` lives for ever: code cannot be unmapped while anything may return into it.
    pub fn new(megabinary: &'static Megabinary) -> Result<Self, LoadError> {
        let cpu_memory = Reservation::of_thread().map_err(LoadError::Reserve)?;
        cpu_memory.map_anonymous(0, 1 << 16, libc::PROT_READ | libc::PROT_WRITE).map_err(LoadError::Reserve)?;
        #[expect(clippy::cast_ptr_alignment, reason = "a reservation starts on a page")]
        let cpu = cpu_memory.base().cast::<CpuState>();
        let mut context = Context::new(cpu, megabinary.window()).map_err(LoadError::Reserve)?;
        let env: *mut Context = &mut *context;
        let mut imports = [0; import::FUNCTIONS as usize];
        imports[import::SYSCALL_INDEX as usize] = native::syscall_import as *const () as usize;
        imports[import::HELPER_INDEX as usize] = native::helper_import as *const () as usize;
        let codemap = &megabinary.codemap.reservation;
        let links = Links { codemap: codemap.base() as usize, code: megabinary.addresses() as usize, environment: env as usize, imports };
        // SAFETY: the page was just mapped, and the links lie in it, behind the state.
        unsafe { cpu.byte_add(Links::AT as usize).cast::<Links>().write(links) };
        let vmctx = Vmctx::new(&megabinary.window, &cpu_memory, codemap, env);
        Ok(Self { megabinary, context, vmctx, _cpu_memory: cpu_memory, blocks: BlockCache::default() })
    }

    /// The thread's CPU state.
    pub fn cpu(&self) -> *mut CpuState {
        self.context.cpu
    }

    /// Prepares this thread for running lifted code.
    pub(crate) fn prepare_thread(&mut self) -> Result<(), LoadError> {
        // SAFETY: the machine owns the context, and leaves the thread when dropped.
        unsafe { fault::enter_thread(&mut *self.context) }.map_err(LoadError::Handlers)
    }

    /// Calls the structured function in a slot on the native stack: registers in, registers out (`abi::structured`). False after a fault.
    pub(crate) fn call_structured(&mut self, slot: u32, registers: &mut Registers) -> bool {
        // SAFETY: slots of the code map hold structured functions, and this thread's GS leads to its CPU state and links.
        unsafe { native::enter_structured(&mut self.context, self.megabinary.address(slot), registers) }
    }

    /// Calls the resumable function in a slot on the native stack: the next pc, or nothing after a fault.
    pub(crate) fn call_resumable(&mut self, slot: u32, block: u32) -> Option<u64> {
        // SAFETY: `link` has seen to it that every block's slot holds a resumable function, and `vmctx` carries this machine's context.
        unsafe { native::enter(&mut self.context, self.vmctx.address(), self.megabinary.address(slot), block) }
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
