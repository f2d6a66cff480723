//! Where a block of the resumable form must be split so that a fault in it can be repaired: the guest's handler gets the state at the start of the piece, and when it returns the piece begins again.
//!
//! So what a piece does before an instruction that may fault must come out the same when it is done again: registers do, as they are stored to `CpuState` at the end only; memory does not once the
//! piece has written after reading, nor does what a host function changes in `CpuState`. A second read of the same place begins a piece, too: the compiler would take the first one's value, and what reads a counter before and after
//! its data would see no change. The fact a newcomer gets wrong: stores alone need no split, they write the same values again.

use super::{Emit, Flags, Form, step};
use crate::registers::Effects;
use iced_x86::{CpuidFeature, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory};

/// How many places a piece may read.
const PLACES: usize = 64;

/// What has happened in the piece so far.
pub(super) struct Restart {
    factory: InstructionInfoFactory,
    effects: Effects,
    /// Memory was read.
    read: bool,
    /// Where it was read, as instructions say it, but for the stack.
    places: Vec<UsedMemory>,
    /// The piece cannot be done again.
    final_: bool,
}

impl Default for Restart {
    fn default() -> Self {
        Self { factory: InstructionInfoFactory::new(), effects: Effects::default(), read: false, places: Vec::new(), final_: false }
    }
}

impl Restart {
    /// A new piece begins.
    pub(super) fn begin(&mut self) {
        (self.read, self.final_) = (false, false);
        self.places.clear();
    }

    /// Goes on to `i`. Does a new piece begin there?
    pub(super) fn begins_at(&mut self, i: &Instruction) -> bool {
        let calls_host = self.calls_host(i);
        // A host function takes registers from `CpuState`: what is newer in locals would be stored in the middle of a piece.
        // A repeated string instruction keeps its progress in `CpuState`, and goes on from there.
        let repeats = i.is_string_instruction() && (i.has_rep_prefix() || i.has_repne_prefix());
        let (mut reads, mut writes) = (false, false);
        let mut places = Vec::new();
        for memory in self.factory.info(i).used_memory() {
            let reads_it = !matches!(memory.access(), OpAccess::Write | OpAccess::NoMemAccess);
            reads |= reads_it;
            writes |= !matches!(memory.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            if reads_it && memory.base() != Register::RSP {
                places.push(*memory);
            }
        }
        // Many places make a piece of their own: they are compared one by one.
        let again = self.places.len() + places.len() > PLACES || places.iter().any(|p| self.places.iter().any(|q| same_place(p, q)));
        let begins = may_fault(i) && (self.final_ || calls_host || repeats || again);
        if begins {
            self.begin();
        }
        self.places.append(&mut places);
        self.read |= reads;
        self.final_ |= writes && self.read || calls_host || repeats || writes_state(i);
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

fn same_place(a: &UsedMemory, b: &UsedMemory) -> bool {
    let place = |m: &UsedMemory| (m.segment(), m.base(), m.index(), m.scale(), m.displacement());
    place(a) == place(b)
}

/// Does it write, at once, what lives in `CpuState` only? MMX registers and DF do.
fn writes_state(i: &Instruction) -> bool {
    let mmx = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Register && i.op_register(k).is_mm());
    mmx || matches!(i.mnemonic(), Mnemonic::Std | Mnemonic::Cld | Mnemonic::Popfq | Mnemonic::Emms)
}

/// Can it raise a floating-point exception that the guest has unmasked?
fn may_raise(i: &Instruction) -> bool {
    use Mnemonic::*;
    let sse = matches!(
        i.mnemonic(),
        Addps
            | Addpd
            | Addss
            | Addsd
            | Subps
            | Subpd
            | Subss
            | Subsd
            | Mulps
            | Mulpd
            | Mulss
            | Mulsd
            | Divps
            | Divpd
            | Divss
            | Divsd
            | Sqrtps
            | Sqrtpd
            | Sqrtss
            | Sqrtsd
            | Minps
            | Minpd
            | Minss
            | Minsd
            | Maxps
            | Maxpd
            | Maxss
            | Maxsd
            | Cmpps
            | Cmppd
            | Cmpss
            | Cmpsd
            | Comiss
            | Comisd
            | Ucomiss
            | Ucomisd
            | Addsubps
            | Addsubpd
            | Haddps
            | Haddpd
            | Hsubps
            | Hsubpd
            | Dpps
            | Dppd
            | Roundps
            | Roundpd
            | Roundss
            | Roundsd
            | Cvtdq2ps
            | Cvtpd2dq
            | Cvtpd2pi
            | Cvtpd2ps
            | Cvtpi2ps
            | Cvtps2dq
            | Cvtps2pd
            | Cvtps2pi
            | Cvtsd2si
            | Cvtsd2ss
            | Cvtsi2sd
            | Cvtsi2ss
            | Cvtss2sd
            | Cvtss2si
            | Cvttpd2dq
            | Cvttpd2pi
            | Cvttps2dq
            | Cvttps2pi
            | Cvttsd2si
            | Cvttss2si
    );
    sse || i.mnemonic() == Wait || i.cpuid_features().iter().any(|f| matches!(f, CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387))
}

/// Can the instruction meet memory that is not there, or an unmasked exception?
pub(super) fn may_fault(i: &Instruction) -> bool {
    let memory = (0..i.op_count()).any(|k| i.op_kind(k) == OpKind::Memory);
    (memory && !matches!(i.mnemonic(), Mnemonic::Lea | Mnemonic::Nop))
        || i.is_stack_instruction()
        || i.is_string_instruction()
        || matches!(i.mnemonic(), Mnemonic::Maskmovdqu | Mnemonic::Maskmovq | Mnemonic::Xlatb)
        || may_raise(i)
}
