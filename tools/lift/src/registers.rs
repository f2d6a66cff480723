//! Register sets and what each instruction reads and writes. Owns the `RegSet` encoding; knows nothing of locals or code generation.
//!
//! The fact a newcomer gets wrong: a write to an 8- or 16-bit register also *reads* the full register (it keeps the upper bits), and so does a scalar SSE
//! write (it keeps the upper lanes), unless the form clears them.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use syscalls::abi::structured;

/// A set of registers: bits 0..15 general registers in encoding order, bits 16..31 xmm0..15.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RegSet(pub u32);

impl RegSet {
    pub const EMPTY: RegSet = RegSet(0);
    pub const XMM: RegSet = RegSet(0xffff_0000);
    pub const GPR: RegSet = RegSet(0xffff);
    pub const RSP: RegSet = RegSet(1 << 4);
    pub const RAX: RegSet = RegSet(1);
    /// rbx rbp r12..r15.
    pub const CALLEE_SAVED: RegSet = RegSet(1 << 3 | 1 << 5 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 15);
    /// rax rcx rdx rsi rdi r8..r11 and all xmm.
    pub const CALLER_SAVED: RegSet = RegSet(0b0000_1111_1100_0111 | 0xffff_0000);
    /// What a call through a pointer may read: six integer arguments, al, r10 (static chain), xmm0..7.
    pub const ARGUMENTS: RegSet = RegSet(1 << 7 | 1 << 6 | 1 << 2 | 1 << 1 | 1 << 8 | 1 << 9 | 1 | 1 << 10 | 0x00ff_0000);
    /// What a function may return: rax rdx xmm0 xmm1.
    pub const RESULTS: RegSet = RegSet(1 | 1 << 2 | 1 << 16 | 1 << 17);
    /// Passed as WASM parameters of structured code, besides rsp (`abi::structured::PARAMETERS`).
    pub const PARAMETERS: RegSet = RegSet::from_list(&structured::PARAMETERS).minus(RegSet::RSP);
    /// Come back as its WASM results, besides rsp.
    pub const RETURNED: RegSet = RegSet::from_list(&structured::RESULTS).and(RegSet::GPR).minus(RegSet::RSP);

    const fn from_list(registers: &[usize]) -> Self {
        let mut set = 0;
        let mut k = 0;
        while k < registers.len() {
            set |= 1 << registers[k];
            k += 1;
        }
        RegSet(set)
    }

    pub const fn gpr(n: usize) -> Self {
        RegSet(1 << n)
    }
    pub const fn xmm(n: usize) -> Self {
        RegSet(1 << (16 + n))
    }
    pub const fn has(self, bit: usize) -> bool {
        self.0 >> bit & 1 == 1
    }
    pub const fn and(self, o: Self) -> Self {
        RegSet(self.0 & o.0)
    }
    pub const fn or(self, o: Self) -> Self {
        RegSet(self.0 | o.0)
    }
    pub const fn minus(self, o: Self) -> Self {
        RegSet(self.0 & !o.0)
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Bit numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..32).filter(move |b| self.has(*b))
    }
    /// The bit of an iced register: general (any width) or xmm0..15.
    pub fn of(reg: Register) -> Self {
        if reg.is_gpr() {
            Self::gpr(reg.full_register().number())
        } else if reg.is_xmm() && reg.number() < 16 {
            Self::xmm(reg.number())
        } else {
            Self::EMPTY
        }
    }
}

/// Of bit numbers.
impl FromIterator<usize> for RegSet {
    fn from_iter<I: IntoIterator<Item = usize>>(bits: I) -> Self {
        bits.into_iter().fold(Self::EMPTY, |set, b| set.or(RegSet(1 << b)))
    }
}

impl std::fmt::Debug for RegSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Reads and full or partial writes of one instruction. A register that is only partly written appears in both sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effect {
    pub reads: RegSet,
    pub writes: RegSet,
    /// Registers of `reads` of which only the part that is not written matters.
    pub keeps: RegSet,
}

/// Computes `Effect`s; keeps iced's factory.
pub struct Effects {
    factory: InstructionInfoFactory,
}

