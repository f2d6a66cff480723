//! Jump tables: from an indirect jump to its list of targets.
//!
//! Owns the two shapes that compilers make (4-byte offsets from the table, 8-byte addresses) and where a table ends. Refuses to guess: a
//! table that is neither bounded nor ended by something that cannot be a target stays an unresolved jump. The fact a newcomer
//! gets wrong: a table read too long is harmless (surplus targets), and one that may be the wrong one or too short is worth having all the same: the jump
//! then compares where it goes with what the table says (`Certainty`).

use super::backward::{Backward, Constants, Definition, ValueCount};
use super::code::{Code, mark};
use crate::function::{Certainty, SwitchIndex};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::collections::{BTreeMap, BTreeSet};

/// A place where the table of an indirect jump may be.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) index: SwitchIndex,
    /// Guest address of entry 0.
    start: u64,
    /// `Some(base)`: 4-byte offsets from `base`; None: 8-byte addresses.
    offsets_from: Option<u64>,
    /// Number of entries that the code lets through.
    count: Option<ValueCount>,
    /// The table's address does not depend on a path that could not be understood.
    certain: bool,
    /// Nor on one that comes from where nothing is known.
    always: bool,
}

impl Table {
    fn entry_size(&self) -> u64 {
        if self.offsets_from.is_some() { 4 } else { 8 }
    }
}

/// A resolved switch.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    pub(super) index: SwitchIndex,
    pub(super) targets: Vec<u64>,
    pub(super) certainty: Certainty,
}

/// Rounds of looking at all jumps again; compilers' code settles in two or three.
const MAX_ROUNDS: usize = 8;

/// All indirect jumps seen so far.
pub(super) struct JumpTables {
    sites: BTreeSet<u64>,
    /// Entries that may still be read, so that many jumps over one long table cannot cost more than the file is worth.
    budget: usize,
    /// Steps of all backward walks so far: all rounds have one budget.
    steps: usize,
    tables: BTreeMap<u64, Vec<Table>>,
    /// How many certain tables start at an address: a table ends where the next begins.
    starts: BTreeMap<u64, usize>,
    pub(super) switches: BTreeMap<u64, Switch>,
}

impl JumpTables {
    pub(super) fn unresolved(&self) -> impl Iterator<Item = u64> + '_ {
        self.sites.iter().copied().filter(|s| !self.switches.contains_key(s))
    }

    pub(super) fn new(code: &Code) -> JumpTables {
        let bytes: u64 = code.ranges().iter().map(|r| r.1 - r.0).sum();
        JumpTables {
            sites: BTreeSet::new(),
            budget: (bytes as usize).saturating_mul(2).saturating_add(1 << 20),
            steps: 0,
            tables: BTreeMap::new(),
            starts: BTreeMap::new(),
            switches: BTreeMap::new(),
        }
    }

    /// Resolves what `code` has found since the last call and follows the targets, until nothing new turns up.
    pub(super) fn resolve_new(&mut self, code: &mut Code) {
        code.follow();
        let mut unbounded = Vec::new();
        loop {
            let new = std::mem::take(&mut code.indirect_jumps);
            if !new.is_empty() {
                self.sites.extend(&new);
                self.find(code, &new);
                let (bounded, rest): (Vec<u64>, Vec<u64>) = new.iter().partition(|s| self.is_bounded(**s));
                unbounded.extend(rest);
                self.read(code, &bounded);
            } else if !unbounded.is_empty() {
                // The more is decoded, the better can be told where a table without bounds ends.
                self.read(code, &std::mem::take(&mut unbounded));
            } else {
                return;
            }
            code.follow();
        }
    }

    fn is_bounded(&self, site: u64) -> bool {
        self.tables.get(&site).is_some_and(|tables| tables.iter().all(|t| t.count.is_some_and(|c| c.compared)))
    }

    /// Looks at every jump again with all predecessors known, because a path found later may lift a bound.
    pub(super) fn settle(&mut self, code: &mut Code) {
        for _ in 0..MAX_ROUNDS {
            self.resolve_new(code);
            let before = code.instruction_count();
            let all: Vec<u64> = self.sites.iter().copied().collect();
            self.find(code, &all);
            self.read(code, &all);
            code.follow();
            if code.instruction_count() == before {
                return;
            }
        }
    }

    /// Finds where the tables of `sites` may be.
    fn find(&mut self, code: &Code, sites: &[u64]) {
        let mut backward = Backward::new(code, self.steps);
        for &site in sites {
            let found = find_tables(&mut backward, code, site);
            for start in found.iter().flatten().filter(|t| t.certain).map(|t| t.start) {
                *self.starts.entry(start).or_default() += 1;
            }
            let old = match found {
                Some(tables) => self.tables.insert(site, tables),
                None => self.tables.remove(&site),
            };
            for start in old.iter().flatten().filter(|t| t.certain).map(|t| t.start) {
                let count = self.starts.get_mut(&start).expect("counted when it was found");
                *count -= 1;
                if *count == 0 {
                    self.starts.remove(&start);
                }
            }
        }
        self.steps = backward.steps();
    }

    /// Reads the tables of `sites` and starts blocks at their targets.
    fn read(&mut self, code: &mut Code, sites: &[u64]) {
        for &site in sites {
            self.switches.remove(&site);
            let Some(tables) = self.tables.get(&site) else { continue };
            let read = tables.iter().map(|t| (t, read_targets(code, site, t, &self.starts)));
            let mut complete: Vec<(&Table, Vec<u64>)> = read.filter_map(|(t, targets)| Some((t, targets?))).collect();
            let Some(left) = complete.iter().try_fold(self.budget, |left, (_, targets)| left.checked_sub(targets.len())) else { continue };
            self.budget = left;
            for (table, targets) in &complete {
                follow_targets(code, site, table, targets);
            }
            if complete.len() == 1 {
                let (table, targets) = complete.pop().expect("one element");
                let whole = table.count.is_some_and(|c| c.compared || c.values <= targets.len() as u64);
                let certainty = match table.certain && table.always {
                    true if whole => Certainty::Whole,
                    true => Certainty::Open,
                    false => Certainty::Doubtful,
                };
                self.switches.insert(site, Switch { index: table.index.clone(), targets, certainty });
            }
        }
    }
}

