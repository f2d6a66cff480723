//! Register liveness within functions and summaries between them.
//!
//! Needed because gcc's -fipa-ra keeps values in caller-saved registers across calls of local functions, and hand-written assembly uses odd registers between
//! labels: SysV is assumed only where a call's target or a function's callers are unknown. rsp is not part of any set: it is always exact.
//!
//! The fact a newcomer gets wrong: nobody knows how many arguments a call of an unknown target has, so it may read all six registers; but what is none for sure (`leftovers`) is neither kept nor
//! loaded for it.

use super::{arguments, preserving, stack};
use crate::function::{Block, Function, Program, Terminator, is_breakpoint};
use crate::registers::{Effects, RegSet};
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What callers need to know of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Registers whose value at entry it, or something it calls, may read.
    pub reads: RegSet,
    /// Registers whose value at entry may be an argument of something unknown that it calls.
    pub forwards: RegSet,
    /// Caller-saved registers it may change.
    pub may_write: RegSet,
    /// Registers some caller reads after it returns (of those it may change).
    pub results: RegSet,
    /// Its `ret` is a jump to anywhere (`stack::returns_elsewhere`).
    pub leaves: bool,
}

impl Summary {
    /// Of a function that leaves for anywhere.
    const ANYTHING: Summary = Summary { reads: RegSet(!0).minus(RegSet::RSP), forwards: RegSet::EMPTY, may_write: RegSet::CALLER_SAVED, results: RegSet(!0), leaves: true };
    /// Of a target nobody knows.
    pub const UNKNOWN: Summary = Summary { reads: RegSet::EMPTY, forwards: RegSet::ARGUMENTS, may_write: RegSet::CALLER_SAVED, results: RegSet::RESULTS, leaves: false };
}

/// One step of a block as liveness sees it.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// `passes`: those of `reads` that are only passed on: saved on the stack, or kept where the instruction writes a part.
    Plain {
        reads: RegSet,
        writes: RegSet,
        passes: RegSet,
    },
    Syscall,
    /// The jump at the end of a handler of an interpreter. What is in `meaningless` registers means nothing wherever it goes (known once `summarise` was there).
    Dispatch {
        reads: RegSet,
        meaningless: RegSet,
    },
    /// `operand`: registers the call instruction itself reads; `target`: of a direct call; `leftovers`: registers that are no argument, whoever is called (known once `summarise` was
    /// there).
    Call {
        operand: RegSet,
        target: Option<u64>,
        leftovers: RegSet,
    },
}

/// What a call means to the function it stands in: `reads` are all registers that mean something to the callee.
pub fn callee(s: &Summaries, target: Option<u64>, leftovers: RegSet) -> Summary {
    let callee = summary(s, target);
    Summary { reads: callee.reads.or(callee.forwards.minus(leftovers)), ..callee }
}

/// Reads and writes of `linux.syscall`.
pub const SYSCALL_READS: RegSet = RegSet(1 | 1 << 7 | 1 << 6 | 1 << 2 | 1 << 10 | 1 << 8 | 1 << 9);
pub const SYSCALL_WRITES: RegSet = RegSet(1 | 1 << 1 | 1 << 11);

/// Events of every block, aligned with `Block::instructions`.
pub type Events = HashMap<u64, Vec<Event>>;

pub fn events(f: &Function, effects: &mut Effects) -> Events {
    f.blocks.values().map(|b| (b.start, b.instructions.iter().map(|i| event(i, effects)).collect())).collect()
}

fn event(i: &Instruction, effects: &mut Effects) -> Event {
    let e = effects.of(i);
    // A handler of a breakpoint sees every register, and gives them back.
    let reads = if is_breakpoint(i) { RegSet(u32::MAX) } else { e.reads }.minus(RegSet::RSP);
    match (i.flow_control(), i.mnemonic()) {
        (FlowControl::Call, Mnemonic::Call) => Event::Call { operand: RegSet::EMPTY, target: Some(i.near_branch_target()), leftovers: RegSet::EMPTY },
        (FlowControl::IndirectCall, Mnemonic::Call) if !i.is_call_far_indirect() => {
            // iced counts what the callee might use too; only the operand matters here.
            let operand = RegSet::of(i.memory_base()).or(RegSet::of(i.memory_index()));
            let register = if i.op0_kind() == OpKind::Register { RegSet::of(i.op0_register()) } else { RegSet::EMPTY };
            Event::Call { operand: operand.or(register).minus(RegSet::RSP), target: None, leftovers: RegSet::EMPTY }
        }
        (_, Mnemonic::Syscall) => Event::Syscall,
        _ => Event::Plain { reads, writes: e.writes.minus(RegSet::RSP), passes: e.keeps.minus(RegSet::CALLEE_SAVED).or(saved(i)) },
    }
}

