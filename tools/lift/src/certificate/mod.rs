//! The coverage certificate of one object: how much of its code is lifted, what is not, and which system calls it can make.
//!
//! Owns the figures and their definitions. Refuses to own files, programs made of several objects, and names of system calls (`recompiler-build` adds these). The fact a newcomer gets wrong: an instruction without
//! semantics is a defect only if a program may execute it on an x86-64-v2 processor; behind a cpuid bit that the guest never sees it is *gated*, and only counted.

mod calls;
mod gates;
mod sites;
mod transfer;
mod values;

pub use calls::CallGraph;
pub use sites::{IN_DATA, Site};

use crate::discover;
use crate::function::{Program, Terminator};
use crate::image::{Image, ImageKind};
use iced_x86::Instruction;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Examples kept of every mnemonic that is not lifted.
const EXAMPLES: usize = 4;
/// Places kept of bytes that do not read as code.
const PLACES: usize = 16;

/// Addresses are the file's own (`p_vaddr`), so that the certificate does not depend on where the object is placed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Set if the object has the resumable form only.
    pub language: Option<String>,
    pub functions: u64,
    /// Bytes of executable segments in the file. The four that follow are its parts.
    pub executable_bytes: u64,
    /// Decoded as instructions.
    pub reached_bytes: u64,
    /// Nops, int3 and zeros between functions.
    pub padding_bytes: u64,
    /// Jump tables between code, bytes outside every call frame that do not read as code, and those of the doubtful gaps.
    pub data_bytes: u64,
    /// Bytes that a call frame says are code, or that no frame can say anything of, and that do not read as code.
    pub unclaimed_bytes: u64,
    /// The first places where they lie.
    pub unclaimed: Vec<(u64, u64)>,
    /// Of the reached bytes, those of gaps.
    pub gap_bytes: u64,
    /// Instructions without semantics that an x86-64-v2 processor executes, by mnemonic.
    pub gaps: BTreeMap<String, Gap>,
    /// Instructions without semantics behind cpuid bits that the guest is not given, by mnemonic.
    pub gated: BTreeMap<String, Gap>,
    /// Ungated gaps where nothing but its looks says that there is code: outside every call frame, and nothing stated as code leads there. They are data that reads as code.
    pub doubtful: BTreeMap<String, Gap>,
    /// The bits that gate them, with the number of instructions behind each.
    pub gates: BTreeMap<String, u64>,
    /// Jumps through a register or memory whose targets discovery does not know (the dispatcher finds them at run time).
    pub unresolved_jumps: u64,
    pub indirect_calls: u64,
    /// Every `syscall` instruction, and every call of another object's `syscall` function.
    pub sites: Vec<Site>,
    pub calls: CallGraph,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    pub count: u64,
    pub examples: Vec<(u64, String)>,
}

impl Certificate {
    /// Instructions without semantics that nothing gates.
    pub fn gap_count(&self) -> u64 {
        self.gaps.values().map(|g| g.count).sum()
    }

    pub fn gated_count(&self) -> u64 {
        self.gated.values().map(|g| g.count).sum()
    }

    /// Bytes that should be lifted: what is executable, but neither padding nor data.
    pub fn code_bytes(&self) -> u64 {
        self.reached_bytes + self.unclaimed_bytes
    }

    /// Bytes that are: those of reached instructions which are no gaps. Gated instructions count as lifted: the guest is never told to execute them.
    pub fn lifted_bytes(&self) -> u64 {
        self.reached_bytes - self.gap_bytes
    }
}

