//! Links a release: from the artifacts of all shards to one code file (`linked`).
//!
//! Owns where code comes to stand, the numbers of slots, and what is demanded of an artifact. wasmer says whether an artifact fits this engine and this CPU, and where its functions are; it is asked here, once per release
//! and host, and not in the processes that run guests. Verifies no digests: the caller reads the artifacts. The fact a newcomer gets wrong: whole artifacts are copied, constants
//! included, because their distances from the code are fixed; so these constants are executable, like the code of which they are part. Nothing of it is ever writable.

use crate::artifact::{self, ArtifactError};
use crate::blocks::Table;
use crate::codemap::PartLayout;
use crate::image::{self, Image, Machine};
use crate::linked::{Header, PAGE, Row, bytes_of};
use crate::native;
use crate::reservation::Reservation;
use crate::section::{self, Entry, SectionError};
use crate::vmctx::Shape;
use crate::world::World;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use syscalls::abi::section as names;
use thiserror::Error;
use wasmer::sys::NativeEngineExt;
use wasmer::{Engine, Module, Store};

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
pub enum LinkError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("artifact {path} is no image that can be linked ({why}): rebuild it")]
    Image { path: PathBuf, why: String },
    #[error("shard {shard}: {source}")]
    Section { shard: String, source: SectionError },
    #[error("shard {shard}: pc {pc:#x} lies outside its text {base:#x}+{len:#x}: rebuild the shard")]
    Range { shard: String, pc: u32, base: u32, len: u32 },
    #[error("shard {shard}: a block at {pc:#x} belongs to function {slot}, which is not there: rebuild the shard")]
    Block { shard: String, pc: u32, slot: u32 },
    #[error("cannot write the code file")]
    Write(#[source] io::Error),
    #[error("cannot reserve address space: raise the limit on virtual memory")]
    Reserve(#[source] io::Error),
}

/// What a code file depends on besides the artifacts: files of another identity are made anew.
pub fn identity() -> Vec<u8> {
    [bytes_of(&[Header::new()]), native::miss_code()].concat()
}

/// Where code may be linked to: far from what the kernel places itself (programs from 0x55…, mappings from 0x7f… downwards) and from the guest's window.
const LOWEST: u64 = 0x1000_0000_0000;
const ADDRESS_BITS: u32 = 45;
/// Of the text in memory and in the file alike, and a piece in which it is written: then file systems that keep such pieces together in memory (ext4 since Linux 6.16, xfs, btrfs) map them as huge pages.
const HUGE: u64 = 2 << 20;
/// Written at once: a whole number of huge pages.
const WRITTEN: usize = 16 * HUGE as usize;
/// In the first page of the text: the miss stub, and where calls of the compiler's runtime lead, none of which can happen.
const TRAP: u64 = 2048;
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Writes the code file of `inputs` into the empty file `out`. `read` gives an artifact's verified bytes; `random` decides about the address.
pub fn link(inputs: &[ShardInput], read: &dyn Fn(&Path) -> io::Result<Vec<u8>>, random: u64, out: &File) -> Result<(), LinkError> {
    let mut linker = Linker::new(inputs, read, random, out)?;
    let mut rows = Vec::with_capacity(inputs.len());
    for (position, input) in inputs.iter().enumerate() {
        rows.push(linker.shard(input, position as u32)?);
    }
    rows.sort_by_key(|row| row.base);
    linker.finish(&rows)
}

/// An artifact in its place.
struct Placed {
    /// Address of the function in each of its slots; 0 where there is none.
    functions: Vec<u64>,
    entries: Vec<Entry>,
    /// Of the resumable form.
    table: Option<(Table, Vec<u8>)>,
}

struct Linker<'a> {
    engine: Engine,
    memory: Arc<Reservation>,
    read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    out: &'a File,
    header: Header,
    /// Where the next part of the code map or block table begins.
    next_table: u64,
    /// The end of the text, that was not written yet.
    text: Vec<u8>,
    /// By slot.
    addresses: Vec<u64>,
    /// Equal shards have the same artifact.
    placed: BTreeMap<PathBuf, Rc<Placed>>,
}

