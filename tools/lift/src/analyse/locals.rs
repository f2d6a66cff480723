//! Which registers must be valid in locals, and which are newer than `CpuState`, at every block of one function (structured form).
//!
//! A register is stored to `CpuState` before a call only if it is dirty and the callee reads it or something reads it later. "May be stored" counts as a use,
//! so that a register that is dirty on one path only is valid on the others.

use super::liveness::{Event, Events, SYSCALL_READS, SYSCALL_WRITES, Summaries, Summary, callee, saved_at_entry, summary};
use super::stack;
use crate::function::{Block, Function, Terminator};
use crate::registers::RegSet;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Per block start.
#[derive(Clone, Debug, Default)]
pub struct LocalFacts {
    /// Registers whose local is read (or stored) later.
    pub live_in: HashMap<u64, RegSet>,
    /// Registers possibly newer than `CpuState`.
    pub dirty_in: HashMap<u64, RegSet>,
    /// Registers to store on forward edges to a block, because something would store them later: on the way into a loop those that it does not write; wherever paths meet
    /// those that nothing else needs, so that the other paths need not load them.
    pub hoisted: HashMap<u64, RegSet>,
    /// Registers of callers whose local is exact at every call, whatever lives after it: an exception may end the call in a handler of this function, to which no edge leads, or in one of a caller, which
    /// finds what this function has saved where the call frame says so, and the others in the registers.
    pub kept: RegSet,
    /// rsp may come from elsewhere (setcontext, eh_return): a return then needs every register exact.
    pub foreign_stack: bool,
}

impl LocalFacts {
    /// Registers to store, if dirty, on the edge `from` → `to`.
    pub fn stored_on_edge(&self, from: u64, to: u64, loops: &Loops) -> RegSet {
        if loops.is_back_edge(from, to) { RegSet::EMPTY } else { self.hoisted.get(&to).copied().unwrap_or_default() }
    }
}

/// Natural loops: header → blocks.
#[derive(Clone, Debug, Default)]
pub struct Loops(pub HashMap<u64, HashSet<u64>>);

impl Loops {
    fn is_back_edge(&self, from: u64, to: u64) -> bool {
        self.0.get(&to).is_some_and(|body| body.contains(&from))
    }
}

/// What the analysis works on.
struct Scope<'a> {
    f: &'a Function,
    order: &'a [u64],
    events: &'a Events,
    s: &'a Summaries,
    loops: &'a Loops,
}

/// Facts over the blocks of `order` (reached from the entry, in reverse postorder).
pub fn analyse(f: &Function, order: &[u64], loops: &Loops, events: &Events, s: &Summaries) -> LocalFacts {
    let scope = Scope { f, order, events, s, loops };
    let kept = if f.catches { RegSet::CALLEE_SAVED } else { RegSet::CALLEE_SAVED.minus(saved_at_entry(f)) };
    let mut facts = LocalFacts { kept, foreign_stack: stack::sets_foreign_rsp(f), ..LocalFacts::default() };
    facts.live_in = scope.live_in(&facts);
    let stores = scope.backward(|block, dirty, stored_in| block.stores(&facts, dirty, stored_in), &scope.may_dirty(&facts));
    let read = scope.backward(|block, _, live_in| block.live(&facts, RegSet::EMPTY, live_in)[0], &HashMap::new());
    for at in scope.meeting_points() {
        let written = loops.0.get(&at).into_iter().flatten().flat_map(|b| &events[b]);
        let written = written.fold(RegSet::EMPTY, |w, e| if let Event::Plain { writes, .. } = e { w.or(*writes) } else { w });
        let kept = if loops.0.contains_key(&at) { read[&at].and(written) } else { read[&at] };
        facts.hoisted.insert(at, stores[&at].minus(kept));
    }
    facts.live_in = scope.live_in(&facts);
    facts.dirty_in = scope.dirty(&facts);
    facts
}