/// Makes the certificate of a discovered object. `gaps` are the addresses at which the emitter had no semantics.
pub(crate) fn certify(image: &Image, program: &Program, gaps: &[(u64, String)]) -> Certificate {
    let d = &program.stats;
    let unclaimed_bytes = d.unclaimed.iter().map(|(start, end)| end - start).sum();
    let leftover = d.data_bytes + unclaimed_bytes;
    let mut c = Certificate {
        language: program.language.map(|l| l.to_string()),
        functions: program.functions.len() as u64,
        executable_bytes: d.executable_bytes,
        reached_bytes: d.covered_bytes,
        padding_bytes: d.executable_bytes - d.covered_bytes - leftover,
        data_bytes: d.data_bytes,
        unclaimed_bytes,
        unclaimed: d.unclaimed.iter().take(PLACES).map(|&(start, end)| (start - image.base, end - image.base)).collect(),
        unresolved_jumps: d.unresolved_indirect_jumps,
        indirect_calls: d.indirect_calls,
        ..Certificate::default()
    };
    add_gaps(&mut c, image, program, gaps);
    c.sites = sites::find(image, program);
    let data_words = if image.kind == ImageKind::Fixed { discover::data_words(image, |_| true) } else { Vec::new() };
    let addresses: Vec<u64> = c.sites.iter().map(|s| s.address + image.base).collect();
    c.calls = calls::graph(image, program, &data_words, &addresses);
    c
}

/// Sorts the gaps into those a program may meet and those it never will.
fn add_gaps(c: &mut Certificate, image: &Image, program: &Program, gaps: &[(u64, String)]) {
    let addresses: BTreeSet<u64> = gaps.iter().map(|(address, _)| *address).collect();
    let all = program.functions.values().flat_map(|f| f.blocks.values()).flat_map(|b| &b.instructions);
    // Functions may share code: each instruction counts once.
    let instructions: BTreeMap<u64, &Instruction> = all.filter(|i| addresses.contains(&i.ip())).map(|i| (i.ip(), i)).collect();
    let (mut bytes, mut doubtful) = (BTreeSet::new(), BTreeSet::new());
    let stated = stated(image, program, &addresses);
    for (address, instruction) in instructions {
        let missing = gates::missing(instruction);
        let (list, bytes) = match (missing.is_empty(), stated.contains(&address)) {
            (false, _) => (&mut c.gated, None),
            (true, true) => (&mut c.gaps, Some(&mut bytes)),
            (true, false) => (&mut c.doubtful, Some(&mut doubtful)),
        };
        let gap = list.entry(format!("{:?}", instruction.mnemonic()).to_lowercase()).or_default();
        gap.count += 1;
        if gap.examples.len() < EXAMPLES {
            gap.examples.push((address - image.base, instruction.to_string()));
        }
        bytes.into_iter().for_each(|b| b.extend(address..instruction.next_ip()));
        for feature in missing {
            *c.gates.entry(feature).or_default() += 1;
        }
    }
    c.gap_bytes = bytes.len() as u64;
    c.reached_bytes -= doubtful.len() as u64;
    c.data_bytes += doubtful.len() as u64;
}

/// Those of the addresses of instructions that something better than their looks says are code: they lie in a call frame, or what is stated as code leads there by calls and jumps. All of them if the file has no frames.
fn stated(image: &Image, program: &Program, addresses: &BTreeSet<u64>) -> BTreeSet<u64> {
    if addresses.is_empty() {
        return BTreeSet::new();
    }
    let owners = program.block_owners();
    let names = image.symbols.iter().filter(|s| s.function).map(|s| s.address);
    let starts = image.entry.iter().chain(&image.init_fini).chain(&image.relocation_targets).chain(&image.lazy_entries).copied().chain(names);
    let framed = owners.keys().copied().filter(|&a| image.frames.is_empty() || image.frame_index(a).is_some());
    let mut work: Vec<u64> = starts.chain(framed).collect();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(at) = work.pop() {
        let Some(block) = owners.get(&at).filter(|_| seen.insert(at)).and_then(|f| program.functions[f].blocks.get(&at)) else { continue };
        work.extend(block.successors());
        if let Terminator::TailJump(target) | Terminator::TailBranch { taken: target, .. } = block.end {
            work.push(target);
        }
        work.extend(block.instructions.iter().filter(|i| i.is_call_near()).map(Instruction::near_branch_target));
        found.extend(block.instructions.iter().map(Instruction::ip).filter(|a| addresses.contains(a)));
    }
    found
}
