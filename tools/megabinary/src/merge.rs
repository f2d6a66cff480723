//! Many shards in, one module out.
//!
//! Owns the order of everything in the merged module, which is what makes it deterministic: shards by path, forms structured then resumable. The fact a newcomer gets wrong: shards call
//! each other only through the table, so nothing has to be resolved here.

use crate::image::{self, ImageSegment};
use crate::reindex::{self, Types};
use crate::section::{self, EntryMap, FormRow, MapRow, Meta, ProgramRow, ShardRow};
use crate::wasi::{self, Parts, WasiInput};
use crate::{FORMAT_VERSION, dispatch};
use policy::Digest;
use std::borrow::Cow;
use std::collections::BTreeMap;
use syscalls::abi;
use syscalls::abi::import;
use thiserror::Error;
use wasm_encoder as wasm;
use wasmparser::{FuncType, ValType};

#[derive(Debug, Error)]
pub enum MergeError {
    #[error("shard of {name}: {reason}; lift it again")]
    Shape { name: String, reason: String },
    #[error("{path} starts at {pc:#x}, where no lifted function begins: its ELF entry is wrong")]
    NoEntry { path: String, pc: u64 },
    #[error("{name}: {reason}")]
    Wasi { name: String, reason: String },
    #[error("the merged module is not valid: {0}")]
    Invalid(wasmparser::BinaryReaderError),
}

/// One lifted object.
pub struct ShardInput<'a> {
    pub path: &'a str,
    /// The ELF file, its digest and its segments with contents.
    pub file: &'a [u8],
    pub source: Digest,
    pub segments: Vec<ImageSegment>,
    pub base: u64,
    /// Guest address of its ELF entry; 0 if none.
    pub entry: u64,
    pub structured: &'a [u8],
    pub resumable: &'a [u8],
}

/// One program that `_dispatch` can start.
pub struct Program<'a> {
    pub path: &'a str,
    pub source: Digest,
    /// Shard that holds the start (the interpreter's, or its own), and the guest address.
    pub start_shard: usize,
    pub start: u64,
}

pub struct Megabinary {
    pub wasm: Vec<u8>,
    /// Per shard, per segment: offset of its first page in `wasm`.
    pub image_offsets: Vec<Vec<u64>>,
    pub shards: Vec<ShardRow>,
}

/// The digest of a shard: of both its modules.
pub fn shard_digest(structured: &[u8], resumable: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"vkernel shard v1\0").update(&(structured.len() as u64).to_le_bytes()).update(structured).update(resumable);
    Digest { algorithm: policy::Algorithm::Blake3, bytes: *hasher.finalize().as_bytes() }
}

#[derive(Default)]
struct Merged {
    types: Types,
    functions: wasm::FunctionSection,
    code: wasm::CodeSection,
    elements: wasm::ElementSection,
    sections: Vec<(String, Vec<u8>)>,
    imports: wasm::ImportSection,
    /// Merged index of each function of WASI.
    wasi: BTreeMap<&'static str, u32>,
    next_function: u32,
    next_slot: u32,
}

