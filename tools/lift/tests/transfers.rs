//! Small programs whose control flow once led the lifter to wrong code: run in both forms, against what the processor does.

mod runner;

use lift::function::{Certainty, Terminator};
use runner::Guest;
use std::path::Path;
use std::process::Command;

/// Compiles a shared object from C or assembly.
fn built(source: &str, name: &str, flags: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (source_file, file) = (dir.path().join(name), dir.path().join("out.so"));
    std::fs::write(&source_file, source).unwrap();
    let gcc = Command::new("gcc").args(["-O2", "-nostdlib", "-o"]).arg(&file).args(flags).arg(&source_file).status().unwrap();
    assert!(gcc.success());
    std::fs::read(Path::new(&file)).unwrap()
}

fn shared(source: &str, name: &str) -> Vec<u8> {
    built(source, name, &["-shared", "-fPIC"])
}

const BASE: u64 = 0x1000_0000;

/// A shared object placed at `BASE`, and where its exported functions are.
struct Program {
    guest: Guest,
    program: lift::function::Program,
    symbols: std::collections::HashMap<String, u64>,
}

impl Program {
    fn new(bytes: &[u8]) -> Program {
        let image = lift::image::Image::parse(bytes, BASE).unwrap();
        let symbols = image.symbols.iter().map(|s| (s.name.clone(), s.address)).collect();
        Program { guest: Guest::new(bytes, BASE), program: lift::discover::discover(&image), symbols }
    }

    fn run(&mut self, function: &str, arguments: [u64; 3]) -> runner::Run {
        self.guest.both(self.symbols[function], arguments)
    }

    fn certainty(&self, function: &str) -> Option<Certainty> {
        let f = &self.program.functions[&self.symbols[function]];
        f.blocks.values().find_map(|b| if let Terminator::Switch { certainty, .. } = b.end { Some(certainty) } else { None })
    }
}

/// On one path the register of the jump comes from a table, on the other from the caller: the table alone was believed, with index 0 where none was taken.
#[test]
fn a_jump_through_a_table_on_one_path_only_goes_where_the_other_path_says() {
    let cases: String = (1..=5).map(|k| format!("c{k}: lea {}(%rdx), %eax\n ret\n", 10 * k)).collect();
    let source = format!(
        ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n cmp $3, %esi\n ja 1f\n lea tab(%rip), %rax\n mov (%rax,%rsi,8), %rdi\n1: jmp *%rdi\n .cfi_endproc\n
        .globl call\n.type call,@function\ncall: .cfi_startproc\n lea c5(%rip), %rdi\n call f\n add $1000, %eax\n ret\n .cfi_endproc\n{cases}
        .section .data.rel.ro,\"aw\"\n.balign 8\ntab: .quad c1, c2, c3, c4\n"
    );
    let mut p = Program::new(&shared(&source, "a.s"));
    assert_eq!(p.certainty("f"), Some(Certainty::Doubtful));
    for i in 0..6 {
        assert_eq!(p.run("call", [0, i, 3]).rax, 1000 + 3 + if i < 4 { 10 * (i + 1) } else { 50 });
    }
}

/// A join of several ways to one table jump, too large to be copied: the index is saved where another function loads from the table.
#[test]
fn a_table_jump_in_code_of_its_own_goes_where_the_loads_before_it_say() {
    let pad = "add $1, %ecx\n".repeat(30);
    let source = format!(
        ".text\n.globl a\n.type a,@function\na: .cfi_startproc\n cmp $3, %edi\n ja out\n lea table(%rip), %rdx\n jmp load\n .cfi_endproc\n.size a,.-a
        .globl b\n.type b,@function\nb: .cfi_startproc\n xor $1, %edi\n cmp $3, %edi\n ja out\n lea table(%rip), %rdx\n jmp load\n .cfi_endproc\n
        .globl tail\n.type tail,@function\ntail: .cfi_startproc\n {pad} jmp middle\nload: movslq (%rdx,%rdi,4), %rax\n xor %ecx, %ecx\nmiddle: {pad} add %rdx, %rax\n jmp *%rax
        c0: lea 10(%rsi,%rcx), %eax\n ret\n c1: lea 20(%rsi,%rcx), %eax\n ret\n c2: dec %esi\n mov $1, %edi\n jmp load\n c3: lea 40(%rsi,%rcx), %eax\n ret
        out: mov $-1, %eax\n ret\n .cfi_endproc\n.section .rodata\ntable: .long c0-table, c1-table, c2-table, c3-table\n"
    );
    let mut p = Program::new(&shared(&source, "a.s"));
    assert_eq!(p.program.stats.switches, 1);
    for i in 0..6u64 {
        let case = |i: u64| [Some(40), Some(50), Some(49), Some(70)].get(i as usize).copied().flatten().map_or(0xffff_ffff, |v| v + 100);
        assert_eq!(p.run("a", [i, 100, 0]).rax, case(i), "{i}");
        assert_eq!(p.run("b", [i, 100, 0]).rax, case(i ^ 1), "{i}");
    }
}

