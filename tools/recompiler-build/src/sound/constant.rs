//! Addresses that LLVM put into a register: `mov eax, 150h`, and later `gs:[rax]`, also where several ways meet.
//!
//! Owns the proof that the register holds one of some numbers there, whichever way the instruction is reached. The fact a newcomer gets wrong: where a jump table leads is not in the instructions. Whatever could be a table is
//! read as one, as far as it goes, and who comes from a table is believed nothing: a target too many refuses code, one too few would believe it.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How many instructions a proof may look at.
const PATIENCE: usize = 10_000;

/// What stands around the text of an image.
#[derive(Default)]
pub(super) struct Surroundings<'a> {
    /// Address and bytes of every section.
    sections: Vec<(u64, &'a [u8])>,
    /// Where functions begin.
    entries: Vec<u64>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn of(file: &object::File<'a>) -> Self {
        let sections = file.sections().filter_map(|s| Some((s.address(), s.data().ok()?))).collect();
        Self { sections, entries: file.symbols().chain(file.dynamic_symbols()).map(|s| s.address()).collect() }
    }
}

/// Code, and how every instruction of it may be reached.
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    address: u64,
    /// Where instructions begin, ascending.
    starts: Vec<u64>,
    /// Jumps and branches, by where they lead.
    jumps: HashMap<u64, Vec<u64>>,
    /// Reached from elsewhere: by calls, by tables, by the runtime.
    entered: HashSet<u64>,
}

impl<'a> Text<'a> {
    pub(super) fn new(bytes: &'a [u8], address: u64, around: Surroundings<'_>) -> Self {
        let mut text = Self { bytes, address, starts: Vec::new(), jumps: HashMap::new(), entered: around.entries.into_iter().collect() };
        let mut tables = BTreeSet::new();
        for i in Decoder::with_ip(64, bytes, address, DecoderOptions::NONE) {
            text.starts.push(i.ip());
            match i.op0_kind() {
                OpKind::NearBranch64 if i.flow_control() == FlowControl::Call => drop(text.entered.insert(i.near_branch64())),
                OpKind::NearBranch64 => text.jumps.entry(i.near_branch64()).or_default().push(i.ip()),
                _ => {}
            }
            if i.is_ip_rel_memory_operand() {
                tables.insert(i.ip_rel_memory_address());
            }
        }
        let within = address..address + bytes.len() as u64;
        for &table in &tables {
            // Each is as long as it can be: until the next thing begins that code looks at.
            let end = tables.range(table + 1..).next().map_or(usize::MAX, |next| (next - table) as usize);
            let behind = around.sections.iter().filter_map(|(at, data)| data.get(usize::try_from(table.checked_sub(*at)?).ok()?..));
            for data in behind {
                let targets = data[..data.len().min(end)].chunks_exact(4).map(|e| table.wrapping_add_signed(i64::from(i32::from_le_bytes(e.try_into().expect("four bytes")))));
                text.entered.extend(targets.take_while(|t| within.contains(t)));
            }
        }
        text
    }

    fn at(&self, ip: u64) -> Instruction {
        Decoder::with_ip(64, &self.bytes[(ip - self.address) as usize..], ip, DecoderOptions::NONE).decode()
    }

    /// The instruction that stands before.
    fn before(&self, ip: u64) -> Option<Instruction> {
        let k = self.starts.binary_search(&ip).ok()?;
        Some(self.at(*self.starts.get(k.checked_sub(1)?)?))
    }

    /// What `register` may hold at the instruction at `at`; nothing if that cannot be said.
    pub(super) fn constants(&self, at: u64, register: Register) -> Vec<u64> {
        self.collected(at, register).unwrap_or_default()
    }

