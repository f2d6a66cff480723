//! The map of decoded instructions of one image, filled by following control flow.
//!
//! Owns which byte is the start of an instruction, which is covered, which starts a block, and the direct edges met while decoding.
//! Refuses to own jump tables and functions. The fact a newcomer gets wrong: two instructions may overlap (a jump past a `lock`
//! prefix); both are kept, each under its own start.

use crate::function::is_breakpoint;
use crate::image::Image;
use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use std::collections::{HashMap, HashSet};

/// Facts about one byte of an executable segment.
pub(super) mod mark {
    /// Part of a decoded instruction.
    pub(in crate::discover) const COVERED: u8 = 1;
    /// A block starts here.
    pub(in crate::discover) const LEADER: u8 = 2;
    /// Target of a direct call.
    pub(in crate::discover) const CALLED: u8 = 4;
    /// Its address is a value somewhere: in a relocation, a lea, an immediate, a data word.
    pub(in crate::discover) const TAKEN: u8 = 8;
    /// Nothing refers to it, found by gap filling outside every frame.
    pub(in crate::discover) const GAP_ENTRY: u8 = 16;
    /// Part of a jump table that lies between code.
    pub(in crate::discover) const DATA: u8 = 32;
    /// An exported symbol, e_entry, a constructor: an entry whatever else is known.
    pub(in crate::discover) const NAMED: u8 = 64;
    /// A function symbol that is not exported: an entry, but who calls it is another question.
    pub(in crate::discover) const SYMBOL: u8 = 128;
}

/// An executable segment.
struct Area<'i> {
    start: u64,
    bytes: &'i [u8],
    /// Index + 1 into `Code::instructions` of the instruction that starts at this byte.
    index: Vec<u32>,
    marks: Vec<u8>,
}

pub(super) struct Code<'i> {
    pub(super) image: &'i Image,
    areas: Vec<Area<'i>>,
    instructions: Vec<Instruction>,
    work: Vec<u64>,
    /// Jump sources by target (direct jumps and resolved switches).
    pub(super) jumps_to: HashMap<u64, Vec<u64>>,
    switch_edges: HashSet<(u64, u64)>,
    /// Indirect jumps not yet looked at.
    pub(super) indirect_jumps: Vec<u64>,
    /// Addresses of code that instructions mention (lea, immediates), not yet looked at.
    pub(super) mentioned: Vec<u64>,
    /// Where the guest goes on after a breakpoint, not yet looked at.
    pub(super) behind_breakpoints: Vec<u64>,
    /// Every `lea reg, [rip + x]`: its address and what it computes.
    pub(super) lea_targets: Vec<(u64, u64)>,
    pub(super) indirect_calls: u64,
}

impl<'i> Code<'i> {
    pub(super) fn new(image: &'i Image) -> Code<'i> {
        let areas = image.segments.iter().filter(|s| s.execute && !s.bytes.is_empty());
        let areas = areas.map(|s| Area { start: s.start, bytes: &s.bytes, index: vec![0; s.bytes.len()], marks: vec![0; s.bytes.len()] });
        Code {
            image,
            areas: areas.collect(),
            instructions: Vec::new(),
            work: Vec::new(),
            jumps_to: HashMap::new(),
            switch_edges: HashSet::new(),
            indirect_jumps: Vec::new(),
            mentioned: Vec::new(),
            behind_breakpoints: Vec::new(),
            lea_targets: Vec::new(),
            indirect_calls: 0,
        }
    }

    fn place(&self, address: u64) -> Option<(usize, usize)> {
        let area = self.areas.partition_point(|a| a.start <= address).checked_sub(1)?;
        let offset = usize::try_from(address - self.areas[area].start).ok()?;
        (offset < self.areas[area].bytes.len()).then_some((area, offset))
    }

    /// Start and end of each executable segment's file part.
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        self.areas.iter().map(|a| (a.start, a.start + a.bytes.len() as u64)).collect()
    }

