//! Any bytes as rpm's database: packages or an error, no panic, and no more work than the file is long.
#![no_main]

#[allow(dead_code, reason = "the databases that are text have a target of their own")]
#[path = "../../tools/recompiler-build/src/sbom/packages.rs"]
mod packages;
#[path = "../../tools/recompiler-build/src/sbom/rpm/mod.rs"]
mod rpm;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for p in rpm::packages(bytes).into_iter().flatten() {
        assert!(p.files.iter().all(|f| f.starts_with('/')));
        assert!(p.purl("fedora", "41").is_ascii());
    }
});