fn follow_targets(code: &mut Code, site: u64, table: &Table, targets: &[u64]) {
    for &target in targets {
        code.start_block(target, 0);
        code.add_jump_once(site, target);
    }
    for address in table.start..table.start + targets.len() as u64 * table.entry_size() {
        code.mark(address, mark::DATA);
    }
}

/// Starts blocks wherever a jump that stays unresolved could go by a table its function mentions: such a jump is done by looking its target up
/// at run time, and a target that is no block start would stop the guest.
pub(super) fn start_blocks_of_unresolved_jumps(code: &mut Code, tables: &JumpTables) {
    let image = code.image;
    let homes: BTreeSet<usize> = tables.unresolved().filter(|&s| code.at(s).is_some_and(|i| i.op0_kind() == OpKind::Register)).filter_map(|s| image.frame_index(s)).collect();
    let mut bases: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for &(at, target) in &code.lea_targets {
        if let Some(home) = image.frame_index(at).filter(|h| homes.contains(h)) {
            bases.entry(home).or_default().insert(target);
        }
    }
    let mut found = Vec::new();
    let mut budget = 1 << 22;
    'all: for (home, mentioned) in &bases {
        let (mut labels, tables): (Vec<u64>, Vec<u64>) = mentioned.iter().partition(|&&a| image.is_code(a));
        labels.retain(|&l| image.frame_index(l) == Some(*home));
        for &table in tables.iter().filter(|&&t| image.is_constant(t, 4)) {
            for &base in labels.iter().chain([&table]) {
                if budget == 0 {
                    break 'all;
                }
                found.extend(offsets_into_frame(code, table, base, *home, &mut budget));
            }
        }
    }
    for target in found {
        code.start_block(target, 0);
    }
}

/// The leading entries of a possible table of offsets from `base` that are instructions of frame `home`.
fn offsets_into_frame(code: &Code, table: u64, base: u64, home: usize, budget: &mut usize) -> Vec<u64> {
    let entries = (0..4096).map_while(|position| code.image.u32_at(table.checked_add(position * 4)?));
    let targets = entries.map(|offset| base.wrapping_add(offset as i32 as u64));
    let found: Vec<u64> = targets.take((*budget).min(4096)).take_while(|&t| code.image.frame_index(t) == Some(home) && code.at(t).is_some()).collect();
    *budget -= found.len().max(1).min(*budget);
    found
}

fn find_tables(backward: &mut Backward, code: &Code, site: u64) -> Option<Vec<Table>> {
    let jump = *code.at(site)?;
    if jump.op0_kind() == OpKind::Memory {
        return addresses_at(backward, &jump, SwitchIndex::Register(jump.memory_index()), true);
    }
    if jump.op0_kind() != OpKind::Register {
        return None;
    }
    let Definition { instruction: mut definition, mut always } = backward.definition(site, jump.op0_register())?;
    if definition.mnemonic() == Mnemonic::Mov && definition.op1_kind() == OpKind::Register {
        let copied = backward.definition(definition.ip(), definition.op1_register())?;
        (definition, always) = (copied.instruction, always && copied.always);
    }
    match definition.mnemonic() {
        Mnemonic::Mov if definition.op1_kind() == OpKind::Memory => addresses_at(backward, &definition, SwitchIndex::SavedAtLoad(definition.ip()), always),
        Mnemonic::Add if definition.op1_kind() == OpKind::Register => sum(backward, &definition, (definition.op0_register(), definition.op1_register()), always),
        Mnemonic::Lea if definition.memory_index_scale() == 1 && definition.memory_displacement64() == 0 => {
            sum(backward, &definition, (definition.memory_base(), definition.memory_index()), always)
        }
        _ => None,
    }
}

