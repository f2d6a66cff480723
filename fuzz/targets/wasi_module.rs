//! Any bytes as a WASI program: refused, or a module that can be merged with itself into a valid megabinary, whose dispatcher is what its map says.
#![no_main]

use megabinary::{WasiInput, check_dispatch, check_wasi, merge, section};
use policy::Digest;
use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if check_wasi("m", bytes).is_err() {
        return;
    }
    let program = |name: &'static str| WasiInput { name, module: bytes, sources: vec![Digest::blake3(name.as_bytes())] };
    let merged = merge(Digest::blake3(b"c"), BTreeMap::new(), &[], &[], &[program("a"), program("b")]).expect("what is accepted can be merged");
    let sections = section::read(&merged.wasm).expect("its sections are there");
    check_dispatch(&merged.wasm, &sections.map).expect("the dispatcher follows its map");
});
