//! Whole shards of hostile code: what is emitted is a small multiple of what was given, and valid.
//!
//! Owns the shapes of control flow that once made the lifter write too much or run out of native stack. Refuses to measure time: a bound on it would say more of the machine. What takes quadratic time
//! shows all the same, since the pieces are large.

mod elf;

use elf::{TEXT, program};

const BASE: u64 = 0x1000_0000;

/// Lifts `code`; both modules must be valid and at most `factor` times as large.
fn lifted(what: &str, code: &[u8], factor: usize) -> lift::Shard {
    let start = std::time::Instant::now();
    let shard = lift::lift(&program(code, &[]), BASE, what).unwrap();
    let (structured, resumable) = (shard.structured.len(), shard.resumable.len());
    println!("{what}: {} bytes of code, {structured} structured, {resumable} resumable, {:?}", code.len(), start.elapsed());
    assert!(structured <= factor * code.len() && resumable <= factor * code.len(), "{what}: {} bytes became {structured} and {resumable}", code.len());
    shard
}

/// A small piece, which an engine accepts.
fn valid(what: &str, code: &[u8], factor: usize) {
    let shard = lifted(what, code, factor);
    let mut config = wasmtime::Config::new();
    config.wasm_tail_call(true).wasm_threads(true).wasm_multi_memory(true).shared_memory(true);
    let engine = wasmtime::Engine::new(&config).unwrap();
    for module in [&shard.structured, &shard.resumable] {
        wasmtime::Module::validate(&engine, module).unwrap();
    }
}

/// Pieces of code that refer to each other by number, every reference in four bytes.
#[derive(Default)]
struct Assembler {
    code: Vec<u8>,
    labels: std::collections::HashMap<usize, usize>,
    references: Vec<(usize, usize)>,
}