impl<'a> Scope<'a> {
    fn block(&self, at: u64) -> BlockView<'a> {
        BlockView { b: &self.f.blocks[&at], events: &self.events[&at], s: self.s, own: self.s[&self.f.entry], loops: self.loops }
    }

    /// Blocks with several ways in, other than the entry.
    fn meeting_points(&self) -> Vec<u64> {
        let mut ways: HashMap<u64, usize> = HashMap::new();
        for t in self.order.iter().flat_map(|b| self.f.blocks[b].successors()) {
            *ways.entry(t).or_default() += 1;
        }
        ways.into_iter().filter(|(b, n)| *n > 1 && *b != self.f.entry).map(|(b, _)| b).collect()
    }

    fn live_in(&self, facts: &LocalFacts) -> HashMap<u64, RegSet> {
        self.backward(|block, dirty, live_in| block.live(facts, dirty, live_in)[0], &self.may_dirty(facts))
    }

    /// A backward union over the graph: `step` is one block, given what may be dirty at its start and the facts of later blocks.
    fn backward(&self, step: impl Fn(BlockView<'a>, RegSet, &HashMap<u64, RegSet>) -> RegSet, may_dirty: &HashMap<u64, RegSet>) -> HashMap<u64, RegSet> {
        let position: HashMap<u64, usize> = self.order.iter().enumerate().map(|(k, b)| (*b, k)).collect();
        let mut predecessors: Vec<Vec<usize>> = vec![Vec::new(); self.order.len()];
        for (k, b) in self.order.iter().enumerate() {
            self.f.blocks[b].successors().iter().filter_map(|t| position.get(t)).for_each(|t| predecessors[*t].push(k));
        }
        let mut facts = HashMap::new();
        // Last blocks first; again only what leads to a change, or a deep nest of loops takes as many rounds as it is deep.
        let mut waiting: BTreeSet<usize> = (0..self.order.len()).collect();
        while let Some(k) = waiting.pop_last() {
            let at = self.order[k];
            let l = step(self.block(at), may_dirty.get(&at).copied().unwrap_or_default(), &facts);
            if facts.insert(at, l).unwrap_or_default() != l {
                waiting.extend(&predecessors[k]);
            }
        }
        facts
    }

    /// A forward union over the graph: `step` is one block.
    fn forward(&self, facts: &LocalFacts, step: impl Fn(u64, RegSet) -> RegSet) -> HashMap<u64, RegSet> {
        let position: HashMap<u64, usize> = self.order.iter().enumerate().map(|(k, b)| (*b, k)).collect();
        let mut d = HashMap::from([(self.f.entry, RegSet::PARAMETERS)]);
        let mut waiting = BTreeSet::from([position[&self.f.entry]]);
        while let Some(k) = waiting.pop_first() {
            let at = self.order[k];
            let out = step(at, d[&at]).minus(self.f.blocks[&at].meaningless());
            for t in self.f.blocks[&at].successors() {
                let old = d.get(&t).copied();
                let new = old.unwrap_or_default().or(out.minus(facts.stored_on_edge(at, t, self.loops)));
                if d.insert(t, new) != Some(new) {
                    waiting.extend(position.get(&t));
                }
            }
        }
        d
    }

    /// Registers that may be newer than `CpuState`, before it is known which stores clean them: the base for uses by possible stores.
    fn may_dirty(&self, facts: &LocalFacts) -> HashMap<u64, RegSet> {
        self.forward(facts, |at, d| self.events[&at].iter().fold(d, |x, e| may_dirty_after(e, x, self.s)))
    }

    fn dirty(&self, facts: &LocalFacts) -> HashMap<u64, RegSet> {
        self.forward(facts, |at, mut d| {
            let live = self.block(at).live(facts, RegSet(u32::MAX).minus(RegSet::RSP), &facts.live_in);
            for (k, e) in self.events[&at].iter().enumerate() {
                d = after(e, d, live[k + 1], self.s);
            }
            d
        })
    }
}

