//! Any bytes as machine code: lifting them gives two modules that are valid WebAssembly.
//!
//! The file around them is a fixed, small ELF executable. The fact a newcomer gets wrong: an instruction without semantics is no failure here; it becomes a named gap.
#![no_main]

#[path = "../../tools/lift/tests/elf/mod.rs"]
mod elf;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A jump table would be read from here.
    let table = [0x10_u8; 64];
    let code = &bytes[..bytes.len().min(0x2000)];
    if code.is_empty() {
        return;
    }
    let shard = lift::lift(&elf::program(code, &table), 0x1000_0000, "fuzzed").expect("the file around the code is well-formed");
    for module in [&shard.structured, &shard.resumable] {
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all()).validate_all(module).expect("lifted code is valid");
    }
});
