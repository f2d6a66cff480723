//! Any bytes as an ELF file for the lifter: parsing (headers, notes, dynamic section, symbols, relocations, .eh_frame) refuses them, or discovery ends; no panic, no endless loop.
//!
//! Refuses to check what discovery found: `tools/lift/tests/discover.rs` does.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let base = if bytes.get(16) == Some(&2) { 0 } else { 0x1000_0000 };
    if let Ok(image) = lift::image::Image::parse(bytes, base) {
        let program = lift::discover::discover(&image);
        assert!(program.stats.covered_bytes <= program.stats.executable_bytes);
        program.block_owners();
    }
});