/// The register that an instruction stores in the stack frame as a whole.
pub(super) fn saved(i: &Instruction) -> RegSet {
    let in_frame =
        || i.op0_kind() == OpKind::Memory && matches!(i.memory_base(), Register::RSP | Register::RBP) && i.memory_index() == Register::None && i.op1_kind() == OpKind::Register;
    match i.mnemonic() {
        Mnemonic::Push if i.op0_kind() == OpKind::Register => RegSet::of(i.op0_register()),
        _ if moves_whole(i) && in_frame() => RegSet::of(i.op1_register()),
        _ => RegSet::EMPTY,
    }
}

/// Registers that a function saves whatever it does next: before the first branch and call.
pub fn saved_at_entry(f: &Function) -> RegSet {
    let first = f.blocks.get(&f.entry).map_or(&[][..], |b| &b.instructions);
    first.iter().take_while(|i| i.flow_control() == FlowControl::Next).fold(RegSet::EMPTY, |set, i| set.or(saved(i)))
}

/// Does the instruction move whole registers, to or from memory?
pub(super) fn moves_whole(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(i.mnemonic(), Mov | Movaps | Movups | Movdqa | Movdqu | Movapd | Movupd)
}

/// Summaries of all functions of an object, by entry.
pub type Summaries = HashMap<u64, Summary>;

pub fn summary(s: &Summaries, target: Option<u64>) -> Summary {
    target.and_then(|t| s.get(&t).copied()).unwrap_or(Summary::UNKNOWN)
}

/// Computes all summaries: `may_write` first, then what calls leave behind, then `reads` and `results` together to a fixpoint.
pub fn summarise(program: &Program, events: &mut BTreeMap<u64, Events>) -> Summaries {
    let mut s = summarise_writes(program, events);
    for f in program.functions.values() {
        arguments::mark(f, events.get_mut(&f.entry).expect("every function has events"), &s);
    }
    for f in program.functions.values() {
        let e = s.get_mut(&f.entry).expect("every function has a summary");
        // rdx comes back as a result in any case: what nobody reads there need not be what it was.
        e.may_write = e.may_write.or(RegSet::gpr(2));
        e.results = e.results.and(e.may_write);
    }
    let mut live: HashMap<(u64, u64), Live> = HashMap::new();
    let calls = CallOrder::of(program, events);
    let mut waiting = calls.all();
    while let Some(entry) = calls.next(&mut waiting) {
        liveness_of(program, &program.functions[&entry], &events[&entry], &mut s, &mut live, |changed| calls.push(&mut waiting, changed));
    }
    for f in program.functions.values() {
        keep_what_is_read(f, events.get_mut(&f.entry).expect("every function has events"), &live);
    }
    s
}

/// Nothing is assumed of registers that this function, or one it knows, reads behind a dispatch. What is no argument there means nothing if nobody else has a use for it.
fn keep_what_is_read(f: &Function, events: &mut Events, live: &HashMap<(u64, u64), Live>) {
    for (at, events) in events {
        if let Some(Event::Dispatch { meaningless, .. }) = events.last_mut() {
            let behind = f.blocks[at].successors().iter().fold(Live::default(), |l, t| l.or(live[&(f.entry, *t)]));
            *meaningless = meaningless.or(arguments::APART.minus(behind.passes)).minus(behind.reads);
        }
    }
}

/// Summaries in which only `may_write` means anything.
pub fn summarise_writes(program: &Program, events: &BTreeMap<u64, Events>) -> Summaries {
    let mut effects = Effects::default();
    let mut s: Summaries = program
        .functions
        .values()
        .map(|f| {
            let results = if f.address_taken { RegSet::RESULTS } else { RegSet::EMPTY }.or(preserving::restores(f, &mut effects));
            (f.entry, if stack::returns_elsewhere(f) { Summary::ANYTHING } else { Summary { results, ..Summary::default() } })
        })
        .collect();
    let calls = CallOrder::of(program, events);
    let own: HashMap<u64, RegSet> = program.functions.values().map(|f| (f.entry, own_writes(f, &events[&f.entry], s[&f.entry].leaves))).collect();
    let mut waiting = calls.all();
    while let Some(entry) = calls.next(&mut waiting) {
        let callees = calls.callees[&entry].iter().fold(own[&entry], |w, t| w.or(summary(&s, Some(*t)).may_write));
        let e = s.get_mut(&entry).expect("every function has a summary");
        let changed = std::mem::replace(&mut e.may_write, callees.and(RegSet::CALLER_SAVED)) != e.may_write;
        if changed {
            calls.push(&mut waiting, Changed::ForCallers(entry));
        }
    }
    s
}

