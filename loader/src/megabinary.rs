//! Every shard of a manifest, mapped: modules, slot numbers, code map parts, block tables.
//!
//! Owns what all threads and all forked processes share and nothing of one thread (that is `Machine`). Verifies nothing: the caller passes artifacts whose digests
//! the manifest vouches for. The fact a newcomer gets wrong: all shards are mapped at load, before lock-down (07 S4); *binding* an object only makes its
//! addresses answer, and is undone by exec and munmap.

use crate::artifact::{self, Artifact, ArtifactError};
use crate::blocks::{Blocks, Table};
use crate::code::Code;
use crate::codemap::{CodeMap, Index, Part, PartLayout};
use crate::fault;
use crate::reservation::Reservation;
use crate::section::{self, Entry, SectionError};
use crate::wasi::{self, ModuleInput, WasiModule};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syscalls::abi::{CODE_LIMIT, section as names};
use thiserror::Error;
use wasmer::sys::NativeEngineExt;
use wasmer::{Engine, Module, Store};
use wasmer_vm::VMSignatureHash;

/// One shard as the caller describes it.
#[derive(Clone, Debug)]
pub struct ShardInput {
    pub name: String,
    /// Guest address of the first byte of text, and its length.
    pub base: u32,
    pub text_len: u32,
    pub structured: PathBuf,
    pub resumable: PathBuf,
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("shard {shard}: {source}")]
    Section { shard: String, source: SectionError },
    #[error("shard {shard}: pc {pc:#x} lies outside its text {base:#x}+{len:#x}: rebuild the shard")]
    Range { shard: String, pc: u32, base: u32, len: u32 },
    #[error("shard {shard}: cannot map its block table")]
    Blocks { shard: String, source: io::Error },
    #[error("cannot reserve address space: raise the limit on virtual memory")]
    Reserve(#[source] io::Error),
    #[error("cannot reserve the addresses from 64 KiB to 8 GiB for guest memory: raise the limit on virtual memory, and see that vm.mmap_min_addr is at most 65536")]
    Window(#[source] io::Error),
    #[error("cannot make the code map: is memfd_create allowed?")]
    CodeMap(#[source] io::Error),
    #[error("cannot install fault handlers")]
    Handlers(#[source] io::Error),
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
    blocks: Blocks,
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
    /// Structured code by slot.
    pub(crate) code: Code,
    modules: Vec<WasiModule>,
    pub(crate) wasi_signatures: Vec<VMSignatureHash>,
    /// Counts changes of what is bound.
    generation: AtomicU64,
}

/// All shards mapped and numbered, but for the index (code map and block tables), which is the same at every start of a release: the caller may keep it.
pub struct Mapped {
    engine: Engine,
    window: Arc<Reservation>,
    shards: Vec<Numbered>,
    modules: Vec<WasiModule>,
    slots: u32,
}

/// A shard before its part of the index is known.
struct Numbered {
    input: ShardInput,
    structured: Module,
    resumable: Module,
    entries: Vec<Entry>,
    /// The resumable artifact, until the block table was copied out of it.
    file: File,
    table: Table,
    structured_base: u32,
    functions: u32,
    part: PartLayout,
    /// Where the rows of the block table stand in the index.
    rows_offset: usize,
}

impl Mapped {
    /// Maps every shard and every WASI program. Slot 0 is the miss stub; shards follow in the order given. `in_place`: see `artifact::load`.
    pub fn new(inputs: Vec<ShardInput>, programs: Vec<ModuleInput>, in_place: bool) -> Result<Self, LoadError> {
        let engine: Engine = <Engine as NativeEngineExt>::headless();
        let window = Arc::new(Reservation::window().map_err(LoadError::Window)?);
        let mut names = BTreeSet::new();
        let (mut next_slot, mut next_offset) = (1, 0);
        let mut shards = Vec::with_capacity(inputs.len());
        for input in inputs {
            let structured = artifact::load(&engine, &input.structured, in_place)?;
            let resumable = artifact::load(&engine, &input.resumable, in_place)?;
            for file in [&structured.file, &resumable.file] {
                names.insert(artifact::name_of(file).map_err(ArtifactError::Maps)?);
            }
            shards.push(number(input, structured.module, resumable, &mut next_slot, &mut next_offset)?);
        }
        let mut modules = Vec::with_capacity(programs.len());
        for ModuleInput { name, code } in programs {
            let loaded = artifact::load(&engine, &code, in_place)?;
            names.insert(artifact::name_of(&loaded.file).map_err(ArtifactError::Maps)?);
            modules.push(WasiModule { name, code: loaded.module });
        }
        // wasmer installs its signal handlers with the first store, and only then; ours come after and stay.
        drop(Store::new(engine.clone()));
        let mut fixups = crate::helper::fixups();
        fixups.push(syscalls::guest::arm());
        fault::install(artifact::code_ranges(&names)?, fixups, window.base()).map_err(LoadError::Handlers)?;
        Ok(Self { engine, window, shards, modules, slots: next_slot })
    }

    /// Everything the index depends on besides the artifacts.
    pub fn index_layout(&self) -> Vec<u8> {
        let words = self.shards.iter().flat_map(|s| [s.input.base, s.input.text_len, s.structured_base, s.functions]);
        words.flat_map(u32::to_le_bytes).collect()
    }

    fn index_bytes(&self) -> usize {
        // Nothing cannot be mapped, so a release of WASI programs alone has an empty page.
        self.shards.last().map_or(4096, |s| s.rows_offset + s.table.bytes())
    }

    /// Writes code map and block tables into an empty file.
    pub fn write_index(&self, file: &File) -> io::Result<()> {
        file.set_len(self.index_bytes() as u64)?;
        self.shards.iter().try_for_each(|s| {
            s.part.write(file, s.entries.iter().map(|e| (e.pc, e.slot + s.structured_base)))?;
            file.write_all_at(&s.table.read(&s.file)?, s.rows_offset as u64)
        })
    }

    /// Everything in place. `index`: what `write_index` wrote, in a file that nobody but host root can change; without one, it is made anew in memory.
    pub fn finish(self, index: Option<File>) -> Result<Megabinary, LoadError> {
        let file = match index {
            Some(file) => file,
            None => crate::codemap::in_memory(|file| self.write_index(file)).map_err(LoadError::CodeMap)?,
        };
        let index = Index::map(&file, self.index_bytes()).map_err(LoadError::CodeMap)?;
        let place = |s: Numbered| {
            let ShardInput { name, base, text_len, .. } = s.input;
            let (structured_base, resumable_base) = (s.structured_base, s.structured_base + s.functions);
            // SAFETY: the index is never unmapped, its file does not change, and tables stand at whole words in it.
            let blocks = unsafe { Blocks::at(s.table, index.at(s.rows_offset, s.table.bytes()).cast()) };
            let (slots_end, part, bound) = (resumable_base + s.functions, index.part(&s.part), AtomicBool::new(false));
            Shard { name, base, text_len, structured: s.structured, resumable: s.resumable, structured_base, resumable_base, slots_end, blocks, part, bound }
        };
        let mut shards: Vec<Shard> = self.shards.into_iter().map(place).collect();
        shards.sort_by_key(|s| s.base);
        let codemap = CodeMap::new().map_err(LoadError::Reserve)?;
        let wasi_signatures = wasi::signatures(&self.engine);
        let code = Code::new(&self.engine, &shards, self.slots, &self.window, &codemap.reservation)?;
        Ok(Megabinary { engine: self.engine, shards, slots: self.slots, codemap, window: self.window, code, modules: self.modules, wasi_signatures, generation: AtomicU64::new(0) })
    }
}

impl Megabinary {
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

    /// A WASI program by its place in the order given.
    pub(crate) fn module(&self, number: usize) -> &WasiModule {
        &self.modules[number]
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
        shard.blocks.find(pc as u32).map(|b| (b.slot + shard.resumable_base, b.block))
    }

    /// The shard an absolute slot belongs to.
    pub(crate) fn owner(&self, slot: u32) -> Option<ShardId> {
        self.shards.iter().position(|s| (s.structured_base..s.slots_end).contains(&slot)).map(ShardId)
    }
}

/// Numbers the slots of one shard and gives it its places in the index.
fn number(input: ShardInput, structured: Module, resumable: Artifact, next_slot: &mut u32, next_offset: &mut usize) -> Result<Numbered, LoadError> {
    let ShardInput { name, base, text_len, .. } = &input;
    let entries = section::entries(&custom_section(&structured, names::ENTRIES)).map_err(|source| LoadError::Section { shard: name.clone(), source })?;
    let table = Table::of(&resumable.file).map_err(|source| LoadError::Blocks { shard: name.clone(), source })?;
    let outside = |pc: &u32| pc < base || pc - base >= *text_len;
    if let Some(pc) = entries.iter().map(|e| e.pc).find(outside) {
        return Err(LoadError::Range { shard: name.clone(), pc, base: *base, len: *text_len });
    }
    // Both forms have the same functions. A function whose blocks all stand in earlier ones has no row in the table, but it has a slot.
    let functions = entries.iter().map(|e| e.slot + 1).max().unwrap_or(0).max(table.functions);
    let structured_base = *next_slot;
    *next_slot += 2 * functions;
    let part = PartLayout::new(*base, *text_len, *next_offset);
    let rows_offset = part.end();
    *next_offset = (rows_offset + table.bytes()).next_multiple_of(4096);
    let Artifact { module: resumable, file } = resumable;
    Ok(Numbered { input, structured, resumable, entries, file, table, structured_base, functions, part, rows_offset })
}

fn custom_section(module: &Module, name: &str) -> Vec<u8> {
    module.custom_sections(name).next().map_or_else(Vec::new, |b| b.into_vec())
}
