//! The resumable form: `(block: i32) -> next_pc: i64`, a loop around a `br_table` over all blocks, full state in `CpuState` between blocks.
//!
//! Guest calls push the return address and return the callee's pc to the dispatcher, so no WASM frame stands for a guest frame. Blocks are split after calls
//! and syscalls, and so that what precedes a fault in a block can be done again: every pc at which the guest can be resumed is a block. This form is also the reference the structured one is
//! tested against.

use super::restart::{self, Restart};
use super::{Emit, Flags, Form, Lazy};
use crate::analyse;
use crate::function::{Block, Function, Terminator};
use crate::registers::{Effects, RegSet};
use iced_x86::{FlowControl, Instruction, Mnemonic};
use std::collections::HashMap;
use syscalls::abi::{import, offset};
use wasm_encoder::BlockType;

/// A block of the resumable form.
struct Piece<'a> {
    pc: u64,
    instructions: &'a [Instruction],
    live_after: Vec<Flags>,
    live_out: Flags,
    end: End<'a>,
    /// An instruction may fault: `CpuState.rip` must say where to begin again.
    may_fault: bool,
}

enum End<'a> {
    /// The block ends with a call; the guest comes back to this pc.
    Call(u64),
    Syscall(u64),
    /// Goes on at this pc, from the state in `CpuState`.
    Restart(u64),
    Block(&'a Terminator),
}

/// A finished function: locals, code, gaps, and the guest pcs of its blocks in block order.
pub struct Resumable {
    pub body: super::Body,
    pub blocks: Vec<u64>,
}

/// Emits `f` in the resumable form.
pub fn emit(f: &Function) -> Resumable {
    let pieces = split(f);
    let index: HashMap<u64, u32> = pieces.iter().enumerate().map(|(k, p)| (p.pc, k as u32)).collect();
    let mut w = Writer { e: Emit::new(Form::Resumable), index, effects: Effects::default(), count: pieces.len() as u32, current: 0 };
    w.e.s().loop_(BlockType::Empty);
    for _ in &pieces {
        w.e.s().block(BlockType::Empty);
    }
    w.e.s().local_get(0);
    let labels: Vec<u32> = (0..w.count).collect();
    w.e.s().br_table(labels, 0);
    for (k, p) in pieces.iter().enumerate() {
        w.e.s().end();
        w.current = k as u32;
        w.piece(p);
    }
    w.e.s().end().unreachable();
    Resumable { blocks: pieces.iter().map(|p| p.pc).collect(), body: w.e.finish() }
}

fn is_call(i: &Instruction) -> bool {
    matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall) && i.mnemonic() == Mnemonic::Call && !i.is_call_far_indirect()
}

fn split(f: &Function) -> Vec<Piece<'_>> {
    let live_in = analyse::flags::live_in(f);
    let mut pieces = Vec::new();
    let mut restart = Restart::default();
    for b in f.blocks.values() {
        let after = analyse::flags::live_after(b, &live_in);
        let mut from = 0;
        restart.begin();
        for (k, i) in b.instructions.iter().enumerate() {
            if restart.begins_at(i) && k > from {
                pieces.push(piece(b, from, k, &after, End::Restart(i.ip())));
                from = k;
            }
            let end = match i.mnemonic() {
                _ if is_call(i) => End::Call(i.next_ip()),
                Mnemonic::Syscall => End::Syscall(i.next_ip()),
                _ => continue,
            };
            pieces.push(piece(b, from, k + 1, &after, end));
            from = k + 1;
            restart.begin();
        }
        // Nothing left after a call, and the next block starts at the return pc: that block is the piece.
        let next = b.instructions.last().map(Instruction::next_ip);
        if from > 0 && from == b.instructions.len() && matches!(b.end, Terminator::Jump(t) if Some(t) == next) {
            continue;
        }
        pieces.push(piece(b, from, b.instructions.len(), &after, End::Block(&b.end)));
    }
    // The pc of an empty piece that stands for another function's entry (a block of its own, or what follows a call at the end of one) is that function's: here it would go to itself for ever.
    let stands_for_another = |p: &Piece<'_>| p.instructions.is_empty() && matches!(p.end, End::Block(Terminator::TailJump(t)) if *t == p.pc);
    let mut seen = std::collections::HashSet::new();
    pieces.retain(|p| !stands_for_another(p) && seen.insert(p.pc));
    pieces
}

fn piece<'a>(b: &'a Block, from: usize, to: usize, after: &[Flags], end: End<'a>) -> Piece<'a> {
    let instructions = &b.instructions[from..to];
    let pc = match instructions.first() {
        Some(i) => i.ip(),
        None if from > 0 => b.instructions[from - 1].next_ip(),
        None => b.start,
    };
    let live_out = if to > from { after[to - 1] } else { Flags::NONE };
    Piece { pc, instructions, live_after: after[from..to].to_vec(), live_out, may_fault: instructions.iter().any(restart::may_fault), end }
}

struct Writer {
    e: Emit,
    index: HashMap<u64, u32>,
    effects: Effects,
    count: u32,
    current: u32,
}

