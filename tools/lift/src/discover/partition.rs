//! Which blocks make up which function.
//!
//! Owns the choice of entries, the merging of hot and cold parts, shared tails, and the home of blocks that nothing reaches. Refuses to
//! decode. The fact a newcomer gets wrong: a function is what its entry reaches without passing another entry; frames (FDEs) only
//! say where entries are likely, since one function can have several frames and one frame several entries.

use super::blocks::{Exit, RawBlock};
use super::code::{Code, mark};
use super::jump_table::JumpTables;
use crate::analyse::dominators::Dominators;
use crate::function::{Block, Certainty, Function, SwitchIndex, Terminator};
use crate::image::Image;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Shared code of at most this many instructions is copied into each function; larger code becomes a function of its own.
const COPY_LIMIT: usize = 24;

/// So many instructions are copied in all, beside a share of the object's own.
const COPIES: usize = 10_000;

/// Between the load from a jump table and the jump there is seldom more than one. Beyond so many blocks nothing is known.
const MAX_BLOCKS_TO_LOAD: usize = 1000;

/// System V ABI, x86-64 supplement, 5.2.
const PLT_ENTRY_BYTES: u64 = 16;

/// Cuts all blocks. A start inside another instruction counts only if something leads there: the others come from reading behind the end
/// of a table without bounds, before it was known where it ends.
fn cut_all(code: &Code, tables: &JumpTables) -> BTreeMap<u64, RawBlock> {
    let stated = mark::CALLED | mark::NAMED | mark::SYMBOL | mark::TAKEN;
    let doubtful = |l: u64| code.marks(l) & stated == 0 && code.is_inside_instruction(l);
    let (doubtful, mut work): (HashSet<u64>, Vec<u64>) = {
        let (doubtful, sure): (Vec<u64>, Vec<u64>) = code.marked(mark::LEADER).into_iter().partition(|&l| doubtful(l));
        (doubtful.into_iter().collect(), sure)
    };
    let mut blocks = BTreeMap::new();
    while let Some(start) = work.pop() {
        let Entry::Vacant(place) = blocks.entry(start) else { continue };
        let block = RawBlock::cut(code, tables, start);
        work.extend(block.targets(tables).iter().filter(|t| doubtful.contains(*t)));
        place.insert(block);
    }
    blocks
}

pub(super) struct Partition<'a, 'i> {
    code: &'a Code<'i>,
    tables: &'a JumpTables,
    blocks: BTreeMap<u64, RawBlock>,
    entries: BTreeSet<u64>,
    /// The frame whose exceptions land there, by landing pad.
    landing_pads: BTreeMap<u64, usize>,
    /// Entries made only because several functions share the code behind them.
    joins: HashSet<u64>,
}

impl<'a, 'i> Partition<'a, 'i> {
    pub(super) fn new(code: &'a Code<'i>, tables: &'a JumpTables) -> Partition<'a, 'i> {
        let blocks = cut_all(code, tables);
        let frames = code.image.frames.iter().enumerate();
        let landing_pads = frames.flat_map(|(index, f)| f.landing_pads.iter().map(move |&p| (p, index))).collect();
        let mut partition = Partition { code, tables, blocks, entries: BTreeSet::new(), landing_pads, joins: HashSet::new() };
        partition.entries = partition.blocks.keys().copied().filter(|&l| partition.is_entry(l)).collect();
        partition.split_shared_code();
        partition
    }

