//! Static stack tracking: in most functions rsp is the entry rsp plus a constant at every point.

use crate::analyse::flags;
use crate::function::{Function, Terminator};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::collections::HashMap;

/// Room below the deepest push for red-zone accesses.
const RED_ZONE: i32 = 128;

/// rsp at each reached block start, relative to the entry rsp; and how far below the entry rsp accesses may go.
#[derive(Clone, Debug)]
pub struct StackFacts {
    pub delta: HashMap<u64, i32>,
    pub bias: i32,
}

/// `None` when rsp is set from anything but constants, differs between paths, or is not back at the entry value at an exit.
pub fn track(f: &Function) -> Option<StackFacts> {
    let live_in = flags::live_in(f);
    let mut delta = HashMap::from([(f.entry, 0)]);
    let mut work = vec![f.entry];
    let mut deepest = 0_i32;
    while let Some(at) = work.pop() {
        let block = f.blocks.get(&at)?;
        let live = flags::live_after(block, &live_in);
        let mut d: i32 = delta[&at];
        for (k, i) in block.instructions.iter().enumerate() {
            d = d.checked_add(change(i, live[k].any())?)?;
            deepest = deepest.min(d);
            if !(-(1 << 24)..=0).contains(&d) {
                return None;
            }
        }
        if matches!(block.end, Terminator::Return | Terminator::TailJump(_) | Terminator::IndirectJump | Terminator::TailBranch { .. }) && d != 0 {
            return None;
        }
        if block.end == Terminator::Return && block.instructions.last().is_some_and(|i| i.op_count() == 1) {
            return None;
        }
        for next in block.successors() {
            match delta.insert(next, d) {
                None => work.push(next),
                Some(old) if old != d => return None,
                Some(_) => {}
            }
        }
    }
    Some(StackFacts { delta, bias: RED_ZONE - deepest })
}

/// Bytes an instruction adds to rsp; `None` if not constant.
fn change(i: &Instruction, flags_live: bool) -> Option<i32> {
    use Mnemonic::*;
    let writes_rsp = i.op_count() > 0 && i.op0_kind() == OpKind::Register && i.op0_register().full_register() == Register::RSP;
    match i.mnemonic() {
        Push => (i.stack_pointer_increment() == -8).then_some(-8),
        Pop => (i.stack_pointer_increment() == 8 && !writes_rsp).then_some(8),
        Call | Ret => Some(0),
        Add | Sub if writes_rsp => {
            let v = i32::try_from(i.try_immediate(1).ok()? as i64).ok()?;
            let constant = i.op0_register() == Register::RSP && !flags_live;
            if constant && i.mnemonic() == Sub { v.checked_neg() } else { constant.then_some(v) }
        }
        Lea if i.op0_register() == Register::RSP => (i.memory_base() == Register::RSP && i.memory_index() == Register::None).then_some(i.memory_displacement64() as i32),
        Leave | Enter | Pushf | Pushfq | Popf | Popfq => None,
        Cmp | Test => Some(0),
        Xchg | Xadd if i.op1_kind() == OpKind::Register && i.op1_register().full_register() == Register::RSP => None,
        _ if writes_rsp => None,
        _ => Some(0),
    }
}

/// Does a `ret` of the function go anywhere but to its caller (retpolines, return thunks, `push r; ret`)? It is a jump then, with whatever registers its target wants. A depth that does not fit counts only if
/// it fits at no return: compilers leave impossible paths (a `switch` without a default) that run on into other functions' cold parts.
pub fn returns_elsewhere(f: &Function) -> bool {
    let live_in = flags::live_in(f);
    let mut depth = HashMap::from([(f.entry, 0)]);
    let mut work = vec![f.entry];
    let (mut fits, mut misses) = (false, false);
    while let Some(at) = work.pop() {
        let Some(block) = f.blocks.get(&at) else { continue };
        let live = flags::live_after(block, &live_in);
        // None once rsp is not the entry's plus a constant: such functions compare at their return.
        let mut d: Option<i32> = Some(depth[&at]);
        for (k, i) in block.instructions.iter().enumerate() {
            d = d.and_then(|d| d.checked_add(change(i, live[k].any())?));
        }
        if block.end == Terminator::Return {
            if writes_return_address(&block.instructions) {
                return true;
            }
            (fits, misses) = (fits || d.is_none_or(|d| d == 0), misses || d.is_some_and(|d| d != 0));
        }
        let Some(d) = d else { continue };
        for next in block.successors() {
            if depth.insert(next, d).is_none() {
                work.push(next);
            }
        }
    }
    misses && !fits
}

/// Is the word that the last instruction, a `ret`, takes off the stack written in the same block, other than by a call?
fn writes_return_address(instructions: &[Instruction]) -> bool {
    let top = |i: &Instruction| i.memory_base() == Register::RSP && i.memory_index() == Register::None && i.memory_displacement64() == 0;
    let stores = |i: &Instruction| {
        let to_memory = i.op_count() > 0 && i.op0_kind() == OpKind::Memory && !matches!(i.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Call);
        top(i) && (to_memory && !changes_nothing(i) || i.mnemonic() == Mnemonic::Xchg)
    };
    for i in instructions.iter().rev().skip(1) {
        if stores(i) || i.mnemonic() == Mnemonic::Push {
            return true;
        }
        if change(i, true) != Some(0) || i.mnemonic() == Mnemonic::Call {
            return false;
        }
    }
    false
}

/// Memory barriers: `lock or dword ptr [rsp], 0` writes what it has read.
fn changes_nothing(i: &Instruction) -> bool {
    let neutral = match i.mnemonic() {
        Mnemonic::Or | Mnemonic::Add | Mnemonic::Sub | Mnemonic::Xor => 0,
        Mnemonic::And => u64::MAX,
        _ => return false,
    };
    i.try_immediate(1).is_ok_and(|n| n == neutral)
}

/// Does the function load rsp from something that is not its own frame (memory, or a register other than rbp)?
pub fn sets_foreign_rsp(f: &Function) -> bool {
    f.blocks.values().flat_map(|b| &b.instructions).any(|i| {
        let writes_rsp = i.op_count() > 0 && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RSP;
        match i.mnemonic() {
            Mnemonic::Mov => writes_rsp && !(i.op1_kind() == OpKind::Register && i.op1_register() == Register::RBP),
            Mnemonic::Pop => writes_rsp,
            Mnemonic::Xchg => writes_rsp || (i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP),
            _ => false,
        }
    })
}
