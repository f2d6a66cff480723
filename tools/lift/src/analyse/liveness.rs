//! Register liveness within functions and summaries between them.
//!
//! Needed because gcc's -fipa-ra keeps values in caller-saved registers across calls of local functions, and hand-written assembly uses odd registers between
//! labels: SysV is assumed only where a call's target or a function's callers are unknown. rsp is not part of any set: it is always exact.
//!
//! The fact a newcomer gets wrong: nobody knows how many arguments a call of an unknown target has, so it may read all six registers; but what an earlier call left
//! behind in them is no argument (`leftovers`), and is neither kept nor loaded for it.

use crate::function::{Block, Function, Program, Terminator};
use crate::registers::{Effects, RegSet};
use iced_x86::{FlowControl, Instruction, Mnemonic};
use std::collections::{BTreeMap, HashMap};

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
}

impl Summary {
    /// Of a target nobody knows.
    pub const UNKNOWN: Summary = Summary { reads: RegSet::EMPTY, forwards: RegSet::ARGUMENTS, may_write: RegSet::CALLER_SAVED, results: RegSet::RESULTS };
}

/// One step of a block as liveness sees it.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Plain {
        reads: RegSet,
        writes: RegSet,
    },
    Syscall,
    /// `operand`: registers the call instruction itself reads; `target`: of a direct call; `leftovers`: registers that hold, on every way here, what an earlier call left there and
    /// is not a result in the System V convention (known once `summarise` was there).
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
    let reads = e.reads.minus(RegSet::RSP);
    match (i.flow_control(), i.mnemonic()) {
        (FlowControl::Call, Mnemonic::Call) => Event::Call { operand: RegSet::EMPTY, target: Some(i.near_branch_target()), leftovers: RegSet::EMPTY },
        (FlowControl::IndirectCall, Mnemonic::Call) if !i.is_call_far_indirect() => {
            // iced counts what the callee might use too; only the operand matters here.
            let operand = RegSet::of(i.memory_base()).or(RegSet::of(i.memory_index()));
            let register = if i.op0_kind() == iced_x86::OpKind::Register { RegSet::of(i.op0_register()) } else { RegSet::EMPTY };
            Event::Call { operand: operand.or(register).minus(RegSet::RSP), target: None, leftovers: RegSet::EMPTY }
        }
        (_, Mnemonic::Syscall) => Event::Syscall,
        _ => Event::Plain { reads, writes: e.writes.minus(RegSet::RSP) },
    }
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
        mark_leftovers(f, events.get_mut(&f.entry).expect("every function has events"), &s);
    }
    for f in program.functions.values() {
        let e = s.get_mut(&f.entry).expect("every function has a summary");
        e.results = e.results.and(e.may_write);
        // rdx comes back as a result in any case: what nobody reads there need not be what it was.
        e.may_write = e.may_write.or(RegSet::gpr(2));
    }
    let mut live: HashMap<(u64, u64), Live> = HashMap::new();
    while liveness_round(program, events, &mut s, &mut live) {}
    s
}

/// Summaries in which only `may_write` means anything.
pub fn summarise_writes(program: &Program, events: &BTreeMap<u64, Events>) -> Summaries {
    let mut s: Summaries = program
        .functions
        .values()
        .map(|f| {
            let results = if f.address_taken { RegSet::RESULTS } else { RegSet::EMPTY };
            (f.entry, Summary { results, ..Summary::default() })
        })
        .collect();
    while may_write_round(program, events, &mut s) {}
    s
}

/// Tells every call of a function what earlier calls left behind: a forward intersection over the graph.
fn mark_leftovers(f: &Function, events: &mut Events, s: &Summaries) {
    let mut before: HashMap<u64, RegSet> = HashMap::from([(f.entry, RegSet::EMPTY)]);
    let mut work = vec![f.entry];
    while let Some(at) = work.pop() {
        let Some(block) = f.blocks.get(&at) else { continue };
        let out = events[&at].iter().fold(before[&at], |l, e| leftovers_after(e, l, s));
        for next in block.successors() {
            let old = before.get(&next).copied();
            let new = old.map_or(out, |o| o.and(out));
            if old != Some(new) {
                before.insert(next, new);
                work.push(next);
            }
        }
    }
    for (at, l) in before {
        let mut l = l;
        for e in events.get_mut(&at).into_iter().flatten() {
            if let Event::Call { leftovers, .. } = e {
                *leftovers = l;
            }
            l = leftovers_after(e, l, s);
        }
    }
}

fn leftovers_after(e: &Event, before: RegSet, s: &Summaries) -> RegSet {
    match e {
        Event::Plain { writes, .. } => before.minus(*writes),
        Event::Syscall => before.minus(SYSCALL_WRITES),
        Event::Call { target, .. } => {
            let written = summary(s, *target).may_write;
            before.or(written).minus(RegSet::RESULTS.and(written))
        }
    }
}

