//! Looking backwards from an instruction: who comes before, where a register was set, which constant it holds, how large it can be.
//!
//! Owns the walks over the predecessor graph. Refuses to own what a jump table looks like. The fact a newcomer gets wrong: all walks
//! are over *all* known paths, impossible ones included, and give up (None) on disagreement or when too long; a wrong answer would be a
//! wrong program. Where callers come in, or nobody is known to come from, nothing is known: that is no reason to give up, but said.

use super::code::Code;
use crate::function::is_breakpoint;
use iced_x86::{ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use std::collections::HashSet;

/// Instructions looked at before a walk gives up.
const MAX_STEPS: usize = 6000;
/// Nor are these many places that set one register.
const MAX_DEFINITIONS: usize = 64;
/// A definition chain longer than this is not a table dispatch.
const MAX_DEPTH: u32 = 6;
/// More candidates for the address of one table are a sign of confusion.
const MAX_CONSTANTS: usize = 8;
/// No compiler makes larger jump tables.
const MAX_BOUND: u64 = 1 << 16;

/// How many values a register can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueCount {
    pub(super) values: u64,
    /// A comparison or mask says so; otherwise only the width of what was loaded does, and the table may be shorter.
    pub(super) compared: bool,
}

impl ValueCount {
    fn compared(values: u64) -> ValueCount {
        ValueCount { values, compared: true }
    }

    fn at_most(values: u64) -> ValueCount {
        ValueCount { values, compared: false }
    }

    /// Of a register that can have no more than `width` values by its width.
    fn within(self, width: Option<u64>) -> ValueCount {
        width.filter(|w| *w < self.values).map_or(self, ValueCount::at_most)
    }

    /// On another path.
    fn or(self, other: ValueCount) -> ValueCount {
        ValueCount { values: self.values.max(other.values), compared: self.compared && other.compared }
    }
}

/// The values that a register can hold, as far as they are constants.
#[derive(Clone, Debug)]
pub(super) struct Constants {
    pub(super) values: Vec<u64>,
    /// False if some path sets the register to something else: often the impossible path behind a call that never returns.
    pub(super) complete: bool,
    /// False if some path comes from where the register is not known: again, often an impossible one.
    pub(super) always: bool,
}

/// The instructions that can have set a register.
pub(super) struct Definitions {
    instructions: Vec<Instruction>,
    /// As in `Constants`.
    always: bool,
}

/// The only instruction that can have set a register.
pub(super) struct Definition {
    pub(super) instruction: Instruction,
    /// As in `Constants`.
    pub(super) always: bool,
}

impl Constants {
    pub(super) fn only(value: u64) -> Constants {
        Constants { values: vec![value], complete: true, always: true }
    }
}

/// An instruction that may run just before another one.
#[derive(Clone, Copy)]
struct Before {
    address: u64,
    /// It gets there by jumping rather than by running on.
    by_jump: bool,
}