/// `[table + index * 8]`: a table of addresses.
fn addresses_at(backward: &mut Backward, access: &Instruction, index: SwitchIndex, always: bool) -> Option<Vec<Table>> {
    if access.memory_index_scale() != 8 || access.memory_index() == Register::None {
        return None;
    }
    let starts = table_starts(backward, access)?;
    let count = backward.value_count(access.ip(), access.memory_index());
    let certain = starts.complete && starts.values.len() == 1;
    let always = always && starts.always;
    Some(starts.values.iter().map(|&start| Table { index: index.clone(), start, offsets_from: None, count, certain, always }).collect())
}

/// `offset + base`, in either order, where the offset is loaded from `[table + index * 4]`.
fn sum(backward: &mut Backward, at: &Instruction, (first, second): (Register, Register), always: bool) -> Option<Vec<Table>> {
    for (offset, base) in [(first, second), (second, first)] {
        let Some(Definition { instruction: load, always: loaded }) = backward.definition(at.ip(), offset) else { continue };
        let indexed = load.op1_kind() == OpKind::Memory && load.memory_index_scale() == 4 && load.memory_index() != Register::None;
        if load.mnemonic() != Mnemonic::Movsxd || !indexed {
            continue;
        }
        let starts = table_starts(backward, &load)?;
        let bases = backward.constants(at.ip(), base)?;
        let count = backward.value_count(load.ip(), load.memory_index());
        // Usually one register is both; then its candidates belong together.
        let same = starts.values == bases.values;
        let certain = starts.complete && bases.complete && starts.values.len() == 1 && bases.values.len() == 1;
        let always = always && loaded && starts.always && bases.always;
        let pairs = starts.values.iter().flat_map(|&start| bases.values.iter().map(move |&base| (start, base)));
        let pairs = pairs.filter(|(start, base)| !same || start == base);
        let table = |(start, base)| Table { index: SwitchIndex::SavedAtLoad(load.ip()), start, offsets_from: Some(base), count, certain, always };
        return Some(pairs.map(table).collect());
    }
    None
}

fn table_starts(backward: &mut Backward, access: &Instruction) -> Option<Constants> {
    let displacement = access.memory_displacement64();
    if access.memory_base() == Register::None {
        return Some(Constants::only(displacement));
    }
    let mut starts = backward.constants(access.ip(), access.memory_base())?;
    starts.values.iter_mut().for_each(|v| *v = v.wrapping_add(displacement));
    Some(starts)
}

/// All targets that the jump can reach by this table; None if it cannot be the table.
fn read_targets(code: &Code, site: u64, table: &Table, starts: &BTreeMap<u64, usize>) -> Option<Vec<u64>> {
    let size = table.entry_size();
    let next_table = starts.range(table.start.saturating_add(1)..).next().map_or(u64::MAX, |(&next, _)| next);
    let room = (next_table - table.start) / size;
    let compared = table.count.filter(|c| c.compared).map(|c| c.values);
    if !table.certain && compared.is_none() {
        return None;
    }
    let limit = compared.unwrap_or_else(|| table.count.map_or(room, |c| c.values.min(room)));
    let mut targets = Vec::new();
    for position in 0..limit {
        let address = table.start.wrapping_add(position * size);
        let Some(target) = read_target(code, table, address) else { break };
        if !plausible(code, site, target, compared.is_some() && table.certain) {
            break;
        }
        targets.push(target);
    }
    let complete = compared.is_none_or(|count| targets.len() as u64 == count);
    (complete && !targets.is_empty()).then_some(targets)
}

fn read_target(code: &Code, table: &Table, address: u64) -> Option<u64> {
    // A table that the program or ld.so can write to is not known.
    if !code.image.is_constant(address, table.entry_size()) {
        return None;
    }
    match table.offsets_from {
        Some(base) => Some(base.wrapping_add(code.image.u32_at(address)? as i32 as u64)),
        None => code.image.u64_at(address),
    }
}

/// Whether `target` can belong to the switch at `site`. Without a bound it must stay in the same function.
fn plausible(code: &Code, site: u64, target: u64, bounded: bool) -> bool {
    let image = code.image;
    if !image.is_code(target) {
        return false;
    }
    if bounded {
        return true;
    }
    let home = image.frame_index(site);
    let there = image.frame_index(target);
    !code.is_inside_instruction(target) && (home == there || there.is_some_and(|f| image.frames[f].mid_frame))
}