impl Default for Effects {
    fn default() -> Self {
        Self { factory: InstructionInfoFactory::new() }
    }
}

impl Effects {
    pub fn of(&mut self, i: &Instruction) -> Effect {
        let mut e = Effect::default();
        for used in self.factory.info(i).used_registers() {
            let reg = used.register();
            let bit = RegSet::of(reg);
            let partial = reg.is_gpr() && reg.size() < 4;
            match used.access() {
                OpAccess::Read | OpAccess::CondRead => e.reads = e.reads.or(bit),
                OpAccess::Write => {
                    e.writes = e.writes.or(bit);
                    e.keeps = if partial { e.keeps.or(bit) } else { e.keeps };
                }
                OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
                    e.reads = e.reads.or(bit);
                    e.writes = e.writes.or(bit);
                }
                _ => {}
            }
        }
        adjust(i, &mut e);
        e.keeps = e.keeps.minus(e.reads);
        e.reads = e.reads.or(e.keeps);
        e
    }
}

/// Where iced's view differs from what the emitted code does.
fn adjust(i: &Instruction, e: &mut Effect) {
    use Mnemonic::*;
    match i.mnemonic() {
        // The kernel entry reads everything through CpuState; the flush there is complete anyway.
        Syscall => {
            e.reads = e.reads.or(RegSet(1 | 1 << 7 | 1 << 6 | 1 << 2 | 1 << 10 | 1 << 8 | 1 << 9));
            e.writes = e.writes.or(RegSet(1 | 1 << 1 | 1 << 11));
        }
        Cpuid => {
            e.reads = e.reads.or(RegSet(1 | 1 << 1));
            e.writes = e.writes.or(RegSet(1 | 1 << 1 | 1 << 2 | 1 << 3));
        }
        Nop | Reservednop | Endbr64 | Endbr32 | Rdsspd | Rdsspq | Prefetcht0 | Prefetcht1 | Prefetcht2 | Prefetchnta | Prefetchw => *e = Effect::default(),
        // Scalar conversions, square roots and moves keep the upper lanes of the destination.
        Cvtsi2sd | Cvtsi2ss | Cvtsd2ss | Cvtss2sd | Sqrtsd | Sqrtss | Rcpss | Rsqrtss | Roundsd | Roundss => {
            keeps_destination(i, e);
        }
        Movsd | Movss | Movlps | Movlpd | Movhps | Movhpd | Movlhps | Movhlps
            if i.op0_kind() == OpKind::Register && !(matches!(i.mnemonic(), Movsd | Movss) && i.op1_kind() == OpKind::Memory) =>
        {
            keeps_destination(i, e);
        }
        // What they compute does not depend on the register; a part of one keeps the rest.
        Sbb | Sub | Xor if i.op0_kind() == OpKind::Register && i.op1_kind() == OpKind::Register && i.op0_register() == i.op1_register() => independent(i, e),
        Or if i.op0_kind() == OpKind::Register && i.op1_kind() != OpKind::Register && i.try_immediate(1).is_ok_and(|v| v == u64::MAX) => independent(i, e),
        // Saving and restoring the extended state covers every xmm register; which ones a masked restore leaves alone is not known.
        Fxsave | Fxsave64 | Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 => e.reads = e.reads.or(RegSet::XMM),
        Fxrstor | Fxrstor64 | Xrstor | Xrstor64 => {
            e.reads = e.reads.or(RegSet::XMM);
            e.writes = e.writes.or(RegSet::XMM);
        }
        _ => {}
    }
}

fn keeps_destination(i: &Instruction, e: &mut Effect) {
    let register = RegSet::of(i.op0_register());
    if i.op1_kind() != OpKind::Register || RegSet::of(i.op1_register()) != register {
        e.reads = e.reads.minus(register);
    }
    e.keeps = e.keeps.or(register);
}

fn independent(i: &Instruction, e: &mut Effect) {
    let register = RegSet::of(i.op0_register());
    e.reads = e.reads.minus(register);
    if i.op0_register().size() < 4 {
        e.keeps = e.keeps.or(register);
    }
}
