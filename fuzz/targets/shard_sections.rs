//! Any bytes as `vkernel.entries`, and as an artifact with a block table: refused, or a table that lies in the file.
#![no_main]
#![allow(dead_code, reason = "the loader's files, of which only the parsers are called")]

#[path = "../../loader/src/blocks.rs"]
mod blocks;
#[path = "../../loader/src/section.rs"]
mod section;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = section::entries(bytes);
    if let Ok(table) = blocks::Table::of(bytes) {
        assert_eq!(section::blocks(table.rows(bytes)).count(), table.count());
    }
});
