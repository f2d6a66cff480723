//! Executes the same instructions through the rows: one WASM function over the three memories, in wasmtime.
//!
//! Registers that the effects of an instruction do not name hold zero in their locals, so a wrong `Effects` entry shows up as a difference.

use super::double;
use super::state::{DATA, DATA_LEN, State, X87};
use iced_x86::{Instruction, RflagsBits};
use lift::emit::{Emit, Flags, Form, StaticStack};
use lift::registers::{Effects, RegSet};
use syscalls::abi::{CpuState, StopKind, import, structured};
use wasm_encoder::{CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalType, ImportSection, MemoryType, Module, TypeSection, ValType};

/// Pages of the guest window the tests use; `DATA` lies within.
const PAGES: u64 = 64;

/// What the host functions see.
pub struct Memories {
    pub guest: wasmtime::Memory,
    pub cpu: wasmtime::Memory,
}

/// An instantiated program.
pub struct Lifted {
    store: wasmtime::Store<Option<Memories>>,
    guest: wasmtime::Memory,
    cpu: wasmtime::Memory,
    run: wasmtime::Func,
    form: Form,
    /// Bytes of the WASM code.
    pub size: usize,
}

fn engine() -> &'static wasmtime::Engine {
    static ENGINE: std::sync::OnceLock<wasmtime::Engine> = std::sync::OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut config = wasmtime::Config::new();
        // The native side owns the fault signals.
        config.signals_based_traps(false);
        config.memory_reservation(PAGES << 16).memory_guard_size(0);
        config.cranelift_opt_level(wasmtime::OptLevel::None);
        wasmtime::Engine::new(&config).expect("engine")
    })
}

/// Room below the entry rsp that static stack tests may use.
const DEPTH: i32 = 0x400;

/// Emits the program as the resumable form would emit one block, or as a structured function with a static stack: everything flushed at its end, all
/// flags live there.
fn emit(program: &[Instruction], form: Form) -> Result<(Vec<ValType>, Vec<u8>), String> {
    let mut effects = Effects::default();
    let mut e = Emit::new(form);
    if form == Form::Structured {
        e.stack = Some(StaticStack { delta: 0, bias: DEPTH });
        (e.valid, e.dirty) = (RegSet::PARAMETERS, RegSet::PARAMETERS);
        let base = e.frame_base();
        e.entry_rsp();
        e.s().i32_const(DEPTH).i32_sub().local_set(base);
    }
    let mut live = vec![Flags::ALL; program.len() + 1];
    for k in (0..program.len()).rev() {
        live[k] = Flags::before(&program[k], live[k + 1]);
    }
    for (k, i) in program.iter().enumerate() {
        let effect = effects.of(i);
        e.ensure(effect.reads);
        e.live_flags = live[k + 1];
        lift::x86::emit(&mut e, i);
        let writes = if e.stack.is_some() { effect.writes.minus(RegSet::RSP) } else { effect.writes };
        e.valid = e.valid.or(writes);
        e.dirty = e.dirty.or(writes);
    }
    let dirty = e.dirty;
    e.flush(dirty);
    e.flush_rsp();
    e.flags_to_state(Flags::ALL);
    match form {
        Form::Resumable => e.c64(0),
        Form::Structured => structured::RESULTS.iter().for_each(|r| if *r == structured::RSP { e.c32(0) } else { e.c64(0) }),
    }
    e.s().end();
    let (locals, code, gaps) = e.finish();
    match gaps.first() {
        Some((_, text)) => Err(format!("gap: {text}")),
        None => Ok((locals, code)),
    }
}

fn value_types(registers: &[usize]) -> Vec<ValType> {
    registers.iter().map(|r| if *r == structured::RSP { ValType::I32 } else { ValType::I64 }).collect()
}

fn module(program: &[Instruction], form: Form) -> Result<Vec<u8>, String> {
    let (locals, code) = emit(program, form)?;
    let mut types = TypeSection::new();
    match form {
        Form::Resumable => types.ty().function([ValType::I32], [ValType::I64]),
        Form::Structured => types.ty().function(value_types(&structured::PARAMETERS), value_types(&structured::RESULTS)),
    };
    types.ty().function([], []);
    types.ty().function([ValType::I32, ValType::I64, ValType::I64], [ValType::I64]);
    let memory = |pages| MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared: false, page_size_log2: None };
    let mut imports = ImportSection::new();
    imports.import(import::MODULE, import::MEM, memory(PAGES));
    imports.import(import::MODULE, import::CPU, memory(1));
    imports.import(import::MODULE, import::CODEMAP, memory(1));
    imports.import(import::LINUX, import::SYSCALL, EntityType::Function(1));
    imports.import(import::X86, import::HELPER, EntityType::Function(2));
    for (name, val_type) in [(import::SLOT_BASE, ValType::I32), (import::ANY, ValType::I64)] {
        imports.import(import::MODULE, name, GlobalType { val_type, mutable: false, shared: false });
    }
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut exports = ExportSection::new();
    exports.export("run", ExportKind::Func, import::FUNCTIONS);
    let mut body = Function::new_with_locals_types(locals);
    body.raw(code);
    let mut bodies = CodeSection::new();
    bodies.function(&body);
    let mut m = Module::new();
    m.section(&types).section(&imports).section(&functions).section(&exports).section(&bodies);
    Ok(m.finish())
}

