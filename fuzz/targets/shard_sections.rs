//! Any bytes as `vkernel.entries` and `vkernel.blocks`: refused, or sorted so that every record is found by its pc.
#![no_main]

#[path = "../../loader/src/section.rs"]
mod section;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = section::entries(bytes);
    if let Ok(blocks) = section::blocks(bytes) {
        for b in &blocks {
            assert_eq!(section::find(&blocks, b.pc), Some(*b));
        }
    }
});
