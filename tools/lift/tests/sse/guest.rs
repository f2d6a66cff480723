//! The lifted side: one WASM function per form, all in one module, run by a WASM engine.

use crate::forms::Form;
use crate::host::Cpu;
use crate::states::{DATA, DATA_BYTES, State};
use iced_x86::ConditionCode;
use lift::emit::{Emit, Flag, Flags, Form as CodeForm, step};
use lift::module::ModuleBuilder;
use lift::registers::Effects;
use syscalls::abi::{CpuState, SseOp, float, helper, import, offset};
use wasmtime as w;

/// Where the functions leave the sixteen conditions, in memory 1 behind `CpuState`.
const CONDITIONS: u64 = 0x1000;

pub(crate) struct Guest {
    store: w::Store<()>,
    memory: w::SharedMemory,
    cpu: w::Memory,
    table: w::Table,
    /// Forms without semantics.
    pub(crate) gaps: Vec<bool>,
}

impl Guest {
    pub(crate) fn new(forms: &[Form]) -> Self {
        let (bytes, gaps) = module(forms);
        let mut config = w::Config::new();
        config.wasm_threads(true).shared_memory(true).wasm_multi_memory(true);
        let engine = w::Engine::new(&config).expect("an engine");
        let module = w::Module::new(&engine, &bytes).unwrap_or_else(|e| panic!("every row emits valid WASM: {e:?}"));
        let mut store = w::Store::new(&engine, ());
        let memory = w::SharedMemory::new(&engine, w::MemoryType::shared(65536, 65536)).expect("4 GiB of address space");
        let codemap = w::SharedMemory::new(&engine, w::MemoryType::shared(65536, 65536)).expect("4 GiB of address space");
        let cpu = w::Memory::new(&mut store, w::MemoryType::new(1, Some(1))).expect("a page");
        let table = w::Table::new(&mut store, w::TableType::new(w::RefType::FUNCREF, forms.len() as u32, None), w::Ref::Func(None)).expect("a table");
        let base = w::Global::new(&mut store, w::GlobalType::new(w::ValType::I32, w::Mutability::Const), w::Val::I32(0)).expect("a global");
        let mut linker = w::Linker::new(&engine);
        linker.func_wrap(import::LINUX, import::SYSCALL, || {}).expect("unique");
        linker
            .func_wrap(import::X86, import::HELPER, move |mut caller: w::Caller<'_, ()>, op: u32, a: u64, b: u64| -> u64 { run_helper(cpu.data_mut(&mut caller), op, a, b) })
            .expect("unique");
        linker.define(&store, import::MODULE, import::MEM, memory.clone()).expect("unique");
        linker.define(&store, import::MODULE, import::CPU, cpu).expect("unique");
        linker.define(&store, import::MODULE, import::CODEMAP, codemap).expect("unique");
        linker.define(&store, import::MODULE, import::TABLE, table).expect("unique");
        linker.define(&store, import::MODULE, import::SLOT_BASE, base).expect("unique");
        let any = w::Global::new(&mut store, w::GlobalType::new(w::ValType::I64, w::Mutability::Const), w::Val::I64(0)).expect("a global");
        linker.define(&store, import::MODULE, import::ANY, any).expect("unique");
        linker.instantiate(&mut store, &module).expect("imports match");
        Self { store, memory, cpu, table, gaps }
    }

    pub(crate) fn run(&mut self, form: usize, s: &State) -> State {
        let mut out = s.clone();
        let data = &self.memory.data()[DATA as usize..][..DATA_BYTES];
        for (cell, byte) in data.iter().zip(s.memory) {
            // SAFETY: one thread; no WASM code runs now.
            unsafe { cell.get().write(byte) };
        }
        put_state(self.cpu.data_mut(&mut self.store), s);
        let Some(w::Ref::Func(Some(f))) = self.table.get(&mut self.store, form as u64) else { panic!("form {form} is in the table") };
        let f = f.typed::<i32, i64>(&self.store).expect("the resumable type");
        // With the guest's modes in the host's MXCSR, arithmetic obeys them: the rows assume no mode of their own.
        set_mxcsr(s.mxcsr);
        f.call(&mut self.store, 0).expect("no trap");
        set_mxcsr(0x1f80);
        get_state(self.cpu.data(&self.store), &mut out);
        let data = &self.memory.data()[DATA as usize..][..DATA_BYTES];
        for (cell, byte) in data.iter().zip(&mut out.memory) {
            // SAFETY: as above.
            *byte = unsafe { cell.get().read() };
        }
        out
    }
}

const FLAGS: [(Flag, u64, u32); 6] =
    [(Flag::Cf, offset::CF, 0), (Flag::Pf, offset::PF, 2), (Flag::Af, offset::AF, 4), (Flag::Zf, offset::ZF, 6), (Flag::Sf, offset::SF, 7), (Flag::Of, offset::OF, 11)];

const FEMPTY: u64 = std::mem::offset_of!(CpuState, fempty) as u64;

fn st(n: usize) -> u64 {
    (std::mem::offset_of!(CpuState, st) + 16 * n) as u64
}

fn put(cpu: &mut [u8], at: u64, bytes: &[u8]) {
    cpu[at as usize..][..bytes.len()].copy_from_slice(bytes);
}
fn word(cpu: &[u8], at: u64) -> u32 {
    u32::from_le_bytes(cpu[at as usize..][..4].try_into().expect("4 bytes"))
}

fn put_state(cpu: &mut [u8], s: &State) {
    for n in 0..16 {
        put(cpu, offset::gpr(n), &s.gpr[n].to_le_bytes());
        put(cpu, offset::xmm(n), &s.xmm[n].to_le_bytes());
    }
    for (_, at, bit) in FLAGS {
        put(cpu, at, &(s.flags >> bit & 1).to_le_bytes());
    }
    for n in 0..8 {
        put(cpu, st(n), &s.st[n].to_le_bytes());
    }
    put(cpu, FEMPTY, &u16::from(s.empty).to_le_bytes());
    put(cpu, FEMPTY + 2, &3_u16.to_le_bytes());
    put(cpu, offset::MXCSR, &s.mxcsr.to_le_bytes());
}

fn get_state(cpu: &[u8], s: &mut State) {
    for n in 0..16 {
        s.gpr[n] = u64::from_le_bytes(cpu[offset::gpr(n) as usize..][..8].try_into().expect("8 bytes"));
        s.xmm[n] = u128::from_le_bytes(cpu[offset::xmm(n) as usize..][..16].try_into().expect("16 bytes"));
    }
    for n in 0..8 {
        s.st[n] = u128::from_le_bytes(cpu[st(n) as usize..][..16].try_into().expect("16 bytes"));
    }
    s.empty = word(cpu, FEMPTY) as u8;
    // Only MMX instructions may touch TOP, and they clear it.
    assert!([0, 3].contains(&(word(cpu, FEMPTY) >> 16)), "TOP is {}", word(cpu, FEMPTY) >> 16);
    for (_, at, bit) in FLAGS {
        s.flags = s.flags & !(1 << bit) | word(cpu, at) << bit;
    }
    s.conditions = (0..16).fold(0, |c, k| c | (word(cpu, CONDITIONS + 4 * k) as u16) << k);
}

fn set_mxcsr(value: u32) {
    // SAFETY: all exceptions stay masked; the caller restores the default before other code computes.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &value) };
}

/// One function per form: the instruction, then everything stored.
fn module(forms: &[Form]) -> (Vec<u8>, Vec<bool>) {
    let mut m = ModuleBuilder::resumable();
    let mut effects = Effects::default();
    let mut gaps = Vec::new();
    for form in forms {
        let i = &form.instruction;
        let mut e = Emit::new(CodeForm::Resumable);
        e.xmm_class = form.classes;
        let killed = Flags::killed_by(i);
        step(&mut e, i, killed, &mut effects);
        e.flags_to_state(killed);
        if killed == Flags::ALL {
            conditions(&mut e);
        }
        let dirty = e.dirty;
        e.flush(dirty);
        e.c64(0);
        let body = e.finish();
        gaps.push(!body.2.is_empty());
        m.function(&body);
    }
    (m.finish(forms.len() as u32, &[]), gaps)
}

fn conditions(e: &mut Emit) {
    use ConditionCode as C;
    for (k, cc) in [C::o, C::no, C::b, C::ae, C::e, C::ne, C::be, C::a, C::s, C::ns, C::p, C::np, C::l, C::ge, C::le, C::g].into_iter().enumerate() {
        e.cpu_store32(CONDITIONS + 4 * k as u64, |e| e.condition(cc));
    }
}

/// The helpers that rows of these groups call, done by the host's own instructions on xmm1 (first operand) and xmm2.
fn run_helper(cpu: &mut [u8], op: u32, a: u64, b: u64) -> u64 {
    let scratch = |cpu: &[u8], k: usize| u128::from_le_bytes(cpu[offset::scratch(k) as usize..][..16].try_into().expect("16 bytes"));
    if (float::FIRST..=float::LAST).contains(&op) {
        let s = State { xmm: operands(a, b), mxcsr: word(cpu, offset::MXCSR), ..State::default() };
        return Cpu::once(&instruction(op), &s).gpr[1];
    }
    let code: Vec<u8> = match op {
        helper::SSE => {
            let opcode = if a == SseOp::Rcpps as u64 || a == SseOp::Rcpss as u64 { 0x53 } else { 0x52 };
            let scalar = a == SseOp::Rcpss as u64 || a == SseOp::Rsqrtss as u64;
            if scalar { vec![0xf3, 0x0f, opcode, 0xca] } else { vec![0x0f, opcode, 0xca] }
        }
        helper::PCLMULQDQ => vec![0x66, 0x0f, 0x3a, 0x44, 0xca, a as u8],
        helper::PCMPESTRM => string(0x60, a, b),
        helper::PCMPESTRI => string(0x61, a, b),
        helper::PCMPISTRM => string(0x62, a, b),
        helper::PCMPISTRI => string(0x63, a, b),
        _ => panic!("helper {op} is not part of these groups"),
    };
    let mut s = State::default();
    s.gpr[0] = u64::from_le_bytes(cpu[offset::gpr(0) as usize..][..8].try_into().expect("8 bytes"));
    s.gpr[2] = u64::from_le_bytes(cpu[offset::gpr(2) as usize..][..8].try_into().expect("8 bytes"));
    (s.xmm[1], s.xmm[2]) = (scratch(cpu, 0), scratch(cpu, 1));
    let out = Cpu::once(&code, &s);
    put(cpu, offset::scratch(2), &out.xmm[usize::from(matches!(op, helper::SSE | helper::PCLMULQDQ))].to_le_bytes());
    if !matches!(op, helper::SSE | helper::PCLMULQDQ) {
        for (_, at, bit) in FLAGS {
            put(cpu, at, &(out.flags >> bit & 1).to_le_bytes());
        }
    }
    out.gpr[1]
}

/// xmm1: a, with b above it; xmm2: b.
fn operands(a: u64, b: u64) -> [u128; 16] {
    let mut xmm = [0; 16];
    (xmm[1], xmm[2]) = (u128::from(b) << 64 | u128::from(a), b.into());
    xmm
}

/// The instruction of an operation of `syscalls::abi::float`, its result in rcx. Singles have zeros above them.
fn instruction(op: u32) -> Vec<u8> {
    use iced_x86::code_asm::*;
    let mut a = CodeAssembler::new(64).expect("64-bit assembler");
    let assembled = match op {
        float::COMISS => a.comiss(xmm1, xmm2),
        float::COMISD => a.comisd(xmm1, xmm2),
        float::UCOMISS => a.ucomiss(xmm1, xmm2),
        float::UCOMISD => a.ucomisd(xmm1, xmm2),
        float::CVTSS2SI => a.cvtss2si(ecx, xmm1),
        float::CVTSS2SI64 => a.cvtss2si(rcx, xmm1),
        float::CVTSD2SI => a.cvtsd2si(ecx, xmm1),
        float::CVTSD2SI64 => a.cvtsd2si(rcx, xmm1),
        float::CVTTSS2SI => a.cvttss2si(ecx, xmm1),
        float::CVTTSS2SI64 => a.cvttss2si(rcx, xmm1),
        float::CVTTSD2SI => a.cvttsd2si(ecx, xmm1),
        float::CVTTSD2SI64 => a.cvttsd2si(rcx, xmm1),
        float::CVTPS2DQ => a.cvtps2dq(xmm1, xmm1),
        float::CVTPD2DQ => a.cvtpd2dq(xmm1, xmm1),
        float::CVTTPS2DQ => a.cvttps2dq(xmm1, xmm1),
        float::CVTTPD2DQ => a.cvttpd2dq(xmm1, xmm1),
        float::ROUNDPS..float::ROUNDSD => a.roundps(xmm1, xmm1, op - float::ROUNDPS),
        _ => a.roundsd(xmm1, xmm1, op - float::ROUNDSD),
    };
    assembled.expect("assembles");
    if op >= float::CVTPS2DQ {
        a.movq(rcx, xmm1).expect("assembles");
    }
    a.assemble(0x1000).expect("assembles")
}

fn string(opcode: u8, imm: u64, wide: u64) -> Vec<u8> {
    let mut c = vec![0x66];
    if wide == 1 {
        c.push(0x48);
    }
    c.extend([0x0f, 0x3a, opcode, 0xca, imm as u8]);
    c
}
