//! Functions that keep registers the convention lets them change, and calls that count on it.
//!
//! Two kinds of callee are called in the middle of everything: what a TLS descriptor names (`-mtls-dialect=gnu2`), and the counters of profilers (`-pg`, `-mfentry`). The fact a newcomer gets wrong: such a
//! call looks like any other through a pointer or slot; only the relocation or the name says what it is.

use super::liveness::{moves_whole, saved};
use crate::function::{Function, Program, Terminator};
use crate::image::Image;
use crate::registers::{Effects, RegSet};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::collections::HashSet;

const COUNTERS: &[&str] = &["mcount", "_mcount", "__fentry__"];

/// Entries of functions with such calls. They have the resumable form only, in which every register is exact at every call.
pub(crate) fn count_on_it(program: &Program, image: &Image) -> HashSet<u64> {
    let counters: HashSet<u64> = image.imports.iter().filter(|i| COUNTERS.contains(&i.name.as_str())).map(|i| i.place).collect();
    if counters.is_empty() && image.descriptors.is_empty() {
        return HashSet::new();
    }
    let descriptors: HashSet<u64> = image.descriptors.iter().copied().collect();
    let slot_of = |i: &Instruction| if i.is_call_near() { program.functions.get(&i.near_branch_target()).and_then(Function::slot) } else { Some(i.ip_rel_memory_address()) };
    let counts = |i: &Instruction| match i.mnemonic() {
        Mnemonic::Call => slot_of(i).is_some_and(|s| counters.contains(&s)),
        Mnemonic::Lea => i.is_ip_rel_memory_operand() && descriptors.contains(&i.ip_rel_memory_address()),
        _ => false,
    };
    program.functions.values().filter(|f| f.blocks.values().flat_map(|b| &b.instructions).any(counts)).map(|f| f.entry).collect()
}

/// Caller-saved registers that a function saves and gives back. They are results: its callers may be of that kind.
pub(crate) fn restores(f: &Function, effects: &mut Effects) -> RegSet {
    let all = || f.blocks.values().flat_map(|b| &b.instructions);
    let saves = all().fold(RegSet::EMPTY, |set, i| set.or(saved(i))).and(RegSet::CALLER_SAVED);
    if saves.is_empty() {
        return saves;
    }
    let returns = f.blocks.values().filter(|b| b.end == Terminator::Return);
    returns.map(|b| restored(&b.instructions, effects)).fold(RegSet::EMPTY, RegSet::or).and(saves)
}

/// What the last instructions of a block take off the stack and nothing reads.
fn restored(instructions: &[Instruction], effects: &mut Effects) -> RegSet {
    let (mut found, mut used) = (RegSet::EMPTY, RegSet::EMPTY);
    for i in instructions.iter().rev() {
        if i.mnemonic() == Mnemonic::Call {
            break;
        }
        let from_frame = || i.op1_kind() == OpKind::Memory && matches!(i.memory_base(), Register::RSP | Register::RBP);
        let from_stack = i.mnemonic() == Mnemonic::Pop || moves_whole(i) && from_frame();
        let e = effects.of(i);
        if from_stack && i.op0_kind() == OpKind::Register {
            found = found.or(RegSet::of(i.op0_register()).minus(used));
        }
        used = used.or(e.reads).or(e.writes);
    }
    found
}
