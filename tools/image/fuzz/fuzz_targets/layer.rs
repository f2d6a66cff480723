//! The layer applier on arbitrary bytes: it may refuse, it may not panic, hang or write outside its directory.
#![no_main]

use image::layer::{Budget, apply, decompressed};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let outer = tempfile::tempdir().expect("a temporary directory");
    let root = outer.path().join("root");
    std::fs::create_dir(&root).expect("a directory");
    let mut budget = Budget::new(1 << 20);
    if let Ok(stream) = decompressed(bytes) {
        let _ = apply(stream, &root, &mut budget);
    }
    assert_eq!(std::fs::read_dir(outer.path()).expect("readable").count(), 1);
});