/// Of two tables that a jump may use one can be written to: it is not known, and the other was taken for the only one.
#[test]
fn a_jump_that_may_use_a_table_nobody_knows_does_not_always_use_the_other() {
    let cases: String = (1..=4).map(|k| format!("c{k}: mov ${k}, %eax\n ret\n")).collect();
    let source = format!(
        ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n cmp $1, %esi\n ja out\n lea known(%rip), %rdx\n test %edi, %edi\n je 1f\n lea unknown(%rip), %rdx\n1: movslq (%rdx,%rsi,4), %rax\n lea c1(%rip), %rdx\n add %rdx, %rax\n jmp *%rax
        {cases}out: xor %eax, %eax\n ret\n .cfi_endproc\n.section .rodata\nknown: .long c1-c1, c2-c1\n.data\nunknown: .long c3-c1, c4-c1\n"
    );
    let mut p = Program::new(&shared(&source, "a.s"));
    assert_eq!(p.certainty("f"), Some(Certainty::Doubtful));
    for (arguments, rax) in [([0, 0, 0], 1), ([0, 1, 0], 2), ([1, 0, 0], 3), ([1, 1, 0], 4), ([1, 2, 0], 0)] {
        assert_eq!(p.run("f", arguments).rax, rax, "{arguments:?}");
    }
}

/// Shared code becomes a function of its own, and begins with a branch on what was compared before the cut; behind the next cut it is still the same comparison.
#[test]
fn flags_outlive_a_cut_through_shared_code() {
    let pad = "lea 1(%rcx), %ecx\n".repeat(30);
    let source = format!(
        ".text\n.globl a\n.type a,@function\na: .cfi_startproc\n xor %ecx, %ecx\n cmp $5, %edi\n jmp shared\n .cfi_endproc\n
        .globl b\n.type b,@function\nb: .cfi_startproc\n xor %ecx, %ecx\n cmp $5, %esi\n je shared\n jmp shared\n .cfi_endproc\n
        .globl c\n.type c,@function\nc: .cfi_startproc\n xor %ecx, %ecx\n cmp $5, %edx\n jmp later\n .cfi_endproc\n
        .globl d\n.type d,@function\nd: .cfi_startproc\n shared: jo out\n {pad}later: jl less\n {pad} lea 100(%rcx), %eax\n ret\n less: lea 200(%rcx), %eax\n {pad} ret\n out: mov $-1, %eax\n ret\n .cfi_endproc\n"
    );
    let mut p = Program::new(&shared(&source, "a.s"));
    for k in 3..8u64 {
        let case = |before: u64| if k < 5 { 200 + before } else { 130 + before };
        assert_eq!(p.run("a", [k, 100, 100]).rax, case(30));
        assert_eq!(p.run("b", [100, k, 100]).rax, case(30));
        assert_eq!(p.run("c", [100, 100, k]).rax, case(0));
    }
    assert_eq!(p.run("a", [7, 0, 0]).resumed, 0, "no form was left");
}

/// A handler of SIGTRAP that returns goes on behind the breakpoint, with all registers and flags.
#[test]
fn the_guest_goes_on_behind_a_breakpoint() {
    let source = ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n mov $1000, %r10d\n test %edx, %edx\n je 1f\n mov $2000, %ecx\n jmp 2f\n1: mov $3000, %ecx\n mov $4, %r9d\n2: cmp $5, %edi\n int3\n jl less\n
        lea (%r10,%rcx), %eax\n ret\nless: int $3\n lea 7(%r10,%rcx), %eax\n ret\n .cfi_endproc\n";
    let mut p = Program::new(&shared(source, "a.s"));
    for (edi, edx) in [(4u64, 0u64), (4, 1), (5, 0), (6, 1)] {
        let run = p.run("f", [edi, 0, edx]);
        assert_eq!(run.rax, if edx == 0 { 4000 } else { 3000 } + if edi < 5 { 7 } else { 0 });
        assert_eq!(run.breakpoints, if edi < 5 { 2 } else { 1 });
    }
}

/// The processor keeps the flags over a system call, also when a signal sends the guest back to the dispatcher there.
#[test]
fn flags_outlive_a_system_call() {
    let source =
        ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n mov $39, %eax\n cmp $5, %edi\n syscall\n jl less\n mov $1, %eax\n ret\nless: mov $2, %eax\n ret\n .cfi_endproc\n";
    let mut p = Program::new(&shared(source, "a.s"));
    for edi in 3..8 {
        assert_eq!(p.run("f", [edi, 0, 0]).rax, if edi < 5 { 2 } else { 1 });
    }
}
