//! Which arithmetic flags are live where, per function.

use crate::emit::Flags;
use crate::function::{Block, Function};
use std::collections::HashMap;

/// Flags live at the start of each block. Across calls, returns and tail jumps no flag is live (SysV).
pub fn live_in(f: &Function) -> HashMap<u64, Flags> {
    let mut live: HashMap<u64, Flags> = HashMap::new();
    loop {
        let mut changed = false;
        for b in f.blocks.values().rev() {
            let mut l = live_out(b, &live);
            for i in b.instructions.iter().rev() {
                l = Flags::before(i, l);
            }
            if live.insert(b.start, l) != Some(l) {
                changed = true;
            }
        }
        if !changed {
            return live;
        }
    }
}

/// Flags live at the end of a block.
pub fn live_out(b: &Block, live_in: &HashMap<u64, Flags>) -> Flags {
    b.successors().iter().fold(Flags::NONE, |l, s| l.or(live_in.get(s).copied().unwrap_or_default()))
}

/// Flags live after each instruction of a block.
pub fn live_after(b: &Block, live_in: &HashMap<u64, Flags>) -> Vec<Flags> {
    let mut l = live_out(b, live_in);
    let mut after = vec![Flags::NONE; b.instructions.len()];
    for (k, i) in b.instructions.iter().enumerate().rev() {
        after[k] = l;
        l = Flags::before(i, l);
    }
    after
}
