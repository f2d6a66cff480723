//! Any text as a package database of an image: no panic, and what is found has a name, a version and a package URL of ASCII alone.
#![no_main]

#[path = "../../tools/recompiler-build/src/sbom/packages.rs"]
mod packages;

libfuzzer_sys::fuzz_target!(|text: &str| {
    for p in packages::dpkg(text).into_iter().chain(packages::apk(text)) {
        assert!(!p.name.is_empty() && !p.version.is_empty() && !p.architecture.is_empty());
        assert!(p.files.iter().all(|f| f.starts_with('/')));
        assert!(p.purl("debian", "12").is_ascii());
    }
});