/// Merges shards, which must be sorted by path, and WASI programs, sorted by digest.
pub fn merge(container_id: Digest, tools: BTreeMap<String, String>, shards: &[ShardInput<'_>], programs: &[Program<'_>], wasi: &[WasiInput<'_>]) -> Result<Megabinary, MergeError> {
    debug_assert!(shards.is_sorted_by(|a, b| a.path < b.path));
    let mut m = Merged { next_slot: 1, ..Merged::default() };
    m.import_host(wasi)?;
    let mut rows = Vec::new();
    for s in shards {
        let structured = m.form(s.path, s.structured)?;
        let resumable = m.form(s.path, s.resumable)?;
        let (shard, entry) = (shard_digest(s.structured, s.resumable), s.entry);
        rows.push(ShardRow { name: s.path.into(), source: s.source, shard, base: s.base, structured, resumable, entry });
    }
    let mut map = entry_map(shards, &rows, programs)?;
    let mut parts = Parts::new(m.elements.len(), m.next_slot);
    let wasi_rows = wasi.iter().map(|w| m.wasi_program(w, &mut parts, &mut map)).collect::<Result<Vec<_>, _>>()?;
    m.dispatcher(&map);
    let mut module = m.module(&parts);
    let meta = Meta { container_id, format: FORMAT_VERSION, tools };
    m.sections.extend([
        (section::META.to_owned(), section::encode(&meta)),
        (section::SHARDS.to_owned(), section::encode(&rows)),
        (section::MAP.to_owned(), section::encode(&map)),
        (section::PROGRAMS.to_owned(), section::encode(&wasi_rows)),
    ]);
    for (name, data) in &m.sections {
        module.section(&wasm::CustomSection { name: name.into(), data: data.into() });
    }
    let mut wasm = module.finish();
    let files: Vec<_> = shards.iter().map(|s| (s.file, &s.segments[..])).collect();
    let image_offsets = image::append(&mut wasm, &files);
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(&wasm).map_err(MergeError::Invalid)?;
    Ok(Megabinary { wasm, image_offsets, shards: rows })
}

impl Merged {
    /// The functions of the host: those of lifted code, and those of WASI that any program uses.
    fn import_host(&mut self, programs: &[WasiInput<'_>]) -> Result<(), MergeError> {
        let syscall = self.types.index(&FuncType::new([], []));
        let helper = self.types.index(&FuncType::new([ValType::I32, ValType::I64, ValType::I64], [ValType::I64]));
        self.imports.import(import::LINUX, import::SYSCALL, wasm::EntityType::Function(syscall));
        self.imports.import(import::X86, import::HELPER, wasm::EntityType::Function(helper));
        self.next_function = import::FUNCTIONS;
        let mut used = BTreeMap::new();
        for p in programs {
            used.extend(wasi::check_wasi(p.name, p.module)?.imports.into_iter().map(|f| (f.name, f)));
        }
        for (name, function) in used {
            let ty = self.types.index(&wasi::signature(function));
            self.imports.import(syscalls::wasi::MODULE, name, wasm::EntityType::Function(ty));
            self.wasi.insert(name, self.next_function);
            self.next_function += 1;
        }
        Ok(())
    }

    fn wasi_program(&mut self, input: &WasiInput<'_>, parts: &mut Parts, map: &mut EntryMap) -> Result<ProgramRow, MergeError> {
        let first = self.next_function;
        let mut into = wasi::Into { types: &mut self.types, functions: &mut self.functions, code: &mut self.code, elements: &mut self.elements };
        let added = wasi::append(input, first, &self.wasi, parts, &mut into)?;
        self.next_function += added.functions;
        for source in &input.sources {
            map.0.insert(*source, MapRow { pc: 0, slot: 0, start: Some(added.start) });
        }
        Ok(ProgramRow { name: input.name.into(), shard: input.shard, first, functions: added.functions, memory: added.memory, sources: input.sources.clone() })
    }

    fn form(&mut self, name: &str, module: &[u8]) -> Result<FormRow, MergeError> {
        let first = self.next_function;
        let added = reindex::append(name, module, first, &mut self.types, &mut self.functions, &mut self.code)?;
        let row = FormRow { first, functions: added.functions, slot: self.next_slot, entries: added.elements.len() as u32 };
        self.elements.active(None, &wasm::ConstExpr::i32_const(row.slot as i32), wasm::Elements::Functions(Cow::Owned(added.elements)));
        self.next_function += row.functions;
        self.next_slot += row.entries;
        self.sections.extend(added.sections);
        Ok(row)
    }

    fn dispatcher(&mut self, map: &EntryMap) {
        use ValType::I32;
        let function_type = self.types.index(&dispatch::structured_type());
        let dispatch_type = self.types.index(&FuncType::new([I32, I32, I32], [I32]));
        self.functions.function(function_type).function(dispatch_type);
        self.code.function(&dispatch::miss_stub()).function(&dispatch::dispatch(map, function_type));
        self.elements.active(None, &wasm::ConstExpr::i32_const(0), wasm::Elements::Functions(Cow::Owned(vec![self.next_function])));
    }

    fn module(&mut self, parts: &Parts) -> wasm::Module {
        let memory = |pages: u64, shared: bool| wasm::MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared, page_size_log2: None };
        self.imports.import(import::MODULE, import::MEM, memory(65536, true));
        self.imports.import(import::MODULE, import::CPU, memory(1, false));
        self.imports.import(import::MODULE, import::CODEMAP, memory(65536, true));
        self.imports.import(import::MODULE, import::ANY, wasm::GlobalType { val_type: wasm::ValType::I64, mutable: false, shared: false });
        let mut exports = wasm::ExportSection::new();
        exports.export("_dispatch", wasm::ExportKind::Func, self.next_function + 1);
        exports.export(import::TABLE, wasm::ExportKind::Table, 0);
        let mut module = wasm::Module::new();
        module.section(&self.types.section()).section(&self.imports).section(&self.functions);
        parts.add_declarations(&mut module);
        module.section(&exports).section(&self.elements);
        parts.add_data_count(&mut module);
        module.section(&self.code);
        parts.add_data(&mut module);
        module
    }
}

/// Slot of the miss stub.
const MISS: u32 = 0;

/// Digest → start, each start being the entry of a structured function, or, in an object without the structured form, of a resumable block: then the slot is the miss stub's, which leaves for the dispatcher.
fn entry_map(shards: &[ShardInput<'_>], rows: &[ShardRow], programs: &[Program<'_>]) -> Result<EntryMap, MergeError> {
    let mut map = EntryMap::default();
    for p in programs {
        let (shard, row) = (&shards[p.start_shard], &rows[p.start_shard]);
        let structured = slot_of(shard.structured, abi::section::ENTRIES, 8, p.start).filter(|s| *s < row.structured.entries).map(|s| row.structured.slot + s);
        let resumable = || slot_of(shard.resumable, abi::section::BLOCKS, 12, p.start).map(|_| MISS);
        let slot = structured.or_else(resumable).ok_or_else(|| MergeError::NoEntry { path: p.path.into(), pc: p.start })?;
        map.0.insert(p.source, MapRow { pc: p.start as u32, slot, start: None });
    }
    Ok(map)
}

/// The slot, relative to the shard's, of the function at `pc`, from a section of records of `size` bytes that begin with pc and slot.
fn slot_of(module: &[u8], section: &str, size: usize, pc: u64) -> Option<u32> {
    let word = |record: &[u8], i: usize| u32::from_le_bytes(record[i..i + 4].try_into().expect("four bytes"));
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        if let wasmparser::Payload::CustomSection(s) = payload.ok()?
            && s.name() == section
        {
            return s.data().chunks_exact(size).find(|r| u64::from(word(r, 0)) == pc).map(|r| word(r, 4));
        }
    }
    None
}