/// Registers to store before a call of `callee`: what it reads (parameters travel otherwise) and what lives on without it.
pub fn call_flush(dirty: RegSet, live_after: RegSet, callee: Summary) -> RegSet {
    let kept = live_after.minus(callee.may_write).minus(RegSet::CALLEE_SAVED);
    dirty.and(callee.reads.minus(RegSet::PARAMETERS).or(kept))
}

/// Registers that a call gives new values, as results: what the callee keeps comes back too, so that nobody else has to keep it.
pub fn taken(callee: Summary) -> RegSet {
    RegSet::RETURNED.and(callee.may_write.or(RegSet::CALLEE_SAVED))
}

/// Registers whose value a function must give back: those of its callers, and what it may have changed if somebody reads it.
pub fn given_back(own: Summary) -> RegSet {
    RegSet::RETURNED.minus(own.may_write.minus(own.results).minus(RegSet::RAX))
}

/// Registers to store before a syscall.
pub fn syscall_flush(dirty: RegSet, live_after: RegSet) -> RegSet {
    dirty.and(SYSCALL_READS.or(live_after.minus(SYSCALL_WRITES)))
}

/// Registers to store before a normal return.
pub fn return_flush(dirty: RegSet, own: Summary) -> RegSet {
    dirty.and(own.results.minus(RegSet::RETURNED))
}

/// Registers to store before a direct tail jump.
pub fn tail_flush(dirty: RegSet, own: Summary, target: Summary) -> RegSet {
    let passed = own.results.or(RegSet::RAX).minus(target.may_write);
    dirty.and(target.reads.or(passed).minus(RegSet::PARAMETERS))
}

/// Parameters of a direct tail jump that mean something: the target returns for us.
pub fn tail_parameters(own: Summary, target: Summary) -> RegSet {
    RegSet::PARAMETERS.and(target.reads.or(given_back(own).minus(target.may_write)))
}

/// The dirty set after one event.
fn after(e: &Event, dirty: RegSet, live_after: RegSet, s: &Summaries) -> RegSet {
    match e {
        Event::Plain { writes, .. } => dirty.or(*writes),
        Event::Dispatch { .. } => dirty,
        Event::Syscall => dirty.minus(syscall_flush(dirty, live_after)).minus(SYSCALL_WRITES),
        Event::Call { target, leftovers, .. } => {
            let callee = callee(s, *target, *leftovers);
            dirty.minus(call_flush(dirty, live_after, callee)).minus(callee.may_write).or(taken(callee))
        }
    }
}

/// What a callee or the kernel changes is exact in `CpuState`, but for what comes back as results.
fn may_dirty_after(e: &Event, dirty: RegSet, s: &Summaries) -> RegSet {
    match e {
        Event::Plain { writes, .. } => dirty.or(*writes),
        Event::Dispatch { .. } => dirty,
        Event::Syscall => dirty.minus(SYSCALL_WRITES),
        Event::Call { target, .. } => {
            let callee = summary(s, *target);
            dirty.minus(callee.may_write).or(taken(callee))
        }
    }
}

/// One block and what its ends mean.
pub struct BlockView<'a> {
    pub b: &'a Block,
    pub events: &'a [Event],
    pub s: &'a Summaries,
    /// The summary of the block's function.
    pub own: Summary,
    pub loops: &'a Loops,
}

