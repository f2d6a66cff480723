//! One table branch for all jumps of a function through the same jump table.
//!
//! An interpreter's loop ends every one of its hundreds of handlers with a jump through the same table: as many table branches with as many targets make tens of thousands of edges, and every one carries
//! every register. So the jumps go to a block of its own, without an address, that branches for all of them. The resumable form, which returns to the dispatcher at such jumps, does not need it.

use crate::analyse::liveness::{Event, Events};
use crate::function::{Block, Certainty, Function, Terminator};
use crate::registers::RegSet;

/// Marks the starts of shared blocks. No guest address has this bit.
const SHARED: u64 = 1 << 62;

/// Is this block start no guest address?
pub(super) fn is_shared(start: u64) -> bool {
    start & SHARED != 0
}

/// The doubtful jumps among `sites`, and the others: who must not compare where it goes does so for nobody. Those through an open table look at their index first, while every register is at hand.
fn alike(f: &Function, sites: &[u64]) -> [(Certainty, Vec<u64>); 2] {
    let (doubtful, others) = sites.iter().partition(|site| matches!(f.blocks[site].end, Terminator::Switch { certainty: Certainty::Doubtful, .. }));
    [(Certainty::Doubtful, doubtful), (Certainty::Whole, others)]
}

/// What means nothing behind the jump that ends a block.
fn meaningless(events: &[Event]) -> RegSet {
    if let Some(Event::Dispatch { meaningless, .. }) = events.last() { *meaningless } else { RegSet::EMPTY }
}

/// The function with shared switches, and events of its blocks. None if no two of its jumps have a table in common.
pub(super) fn share(f: &Function, events: &Events) -> Option<(Function, Events)> {
    let tables = f.switches().into_iter().flat_map(|(targets, sites)| alike(f, &sites).map(|(certainty, sites)| (targets, certainty, sites)));
    let tables: Vec<_> = tables.filter(|(.., sites)| sites.len() > 1).collect();
    if tables.is_empty() {
        return None;
    }
    let (mut shared, mut events) = (f.clone(), events.clone());
    for (k, (targets, together, sites)) in tables.into_iter().enumerate() {
        let start = SHARED | k as u64;
        let meaningless = sites.iter().map(|site| meaningless(&events[site])).reduce(RegSet::and).unwrap_or_default();
        for site in sites {
            let end = &mut shared.blocks.get_mut(&site).expect("a block of this function").end;
            if let Terminator::Switch { index, certainty, .. } = end {
                let open = (*certainty == Certainty::Open).then_some(targets.len());
                *end = Terminator::ToSwitch { index: index.clone(), switch: start, open };
            }
        }
        let end = Terminator::SharedSwitch { targets: targets.to_vec(), certainty: together, meaningless };
        shared.blocks.insert(start, Block { start, instructions: Vec::new(), end });
        events.insert(start, Vec::new());
    }
    Some((shared, events))
}
