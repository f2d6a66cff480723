//! Which arithmetic flags are live where, per function.
//!
//! The fact a newcomer gets wrong: flags outlive a function. No compiler passes them, but code that two functions share becomes a function of its own, and a comparison may stand before the cut.

use crate::emit::Flags;
use crate::function::{Block, Function};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Flags live at the start of each block, and of each function that is jumped to. Across calls, returns and jumps to anywhere no flag is live (SysV).
pub fn live_in(f: &Function) -> HashMap<u64, Flags> {
    let mut predecessors: HashMap<u64, Vec<u64>> = HashMap::new();
    for b in f.blocks.values() {
        for t in b.successors() {
            predecessors.entry(t).or_default().push(b.start);
        }
    }
    let mut live = f.passed_flags.clone();
    let mut work: Vec<u64> = f.blocks.keys().copied().collect();
    let mut waiting: HashSet<u64> = work.iter().copied().collect();
    while let Some(at) = work.pop() {
        waiting.remove(&at);
        let b = &f.blocks[&at];
        let l = b.instructions.iter().rev().fold(live_out(b, &live), |l, i| Flags::before(i, l));
        if live.insert(at, l).unwrap_or_default() != l {
            work.extend(predecessors.get(&at).into_iter().flatten().filter(|p| waiting.insert(**p)));
        }
    }
    live
}

/// Flags live at the end of a block.
pub fn live_out(b: &Block, live_in: &HashMap<u64, Flags>) -> Flags {
    b.successors().into_iter().chain(b.tail_target()).fold(Flags::NONE, |l, s| l.or(live_in.get(&s).copied().unwrap_or_default()))
}

/// Flags live after each instruction of a block.
pub fn live_after(b: &Block, live_in: &HashMap<u64, Flags>) -> Vec<Flags> {
    let mut l = live_out(b, live_in);
    let mut after = vec![Flags::NONE; b.instructions.len()];
    for (k, i) in b.instructions.iter().enumerate().rev() {
        after[k] = l;
        l = Flags::before(i, l);
    }
    after
}

/// Tells every function which flags those it jumps to read (`Function::passed_flags`).
pub fn pass(functions: &mut BTreeMap<u64, Function>) {
    let mut sources: HashMap<u64, Vec<u64>> = HashMap::new();
    for f in functions.values() {
        for target in f.blocks.values().filter_map(Block::tail_target) {
            sources.entry(target).or_default().push(f.entry);
        }
    }
    let mut work: Vec<u64> = functions.keys().copied().filter(|e| sources.contains_key(e)).collect();
    while let Some(entry) = work.pop() {
        let live = live_in(&functions[&entry])[&entry];
        for source in sources.get(&entry).into_iter().flatten().filter(|_| live.any()) {
            let passed = &mut functions.get_mut(source).expect("a function").passed_flags;
            if passed.insert(entry, live) != Some(live) && sources.contains_key(source) {
                work.push(*source);
            }
        }
    }
}