    fn collected(&self, at: u64, register: Register) -> Option<Vec<u64>> {
        let mut factory = InstructionInfoFactory::new();
        let mut writes = |i: &Instruction| {
            let written = |a| !matches!(a, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            factory.info(i).used_registers().iter().any(|u| u.register().full_register() == register.full_register() && written(u.access()))
        };
        let (mut values, mut seen, mut waiting) = (Vec::new(), HashSet::from([at]), vec![at]);
        while let Some(ip) = waiting.pop() {
            if self.entered.contains(&ip) || seen.len() > PATIENCE {
                return None;
            }
            let mut earlier = self.jumps.get(&ip).cloned().unwrap_or_default();
            let previous = self.before(ip)?;
            match previous.flow_control() {
                FlowControl::Next if writes(&previous) => {
                    values.push(matches!(previous.code(), Code::Mov_r32_imm32 | Code::Mov_rm32_imm32).then(|| u64::from(previous.immediate32()))?)
                }
                FlowControl::Next | FlowControl::ConditionalBranch => earlier.push(previous.ip()),
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception => {}
                _ => return None,
            }
            waiting.extend(earlier.into_iter().filter(|ip| seen.insert(*ip)));
        }
        Some(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::MemoryOperand;
    use iced_x86::code_asm::*;

    const NOTHING: [u64; 0] = [];

    /// What rax may hold at the last instruction before `ret`; `around` gets the address of what the code calls `table`.
    fn known(code: impl Fn(&mut CodeAssembler, &mut CodeLabel) -> Result<(), IcedError>, around: impl Fn(&[Instruction]) -> (Vec<u64>, Vec<i32>)) -> Vec<u64> {
        const DATA: u64 = 0x9000;
        let mut a = CodeAssembler::new(64).unwrap();
        let mut label = a.create_label();
        let table = MemoryOperand::with_base_displ(Register::RIP, DATA as i64);
        a.add_instruction(Instruction::with2(Code::Lea_r64_m, Register::RCX, table).unwrap()).unwrap();
        code(&mut a, &mut label).unwrap();
        let bytes = a.assemble(0x1000).unwrap();
        let all: Vec<Instruction> = Decoder::with_ip(64, &bytes, 0x1000, DecoderOptions::NONE).into_iter().collect();
        let (entries, table) = around(&all);
        let table: Vec<u8> = table.into_iter().flat_map(i32::to_le_bytes).collect();
        let text = Text::new(&bytes, 0x1000, Surroundings { sections: vec![(DATA, &table)], entries });
        text.constants(all[all.len() - 2].ip(), Register::RAX)
    }

    fn use_it(a: &mut CodeAssembler) -> Result<(), IcedError> {
        a.movdqa(xmmword_ptr(rax).gs(), xmm1)?;
        a.ret()
    }

    #[test]
    fn a_number_moved_right_before_is_known() {
        let moved = |a: &mut CodeAssembler, _: &mut CodeLabel| {
            a.mov(eax, 0x150)?;
            a.add(rdx, rcx)?;
            use_it(a)
        };
        assert_eq!(known(moved, |_| (vec![], vec![])), [0x150]);
        let target = |k: usize| move |all: &[Instruction]| (vec![], vec![0x1000 - 0x9000, (all[k].ip() as i64 - 0x9000) as i32]);
        assert_eq!(known(moved, target(1)), [0x150], "a jump to the move");
        assert_eq!(known(moved, target(2)), NOTHING, "a table leads behind it");
        assert_eq!(known(moved, target(3)), NOTHING, "a table leads to the use");
        assert_eq!(known(moved, |all| (vec![all[2].ip()], vec![])), NOTHING, "a function begins behind it");
    }

    #[test]
    fn where_ways_meet_it_is_one_of_their_numbers() {
        let met = |a: &mut CodeAssembler, label: &mut CodeLabel| {
            let mut other = a.create_label();
            a.jne(other)?;
            a.mov(eax, 0x150)?;
            a.jmp(*label)?;
            a.set_label(&mut other)?;
            a.mov(eax, 0x160)?;
            a.set_label(label)?;
            use_it(a)
        };
        let mut both = known(met, |_| (vec![], vec![]));
        both.sort();
        assert_eq!(both, [0x150, 0x160]);
    }

    #[test]
    fn what_is_computed_or_reached_in_another_way_is_not() {
        let nothing = |_: &[Instruction]| (vec![], vec![]);
        let computed = |a: &mut CodeAssembler, _: &mut CodeLabel| {
            a.mov(eax, 0x150)?;
            a.add(eax, edx)?;
            use_it(a)
        };
        assert_eq!(known(computed, nothing), NOTHING);
        let part = |a: &mut CodeAssembler, _: &mut CodeLabel| {
            a.mov(eax, 0x150)?;
            a.mov(al, 1)?;
            use_it(a)
        };
        assert_eq!(known(part, nothing), NOTHING);
        let called = |a: &mut CodeAssembler, _: &mut CodeLabel| {
            a.mov(eax, 0x150)?;
            a.call(rdx)?;
            use_it(a)
        };
        assert_eq!(known(called, nothing), NOTHING);
        let jumped = |a: &mut CodeAssembler, label: &mut CodeLabel| {
            a.jne(*label)?;
            a.mov(eax, 0x150)?;
            a.set_label(label)?;
            use_it(a)
        };
        assert_eq!(known(jumped, nothing), NOTHING);
    }
}