    fn image(&self) -> &'i Image {
        self.code.image
    }

    fn is_entry(&self, address: u64) -> bool {
        let marks = self.code.marks(address);
        if self.code.is_stated_entry(address) {
            return true;
        }
        let taken = marks & mark::TAKEN != 0;
        let Some(index) = self.image().frame_index(address) else { return false };
        let frame = &self.image().frames[index];
        if frame.start != address {
            return false;
        }
        // A frame that begins in the middle of a function is a part of one, whatever holds its address: in an executable at fixed addresses the words of jump tables look like pointers.
        taken && !frame.mid_frame || !self.is_cold_part(index) && !self.is_shared_by_lazy_entries(address)
    }

    /// The first entry of a PLT: the others jump there, each after its `push`. It becomes part of every one of them.
    fn is_shared_by_lazy_entries(&self, address: u64) -> bool {
        let entries = &self.image().lazy_entries;
        let lazy = |site: &u64| entries.partition_point(|e| e <= site).checked_sub(1).is_some_and(|k| site - entries[k] < PLT_ENTRY_BYTES);
        self.code.jumps_to.get(&address).is_some_and(|sites| sites.iter().any(lazy))
    }

    /// A frame that is entered only by jumps from another function's middle.
    fn is_cold_part(&self, index: usize) -> bool {
        let image = self.image();
        let frame = &image.frames[index];
        let elsewhere = |a: &u64| image.frame_index(*a) != Some(index);
        let jumped_from: Vec<u64> = self.code.jumps_to.get(&frame.start).map_or(&[][..], |v| v).iter().copied().filter(elsewhere).collect();
        if jumped_from.is_empty() {
            return frame.mid_frame && self.landing_pads.range(frame.start..frame.end).any(|(_, &thrower)| thrower != index);
        }
        if frame.mid_frame {
            return true;
        }
        // Without a frame to give it away: it jumps back into the middle of where it was entered from.
        let homes: HashSet<usize> = jumped_from.iter().filter_map(|&a| image.frame_index(a)).collect();
        self.blocks
            .range(frame.start..frame.end)
            .flat_map(|(_, b)| b.targets(self.tables))
            .any(|target| image.frame_index(target).is_some_and(|home| homes.contains(&home) && image.frames[home].start != target))
    }

    /// Gives code that two functions reach a function of its own, unless it is small enough to copy: what no entry dominates, if one comes from all of them at once. What lies behind such a join is
    /// dominated by it, so nothing needs to be looked at twice.
    fn split_shared_code(&mut self) {
        let starts: Vec<u64> = self.blocks.keys().copied().collect();
        let number: HashMap<u64, usize> = starts.iter().enumerate().map(|(k, s)| (*s, k + 1)).collect();
        let reached = |targets: Vec<u64>| targets.into_iter().filter_map(|t| number.get(&t).copied()).collect::<Vec<usize>>();
        let mut graph = vec![reached(self.entries.iter().copied().collect())];
        graph.extend(self.blocks.values().map(|b| reached(b.targets(self.tables))));
        let dominators = Dominators::of(&graph);
        let mut ways = vec![0usize; graph.len()];
        graph.iter().enumerate().filter(|(k, _)| dominators.immediate(*k).is_some()).flat_map(|(_, to)| to).for_each(|&t| ways[t] += 1);
        let mut copies = COPIES + self.code.instruction_count() / 2;
        // From the end, so that a short way into a join is copied, and not what is behind the join.
        for (k, &start) in starts.iter().enumerate().rev() {
            if dominators.immediate(k + 1) != Some(0) || self.entries.contains(&start) {
                continue;
            }
            let cost = self.size_if_small(start).map(|size| size * ways[k + 1]);
            match cost.and_then(|c| copies.checked_sub(c)) {
                Some(left) => copies = left,
                None => {
                    self.entries.insert(start);
                    self.joins.insert(start);
                }
            }
        }
    }

    /// The number of instructions of everything reached from `address`, if that fits into `COPY_LIMIT`.
    fn size_if_small(&self, address: u64) -> Option<usize> {
        let mut size = 0;
        let mut seen = HashSet::new();
        let mut work = vec![address];
        while let Some(at) = work.pop() {
            if (at != address && self.entries.contains(&at)) || !seen.insert(at) {
                continue;
            }
            let Some(block) = self.blocks.get(&at) else { continue };
            size += block.instructions.len().max(1);
            if size > COPY_LIMIT {
                return None;
            }
            work.extend(block.targets(self.tables));
        }
        Some(size)
    }

    /// Blocks reached from `entry` without passing another entry.
    fn reached(&self, entry: u64) -> BTreeSet<u64> {
        let mut seen = BTreeSet::new();
        let mut work = vec![entry];
        while let Some(at) = work.pop() {
            if (at != entry && self.entries.contains(&at)) || !self.blocks.contains_key(&at) || !seen.insert(at) {
                continue;
            }
            work.extend(self.blocks[&at].targets(self.tables));
        }
        seen
    }

    pub(super) fn functions(&self) -> BTreeMap<u64, Function> {
        let mut members: BTreeMap<u64, BTreeSet<u64>> = self.entries.iter().map(|&e| (e, self.reached(e))).collect();
        let mut home: HashMap<u64, u64> = HashMap::new();
        for (&entry, blocks) in &members {
            for &block in blocks {
                home.entry(block).or_insert(entry);
            }
        }
        let mut attached: HashMap<u64, BTreeSet<u64>> = HashMap::new();
        for &block in self.blocks.keys() {
            if home.contains_key(&block) {
                continue;
            }
            let entry = self.home_of_unreached(block, &home).unwrap_or(block);
            home.insert(block, entry);
            members.entry(entry).or_default().insert(block);
            if entry != block {
                attached.entry(entry).or_default().insert(block);
            }
        }
        members.iter().map(|(&entry, blocks)| (entry, self.function(entry, blocks, attached.get(&entry)))).collect()
    }

    /// The function that a block without predecessors lies in: that of its frame, or of the frame whose landing pad it is.
    fn home_of_unreached(&self, block: u64, home: &HashMap<u64, u64>) -> Option<u64> {
        let image = self.image();
        let Some(index) = image.frame_index(block) else {
            return home.get(self.blocks.range(..block).next_back()?.0).copied();
        };
        let frame = &image.frames[index];
        if let Some(&entry) = home.get(&frame.start) {
            return Some(entry);
        }
        let nearest = self.blocks.range(frame.start..block).rev().chain(self.blocks.range(block..frame.end)).find_map(|(b, _)| home.get(b));
        nearest.copied().or_else(|| {
            let thrower = *self.landing_pads.get(&block)?;
            home.get(&image.frames[thrower].start).copied()
        })
    }

    fn function(&self, entry: u64, members: &BTreeSet<u64>, attached: Option<&BTreeSet<u64>>) -> Function {
        let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
        for &start in members {
            let raw = &self.blocks[&start];
            let end = self.terminator((entry, start, raw), members, &mut blocks);
            blocks.insert(start, Block { start, instructions: raw.instructions.clone(), end });
        }
        let marks = self.code.marks(entry);
        // Its own loops are no callers.
        let home = |site: u64| self.blocks.range(..=site).next_back().is_some_and(|(b, _)| members.contains(b));
        let jumped_to = || self.code.jumps_to.get(&entry).is_some_and(|sites| sites.iter().any(|&s| !home(s)));
        let referenced = marks & mark::CALLED != 0 || self.joins.contains(&entry) || jumped_to();
        Function {
            entry,
            name: self.name(entry),
            unreached: attached.map_or_else(Vec::new, |a| a.iter().copied().collect()),
            address_taken: marks & (mark::TAKEN | mark::NAMED | mark::GAP_ENTRY) != 0 || !referenced,
            catches: members.iter().any(|&b| self.image().frame_index(b).is_some_and(|k| self.image().frames[k].catches)),
            passed_flags: HashMap::new(),
            blocks,
        }
    }

    /// Turns exits into terminators; a target that must be a block here but is another function's gets an empty block that jumps on.
    fn terminator(&self, (entry, start, raw): (u64, u64, &RawBlock), members: &BTreeSet<u64>, blocks: &mut BTreeMap<u64, Block>) -> Terminator {
        let mut inside = |target: u64| {
            if !members.contains(&target) {
                let end = if self.image().is_code(target) { Terminator::TailJump(target) } else { Terminator::Stop };
                blocks.entry(target).or_insert(Block { start: target, instructions: Vec::new(), end });
            }
            target
        };
        match raw.exit {
            Exit::Jump(target) if members.contains(&target) => Terminator::Jump(target),
            Exit::Jump(target) => Terminator::TailJump(target),
            Exit::Leave(target) => Terminator::TailJump(target),
            Exit::Branch { taken, next } if members.contains(&taken) => Terminator::Branch { taken, next: inside(next) },
            Exit::Branch { taken, next } => Terminator::TailBranch { taken, next: inside(next) },
            Exit::Switch(site) => {
                let switch = &self.tables.switches[&site];
                let targets = switch.targets.iter().map(|&t| inside(t)).collect();
                let certainty = match switch.index {
                    SwitchIndex::SavedAtLoad(load) if !self.always_passes(entry, start, load, members) => Certainty::Doubtful,
                    _ => switch.certainty,
                };
                Terminator::Switch { index: switch.index.clone(), targets, certainty }
            }
            Exit::Return => Terminator::Return,
            Exit::Indirect => Terminator::IndirectJump,
            Exit::Stop => Terminator::Stop,
        }
    }

    /// Whether every way from `entry` to the end of block `to` passes the instruction at `address` without leaving the function: else it ran in another function, or in an earlier round of a loop.
    fn always_passes(&self, entry: u64, to: u64, address: u64, members: &BTreeSet<u64>) -> bool {
        let holds = |block: u64| self.blocks[&block].instructions.iter().any(|i| i.ip() == address);
        if holds(to) {
            return true;
        }
        let mut seen = HashSet::from([entry]);
        let mut work = vec![entry];
        while let Some(at) = work.pop() {
            if at == to || seen.len() > MAX_BLOCKS_TO_LOAD {
                return false;
            }
            if !holds(at) {
                work.extend(self.blocks[&at].targets(self.tables).into_iter().filter(|t| members.contains(t) && seen.insert(*t)));
            }
        }
        true
    }

    fn name(&self, entry: u64) -> String {
        let symbols = &self.image().symbols;
        let first = symbols.partition_point(|s| s.address < entry);
        let here = symbols[first..].iter().take_while(|s| s.address == entry);
        let best = here.min_by_key(|s| (!s.function, !s.global, s.name.starts_with('_'), s.name.len()));
        best.map_or_else(|| format!("sub_{:x}", entry - self.image().base.min(entry)), |s| s.name.clone())
    }
}
