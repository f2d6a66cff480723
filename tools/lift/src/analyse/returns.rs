//! Calls behind which nothing runs, because what they call never returns.
//!
//! Owns the fixpoint over an object. The fact a newcomer gets wrong: landing pads count as reached, since a callee that throws comes back that way.

use super::stack;
use crate::function::{Block, Function, Program, Terminator};
use crate::image::Image;
use iced_x86::{Instruction, Mnemonic};
use std::collections::{HashMap, HashSet};

/// Functions of C and C++ libraries that never return. If one of these returns nevertheless (another object may define the name), its caller goes on in the resumable form, with
/// the registers of its callers, which are exact at such a call.
const NAMES: &[&str] = &[
    "abort",
    "exit",
    "_exit",
    "_Exit",
    "quick_exit",
    "pthread_exit",
    "thrd_exit",
    "longjmp",
    "_longjmp",
    "siglongjmp",
    "__longjmp_chk",
    "__stack_chk_fail",
    "__fortify_fail",
    "__chk_fail",
    "__assert_fail",
    "__assert",
    "__assert_perror_fail",
    "__libc_start_main",
    "_Unwind_Resume",
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_bad_cast",
    "__cxa_bad_typeid",
    "__cxa_call_unexpected",
    "__cxa_call_terminate",
    "__cxa_throw_bad_array_new_length",
    "__cxa_pure_virtual",
    "_ZSt9terminatev",
    "_ZSt16__throw_bad_castv",
    "_ZSt17__throw_bad_allocv",
    "_ZSt20__throw_length_errorPKc",
    "_ZSt19__throw_logic_errorPKc",
    "_ZSt20__throw_out_of_rangePKc",
    "_ZSt24__throw_out_of_range_fmtPKcz",
    "_ZSt24__throw_invalid_argumentPKc",
    "_ZSt21__throw_runtime_errorPKc",
    "_ZSt20__throw_system_errori",
    "_ZSt25__throw_bad_function_callv",
    "_ZSt28__throw_bad_array_new_lengthv",
    "_ZSt21__throw_bad_exceptionv",
];

/// What is known not to return.
#[derive(Clone, Debug, Default)]
pub struct Endless {
    /// Entries of functions from which no path leads to a return.
    functions: HashSet<u64>,
    /// Slots that ld.so fills with such a function of another object.
    slots: HashSet<u64>,
    /// Call instructions at the end of a call frame: compilers let a frame end so only if the call never returns.
    calls: HashSet<u64>,
}

impl Endless {
    /// As the object alone says, whatever it is linked with.
    pub(crate) fn within(program: &Program) -> Endless {
        Endless { functions: never_returning(program, &Endless::default()), ..Endless::default() }
    }

    /// As its imports and call frames say, too.
    pub(crate) fn assumed(program: &Program, image: &Image) -> Endless {
        let defined: HashSet<&str> = image.symbols.iter().filter(|s| s.global).map(|s| s.name.as_str()).collect();
        let foreign = |name: &str| NAMES.contains(&name) && !defined.contains(name);
        // A word of data is a variable that may hold another function later.
        let slots = image.imports.iter().filter(|i| !i.data && foreign(&i.name)).map(|i| i.place).collect();
        let calls = program.functions.values().flat_map(|f| f.blocks.values()).flat_map(|b| &b.instructions).filter(|i| ends_frame(i, image)).map(Instruction::ip).collect();
        let known = Endless { functions: HashSet::new(), slots, calls };
        Endless { functions: never_returning(program, &known), ..known }
    }

    /// Is nothing run behind this instruction?
    pub(crate) fn ends(&self, i: &Instruction) -> bool {
        if i.mnemonic() != Mnemonic::Call {
            return false;
        }
        let callee =
            if i.is_call_near() { self.functions.contains(&i.near_branch_target()) } else { i.is_ip_rel_memory_operand() && self.slots.contains(&i.ip_rel_memory_address()) };
        callee || self.calls.contains(&i.ip())
    }

