//! The structured form: registers in, registers and the next pc out (`abi::structured`), guest control flow as WASM blocks and loops (Ramsey, "Beyond Relooper"), guest calls
//! as WASM calls.
//!
//! Loops with several entries get a selector (see `graph`), with registers still in locals.

use super::graph::{Graph, SELECTOR};
use super::shared_switch::{is_shared, share};
use super::{Body, Emit, Flags, Form, Lazy, StaticStack, Width, is_terminal, load_poll, step, stop_at_end};
use crate::analyse::liveness::{self, Event, Events, Summaries, Summary};
use crate::analyse::locals::{self, BlockView, LocalFacts, Loops};
use crate::analyse::{classes, flags, stack};
use crate::function::{Block, Certainty, Function, SwitchIndex, Terminator};
use crate::registers::{Effects, RegSet};
use iced_x86::{FlowControl, Instruction, Mnemonic};
use std::collections::HashMap;
use syscalls::abi::structured::{self, RSP};
use syscalls::abi::{CODE_LIMIT, import, offset};
use wasm_encoder::{BlockType, MemArg};

/// What all functions of an object share.
pub struct Object<'a> {
    pub summaries: &'a Summaries,
    /// WASM function index of each structured entry.
    pub index: &'a HashMap<u64, u32>,
    /// The slot that a PLT entry jumps through: calls of it are made through the slot.
    pub slots: &'a HashMap<u64, u64>,
    /// Index of the mismatch function.
    pub mismatch: u32,
    /// Type index of structured functions.
    pub function_type: u32,
}

/// A finished function.
pub struct Structured {
    pub body: Body,
    /// Has a loop with several entries.
    pub irreducible: bool,
}

/// Locals with results of a call.
#[derive(Clone, Copy)]
struct Results {
    rax: u32,
    pc: u32,
    rdx: u32,
}

/// WASM scopes around the current point.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    /// `loop` whose label continues at this block.
    Loop(u64),
    /// `block` whose end is followed by this block.
    Before(u64),
    /// `block` whose end is where the table jump of this block leaves the function.
    Elsewhere(u64),
    /// Anything else.
    Other,
}

/// What is still to be emitted. A list of these, last first, stands for what would be recursion: chains of dominators are as long as a file likes, native stacks are not.
enum Task {
    Tree(u64),
    Block(u64),
    /// Ends the innermost scope.
    Close,
    /// Control goes on from the end of a block, with what was known there.
    Goto {
        from: u64,
        to: u64,
        known: Known,
    },
    /// The same for a tail jump.
    Tail(u64, Known),
    /// A doubtful table jump has come to this target.
    Compare {
        from: u64,
        to: u64,
    },
    /// Where the table jump of a block goes if none of its known targets is meant: the way out of the function.
    Elsewhere(u64, Known),
}

/// What the emitter knows at one point.
#[derive(Clone, Copy)]
struct Known {
    valid: RegSet,
    dirty: RegSet,
    lazy: Lazy,
    stack: Option<StaticStack>,
    uppers: classes::Uppers,
}

struct Writer<'a> {
    e: Emit,
    f: &'a Function,
    o: &'a Object<'a>,
    g: Graph,
    events: &'a Events,
    facts: LocalFacts,
    loops: Loops,
    flags_in: HashMap<u64, Flags>,
    stack: Option<stack::StackFacts>,
    effects: Effects,
    scopes: Vec<Scope>,
    /// How many scopes are around each of them.
    around: HashMap<Scope, usize>,
    tasks: Vec<Task>,
    /// Pending flags at the end of finished blocks, for their only successor.
    lazy_out: HashMap<u64, Lazy>,
    /// Loads whose index register a switch needs.
    switch_loads: Vec<u64>,
    classes: classes::Classes,
    /// Copies of the current one-block loop still to be emitted.
    copies: usize,
}

/// One-block loops of at most so many instructions are emitted several times over, with one poll: a poll is a load, a test and a branch.
const UNROLLED_INSTRUCTIONS: usize = 40;

