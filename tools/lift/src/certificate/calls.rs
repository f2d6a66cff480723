//! Who may call whom, within an object and by name across objects.
//!
//! Owns the graph that reachability is computed on. Refuses to resolve names. The fact a newcomer gets wrong: there are no edges for calls through pointers. Instead, naming a function's address counts as calling
//! it: where code names it, from that function on; where a relocated word of data holds it, from the moment the object is loaded.

use crate::analyse::returns::tail_target;
use crate::function::{Function, Program};
use crate::image::{Image, ImageKind};
use iced_x86::{Instruction, OpKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Functions are numbered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallGraph {
    /// By number: the functions it calls, jumps to or names.
    pub calls: Vec<Vec<u32>>,
    /// By number: names of other objects' functions it uses, as indices into `names`.
    pub imports: BTreeMap<u32, Vec<u32>>,
    pub names: Vec<String>,
    /// Exported names.
    pub exports: BTreeMap<String, Vec<u32>>,
    /// Functions that run or may run as soon as the object is loaded: its entry, constructors, what data points to, and what nothing refers to although it is code.
    pub roots: Vec<u32>,
    /// Names that data points to.
    pub data_imports: Vec<String>,
    /// Sites (indices into the certificate's) by function.
    pub sites: BTreeMap<u32, Vec<u32>>,
}

struct Builder<'a> {
    image: &'a Image,
    program: &'a Program,
    numbers: HashMap<u64, u32>,
    owners: BTreeMap<u64, u64>,
    slots: HashMap<u64, &'a str>,
    names: BTreeMap<&'a str, u32>,
}

pub(super) fn graph(image: &Image, program: &Program, data_words: &[u64], sites: &[u64]) -> CallGraph {
    let numbers: HashMap<u64, u32> = program.functions.keys().copied().zip(0..).collect();
    let slots = image.imports.iter().filter(|i| !i.data).map(|i| (i.place, i.name.as_str())).collect();
    let mut b = Builder { image, program, numbers, owners: program.block_owners(), slots, names: BTreeMap::new() };
    let mut g = CallGraph::default();
    let sites: HashMap<u64, u32> = sites.iter().copied().zip(0..).collect();
    for (f, number) in program.functions.values().zip(0..) {
        let (calls, imports) = b.uses(f);
        g.calls.push(calls.into_iter().filter(|&c| c != number).collect());
        if !imports.is_empty() {
            g.imports.insert(number, imports.into_iter().collect());
        }
        let own: BTreeSet<u32> = f.blocks.values().flat_map(|b| &b.instructions).filter_map(|i| sites.get(&i.ip()).copied()).collect();
        if !own.is_empty() {
            g.sites.insert(number, own.into_iter().collect());
        }
    }
    let mut names: Vec<(&str, u32)> = b.names.iter().map(|(name, index)| (*name, *index)).collect();
    names.sort_by_key(|n| n.1);
    g.names = names.into_iter().map(|n| n.0.to_owned()).collect();
    for symbol in image.symbols.iter().filter(|s| s.exported) {
        if let Some(number) = b.number(symbol.address) {
            g.exports.entry(symbol.name.clone()).or_default().push(number);
        }
    }
    g.data_imports = image.imports.iter().filter(|i| i.data).map(|i| i.name.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    g.roots = b.roots(&g, data_words);
    g
}

impl<'a> Builder<'a> {
    /// The function that the code at `address` belongs to.
    fn number(&self, address: u64) -> Option<u32> {
        self.numbers.get(&address).or_else(|| self.numbers.get(self.owners.get(&address)?)).copied()
    }

    fn uses(&mut self, f: &'a Function) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let (mut calls, mut imports) = (BTreeSet::new(), BTreeSet::new());
        for block in f.blocks.values() {
            calls.extend(tail_target(block, self.image).and_then(|target| self.number(target)));
            for i in &block.instructions {
                calls.extend(self.named(i).into_iter().filter_map(|a| self.number(a)));
                if i.is_ip_rel_memory_operand()
                    && let Some(&name) = self.slots.get(&i.ip_rel_memory_address())
                {
                    let next = self.names.len() as u32;
                    imports.insert(*self.names.entry(name).or_insert(next));
                }
            }
        }
        (calls, imports)
    }

    /// Addresses of code that an instruction calls, mentions, or finds in the word it reads.
    fn named(&self, i: &Instruction) -> Vec<u64> {
        let mut found = Vec::new();
        if matches!(i.op0_kind(), OpKind::NearBranch64) {
            found.push(i.near_branch_target());
        }
        if i.is_ip_rel_memory_operand() {
            let address = i.ip_rel_memory_address();
            found.push(address);
            found.extend(self.image.u64_at(address));
        }
        if self.image.kind == ImageKind::Fixed {
            let immediate = |k: u32| matches!(i.op_kind(k), OpKind::Immediate32 | OpKind::Immediate64 | OpKind::Immediate32to64).then(|| i.immediate(k));
            found.extend((0..i.op_count()).filter_map(immediate));
            found.push(i.memory_displacement64());
        }
        found.retain(|&a| self.image.is_code(a));
        found
    }

    fn roots(&self, g: &CallGraph, data_words: &[u64]) -> Vec<u32> {
        let stated = self.image.entry.iter().chain(&self.image.init_fini).chain(&self.image.relocation_targets).chain(data_words);
        let mut roots: BTreeSet<u32> = stated.filter_map(|&a| self.number(a)).collect();
        let exported = g.exports.values().flatten().copied();
        let referred: BTreeSet<u32> = g.calls.iter().flatten().copied().chain(exported).collect();
        // The PLT's lazy entries run when its slots are not bound yet.
        roots.extend((0..self.program.functions.len() as u32).filter(|n| !referred.contains(n)));
        roots.into_iter().collect()
    }
}