    pub(super) fn at(&self, address: u64) -> Option<&Instruction> {
        let (area, offset) = self.place(address)?;
        let index = self.areas[area].index[offset];
        (index != 0).then(|| &self.instructions[index as usize - 1])
    }

    /// Whether `address` lies inside a decoded instruction, other than just behind a lock prefix. True does not exclude that an
    /// instruction was decoded at `address` as well, most likely by mistake.
    pub(super) fn is_inside_instruction(&self, address: u64) -> bool {
        (1..15).filter_map(|distance| address.checked_sub(distance)).any(|start| {
            let lock = address - start == 1 && self.image.bytes(start, 1) == Some(&[0xf0]);
            !lock && self.at(start).is_some_and(|i| i.next_ip() > address)
        })
    }

    pub(super) fn marks(&self, address: u64) -> u8 {
        self.place(address).map_or(0, |(area, offset)| self.areas[area].marks[offset])
    }

    /// Whether something that says so by itself makes a function of what is at `address`: not a frame.
    pub(super) fn is_stated_entry(&self, address: u64) -> bool {
        let marks = self.marks(address);
        marks & (mark::CALLED | mark::NAMED | mark::SYMBOL | mark::GAP_ENTRY) != 0 || marks & mark::TAKEN != 0 && self.image.frame_index(address).is_none()
    }

    pub(super) fn mark(&mut self, address: u64, bits: u8) {
        if let Some((area, offset)) = self.place(address) {
            self.areas[area].marks[offset] |= bits;
        }
    }

    pub(super) fn instruction_count(&self) -> usize {
        self.instructions.len()
    }

    /// Every address with all of `bits`, ascending.
    pub(super) fn marked(&self, bits: u8) -> Vec<u64> {
        let of_area = |a: &Area| a.marks.iter().enumerate().filter(|(_, m)| *m & bits == bits).map(|(o, _)| a.start + o as u64).collect::<Vec<_>>();
        self.areas.iter().flat_map(of_area).collect()
    }

    /// Starts a block at `address` and queues it for decoding. False if it is not code.
    pub(super) fn start_block(&mut self, address: u64, bits: u8) -> bool {
        let Some((area, offset)) = self.place(address) else { return false };
        self.areas[area].marks[offset] |= bits | mark::LEADER;
        if self.areas[area].index[offset] == 0 {
            self.work.push(address);
        }
        true
    }

    fn add_jump(&mut self, from: u64, to: u64) {
        self.jumps_to.entry(to).or_default().push(from);
    }

    /// Adds an edge of a switch, which is read more than once.
    pub(super) fn add_jump_once(&mut self, from: u64, to: u64) {
        if self.switch_edges.insert((from, to)) {
            self.add_jump(from, to);
        }
    }

    /// Decodes everything queued and all that it leads to.
    pub(super) fn follow(&mut self) {
        while let Some(address) = self.work.pop() {
            self.trace(address);
        }
    }

    /// End of straight-line decoding from `address`: the end of its frame, else the start of the next one.
    pub(super) fn limit(&self, address: u64) -> u64 {
        match self.image.frame_index(address) {
            Some(index) => self.image.frames[index].end,
            None => {
                let next = self.image.frames.partition_point(|f| f.start <= address);
                self.image.frames.get(next).map_or(u64::MAX, |f| f.start)
            }
        }
    }

