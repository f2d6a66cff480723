//! Which constants a register can hold at a point of a lifted program: demand-driven propagation backwards over blocks, and into direct callers.
//!
//! Owns the walk and its transfer functions. Refuses to own what the register means. The fact a newcomer gets wrong: a missing value would be a system call that nobody allowed, so whatever the walk does not
//! understand (memory, results of calls, arithmetic on unknowns, blocks entered from nowhere) makes the answer open; it never leaves anything out. It believes three things: calls keep the registers System V
//! says (unless the object's language keeps none), callers of exported and address-taken functions are anybody, and discovery's graph has every edge.

use super::transfer::{Step, step};
use crate::analyse::liveness::{Summaries, summary};
use crate::analyse::returns::{Endless, tail_target};
use crate::function::{Function, Program};
use crate::image::Image;
use crate::registers::{Effects, RegSet};
use iced_x86::{FlowControl, Instruction, Mnemonic, Register};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Definitions that compute from another value are followed this deep.
const MAX_DEPTH: u32 = 6;
/// More values than this are as good as none known.
const MAX_VALUES: usize = 64;
/// Blocks one walk may look at.
const MAX_STEPS: usize = 4000;

/// Before instruction `index` of a block of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Point {
    pub(super) function: u64,
    pub(super) block: u64,
    pub(super) index: usize,
}

/// Why a value is not bounded, and where the walk ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Open {
    pub(super) address: u64,
    pub(super) why: &'static str,
}

/// The low 32 bits of what a register can hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) known: BTreeSet<u32>,
    /// Functions that anybody may call, with the register in which their caller passes the value.
    pub(super) arguments: BTreeSet<(u64, usize)>,
    pub(super) open: BTreeSet<Open>,
}

impl Values {
    fn merge(&mut self, other: Values) {
        self.known.extend(other.known);
        self.arguments.extend(other.arguments);
        self.open.extend(other.open);
    }
}

type Predecessors = HashMap<u64, Vec<u64>>;

pub(super) struct Walker<'p> {
    program: &'p Program,
    summaries: &'p Summaries,
    /// Memory that nothing changes.
    constant: &'p dyn Fn(u64) -> Option<u32>,
    callers: HashMap<u64, Vec<Point>>,
    predecessors: HashMap<u64, Predecessors>,
    effects: Effects,
    endless: Endless,
    /// Instructions all walks together may still look at, so that a hostile file costs linear time.
    budget: usize,
}

impl<'p> Walker<'p> {
    pub(super) fn new(program: &'p Program, image: &Image, summaries: &'p Summaries, constant: &'p dyn Fn(u64) -> Option<u32>) -> Walker<'p> {
        Walker {
            program,
            summaries,
            constant,
            callers: callers(program, image),
            predecessors: HashMap::new(),
            effects: Effects::default(),
            endless: Endless::within(program),
            budget: 1_000_000 + 32 * program.stats.instructions as usize,
        }
    }

    /// What the general register with encoding `register` can hold at `at`.
    pub(super) fn values(&mut self, at: Point, register: usize) -> Values {
        self.walk(at, register, MAX_DEPTH)
    }

    fn function(&self, entry: u64) -> &'p Function {
        &self.program.functions[&entry]
    }

    fn walk(&mut self, at: Point, register: usize, depth: u32) -> Values {
        let mut found = Values::default();
        let mut seen = HashSet::from([(at, register)]);
        let mut work = vec![(at, register)];
        while let Some((point, register)) = work.pop() {
            if seen.len() > MAX_STEPS {
                found.open.insert(Open { address: at.block, why: "too many paths" });
                break;
            }
            let mut next = Vec::new();
            self.back_to_start(point, register, depth, &mut found, &mut next);
            work.extend(next.into_iter().filter(|n| seen.insert(*n)));
        }
        if found.known.len() > MAX_VALUES {
            found.known.clear();
            found.open.insert(Open { address: at.block, why: "too many values" });
        }
        found
    }