impl<'a> Linker<'a> {
    fn new(inputs: &[ShardInput], read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>, random: u64, out: &'a File) -> Result<Self, LinkError> {
        let head = (size_of::<Header>() + size_of_val(&Row::default()) * inputs.len()).next_multiple_of(PAGE) as u64;
        // Enough for all tables; what is not used is a hole in the file.
        let tables = inputs.iter().map(|i| {
            let file = std::fs::metadata(&i.resumable).map_or(0, |m| m.len()).next_multiple_of(PAGE as u64);
            PartLayout::new(i.base, i.text_len, 0).end() as u64 + file
        });
        let text_offset = (head + tables.sum::<u64>()).next_multiple_of(HUGE);
        let text_address = (LOWEST + (random & ((1 << ADDRESS_BITS) - 1))) / HUGE * HUGE;
        let mut stubs = [0xcc; PAGE];
        stubs[..native::miss_code().len()].copy_from_slice(native::miss_code());
        stubs[TRAP as usize..TRAP as usize + UD2.len()].copy_from_slice(&UD2);
        Ok(Self {
            engine: <Engine as NativeEngineExt>::headless(),
            memory: Arc::new(Reservation::new().map_err(LinkError::Reserve)?),
            read,
            out,
            header: Header { text_offset, text_address, text_bytes: PAGE as u64, ..Header::new() },
            next_table: head,
            text: stubs.to_vec(),
            addresses: vec![text_address],
            placed: BTreeMap::new(),
        })
    }

    fn shard(&mut self, input: &ShardInput, position: u32) -> Result<Row, LinkError> {
        let ShardInput { name, base, text_len, .. } = input;
        let structured = self.place(input, &input.structured, false)?;
        let resumable = self.place(input, &input.resumable, true)?;
        let (table, blocks) = resumable.table.as_ref().expect("placed as the resumable form");
        let outside = |pc: &u32| pc < base || pc - base >= *text_len;
        if let Some(pc) = structured.entries.iter().map(|e| e.pc).find(outside) {
            return Err(LinkError::Range { shard: name.clone(), pc, base: *base, len: *text_len });
        }
        let missing = |b: &section::Block| resumable.functions.get(b.slot as usize).is_none_or(|f| *f == 0);
        if let Some(b) = section::blocks(blocks).find(missing) {
            return Err(LinkError::Block { shard: name.clone(), pc: b.pc, slot: b.slot });
        }
        let entries = structured.entries.iter().map(|e| e.slot + 1).max().unwrap_or(0);
        // Both forms have the same functions, but either can lack the last ones.
        let functions = [entries, table.functions, structured.functions.len() as u32, resumable.functions.len() as u32].into_iter().max().unwrap_or(0);
        let structured_base = self.addresses.len() as u32;
        let padded = |f: &[u64], none: u64| f.iter().map(|a| if *a == 0 { none } else { *a }).chain(std::iter::repeat(none)).take(functions as usize).collect::<Vec<_>>();
        self.addresses.extend(padded(&structured.functions, self.header.text_address));
        self.addresses.extend(padded(&resumable.functions, 0));
        let part_offset = self.next_table;
        let part = PartLayout::new(*base, *text_len, part_offset as usize);
        part.write(self.out, structured.entries.iter().map(|e| (e.pc, e.slot + structured_base))).map_err(LinkError::Write)?;
        let blocks_offset = part.end() as u64;
        self.out.write_all_at(blocks, blocks_offset).map_err(LinkError::Write)?;
        self.next_table = (blocks_offset + blocks.len() as u64).next_multiple_of(PAGE as u64);
        assert!(self.next_table <= self.header.text_offset, "a table is no longer than the file it comes from");
        let (blocks, block_functions) = (table.count() as u32, table.functions);
        Ok(Row { base: *base, text_len: *text_len, structured_base, functions, part_offset, blocks_offset, blocks, block_functions, position, padding: 0 })
    }

