//! `_dispatch` taken out of a megabinary, so that it can be run without the rest.
//!
//! Owns the small module around it: the same types, memories of its own, and for each slot and each WASI program's start that is asked for a function that says which one it is. The fact a newcomer gets wrong: the body is the
//! megabinary's, byte for byte but for the numbers of the starts it calls; it can be moved because it names types, memories and the table by indices that are the same here.

use crate::dispatch::{DispatchError, structured_type};
use crate::reindex::Types;
use std::collections::BTreeSet;
use syscalls::abi::structured::{RESULTS, RSP};
use syscalls::abi::{import, offset};
use wasm_encoder as wasm;
use wasm_encoder::Encode;
use wasmparser::{FuncType, FunctionBody, Operator, Payload, ValType};

const RAX: usize = 0;

/// Set in what stands in the place of the next pc when a WASI program was started: the number of its function is below.
pub const STARTED: u64 = 1 << 40;

/// A module that exports `_dispatch`, `mem` and `cpu`. What `_dispatch` returns is the slot it called; of `starts` each writes `STARTED` and its number where the pc stands.
pub fn dispatch_probe(module: &[u8], slots: &BTreeSet<u32>, starts: &BTreeSet<u32>) -> Result<Vec<u8>, DispatchError> {
    let (mut types, mut body) = (Types::default(), None);
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.index(&ty?);
                }
            }
            Payload::CodeSectionEntry(code) => body = Some(code),
            _ => {}
        }
    }
    let body = body.ok_or(DispatchError::Mismatch)?;
    let body = moved(&body, slots.len() as u32, starts)?;
    let (stub, dispatch) = (types.index(&structured_type()), types.index(&FuncType::new([ValType::I32; 3], [ValType::I32])));
    let start = types.index(&FuncType::new([], []));
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
    for number in starts {
        functions.function(start);
        let mut f = wasm::Function::new([]);
        let at = wasm::MemArg { offset: offset::RIP, align: 0, memory_index: import::CPU_INDEX };
        f.instructions().i32_const(0).i64_const((STARTED | u64::from(*number)) as i64).i64_store(at).end();
        code.function(&f);
    }
    functions.function(dispatch);
    code.raw(&body);
    let page = wasm::MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None };
    let (mut memories, mut tables, mut exports) = (wasm::MemorySection::new(), wasm::TableSection::new(), wasm::ExportSection::new());
    memories.memory(page).memory(page);
    let size = slots.last().map_or(1, |s| u64::from(*s) + 1);
    tables.table(wasm::TableType { element_type: wasm::RefType::FUNCREF, minimum: size, maximum: None, table64: false, shared: false });
    exports.export("_dispatch", wasm::ExportKind::Func, (slots.len() + starts.len()) as u32).export("mem", wasm::ExportKind::Memory, 0).export("cpu", wasm::ExportKind::Memory, 1);
    let mut m = wasm::Module::new();
    m.section(&types.section()).section(&functions).section(&tables).section(&memories).section(&exports).section(&elements).section(&code);
    let bytes = m.finish();
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(&bytes)?;
    Ok(bytes)
}

/// The body with calls of `starts` turned to the functions that stand for them here, from `first` on.
fn moved(body: &FunctionBody<'_>, first: u32, starts: &BTreeSet<u32>) -> Result<Vec<u8>, DispatchError> {
    let bytes = body.as_bytes();
    let mut operators = body.get_operators_reader()?;
    let origin = body.range().start;
    let (mut out, mut copied) = (Vec::with_capacity(bytes.len()), 0);
    while !operators.eof() {
        let at = operators.original_position() - origin;
        if let Operator::Call { function_index } = operators.read()? {
            let place = starts.iter().position(|s| *s == function_index).ok_or(DispatchError::Mismatch)?;
            out.extend(&bytes[copied..at]);
            wasm::Instruction::Call(first + place as u32).encode(&mut out);
            copied = operators.original_position() - origin;
        }
    }
    out.extend(&bytes[copied..]);
    Ok(out)
}
