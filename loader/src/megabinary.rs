//! Every shard of a manifest, mapped: modules, slot numbers, code map parts, block tables.
//!
//! Owns what all threads and all forked processes share and nothing of one thread (that is `Machine`). Verifies nothing: the caller passes artifacts whose digests
//! the manifest vouches for. The fact a newcomer gets wrong: all shards are mapped at load, before lock-down (07 S4); *binding* an object only makes its
//! addresses answer, and is undone by exec and munmap.

use crate::artifact::{self, ArtifactError};
use crate::codemap::{CodeMap, Part};
use crate::fault;
use crate::reservation::Reservation;
use crate::section::{self, Block, Entry, SectionError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syscalls::abi::{CODE_LIMIT, section as names};
use thiserror::Error;
use wasmer::sys::NativeEngineExt;
use wasmer::{Engine, Module, Store};

/// One shard as the caller describes it. Empty `entries` and `blocks` are read from the artifacts' own custom sections.
#[derive(Clone, Debug)]
pub struct ShardInput {
    pub name: String,
    /// Guest address of the first byte of text, and its length.
    pub base: u32,
    pub text_len: u32,
    pub structured: PathBuf,
    pub resumable: PathBuf,
    pub entries: Vec<Entry>,
    pub blocks: Vec<Block>,
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("shard {shard}: {source}")]
    Section { shard: String, source: SectionError },
    #[error("shard {shard}: pc {pc:#x} lies outside its text {base:#x}+{len:#x}: rebuild the shard")]
    Range { shard: String, pc: u32, base: u32, len: u32 },
    #[error("shard {shard}: structured artifacts come from two compilers; compile all shards with the same one")]
    MixedCompilers { shard: String },
    #[error("cannot reserve address space for guest memory: raise the limit on virtual memory")]
    Reserve(#[source] io::Error),
    #[error("shard {shard}: cannot build its code map: is memfd_create allowed?")]
    CodeMap { shard: String, source: io::Error },
    #[error("cannot install fault handlers")]
    Handlers(#[source] io::Error),
    #[error("cannot close artifact descriptors: is /proc mounted?")]
    Descriptors(#[source] io::Error),
    #[error("cannot make an instance of shard {shard}: {text}")]
    Instance { shard: String, text: String },
}

/// Index of a shard in its megabinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardId(pub usize);

/// One shard, mapped.
pub struct Shard {
    pub name: String,
    pub base: u32,
    pub text_len: u32,
    pub(crate) structured: Module,
    pub(crate) resumable: Module,
    /// First table slot of each form.
    pub(crate) structured_base: u32,
    pub(crate) resumable_base: u32,
    pub(crate) slots_end: u32,
    blocks: Vec<Block>,
    part: Part,
    bound: AtomicBool,
}

impl Shard {
    pub fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Acquire)
    }
    fn contains(&self, pc: u32) -> bool {
        pc >= self.base && pc - self.base < self.text_len
    }
}

/// All shards.
pub struct Megabinary {
    pub(crate) engine: Engine,
    /// Sorted by base; non-PIE programs overlay each other, of which at most one is bound.
    shards: Vec<Shard>,
    pub(crate) slots: u32,
    pub(crate) codemap: CodeMap,
    pub(crate) window: Arc<Reservation>,
    /// Structured code takes the base of memory 0 as a hidden parameter (LLVM).
    pub(crate) hidden_base: bool,
    /// Counts changes of what is bound.
    generation: AtomicU64,
}

impl Megabinary {
    /// Maps every shard. Slot 0 is the miss stub; shards follow in the order given.
    pub fn load(inputs: Vec<ShardInput>) -> Result<Self, LoadError> {
        let engine: Engine = <Engine as NativeEngineExt>::headless();
        let window = Arc::new(Reservation::new().map_err(LoadError::Reserve)?);
        let codemap = CodeMap::new().map_err(LoadError::Reserve)?;
        let mut shards = Vec::with_capacity(inputs.len());
        let mut next_slot = 1;
        let mut hidden_base = None;
        for input in inputs {
            let structured = artifact::load(&engine, &input.structured)?;
            if *hidden_base.get_or_insert(structured.elf) != structured.elf {
                return Err(LoadError::MixedCompilers { shard: input.name });
            }
            let resumable = artifact::load(&engine, &input.resumable)?.module;
            let shard = place(input, structured.module, resumable, &mut next_slot)?;
            shards.push(shard);
        }
        shards.sort_by_key(|s| s.base);
        artifact::close_descriptors().map_err(LoadError::Descriptors)?;
        // wasmer installs its signal handlers with the first store, and only then; ours come after and stay.
        drop(Store::new(engine.clone()));
        let mut fixups = crate::helper::fixups();
        fixups.push(syscalls::guest::arm());
        fault::install(artifact::code_ranges()?, fixups, window.base()).map_err(LoadError::Handlers)?;
        Ok(Self { engine, shards, slots: next_slot, codemap, window, hidden_base: hidden_base.unwrap_or(true), generation: AtomicU64::new(0) })
    }

    /// Base of the guest window (memory 0).
    pub fn window(&self) -> *mut u8 {
        self.window.base()
    }

    pub fn shard(&self, id: ShardId) -> &Shard {
        &self.shards[id.0]
    }

    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Shard)> {
        self.shards.iter().enumerate().map(|(i, s)| (ShardId(i), s))
    }

    pub fn by_name(&self, name: &str) -> Option<ShardId> {
        self.shards.iter().position(|s| s.name == name).map(ShardId)
    }

    /// Makes the object's addresses answer, in this process.
    pub fn bind(&self, id: ShardId) -> io::Result<()> {
        let shard = self.shard(id);
        self.codemap.bind(&shard.part)?;
        shard.bound.store(true, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Makes them miss again.
    pub fn unbind(&self, id: ShardId) -> io::Result<()> {
        let shard = self.shard(id);
        shard.bound.store(false, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
        self.codemap.unbind(&shard.part)
    }

    /// Changes whenever an object is bound or unbound.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// exec: nothing is bound in a new image.
    pub fn unbind_all(&self) -> io::Result<()> {
        for (id, shard) in self.shards() {
            if shard.is_bound() {
                self.unbind(id)?;
            }
        }
        Ok(())
    }

    /// The bound shard whose text holds `pc`.
    pub fn bound_at(&self, pc: u64) -> Option<ShardId> {
        let pc = u32::try_from(pc).ok().filter(|pc| u64::from(*pc) < CODE_LIMIT)?;
        let after = self.shards.partition_point(|s| s.base <= pc);
        self.shards[..after].iter().rposition(|s| s.contains(pc) && s.is_bound()).map(ShardId)
    }

    /// Absolute slot and number of the resumable block at `pc` of a bound shard.
    pub fn block(&self, pc: u64) -> Option<(u32, u32)> {
        let shard = self.shard(self.bound_at(pc)?);
        section::find(&shard.blocks, pc as u32).map(|b| (b.slot + shard.resumable_base, b.block))
    }

    /// The shard an absolute slot belongs to.
    pub(crate) fn owner(&self, slot: u32) -> Option<ShardId> {
        self.shards.iter().position(|s| (s.structured_base..s.slots_end).contains(&slot)).map(ShardId)
    }
}

/// Numbers the slots of one shard and builds its part of the code map.
fn place(input: ShardInput, structured: Module, resumable: Module, next_slot: &mut u32) -> Result<Shard, LoadError> {
    let ShardInput { name, base, text_len, mut entries, mut blocks, .. } = input;
    let failed = |source| LoadError::Section { shard: name.clone(), source };
    if entries.is_empty() {
        entries = section::entries(&custom_section(&structured, names::ENTRIES)).map_err(failed)?;
    }
    if blocks.is_empty() {
        blocks = section::blocks(&custom_section(&resumable, names::BLOCKS)).map_err(failed)?;
    }
    let outside = |pc: &u32| *pc < base || *pc - base >= text_len;
    if let Some(pc) = entries.iter().map(|e| e.pc).chain(blocks.iter().map(|b| b.pc)).find(outside) {
        return Err(LoadError::Range { shard: name, pc, base, len: text_len });
    }
    // Both forms have the same functions. A function whose blocks all stand in earlier ones has no row in `blocks`, but it has a slot.
    let functions = entries.iter().map(|e| e.slot + 1).chain(blocks.iter().map(|b| b.slot + 1)).max().unwrap_or(0);
    let structured_base = *next_slot;
    let resumable_base = structured_base + functions;
    let slots_end = resumable_base + functions;
    *next_slot = slots_end;
    let part = Part::build(base, text_len, entries.iter().map(|e| (e.pc, e.slot + structured_base))).map_err(|source| LoadError::CodeMap { shard: name.clone(), source })?;
    let bound = AtomicBool::new(false);
    Ok(Shard { name, base, text_len, structured, resumable, structured_base, resumable_base, slots_end, blocks, part, bound })
}

fn custom_section(module: &Module, name: &str) -> Vec<u8> {
    module.custom_sections(name).next().map_or_else(Vec::new, |b| b.into_vec())
}
