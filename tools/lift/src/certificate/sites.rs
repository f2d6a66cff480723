//! Where an object makes system calls, and with which numbers.
//!
//! Owns what counts as a site and how sure its numbers are. Refuses to own names of calls and what several objects make together. The fact a newcomer gets wrong: libc exports a function `syscall`, which makes
//! whatever call its caller names; so a call of it is a site as well, in the object that calls, and the instruction behind it is none of libc's own.

use super::values::{Open, Point, Values, Walker};
use crate::analyse::liveness;
use crate::function::{Function, Program, Terminator};
use crate::image::Image;
use crate::registers::Effects;
use iced_x86::{FlowControl, Instruction, Mnemonic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const RAX: usize = 0;
const RDI: usize = 7;

/// The exported function that passes its caller's number on, and the register it comes in.
const WRAPPER: (&str, usize) = ("syscall", RDI);

/// Stands for the function of a site that is a word of data.
pub const IN_DATA: &str = "(data)";

/// One place that makes system calls. It is *proved* if it has one number and nothing else; *possible* if it has several, of which some may belong to paths that never run; *unknown* if `unknown` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    pub address: u64,
    pub function: String,
    pub numbers: BTreeSet<u32>,
    /// Callers in other objects give more numbers: they are sites there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrapper: bool,
    /// Why there may be more numbers, and at which address that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<(u64, String)>,
}

impl Site {
    /// One number, for certain.
    pub fn is_proved(&self) -> bool {
        self.numbers.len() == 1 && !self.wrapper && self.unknown.is_none()
    }
}

/// All sites by address.
pub(super) fn find(image: &Image, program: &Program) -> Vec<Site> {
    let asked = asked(image, program);
    if asked.is_empty() {
        return Vec::new();
    }
    let mut effects = Effects::default();
    let events: BTreeMap<u64, _> = program.functions.values().map(|f| (f.entry, liveness::events(f, &mut effects))).collect();
    let summaries = liveness::summarise_writes(program, &events);
    let constant = |address: u64| image.is_constant(address, 4).then(|| image.u32_at(address)).flatten();
    let mut walker = Walker::new(program, image, &summaries, &constant);
    let one = |(address, a): (u64, Asked)| {
        let values = match a.register {
            Some(register) => walker.union(&a.points, register),
            None => Values { open: BTreeSet::from([Open { address, why: "address of syscall() is taken" }]), ..Values::default() },
        };
        site(image, address, a.function, values)
    };
    asked.into_iter().map(one).collect()
}

/// What to ask of an address. Functions may share code: then there are several points.
struct Asked {
    function: String,
    points: Vec<Point>,
    /// Holds the number; none if nothing does.
    register: Option<usize>,
}

fn asked(image: &Image, program: &Program) -> BTreeMap<u64, Asked> {
    let mut found: BTreeMap<u64, Asked> = BTreeMap::new();
    let slots: HashMap<u64, bool> = image.imports.iter().filter(|i| i.name == WRAPPER.0).map(|i| (i.place, i.data)).collect();
    let entries: BTreeSet<u64> = program.functions.values().filter(|f| f.slot().is_some_and(|s| slots.contains_key(&s))).map(|f| f.entry).collect();
    let mut add = |f: &Function, address, point, register: Option<usize>| {
        let a = found.entry(address).or_insert_with(|| Asked { function: f.name.clone(), points: Vec::new(), register });
        a.points.push(point);
        a.register = a.register.and(register);
    };
    for f in program.functions.values().filter(|f| !entries.contains(&f.entry)) {
        for block in f.blocks.values() {
            let point = |index| Point { function: f.entry, block: block.start, index };
            for (index, i) in block.instructions.iter().enumerate() {
                match use_of(i, &slots, &entries) {
                    Some(Use::Instruction) => add(f, i.ip(), point(index), Some(RAX)),
                    Some(Use::Call) => add(f, i.ip(), point(index), Some(WRAPPER.1)),
                    Some(Use::Address) => add(f, i.ip(), point(index), None),
                    None => {}
                }
            }
            // Running on into the PLT is a jump as well; an empty block has no instruction to name.
            if let Terminator::TailJump(target) | Terminator::TailBranch { taken: target, .. } = block.end
                && entries.contains(&target)
            {
                let address = block.instructions.last().map_or(block.start, Instruction::ip);
                add(f, address, point(usize::MAX), Some(WRAPPER.1));
            }
        }
    }
    for (&place, _) in slots.iter().filter(|(_, data)| **data) {
        found.insert(place, Asked { function: IN_DATA.into(), points: Vec::new(), register: None });
    }
    found
}

enum Use {
    Instruction,
    Call,
    Address,
}

fn use_of(i: &Instruction, slots: &HashMap<u64, bool>, entries: &BTreeSet<u64>) -> Option<Use> {
    let transfers = matches!(i.flow_control(), FlowControl::IndirectCall | FlowControl::IndirectBranch);
    match i.mnemonic() {
        Mnemonic::Syscall => Some(Use::Instruction),
        Mnemonic::Call if i.is_call_near() && entries.contains(&i.near_branch_target()) => Some(Use::Call),
        _ if i.is_ip_rel_memory_operand() && slots.contains_key(&i.ip_rel_memory_address()) => Some(if transfers { Use::Call } else { Use::Address }),
        // A non-PIE program takes the PLT entry's address.
        Mnemonic::Lea if i.is_ip_rel_memory_operand() && entries.contains(&i.ip_rel_memory_address()) => Some(Use::Address),
        Mnemonic::Mov if i.op_count() == 2 && entries.iter().any(|&e| e != 0 && holds(i, e)) => Some(Use::Address),
        _ => None,
    }
}

fn holds(i: &Instruction, value: u64) -> bool {
    use iced_x86::OpKind::*;
    matches!(i.op1_kind(), Immediate32 | Immediate64 | Immediate32to64) && i.immediate(1) == value
}

fn site(image: &Image, address: u64, function: String, values: Values) -> Site {
    let is_wrapper = |&(entry, register): &(u64, usize)| register == WRAPPER.1 && image.symbols.iter().any(|s| s.address == entry && s.exported && s.name == WRAPPER.0);
    let (wrapper, arguments): (Vec<_>, Vec<_>) = values.arguments.into_iter().partition(is_wrapper);
    let argument = arguments.first().map(|(entry, _)| Open { address: *entry, why: "argument of a function that anybody may call" });
    let unknown = values.open.into_iter().next().or(argument).map(|o| (o.address.wrapping_sub(image.base), o.why.to_owned()));
    Site { address: address.wrapping_sub(image.base), function, numbers: values.known, wrapper: !wrapper.is_empty(), unknown }
}