    /// Goes up one block until the register is set; if it is not, goes on in what comes before the block.
    fn back_to_start(&mut self, point: Point, register: usize, depth: u32, found: &mut Values, next: &mut Vec<(Point, usize)>) {
        let block = &self.function(point.function).blocks[&point.block];
        for index in (0..point.index.min(block.instructions.len())).rev() {
            let instruction = &block.instructions[index];
            let here = Point { index, ..point };
            let open = |why| Open { address: instruction.ip(), why };
            let Some(budget) = self.budget.checked_sub(1) else {
                found.open.insert(open("too many paths"));
                return;
            };
            self.budget = budget;
            if self.endless.ends(instruction) {
                return;
            }
            if let Some(why) = self.clobbered(instruction, register) {
                found.open.insert(open(why));
                return;
            }
            if !self.effects.of(instruction).writes.has(register) {
                continue;
            }
            match step(instruction, register, &block.instructions[..index], self.constant) {
                Step::Values(values) => {
                    found.known.extend(values);
                    return;
                }
                Step::From(source, at) => return next.push((Point { index: at, ..point }, source)),
                Step::Either(source) => next.push((here, source)),
                Step::Computed(source, f) => {
                    let below = depth.checked_sub(1).map(|depth| self.walk(here, source, depth));
                    match below {
                        Some(below) if below.open.is_empty() && below.arguments.is_empty() => found.known.extend(below.known.into_iter().flat_map(f)),
                        _ => drop(found.open.insert(open("computed"))),
                    }
                    return;
                }
                Step::Open(why) => {
                    found.open.insert(open(why));
                    return;
                }
            }
        }
        self.before_block(point, register, found, next);
    }

    /// Whether the instruction is a call or a system call that changes the register.
    fn clobbered(&mut self, i: &Instruction, register: usize) -> Option<&'static str> {
        // iced counts `syscall` among the calls.
        if i.mnemonic() == Mnemonic::Syscall {
            return matches!(register, 0 | 1 | 11).then_some("result of a system call");
        }
        if !matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            return None;
        }
        let target = i.is_call_near().then(|| i.near_branch_target());
        let changed = if self.program.language.is_some() { RegSet::GPR } else { summary(self.summaries, target).may_write };
        // A result counts as written even if the callee, as far as discovery saw it, writes none.
        (changed.has(register) || register == 0).then_some("result of a call")
    }

    fn before_block(&mut self, point: Point, register: usize, found: &mut Values, next: &mut Vec<(Point, usize)>) {
        let f = self.function(point.function);
        let before = self.predecessors.entry(f.entry).or_insert_with(|| predecessors(f)).get(&point.block).cloned().unwrap_or_default();
        let entered = point.block == f.entry;
        if f.unreached.contains(&point.block) || (before.is_empty() && !entered) {
            found.open.insert(Open { address: point.block, why: "block that is entered from elsewhere" });
        }
        next.extend(before.iter().map(|&block| (Point { block, index: usize::MAX, ..point }, register)));
        if entered {
            if f.address_taken {
                found.arguments.insert((f.entry, register));
            }
            next.extend(self.callers.get(&f.entry).into_iter().flatten().map(|&p| (p, register)));
        }
    }

    /// Merges what every given point has to say.
    pub(super) fn union(&mut self, points: &[Point], register: usize) -> Values {
        let mut all = Values::default();
        for &point in points {
            let values = self.values(point, register);
            all.merge(values);
        }
        all
    }
}

/// Direct calls and jumps to each function.
fn callers(program: &Program, image: &Image) -> HashMap<u64, Vec<Point>> {
    let mut found: HashMap<u64, Vec<Point>> = HashMap::new();
    for f in program.functions.values() {
        for block in f.blocks.values() {
            let at = |index| Point { function: f.entry, block: block.start, index };
            for (index, i) in block.instructions.iter().enumerate() {
                if i.flow_control() == FlowControl::Call && i.is_call_near() {
                    found.entry(i.near_branch_target()).or_default().push(at(index));
                }
            }
            if let Some(target) = tail_target(block, image) {
                found.entry(target).or_default().push(at(usize::MAX));
            }
        }
    }
    found
}

fn predecessors(f: &Function) -> Predecessors {
    let mut found = BTreeMap::<u64, Vec<u64>>::new();
    for block in f.blocks.values() {
        for next in block.successors() {
            found.entry(next).or_default().push(block.start);
        }
    }
    found.into_iter().collect()
}

/// Encoding of a general register of any width.
pub(super) fn number(register: Register) -> usize {
    register.full_register().number()
}
