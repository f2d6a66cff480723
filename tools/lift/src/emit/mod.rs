//! Emits the WASM body of one function: registers as locals, lazy flags, memory access, and the driver that walks blocks. Owns the `Emit`
//! context that the semantic rows in `x86/` write to; the two control-flow forms are in `structured.rs` and `resumable.rs`.
//!
//! The fact a newcomer gets wrong: semantic rows never load registers from or store them to `CpuState`. Before a row runs, the driver has made every
//! register the instruction reads valid in its local; after it, the written ones are marked dirty. So rows may emit any control flow inside.

mod flags;
mod graph;
mod memory;
mod operand;
mod registers;
mod restart;
pub mod resumable;
mod shared_switch;
mod step;
pub mod structured;
mod vector;

pub use flags::{Flag, Flags, Lazy, Precision};
pub use operand::{Alu, Width};
pub use step::{branch_condition, is_terminal, load_poll, step, stop_at_end};

/// Locals and code of a function, without the final `end`; and the gaps met.
pub type Body = (Vec<ValType>, Vec<u8>, Vec<(u64, String)>);

use crate::registers::RegSet;
use iced_x86::Instruction;
use syscalls::abi::{import, offset, structured as function};
use wasm_encoder::{BlockType, InstructionSink, MemArg, ValType};

/// Which form is being emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Structured,
    Resumable,
}

/// How an xmm register lives in this function (structured form; the resumable form always uses `V128`). Scalar classes avoid vectors in loop-carried locals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum XmmClass {
    #[default]
    V128,
    F64,
    F32,
}

/// Static stack tracking: rsp = `base` local + `delta` + `bias`.
#[derive(Clone, Copy, Debug)]
pub struct StaticStack {
    /// rsp - entry rsp, at this point of the walk.
    pub delta: i32,
    /// Depth of the deepest point below the entry rsp, so that offsets from the base local are never negative.
    pub bias: i32,
}

/// Names of locals; allocated on first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Local {
    Gpr(u8),
    Xmm(u8),
    XmmF64(u8),
    XmmF32(u8),
    FlagOperand32(u8),
    FlagOperand64(u8),
    FlagOperandF32(u8),
    FlagOperandF64(u8),
    Flag(Flag),
    FrameBase,
    SavedIndex(u64),
    T32(u8),
    T64(u8),
    TV(u8),
    TF32(u8),
    TF64(u8),
}

/// The emission context of one WASM function.
pub struct Emit {
    pub form: Form,
    code: Vec<u8>,
    /// Number of WASM parameters.
    params: u32,
    locals: Vec<ValType>,
    names: std::collections::HashMap<Local, u32>,
    pub xmm_class: [XmmClass; 16],
    /// Upper lanes of scalar-class registers at this point of the walk.
    pub uppers: crate::analyse::classes::Uppers,
    pub stack: Option<StaticStack>,
    pub lazy: Lazy,
    /// Flags some later instruction may read (set by the driver before each row).
    pub live_flags: Flags,
    /// Locals holding the current value.
    pub valid: RegSet,
    /// Locals newer than `CpuState`.
    pub dirty: RegSet,
    /// Instructions for which no semantics exist: (address, text).
    pub gaps: Vec<(u64, String)>,
    /// Some row called a host function.
    pub calls_host: bool,
    /// Open WASM blocks above the current point (for branches out).
    pub depth: u32,
}

impl Emit {
    pub fn new(form: Form) -> Self {
        Self {
            form,
            code: Vec::new(),
            params: if form == Form::Structured { function::PARAMETERS.len() as u32 } else { 1 },
            locals: Vec::new(),
            names: std::collections::HashMap::new(),
            xmm_class: [XmmClass::V128; 16],
            uppers: Default::default(),
            stack: None,
            lazy: Lazy::State,
            live_flags: Flags::NONE,
            valid: RegSet::EMPTY,
            dirty: RegSet::EMPTY,
            gaps: Vec::new(),
            calls_host: false,
            depth: 0,
        }
    }

