//! Any bytes as an ELF file of an image: `scan` reads its facts or says why not; what it accepts keeps its own promises.
#![no_main]
#![allow(dead_code, reason = "a file of recompiler-build, used by one function here")]

#[path = "../../tools/recompiler-build/src/scan/elf.rs"]
mod elf;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if elf::is_elf(bytes)
        && let Ok(facts) = elf::facts("fuzzed", bytes)
    {
        let span = facts.span();
        assert!(span.start <= span.end && span.end <= 1 << 32);
        assert!(!(facts.is_program() && facts.is_library() && facts.non_pie));
    }
});