    /// The function without what only seems to follow such calls: its blocks end with them, and those that nothing else leads to are gone.
    pub(crate) fn cut(&self, mut f: Function) -> Function {
        for b in f.blocks.values_mut() {
            if let Some(k) = b.instructions.iter().position(|i| self.ends(i)) {
                b.instructions.truncate(k + 1);
                b.end = Terminator::NoReturn;
            }
        }
        let mut reached: HashSet<u64> = f.unreached.iter().copied().chain([f.entry]).collect();
        let mut work: Vec<u64> = reached.iter().copied().collect();
        while let Some(at) = work.pop() {
            let next = f.blocks.get(&at).map_or_else(Vec::new, Block::successors);
            work.extend(next.into_iter().filter(|n| reached.insert(*n)));
        }
        f.blocks.retain(|at, _| reached.contains(at));
        f
    }
}

fn ends_frame(i: &Instruction, image: &Image) -> bool {
    i.mnemonic() == Mnemonic::Call && image.frame_index(i.ip()).is_some_and(|f| image.frames[f].end == i.next_ip())
}

fn never_returning(program: &Program, known: &Endless) -> HashSet<u64> {
    let mut endless = Endless { functions: program.functions.keys().copied().collect(), ..known.clone() };
    let elsewhere: HashSet<u64> = program.functions.values().filter(|f| stack::returns_elsewhere(f)).map(|f| f.entry).collect();
    let dependents = dependents(program);
    let mut work: Vec<u64> = program.functions.keys().copied().collect();
    while let Some(entry) = work.pop() {
        if endless.functions.contains(&entry) && may_return(&program.functions[&entry], program, &endless, &elsewhere) {
            endless.functions.remove(&entry);
            work.extend(dependents.get(&entry).into_iter().flatten());
        }
    }
    endless.functions
}

/// By function: those that call it or jump to it, and so may return if it does.
fn dependents(program: &Program) -> HashMap<u64, HashSet<u64>> {
    let mut found: HashMap<u64, HashSet<u64>> = HashMap::new();
    for f in program.functions.values() {
        for block in f.blocks.values() {
            let calls = block.instructions.iter().filter(|i| i.is_call_near()).map(Instruction::near_branch_target);
            calls.chain(block.tail_target()).filter(|t| program.functions.contains_key(t)).for_each(|t| {
                found.entry(t).or_default().insert(f.entry);
            });
        }
    }
    found
}

/// Functions that a block jumps to or runs on into: what follows a call at the end of a call frame is the next function.
pub(crate) fn tail_target(block: &Block, image: &Image) -> Option<u64> {
    let target = block.tail_target()?;
    (!block.instructions.last().is_some_and(|i| i.next_ip() == target && ends_frame(i, image))).then_some(target)
}

/// `elsewhere`: retpolines and their like; what they go to may return.
fn may_return(f: &Function, program: &Program, endless: &Endless, elsewhere: &HashSet<u64>) -> bool {
    if f.slot().is_some_and(|slot| endless.slots.contains(&slot)) {
        return false;
    }
    let gone = |target: u64| program.functions.contains_key(&target) && endless.functions.contains(&target);
    let mut seen: HashSet<u64> = f.unreached.iter().copied().chain([f.entry]).collect();
    let mut work: Vec<u64> = seen.iter().copied().collect();
    while let Some(at) = work.pop() {
        let Some(block) = f.blocks.get(&at) else { continue };
        if block.instructions.iter().any(|i| endless.ends(i)) {
            continue;
        }
        let leaves = match block.end {
            Terminator::Return | Terminator::IndirectJump => true,
            ref end if end.leaves_its_table() => true,
            _ if block.instructions.iter().any(|i| i.is_call_near() && elsewhere.contains(&i.near_branch_target())) => true,
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