impl Assembler {
    fn label(&mut self, label: usize) {
        self.labels.insert(label, self.code.len());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    fn to(&mut self, opcode: &[u8], label: usize) {
        self.bytes(opcode);
        self.references.push((self.code.len(), label));
        self.bytes(&[0; 4]);
    }

    fn finish(mut self) -> Vec<u8> {
        for (at, label) in self.references {
            let distance = self.labels[&label] as i64 - (at as i64 + 4);
            self.code[at..at + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
        self.code
    }
}

const JE: &[u8] = &[0x0f, 0x84];
const JNE: &[u8] = &[0x0f, 0x85];
const JMP: &[u8] = &[0xe9];
const CALL: &[u8] = &[0xe8];
const RET: &[u8] = &[0xc3];
const DEC_EAX: &[u8] = &[0xff, 0xc8];

#[test]
fn a_branch_with_both_ways_to_one_place_goes_there_once() {
    let code = |n| [[0x75, 0x00].repeat(n), RET.to_vec()].concat();
    valid("branches to the next instruction", &code(40), 200);
    lifted("many branches to the next instruction", &code(100_000), 60);
    // loop: also counts rcx down.
    valid("loops to the next instruction", &[[0xe2, 0x00].repeat(40), RET.to_vec()].concat(), 200);
}

/// `je x; y: dec eax; je out; x: dec eax; jne y; out:`, one after the other.
fn loops_with_two_entries(n: usize) -> Vec<u8> {
    let mut a = Assembler::default();
    for k in 0..n {
        a.to(JE, 3 * k);
        a.label(3 * k + 1);
        a.bytes(DEC_EAX);
        a.to(JE, 3 * k + 2);
        a.label(3 * k);
        a.bytes(DEC_EAX);
        a.to(JNE, 3 * k + 1);
        a.label(3 * k + 2);
    }
    a.bytes(RET);
    a.finish()
}

#[test]
fn a_branch_with_both_ways_through_one_selector_goes_there_once() {
    valid("loops with two entries", &loops_with_two_entries(20), 100);
    lifted("many loops with two entries", &loops_with_two_entries(20_000), 100);
}

/// n loops within each other, each of which can be entered at two places.
fn nested_loops_with_two_entries(n: usize) -> Vec<u8> {
    let mut a = Assembler::default();
    for k in 0..n {
        a.bytes(DEC_EAX);
        a.to(JE, 2 * k + 1);
        a.label(2 * k);
        a.bytes(DEC_EAX);
    }
    for k in (0..n).rev() {
        a.label(2 * k + 1);
        a.bytes(DEC_EAX);
        a.to(JNE, 2 * k);
    }
    a.bytes(RET);
    a.finish()
}

#[test]
fn deep_nests_of_loops_are_emitted_once() {
    valid("nested loops with two entries", &nested_loops_with_two_entries(90), 300);
    lifted("deeply nested loops with two entries", &nested_loops_with_two_entries(4000), 300);
    let mut a = Assembler::default();
    for k in 0..4000 {
        a.label(k);
        a.bytes(DEC_EAX);
    }
    for k in (0..4000).rev() {
        a.to(JNE, k);
        a.bytes(DEC_EAX);
    }
    a.bytes(RET);
    lifted("deeply nested loops", &a.finish(), 100);
}

#[test]
fn a_long_chain_of_blocks_needs_no_native_stack() {
    let mut a = Assembler::default();
    for k in 0..50_000 {
        // Past a return: each block has one way in and dominates all that follow.
        a.bytes(DEC_EAX);
        a.to(JNE, k);
        a.bytes(RET);
        a.label(k);
    }
    a.bytes(RET);
    let code = a.finish();
    // All that is emitted is emitted here, in a thread with little stack.
    let small = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(512 << 10).build().unwrap();
    small.install(|| lifted("a chain of blocks", &code, 100));
}

/// `first` and `second`: two functions that branch to each of n places, all of which lead to the same long piece of code.
fn joins_before_shared_code(n: usize, length: usize) -> Vec<u8> {
    let (second, shared) = (n, n + 1);
    let mut a = Assembler::default();
    a.to(CALL, second);
    for entry in 0..2 {
        for k in 0..n {
            a.bytes(DEC_EAX);
            a.to(JE, k);
        }
        a.bytes(RET);
        if entry == 0 {
            a.label(second);
        }
    }
    for k in 0..n {
        a.label(k);
        a.bytes(DEC_EAX);
        a.to(JMP, shared);
    }
    a.label(shared);
    for _ in 0..length {
        a.bytes(DEC_EAX);
    }
    a.bytes(RET);
    a.finish()
}

#[test]
fn code_behind_shared_code_is_not_copied_for_everybody() {
    valid("joins", &joins_before_shared_code(20, 60), 200);
    let shard = lifted("many joins", &joins_before_shared_code(2000, 20_000), 60);
    let d = &shard.report.discovery;
    assert!(d.emitted_instructions <= 2 * d.instructions, "{} of {}", d.emitted_instructions, d.instructions);
    // Small enough to be copied, but not for so many.
    let shard = lifted("many small joins", &joins_before_shared_code(4000, 8), 200);
    let d = &shard.report.discovery;
    assert!(d.emitted_instructions <= 2 * d.instructions, "{} of {}", d.emitted_instructions, d.instructions);
}

#[test]
fn long_chains_of_calls_and_of_flags_are_followed() {
    let mut a = Assembler::default();
    for k in 0..20_000 {
        a.label(k);
        a.to(CALL, k + 1);
        a.bytes(RET);
    }
    a.label(20_000);
    a.bytes(&[0x4d, 0x89, 0xc1]);
    a.bytes(RET);
    lifted("a chain of calls", &a.finish(), 150);
    // Backwards in memory: the flags that the last block reads live through all of them.
    let n = 20_000;
    let mut a = Assembler::default();
    a.to(JMP, n);
    a.label(0);
    a.to(JE, n + 1);
    a.label(n + 1);
    a.bytes(RET);
    for k in 1..=n {
        a.label(k);
        a.bytes(&[0x89, 0xc8]);
        a.to(JMP, k - 1);
    }
    lifted("a chain of jumps", &a.finish(), 150);
}

/// One function that mentions many tables and many labels, and jumps through a register that nothing sets.
#[test]
fn tables_that_an_unresolved_jump_may_use_have_a_budget() {
    let mut code = Vec::new();
    for k in 0..20_000u32 {
        // lea rax, [rip + x]: in turn to code and to data.
        let target = if k % 2 == 0 { TEXT as u32 + 7 * k } else { elf::DATA as u32 + 0x40_0000 + 4 * k };
        code.extend([0x48, 0x8d, 0x05]);
        code.extend(target.wrapping_sub(TEXT as u32 + code.len() as u32 + 4).to_le_bytes());
    }
    code.extend([0xff, 0xe0]);
    let data = vec![0u8; 80_000];
    let file = elf::file(&[elf::Part { flags: 5, address: TEXT, bytes: &code }, elf::Part { flags: 4, address: elf::DATA + 0x40_0000, bytes: &data }]);
    let start = std::time::Instant::now();
    let shard = lift::lift(&file, BASE, "tables and labels").unwrap();
    println!("tables and labels: {:?}", start.elapsed());
    assert!(shard.resumable.len() <= 200 * code.len());
}
