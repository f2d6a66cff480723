//! Runs whole shards in wasmtime, with a small dispatcher: what the loader does, without signals and without a kernel.
//!
//! Owns calling an entry in one of the forms, or first in the structured and then, after a tagged exit, in the resumable one, as the loader would. Refuses system calls and helpers of the host. A function
//! here is called with a return address that means "done".

use lift::image::Image;
use std::collections::HashMap;
use syscalls::abi::{CpuState, StopKind, import, section, structured};
use wasmtime::Val::{I32, I64};
use wasmtime::{
    Config, Engine, Func, FuncType, Global, GlobalType, Instance, Memory, MemoryType, Module, Mutability, Ref, RefType, SharedMemory, Store, Table, TableType, Val, ValType,
};

/// Where a function called by a test returns to, and its stack.
const DONE: u64 = 0x10;
const STACK: u64 = 0x2000_0000;
const TAG: u64 = 1 << 63;

/// What a run did.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) rax: u64,
    /// Times that a block of the resumable form was entered by the dispatcher.
    pub(crate) resumed: usize,
    /// Breakpoints met; the run goes on behind them, as after a handler that returns.
    pub(crate) breakpoints: usize,
}

pub(crate) struct Guest {
    store: Store<Option<Memory>>,
    window: SharedMemory,
    cpu: Memory,
    table: Table,
    /// Slots of structured functions, and slots and block numbers of resumable blocks, by pc.
    entries: HashMap<u64, u32>,
    blocks: HashMap<u64, (u32, i32)>,
}

impl Guest {
    /// Places the ELF file `bytes` at `base`.
    pub(crate) fn new(bytes: &[u8], base: u64) -> Guest {
        let image = Image::parse(bytes, base).unwrap();
        let shard = lift::lift(bytes, base, "test").unwrap();
        let mut config = Config::new();
        config.wasm_tail_call(true).wasm_threads(true).wasm_multi_memory(true).shared_memory(true);
        let engine = Engine::new(&config).unwrap();
        let mut store = Store::new(&engine, None);
        let window = SharedMemory::new(&engine, MemoryType::shared(65536, 65536)).unwrap();
        let codemap = SharedMemory::new(&engine, MemoryType::shared(65536, 65536)).unwrap();
        let cpu = Memory::new(&mut store, MemoryType::new(1, Some(1))).unwrap();
        *store.data_mut() = Some(cpu);
        for segment in &image.segments {
            write(&window, segment.start, &segment.bytes);
        }
        let structured = Module::new(&engine, &shard.structured).unwrap();
        let resumable = Module::new(&engine, &shard.resumable).unwrap();
        let (first, second) = (rows(&shard.structured, section::ENTRIES, 2), rows(&shard.resumable, section::BLOCKS, 3));
        let entries: HashMap<u64, u32> = first.iter().map(|r| (u64::from(r[0]), r[1] + 1)).collect();
        let behind = entries.len() as u32 + 1;
        let blocks: HashMap<u64, (u32, i32)> = second.iter().map(|r| (u64::from(r[0]), (r[1] + behind, r[2] as i32))).collect();
        for (pc, slot) in &entries {
            write(&codemap, 4 * pc, &slot.to_le_bytes());
        }
        let miss = Func::new(&mut store, structured_type(&engine), |mut caller, parameters, results| {
            let cpu = caller.data().expect("set before");
            let mut state = read(cpu.data(&caller));
            structured::PARAMETERS.iter().zip(parameters).for_each(|(r, v)| state.gpr[*r] = number(v));
            put(cpu.data_mut(&mut caller), &state);
            structured::RESULTS.iter().zip(results).for_each(|(r, v)| *v = if *r == structured::RSP { I32(0) } else { I64((state.rip | TAG) as i64) });
            Ok(())
        });
        let table = Table::new(&mut store, TableType::new(RefType::FUNCREF, 2 * (second.len() as u32 + behind), None), Ref::Func(Some(miss))).unwrap();
        for (module, slot_base) in [(&structured, 1), (&resumable, behind as i32)] {
            let syscall = Func::wrap(&mut store, |mut caller: wasmtime::Caller<'_, Option<Memory>>| {
                // Asks for what a signal asks for, so that code goes back to the dispatcher.
                let cpu = caller.data().expect("set before");
                let mut state = read(cpu.data(&caller));
                (state.gpr[0], state.poll) = (7, 1);
                put(cpu.data_mut(&mut caller), &state);
            });
            let helper = Func::wrap(&mut store, |_: i32, _: i64, _: i64| -> i64 { panic!("a test needs a helper") });
            let mut global = |v: Val| Global::new(&mut store, GlobalType::new(if matches!(v, I32(_)) { ValType::I32 } else { ValType::I64 }, Mutability::Const), v).unwrap();
            let (slot_base, any) = (global(I32(slot_base)), global(I64(0x5a5a_5a5a_5a5a)));
            let externs: Vec<wasmtime::Extern> =
                vec![syscall.into(), helper.into(), window.clone().into(), cpu.into(), codemap.clone().into(), table.into(), slot_base.into(), any.into()];
            let names: Vec<String> = module.imports().map(|i| i.name().to_owned()).collect();
            assert_eq!(names, [import::SYSCALL, import::HELPER, import::MEM, import::CPU, import::CODEMAP, import::TABLE, import::SLOT_BASE, import::ANY]);
            Instance::new(&mut store, module, &externs).unwrap();
        }
        write(&window, STACK, &DONE.to_le_bytes());
        Guest { store, window, cpu, table, entries, blocks }
    }

    /// Calls the function at `entry` with rdi, rsi and rdx; other registers hold numbers that no test expects. `structured`: begin in that form.
    pub(crate) fn call(&mut self, entry: u64, arguments: [u64; 3], structured: bool) -> Run {
        // SAFETY: all-zero is a CpuState.
        let mut state: CpuState = unsafe { std::mem::zeroed() };
        state.gpr = std::array::from_fn(|n| 0xbad0_0000 + n as u64);
        (state.gpr[7], state.gpr[6], state.gpr[2], state.gpr[structured::RSP]) = (arguments[0], arguments[1], arguments[2], STACK);
        let mut run = Run::default();
        let mut pc = entry;
        while pc != DONE {
            state.rip = pc;
            put(self.cpu.data_mut(&mut self.store), &state);
            pc = match (self.entries.get(&pc), self.blocks.get(&pc)) {
                (Some(&slot), _) if structured => self.enter_structured(slot, &state),
                (_, Some(&(slot, block))) => {
                    run.resumed += 1;
                    let mut next = [I64(0)];
                    self.function(slot).call(&mut self.store, &[I32(block)], &mut next).unwrap();
                    number(&next[0])
                }
                _ => panic!("nothing at {pc:x} after {run:?}"),
            };
            state = read(self.cpu.data(&self.store));
            state.poll = 0;
            run.breakpoints += usize::from(state.stop == StopKind::Breakpoint as u32);
            assert!([StopKind::None as u32, StopKind::Breakpoint as u32].contains(&state.stop), "stop {} at {pc:x}", state.stop);
            state.stop = 0;
        }
        run.rax = state.gpr[0];
        run
    }

    /// Puts something into the guest's memory.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        write(&self.window, at, bytes);
    }

    /// In both forms: they must agree.
    pub(crate) fn both(&mut self, entry: u64, arguments: [u64; 3]) -> Run {
        let resumed = self.call(entry, arguments, false);
        let run = self.call(entry, arguments, true);
        assert_eq!((run.rax, run.breakpoints), (resumed.rax, resumed.breakpoints), "the forms differ for {arguments:x?}");
        run
    }

    fn function(&mut self, slot: u32) -> Func {
        *self.table.get(&mut self.store, u64::from(slot)).unwrap().unwrap_func().unwrap()
    }

    fn enter_structured(&mut self, slot: u32, state: &CpuState) -> u64 {
        let parameters = structured::PARAMETERS.map(|r| if r == structured::RSP { I32(state.gpr[r] as i32) } else { I64(state.gpr[r] as i64) });
        let mut results = vec![I64(0); structured::RESULTS.len()];
        self.function(slot).call(&mut self.store, &parameters, &mut results).unwrap();
        let next = number(&results[structured::result(structured::NEXT_PC).expect("a result")]);
        if next & TAG == 0 {
            let mut state = read(self.cpu.data(&self.store));
            structured::RESULTS.iter().zip(&results).filter(|(r, _)| **r != structured::NEXT_PC).for_each(|(r, v)| state.gpr[*r] = number(v));
            put(self.cpu.data_mut(&mut self.store), &state);
        }
        next & !TAG
    }
}