impl Writer {
    fn piece(&mut self, p: &Piece<'_>) {
        self.e.lazy = Lazy::State;
        self.e.valid = RegSet::EMPTY;
        self.e.dirty = RegSet::EMPTY;
        if p.may_fault {
            self.e.cpu_store64(offset::RIP, |e| e.c64(p.pc as i64));
        }
        let terminal = match &p.end {
            End::Call(_) | End::Syscall(_) => true,
            End::Restart(_) => false,
            End::Block(t) => p.instructions.last().is_some_and(|i| super::is_terminal(i, t)),
        };
        let n = p.instructions.len() - usize::from(terminal);
        for (k, i) in p.instructions[..n].iter().enumerate() {
            super::step(&mut self.e, i, p.live_after[k], &mut self.effects);
        }
        let last = if terminal { p.instructions.last() } else { None };
        if let Some(i) = last {
            let reads = self.effects.of(i).reads;
            self.e.ensure(reads);
        }
        match (&p.end, last) {
            (End::Call(next), Some(i)) => self.call(i, *next),
            (End::Syscall(next), _) => self.syscall(*next, p.live_out),
            (End::Restart(next), _) => {
                self.settle(p.live_out);
                self.goto(*next);
            }
            (End::Block(t), _) => self.terminator(t, last, p.live_out, p),
            (End::Call(_), None) => unreachable!("a call piece ends with its call"),
        }
    }

    /// Everything in `CpuState`, ready to leave the block.
    fn settle(&mut self, flags: Flags) {
        let dirty = self.e.dirty;
        self.e.flush(dirty);
        self.e.flags_to_state(flags);
    }

    fn call(&mut self, i: &Instruction, next: u64) {
        let target = self.e.t64(11);
        if i.is_call_near_indirect() {
            self.e.operand(i, 0);
        } else {
            self.e.c64(i.near_branch_target() as i64);
        }
        self.e.set(target);
        self.e.c64(next as i64);
        self.e.push64();
        self.settle(Flags::NONE);
        self.e.get(target);
        self.e.s().return_();
    }

    fn syscall(&mut self, next: u64, flags: Flags) {
        self.settle(flags);
        self.e.cpu_store64(offset::RIP, |e| e.c64(next as i64));
        self.e.s().call(import::SYSCALL_INDEX);
        self.e.cpu_load32(offset::POLL);
        self.e.if_then(|e| {
            e.cpu_load64(offset::RIP);
            e.s().return_();
        });
        self.goto(next);
    }

    /// Continues at a block of this function, or returns its pc to the dispatcher. State is settled.
    fn goto(&mut self, pc: u64) {
        match self.index.get(&pc) {
            Some(&k) => {
                let depth = self.count - 1 - self.current + self.e.depth;
                if k <= self.current {
                    self.poll(pc);
                }
                self.e.c32(k as i32);
                self.e.s().local_set(0).br(depth);
            }
            None => {
                self.e.c64(pc as i64);
                self.e.s().return_();
            }
        }
    }

    /// Back-edge poll: work pending → back to the dispatcher.
    fn poll(&mut self, pc: u64) {
        super::load_poll(&mut self.e);
        self.e.if_then(|e| {
            e.c64(pc as i64);
            e.s().return_();
        });
    }

    fn terminator(&mut self, t: &Terminator, last: Option<&Instruction>, live_out: Flags, p: &Piece<'_>) {
        match t {
            Terminator::Jump(pc) | Terminator::TailJump(pc) => {
                self.settle(live_out);
                self.goto(*pc);
            }
            Terminator::Branch { taken, next } | Terminator::TailBranch { taken, next } => {
                let cond = self.e.t32(11);
                super::branch_condition(&mut self.e, last.expect("a branch block ends with its branch"));
                self.e.set(cond);
                self.settle(live_out);
                self.e.get(cond);
                let (taken, next) = (*taken, *next);
                self.e.s().if_(BlockType::Empty);
                self.e.depth += 1;
                self.goto(taken);
                self.e.depth -= 1;
                self.e.s().end();
                self.goto(next);
            }
            Terminator::Switch { .. } | Terminator::IndirectJump => {
                let target = self.e.t64(11);
                self.e.operand(last.expect("an indirect jump ends its block"), 0);
                self.e.set(target);
                self.settle(live_out);
                self.e.get(target);
                self.e.s().return_();
            }
            Terminator::Return => {
                let target = self.e.t64(11);
                self.e.ensure(RegSet::RSP);
                self.e.pop64();
                self.e.set(target);
                let extra = last.filter(|i| i.op_count() == 1).map_or(0, |i| i.immediate16());
                if extra > 0 {
                    self.e.rsp_add(i32::from(extra));
                }
                self.settle(Flags::NONE);
                self.e.get(target);
                self.e.s().return_();
            }
            Terminator::Stop => super::stop_at_end(&mut self.e, p.instructions.last(), p.pc),
            Terminator::ToSwitch { .. } | Terminator::SharedSwitch { .. } | Terminator::NoReturn => unreachable!("made by the structured form only"),
        }
    }
}
