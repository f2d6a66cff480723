//! Merging WASI programs: with each other, and beside a shard.

use megabinary::{Megabinary, WasiInput, check_dispatch, merge, read_wasi, section, wasi_digest};
use policy::Digest;
use std::collections::BTreeMap;
use wasm_encoder::*;

/// A command that uses everything that moves: two imports, a table with a passive and an active segment, a global, active and passive data, memory.init, a call through the table.
fn module(marker: u8, imports: &[&str]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([ValType::I32, ValType::I32, ValType::I32, ValType::I32], [ValType::I32]);
    let mut import_section = ImportSection::new();
    for name in imports {
        let ty = if *name == "fd_close" { 1 } else { 2 };
        import_section.import("wasi_snapshot_preview1", name, EntityType::Function(ty));
    }
    let n = imports.len() as u32;
    let mut functions = FunctionSection::new();
    functions.function(0).function(0);
    let mut tables = TableSection::new();
    tables.table(TableType { element_type: RefType::FUNCREF, minimum: 2, maximum: Some(2), table64: false, shared: false });
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: Some(u64::from(marker)), memory64: false, shared: false, page_size_log2: None });
    let mut globals = GlobalSection::new();
    globals.global(GlobalType { val_type: ValType::I32, mutable: true, shared: false }, &ConstExpr::i32_const(marker.into()));
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("_start", ExportKind::Func, n);
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::i32_const(0), Elements::Functions(vec![n + 1].into()));
    elements.passive(Elements::Functions(vec![n].into()));
    let mut code = CodeSection::new();
    let mut start = Function::new([]);
    let mut i = start.instructions();
    i.i32_const(0).i32_const(0).i32_const(1).memory_init(0, 1);
    i.i32_const(1).i32_const(0).i32_const(1).table_init(0, 1);
    i.data_drop(1).elem_drop(1);
    i.global_get(0).call(0).drop();
    i.i32_const(0).call_indirect(0, 0).i32_const(1).memory_grow(0).drop().end();
    code.function(&start);
    let mut other = Function::new([]);
    other.instructions().i32_const(4).i32_const(4).i32_load(MemArg { offset: 8, align: 2, memory_index: 0 }).i32_store(MemArg { offset: 0, align: 2, memory_index: 0 }).end();
    code.function(&other);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(8), [marker]).passive([marker, marker]);
    let mut m = Module::new();
    m.section(&types).section(&import_section).section(&functions).section(&tables).section(&memories).section(&globals).section(&exports).section(&elements);
    m.section(&DataCountSection { count: 2 }).section(&code).section(&data);
    m.finish()
}

fn merged(modules: &[(&str, &[u8])]) -> Megabinary {
    let inputs: Vec<_> = modules
        .iter()
        .map(|(name, module)| WasiInput { name, module, shard: wasi_digest(module), sources: vec![Digest::blake3(name.as_bytes()), Digest::blake3(module)] })
        .collect();
    merge(Digest::blake3(b"c"), BTreeMap::new(), &[], &[], &inputs).unwrap()
}

#[test]
fn programs_lie_side_by_side_and_share_only_the_functions_they_import() {
    let (a, b) = (module(5, &["fd_close"]), module(7, &["fd_close", "fd_read"]));
    let m = merged(&[("a", &a), ("b", &b)]);
    let s = section::read(&m.wasm).unwrap();
    check_dispatch(&m.wasm, &s.map).unwrap();
    let rows: Vec<_> = s.programs.iter().map(|p| (&*p.name, p.shard, p.first, p.functions, p.memory)).collect();
    // Two host functions, two of WASI, then two of each program; three shared memories before theirs.
    assert_eq!(rows, [("a", wasi_digest(&a), 4, 2, 3), ("b", wasi_digest(&b), 6, 2, 4)]);
    let starts: Vec<_> = s.map.0.values().map(|row| row.start).collect();
    assert_eq!(starts.iter().filter(|s| **s == Some(4)).count(), 2, "each of two files: {starts:?}");
    assert_eq!(starts.iter().filter(|s| **s == Some(6)).count(), 2);
    let imported: Vec<_> = wasmparser::Parser::new(0)
        .parse_all(&m.wasm)
        .filter_map(|p| if let Ok(wasmparser::Payload::ImportSection(s)) = p { Some(s) } else { None })
        .flat_map(|s| s.into_imports().map(|i| i.unwrap().name.to_owned()).collect::<Vec<_>>())
        .collect();
    assert_eq!(imported, ["syscall", "helper", "fd_close", "fd_read", "mem", "cpu", "codemap", "any"]);
}

/// Prints what the code of the merged module names, to see that nothing still names another program's.
#[test]
fn every_index_moves_by_as_much_as_there_was_before() {
    let (a, b) = (module(5, &["fd_close"]), module(7, &["fd_close", "fd_read"]));
    let m = merged(&[("a", &a), ("b", &b)]);
    let mut bodies = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(&m.wasm) {
        if let wasmparser::Payload::CodeSectionEntry(body) = payload.unwrap() {
            bodies.push(body.get_operators_reader().unwrap().into_iter().map(|o| format!("{:?}", o.unwrap())).collect::<Vec<_>>().join("; "));
        }
    }
    let [a, b] = [&bodies[0], &bodies[2]];
    let named = |text: &str, words: &[&str]| words.iter().for_each(|w| assert!(text.contains(w), "{w} is not in {text}"));
    named(
        a,
        &[
            "MemoryInit { data_index: 1, mem: 3 }",
            "TableInit { elem_index: 1, table: 1 }",
            "GlobalGet { global_index: 1 }",
            "Call { function_index: 2 }",
            "table_index: 1",
            "MemoryGrow { mem: 3 }",
        ],
    );
    named(
        b,
        &[
            "MemoryInit { data_index: 3, mem: 4 }",
            "TableInit { elem_index: 3, table: 2 }",
            "GlobalGet { global_index: 2 }",
            "Call { function_index: 2 }",
            "table_index: 2",
            "MemoryGrow { mem: 4 }",
        ],
    );
    assert!(bodies[3].contains("memory: 4") && bodies[1].contains("memory: 3"), "{bodies:?}");
}

#[test]
fn equal_inputs_give_equal_bytes_and_rows_say_which_calls_a_program_can_make() {
    let a = module(5, &["fd_close", "fd_read"]);
    assert_eq!(merged(&[("a", &a)]).wasm, merged(&[("a", &a)]).wasm);
    let mut calls: Vec<_> = read_wasi("a", &a).unwrap().1.syscalls().collect();
    calls.sort_unstable();
    assert_eq!(calls, ["close", "exit_group", "openat", "readv"]);
    assert!(read_wasi("a", &a[..a.len() - 1]).is_err());
}
