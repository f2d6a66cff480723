//! Which functions of an object never return: what follows a call of one never runs.
//!
//! Owns the fixpoint. Refuses to see through pointers and other objects: these may return. The fact a newcomer gets wrong: landing pads count as reached, since a callee that throws comes back that way.

use crate::function::{Block, Function, Program, Terminator};
use crate::image::Image;
use iced_x86::{Instruction, Mnemonic};
use std::collections::{HashMap, HashSet};

/// Entries of functions from which no path leads to a return.
pub(super) fn never_returning(program: &Program) -> HashSet<u64> {
    let mut never: HashSet<u64> = program.functions.keys().copied().collect();
    let dependents = dependents(program);
    let mut work: Vec<u64> = program.functions.keys().copied().collect();
    while let Some(entry) = work.pop() {
        if never.contains(&entry) && may_return(&program.functions[&entry], program, &never) {
            never.remove(&entry);
            work.extend(dependents.get(&entry).into_iter().flatten());
        }
    }
    never
}

/// By function: those that call it or jump to it, and so may return if it does.
fn dependents(program: &Program) -> HashMap<u64, HashSet<u64>> {
    let mut found: HashMap<u64, HashSet<u64>> = HashMap::new();
    for f in program.functions.values() {
        for block in f.blocks.values() {
            let calls = block.instructions.iter().filter(|i| i.is_call_near()).map(Instruction::near_branch_target);
            let jump = match block.end {
                Terminator::TailJump(target) | Terminator::TailBranch { taken: target, .. } => Some(target),
                _ => None,
            };
            calls.chain(jump).filter(|t| program.functions.contains_key(t)).for_each(|t| {
                found.entry(t).or_default().insert(f.entry);
            });
        }
    }
    found
}

/// Functions that a block jumps to or runs on into. What follows a call at the end of a call frame is the next function: compilers let a frame end so only if the call never returns.
pub(super) fn tail_target(block: &Block, image: &Image) -> Option<u64> {
    let (Terminator::TailJump(target) | Terminator::TailBranch { taken: target, .. }) = block.end else { return None };
    let leaves_frame = |i: &Instruction| i.next_ip() == target && i.mnemonic() == Mnemonic::Call && image.frame_index(i.ip()).is_some_and(|f| image.frames[f].end == target);
    (!block.instructions.last().is_some_and(leaves_frame)).then_some(target)
}

fn may_return(f: &Function, program: &Program, never: &HashSet<u64>) -> bool {
    let gone = |target: u64| program.functions.contains_key(&target) && never.contains(&target);
    let mut seen: HashSet<u64> = f.unreached.iter().copied().chain([f.entry]).collect();
    let mut work: Vec<u64> = seen.iter().copied().collect();
    while let Some(at) = work.pop() {
        let Some(block) = f.blocks.get(&at) else { continue };
        if block.instructions.iter().any(|i| i.mnemonic() == Mnemonic::Call && i.is_call_near() && gone(i.near_branch_target())) {
            continue;
        }
        let leaves = match block.end {
            Terminator::Return | Terminator::IndirectJump => true,
            Terminator::TailJump(target) | Terminator::TailBranch { taken: target, .. } => !gone(target),
            _ => false,
        };
        if leaves {
            return true;
        }
        work.extend(block.successors().into_iter().filter(|next| seen.insert(*next)));
    }
    false
}