fn structured_type(engine: &Engine) -> FuncType {
    let of = |registers: &[usize]| registers.iter().map(|r| if *r == structured::RSP { ValType::I32 } else { ValType::I64 }).collect::<Vec<_>>();
    FuncType::new(engine, of(&structured::PARAMETERS), of(&structured::RESULTS))
}

fn number(v: &Val) -> u64 {
    match v {
        I32(v) => u64::from(*v as u32),
        I64(v) => *v as u64,
        other => panic!("{other:?} is no register"),
    }
}

fn write(memory: &SharedMemory, at: u64, bytes: &[u8]) {
    for (cell, byte) in memory.data()[at as usize..].iter().zip(bytes) {
        // SAFETY: no code runs while a test prepares memory.
        unsafe { *cell.get() = *byte };
    }
}

fn put(memory: &mut [u8], s: &CpuState) {
    // SAFETY: CpuState is plain data; the slice is a whole page.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(s).cast(), memory.as_mut_ptr(), size_of::<CpuState>()) };
}

fn read(memory: &[u8]) -> CpuState {
    // SAFETY: every bit pattern is a CpuState; the slice is a whole page.
    unsafe { std::ptr::read_unaligned(memory.as_ptr().cast()) }
}

/// The rows of a custom section, `width` words each.
fn rows(module: &[u8], name: &str, width: usize) -> Vec<Vec<u32>> {
    let mut rest = &module[8..];
    while let [id, after @ ..] = rest {
        rest = after;
        let size = leb(&mut rest);
        let (body, behind) = rest.split_at(size);
        rest = behind;
        let mut content = body;
        if *id == 0 && leb(&mut content) == name.len() && content.starts_with(name.as_bytes()) {
            let words: Vec<u32> = content[name.len()..].chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("4 bytes"))).collect();
            return words.chunks_exact(width).map(<[u32]>::to_vec).collect();
        }
    }
    panic!("no section {name}");
}

fn leb(bytes: &mut &[u8]) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first().expect("a number ends");
        *bytes = rest;
        value |= usize::from(first & 0x7f) << shift;
        shift += 7;
        if first & 0x80 == 0 {
            return value;
        }
    }
}