/// Copies of a one-block loop; 1 if it is not to be unrolled.
fn copies(b: &Block) -> usize {
    let plain = b.instructions.iter().all(|i| matches!(i.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch));
    match b.end {
        // LLVM gives every copy of a loop that steps by a register an offset register of its own: not too many.
        Terminator::Branch { taken, next } if plain && (taken == b.start) != (next == b.start) => {
            let by_register = b.instructions.iter().any(|i| matches!(i.mnemonic(), Mnemonic::Add | Mnemonic::Sub) && i.op0_register().is_gpr() && i.op1_register().is_gpr());
            (UNROLLED_INSTRUCTIONS / b.instructions.len().max(1)).clamp(1, if by_register { 2 } else { 4 })
        }
        _ => 1,
    }
}

/// Emits `f` in the structured form.
pub fn emit(f: &Function, o: &Object<'_>, events: &Events) -> Structured {
    match share(f, events) {
        Some((f, events)) => write(&f, o, &events),
        None => write(f, o, events),
    }
}

fn write(f: &Function, o: &Object<'_>, events: &Events) -> Structured {
    let mut g = Graph::of(f);
    for b in f.blocks.values().filter(|b| copies(b) > 1) {
        // The way out is reached from every copy.
        let out = b.successors().into_iter().find(|t| *t != b.start && g.number.contains_key(t));
        g.merges.extend(out);
    }
    let irreducible = !g.selectors.is_empty();
    let loops = g.loops();
    let facts = locals::analyse(f, &g.order, &loops, events, o.summaries);
    let switch_loads = g.order.iter().filter_map(|b| match &f.blocks[b].end {
        Terminator::Switch { index: SwitchIndex::SavedAtLoad(at), .. } | Terminator::ToSwitch { index: SwitchIndex::SavedAtLoad(at), .. } => Some(*at),
        _ => None,
    });
    let mut w = Writer {
        e: Emit::new(Form::Structured),
        f,
        o,
        events,
        flags_in: flags::live_in(f),
        stack: stack::track(f),
        effects: Effects::default(),
        scopes: Vec::new(),
        around: HashMap::new(),
        tasks: Vec::new(),
        lazy_out: HashMap::new(),
        switch_loads: switch_loads.collect(),
        facts,
        loops,
        g,
        classes: classes::Classes::default(),
        copies: 0,
    };
    w.classes = classes::choose(f, &w.g.order, events, o.summaries);
    w.e.xmm_class = w.classes.class;
    w.prologue();
    w.select(f.entry);
    w.tasks.push(Task::Tree(w.g.root));
    w.run();
    w.e.s().unreachable();
    Structured { body: w.e.finish(), irreducible }
}

/// A call came back with an unexpected pc: its results, as parameters (`Writer::pass_on_if`). Untagged: complete the state. Then pass the pc on, tagged.
pub fn mismatch() -> Body {
    let mut e = Emit::new(Form::Structured);
    e.gpr64(MISMATCH_PC);
    e.c64(0);
    e.s().i64_ge_s();
    e.if_then(|e| {
        e.cpu_store64(offset::gpr(RSP), |e| {
            e.entry_rsp();
            e.s().i64_extend_i32_u();
        });
        e.cpu_store64(offset::gpr(RAX), |e| e.gpr64(MISMATCH_RAX));
        for r in RegSet::RETURNED.minus(RegSet::RAX).iter() {
            e.cpu_store64(offset::gpr(r), |e| e.gpr64(r));
        }
    });
    e.return_tagged(|e| e.gpr64(MISMATCH_PC));
    let body = e.finish();
    assert!(body.0.is_empty(), "the mismatch function has no locals");
    body
}

const RAX: usize = 0;
const RDX: usize = 2;
/// The parameters that tell the mismatch function what rax and the pc were: with these, every result of the call stands already where it is a parameter.
const MISMATCH_RAX: usize = structured::PARAMETERS[structured::result(RAX).expect("rax is a result")];
const MISMATCH_PC: usize = structured::PARAMETERS[structured::result(structured::NEXT_PC).expect("the pc is a result")];