/// What a bound walk follows: a register, or the memory operand the register was loaded from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Tracked {
    Register(Register),
    Memory { base: Register, index: Register, scale: u32, displacement: u64 },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct BoundState {
    address: u64,
    tracked: Tracked,
    /// The flags are known to say "at most the compared value" (1) or "less than it" (0).
    condition: Option<u64>,
    /// Another register that a comparison limits: it helps if the tracked one turns out to be a copy.
    compared: Option<Compared>,
    /// Number of values if nothing better is found.
    fallback: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Compared {
    /// As written in the comparison: its width counts.
    register: Register,
    values: u64,
}

pub(super) struct Backward<'c, 'i> {
    code: &'c Code<'i>,
    factory: InstructionInfoFactory,
    /// Steps of all walks together, and how many there may be, so that a hostile file costs linear time.
    steps: usize,
    budget: usize,
}

impl<'c, 'i> Backward<'c, 'i> {
    /// `steps`: taken before.
    pub(super) fn new(code: &'c Code<'i>, steps: usize) -> Backward<'c, 'i> {
        Backward { code, factory: InstructionInfoFactory::new(), steps, budget: 1_000_000 + 32 * code.instruction_count() }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    /// Collects what may run before `address`; true if callers may, too. None if the budget is used up.
    fn before(&mut self, address: u64, found: &mut Vec<Before>) -> Option<bool> {
        found.clear();
        let image = self.code.image;
        let frame = image.frame_index(address).filter(|&f| image.frames[f].start == address);
        if frame.is_none() {
            for start in (1..=15).filter_map(|distance| address.checked_sub(distance)) {
                if self.code.at(start).is_some_and(|i| i.next_ip() == address && runs_on(i)) {
                    found.push(Before { address: start, by_jump: false });
                }
            }
        }
        // Jumps to the start of a function are tail calls, except its own loops; jumps to a cold part come from its hot part.
        let belongs = |source: u64| frame.is_none_or(|f| image.frames[f].mid_frame || image.frame_index(source) == Some(f));
        if let Some(sources) = self.code.jumps_to.get(&address) {
            if sources.len() > MAX_STEPS {
                return None;
            }
            found.extend(sources.iter().filter(|&&s| belongs(s)).map(|&address| Before { address, by_jump: true }));
        }
        self.steps += 1 + found.len();
        if self.steps > self.budget {
            return None;
        }
        let framed = frame.is_some_and(|f| !image.frames[f].mid_frame);
        Some(framed || self.code.is_stated_entry(address))
    }

    /// Whether `instruction` changes any part of the full register `register`.
    fn writes(&mut self, instruction: &Instruction, register: Register) -> bool {
        match instruction.flow_control() {
            // gcc's -fipa-ra keeps values in caller-saved registers across calls whose callee it knows. Compiled code that reads such a
            // register after a call relies on that, so only results count as written.
            FlowControl::Call => return matches!(register, Register::RAX | Register::RDX),
            FlowControl::IndirectCall => return !callee_saved(register),
            _ => {}
        }
        let info = self.factory.info(instruction);
        info.used_registers().iter().any(|used| {
            used.register().full_register() == register && matches!(used.access(), OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite)
        })
    }

    /// The instructions that can have set `register` when `address` is reached; None if there are none, or too many.
    pub(super) fn definitions(&mut self, address: u64, register: Register) -> Option<Definitions> {
        let register = register.full_register();
        let mut seen = HashSet::new();
        let mut work = vec![address];
        let mut found: Vec<Instruction> = Vec::new();
        let mut before = Vec::new();
        let mut always = true;
        while let Some(at) = work.pop() {
            always &= !self.before(at, &mut before)? && !before.is_empty();
            for source in &before {
                if !seen.insert(source.address) {
                    continue;
                }
                let instruction = *self.code.at(source.address)?;
                if self.writes(&instruction, register) {
                    found.push(instruction);
                } else {
                    work.push(source.address);
                }
            }
            if seen.len() > MAX_STEPS || found.len() > MAX_DEFINITIONS {
                return None;
            }
        }
        (!found.is_empty()).then_some(Definitions { instructions: found, always })
    }

    /// The only instruction that sets `register` before `address`.
    pub(super) fn definition(&mut self, address: u64, register: Register) -> Option<Definition> {
        let Definitions { instructions, always } = self.definitions(address, register)?;
        match instructions[..] {
            [instruction] => Some(Definition { instruction, always }),
            _ => None,
        }
    }

    /// The constants that `register` can hold at `address`; None if there are none.
    pub(super) fn constants(&mut self, address: u64, register: Register) -> Option<Constants> {
        self.constants_within(address, register, MAX_DEPTH)
    }

    fn constants_within(&mut self, address: u64, register: Register, depth: u32) -> Option<Constants> {
        let depth = depth.checked_sub(1)?;
        let Definitions { instructions, always } = self.definitions(address, register)?;
        let mut found = Constants { values: Vec::new(), complete: true, always };
        for definition in instructions {
            match self.constants_set_by(&definition, depth) {
                None => found.complete = false,
                Some(these) => {
                    found.complete &= these.complete;
                    found.always &= these.always;
                    found.values.extend(these.values);
                }
            }
        }
        found.values.sort_unstable();
        found.values.dedup();
        (!found.values.is_empty() && found.values.len() <= MAX_CONSTANTS).then_some(found)
    }

    fn constants_set_by(&mut self, definition: &Instruction, depth: u32) -> Option<Constants> {
        if definition.op_count() != 2 || definition.op0_kind() != OpKind::Register || definition.op0_register().size() < 4 {
            return None;
        }
        let only = |value| Some(Constants::only(value));
        match (definition.mnemonic(), definition.op1_kind()) {
            (Mnemonic::Lea, _) if definition.is_ip_rel_memory_operand() => only(definition.ip_rel_memory_address()),
            (Mnemonic::Lea, _) if definition.memory_index() == Register::None && definition.memory_base() == Register::None => only(definition.memory_displacement64()),
            (Mnemonic::Lea, _) if definition.memory_index() == Register::None => {
                let mut base = self.constants_within(definition.ip(), definition.memory_base(), depth)?;
                base.values.iter_mut().for_each(|v| *v = v.wrapping_add(definition.memory_displacement64()));
                Some(base)
            }
            (Mnemonic::Mov, OpKind::Register) => self.constants_within(definition.ip(), definition.op1_register(), depth),
            (Mnemonic::Mov, OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64) => only(definition.immediate(1)),
            _ => None,
        }
    }

    /// How many values (0, 1, …) `register` can have at `address`; None if no comparison, mask or width limits it on every path.
    pub(super) fn value_count(&mut self, address: u64, register: Register) -> Option<ValueCount> {
        let start = BoundState { address, tracked: Tracked::Register(register.full_register()), condition: None, compared: None, fallback: None };
        let mut seen = HashSet::from([start]);
        let mut work = vec![start];
        let mut count = ValueCount::compared(0);
        let mut before = Vec::new();
        while let Some(state) = work.pop() {
            let called = self.before(state.address, &mut before)?;
            if called || before.is_empty() {
                count = count.or(ValueCount::at_most(state.fallback?));
            }
            for &source in &before {
                let instruction = *self.code.at(source.address)?;
                match self.bound_step(state, source, &instruction) {
                    Step::Found(found) => count = count.or(found.within(state.fallback)),
                    Step::Unknown => count = count.or(ValueCount::at_most(state.fallback?)),
                    Step::On(next) => work.extend(seen.insert(next).then_some(next)),
                    Step::Either(moved, kept) => work.extend([moved, kept].into_iter().filter(|s| seen.insert(*s))),
                }
            }
            if seen.len() > MAX_STEPS {
                // Enough is known if widths limit what is still followed.
                for state in work.drain(..) {
                    count = count.or(ValueCount::at_most(state.fallback?));
                }
            }
        }
        (1..=MAX_BOUND).contains(&count.values).then_some(count)
    }

    fn bound_step(&mut self, state: BoundState, source: Before, instruction: &Instruction) -> Step {
        let mut next = BoundState { address: source.address, ..state };
        if instruction.is_jcc_short_or_near() {
            next.condition = limit_of(instruction.condition_code(), source.by_jump).or(state.condition);
            return Step::On(next);
        }
        if let (Mnemonic::Cmp, Some(extra), Some(value)) = (instruction.mnemonic(), state.condition, immediate(instruction)) {
            let count = value.saturating_add(extra);
            if is_operand(instruction, 0, state.tracked) {
                return Step::Found(ValueCount::compared(count));
            }
            if instruction.op0_kind() == OpKind::Register && state.compared.is_none() {
                next.compared = Some(Compared { register: instruction.op0_register(), values: count });
            }
        }
        if instruction.rflags_modified() != 0 {
            next.condition = None;
        }
        match state.tracked {
            Tracked::Register(register) => {
                if let Some(compared) = state.compared {
                    if is_copy(instruction, register, compared.register) {
                        return Step::Found(ValueCount::compared(compared.values));
                    }
                    if self.writes(instruction, compared.register.full_register()) {
                        next.compared = None;
                    }
                }
                if !self.writes(instruction, register) {
                    return Step::On(next);
                }
                if is_conditional_move(instruction) { step_over_conditional_move(instruction, next) } else { step_over_definition(instruction, next) }
            }
            Tracked::Memory { base, index, .. } => {
                let call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
                let changed = |b: &mut Self, r: Register| r != Register::None && r != Register::RIP && b.writes(instruction, r.full_register());
                if call || changed(self, base) || changed(self, index) || is_operand(instruction, 0, state.tracked) { Step::Unknown } else { Step::On(next) }
            }
        }
    }
}

enum Step {
    Found(ValueCount),
    Unknown,
    On(BoundState),
    /// On both ways through a conditional move.
    Either(BoundState, BoundState),
}

fn is_conditional_move(instruction: &Instruction) -> bool {
    instruction.condition_code() != ConditionCode::None && instruction.op_count() == 2 && instruction.op1_kind() == OpKind::Register
}

/// A conditional move to the tracked register: it is what it was, and the condition does not hold, or what was moved. LLVM clamps the index of a Rust `match` so: `cmp edx, 3; mov ebp, 3; cmovae edx, ebp`.
fn step_over_conditional_move(instruction: &Instruction, next: BoundState) -> Step {
    let condition = |holds| limit_of(instruction.condition_code(), holds);
    let moved = BoundState { tracked: Tracked::Register(instruction.op1_register().full_register()), condition: condition(true), ..next };
    Step::Either(moved, BoundState { condition: condition(false), ..next })
}

/// `instruction` sets the tracked register: follow what it was set from.
fn step_over_definition(instruction: &Instruction, next: BoundState) -> Step {
    let narrow = |bits: u32| Some(next.fallback.unwrap_or(u64::MAX).min(1u64 << bits.min(63)));
    let from_register = |fallback| Step::On(BoundState { tracked: Tracked::Register(instruction.op1_register().full_register()), fallback, ..next });
    let from_memory = |fallback| {
        let tracked = Tracked::Memory {
            base: instruction.memory_base(),
            index: instruction.memory_index(),
            scale: instruction.memory_index_scale(),
            displacement: instruction.memory_displacement64(),
        };
        Step::On(BoundState { tracked, fallback, ..next })
    };
    let destination_bits = if instruction.op0_kind() == OpKind::Register { instruction.op0_register().size() as u32 * 8 } else { 64 };
    match (instruction.mnemonic(), instruction.op1_kind()) {
        (Mnemonic::Mov | Mnemonic::Movsxd | Mnemonic::Movsx, OpKind::Register) if instruction.op1_register().is_gpr() => from_register(next.fallback),
        (Mnemonic::Mov | Mnemonic::Movsxd | Mnemonic::Movsx, OpKind::Memory) => from_memory(next.fallback),
        (Mnemonic::Movzx, OpKind::Register) => from_register(narrow(instruction.op1_register().size() as u32 * 8)),
        (Mnemonic::Movzx, OpKind::Memory) => from_memory(narrow(instruction.memory_size().size() as u32 * 8)),
        (Mnemonic::Mov, _) => immediate(instruction).map_or(Step::Unknown, |v| Step::Found(ValueCount::compared(v.saturating_add(1)))),
        (Mnemonic::And, _) => immediate(instruction).map_or(Step::Unknown, |v| Step::Found(ValueCount::compared(v.saturating_add(1)))),
        (Mnemonic::Shr, OpKind::Immediate8) if u32::from(instruction.immediate8()) < destination_bits => {
            Step::Found(ValueCount::at_most(1u64 << (destination_bits - u32::from(instruction.immediate8())).min(63)))
        }
        (Mnemonic::Xor | Mnemonic::Sub, OpKind::Register) if instruction.op0_kind() == OpKind::Register && instruction.op1_register() == instruction.op0_register() => {
            Step::Found(ValueCount::compared(1))
        }
        (Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Tzcnt | Mnemonic::Lzcnt | Mnemonic::Popcnt, _) => Step::Found(ValueCount::at_most(64)),
        _ => Step::Unknown,
    }
}

/// Whether `instruction` copies the whole of what was compared between its register and `tracked`, in either direction.
fn is_copy(instruction: &Instruction, tracked: Register, compared: Register) -> bool {
    let moves = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsxd);
    if !moves || instruction.op0_kind() != OpKind::Register || instruction.op1_kind() != OpKind::Register {
        return false;
    }
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    let pair = (to.full_register(), from.full_register());
    let other = compared.full_register();
    to.size() >= 4 && from.size() <= compared.size() && (pair == (tracked, other) || pair == (other, tracked))
}

/// What a conditional jump says about its comparison on the way it took: 1 for "at most", 0 for "less than".
fn limit_of(condition: ConditionCode, taken: bool) -> Option<u64> {
    match (condition, taken) {
        (ConditionCode::a | ConditionCode::g, false) | (ConditionCode::be | ConditionCode::le, true) => Some(1),
        (ConditionCode::ae | ConditionCode::ge, false) | (ConditionCode::b | ConditionCode::l, true) => Some(0),
        (ConditionCode::ne, false) | (ConditionCode::e, true) => Some(1),
        _ => None,
    }
}

fn is_operand(instruction: &Instruction, operand: u32, tracked: Tracked) -> bool {
    match (instruction.op_count() > operand).then(|| instruction.op_kind(operand)) {
        Some(OpKind::Register) => tracked == Tracked::Register(instruction.op_register(operand).full_register()),
        Some(OpKind::Memory) => {
            tracked
                == Tracked::Memory {
                    base: instruction.memory_base(),
                    index: instruction.memory_index(),
                    scale: instruction.memory_index_scale(),
                    displacement: instruction.memory_displacement64(),
                }
        }
        _ => false,
    }
}

/// The immediate of a two-operand instruction, as an unsigned 32-bit bound.
fn immediate(instruction: &Instruction) -> Option<u64> {
    let value = (instruction.op_count() == 2).then(|| instruction.try_immediate(1).ok())??;
    let mask = match instruction.op0_kind() {
        OpKind::Register => (1u64 << (instruction.op0_register().size() as u32 * 8).min(63)) - 1,
        _ => (1u64 << (instruction.memory_size().size() as u32 * 8).min(63)) - 1,
    };
    Some(value & mask)
}

fn callee_saved(register: Register) -> bool {
    matches!(register, Register::RBX | Register::RBP | Register::RSP | Register::R12 | Register::R13 | Register::R14 | Register::R15)
}

/// Whether control can reach the next instruction.
fn runs_on(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception => false,
        FlowControl::Interrupt => instruction.mnemonic() == Mnemonic::Syscall || is_breakpoint(instruction),
        _ => instruction.mnemonic() != Mnemonic::Hlt,
    }
}
