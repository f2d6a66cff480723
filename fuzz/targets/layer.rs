//! Any bytes as a layer of an image: it is refused or applied, and nothing outside its directory is made, changed or lost.
#![no_main]

use image::layer::{Budget, apply, decompressed};
use std::fs;

/// The compressor's memory is not the budget's, and what an input unpacks to need not be much.
const MOST_BYTES: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().expect("a temporary directory");
    let (root, secret) = (outer.path().join("root"), outer.path().join("secret"));
    fs::create_dir(&root).expect("writable");
    fs::write(&secret, "outside").expect("writable");
    if let Ok(stream) = decompressed(bytes) {
        let _ = apply(stream, &root, &mut Budget::new(MOST_BYTES));
    }
    assert_eq!((fs::read(&secret).expect("it is there"), fs::read_dir(outer.path()).expect("readable").count()), (b"outside".to_vec(), 2));
});
