//! Loops that begin with `local.get x; br_table`: what WASM makes of a loop with several entries.
//!
//! Owns the recognition. Whoever branches to such a loop right after setting the local to a constant goes where the table would have sent it, so that LLVM gets the loop with its several entries back; its passes do
//! not thread jumps across the header of a loop. The fact a newcomer gets wrong: this needs no new phis, since locals are stack slots until mem2reg.

use inkwell::basic_block::BasicBlock;
use std::collections::HashMap;
use wasmer_compiler::wasmparser::Operator;

/// What the operators just translated were.
#[derive(Clone, Copy, Default)]
enum Recent {
    #[default]
    Other,
    /// A loop, by the index of its frame, and blocks within it.
    Loop(usize),
    /// The same and the load of a local.
    Loaded { frame: usize, local: u32 },
    Constant(i32),
    /// A constant stored to a local.
    Stored { local: u32, value: i32 },
}

struct Selector<'ctx> {
    local: u32,
    /// Where the table goes; the default last.
    targets: Vec<BasicBlock<'ctx>>,
}

#[derive(Default)]
pub(super) struct Selectors<'ctx> {
    recent: Recent,
    /// By the index of the loop's frame.
    open: HashMap<usize, Selector<'ctx>>,
}

impl<'ctx> Selectors<'ctx> {
    /// Notes an operator that is about to be translated, with `frames` open frames.
    pub(super) fn note(&mut self, operator: &Operator, frames: usize) {
        self.recent = match (operator, self.recent) {
            (Operator::Loop { .. }, _) => {
                self.open.remove(&frames);
                Recent::Loop(frames)
            }
            (Operator::Block { .. }, Recent::Loop(frame)) => Recent::Loop(frame),
            (Operator::LocalGet { local_index }, Recent::Loop(frame)) => Recent::Loaded { frame, local: *local_index },
            (Operator::I32Const { value }, _) => Recent::Constant(*value),
            (Operator::LocalSet { local_index }, Recent::Constant(value)) => Recent::Stored { local: *local_index, value },
            (Operator::BrTable { .. } | Operator::Br { .. }, recent) => recent,
            _ => Recent::Other,
        };
    }

    /// A table branch to `targets`, the default last; none of them takes values.
    pub(super) fn table(&mut self, targets: impl Iterator<Item = BasicBlock<'ctx>>) {
        if let Recent::Loaded { frame, local } = self.recent {
            self.open.insert(frame, Selector { local, targets: targets.collect() });
        }
    }

    /// Where a branch to the loop of frame `frame` will be sent, if that is known.
    pub(super) fn destination(&self, frame: usize) -> Option<BasicBlock<'ctx>> {
        let (Recent::Stored { local, value }, Some(selector)) = (self.recent, self.open.get(&frame)) else {
            return None;
        };
        let k = usize::try_from(value).unwrap_or(usize::MAX);
        (selector.local == local).then(|| selector.targets.get(k).or(selector.targets.last()).copied()).flatten()
    }
}
