//! Every shard of a release, mapped: code, code map parts, block tables.
//!
//! Owns what all threads and all forked processes share and nothing of one thread (that is `Machine`). Verifies nothing: the caller passes a code file that `link` made of verified artifacts.
//! The fact a newcomer gets wrong: all shards are mapped at load, before lock-down (07 S4); *binding* an object only makes its
//! addresses answer, and is undone by exec and munmap.

use crate::artifact::ArtifactError;
use crate::blocks::Blocks;
use crate::codemap::{CodeMap, Part, PartLayout};
use crate::fault;
use crate::linked::{Linked, Row};
use crate::reservation::Reservation;
use crate::wasi::{ModuleInput, Modules};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syscalls::abi::CODE_LIMIT;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("cannot map the code file")]
    CodeFile(#[source] io::Error),
    #[error("cannot reserve address space: raise the limit on virtual memory")]
    Reserve(#[source] io::Error),
    #[error("cannot reserve the addresses from 64 KiB to 8 GiB for guest memory: raise the limit on virtual memory, and see that vm.mmap_min_addr is at most 65536")]
    Window(#[source] io::Error),
    #[error("cannot install fault handlers")]
    Handlers(#[source] io::Error),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("cannot make an instance of {name}: {text}")]
    Instance { name: String, text: String },
}

/// Index of a shard in its megabinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardId(pub usize);

/// One shard, mapped.
pub struct Shard {
    pub base: u32,
    pub text_len: u32,
    position: usize,
    /// First slot of the resumable form.
    resumable_base: u32,
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
    /// Sorted by base; non-PIE programs overlay each other, of which at most one is bound.
    shards: Vec<Shard>,
    linked: Linked,
    pub(crate) codemap: CodeMap,
    pub(crate) window: Reservation,
    /// WASI programs.
    pub(crate) wasi: Modules,
    /// Counts changes of what is bound.
    generation: AtomicU64,
}

impl Megabinary {
    /// Maps everything. `code`: as `link` wrote it, and nobody but host root can change it. `programs`: see `Modules::map`.
    pub fn map(code: &File, programs: Vec<ModuleInput>, in_place: bool) -> Result<Self, LoadError> {
        let linked = Linked::map(code).map_err(LoadError::CodeFile)?;
        let window = Reservation::window().map_err(LoadError::Window)?;
        let shard = |row: &Row| {
            let part = PartLayout::new(row.base, row.text_len, row.part_offset as usize);
            Shard {
                base: row.base,
                text_len: row.text_len,
                position: row.position as usize,
                resumable_base: row.structured_base + row.functions,
                blocks: Blocks::new(row.block_functions, linked.slice(row.blocks_offset, row.blocks as usize)),
                part: part.at(linked.at(row.part_offset, part.bytes())),
                bound: AtomicBool::new(false),
            }
        };
        let shards = linked.rows().iter().map(shard).collect();
        let wasi = Modules::map(programs, in_place)?;
        let mut fixups = crate::helper::fixups();
        fixups.push(syscalls::guest::arm());
        let code = std::iter::once(linked.text()).chain(wasi.text()?).collect();
        fault::install(code, fixups, window.base()).map_err(LoadError::Handlers)?;
        let codemap = CodeMap::new().map_err(LoadError::Reserve)?;
        Ok(Self { shards, linked, codemap, window, wasi, generation: AtomicU64::new(0) })
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

    /// The shard that was this one of `link`'s inputs.
    pub fn by_position(&self, position: usize) -> Option<ShardId> {
        self.shards.iter().position(|s| s.position == position).map(ShardId)
    }

    /// Address of the code in a slot: 0 where no resumable function is, the miss stub's where no structured one is.
    pub(crate) fn address(&self, slot: u32) -> usize {
        self.linked.addresses()[slot as usize]
    }

    /// Addresses of code by slot, as structured code reads them.
    pub(crate) fn addresses(&self) -> *const usize {
        self.linked.addresses().as_ptr()
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
}