/// The order in which summaries are computed: callees first, and again only what a change concerns. Rounds over all functions take as many rounds as the longest chain of calls has links.
struct CallOrder {
    order: Vec<u64>,
    position: HashMap<u64, usize>,
    callees: HashMap<u64, Vec<u64>>,
    callers: HashMap<u64, Vec<u64>>,
}

/// What a new summary concerns.
enum Changed {
    /// The callers of this function.
    ForCallers(u64),
    /// This function.
    For(u64),
}

impl CallOrder {
    fn of(program: &Program, events: &BTreeMap<u64, Events>) -> CallOrder {
        let (mut callees, mut callers): (HashMap<u64, Vec<u64>>, HashMap<u64, Vec<u64>>) = (HashMap::new(), HashMap::new());
        for f in program.functions.values() {
            let called = events[&f.entry].values().flatten().filter_map(|e| if let Event::Call { target, .. } = e { *target } else { None });
            let mut targets: Vec<u64> = called.chain(f.blocks.values().filter_map(Block::tail_target)).collect();
            targets.sort_unstable();
            targets.dedup();
            targets.iter().for_each(|t| callers.entry(*t).or_default().push(f.entry));
            callees.insert(f.entry, targets);
        }
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for &root in program.functions.keys() {
            let mut stack = if seen.insert(root) { vec![(root, 0)] } else { Vec::new() };
            while let Some((entry, next)) = stack.pop() {
                match callees[&entry].get(next) {
                    Some(target) => {
                        stack.push((entry, next + 1));
                        if callees.contains_key(target) && seen.insert(*target) {
                            stack.push((*target, 0));
                        }
                    }
                    None => order.push(entry),
                }
            }
        }
        let position = order.iter().enumerate().map(|(k, e)| (*e, k)).collect();
        CallOrder { order, position, callees, callers }
    }

    fn all(&self) -> BTreeSet<usize> {
        (0..self.order.len()).collect()
    }

    fn next(&self, waiting: &mut BTreeSet<usize>) -> Option<u64> {
        waiting.pop_first().map(|k| self.order[k])
    }

    fn push(&self, waiting: &mut BTreeSet<usize>, changed: Changed) {
        match changed {
            Changed::ForCallers(callee) => waiting.extend(self.callers.get(&callee).into_iter().flatten().map(|e| self.position[e])),
            Changed::For(entry) => waiting.extend(self.position.get(&entry)),
        }
    }
}

/// Registers a function changes itself, or by calls of what nobody knows.
fn own_writes(f: &Function, events: &Events, leaves: bool) -> RegSet {
    let of_event = |e: &Event| match e {
        Event::Plain { writes, .. } => *writes,
        Event::Syscall => SYSCALL_WRITES,
        Event::Dispatch { .. } => RegSet::EMPTY,
        Event::Call { target: None, .. } => Summary::UNKNOWN.may_write,
        Event::Call { .. } => RegSet::EMPTY,
    };
    let ends = leaves || f.blocks.values().any(|b| b.end == Terminator::IndirectJump);
    events.values().flatten().fold(if ends { RegSet::CALLER_SAVED } else { RegSet::EMPTY }, |w, e| w.or(of_event(e)))
}

/// Registers read later, by who reads them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Live {
    /// This function or one it knows.
    reads: RegSet,
    /// Only callees that nobody knows, if they do.
    forwards: RegSet,
    /// Nobody here: saved on the stack, kept in part or given back to the caller. What was there at entry means something only if the caller says so, as what is forwarded.
    passes: RegSet,
}

impl Live {
    fn or(self, o: Self) -> Self {
        Self { reads: self.reads.or(o.reads), forwards: self.forwards.or(o.forwards), passes: self.passes.or(o.passes) }
    }
    fn minus(self, written: RegSet) -> Self {
        Self { reads: self.reads.minus(written), forwards: self.forwards.minus(written), passes: self.passes.minus(written) }
    }
    fn reading(self, reads: RegSet) -> Self {
        Self { reads: self.reads.or(reads), ..self }
    }
    fn forwarding(self, forwards: RegSet) -> Self {
        Self { forwards: self.forwards.or(forwards), ..self }
    }
    fn passing(self, passes: RegSet) -> Self {
        Self { passes: self.passes.or(passes), ..self }
    }

