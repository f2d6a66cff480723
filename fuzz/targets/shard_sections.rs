//! Any bytes as `vkernel.entries`, and as an artifact with a block table: refused, or a table that lies in the file.
#![no_main]
#![allow(dead_code, reason = "the loader's files, of which only the parsers are called")]

#[path = "../../loader/src/blocks.rs"]
mod blocks;
#[path = "../../loader/src/section.rs"]
mod section;

use std::fs::File;
use std::io::Write;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = section::entries(bytes);
    let mut file = File::from(rustix::fs::memfd_create("artifact", rustix::fs::MemfdFlags::empty()).expect("a memfd can be made"));
    file.write_all(bytes).expect("memory is not full");
    if let Ok(table) = blocks::Table::of(&file) {
        assert_eq!(table.read(&file).expect("it lies in the file").len(), table.bytes());
    }
});