impl Lifted {
    pub fn new(program: &[Instruction], form: Form) -> Result<Self, String> {
        let bytes = module(program, form)?;
        let module = wasmtime::Module::new(engine(), &bytes).map_err(|e| format!("invalid module: {e:?}"))?;
        let mut store = wasmtime::Store::new(engine(), None);
        let mut memory = |pages: u64| wasmtime::Memory::new(&mut store, wasmtime::MemoryType::new(pages as u32, Some(pages as u32))).expect("memory");
        let (guest, cpu, codemap) = (memory(PAGES), memory(1), memory(1));
        *store.data_mut() = Some(Memories { guest, cpu });
        let syscall = wasmtime::Func::wrap(&mut store, || -> () { panic!("a row made a system call") });
        let helper = wasmtime::Func::wrap(&mut store, double::helper);
        let mut global = |value: wasmtime::Val| {
            let ty = wasmtime::GlobalType::new(value.ty(&store).expect("a number"), wasmtime::Mutability::Const);
            wasmtime::Global::new(&mut store, ty, value).expect("global")
        };
        let (slot_base, any) = (global(wasmtime::Val::I32(0)), global(wasmtime::Val::I64(0)));
        let externs = [guest.into(), cpu.into(), codemap.into(), syscall.into(), helper.into(), slot_base.into(), any.into()];
        let instance = wasmtime::Instance::new(&mut store, &module, &externs).map_err(|e| format!("{e:?}"))?;
        let run = instance.get_func(&mut store, "run").expect("exported");
        Ok(Lifted { store, guest, cpu, run, form, size: bytes.len() })
    }

    pub fn run(&mut self, start: &State) -> Result<State, String> {
        let data = DATA as usize..DATA as usize + DATA_LEN;
        self.guest.data_mut(&mut self.store)[data.clone()].copy_from_slice(&start.memory);
        let before = cpu_state(start);
        write_cpu(self.cpu.data_mut(&mut self.store), &before);
        use wasmtime::Val::{I32, I64};
        let g = |n: usize| I64(start.gpr[n] as i64);
        let (arguments, results) = match self.form {
            Form::Resumable => (vec![I32(0)], 1),
            Form::Structured => {
                let parameter = |r: usize| if r == structured::RSP { I32(start.gpr[r] as i32) } else { g(r) };
                (structured::PARAMETERS.map(parameter).to_vec(), structured::RESULTS.len())
            }
        };
        self.run.call(&mut self.store, &arguments, &mut vec![I64(0); results]).map_err(|e| format!("trap: {e:?}"))?;
        let after = read_cpu(self.cpu.data(&self.store));
        Ok(test_state(&after, self.guest.data(&self.store)[data].to_vec()))
    }
}

/// The structure as bytes of memory 1, both ways.
pub fn write_cpu(memory: &mut [u8], s: &CpuState) {
    // SAFETY: CpuState is plain data; the slice is a whole page.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(s).cast(), memory.as_mut_ptr(), size_of::<CpuState>()) };
}
pub fn read_cpu(memory: &[u8]) -> CpuState {
    // SAFETY: every bit pattern is a CpuState; the slice is a whole page.
    unsafe { std::ptr::read_unaligned(memory.as_ptr().cast()) }
}

fn cpu_state(s: &State) -> CpuState {
    // SAFETY: all-zero is a CpuState.
    let mut c: CpuState = unsafe { std::mem::zeroed() };
    c.gpr = s.gpr;
    let bit = |b: u32| u32::from(s.flags & b != 0);
    (c.cf, c.pf, c.af, c.zf) = (bit(RflagsBits::CF), bit(RflagsBits::PF), bit(RflagsBits::AF), bit(RflagsBits::ZF));
    (c.sf, c.of, c.df) = (bit(RflagsBits::SF), bit(RflagsBits::OF), bit(RflagsBits::DF));
    c.xmm = s.xmm;
    c.mxcsr = s.mxcsr;
    (c.fcw, c.fsw, c.ftop) = (s.x87.control, s.x87.status & !0x3800, s.x87.top());
    c.fempty = u16::from(!s.x87.tags);
    for k in 0..8 {
        c.st[(usize::from(s.x87.top()) + k) & 7] = s.x87.st[k];
    }
    c
}

fn test_state(c: &CpuState, memory: Vec<u8>) -> State {
    let mut flags = 0;
    let all =
        [(c.cf, RflagsBits::CF), (c.pf, RflagsBits::PF), (c.af, RflagsBits::AF), (c.zf, RflagsBits::ZF), (c.sf, RflagsBits::SF), (c.of, RflagsBits::OF), (c.df, RflagsBits::DF)];
    for (value, bit) in all {
        assert!(value <= 1, "a flag is {value}");
        flags |= value * bit;
    }
    let mut st = [[0; 16]; 8];
    for (k, register) in st.iter_mut().enumerate() {
        register[..10].copy_from_slice(&c.st[(usize::from(c.ftop) + k) & 7][..10]);
    }
    let stops = [StopKind::None, StopKind::Gap, StopKind::Undefined, StopKind::Breakpoint, StopKind::Divide, StopKind::Protection];
    State {
        gpr: c.gpr,
        flags,
        xmm: c.xmm,
        mxcsr: c.mxcsr,
        x87: X87 { control: c.fcw, status: c.fsw & !0x3800 | c.ftop << 11, tags: !c.fempty as u8, st },
        memory,
        stop: stops[c.stop as usize],
    }
}
