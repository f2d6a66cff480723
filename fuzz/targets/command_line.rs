//! Any bytes as what a worker tells of arguments, and any words as a command line under any grammar: one reading, no panic, and nothing is let through that is not a word of the line.
#![no_main]

#[path = "../../vkernel/src/arguments.rs"]
#[allow(dead_code, reason = "the target needs the reader only")]
mod arguments;

use policy::interpreter::Interpreter;

fn words(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split(|b| *b == 0).collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let read = |length: usize| Ok(bytes[..length.min(bytes.len())].to_vec());
    if let Some(told) = arguments::unpack(read) {
        let strings: usize = told.argv.iter().chain(&told.variables).map(|s| s.len() + 1).sum();
        assert!(strings <= bytes.len());
    }
    // A grammar in JSON, a zero byte, a command line.
    let (row, line) = bytes.split_at(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    let Ok(row) = serde_json::from_slice::<Interpreter>(row) else { return };
    let line = words(line.get(1..).unwrap_or_default());
    let program = row.program(&line, true);
    assert!(program.files.iter().all(|f| line.iter().any(|w| w.ends_with(f))), "a file that no word names");
    assert_eq!(program, row.program(&line, true));
    if row.multicall.is_none() && program.inline.is_none() && program.files.is_empty() {
        assert!(line.iter().any(|w| std::str::from_utf8(w).is_ok_and(|w| row.ends.contains(w))), "nothing is run, and nothing says so");
    }
    // What a cut line leads to, the whole one does, or it is program text.
    let cut = row.program(&line[..line.len() / 2], false);
    assert!(cut.inline.is_some() || cut == program);
});
