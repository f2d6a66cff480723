//! `_dispatch` taken out of a megabinary, so that it can be run without the rest.
//!
//! Owns the small module around it: the same types, memories of its own, and in each slot that is asked for a function that says which slot it is. The fact a newcomer gets wrong: the body is the megabinary's, byte for byte; it can be
//! moved because it names types, memories and the table by indices that are the same here, and calls no function directly.

use crate::dispatch::{DispatchError, structured_type};
use crate::reindex::Types;
use std::collections::BTreeSet;
use syscalls::abi::structured::{RESULTS, RSP};
use wasm_encoder as wasm;
use wasmparser::{FuncType, Payload, ValType};

const RAX: usize = 0;

/// A module that exports `_dispatch`, `mem` and `cpu`. What `_dispatch` returns is the slot it called.
pub fn dispatch_probe(module: &[u8], slots: &BTreeSet<u32>) -> Result<Vec<u8>, DispatchError> {
    let (mut types, mut body) = (Types::default(), None);
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.index(&ty?);
                }
            }
            Payload::CodeSectionEntry(code) => body = Some(code.as_bytes()),
            _ => {}
        }
    }
    let body = body.ok_or(DispatchError::Mismatch)?;
    let (stub, dispatch) = (types.index(&structured_type()), types.index(&FuncType::new([ValType::I32; 3], [ValType::I32])));
    let (mut functions, mut code, mut elements) = (wasm::FunctionSection::new(), wasm::CodeSection::new(), wasm::ElementSection::new());
    for (index, slot) in slots.iter().enumerate() {
        functions.function(stub);
        let mut f = wasm::Function::new([]);
        for result in RESULTS {
            match result {
                RAX => f.instructions().i64_const(i64::from(*slot)),
                RSP => f.instructions().i32_const(0),
                _ => f.instructions().i64_const(0),
            };
        }
        f.instructions().end();
        code.function(&f);
        elements.active(None, &wasm::ConstExpr::i32_const(*slot as i32), wasm::Elements::Functions(vec![index as u32].into()));
    }
    functions.function(dispatch);
    code.raw(body);
    let page = wasm::MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None };
    let (mut memories, mut tables, mut exports) = (wasm::MemorySection::new(), wasm::TableSection::new(), wasm::ExportSection::new());
    memories.memory(page).memory(page);
    let size = slots.last().map_or(1, |s| u64::from(*s) + 1);
    tables.table(wasm::TableType { element_type: wasm::RefType::FUNCREF, minimum: size, maximum: None, table64: false, shared: false });
    exports.export("_dispatch", wasm::ExportKind::Func, slots.len() as u32).export("mem", wasm::ExportKind::Memory, 0).export("cpu", wasm::ExportKind::Memory, 1);
    let mut m = wasm::Module::new();
    m.section(&types.section()).section(&functions).section(&tables).section(&memories).section(&exports).section(&elements).section(&code);
    let bytes = m.finish();
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(&bytes)?;
    Ok(bytes)
}