    /// The instruction sink: `e.s().i64_add()`.
    pub fn s(&mut self) -> InstructionSink<'_> {
        InstructionSink::new(&mut self.code)
    }

    fn local(&mut self, name: Local, ty: ValType) -> u32 {
        let next = self.params + self.locals.len() as u32;
        match self.names.entry(name) {
            std::collections::hash_map::Entry::Occupied(o) => *o.get(),
            std::collections::hash_map::Entry::Vacant(v) => {
                v.insert(next);
                self.locals.push(ty);
                next
            }
        }
    }

    /// Scratch locals for rows: 0..7 belong to the running row, 8.. to the emitter core.
    pub fn t32(&mut self, k: u8) -> u32 {
        self.local(Local::T32(k), ValType::I32)
    }
    pub fn t64(&mut self, k: u8) -> u32 {
        self.local(Local::T64(k), ValType::I64)
    }
    pub fn tv(&mut self, k: u8) -> u32 {
        self.local(Local::TV(k), ValType::V128)
    }
    pub fn tf64(&mut self, k: u8) -> u32 {
        self.local(Local::TF64(k), ValType::F64)
    }
    pub fn tf32(&mut self, k: u8) -> u32 {
        self.local(Local::TF32(k), ValType::F32)
    }

    /// The index that the load at an address took from a jump table. A jump may come much later, after loads for other jumps.
    pub fn saved_index(&mut self, load: u64) -> u32 {
        self.local(Local::SavedIndex(load), ValType::I32)
    }

    pub fn get(&mut self, local: u32) {
        self.s().local_get(local);
    }
    pub fn set(&mut self, local: u32) {
        self.s().local_set(local);
    }
    pub fn tee(&mut self, local: u32) {
        self.s().local_tee(local);
    }
    pub fn c32(&mut self, v: i32) {
        self.s().i32_const(v);
    }
    pub fn c64(&mut self, v: i64) {
        self.s().i64_const(v);
    }

    /// `if` on the i32 on the stack, without results. Rows nest freely inside the closures.
    pub fn if_else(&mut self, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        self.s().if_(BlockType::Empty);
        self.depth += 1;
        then(self);
        self.s().else_();
        otherwise(self);
        self.depth -= 1;
        self.s().end();
    }

    pub fn if_then(&mut self, then: impl FnOnce(&mut Self)) {
        self.s().if_(BlockType::Empty);
        self.depth += 1;
        then(self);
        self.depth -= 1;
        self.s().end();
    }

    /// A WASM loop whose body ends by leaving an i32 "go on" on the stack.
    pub fn do_while(&mut self, body: impl FnOnce(&mut Self)) {
        self.s().loop_(BlockType::Empty);
        self.depth += 1;
        body(self);
        self.s().br_if(0);
        self.depth -= 1;
        self.s().end();
    }

    /// Reads a field of `CpuState` (`offset::*`) as i32 / i64.
    pub fn cpu_load32(&mut self, field: u64) {
        self.c32(0);
        self.s().i32_load(cpu(field, 2));
    }
    pub fn cpu_load64(&mut self, field: u64) {
        self.c32(0);
        self.s().i64_load(cpu(field, 3));
    }
    /// A 16-bit field, zero-extended.
    pub fn cpu_load16(&mut self, field: u64) {
        self.c32(0);
        self.s().i32_load16_u(cpu(field, 1));
    }
    /// Writes a field; `value` pushes it.
    pub fn cpu_store32(&mut self, field: u64, value: impl FnOnce(&mut Self)) {
        self.c32(0);
        value(self);
        self.s().i32_store(cpu(field, 2));
    }
    pub fn cpu_store64(&mut self, field: u64, value: impl FnOnce(&mut Self)) {
        self.c32(0);
        value(self);
        self.s().i64_store(cpu(field, 3));
    }

    /// Calls `x86.helper(op, a, b)`; `args` pushes a and b (two i64). `reads`: registers the helper reads from `CpuState`; `writes`: registers it changes
    /// there (reloaded, marked clean). Leaves the i64 result on the stack. Flags the helper sets are in `CpuState`: say so with `flags_in_state`.
    pub fn helper(&mut self, op: u32, reads: RegSet, writes: RegSet, args: impl FnOnce(&mut Self)) {
        self.calls_host = true;
        self.flush(reads.and(self.dirty));
        self.c32(op as i32);
        args(self);
        self.s().call(import::HELPER_INDEX);
        for bit in writes.iter() {
            self.load_register(bit);
        }
        self.valid = self.valid.or(writes);
        self.dirty = self.dirty.minus(writes);
    }

    /// Stops the guest at this instruction with a `StopKind`; what follows in the block is unreachable.
    pub fn stop(&mut self, i: &Instruction, kind: syscalls::abi::StopKind) {
        let ip = if kind == syscalls::abi::StopKind::Breakpoint { i.next_ip() } else { i.ip() };
        self.cpu_store32(offset::STOP, |e| e.c32(kind as i32));
        self.leave(ip, RegSet(u32::MAX), Flags::ALL);
    }

    /// No semantics for this instruction: a named gap that stops the guest.
    pub fn gap(&mut self, i: &Instruction) {
        self.gaps.push((i.ip(), i.to_string()));
        self.stop(i, syscalls::abi::StopKind::Gap);
    }

    /// Leaves for the dispatcher at constant pc `pc`: flushes the dirty registers of `registers` and the flags of `flags`, returns a tagged pc.
    /// Does not change the emitter's idea of what is dirty: it is usually inside an `if`.
    pub fn leave(&mut self, pc: u64, registers: RegSet, flags: Flags) {
        self.leave_for(registers, flags, |e| e.c64(pc as i64));
    }

    /// `leave` for the i64 pc that `pc` pushes.
    pub fn leave_for(&mut self, registers: RegSet, flags: Flags, pc: impl FnOnce(&mut Self)) {
        let (valid, dirty, lazy) = (self.valid, self.dirty, self.lazy);
        self.flush(dirty.and(registers));
        self.flush_rsp();
        self.flags_to_state(flags);
        self.return_tagged(pc);
        (self.valid, self.dirty, self.lazy) = (valid, dirty, lazy);
    }

    /// Returns to the dispatcher with full state in `CpuState`; `pc` pushes the untagged i64 pc.
    pub fn return_tagged(&mut self, pc: impl FnOnce(&mut Self)) {
        if self.form == Form::Resumable {
            pc(self);
            self.s().return_();
            return;
        }
        let next = function::result(function::NEXT_PC).expect("a result");
        self.any_results(&function::RESULTS[..next]);
        pc(self);
        self.c64(i64::MIN);
        self.s().i64_or();
        self.any_results(&function::RESULTS[next + 1..]);
        self.s().return_();
    }

    fn any_results(&mut self, results: &[usize]) {
        for r in results {
            self.any();
            if *r == function::RSP {
                self.s().i32_wrap_i64();
            }
        }
    }

    /// The finished body.
    pub fn finish(self) -> Body {
        (self.locals, self.code, self.gaps)
    }

    /// Bytes emitted so far.
    pub fn len(&self) -> usize {
        self.code.len()
    }
    pub fn is_empty(&self) -> bool {
        self.code.is_empty()
    }
}

/// Memory argument for a field of `CpuState`.
fn cpu(offset: u64, align: u32) -> MemArg {
    MemArg { offset, align, memory_index: import::CPU_INDEX }
}

/// A bit of a memory argument's offset as rows hand it on: the access is based on rsp, hence of what other threads do not look at.
const OWN_STACK: u64 = 1 << 63;

/// Memory argument for guest memory of more than one byte. x86 allows any alignment; what is stated tells LLVM what it may leave out or move: 1 for nothing, 2 for the thread's own stack.
pub(crate) fn guest(offset: u64) -> MemArg {
    MemArg { align: u32::from(offset & OWN_STACK != 0), ..guest_byte(offset) }
}

/// The same for one byte, of which nothing but 1 can be stated.
pub(crate) fn guest_byte(offset: u64) -> MemArg {
    MemArg { offset: offset & !OWN_STACK, align: 0, memory_index: import::MEM_INDEX }
}
