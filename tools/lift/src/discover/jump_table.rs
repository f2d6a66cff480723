//! Jump tables: from an indirect jump to its list of targets.
//!
//! Owns the two shapes that compilers make (4-byte offsets from the table, 8-byte addresses) and where a table ends. Refuses to guess: a
//! table that is neither bounded nor ended by something that cannot be a target stays an unresolved jump. The fact a newcomer
//! gets wrong: a table read too long is harmless (surplus targets), one read too short is a wrong program.

use super::backward::{Backward, ValueCount};
use super::code::{Code, mark};
use crate::function::SwitchIndex;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::collections::{BTreeMap, BTreeSet};

/// An indirect jump whose table has been found.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) index: SwitchIndex,
    /// Guest address of entry 0.
    start: u64,
    /// `Some(base)`: 4-byte offsets from `base`; None: 8-byte addresses.
    offsets_from: Option<u64>,
    /// Number of entries that the code lets through.
    count: Option<ValueCount>,
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
}

/// All indirect jumps seen so far.
#[derive(Default)]
pub(super) struct JumpTables {
    sites: BTreeSet<u64>,
    tables: BTreeMap<u64, Table>,
    pub(super) switches: BTreeMap<u64, Switch>,
}

impl JumpTables {
    pub(super) fn unresolved(&self) -> impl Iterator<Item = u64> + '_ {
        self.sites.iter().copied().filter(|s| !self.switches.contains_key(s))
    }

    /// Resolves what `code` has found since the last call and follows the targets, until nothing new turns up. Then looks at every
    /// jump again with all predecessors known, because a path found later may lift a bound.
    pub(super) fn resolve(&mut self, code: &mut Code) {
        loop {
            code.follow();
            while !code.indirect_jumps.is_empty() {
                let new = std::mem::take(&mut code.indirect_jumps);
                self.sites.extend(&new);
                self.look_at(code, &new);
                code.follow();
            }
            let before = code.instruction_count();
            let all: Vec<u64> = self.sites.iter().copied().collect();
            self.look_at(code, &all);
            code.follow();
            if code.instruction_count() == before {
                return;
            }
        }
    }

    fn look_at(&mut self, code: &mut Code, sites: &[u64]) {
        let mut backward = Backward::new(code);
        for &site in sites {
            match find_table(&mut backward, code, site) {
                Some(table) => self.tables.insert(site, table),
                None => self.tables.remove(&site),
            };
        }
        let starts: BTreeSet<u64> = self.tables.values().map(|t| t.start).collect();
        for &site in sites {
            self.switches.remove(&site);
            let Some(table) = self.tables.get(&site) else { continue };
            let (targets, complete) = read_targets(code, site, table, &starts);
            for (position, &target) in targets.iter().enumerate() {
                code.start_block(target, 0);
                code.add_jump_once(site, target);
                mark_data(code, table.start + position as u64 * table.entry_size(), table.entry_size());
            }
            if complete && !targets.is_empty() {
                self.switches.insert(site, Switch { index: table.index.clone(), targets });
            }
        }
    }
}

fn mark_data(code: &mut Code, start: u64, size: u64) {
    for address in start..start + size {
        code.mark(address, mark::DATA);
    }
}

fn find_table(backward: &mut Backward, code: &Code, site: u64) -> Option<Table> {
    let jump = *code.at(site)?;
    if jump.op0_kind() == OpKind::Memory {
        if jump.memory_index_scale() != 8 || jump.memory_index() == Register::None {
            return None;
        }
        let start = table_start(backward, &jump)?;
        let count = backward.value_count(site, jump.memory_index());
        return Some(Table { index: SwitchIndex::Register(jump.memory_index()), start, offsets_from: None, count });
    }
    if jump.op0_kind() != OpKind::Register {
        return None;
    }
    let mut definition = backward.definition(site, jump.op0_register())?;
    if definition.mnemonic() == Mnemonic::Mov && definition.op1_kind() == OpKind::Register {
        definition = backward.definition(definition.ip(), definition.op1_register())?;
    }
    match definition.mnemonic() {
        Mnemonic::Mov if definition.op1_kind() == OpKind::Memory && definition.memory_index_scale() == 8 => from_load(backward, &definition, None),
        Mnemonic::Add if definition.op1_kind() == OpKind::Register => sum(backward, &definition, definition.op0_register(), definition.op1_register()),
        Mnemonic::Lea if definition.memory_index_scale() == 1 && definition.memory_displacement64() == 0 => {
            sum(backward, &definition, definition.memory_base(), definition.memory_index())
        }
        _ => None,
    }
}

/// `offset + base`, in either order.
fn sum(backward: &mut Backward, at: &Instruction, first: Register, second: Register) -> Option<Table> {
    for (offset, base) in [(first, second), (second, first)] {
        let Some(load) = backward.definition(at.ip(), offset) else { continue };
        if load.mnemonic() != Mnemonic::Movsxd || load.op1_kind() != OpKind::Memory || load.memory_index_scale() != 4 {
            continue;
        }
        let base = backward.constant(at.ip(), base)?;
        return from_load(backward, &load, Some(base));
    }
    None
}

fn from_load(backward: &mut Backward, load: &Instruction, offsets_from: Option<u64>) -> Option<Table> {
    if load.memory_index() == Register::None {
        return None;
    }
    let start = table_start(backward, load)?;
    let count = backward.value_count(load.ip(), load.memory_index());
    Some(Table { index: SwitchIndex::SavedAtLoad(load.ip()), start, offsets_from, count })
}

fn table_start(backward: &mut Backward, access: &Instruction) -> Option<u64> {
    let displacement = access.memory_displacement64();
    match access.memory_base() {
        Register::None => Some(displacement),
        base => Some(backward.constant(access.ip(), base)?.wrapping_add(displacement)),
    }
}

/// The targets of a table, and whether they are all that the jump can reach.
fn read_targets(code: &Code, site: u64, table: &Table, starts: &BTreeSet<u64>) -> (Vec<u64>, bool) {
    let size = table.entry_size();
    let next_table = starts.range(table.start + 1..).next().copied().unwrap_or(u64::MAX);
    let room = (next_table - table.start) / size;
    let exact = table.count.is_some_and(|c| c.compared);
    let limit = table.count.map_or(room, |c| if exact { c.values } else { c.values.min(room) });
    let mut targets = Vec::new();
    for position in 0..limit {
        let address = table.start.wrapping_add(position * size);
        let Some(target) = read_target(code, table, address) else { break };
        if !plausible(code, site, target, exact) {
            break;
        }
        targets.push(target);
    }
    let complete = !exact || targets.len() as u64 == limit;
    (targets, complete)
}

fn read_target(code: &Code, table: &Table, address: u64) -> Option<u64> {
    // A table that the program can write to is not known.
    if !code.image.is_constant(address) {
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
    let inside_instruction = code.marks(target) & mark::COVERED != 0 && code.at(target).is_none();
    let home = image.frame_index(site);
    let there = image.frame_index(target);
    !inside_instruction && (home == there || there.is_some_and(|f| image.frames[f].mid_frame))
}
