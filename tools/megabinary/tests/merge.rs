//! Merging hand-made shards of the shape that ARCHITECTURE.md gives.

use megabinary::{ImageSegment, Megabinary, MergeError, Program, ShardInput, merge, section, shard_digest};
use policy::Digest;
use std::borrow::Cow;
use std::collections::BTreeMap;
use syscalls::abi::{import, section as shard_section, structured as abi};
use wasm_encoder::*;

const FILE: &[u8] = &[0x7f; 9000];

fn imports(section: &mut ImportSection) {
    let memory = |pages: u64, shared: bool| MemoryType { minimum: pages, maximum: Some(pages), memory64: false, shared, page_size_log2: None };
    section.import("linux", "syscall", EntityType::Function(0));
    section.import("x86", "helper", EntityType::Function(1));
    section.import("vk", "mem", memory(65536, true));
    section.import("vk", "cpu", memory(1, false));
    section.import("vk", "codemap", memory(65536, true));
    section.import("vk", "table", TableType { element_type: RefType::FUNCREF, minimum: 1, maximum: None, table64: false, shared: false });
    section.import("vk", "slot_base", GlobalType { val_type: ValType::I32, mutable: false, shared: false });
    section.import("vk", "any", GlobalType { val_type: ValType::I64, mutable: false, shared: false });
}

/// A module with `n` functions of the given form; function k calls function k + 1, does a system call and an indirect call.
fn form(structured: bool, n: u32, first_pc: u32) -> Vec<u8> {
    let of = |registers: &[usize]| registers.iter().map(|r| if *r == abi::RSP { ValType::I32 } else { ValType::I64 }).collect::<Vec<_>>();
    let (params, results) = if structured { (of(&abi::PARAMETERS), of(&abi::RESULTS)) } else { (vec![ValType::I32], vec![ValType::I64]) };
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([ValType::I32, ValType::I64, ValType::I64], [ValType::I64]);
    types.ty().function(params.to_vec(), results.to_vec());
    let mut import_section = ImportSection::new();
    imports(&mut import_section);
    let (mut functions, mut code, mut entries) = (FunctionSection::new(), CodeSection::new(), Vec::new());
    for k in 0..n {
        functions.function(2);
        let mut f = Function::new([]);
        let mut i = f.instructions();
        i.call(import::SYSCALL_INDEX);
        for (p, _) in params.iter().enumerate() {
            i.local_get(p as u32);
        }
        if k + 1 < n {
            i.call(import::FUNCTIONS + k + 1)
        } else {
            i.i32_const(0).call_indirect(0, 2)
        };
        i.end();
        code.function(&f);
        let fields = if structured { vec![first_pc + 16 * k, k] } else { vec![first_pc + 16 * k, k, 0] };
        entries.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    }
    let mut elements = ElementSection::new();
    elements.active(None, &ConstExpr::global_get(0), Elements::Functions((import::FUNCTIONS..import::FUNCTIONS + n).collect::<Vec<_>>().into()));
    let mut m = Module::new();
    m.section(&types).section(&import_section).section(&functions).section(&elements).section(&code);
    let name = if structured { shard_section::ENTRIES } else { shard_section::BLOCKS };
    m.section(&CustomSection { name: name.into(), data: Cow::Owned(entries) });
    m.finish()
}

fn shard<'a>(path: &'a str, base: u64, modules: &'a (Vec<u8>, Vec<u8>)) -> ShardInput<'a> {
    let segments = vec![ImageSegment { file_offset: 0, filesz: 5000 }, ImageSegment { file_offset: 8100, filesz: 900 }];
    ShardInput { path, file: FILE, source: Digest::blake3(path.as_bytes()), segments, base, entry: base + 16, structured: &modules.0, resumable: &modules.1 }
}

fn merged(a: &(Vec<u8>, Vec<u8>), b: &(Vec<u8>, Vec<u8>), start: u64) -> Result<Megabinary, MergeError> {
    let shards = [shard("/bin/a", 0x1000000, a), shard("/lib/b", 0x2000000, b)];
    let program = Program { path: "/bin/a", source: Digest::blake3(b"/bin/a"), start_shard: 1, start };
    merge(Digest::blake3(b"c"), BTreeMap::from([("lift".into(), "1".into())]), &shards, &[program], &[])
}

fn pairs() -> [(Vec<u8>, Vec<u8>); 2] {
    [(form(true, 3, 0x1000000), form(false, 3, 0x1000000)), (form(true, 2, 0x2000000), form(false, 2, 0x2000000))]
}

#[test]
fn a_merged_module_is_valid_and_says_where_everything_is() {
    let [a, b] = pairs();
    let m = merged(&a, &b, 0x2000010).unwrap();
    let s = section::read(&m.wasm).unwrap();
    assert_eq!(s.shards, m.shards);
    assert_eq!(s.shards.iter().map(|r| (r.structured.first, r.structured.slot)).collect::<Vec<_>>(), [(2, 1), (8, 7)]);
    assert_eq!(s.shards.iter().map(|r| (r.resumable.first, r.resumable.slot)).collect::<Vec<_>>(), [(5, 4), (10, 9)]);
    assert_eq!(s.shards[1].shard, shard_digest(&b.0, &b.1));
    let row = s.map.0[&Digest::blake3(b"/bin/a")];
    assert_eq!((row.pc, row.slot), (0x2000010, 8));
}

#[test]
fn segments_lie_on_pages_of_the_file() {
    let [a, b] = pairs();
    let m = merged(&a, &b, 0x2000000).unwrap();
    for offset in m.image_offsets.iter().flatten() {
        assert_eq!(offset % 4096, 0);
    }
    let at = m.image_offsets[1][0] as usize;
    assert_eq!(m.wasm[at..at + 8192], FILE[..8192]);
}

#[test]
fn merging_twice_gives_the_same_bytes() {
    let [a, b] = pairs();
    assert_eq!(merged(&a, &b, 0x2000000).unwrap().wasm, merged(&a, &b, 0x2000000).unwrap().wasm);
}

#[test]
fn refuses_a_program_that_starts_where_no_function_does() {
    let [a, b] = pairs();
    assert!(matches!(merged(&a, &b, 0x2000008), Err(MergeError::NoEntry { pc: 0x2000008, .. })));
}

#[test]
fn refuses_a_shard_that_imports_something_else() {
    let [a, mut b] = pairs();
    let at = b.0.windows(7).position(|w| w == b"syscall").unwrap();
    b.0[at] = b'S';
    let error = merged(&a, &b, 0x2000000).err().unwrap().to_string();
    assert!(error.contains("import linux.Syscall"), "{error}");
}

#[test]
fn wabt_finds_it_valid_too() {
    let [a, b] = pairs();
    let file = std::env::temp_dir().join(format!("vkernel-merge-{}.wasm", std::process::id()));
    std::fs::write(&file, merged(&a, &b, 0x2000000).unwrap().wasm).unwrap();
    let out = std::process::Command::new("wasm-validate").arg("--enable-all").arg(&file).output().expect("wabt is installed");
    std::fs::remove_file(&file).unwrap();
    assert!(out.status.success(), "{out:?}");
}
