//! One shard module taken apart: its types, bodies, table entries and sections, re-indexed for the merged module.
//!
//! Owns the demands on a shard's shape; anything else than ARCHITECTURE.md ("Imports", "Shard sections") allows is refused here. The fact a newcomer gets wrong: memories, table and host imports have the same
//! indices in every shard and in the merged module; only types and own functions move.

use crate::merge::MergeError;
use syscalls::abi::import;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{CodeSection, FunctionSection, TypeSection};
use wasmparser::{ElementItems, ElementKind, FuncType, Operator, Parser, Payload, TypeRef};

/// Types of the merged module: each structural type once.
#[derive(Default)]
pub(crate) struct Types {
    list: Vec<FuncType>,
}

impl Types {
    pub(crate) fn index(&mut self, ty: &FuncType) -> u32 {
        let at = self.list.iter().position(|t| t == ty).unwrap_or_else(|| {
            self.list.push(ty.clone());
            self.list.len() - 1
        });
        at as u32
    }

    pub(crate) fn get(&self, index: u32) -> &FuncType {
        &self.list[index as usize]
    }

    pub(crate) fn section(&self) -> TypeSection {
        let mut section = TypeSection::new();
        for ty in &self.list {
            let values = |v: &[wasmparser::ValType]| v.iter().map(|t| (*t).try_into().expect("shards use plain value types")).collect::<Vec<_>>();
            section.ty().function(values(ty.params()), values(ty.results()));
        }
        section
    }
}

/// What one module adds to the merged one.
pub(crate) struct Added {
    pub functions: u32,
    /// Merged function indices of the table entries, in slot order.
    pub elements: Vec<u32>,
    /// Custom sections: name and bytes.
    pub sections: Vec<(String, Vec<u8>)>,
}

/// Index of `vk.any` in the merged module.
const MERGED_ANY: u32 = 0;

struct Shift<'a> {
    types: &'a [u32],
    /// Added to the index of an own function.
    functions: u32,
}

impl Reencode for Shift<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, f: u32) -> Result<u32, reencode::Error> {
        Ok(if f < import::FUNCTIONS { f } else { f + self.functions })
    }

    /// `vk.slot_base` is gone; code reads `vk.any` only.
    fn global_index(&mut self, g: u32) -> Result<u32, reencode::Error> {
        Ok(if g == import::ANY_INDEX { MERGED_ANY } else { g })
    }

    fn type_index(&mut self, t: u32) -> Result<u32, reencode::Error> {
        Ok(self.types[t as usize])
    }
}

/// Appends a module's functions to the merged ones. `first` is the merged index of its first function.
pub(crate) fn append(name: &str, module: &[u8], first: u32, types: &mut Types, functions: &mut FunctionSection, code: &mut CodeSection) -> Result<Added, MergeError> {
    let shape = |reason: String| MergeError::Shape { name: name.into(), reason };
    let validated = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(module);
    validated.map_err(|e| shape(e.to_string()))?;
    let mut map: Vec<u32> = Vec::new();
    let mut added = Added { functions: 0, elements: Vec::new(), sections: Vec::new() };
    let shift = first - import::FUNCTIONS;
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(|e| shape(e.to_string()))? {
            Payload::Version { .. } | Payload::CodeSectionStart { .. } | Payload::End(_) => {}
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    map.push(types.index(&ty.map_err(|e| shape(e.to_string()))?));
                }
            }
            Payload::ImportSection(section) => imports(section).map_err(shape)?,
            Payload::FunctionSection(section) => {
                for ty in section {
                    functions.function(map[ty.map_err(|e| shape(e.to_string()))? as usize]);
                    added.functions += 1;
                }
            }
            Payload::ElementSection(section) => added.elements = elements(section, shift).map_err(shape)?,
            Payload::CodeSectionEntry(body) => {
                let mut shift = Shift { types: &map, functions: shift };
                shift.parse_function_body(code, body).map_err(|e| shape(e.to_string()))?;
            }
            Payload::CustomSection(s) => added.sections.push((s.name().into(), s.data().to_vec())),
            other => return Err(shape(format!("has a section no shard has: {:?}", other.as_section().map(|s| s.0)))),
        }
    }
    Ok(added)
}

/// The imports must be those of ARCHITECTURE.md, in its index order.
fn imports(section: wasmparser::ImportSectionReader<'_>) -> Result<(), String> {
    let expected = [
        (import::LINUX, import::SYSCALL),
        (import::X86, import::HELPER),
        (import::MODULE, import::MEM),
        (import::MODULE, import::CPU),
        (import::MODULE, import::CODEMAP),
        (import::MODULE, import::TABLE),
        (import::MODULE, import::SLOT_BASE),
        (import::MODULE, import::ANY),
    ];
    let mut found = Vec::new();
    for i in section.into_imports() {
        let i = i.map_err(|e| e.to_string())?;
        let memory = |m: wasmparser::MemoryType| (m.initial, m.maximum, m.shared);
        let fits = match (i.name, i.ty) {
            (import::MEM | import::CODEMAP, TypeRef::Memory(m)) => memory(m) == (65536, Some(65536), true),
            (import::CPU, TypeRef::Memory(m)) => memory(m) == (1, Some(1), false),
            (import::SYSCALL | import::HELPER, TypeRef::Func(_)) | (import::TABLE, TypeRef::Table(_)) => true,
            (import::SLOT_BASE | import::ANY, TypeRef::Global(g)) => !g.mutable,
            _ => false,
        };
        if !fits {
            return Err(format!("import {}.{} is not what the guest ABI says", i.module, i.name));
        }
        found.push((i.module, i.name));
    }
    // Index spaces are separate, so only the order within each kind matters; one order for all is simplest.
    if found != expected { Err(format!("imports {found:?} instead of {expected:?}")) } else { Ok(()) }
}

/// The functions of the one active segment at `vk.slot_base`.
fn elements(section: wasmparser::ElementSectionReader<'_>, shift: u32) -> Result<Vec<u32>, String> {
    let mut all = Vec::new();
    for (i, element) in section.into_iter().enumerate() {
        let element = element.map_err(|e| e.to_string())?;
        let ElementKind::Active { table_index: None | Some(0), offset_expr } = element.kind else {
            return Err(format!("element segment {i} is not active in table 0"));
        };
        let at_base = matches!(offset_expr.get_operators_reader().read(), Ok(Operator::GlobalGet { global_index: 0 }));
        let ElementItems::Functions(items) = element.items else {
            return Err(format!("element segment {i} is not a list of functions"));
        };
        if i > 0 || !at_base {
            return Err("has more than one element segment, or one that is not at vk.slot_base".into());
        }
        for f in items {
            let f = f.map_err(|e| e.to_string())?;
            if f < import::FUNCTIONS {
                return Err("puts an imported function into the table".into());
            }
            all.push(f + shift);
        }
    }
    Ok(all)
}