    fn place(&mut self, input: &ShardInput, path: &Path, resumable: bool) -> Result<Rc<Placed>, LinkError> {
        if let Some(placed) = self.placed.get(path) {
            return Ok(placed.clone());
        }
        let bytes = (self.read)(path).map_err(|source| ArtifactError::Read { path: path.into(), source })?;
        let wrong = |why: String| LinkError::Image { path: path.into(), why };
        let address = self.header.text_address + self.header.text_bytes;
        let image = image::place(&bytes, Machine::HOST, address, self.header.text_address + TRAP).map_err(&wrong)?;
        let (functions, section) = self.functions(path, &bytes, &image, address)?;
        let table = resumable.then(|| Table::of(&bytes).map(|table| (table, table.rows(&bytes).to_vec()))).transpose().map_err(|e| wrong(e.to_string()))?;
        let entries = section::entries(&section).map_err(|source| LinkError::Section { shard: input.name.clone(), source })?;
        self.text.extend_from_slice(&image.bytes);
        self.header.text_bytes += image.bytes.len() as u64;
        self.write_text(self.text.len() / WRITTEN * WRITTEN)?;
        let placed = Rc::new(Placed { functions, entries, table });
        self.placed.insert(path.into(), placed.clone());
        Ok(placed)
    }

    /// What wasmer knows: addresses by slot, as they will be, and the section of entries.
    fn functions(&self, path: &Path, bytes: &[u8], image: &Image, address: u64) -> Result<(Vec<u64>, Vec<u8>), LinkError> {
        let wrong = |why: String| LinkError::Image { path: path.into(), why };
        let module = artifact::load(&self.engine, path, bytes)?;
        let info = module.info();
        if Shape::of(info) != Shape::SHARD {
            return Err(wrong(format!("its imports are not a shard's: {:?}", Shape::of(info))));
        }
        let slots = info.table_initializers.iter().map(|t| t.elements.len()).max().unwrap_or(0);
        let mut store = Store::new(self.engine.clone());
        let mut world = World::new(&mut store, &self.memory, (slots as u32).max(1));
        world.instance(&mut store, &module, 0).map_err(wrong)?;
        let mut mappings = artifact::Mappings::default();
        let linked = |slot: usize| {
            let Some(function) = world.function(slot as u32) else { return Ok(0) };
            let offset = mappings.offset(function.func_ptr as usize).map_err(ArtifactError::Maps)?;
            let at = image.place(offset).ok_or_else(|| wrong(format!("function {slot} lies outside its segments")))?;
            Ok(address + at)
        };
        let functions = (0..slots).map(linked).collect::<Result<_, LinkError>>()?;
        Ok((functions, custom_section(&module, names::ENTRIES)))
    }

    /// Writes the first bytes of what is left of the text.
    fn write_text(&mut self, len: usize) -> Result<(), LinkError> {
        let at = self.header.text_offset + self.header.text_bytes - self.text.len() as u64;
        self.out.write_all_at(&self.text[..len], at).map_err(LinkError::Write)?;
        self.text.drain(..len);
        Ok(())
    }

    fn finish(mut self, rows: &[Row]) -> Result<(), LinkError> {
        self.write_text(self.text.len())?;
        let end = self.header.text_offset + self.header.text_bytes;
        self.header.addresses_offset = end;
        self.header.slots = self.addresses.len() as u32;
        self.header.shards = rows.len() as u32;
        self.header.bytes = end + 8 * self.addresses.len() as u64;
        self.out.write_all_at(bytes_of(&self.addresses), end).map_err(LinkError::Write)?;
        self.out.write_all_at(bytes_of(rows), size_of::<Header>() as u64).map_err(LinkError::Write)?;
        self.out.write_all_at(bytes_of(&[self.header]), 0).map_err(LinkError::Write)
    }
}

fn custom_section(module: &Module, name: &str) -> Vec<u8> {
    module.custom_sections(name).next().map_or_else(Vec::new, |b| b.into_vec())
}
