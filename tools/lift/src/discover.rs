//! From an image to functions: every byte of code that the guest could execute gets a block.
//!
//! Owns the order in which sources of code are believed (what the file states, what code refers to, what looks like code). Refuses to
//! own semantics. The fact a newcomer gets wrong: reaching code from symbols is not enough (10 % of libc is reached
//! only through pointers and tables), so the rest is decoded where it lies.

mod backward;
mod blocks;
mod code;
mod gaps;
mod jump_table;
mod partition;

use crate::analyse::flags;
use crate::function::{DiscoveryStats, Function, Program, Terminator};
use crate::image::{Image, ImageKind};
use code::{Code, mark};
use iced_x86::{OpKind, Register};
use jump_table::JumpTables;
use std::collections::BTreeMap;

/// Finds all functions of `image`.
pub fn discover(image: &Image) -> Program {
    let mut code = Code::new(image);
    let mut tables = JumpTables::new(&code);
    add_stated_code(&mut code);
    tables.settle(&mut code);
    gaps::add_candidates(&mut code, &mut tables, &image.relocation_targets);
    if image.kind == ImageKind::Fixed {
        let words = data_words(image, |_| false);
        gaps::add_candidates(&mut code, &mut tables, &words);
        add_mentioned(&mut code, &mut tables);
        // Weaker: what reads as a word between code may be anything.
        let words = data_words(image, |word| code.marks(word) & mark::COVERED == 0);
        gaps::add_candidates(&mut code, &mut tables, &words);
    }
    add_mentioned(&mut code, &mut tables);
    gaps::fill(&mut code, &mut tables);
    gaps::follow_breakpoints(&mut code);
    add_mentioned(&mut code, &mut tables);
    tables.settle(&mut code);
    add_mentioned(&mut code, &mut tables);
    jump_table::start_blocks_of_unresolved_jumps(&mut code, &tables);
    let mut functions = partition::Partition::new(&code, &tables).functions();
    flags::pass(&mut functions);
    let stats = stats(&code, &tables, &functions);
    Program { functions, language: image.language, stats }
}

/// What the file itself says is code.
fn add_stated_code(code: &mut Code) {
    let image = code.image;
    for address in image.entry.iter().chain(&image.init_fini) {
        code.start_block(*address, mark::NAMED);
    }
    for &entry in &image.lazy_entries {
        code.start_block(entry, mark::NAMED);
    }
    for symbol in image.symbols.iter().filter(|s| s.function) {
        // gcc names the cold part of a function; it is not an entry.
        let part = symbol.name.ends_with(".cold") || symbol.name.contains(".cold.");
        let named = if symbol.exported {
            mark::NAMED
        } else if part {
            0
        } else {
            mark::SYMBOL
        };
        code.start_block(symbol.address, named);
    }
    // Hand-written functions often have no type; nor do the ends of sections, where nothing can be decoded.
    for symbol in image.symbols.iter().filter(|s| s.exported && !s.function) {
        if gaps::believable(code, symbol.address) {
            code.start_block(symbol.address, mark::NAMED);
        }
    }
    for frame in &image.frames {
        code.start_block(frame.start, 0);
        for &pad in &frame.landing_pads {
            code.start_block(pad, 0);
        }
    }
}

/// Follows addresses that decoded instructions mention, until they mention no new ones.
fn add_mentioned(code: &mut Code, tables: &mut JumpTables) {
    while !code.mentioned.is_empty() {
        let mut mentioned = std::mem::take(&mut code.mentioned);
        mentioned.sort_unstable();
        mentioned.dedup();
        gaps::add_candidates(code, tables, &mentioned);
    }
}

/// Aligned words that are addresses of code, where `is_data` says that a word may be data: only executables without relocations need it. Old linkers put constants into the segment of the code.
pub(crate) fn data_words(image: &Image, is_data: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut found = Vec::new();
    for segment in &image.segments {
        let start = segment.start.next_multiple_of(8);
        let words = segment.bytes.get((start - segment.start) as usize..).unwrap_or(&[]).chunks_exact(8);
        let words = (start..).step_by(8).zip(words.map(|w| u64::from_le_bytes(w.try_into().expect("8-byte chunk"))));
        found.extend(words.filter(|&(at, value)| image.is_code(value) && (!segment.execute || is_data(at))).map(|(_, value)| value));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn stats(code: &Code, tables: &JumpTables, functions: &BTreeMap<u64, Function>) -> DiscoveryStats {
    let ranges = code.ranges();
    let blocks = || functions.values().flat_map(|f| f.blocks.values());
    // A jump through a fixed slot (PLT, GOT) has no table to find.
    let through_slot = |site: u64| {
        code.at(site).is_some_and(|i| i.op0_kind() == OpKind::Memory && i.memory_index() == Register::None && (i.is_ip_rel_memory_operand() || i.memory_base() == Register::None))
    };
    let leftovers = gaps::leftovers(code);
    let (data_bytes, unclaimed) = gaps::data_and_unclaimed(code, &leftovers);
    let unresolved: Vec<u64> = tables.unresolved().filter(|&s| !through_slot(s)).collect();
    DiscoveryStats {
        executable_bytes: ranges.iter().map(|r| r.1 - r.0).sum(),
        covered_bytes: code.marked(mark::COVERED).len() as u64,
        instructions: code.instruction_count() as u64,
        switches: tables.switches.len() as u64,
        unresolved_indirect_jumps: unresolved.len() as u64,
        indirect_calls: code.indirect_calls,
        functions: functions.len() as u64,
        blocks: blocks().count() as u64,
        emitted_instructions: blocks().map(|b| b.instructions.len() as u64).sum(),
        slot_jumps: tables.unresolved().filter(|&s| through_slot(s)).count() as u64,
        stopping_blocks: blocks().filter(|b| b.end == Terminator::Stop).count() as u64,
        unresolved,
        leftovers,
        data_bytes,
        unclaimed,
    }
}