    fn trace(&mut self, start: u64) {
        let Some((area, offset)) = self.place(start) else { return };
        let bytes: &'i [u8] = self.areas[area].bytes;
        let base = self.areas[area].start;
        let mut decoder = Decoder::with_ip(64, &bytes[offset..], start, DecoderOptions::NONE);
        let mut limit = self.limit(start);
        let mut after_call = false;
        loop {
            let address = decoder.ip();
            let offset = (address - base) as usize;
            if address >= limit {
                // Hand-written code may go on past its frame (clone), even through padding into the next function (__memcpy_chk);
                // but padding behind a call means that the call never returns.
                let padding = padding_length(&bytes[offset.min(bytes.len())..]) != 0;
                if address > limit || self.image.frame_index(address).is_some() || (padding && after_call) {
                    return;
                }
                limit = self.limit(address);
                // Blocks are cut at frame ends too: what follows a syscall or a plain instruction there is a block of its own (clone, clone3).
                if !after_call && offset < bytes.len() {
                    self.areas[area].marks[offset] |= mark::LEADER;
                }
            }
            if offset >= bytes.len() {
                return;
            }
            if self.areas[area].index[offset] != 0 {
                self.areas[area].marks[offset] |= mark::LEADER;
                return;
            }
            if bytes[offset..].len() >= 8 && bytes[offset..offset + 8] == [0; 8] {
                return;
            }
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return;
            }
            after_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
            self.instructions.push(instruction);
            let area = &mut self.areas[area];
            area.index[offset] = self.instructions.len() as u32;
            area.marks[offset..offset + instruction.len()].iter_mut().for_each(|m| *m |= mark::COVERED);
            if self.note(&instruction) {
                return;
            }
        }
    }

    /// Records what an instruction refers to; true if nothing follows it.
    fn note(&mut self, instruction: &Instruction) -> bool {
        let address = instruction.ip();
        self.note_mentions(instruction);
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch => {
                self.note_jump(address, instruction);
                true
            }
            FlowControl::ConditionalBranch => {
                self.note_jump(address, instruction);
                self.mark(instruction.next_ip(), mark::LEADER);
                false
            }
            FlowControl::XbeginXabortXend => {
                if instruction.op0_kind() == OpKind::NearBranch64 {
                    self.start_block(instruction.near_branch_target(), 0);
                }
                false
            }
            FlowControl::IndirectBranch => {
                self.indirect_jumps.push(address);
                true
            }
            FlowControl::Call => {
                if instruction.is_call_near() {
                    self.start_block(instruction.near_branch_target(), mark::CALLED);
                }
                false
            }
            FlowControl::IndirectCall => {
                self.indirect_calls += 1;
                false
            }
            FlowControl::Return => true,
            FlowControl::Exception => true,
            FlowControl::Interrupt if is_breakpoint(instruction) => {
                self.behind_breakpoints.push(instruction.next_ip());
                true
            }
            FlowControl::Interrupt => !matches!(instruction.mnemonic(), Mnemonic::Syscall),
            FlowControl::Next => matches!(instruction.mnemonic(), Mnemonic::Hlt),
        }
    }

    fn note_jump(&mut self, address: u64, instruction: &Instruction) {
        if matches!(instruction.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32 | OpKind::NearBranch16) {
            let target = instruction.near_branch_target();
            self.start_block(target, 0);
            self.add_jump(address, target);
        }
    }

    fn note_mentions(&mut self, instruction: &Instruction) {
        if instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address();
            if instruction.mnemonic() == Mnemonic::Lea {
                self.lea_targets.push((instruction.ip(), target));
                if self.place(target).is_some() {
                    self.mentioned.push(target);
                }
            }
            return;
        }
        // A non-PIE executable puts addresses into immediates.
        if self.image.kind == crate::image::ImageKind::Fixed
            && matches!(
                instruction.code(),
                Opcode::Mov_r32_imm32 | Opcode::Mov_r64_imm64 | Opcode::Mov_rm64_imm32 | Opcode::Mov_rm32_imm32 | Opcode::Pushq_imm32 | Opcode::Cmp_rm64_imm32
            )
        {
            let target = instruction.immediate(instruction.op_count() - 1);
            if self.place(target).is_some() {
                self.mentioned.push(target);
            }
        }
    }
}

/// Length of the padding instruction (nop, int3) or zero byte at the start of `bytes`; 0 if it is something else.
pub(super) fn padding_length(bytes: &[u8]) -> usize {
    match bytes.first() {
        None => 0,
        Some(0 | 0xcc) => 1,
        Some(0x90 | 0x66 | 0x0f | 0x2e) => {
            let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
            if instruction.mnemonic() == Mnemonic::Nop { instruction.len() } else { 0 }
        }
        _ => 0,
    }
}
