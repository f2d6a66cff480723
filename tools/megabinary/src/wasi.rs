//! WASI programs in a megabinary: what a module must be like, and its parts re-indexed for the merged module.
//!
//! Owns the demands on a WASI command: everything else is refused here, before a compiler sees it. The fact a newcomer gets wrong: unlike a lifted shard such a module shares nothing with the others but the imported functions: memory, tables,
//! globals, data and elements are appended, and every index that code and segments name moves by as much.

use crate::exceptions;
use crate::merge::MergeError;
use crate::reindex::Types;
use policy::{Algorithm, Digest};
use std::borrow::Cow;
use std::collections::BTreeMap;
use syscalls::wasi::{Function, MODULE, by_name};
use wasm_encoder as wasm;
use wasm_encoder::reencode::{self, Reencode};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures};

/// One WASI program of a release.
pub struct WasiInput<'a> {
    pub name: &'a str,
    /// What `read_wasi` gave.
    pub module: &'a [u8],
    /// `wasi_digest` of the file.
    pub shard: Digest,
    /// Digests of the files that are executed as it.
    pub sources: Vec<Digest>,
}

/// What was found out about a module.
#[derive(Debug)]
pub struct WasiFacts {
    /// The functions of WASI that it imports, in its own order.
    pub imports: Vec<&'static Function>,
    /// Of `_start`, in the module.
    start: u32,
}

impl WasiFacts {
    /// The system calls that it can make, by name.
    pub fn syscalls(&self) -> impl Iterator<Item = &'static str> + '_ {
        // Every program ends, and is given its directories.
        self.imports.iter().flat_map(|f| f.rows).copied().chain(["exit_group", "openat"])
    }
}

/// The digest of a WASI program's shard: of the file as it was given. What its exceptions are lowered to is, like what a compiler makes of it, found by the digest of the artifact.
pub fn wasi_digest(file: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"vkernel wasi v1\0").update(file);
    Digest { algorithm: Algorithm::Blake3, bytes: *hasher.finalize().as_bytes() }
}

/// What is compiled of a WASI program: standard WebAssembly without threads, exceptions, 64-bit memories and garbage collection.
pub fn features() -> WasmFeatures {
    WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::EXTENDED_CONST
}

/// Any bytes: the WASI command that they are, with its exceptions lowered, or what is wrong. A file without exceptions is its own module.
pub fn read_wasi<'a>(name: &str, file: &'a [u8]) -> Result<(Cow<'a, [u8]>, WasiFacts), MergeError> {
    if !Parser::is_core_wasm(file) {
        let reason = if Parser::is_component(file) { "is a component: give the core module, of WASI preview 1" } else { "is no WebAssembly module" };
        return Err(MergeError::Wasi { name: name.into(), reason: reason.into() });
    }
    let module = exceptions::lower(name, file)?;
    let facts = check_wasi(name, &module)?;
    Ok((module, facts))
}

/// Looks at what `read_wasi` gave.
pub(crate) fn check_wasi(name: &str, module: &[u8]) -> Result<WasiFacts, MergeError> {
    let wrong = |reason: String| MergeError::Wasi { name: name.into(), reason };
    let types = Validator::new_with_features(features()).validate_all(module).map_err(|e| wrong(format!("is not a valid module: {e}")))?;
    let types = types.as_ref();
    let (mut imports, mut start, mut memory, mut memories) = (Vec::new(), None, false, 0);
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|e| wrong(e.to_string()))? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|e| wrong(e.to_string()))?;
                    let (from, field) = (import.module, import.name);
                    let unknown = || wrong(format!("imports {from}.{field}, and nothing but functions of {MODULE} is there"));
                    let (MODULE, TypeRef::Func(ty)) = (from, import.ty) else { return Err(unknown()) };
                    let function = by_name(field).ok_or_else(unknown)?;
                    let asked = types.get(types.core_type_at_in_module(ty)).map(|t| t.unwrap_func().clone());
                    if asked != Some(signature(function)) {
                        return Err(wrong(format!("imports {from}.{field} with another type than WASI's")));
                    }
                    imports.push(function);
                }
            }
            Payload::MemorySection(section) => {
                for ty in section {
                    let ty = ty.map_err(|e| wrong(e.to_string()))?;
                    memories += 1;
                    if ty.shared {
                        return Err(wrong("has a memory that threads share: build it without threads".into()));
                    }
                }
            }
            Payload::StartSection { .. } => return Err(wrong("has a start function: a command begins at _start".into())),
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|e| wrong(e.to_string()))?;
                    memory |= export.name == "memory" && export.kind == ExternalKind::Memory;
                    if export.name == "_start" && export.kind == ExternalKind::Func {
                        start = Some(export.index);
                    }
                }
            }
            _ => {}
        }
    }
    if memories != 1 || !memory {
        return Err(wrong("must have one memory, exported as `memory`".into()));
    }
    let start = start.ok_or_else(|| wrong("exports no function _start: it is no command (a reactor or a library cannot be executed)".into()))?;
    let ty = types.core_function_at(start);
    if types.get(ty).is_none_or(|t| *t.unwrap_func() != FuncType::new([], [])) {
        return Err(wrong("its _start takes or gives a value".into()));
    }
    Ok(WasiFacts { imports, start })
}

/// The type of a function of WASI.
pub(crate) fn signature(function: &Function) -> FuncType {
    let parameters: Vec<ValType> = function.parameters.bytes().map(|p| if p == b'I' { ValType::I64 } else { ValType::I32 }).collect();
    let results: &[ValType] = if function.returns() { &[ValType::I32] } else { &[] };
    FuncType::new(parameters, results.iter().copied())
}

