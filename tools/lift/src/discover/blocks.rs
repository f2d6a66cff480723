//! Basic blocks without a function: what lies between a block start and where control can split.
//!
//! Owns cutting the decoded instructions at block starts. Refuses to know which function a block belongs to, so its exits name
//! addresses only. The fact a newcomer gets wrong: running on past the end of a frame is usually the unreachable continuation of a call
//! that never returns, and must not glue two functions together.

use super::code::{Code, mark};
use super::jump_table::JumpTables;
use crate::function::is_breakpoint;
use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};

#[derive(Clone, Debug)]
pub(super) enum Exit {
    /// A jmp, or running on into the next block.
    Jump(u64),
    /// Running on past the end of the frame after a call: the next function's first block, never part of this function.
    Leave(u64),
    Branch {
        taken: u64,
        next: u64,
    },
    /// The resolved switch of the jump at this address.
    Switch(u64),
    Return,
    Indirect,
    Stop,
}

#[derive(Clone, Debug)]
pub(super) struct RawBlock {
    pub(super) instructions: Vec<Instruction>,
    pub(super) exit: Exit,
}

impl RawBlock {
    /// Cuts the block that starts at `start`.
    pub(super) fn cut(code: &Code, tables: &JumpTables, start: u64) -> RawBlock {
        let mut instructions = Vec::new();
        let mut address = start;
        let end = code.limit(start);
        let exit = loop {
            if address != start && (code.marks(address) & mark::LEADER != 0 || address >= end) {
                break run_on(code, start, address, instructions.last());
            }
            let Some(instruction) = code.at(address) else { break Exit::Stop };
            instructions.push(*instruction);
            address = instruction.next_ip();
            if let Some(exit) = exit_of(code, tables, instruction) {
                break exit;
            }
        };
        RawBlock { instructions, exit }
    }

    /// Addresses that control goes to from here within the object, as far as they are known.
    pub(super) fn targets(&self, tables: &JumpTables) -> Vec<u64> {
        match &self.exit {
            Exit::Jump(target) => vec![*target],
            Exit::Branch { taken, next } => vec![*taken, *next],
            Exit::Switch(site) => tables.switches[site].targets.clone(),
            _ => vec![],
        }
    }
}

fn run_on(code: &Code, start: u64, address: u64, last: Option<&Instruction>) -> Exit {
    if code.at(address).is_none() {
        return Exit::Stop;
    }
    // So is a breakpoint, which pads what is behind such a call.
    let after_call = last.is_some_and(|i| matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall) || is_breakpoint(i));
    if after_call && address >= code.limit(start) { Exit::Leave(address) } else { Exit::Jump(address) }
}

fn exit_of(code: &Code, tables: &JumpTables, instruction: &Instruction) -> Option<Exit> {
    let near = matches!(instruction.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32 | OpKind::NearBranch16);
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch if near => Some(Exit::Jump(instruction.near_branch_target())),
        FlowControl::UnconditionalBranch => Some(Exit::Stop),
        FlowControl::ConditionalBranch => Some(Exit::Branch { taken: instruction.near_branch_target(), next: instruction.next_ip() }),
        FlowControl::IndirectBranch if instruction.is_jmp_far_indirect() => Some(Exit::Stop),
        FlowControl::IndirectBranch if tables.switches.contains_key(&instruction.ip()) => Some(Exit::Switch(instruction.ip())),
        FlowControl::IndirectBranch => Some(Exit::Indirect),
        FlowControl::Return if instruction.mnemonic() == Mnemonic::Ret => Some(Exit::Return),
        // retf, iret and sysret do not return to a caller that lifted code knows.
        FlowControl::Return => Some(Exit::Stop),
        FlowControl::Exception => Some(Exit::Stop),
        FlowControl::Interrupt if is_breakpoint(instruction) => (code.marks(instruction.next_ip()) & mark::LEADER == 0).then_some(Exit::Stop),
        FlowControl::Interrupt if instruction.mnemonic() != Mnemonic::Syscall => Some(Exit::Stop),
        _ if instruction.mnemonic() == Mnemonic::Hlt => Some(Exit::Stop),
        _ if code.at(instruction.next_ip()).is_none() => Some(Exit::Stop),
        _ => None,
    }
}