fn may_write_round(program: &Program, events: &BTreeMap<u64, Events>, s: &mut Summaries) -> bool {
    let mut changed = false;
    for f in program.functions.values() {
        let mut w = s[&f.entry].may_write;
        for b in f.blocks.values() {
            for e in &events[&f.entry][&b.start] {
                w = w.or(match e {
                    Event::Plain { writes, .. } => *writes,
                    Event::Syscall => SYSCALL_WRITES,
                    Event::Call { target, .. } => summary(s, *target).may_write,
                });
            }
            w = w.or(match b.end {
                Terminator::TailJump(t) => summary(s, Some(t)).may_write,
                Terminator::TailBranch { taken, .. } => summary(s, Some(taken)).may_write,
                Terminator::IndirectJump => RegSet::CALLER_SAVED,
                _ => RegSet::EMPTY,
            });
        }
        let w = w.and(RegSet::CALLER_SAVED);
        let e = s.get_mut(&f.entry).expect("every function has a summary");
        changed |= e.may_write != w;
        e.may_write = w;
    }
    changed
}

/// Registers read later (`reads`), and those that are read only by unknown callees, if they read them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Live {
    reads: RegSet,
    forwards: RegSet,
}

impl Live {
    fn or(self, o: Self) -> Self {
        Self { reads: self.reads.or(o.reads), forwards: self.forwards.or(o.forwards) }
    }
    fn minus(self, written: RegSet) -> Self {
        Self { reads: self.reads.minus(written), forwards: self.forwards.minus(written) }
    }
    fn reading(self, reads: RegSet) -> Self {
        Self { reads: self.reads.or(reads), ..self }
    }
    fn forwarding(self, forwards: RegSet) -> Self {
        Self { forwards: self.forwards.or(forwards), ..self }
    }
}

/// One pass over all functions; true if anything changed.
fn liveness_round(program: &Program, events: &BTreeMap<u64, Events>, s: &mut Summaries, live: &mut HashMap<(u64, u64), Live>) -> bool {
    let mut changed = false;
    for f in program.functions.values().rev() {
        let fe = &events[&f.entry];
        let mut needs: Vec<(u64, RegSet)> = Vec::new();
        loop {
            needs.clear();
            let mut again = false;
            for b in f.blocks.values().rev() {
                let l = block_liveness(f, b, &fe[&b.start], s, live, &mut needs);
                if live.insert((f.entry, b.start), l) != Some(l) {
                    again = true;
                }
            }
            if !again {
                break;
            }
        }
        let Live { reads, forwards } = live[&(f.entry, f.entry)];
        let e = s.get_mut(&f.entry).expect("every function has a summary");
        changed |= (e.reads, e.forwards) != (reads, forwards);
        (e.reads, e.forwards) = (reads, forwards);
        for (target, regs) in needs {
            if let Some(t) = s.get_mut(&target) {
                let r = t.results.or(regs.and(t.may_write));
                changed |= r != t.results;
                t.results = r;
            }
        }
    }
    changed
}

/// Semantic liveness at the start of a block; pushes (callee, registers live after it) for every direct callee and tail target.
fn block_liveness(f: &Function, b: &Block, events: &[Event], s: &Summaries, live: &HashMap<(u64, u64), Live>, needs: &mut Vec<(u64, RegSet)>) -> Live {
    let own = s[&f.entry];
    let mut l = b.successors().iter().fold(Live::default(), |l, t| l.or(live.get(&(f.entry, *t)).copied().unwrap_or_default()));
    let mut tail = |t: u64| {
        let callee = summary(s, Some(t));
        needs.push((t, own.results));
        Live { reads: callee.reads.or(own.results.minus(callee.may_write)), forwards: callee.forwards }
    };
    l = l.or(match b.end {
        Terminator::Return => Live::default().reading(own.results.or(RegSet::RAX)),
        Terminator::TailJump(t) => tail(t),
        Terminator::TailBranch { taken, .. } => tail(taken),
        Terminator::IndirectJump => Live::default().forwarding(RegSet::ARGUMENTS),
        _ => Live::default(),
    });
    for e in events.iter().rev() {
        match e {
            Event::Plain { reads, writes } => l = l.minus(*writes).reading(*reads),
            Event::Syscall => l = l.minus(SYSCALL_WRITES).reading(SYSCALL_READS),
            Event::Call { operand, target, leftovers } => {
                let callee = summary(s, *target);
                if let Some(t) = target {
                    // What is only passed on to an unknown callee, too, is a result: of a string's length in rdx, of a number in xmm0.
                    needs.push((*t, l.reads.or(l.forwards.and(RegSet::RESULTS))));
                }
                l = l.minus(callee.may_write).reading(callee.reads.or(*operand)).forwarding(callee.forwards.minus(*leftovers));
            }
        }
    }
    l
}