/// What WASI programs add to the merged module, and how many of each kind there are already.
pub(crate) struct Parts {
    pub tables: wasm::TableSection,
    pub memories: wasm::MemorySection,
    pub globals: wasm::GlobalSection,
    pub data: wasm::DataSection,
    next: Next,
}

/// Next index of each kind but functions and types.
#[derive(Clone, Copy)]
struct Next {
    table: u32,
    memory: u32,
    global: u32,
    element: u32,
    data: u32,
}

impl Parts {
    /// `elements`: how many segments there are already; `slots`: of the table of lifted code.
    pub(crate) fn new(elements: u32, slots: u32) -> Self {
        let slots = u64::from(slots);
        let mut tables = wasm::TableSection::new();
        tables.table(wasm::TableType { element_type: wasm::RefType::FUNCREF, minimum: slots, maximum: Some(slots), table64: false, shared: false });
        // The table of all lifted code, the three memories and the one global that they import.
        let next = Next { table: 1, memory: 3, global: 1, element: elements, data: 0 };
        Self { tables, memories: wasm::MemorySection::new(), globals: wasm::GlobalSection::new(), data: wasm::DataSection::new(), next }
    }

    /// Tables, memories and globals. What is empty is left out: without a program the module is as it ever was.
    pub(crate) fn add_declarations(&self, module: &mut wasm::Module) {
        module.section(&self.tables);
        if !self.memories.is_empty() {
            module.section(&self.memories);
        }
        if !self.globals.is_empty() {
            module.section(&self.globals);
        }
    }

    /// What code that names data segments needs before it.
    pub(crate) fn add_data_count(&self, module: &mut wasm::Module) {
        if self.next.data > 0 {
            module.section(&wasm::DataCountSection { count: self.next.data });
        }
    }

    pub(crate) fn add_data(&self, module: &mut wasm::Module) {
        if self.next.data > 0 {
            module.section(&self.data);
        }
    }
}

/// Where a program came to lie.
pub(crate) struct Appended {
    pub functions: u32,
    /// Merged index of its `_start`.
    pub start: u32,
    pub memory: u32,
}

/// The sections of the merged module that a program's functions go into.
pub(crate) struct Into<'a> {
    pub types: &'a mut Types,
    pub functions: &'a mut wasm::FunctionSection,
    pub code: &'a mut wasm::CodeSection,
    pub elements: &'a mut wasm::ElementSection,
}

/// Appends a module that `read_wasi` gave. `first`: merged index of its first own function; `imported`: those of WASI's functions.
pub(crate) fn append(input: &WasiInput<'_>, first: u32, imported: &BTreeMap<&str, u32>, parts: &mut Parts, into: &mut Into<'_>) -> Result<Appended, MergeError> {
    let shape = |reason: String| MergeError::Wasi { name: input.name.into(), reason };
    let facts = check_wasi(input.name, input.module)?;
    let base = parts.next;
    let mut shift = Shift { types: Vec::new(), imports: facts.imports.iter().map(|f| imported[f.name]).collect(), first, base };
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(input.module) {
        let failed = |e: reencode::Error| shape(e.to_string());
        match payload.map_err(|e| shape(e.to_string()))? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    shift.types.push(into.types.index(&ty.map_err(|e| shape(e.to_string()))?));
                }
            }
            Payload::FunctionSection(section) => {
                functions = section.count();
                shift.parse_function_section(into.functions, section).map_err(failed)?;
            }
            Payload::TableSection(section) => {
                parts.next.table += section.count();
                shift.parse_table_section(&mut parts.tables, section).map_err(failed)?;
            }
            Payload::MemorySection(section) => {
                parts.next.memory += section.count();
                shift.parse_memory_section(&mut parts.memories, section).map_err(failed)?;
            }
            Payload::GlobalSection(section) => {
                parts.next.global += section.count();
                shift.parse_global_section(&mut parts.globals, section).map_err(failed)?;
            }
            Payload::ElementSection(section) => {
                parts.next.element += section.count();
                shift.parse_element_section(into.elements, section).map_err(failed)?;
            }
            Payload::DataSection(section) => {
                parts.next.data += section.count();
                shift.parse_data_section(&mut parts.data, section).map_err(failed)?;
            }
            Payload::CodeSectionEntry(body) => shift.parse_function_body(into.code, body).map_err(failed)?,
            // Types, exports and names are the program's own business; what else there can be `read_wasi` refused.
            _ => {}
        }
    }
    let start = shift.function_index(facts.start).map_err(|e| shape(e.to_string()))?;
    Ok(Appended { functions, start, memory: base.memory })
}

struct Shift {
    types: Vec<u32>,
    /// Merged index of each imported function.
    imports: Vec<u32>,
    first: u32,
    base: Next,
}

type Index = Result<u32, reencode::Error>;

impl Reencode for Shift {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, f: u32) -> Index {
        Ok(self.imports.get(f as usize).copied().unwrap_or_else(|| f - self.imports.len() as u32 + self.first))
    }
    fn type_index(&mut self, t: u32) -> Index {
        Ok(self.types[t as usize])
    }
    fn table_index(&mut self, t: u32) -> Index {
        Ok(t + self.base.table)
    }
    fn memory_index(&mut self, m: u32) -> Index {
        Ok(m + self.base.memory)
    }
    fn global_index(&mut self, g: u32) -> Index {
        Ok(g + self.base.global)
    }
    fn element_index(&mut self, e: u32) -> Index {
        Ok(e + self.base.element)
    }
    fn data_index(&mut self, d: u32) -> Index {
        Ok(d + self.base.data)
    }
}
