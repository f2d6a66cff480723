//! Any bytes as an ELF file: parsing refuses them or discovery ends, without a panic and in time linear in the file.
//!
//! Owns nothing but the call. Refuses to check what discovery found (tests/discover.rs does). Start the corpus from small
//! Debian programs; from nothing, the fuzzer hardly gets past the ELF header.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let base = if bytes.get(16) == Some(&2) { 0 } else { 0x1000_0000 };
    if let Ok(image) = lift::image::Image::parse(bytes, base) {
        lift::discover::discover(&image).block_owners();
    }
});
