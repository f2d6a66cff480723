//! What discovery hands to the rest of the lifter: functions as graphs of decoded basic blocks.
//!
//! Addresses everywhere are *guest* addresses: the object is already placed at its address slot (`Image::base`), so an
//! instruction's `ip()` is where the guest sees it. Calls and syscalls do not end a block; the resumable form splits there itself.

use crate::emit::Flags;
use crate::language::Language;
use crate::registers::RegSet;
use iced_x86::{Instruction, Mnemonic};
use std::collections::{BTreeMap, HashMap};

/// How a block ends. Targets inside the same function are block starts; every other target is another function's entry (or nobody's).
#[derive(Clone, Debug, PartialEq)]
pub enum Terminator {
    /// Unconditional jump or fall-through to a block of this function. The jmp instruction, if any, is the block's last one.
    Jump(u64),
    /// Conditional branch (last instruction: jcc, jrcxz, loop*).
    Branch { taken: u64, next: u64 },
    /// Conditional branch whose taken target is outside this function.
    TailBranch { taken: u64, next: u64 },
    /// Jump through a table. `targets[i]` for index value i.
    Switch { index: SwitchIndex, targets: Vec<u64>, certainty: Certainty },
    /// Jump through a table that several blocks use, while the structured form is emitted: to the block `switch`, which branches for all of them. `open`: an index of so much and above leads elsewhere.
    ToSwitch { index: SwitchIndex, switch: u64, open: Option<usize> },
    /// The end of that block, which has no instructions and no guest address. What is in `meaningless` registers means nothing to any target.
    SharedSwitch { targets: Vec<u64>, certainty: Certainty, meaningless: RegSet },
    /// ret (near).
    Return,
    /// jmp to an address outside this function.
    TailJump(u64),
    /// jmp through a register or memory with unknown target.
    IndirectJump,
    /// Nothing follows the call that is the block's last instruction, while the structured form is emitted: what it calls never returns.
    NoReturn,
    /// Nothing follows: ud2, hlt, undecodable bytes, or the end of the segment. `StopKind` says what the guest sees.
    Stop,
}

impl Terminator {
    /// A table jump that may go where its table does not say: to code that nobody knows.
    pub fn leaves_its_table(&self) -> bool {
        match self {
            Terminator::Switch { certainty, .. } | Terminator::SharedSwitch { certainty, .. } => *certainty > Certainty::Whole,
            Terminator::ToSwitch { open, .. } => open.is_some(),
            _ => false,
        }
    }
}

/// How far the table of a switch is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The jump has no other target.
    Whole,
    /// Nothing says how long the table is: an index beyond its known part leads elsewhere.
    Open,
    /// There are paths, if only impossible ones, on which the jump uses another table or none: where it goes must be compared with what the table says.
    Doubtful,
}

/// Where a switch's index is found.
#[derive(Clone, Debug, PartialEq)]
pub enum SwitchIndex {
    /// `jmp [table + index*8]`: the index register of the jump itself (64 bits).
    Register(iced_x86::Register),
    /// The index register of the table load at this address (the load stands before the jump, maybe in an earlier block): the emitter saves it there.
    SavedAtLoad(u64),
}

/// A block may be empty: where `next` or a switch target lies outside the function, an empty block at that address ends in
/// `TailJump(start)`. Resumable code must not be entered there (see `Program::block_owners`).
#[derive(Clone, Debug)]
pub struct Block {
    pub start: u64,
    pub instructions: Vec<Instruction>,
    pub end: Terminator,
}

impl Block {
    /// Block starts of this function that may follow.
    pub fn successors(&self) -> Vec<u64> {
        let mut v = match &self.end {
            Terminator::Jump(t) => vec![*t],
            Terminator::Branch { taken, next } => vec![*taken, *next],
            Terminator::TailBranch { next, .. } => vec![*next],
            Terminator::Switch { targets, .. } | Terminator::SharedSwitch { targets, .. } => targets.clone(),
            Terminator::ToSwitch { switch, .. } => vec![*switch],
            _ => vec![],
        };
        v.sort_unstable();
        v.dedup();
        v
    }

    /// Registers that mean nothing to whatever follows, known while the structured form is emitted.
    pub fn meaningless(&self) -> RegSet {
        if let Terminator::SharedSwitch { meaningless, .. } = self.end { meaningless } else { RegSet::EMPTY }
    }

    /// The function that the block's end jumps to, or may.
    pub fn tail_target(&self) -> Option<u64> {
        match self.end {
            Terminator::TailJump(t) | Terminator::TailBranch { taken: t, .. } => Some(t),
            _ => None,
        }
    }
}

