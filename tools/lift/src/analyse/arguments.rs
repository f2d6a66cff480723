//! What is no argument of an unknown callee, whatever register it is in.
//!
//! Nobody knows how many arguments a call of an unknown target has, so it may read all six registers. Two things are none: what an earlier call left behind in them, and what only happens to be in them
//! behind a *dispatch*, the jumps of an interpreter's handlers through one table. Each handler may come after each other one, so a variable that lives across the dispatch outlives every
//! handler's calls, and a register that calls have overwritten on several of the ways there holds no variable at all. Without this, an interpreter's loop carries some fifteen registers that mean nothing.
//!
//! The fact a newcomer gets wrong: arguments are counted in order, but an earlier one may be undefined and never set (Rust passes `None` so). So the order decides only about registers that nothing set since
//! the dispatch.

use super::liveness::{Event, Events, SYSCALL_WRITES, Summaries, summary};
use crate::function::{Certainty, Function, Terminator};
use crate::registers::RegSet;
use std::collections::{BTreeMap, HashMap};

/// So many jumps through the same table are a dispatch; a compiler that copies the jump of a `switch` into its cases makes two or three.
const DISPATCH: usize = 8;
/// al counts vectors for one callee, and r10 is the frame of a nested one: both are set for the call itself.
pub(super) const APART: RegSet = RegSet(1 | 1 << 10);
/// In the order of the System V convention.
const INTEGERS: [usize; 6] = [7, 6, 2, 1, 8, 9];
const VECTORS: [usize; 8] = [16, 17, 18, 19, 20, 21, 22, 23];

/// What is known of the registers on every way to a point.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Past {
    /// They hold what a call left there that is no result.
    left: RegSet,
    /// They were last written before a dispatch.
    stale: RegSet,
}

impl Past {
    const NOTHING: Self = Self { left: RegSet::EMPTY, stale: RegSet::EMPTY };

    fn and(self, o: Self) -> Self {
        Self { left: self.left.and(o.left), stale: self.stale.and(o.stale) }
    }
    fn written(self, registers: RegSet) -> Self {
        Self { left: self.left.minus(registers), stale: self.stale.minus(registers) }
    }
    /// Behind a dispatch where `overwritten` hold no variable.
    fn dispatched(self, overwritten: RegSet) -> Self {
        Self { left: self.left.or(overwritten), stale: RegSet(!0) }
    }

    /// Registers that are no arguments of an unknown callee called now.
    fn no_arguments(self) -> RegSet {
        let apart = self.stale.and(APART);
        let behind = |order: &[usize]| {
            let first = order.iter().position(|&r| self.left.has(r)).unwrap_or(order.len());
            order[first..].iter().copied().collect::<RegSet>().and(self.stale)
        };
        self.left.or(apart).or(behind(&INTEGERS)).or(behind(&VECTORS))
    }
}

/// What a call's results count as.
#[derive(Clone, Copy)]
enum Results {
    Arguments,
    LeftBehind,
}

type Dispatches = BTreeMap<Vec<u64>, RegSet>;

/// Tells every call of a function what is no argument of it, and every dispatch what holds no variable.
pub(super) fn mark(f: &Function, events: &mut Events, s: &Summaries) {
    let walk = Walk { f, s };
    let dispatches = walk.dispatches(events);
    for b in f.blocks.values() {
        if let Terminator::Switch { targets, certainty: Certainty::Whole | Certainty::Open, .. } = &b.end
            && let Some(&meaningless) = dispatches.get(targets)
            && let Some(jump) = events.get_mut(&b.start).and_then(|e| e.last_mut())
            && let Event::Plain { reads, .. } = *jump
        {
            *jump = Event::Dispatch { reads, meaningless };
        }
    }
    for (at, mut past) in walk.flow(events, Results::Arguments, &dispatches) {
        for e in events.get_mut(&at).into_iter().flatten() {
            let before = past;
            past = walk.after(e, past, Results::Arguments);
            if let Event::Call { leftovers, .. } = e {
                *leftovers = before.no_arguments();
            }
        }
    }
}

struct Walk<'a> {
    f: &'a Function,
    s: &'a Summaries,
}

impl Walk<'_> {
    /// The targets of each dispatch, and the registers that calls have overwritten on several ways to it.
    fn dispatches(&self, events: &Events) -> Dispatches {
        let mut sites = self.f.switches();
        sites.retain(|_, sites| sites.len() >= DISPATCH);
        if sites.is_empty() {
            return Dispatches::new();
        }
        let past = self.flow(events, Results::LeftBehind, &Dispatches::new());
        let overwritten = |site: &u64| past.get(site).map_or(RegSet::EMPTY, |p| self.block(&events[site], *p, Results::LeftBehind).left);
        let often = |sites: &[u64]| {
            let all: Vec<RegSet> = sites.iter().map(overwritten).collect();
            (0..32).filter(|&r| all.iter().filter(|o| o.has(r)).count() >= DISPATCH).collect()
        };
        sites.into_iter().map(|(targets, sites)| (targets.to_vec(), often(&sites))).collect()
    }

    /// What is known at the start of every block that is reached: a forward intersection over the graph.
    fn flow(&self, events: &Events, results: Results, dispatches: &Dispatches) -> HashMap<u64, Past> {
        let mut before: HashMap<u64, Past> = HashMap::from([(self.f.entry, Past::NOTHING)]);
        let mut work = vec![self.f.entry];
        while let Some(at) = work.pop() {
            let Some(b) = self.f.blocks.get(&at) else { continue };
            let mut out = self.block(&events[&at], before[&at], results);
            if let Terminator::Switch { targets, .. } = &b.end
                && let Some(&overwritten) = dispatches.get(targets)
            {
                out = out.dispatched(overwritten);
            }
            for next in b.successors() {
                let old = before.get(&next).copied();
                let new = old.map_or(out, |o| o.and(out));
                if old != Some(new) {
                    before.insert(next, new);
                    work.push(next);
                }
            }
        }
        before
    }

    fn block(&self, events: &[Event], before: Past, results: Results) -> Past {
        events.iter().fold(before, |past, e| self.after(e, past, results))
    }

    /// What a callee leaves behind that is no result.
    fn left_by(&self, target: Option<u64>) -> RegSet {
        let callee = summary(self.s, target);
        callee.may_write.minus(RegSet::RESULTS.or(callee.results))
    }

    fn after(&self, e: &Event, before: Past, results: Results) -> Past {
        match e {
            Event::Plain { writes, .. } => before.written(*writes),
            Event::Dispatch { .. } => before,
            Event::Syscall => before.written(SYSCALL_WRITES),
            Event::Call { target, .. } => {
                let written = summary(self.s, *target).may_write;
                let left = match results {
                    Results::Arguments => self.left_by(*target),
                    Results::LeftBehind => written,
                };
                let past = before.written(written);
                Past { left: past.left.or(left), ..past }
            }
        }
    }
}
