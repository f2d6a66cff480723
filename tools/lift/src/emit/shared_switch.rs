//! One table branch for all jumps of a function through the same jump table.
//!
//! An interpreter's loop ends every one of its hundreds of handlers with a jump through the same table: as many table branches with as many targets make tens of thousands of edges, and every one carries
//! every register. So the jumps go to a block of its own, without an address, that branches for all of them. The resumable form, which returns to the dispatcher at such jumps, does not need it.

use crate::analyse::liveness::Events;
use crate::function::{Block, Certainty, Function, Terminator};

/// Marks the starts of shared blocks. No guest address has this bit.
const SHARED: u64 = 1 << 62;

/// Is this block start no guest address?
pub(super) fn is_shared(start: u64) -> bool {
    start & SHARED != 0
}

/// The function with shared switches, and events of its blocks. None if no two of its jumps have a table in common.
pub(super) fn share(f: &Function, events: &Events) -> Option<(Function, Events)> {
    let tables: Vec<_> = f.switches().into_iter().filter(|(_, sites)| sites.len() > 1).collect();
    if tables.is_empty() {
        return None;
    }
    let (mut shared, mut events) = (f.clone(), events.clone());
    for (k, (targets, sites)) in tables.into_iter().enumerate() {
        let start = SHARED | k as u64;
        let mut least = Certainty::Whole;
        for site in sites {
            let end = &mut shared.blocks.get_mut(&site).expect("a block of this function").end;
            if let Terminator::Switch { index, certainty, .. } = end {
                least = least.max(*certainty);
                *end = Terminator::ToSwitch { index: index.clone(), switch: start };
            }
        }
        shared.blocks.insert(start, Block { start, instructions: Vec::new(), end: Terminator::SharedSwitch { targets: targets.to_vec(), certainty: least } });
        events.insert(start, Vec::new());
    }
    Some((shared, events))
}