/// One function: reached through `entry` by the structured form; the resumable form can start at any of its blocks.
#[derive(Clone, Debug)]
pub struct Function {
    pub entry: u64,
    pub name: String,
    pub blocks: BTreeMap<u64, Block>,
    /// Blocks that are not reached from `entry` through the graph (landing pads, gap fillers, targets of unresolved jumps): resumable form only.
    pub unreached: Vec<u64>,
    /// Flags that functions it jumps to find there, by their entry: hand-written code has such jumps, and so have functions that discovery cut out of shared code.
    pub passed_flags: HashMap<u64, Flags>,
    /// May be called from outside the object or through a pointer: exported, address-taken, or the target of a relocation.
    pub address_taken: bool,
    /// An exception may end one of its calls in a handler of its own, to which no edge leads.
    pub catches: bool,
}

impl Function {
    /// The memory slot of a function that does nothing but jump through it: an entry of a PLT.
    pub fn slot(&self) -> Option<u64> {
        let block = self.blocks.get(&self.entry).filter(|b| b.end == Terminator::IndirectJump)?;
        let (jump, before) = block.instructions.split_last()?;
        let nothing = before.iter().all(|i| matches!(i.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Nop));
        (nothing && jump.is_ip_rel_memory_operand()).then(|| jump.ip_rel_memory_address())
    }

    /// Starts of the blocks that end in a switch, by its table.
    pub fn switches(&self) -> BTreeMap<&[u64], Vec<u64>> {
        let mut sites: BTreeMap<&[u64], Vec<u64>> = BTreeMap::new();
        for b in self.blocks.values() {
            if let Terminator::Switch { targets, .. } = &b.end {
                sites.entry(targets).or_default().push(b.start);
            }
        }
        sites
    }

    /// A lazy entry of a PLT: it pushes words and jumps to the resolver, which takes them off again and jumps on to the function that was called.
    pub fn is_lazy_entry(&self) -> bool {
        let mnemonics = || self.blocks.values().flat_map(|b| &b.instructions).map(Instruction::mnemonic);
        let straight = self.blocks.values().all(|b| matches!(b.end, Terminator::Jump(_) | Terminator::IndirectJump));
        let plain = mnemonics().all(|m| matches!(m, Mnemonic::Push | Mnemonic::Jmp | Mnemonic::Endbr64 | Mnemonic::Nop));
        straight && plain && mnemonics().any(|m| m == Mnemonic::Push)
    }
}

/// Stops the guest, and goes on behind itself when a handler of SIGTRAP returns, or a tracer wants it: int3 and its other forms.
pub fn is_breakpoint(i: &Instruction) -> bool {
    matches!(i.mnemonic(), Mnemonic::Int3 | Mnemonic::Int1) || i.mnemonic() == Mnemonic::Int && i.immediate8() == 3
}

/// All functions of one object, by entry.
#[derive(Debug, Default)]
pub struct Program {
    pub functions: BTreeMap<u64, Function>,
    /// Set if its calls do not keep the System V convention.
    pub language: Option<Language>,
    pub stats: DiscoveryStats,
}

/// Figures for `lift --report`.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryStats {
    pub executable_bytes: u64,
    pub covered_bytes: u64,
    pub instructions: u64,
    pub switches: u64,
    pub unresolved_indirect_jumps: u64,
    pub indirect_calls: u64,
    pub functions: u64,
    pub blocks: u64,
    /// Instructions over all functions: more than `instructions` where functions share code.
    pub emitted_instructions: u64,
    /// Indirect jumps through a fixed memory slot (PLT, GOT): `IndirectJump`, but not counted as unresolved.
    pub slot_jumps: u64,
    pub stopping_blocks: u64,
    /// Addresses of the unresolved indirect jumps.
    pub unresolved: Vec<u64>,
    /// Executable bytes that are neither decoded nor padding: data in text, as far as discovery can tell.
    pub leftovers: Vec<(u64, u64)>,
    /// Jump tables between code, and leftovers that no call frame claims as code.
    pub data_bytes: u64,
    /// Leftovers inside call frames: the file says code, discovery could not read it.
    pub unclaimed: Vec<(u64, u64)>,
}

impl Program {
    /// For every block start, the function whose resumable form should serve it. A block copied into several functions has one owner, and an
    /// empty block (which only jumps on to another function's entry) has none.
    pub fn block_owners(&self) -> BTreeMap<u64, u64> {
        let mut owners = BTreeMap::new();
        for function in self.functions.values() {
            for block in function.blocks.values() {
                let jumps_on = block.instructions.is_empty() && block.end == Terminator::TailJump(block.start);
                if !jumps_on {
                    owners.entry(block.start).or_insert(function.entry);
                }
            }
        }
        owners
    }
}
