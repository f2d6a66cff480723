//! Any bytes as a WASI program: refused, or a module without exceptions that can be merged with itself into a valid megabinary, whose dispatcher is what its map says.
#![no_main]

use megabinary::{WasiInput, check_dispatch, merge, read_wasi, section, wasi_digest};
use policy::Digest;
use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let module = match read_wasi("m", bytes) {
        Ok((module, _)) => module,
        // Only a limit can be what a lowered module is wrong about.
        Err(e) => return assert!(!e.to_string().contains("too much in it") || e.to_string().contains("too many"), "{e}"),
    };
    let program = |name: &'static str| WasiInput { name, module: &module, shard: wasi_digest(bytes), sources: vec![Digest::blake3(name.as_bytes())] };
    let merged = merge(Digest::blake3(b"c"), BTreeMap::new(), &[], &[], &[program("a"), program("b")]).expect("what is accepted can be merged");
    let sections = section::read(&merged.wasm).expect("its sections are there");
    check_dispatch(&merged.wasm, &sections.map).expect("the dispatcher follows its map");
});