impl BlockView<'_> {
    /// Liveness before each event of the block and at its end: element k is before event k, the last one is the block's end.
    pub fn live(&self, facts: &LocalFacts, may_dirty_in: RegSet, live_in: &HashMap<u64, RegSet>) -> Vec<RegSet> {
        let (dirty, at_end) = self.dirty(may_dirty_in);
        let mut l = self.stores_at_end(facts, at_end).or(self.reads_at_end());
        for t in self.b.successors() {
            l = l.or(live_in.get(&t).copied().unwrap_or_default());
        }
        l = l.minus(self.b.meaningless());
        let mut out = vec![l; self.events.len() + 1];
        for (k, e) in self.events.iter().enumerate().rev() {
            l = match e {
                Event::Plain { reads, writes, .. } => l.minus(*writes).or(*reads),
                Event::Dispatch { reads, .. } => l.or(*reads),
                Event::Syscall => l.minus(SYSCALL_WRITES).or(dirty[k].and(SYSCALL_READS)),
                Event::Call { operand, target, leftovers } => {
                    let callee = callee(self.s, *target, *leftovers);
                    // What does not return may throw, or return after all.
                    let kept = if self.b.end == Terminator::NoReturn { RegSet::CALLEE_SAVED } else { facts.kept };
                    l.minus(callee.may_write).or(callee.reads.and(dirty[k].or(RegSet::PARAMETERS))).or(*operand).or(kept)
                }
            };
            out[k] = l;
        }
        out
    }

    /// Registers whose value at the block's start may be stored to `CpuState` in this block or later. `facts.live_in` is known.
    fn stores(&self, facts: &LocalFacts, may_dirty_in: RegSet, stored_in: &HashMap<u64, RegSet>) -> RegSet {
        let live = self.live(facts, may_dirty_in, &facts.live_in);
        let (dirty, at_end) = self.dirty(may_dirty_in);
        let mut l = self.stores_at_end(facts, at_end);
        for t in self.b.successors() {
            l = l.or(stored_in.get(&t).copied().unwrap_or_default());
        }
        l = l.minus(self.b.meaningless());
        for (k, e) in self.events.iter().enumerate().rev() {
            l = match e {
                Event::Plain { writes, .. } => l.minus(*writes),
                Event::Dispatch { .. } => l,
                Event::Syscall => l.minus(SYSCALL_WRITES).or(syscall_flush(dirty[k], live[k + 1])),
                Event::Call { target, leftovers, .. } => {
                    let callee = callee(self.s, *target, *leftovers);
                    l.minus(callee.may_write).or(call_flush(dirty[k], live[k + 1], callee))
                }
            };
        }
        l
    }

    /// What may be dirty before each event, and at the end.
    fn dirty(&self, may_dirty_in: RegSet) -> (Vec<RegSet>, RegSet) {
        let mut d = may_dirty_in;
        let mut before = Vec::with_capacity(self.events.len());
        for e in self.events {
            before.push(d);
            d = may_dirty_after(e, d, self.s);
        }
        (before, d)
    }

    /// Registers stored when the block ends with `d` dirty.
    fn stores_at_end(&self, facts: &LocalFacts, d: RegSet) -> RegSet {
        let own = self.own;
        let on_edges = self.b.successors().iter().fold(RegSet::EMPTY, |l, t| l.or(facts.stored_on_edge(self.b.start, *t, self.loops).and(d)));
        on_edges.or(match self.b.end {
            Terminator::Return if facts.foreign_stack => d,
            Terminator::Return => return_flush(d, own),
            Terminator::TailJump(t) => tail_flush(d, own, callee(self.s, Some(t), RegSet::EMPTY)),
            Terminator::TailBranch { taken, .. } => tail_flush(d, own, callee(self.s, Some(taken), RegSet::EMPTY)),
            Terminator::IndirectJump => d.minus(RegSet::PARAMETERS),
            ref end if end.leaves_its_table() => d,
            _ => RegSet::EMPTY,
        })
    }

    /// Registers that travel as WASM parameters or results when the function ends here.
    fn reads_at_end(&self) -> RegSet {
        let tail = |t: u64| {
            let target = callee(self.s, Some(t), RegSet::EMPTY);
            tail_parameters(self.own, target).or(RegSet::RAX.minus(target.may_write))
        };
        match self.b.end {
            Terminator::Return => given_back(self.own),
            Terminator::TailJump(t) => tail(t),
            Terminator::TailBranch { taken, .. } => tail(taken),
            Terminator::IndirectJump => RegSet::PARAMETERS,
            _ => RegSet::EMPTY,
        }
    }
}
