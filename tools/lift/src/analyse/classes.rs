//! Chooses how each xmm register lives in a function's locals: as a vector, or as a scalar when all its uses allow it.
//!
//! LLVM carries vectors around loops through general registers (wasmer turns v128 locals into i128), so scalars matter. The fact a newcomer gets wrong: a scalar class
//! drops the upper lanes *inside* the function only. What they are at a call or return must still be exact, so they are tracked: zero (after a load), whatever
//! `CpuState` holds (untouched since the entry or the last call), or lost. A register whose upper lanes are lost where somebody outside may look becomes a vector.

use super::liveness::{Event, Events, Summaries, Summary, callee, summary};
use crate::emit::XmmClass;
use crate::function::{Function, Terminator};
use crate::registers::{Effects, RegSet};
use crate::x86::sse_class::{Needs, scalar_class};
use iced_x86::{Instruction, Mnemonic, OpKind};
use std::collections::HashMap;

/// Upper lanes of a scalar-class register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Upper {
    /// Those in `CpuState`.
    #[default]
    State,
    Zero,
    Lost,
}

pub type Uppers = [Upper; 16];

/// Classes of a function, and the upper lanes at each block start.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    pub class: [XmmClass; 16],
    pub uppers_in: HashMap<u64, Uppers>,
}

/// Classes over the blocks of `order`.
pub fn choose(f: &Function, order: &[u64], events: &Events, s: &Summaries) -> Classes {
    let mut wanted = Wanted::default();
    let mut effects = Effects::default();
    for i in order.iter().flat_map(|b| &f.blocks[b].instructions) {
        wanted.instruction(i, &mut effects);
    }
    wanted.settle();
    loop {
        let class = wanted.class();
        if class.iter().all(|c| *c == XmmClass::V128) {
            return Classes { class, uppers_in: HashMap::new() };
        }
        let uppers_in = uppers(f, order, events, s);
        let lost = lost_where_seen(f, order, events, s, &uppers_in);
        let bad: Vec<usize> = (0..16).filter(|n| lost.has(16 + n) && class[*n] != XmmClass::V128).collect();
        if bad.is_empty() {
            return Classes { class, uppers_in };
        }
        for n in bad {
            wanted.needs[n] = Some(XmmClass::V128);
        }
        wanted.settle();
    }
}

/// What the instructions ask for.
#[derive(Default)]
struct Wanted {
    needs: [Option<XmmClass>; 16],
    same: Vec<(usize, usize)>,
}

impl Wanted {
    fn instruction(&mut self, i: &Instruction, effects: &mut Effects) {
        if i.flow_control() != iced_x86::FlowControl::Next {
            return;
        }
        let e = effects.of(i);
        let mut any: Option<usize> = None;
        for (n, need) in scalar_class(i, e.reads.or(e.writes)) {
            match (need, any) {
                (Needs::Class(c), _) => self.need(n, c),
                (Needs::Any, Some(first)) => self.same.push((first, n)),
                (Needs::Any, None) => any = Some(n),
            }
        }
    }

    fn need(&mut self, n: usize, c: XmmClass) {
        self.needs[n] = Some(match self.needs[n] {
            None => c,
            Some(old) if old == c => c,
            Some(_) => XmmClass::V128,
        });
    }

    /// Copies join classes.
    fn settle(&mut self) {
        loop {
            let before = self.needs;
            for (a, b) in self.same.clone() {
                if let Some(c) = self.needs[a] {
                    self.need(b, c);
                }
                if let Some(c) = self.needs[b] {
                    self.need(a, c);
                }
            }
            if self.needs == before {
                return;
            }
        }
    }

    fn class(&self) -> [XmmClass; 16] {
        self.needs.map(Option::unwrap_or_default)
    }
}

