//! Where a block of the resumable form must be split so that a fault in it can be repaired: the guest's handler gets the state at the start of the piece, and when it returns the piece begins again.
//!
//! So what a piece does before an instruction that may fault must come out the same when it is done again: registers do, as they are stored to `CpuState` at the end only; memory does not once the
//! piece has written after reading, nor does what a host function changes in `CpuState`. The fact a newcomer gets wrong: stores alone need no split, they write the same values again.

use super::{Emit, Flags, Form, step};
use crate::registers::Effects;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess};

/// What has happened in the piece so far.
pub(super) struct Restart {
    factory: InstructionInfoFactory,
    effects: Effects,
    /// Memory was read.
    read: bool,
    /// The piece cannot be done again.
    final_: bool,
}

impl Default for Restart {
    fn default() -> Self {
        Self { factory: InstructionInfoFactory::new(), effects: Effects::default(), read: false, final_: false }
    }
}

impl Restart {
    /// A new piece begins.
    pub(super) fn begin(&mut self) {
        (self.read, self.final_) = (false, false);
    }

    /// Goes on to `i`. Does a new piece begin there?
    pub(super) fn begins_at(&mut self, i: &Instruction) -> bool {
        let calls_host = self.calls_host(i);
        // A host function takes registers from `CpuState`: what is newer in locals would be stored in the middle of a piece.
        // A repeated string instruction keeps its progress in `CpuState`, and goes on from there.
        let repeats = i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix());
        let begins = may_fault(i) && (self.final_ || calls_host || repeats);
        if begins {
            self.begin();
        }
        let (mut reads, mut writes) = (false, false);
        for access in self.factory.info(i).used_memory().iter().map(|m| m.access()) {
            reads |= !matches!(access, OpAccess::Write | OpAccess::NoMemAccess);
            writes |= !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        }
        self.read |= reads;
        self.final_ |= writes && self.read || calls_host || repeats;
        begins
    }

    /// Does the row of an instruction call a host function?
    fn calls_host(&mut self, i: &Instruction) -> bool {
        if i.flow_control() != FlowControl::Next {
            return false;
        }
        let mut probe = Emit::new(Form::Resumable);
        step(&mut probe, i, Flags::ALL, &mut self.effects);
        probe.calls_host
    }
}

/// Can the instruction meet memory that is not there?
pub(super) fn may_fault(i: &Instruction) -> bool {
    let memory = (0..i.op_count()).any(|k| i.op_kind(k) == iced_x86::OpKind::Memory);
    (memory && !matches!(i.mnemonic(), Mnemonic::Lea | Mnemonic::Nop))
        || i.is_stack_instruction()
        || i.is_string_instruction()
        || matches!(i.mnemonic(), Mnemonic::Maskmovdqu | Mnemonic::Maskmovq | Mnemonic::Xlatb)
}
