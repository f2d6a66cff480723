//! Pieces both forms share: one instruction, branch conditions, polls, the end of undecodable code.

use super::{Emit, Flags, cpu};
use crate::function::Terminator;
use crate::registers::{Effects, RegSet};
use crate::x86;
use iced_x86::{Code, FlowControl, Instruction, Mnemonic};
use syscalls::abi::{StopKind, offset};

/// Emits one ordinary instruction with the bookkeeping that rows rely on.
pub fn step(e: &mut Emit, i: &Instruction, live: Flags, effects: &mut Effects) {
    let effect = effects.of(i);
    e.ensure(effect.reads);
    e.live_flags = live;
    x86::emit(e, i);
    let writes = if e.stack.is_some() { effect.writes.minus(RegSet::RSP) } else { effect.writes };
    e.valid = e.valid.or(writes);
    e.dirty = e.dirty.or(writes);
}

/// Is this last instruction of a block the one its terminator stands for? (Fall-through blocks end with an ordinary instruction, and rows handle ud2 and friends.)
pub fn is_terminal(i: &Instruction, t: &Terminator) -> bool {
    match t {
        Terminator::Jump(_) | Terminator::TailJump(_) => i.flow_control() == FlowControl::UnconditionalBranch,
        Terminator::Stop => false,
        _ => true,
    }
}

/// Pushes i32: is the branch taken? For loop* this also counts rcx down, or ecx (with zeros above it) where an address-size prefix says so.
pub fn branch_condition(e: &mut Emit, i: &Instruction) {
    match i.mnemonic() {
        Mnemonic::Jrcxz => {
            e.gpr64(1);
            e.s().i64_eqz();
        }
        Mnemonic::Jecxz => {
            e.gpr64(1);
            e.s().i32_wrap_i64().i32_eqz();
        }
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne => {
            let narrow = matches!(i.code(), Code::Loop_rel8_64_ECX | Code::Loope_rel8_64_ECX | Code::Loopne_rel8_64_ECX);
            e.gpr64(1);
            e.s().i64_const(1).i64_sub();
            if narrow {
                e.s().i64_const(0xffff_ffff).i64_and();
            }
            e.set_gpr64(1);
            e.gpr64(1);
            e.s().i64_const(0).i64_ne();
            if i.mnemonic() != Mnemonic::Loop {
                e.condition(if i.mnemonic() == Mnemonic::Loope { iced_x86::ConditionCode::e } else { iced_x86::ConditionCode::ne });
                e.s().i32_and();
            }
        }
        _ => e.condition(i.condition_code()),
    }
}

/// Pushes `CpuState.poll`, loaded atomically: also a barrier for the compiler (ARCHITECTURE.md, "Polls").
pub fn load_poll(e: &mut Emit) {
    e.c32(0);
    // One byte: atomic loads of more check their alignment.
    e.s().i32_atomic_load8_u(cpu(offset::POLL, 0));
}

/// The end of a block nothing follows: if its last instruction did not already stop the guest, running on is a gap.
pub fn stop_at_end(e: &mut Emit, last: Option<&Instruction>, pc: u64) {
    let at = last.map_or(pc, Instruction::next_ip);
    e.cpu_store32(offset::STOP, |e| e.c32(StopKind::Gap as i32));
    e.leave(at, RegSet(u32::MAX), Flags::NONE);
}