/// Upper lanes at every block start.
fn uppers(f: &Function, order: &[u64], events: &Events, s: &Summaries) -> HashMap<u64, Uppers> {
    let mut at: HashMap<u64, Uppers> = HashMap::from([(f.entry, Uppers::default())]);
    loop {
        let mut changed = false;
        for b in order {
            let Some(mut u) = at.get(b).copied() else { continue };
            for (k, i) in f.blocks[b].instructions.iter().enumerate() {
                step(i, events[b][k], s, &mut u);
            }
            f.blocks[b].meaningless().and(RegSet::XMM).iter().for_each(|bit| u[bit - 16] = Upper::Zero);
            for t in f.blocks[b].successors() {
                let new = at.get(&t).map_or(u, |old| std::array::from_fn(|n| if old[n] == u[n] { u[n] } else { Upper::Lost }));
                changed |= at.insert(t, new) != Some(new);
            }
        }
        if !changed {
            return at;
        }
    }
}

/// What one instruction does to the upper lanes.
pub fn step(i: &Instruction, e: Event, s: &Summaries, u: &mut Uppers) {
    use Mnemonic::*;
    match e {
        Event::Call { target, .. } => {
            for bit in summary(s, target).may_write.and(RegSet::XMM).iter() {
                u[bit - 16] = Upper::State;
            }
            return;
        }
        Event::Syscall | Event::Dispatch { .. } => return,
        Event::Plain { writes, .. } if writes.and(RegSet::XMM).is_empty() => return,
        Event::Plain { .. } => {}
    }
    if i.op_count() == 0 || i.op0_kind() != OpKind::Register || !i.op0_register().is_xmm() {
        return;
    }
    let n = i.op0_register().number();
    let xmm = |k: u32| i.op_kind(k) == OpKind::Register && i.op_register(k).is_xmm();
    let source = if i.op_count() > 1 && xmm(1) { Some(i.op_register(1).number()) } else { None };
    u[n] = match i.mnemonic() {
        Movsd | Movss if source.is_none() => Upper::Zero,
        Movq | Movd => Upper::Zero,
        Pxor | Xorps | Xorpd if source == Some(n) => Upper::Zero,
        Movaps | Movapd | Movdqa | Movups | Movupd | Movdqu => match source {
            Some(m) if m == n => u[n],
            Some(m) if u[m] == Upper::Zero => Upper::Zero,
            _ => Upper::Lost,
        },
        Andps | Andpd | Pand if u[n] == Upper::Zero => Upper::Zero,
        Andps | Andpd | Pand | Andnps | Andnpd | Pandn | Orps | Orpd | Por | Xorps | Xorpd | Pxor => match source {
            Some(m) if u[m] == Upper::Zero && u[n] == Upper::Zero => Upper::Zero,
            _ => Upper::Lost,
        },
        // Scalar operations keep them.
        _ => u[n],
    };
}

/// Registers whose upper lanes are lost at a point where code outside this function may read them.
fn lost_where_seen(f: &Function, order: &[u64], events: &Events, s: &Summaries, at: &HashMap<u64, Uppers>) -> RegSet {
    let own = s[&f.entry];
    let mut bad = RegSet::EMPTY;
    let mut see = |u: &Uppers, seen: RegSet| {
        for (n, upper) in (0..).zip(u) {
            if *upper == Upper::Lost && seen.has(16 + n) {
                bad = bad.or(RegSet::xmm(n));
            }
        }
    };
    for b in order {
        let Some(mut u) = at.get(b).copied() else { continue };
        let block = &f.blocks[b];
        for (k, i) in block.instructions.iter().enumerate() {
            if let Event::Call { target, leftovers, .. } = events[b][k] {
                // What lives on across the call is stored and loaded again, or kept: only what the callee reads is seen.
                see(&u, callee(s, target, leftovers).reads);
            }
            step(i, events[b][k], s, &mut u);
        }
        let tail = |t: u64| {
            let Summary { reads, may_write, .. } = callee(s, Some(t), RegSet::EMPTY);
            reads.or(own.results.minus(may_write))
        };
        see(
            &u,
            match block.end {
                Terminator::Return => own.results,
                Terminator::TailJump(t) => tail(t),
                Terminator::TailBranch { taken, .. } => tail(taken),
                Terminator::IndirectJump => RegSet::XMM,
                ref end if end.leaves_its_table() => RegSet::XMM,
                _ => RegSet::EMPTY,
            },
        );
    }
    bad
}