    /// `reads` and `forwards` of the function at whose entry this is live. Into one that others call, too, nobody puts anything but arguments; and al and r10 are for few callees.
    fn summary(self, f: &Function) -> (RegSet, RegSet) {
        let forwards = self.forwards.or(self.passes);
        if !f.address_taken {
            return (self.reads, forwards);
        }
        let few = RegSet::RAX.or(RegSet::gpr(10));
        let known = RegSet::ARGUMENTS.or(RegSet::CALLEE_SAVED);
        (self.reads.and(known).minus(few), forwards.and(known).or(self.reads.and(few)))
    }

    /// What a callee must return.
    fn results(self) -> RegSet {
        // What is only passed on to an unknown callee, too: a string's length in rdx, a number in xmm0.
        self.reads.or(self.passes).or(self.forwards.and(RegSet::RESULTS))
    }
}

/// Liveness of one function by the summaries as they are; says which of them it changes, its own and those of its callees.
fn liveness_of(program: &Program, f: &Function, fe: &Events, s: &mut Summaries, live: &mut HashMap<(u64, u64), Live>, mut changed: impl FnMut(Changed)) {
    let mut predecessors: HashMap<u64, Vec<u64>> = HashMap::new();
    for b in f.blocks.values() {
        b.successors().iter().for_each(|t| predecessors.entry(*t).or_default().push(b.start));
    }
    let mut needs: Vec<(u64, RegSet)> = Vec::new();
    let mut work: Vec<u64> = f.blocks.keys().copied().collect();
    let mut waiting: HashSet<u64> = work.iter().copied().collect();
    while let Some(at) = work.pop() {
        waiting.remove(&at);
        let l = block_liveness(f, &f.blocks[&at], &fe[&at], s, live, &mut needs);
        if live.insert((f.entry, at), l).unwrap_or_default() != l {
            work.extend(predecessors.get(&at).into_iter().flatten().filter(|p| waiting.insert(**p)));
        }
    }
    let (reads, forwards) = live[&(f.entry, f.entry)].summary(f);
    let e = s.get_mut(&f.entry).expect("every function has a summary");
    let (reads, forwards) = (e.reads.or(reads), e.forwards.or(forwards));
    if (e.reads, e.forwards) != (reads, forwards) {
        (e.reads, e.forwards) = (reads, forwards);
        changed(Changed::ForCallers(f.entry));
    }
    for (target, regs) in needs {
        // A function that others call, too, returns what the convention says.
        if program.functions.get(&target).is_some_and(|f| f.address_taken) {
            continue;
        }
        if let Some(t) = s.get_mut(&target) {
            let r = t.results.or(regs.and(t.may_write));
            if r != t.results {
                t.results = r;
                changed(Changed::For(target));
            }
        }
    }
}

/// Semantic liveness at the start of a block; pushes (callee, registers live after it) for every direct callee and tail target.
fn block_liveness(f: &Function, b: &Block, events: &[Event], s: &Summaries, live: &HashMap<(u64, u64), Live>, needs: &mut Vec<(u64, RegSet)>) -> Live {
    let own = s[&f.entry];
    let mut l = b.successors().iter().fold(Live::default(), |l, t| l.or(live.get(&(f.entry, *t)).copied().unwrap_or_default()));
    if let Some(Event::Dispatch { meaningless, .. }) = events.last() {
        l = Live { forwards: l.forwards.minus(meaningless.or(arguments::APART)), passes: l.passes.minus(*meaningless), ..l };
    }
    let mut tail = |t: u64| {
        let callee = summary(s, Some(t));
        needs.push((t, own.results));
        Live { reads: callee.reads, forwards: callee.forwards, passes: own.results.minus(callee.may_write) }
    };
    l = l.or(match b.end {
        Terminator::Return => Live::default().passing(own.results.or(RegSet::RAX)),
        Terminator::TailJump(t) => tail(t),
        Terminator::TailBranch { taken, .. } => tail(taken),
        Terminator::IndirectJump => Live::default().forwarding(RegSet::ARGUMENTS).passing(own.results),
        ref end if end.leaves_its_table() => Live::default().forwarding(RegSet::ARGUMENTS).passing(own.results),
        _ => Live::default(),
    });
    for e in events.iter().rev() {
        match e {
            Event::Plain { reads, writes, passes } => l = l.minus(*writes).reading(reads.minus(*passes)).passing(passes.minus(RegSet::CALLEE_SAVED)),
            Event::Syscall => l = l.minus(SYSCALL_WRITES).reading(SYSCALL_READS),
            Event::Dispatch { reads, .. } => l = l.reading(*reads),
            Event::Call { operand, target, leftovers } => {
                let callee = summary(s, *target);
                if let Some(t) = target {
                    needs.push((*t, l.results()));
                }
                l = l.minus(callee.may_write).reading(callee.reads.or(*operand)).forwarding(callee.forwards.minus(*leftovers));
            }
        }
    }
    l
}