impl Writer<'_> {
    fn own(&self) -> Summary {
        self.o.summaries[&self.f.entry]
    }

    fn prologue(&mut self) {
        self.e.valid = RegSet(u32::MAX);
        self.e.stack = self.stack.as_ref().map(|s| StaticStack { delta: 0, bias: s.bias });
        self.e.entry_rsp();
        self.e.set_rsp32();
        let loads = self.facts.live_in[&self.f.entry].minus(RegSet::PARAMETERS).minus(RegSet::RSP);
        self.e.valid = RegSet(u32::MAX).minus(loads);
        self.e.ensure(loads);
        self.e.lazy = Lazy::State;
        let flags = self.flags_in.get(&self.f.entry).copied().unwrap_or_default();
        self.e.flags_to_locals(flags);
        self.e.lazy = Lazy::Locals;
    }

    // ---- structuring ----

    fn run(&mut self) {
        while let Some(task) = self.tasks.pop() {
            match task {
                Task::Tree(b) => self.tree(b),
                Task::Block(b) => self.block(b),
                Task::Close => self.close(),
                Task::Goto { from, to, known } => {
                    self.resume(known);
                    self.goto(from, to);
                }
                Task::Tail(target, known) => {
                    self.resume(known);
                    self.tail(target);
                }
                Task::Compare { from, to } => self.compare(from, to),
                Task::Elsewhere(b, known) => {
                    self.resume(known);
                    self.elsewhere(b);
                }
            }
        }
    }

    fn known(&self) -> Known {
        Known { valid: self.e.valid, dirty: self.e.dirty, lazy: self.e.lazy, stack: self.e.stack, uppers: self.e.uppers }
    }

    fn resume(&mut self, k: Known) {
        (self.e.valid, self.e.dirty, self.e.lazy, self.e.stack, self.e.uppers) = (k.valid, k.dirty, k.lazy, k.stack, k.uppers);
    }

    fn tree(&mut self, b: u64) {
        let mut after: Vec<u64> = self.g.children.get(&b).into_iter().flatten().copied().filter(|c| self.g.merges.contains(c)).collect();
        after.sort_by_key(|c| std::cmp::Reverse(self.g.number[c]));
        self.copies = self.f.blocks.get(&b).map_or(1, copies);
        if self.g.headers.contains(&b) {
            self.open(Scope::Loop(b));
            self.tasks.push(Task::Close);
        }
        for m in &after {
            self.open(Scope::Before(*m));
            self.tasks.extend([Task::Tree(*m), Task::Close]);
        }
        if b & SELECTOR == 0 {
            self.block(b);
        } else {
            self.selector(b);
        }
    }

    fn open(&mut self, s: Scope) {
        match s {
            Scope::Loop(_) => self.e.s().loop_(BlockType::Empty),
            _ => self.e.s().block(BlockType::Empty),
        };
        self.enter(s);
    }

    fn enter(&mut self, s: Scope) {
        self.around.insert(s, self.scopes.len());
        self.scopes.push(s);
    }

    fn close(&mut self) {
        self.e.s().end();
        let scope = self.scopes.pop().expect("a scope is open");
        self.around.remove(&scope);
    }

    /// The label of a scope that is open.
    fn label(&self, s: Scope) -> u32 {
        (self.scopes.len() - 1 - self.around[&s]) as u32
    }

    /// Branches to the block a selector was told.
    fn selector(&mut self, node: u64) {
        self.lazy_out.insert(node, Lazy::Locals);
        let targets = self.g.selectors[&node].clone();
        let n = targets.len() as u32;
        for _ in 0..n {
            self.open(Scope::Other);
        }
        let select = self.e.t32(12);
        self.e.get(select);
        self.e.s().br_table(0..n - 1, n - 1);
        for t in targets.into_iter().rev() {
            self.tasks.extend([Task::Tree(t), Task::Close]);
        }
    }

    /// Tells the selector of block `b`, if it has one, to go there.
    fn select(&mut self, b: u64) {
        if let Some(s) = self.g.via.get(&b) {
            let k = self.g.selectors[s].binary_search(&b).expect("a selector knows its targets");
            let select = self.e.t32(12);
            self.e.c32(k as i32);
            self.e.set(select);
        }
    }

    /// Control goes from the end of `from` to `to`; nothing is emitted after it but the task it leaves.
    fn goto(&mut self, from: u64, to: u64) {
        let node = self.g.node(to);
        let back = self.g.number[&node] <= self.g.number[&from];
        if from == to && self.copies > 1 {
            self.copies -= 1;
            self.tasks.push(Task::Block(to));
            return;
        }
        if back {
            self.poll(to);
        }
        let hoisted = self.facts.stored_on_edge(from, to, &self.loops).and(self.e.dirty);
        self.e.flush(hoisted);
        self.select(to);
        if back {
            let l = self.label(Scope::Loop(node));
            self.e.s().br(l);
        } else if self.g.merges.contains(&node) {
            let l = self.label(Scope::Before(node));
            self.e.s().br(l);
        } else {
            // The only way in: emitted in place.
            self.tasks.push(Task::Tree(node));
        }
    }

    fn poll(&mut self, to: u64) {
        let live = self.facts.live_in[&to];
        let flags = self.flags_in.get(&to).copied().unwrap_or_default();
        let target = self.switch_target();
        load_poll(&mut self.e);
        self.e.if_then(|e| if is_shared(to) { e.leave_for(live, flags, |e| e.get(target)) } else { e.leave(to, live, flags) });
    }

    // ---- blocks ----

    fn block(&mut self, at: u64) {
        let f = self.f;
        let b = &f.blocks[&at];
        self.e.valid = RegSet(u32::MAX);
        self.e.dirty = self.facts.dirty_in.get(&at).copied().unwrap_or_default();
        self.e.lazy = match self.g.single_predecessor(at) {
            Some(p) => self.lazy_out.get(&p).copied().unwrap_or(Lazy::Locals),
            _ => Lazy::Locals,
        };
        if let Some(s) = &self.stack {
            self.e.stack = Some(StaticStack { delta: s.delta[&at], bias: s.bias });
        }
        self.e.uppers = self.classes.uppers_in.get(&at).copied().unwrap_or_default();
        let live_flags = flags::live_after(b, &self.flags_in);
        let live = self.live(b);
        let terminal = b.instructions.last().is_some_and(|i| is_terminal(i, &b.end));
        let n = b.instructions.len() - usize::from(terminal);
        for (k, i) in b.instructions[..n].iter().enumerate() {
            let event = self.events[&at][k];
            match event {
                Event::Call { target, leftovers, .. } => self.call(i, target, leftovers, live[k + 1]),
                Event::Syscall => self.syscall(i, live[k + 1], live_flags[k]),
                Event::Plain { .. } | Event::Dispatch { .. } => {
                    if self.switch_loads.contains(&i.ip()) {
                        self.save_switch_index(i);
                    }
                    step(&mut self.e, i, live_flags[k], &mut self.effects);
                }
            }
            classes::step(i, event, self.o.summaries, &mut self.e.uppers);
        }
        let last = if terminal { b.instructions.last() } else { None };
        self.prepare_flags(b, last);
        self.terminator(b, last);
    }

    fn live(&self, b: &Block) -> Vec<RegSet> {
        // Uses by possible stores were counted with the larger may-dirty set when `live_in` was computed; within the block the emission-time set is exact enough,
        // because only registers that are live out or used below are ever asked for.
        let block = BlockView { b, events: &self.events[&b.start], s: self.o.summaries, own: self.own(), loops: &self.loops };
        block.live(&self.facts, RegSet(u32::MAX).minus(RegSet::RSP), &self.facts.live_in)
    }

    /// Flags that outlive the block must be in locals unless every successor is reached from here only.
    fn prepare_flags(&mut self, b: &Block, last: Option<&Instruction>) {
        let needed = flags::live_out(b, &self.flags_in);
        let inherits = b.successors().iter().all(|s| self.g.single_predecessor(*s) == Some(b.start) || !self.flags_in.get(s).copied().unwrap_or_default().any());
        if needed.any() && !inherits {
            let read = last.map_or(Flags::NONE, Flags::read_by);
            self.e.flags_to_locals(needed.or(read));
        }
        self.lazy_out.insert(b.start, self.e.lazy);
    }

    fn save_switch_index(&mut self, load: &Instruction) {
        let index = self.e.saved_index(load.ip());
        self.e.gpr64(load.memory_index().full_register().number());
        self.e.s().i32_wrap_i64();
        self.e.set(index);
    }

    // ---- calls ----

    /// Pushes a callee's parameters; of the registers, those of `wanted` mean something.
    fn parameters(&mut self, wanted: RegSet) {
        for r in structured::PARAMETERS {
            match r {
                RSP => self.e.rsp32(),
                _ if wanted.has(r) => self.e.gpr64(r),
                _ => self.e.any(),
            }
        }
    }

    /// Pushes the table slot for the i64 target in t64(11), and tells the miss stub where it was going.
    fn slot(&mut self) {
        let target = self.e.t64(11);
        self.e.cpu_store64(offset::RIP, |e| e.get(target));
        self.e.get(target);
        self.e.s().i32_wrap_i64().i32_const(2).i32_shl();
        self.e.s().i32_load(MemArg { offset: 0, align: 2, memory_index: import::CODEMAP_INDEX });
        self.e.c32(0);
        self.e.get(target);
        self.e.c64(CODE_LIMIT as i64);
        self.e.s().i64_lt_u().select();
    }

    fn call(&mut self, i: &Instruction, target: Option<u64>, leftovers: RegSet, live_after: RegSet) {
        let callee = self.call_of(i, target, leftovers, live_after);
        self.after_call(i.next_ip(), callee, live_after);
    }

    /// The call itself; its results are on the stack.
    fn call_of(&mut self, i: &Instruction, target: Option<u64>, leftovers: RegSet, live_after: RegSet) -> Summary {
        let callee = liveness::callee(self.o.summaries, target, leftovers);
        let t = self.e.t64(11);
        if target.is_none() {
            self.e.operand(i, 0);
            self.e.set(t);
        }
        self.e.c64(i.next_ip() as i64);
        self.e.push64();
        let dirty = self.e.dirty;
        self.e.flush(locals::call_flush(dirty, live_after, callee));
        let wanted = callee.reads.or(self.facts.kept).or(live_after.and(RegSet::CALLEE_SAVED));
        match target {
            Some(target) => match self.o.index.get(&target).copied() {
                Some(index) if !self.o.slots.contains_key(&target) => {
                    self.parameters(wanted);
                    self.e.s().call(index);
                }
                _ => {
                    self.fixed_target(target);
                    self.call_indirect(wanted);
                }
            },
            None => self.call_indirect(wanted),
        }
        callee
    }

    /// Sets t64(11) to where a jump to `target` ends up: what its slot holds, or an address outside the object's functions.
    fn fixed_target(&mut self, target: u64) {
        match self.o.slots.get(&target) {
            Some(slot) => {
                self.e.c32(*slot as i32);
                self.e.load(Width::W64, 0);
            }
            None => self.e.c64(target as i64),
        }
        let t = self.e.t64(11);
        self.e.set(t);
    }

    fn call_indirect(&mut self, wanted: RegSet) {
        self.parameters(wanted);
        self.slot();
        let ty = self.o.function_type;
        self.e.s().call_indirect(0, ty);
    }

    /// Pops the results of a call: rsp and the registers of callers go to their locals, the others to these.
    fn take_results(&mut self) -> Results {
        let results = Results { rax: self.e.t64(12), pc: self.e.t64(13), rdx: self.e.t64(15) };
        for r in structured::RESULTS.into_iter().rev() {
            match r {
                RAX => self.e.set(results.rax),
                RDX => self.e.set(results.rdx),
                RSP => self.e.set_rsp32(),
                structured::NEXT_PC => self.e.set(results.pc),
                _ => self.e.set_gpr64(r),
            }
        }
        results
    }

    fn after_call(&mut self, next: u64, callee: Summary, live_after: RegSet) {
        if let Some(s) = &mut self.e.stack {
            // The return address is off the stack again.
            s.delta += 8;
        }
        let results = self.take_results();
        self.e.get(results.pc);
        self.e.c64(next as i64);
        self.e.s().i64_ne();
        self.pass_on_if(results);
        let clobbered = callee.may_write;
        let taken = locals::taken(callee);
        self.e.dirty = self.e.dirty.minus(clobbered).or(taken);
        let reload = clobbered.minus(taken).and(live_after);
        self.e.valid = RegSet(u32::MAX).minus(reload);
        self.e.ensure(reload);
        for (register, result) in [(RAX, results.rax), (RDX, results.rdx)] {
            if taken.has(register) {
                self.e.get(result);
                self.e.set_gpr64(register);
            }
        }
    }

    /// If the i32 on the stack is not zero: a call came back where it should not have, with rsp as it is now.
    fn pass_on_if(&mut self, results: Results) {
        self.e.s().if_(BlockType::Empty);
        self.pass_on(results);
        self.e.s().end();
    }

    /// A call came back where it should not have.
    fn pass_on(&mut self, results: Results) {
        for r in structured::PARAMETERS {
            match r {
                RSP => self.e.rsp32(),
                MISMATCH_RAX => self.e.get(results.rax),
                MISMATCH_PC => self.e.get(results.pc),
                RDX => self.e.get(results.rdx),
                _ if RegSet::RETURNED.has(r) => self.e.gpr64(r),
                _ => self.e.any(),
            }
        }
        self.e.s().return_call(self.o.mismatch);
    }

    fn syscall(&mut self, i: &Instruction, live_after: RegSet, live_flags: Flags) {
        let dirty = self.e.dirty;
        self.e.flush(locals::syscall_flush(dirty, live_after));
        self.e.flags_to_state(live_flags);
        self.e.flush_rsp();
        self.e.cpu_store64(offset::RIP, |e| e.c64(i.next_ip() as i64));
        self.e.s().call(import::SYSCALL_INDEX);
        self.e.cpu_load32(offset::POLL);
        self.e.if_then(|e| e.return_tagged(|e| e.cpu_load64(offset::RIP)));
        let writes = liveness::SYSCALL_WRITES;
        self.e.dirty = self.e.dirty.minus(writes);
        let reload = writes.and(live_after);
        self.e.valid = RegSet(u32::MAX).minus(reload);
        self.e.ensure(reload);
        self.e.valid = RegSet(u32::MAX);
    }

    // ---- terminators ----

    fn terminator(&mut self, b: &Block, last: Option<&Instruction>) {
        match &b.end {
            Terminator::Jump(t) => self.goto(b.start, *t),
            // Hostile code makes a chain of these: with two ways to the same place, the way is written twice.
            Terminator::Branch { taken, next } if taken == next => {
                super::branch_condition(&mut self.e, last.expect("a branch block ends with its branch"));
                self.e.s().drop();
                self.goto(b.start, *next);
            }
            Terminator::Branch { taken, next } => self.branch(b, last, |known| Task::Goto { from: b.start, to: *taken, known }, *next),
            Terminator::TailBranch { taken, next } => self.branch(b, last, |known| Task::Tail(*taken, known), *next),
            Terminator::Switch { index, targets, certainty } => {
                self.choose(last, index);
                self.switch(b, targets, *certainty);
            }
            Terminator::ToSwitch { index, switch, open } => {
                self.choose(last, index);
                if let Some(length) = open {
                    self.leave_beyond(b, *length);
                }
                self.goto(b.start, *switch);
            }
            Terminator::SharedSwitch { targets, certainty, meaningless } => {
                self.e.clear(*meaningless);
                self.switch(b, targets, *certainty);
            }
            Terminator::Return => self.ret(last),
            Terminator::TailJump(t) => self.tail(*t),
            Terminator::IndirectJump => {
                let t = self.e.t64(11);
                self.e.operand(last.expect("an indirect jump ends its block"), 0);
                self.e.set(t);
                if self.f.is_lazy_entry() { self.lazy_call() } else { self.tail_indirect() }
            }
            Terminator::NoReturn => {
                let Some(Event::Call { target, leftovers, .. }) = self.events[&b.start].last().copied() else { unreachable!("such a block ends with its call") };
                self.call_of(last.expect("such a block ends with its call"), target, leftovers, RegSet::CALLEE_SAVED);
                let results = self.take_results();
                self.pass_on(results);
            }
            Terminator::Stop => stop_at_end(&mut self.e, b.instructions.last(), b.start),
        }
    }

    fn branch(&mut self, b: &Block, last: Option<&Instruction>, taken: impl FnOnce(Known) -> Task, next: u64) {
        super::branch_condition(&mut self.e, last.expect("a branch block ends with its branch"));
        let known = self.known();
        self.e.s().if_(BlockType::Empty);
        self.enter(Scope::Other);
        self.tasks.extend([Task::Goto { from: b.start, to: next, known }, Task::Close, taken(known)]);
    }

    /// Where the index of a table jump is kept.
    fn switch_index(&mut self) -> u32 {
        self.e.t32(13)
    }

    /// Where the jump goes by the guest's memory: for an index beyond the table we know, and for polls.
    fn switch_target(&mut self) -> u32 {
        self.e.t64(14)
    }

    /// Puts index and target of a table jump where `switch` finds them.
    fn choose(&mut self, jump: Option<&Instruction>, index: &SwitchIndex) {
        let (chosen, target) = (self.switch_index(), self.switch_target());
        match index {
            SwitchIndex::Register(r) => {
                self.e.gpr64(r.full_register().number());
                self.e.s().i32_wrap_i64();
            }
            SwitchIndex::SavedAtLoad(at) => {
                let saved = self.e.saved_index(*at);
                self.e.get(saved);
            }
        }
        self.e.set(chosen);
        self.e.operand(jump.expect("a table jump ends its block"), 0);
        self.e.set(target);
    }

    /// Leaves, with every register exact, if the index of the table jump that ends `b` is beyond the known part of its table.
    fn leave_beyond(&mut self, b: &Block, length: usize) {
        let chosen = self.switch_index();
        self.e.get(chosen);
        self.e.c32(length as i32);
        self.e.s().i32_ge_u().if_(BlockType::Empty);
        self.enter(Scope::Other);
        self.elsewhere(b.start);
        self.close();
    }

    fn switch(&mut self, b: &Block, targets: &[u64], certainty: Certainty) {
        let chosen = self.switch_index();
        let mut distinct = targets.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let n = distinct.len() as u32;
        self.open(Scope::Elsewhere(b.start));
        for _ in 0..n {
            self.open(Scope::Other);
        }
        self.e.get(chosen);
        if targets.len() == 256 && certainty == Certainty::Whole {
            // The index is a byte: saying so spares the comparison with the table's length.
            self.e.s().i32_const(0xff).i32_and();
        }
        let labels: Vec<u32> = targets.iter().map(|t| distinct.binary_search(t).expect("deduplicated from targets") as u32).collect();
        self.e.s().br_table(labels, n);
        let known = Known { valid: RegSet(u32::MAX), ..self.known() };
        self.tasks.extend([Task::Elsewhere(b.start, self.known()), Task::Close]);
        for to in distinct.into_iter().rev() {
            self.tasks.push(Task::Goto { from: b.start, to, known });
            if certainty == Certainty::Doubtful {
                self.tasks.push(Task::Compare { from: b.start, to });
            }
            self.tasks.push(Task::Close);
        }
    }

    /// Goes elsewhere unless the guest's memory says, too, that the table jump of `from` goes to `to`.
    fn compare(&mut self, from: u64, to: u64) {
        let target = self.switch_target();
        self.e.get(target);
        self.e.c64(to as i64);
        let elsewhere = self.label(Scope::Elsewhere(from));
        self.e.s().i64_ne().br_if(elsewhere);
    }

    /// The end of a table jump that is none of those we know: at the target it has by the guest's memory.
    fn elsewhere(&mut self, from: u64) {
        let target = self.switch_target();
        let flags = flags::live_out(&self.f.blocks[&from], &self.flags_in);
        self.e.leave_for(RegSet(u32::MAX), flags, |e| e.get(target));
    }

    fn ret(&mut self, last: Option<&Instruction>) {
        let (dirty, own) = (self.e.dirty, self.own());
        let flush = if self.facts.foreign_stack { dirty } else { locals::return_flush(dirty, own) };
        self.e.flush(flush);
        let pc = self.e.t64(11);
        let off = self.e.rsp_address();
        self.e.load(Width::W64, off);
        self.e.set(pc);
        let extra = last.filter(|i| i.op_count() == 1).map_or(0, |i| i32::from(i.immediate16()));
        self.e.rsp_add(8);
        if self.e.stack.is_none() {
            // Is this the frame we were called with? If not (longjmp, context switch, eh_return): tagged.
            self.e.rsp32();
            self.e.entry_rsp();
            self.e.s().i32_const(8).i32_add().i32_ne();
            if extra > 0 {
                self.e.s().drop().i32_const(1);
            }
            let given = locals::given_back(own).and(self.e.dirty);
            self.e.if_then(|e| {
                e.rsp_add(extra);
                e.flush_rsp();
                e.flush(given);
                e.return_tagged(|e| e.get(pc));
                e.dirty = e.dirty.or(given);
            });
        }
        self.give_back(locals::given_back(own), |w, r| w.e.gpr64(r), pc);
    }

    /// Returns: rsp as it is, the registers of `given`, which `push` pushes, and the pc.
    fn give_back(&mut self, given: RegSet, push: impl Fn(&mut Self, usize), pc: u32) {
        for r in structured::RESULTS {
            match r {
                RSP => self.e.rsp32(),
                structured::NEXT_PC => self.e.get(pc),
                _ if given.has(r) => push(self, r),
                _ => self.e.any(),
            }
        }
        self.e.s().return_();
    }

    fn tail(&mut self, target: u64) {
        let callee = liveness::callee(self.o.summaries, Some(target), RegSet::EMPTY);
        let (dirty, own) = (self.e.dirty, self.own());
        self.e.flush(locals::tail_flush(dirty, own, callee));
        let flags = self.flags_in.get(&target).copied().unwrap_or_default();
        self.e.flags_to_state(flags);
        match self.o.index.get(&target).copied() {
            Some(index) if self.at_entry_rsp() && !self.o.slots.contains_key(&target) => {
                self.parameters(locals::tail_parameters(own, callee));
                self.e.s().return_call(index);
            }
            _ => {
                self.fixed_target(target);
                self.tail_indirect();
            }
        }
    }

    /// A tail call's callee returns for us: only right when rsp is where our caller left it, which the static analysis knows.
    fn at_entry_rsp(&self) -> bool {
        self.e.stack.is_some_and(|s| s.delta == 0)
    }

    /// Jump to the i64 target in t64(11), nothing known about it.
    fn tail_indirect(&mut self) {
        let dirty = self.e.dirty;
        self.e.flush(dirty.minus(RegSet::PARAMETERS));
        if !self.at_entry_rsp() {
            self.leave_unless_for_our_caller();
        }
        self.parameters(RegSet::PARAMETERS);
        self.slot();
        let ty = self.o.function_type;
        self.e.s().return_call_indirect(0, ty);
    }

    /// rsp moves dynamically: at the entry rsp, or at that of the lazy PLT entry we work for, what t64(11) leads to returns for us; else it is the dispatcher's.
    fn leave_unless_for_our_caller(&mut self) {
        let t = self.e.t64(11);
        self.e.rsp32();
        self.e.entry_rsp();
        self.e.s().i32_ne();
        self.e.if_then(|e| {
            e.rsp32();
            e.cpu_load32(offset::LAZY_RSP);
            e.s().i32_ne();
            e.if_then(|e| {
                let dirty = e.dirty;
                e.flush(dirty);
                e.flush_rsp();
                e.return_tagged(|e| e.get(t));
                e.dirty = dirty;
            });
            e.cpu_store32(offset::LAZY_RSP, |e| e.c32(0));
        });
    }

    /// The end of a lazy PLT entry: a call, so that its frame vouches for `LAZY_RSP`. The resolver's last jump clears that and makes the function called
    /// return for us; if it did not, rsp is not where our caller expects it.
    fn lazy_call(&mut self) {
        let outer = self.e.t32(12);
        self.e.cpu_load32(offset::LAZY_RSP);
        self.e.set(outer);
        self.e.cpu_store32(offset::LAZY_RSP, |e| e.entry_rsp());
        let dirty = self.e.dirty;
        self.e.flush(dirty);
        self.call_indirect(RegSet::PARAMETERS);
        let results = self.take_results();
        self.e.cpu_load32(offset::LAZY_RSP);
        self.pass_on_if(results);
        self.e.cpu_store32(offset::LAZY_RSP, |e| e.get(outer));
        let push = |w: &mut Self, r| match r {
            RAX => w.e.get(results.rax),
            RDX => w.e.get(results.rdx),
            _ => w.e.gpr64(r),
        };
        self.give_back(RegSet::RETURNED, push, results.pc);
    }
}
