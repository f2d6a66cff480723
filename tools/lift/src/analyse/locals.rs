//! Which registers must be valid in locals, and which are newer than `CpuState`, at every block of one function (structured form).
//!
//! A register is stored to `CpuState` before a call only if it is dirty and the callee reads it or something reads it later. "May be stored" counts as a use,
//! so that a register that is dirty on one path only is valid on the others.

use super::liveness::{Event, Events, SYSCALL_READS, SYSCALL_WRITES, Summaries, Summary, summary};
use super::stack;
use crate::function::{Block, Function, Terminator};
use crate::registers::RegSet;
use std::collections::HashMap;

/// Per block start.
#[derive(Clone, Debug, Default)]
pub struct LocalFacts {
    /// Registers whose local is read (or stored) later.
    pub live_in: HashMap<u64, RegSet>,
    /// Registers possibly newer than `CpuState`.
    pub dirty_in: HashMap<u64, RegSet>,
    /// rsp may come from elsewhere (setcontext, eh_return): a return then needs every register exact.
    pub foreign_stack: bool,
}

/// Blocks reached from the entry, in reverse postorder of `graph`.
pub fn analyse(f: &Function, order: &[u64], events: &Events, s: &Summaries) -> LocalFacts {
    let foreign = stack::sets_foreign_rsp(f);
    let mut facts = LocalFacts { foreign_stack: foreign, ..LocalFacts::default() };
    let may_dirty = may_dirty(f, order, events, s);
    let own = s[&f.entry];
    loop {
        let mut changed = false;
        for at in order.iter().rev() {
            let b = &f.blocks[at];
            let l = *live(b, &events[at], s, own, foreign, may_dirty[at], &facts.live_in).first().expect("a list with the block start's set");
            changed |= facts.live_in.insert(*at, l) != Some(l);
        }
        if !changed {
            break;
        }
    }
    facts.dirty_in.insert(f.entry, RegSet::PARAMETERS);
    loop {
        let mut changed = false;
        for at in order {
            let b = &f.blocks[at];
            let Some(mut d) = facts.dirty_in.get(at).copied() else { continue };
            let live = live(b, &events[at], s, own, foreign, may_dirty[at], &facts.live_in);
            for (k, e) in events[at].iter().enumerate() {
                d = after(e, d, live[k + 1], s);
            }
            for t in b.successors() {
                let old = facts.dirty_in.get(&t).copied();
                let new = old.unwrap_or_default().or(d);
                if old != Some(new) {
                    facts.dirty_in.insert(t, new);
                    changed = true;
                }
            }
        }
        if !changed {
            return facts;
        }
    }
}

/// Registers to store before a call of `callee`: what it reads (parameters travel otherwise) and what lives on.
pub fn call_flush(dirty: RegSet, live_after: RegSet, callee: Summary) -> RegSet {
    dirty.and(callee.reads.minus(RegSet::PARAMETERS).or(live_after.minus(callee.may_write)))
}

/// Registers to store before a syscall.
pub fn syscall_flush(dirty: RegSet, live_after: RegSet) -> RegSet {
    dirty.and(SYSCALL_READS.or(live_after.minus(SYSCALL_WRITES)))
}

/// Registers to store before a normal return (rax is the WASM result).
pub fn return_flush(dirty: RegSet, own: Summary) -> RegSet {
    dirty.and(RegSet::CALLEE_SAVED.or(own.results.minus(RegSet::RAX)))
}

/// Registers to store before a direct tail jump.
pub fn tail_flush(dirty: RegSet, own: Summary, target: Summary) -> RegSet {
    let passed = own.results.or(RegSet::RAX).minus(target.may_write);
    dirty.and(target.reads.minus(RegSet::PARAMETERS).or(RegSet::CALLEE_SAVED).or(passed))
}

/// The dirty set after one event.
fn after(e: &Event, dirty: RegSet, live_after: RegSet, s: &Summaries) -> RegSet {
    match e {
        Event::Plain { writes, .. } => dirty.or(*writes),
        Event::Syscall => dirty.minus(syscall_flush(dirty, live_after)).minus(SYSCALL_WRITES),
        Event::Call { target, .. } => {
            let callee = summary(s, *target);
            dirty.minus(call_flush(dirty, live_after, callee)).minus(callee.may_write).or(RegSet::RAX.and(callee.may_write))
        }
    }
}

/// Registers written since entry on some path, never counted clean again: the base for uses by possible stores.
fn may_dirty(f: &Function, order: &[u64], events: &Events, s: &Summaries) -> HashMap<u64, RegSet> {
    let mut d: HashMap<u64, RegSet> = order.iter().map(|b| (*b, RegSet::EMPTY)).collect();
    d.insert(f.entry, RegSet::PARAMETERS);
    loop {
        let mut changed = false;
        for at in order {
            let out = events[at].iter().fold(d[at], |x, e| x.or(written(e, s)));
            for t in f.blocks[at].successors() {
                let old = d[&t];
                if old.or(out) != old {
                    d.insert(t, old.or(out));
                    changed = true;
                }
            }
        }
        if !changed {
            return d;
        }
    }
}

fn written(e: &Event, s: &Summaries) -> RegSet {
    match e {
        Event::Plain { writes, .. } => *writes,
        Event::Syscall => SYSCALL_WRITES,
        Event::Call { target, .. } => summary(s, *target).may_write,
    }
}

/// Liveness before each event of a block and at its end: element k is before event k, the last one is the block's end.
pub fn live(b: &Block, events: &[Event], s: &Summaries, own: Summary, foreign: bool, may_dirty_in: RegSet, live_in: &HashMap<u64, RegSet>) -> Vec<RegSet> {
    let mut dirty = Vec::with_capacity(events.len() + 1);
    let mut d = may_dirty_in;
    for e in events {
        dirty.push(d);
        d = d.or(written(e, s));
    }
    let mut l = b.successors().iter().fold(RegSet::EMPTY, |l, t| l.or(live_in.get(t).copied().unwrap_or_default()));
    let tail = |t: u64| {
        let target = summary(s, Some(t));
        tail_flush(d, own, target).or(target.reads.and(RegSet::PARAMETERS)).or(RegSet::RAX.minus(target.may_write))
    };
    l = l.or(match b.end {
        Terminator::Return if foreign => d.or(RegSet::RAX),
        Terminator::Return => return_flush(d, own).or(RegSet::RAX),
        Terminator::TailJump(t) => tail(t),
        Terminator::TailBranch { taken, .. } => tail(taken),
        Terminator::IndirectJump => d.or(RegSet::PARAMETERS),
        _ => RegSet::EMPTY,
    });
    let mut out = vec![l; events.len() + 1];
    for (k, e) in events.iter().enumerate().rev() {
        l = match e {
            Event::Plain { reads, writes } => l.minus(*writes).or(*reads),
            Event::Syscall => l.minus(SYSCALL_WRITES).or(dirty[k].and(SYSCALL_READS)),
            Event::Call { operand, target } => {
                let callee = summary(s, *target);
                l.minus(callee.may_write).or(callee.reads.and(dirty[k].or(RegSet::PARAMETERS))).or(*operand)
            }
        };
        out[k] = l;
    }
    out
}
