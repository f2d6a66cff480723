//! Small programs whose control flow once led the lifter to wrong code: run in both forms, against what the processor does.

mod runner;

use lift::analyse::liveness::{self, Event};
use lift::function::{Certainty, Terminator};
use lift::registers::RegSet;
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
/// Where tests put an interpreter's code.
const CODE_AT: u64 = 0x1800_0000;

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
        self.certainties(function).first().copied()
    }

    /// Of all table jumps of a function.
    fn certainties(&self, function: &str) -> Vec<Certainty> {
        let f = &self.program.functions[&self.symbols[function]];
        f.blocks.values().filter_map(|b| if let Terminator::Switch { certainty, .. } = b.end { Some(certainty) } else { None }).collect()
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

/// An interpreter of nine handlers: `f(code, table)` runs bytes below nine, byte k by handler k. What each handler does is `bodies[k]`, what comes before each jump is `next(k)`.
fn interpreter(bodies: &[&str; 9], next: impl Fn(usize) -> &'static str, others: &str, tables: &str) -> String {
    let handlers: String = bodies.iter().enumerate().map(|(k, body)| format!("h{k}: {body}\n{}\n mov (%r14,%rax,8), %rax\n jmp *%rax\n", next(k))).collect();
    format!(
        ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n mov %rdi, %r12\n lea table(%rip), %r14\n lea known(%rip), %r13\n xor %ebx, %ebx\n xor %r15d, %r15d
        mov $1000, %r9d\n mov $7, %ecx\n movzbl (%r12), %eax\n inc %r12\n cmp $8, %eax\n ja out\n mov (%r14,%rax,8), %rax\n jmp *%rax\n{handlers}
        out: mov %rbx, %rax\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n ret\n .cfi_endproc\n{others}\n.section .data.rel.ro,\"aw\"\n.balign 8\ntable: .quad h0, h1, h2, h3, h4, h5, h6, h7, h8\n{tables}"
    )
}

const COMPARED: &str = " movzbl (%r12), %eax\n inc %r12\n cmp $8, %eax\n ja out";
/// `clobber` leaves something behind in rdi, rdx and r8; `known` adds up arguments in rsi, rcx and r9.
const CALLEES: &str = ".globl clobber\n.hidden clobber\n.type clobber,@function\nclobber: .cfi_startproc\n mov $99, %edi\n mov $99, %edx\n mov $99, %r8d\n ret\n .cfi_endproc
    .globl known\n.hidden known\n.type known,@function\nknown: .cfi_startproc\n lea (%rsi,%rcx), %rax\n add %r9, %rax\n ret\n .cfi_endproc";
const CLOBBERING: &str = " call clobber\n add $5, %rbx\n mov $3, %ecx";
/// Nobody knows the target: r9, which no call overwrites, and rcx, which every handler sets, may be its arguments; those before them in the convention's order are.
const PASSING: &str = " mov $1, %edi\n mov %rbx, %rsi\n mov $2, %edx\n mov $3, %r8d\n call *%r13\n mov %rax, %rbx\n mov $11, %ecx\n mov $1000, %r9d";

/// What calls overwrite on several ways to a dispatch holds no variable behind it, whoever may be called there; what handlers set, or no call overwrites, may be an argument.
#[test]
fn an_interpreter_carries_what_may_mean_something() {
    let mut bodies = [CLOBBERING; 9];
    bodies[8] = PASSING;
    let bytes = shared(&interpreter(&bodies, |_| COMPARED, CALLEES, ""), "a.s");
    let image = lift::image::Image::parse(&bytes, BASE).unwrap();
    let program = lift::discover::discover(&image);
    let mut effects = lift::registers::Effects::default();
    let mut events = program.functions.values().map(|f| (f.entry, liveness::events(f, &mut effects))).collect();
    liveness::summarise(&program, &mut events);
    let f = image.symbols.iter().find(|s| s.name == "f").unwrap().address;
    let dispatches: Vec<RegSet> = events[&f].values().filter_map(|e| if let Some(Event::Dispatch { meaningless, .. }) = e.last() { Some(*meaningless) } else { None }).collect();
    assert_eq!(dispatches.len(), 10);
    for meaningless in dispatches {
        assert!([2, 7, 8].iter().all(|r| meaningless.has(*r)), "rdx, rdi and r8 mean nothing: {meaningless:?}");
        assert!([1, 3, 9, 12, 13, 14].iter().all(|r| !meaningless.has(*r)), "rcx, rbx, r9, r12, r13 and r14 do: {meaningless:?}");
    }
    let mut p = Program::new(&bytes);
    for (text, sum) in [(&[0, 1, 8, 2, 8, 9][..], 5 + 5 + 1003 + 5 + 1003), (&[8, 8, 7, 8, 255], 1007 + 1011 + 5 + 1003)] {
        p.guest.write(CODE_AT, text);
        let run = p.run("f", [CODE_AT, 0, 0]);
        assert_eq!((run.rax, run.resumed), (sum, 0));
    }
}

/// One of the jumps through the table looks at no index, and behind the known part of the table is one more address. There every register is what it was, although all jumps share one table branch.
#[test]
fn an_interpreter_leaves_with_every_register_from_an_open_table() {
    let mut bodies = [CLOBBERING; 9];
    bodies[8] = PASSING;
    bodies[3] = " mov $100, %ecx\n mov $200, %edx\n mov $300, %edi\n mov $400, %r8d\n mov $500, %r10d\n mov $600, %esi";
    let sums =
        "lea (%rcx,%rdx), %rax\n add %rdi, %rax\n add %r8, %rax\n add %r10, %rax\n add %rsi, %rax\n add %rbx, %rax\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n ret";
    let others = format!("{CALLEES}\n.globl beyond\n.hidden beyond\n.type beyond,@function\nbeyond: .cfi_startproc\n {sums}\n .cfi_endproc");
    let next = |k| if k == 3 { " movzbl (%r12), %eax\n inc %r12" } else { COMPARED };
    let bytes = shared(&interpreter(&bodies, next, &others, ".quad beyond"), "a.s");
    let mut p = Program::new(&bytes);
    let certain: Vec<Certainty> = p.certainties("f");
    assert_eq!((certain.iter().filter(|c| **c == Certainty::Whole).count(), certain.iter().filter(|c| **c == Certainty::Open).count()), (9, 1));
    p.guest.write(CODE_AT, &[0, 1, 3, 9]);
    let run = p.run("f", [CODE_AT, 0, 0]);
    assert_eq!(run.rax, 5 + 5 + 2100);
    p.guest.write(CODE_AT, &[0, 3, 8, 9]);
    assert_eq!(p.run("f", [CODE_AT, 0, 0]).rax, 5 + 100 + 1000);
}

/// A byte read again is a byte, however many handlers there are to walk back through, and whatever it was compared with before.
#[test]
fn the_index_of_a_table_jump_is_no_wider_than_a_byte() {
    let source = ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n lea table(%rip), %rdx\n cmpw $1000, (%rdi)\n ja out\n movzwl (%rdi), %eax\n movzbl %al, %eax\n mov (%rdx,%rax,8), %rax\n jmp *%rax
        a: mov $1, %eax\n ret\nb: mov $2, %eax\n ret\nout: mov $-1, %eax\n ret\n .cfi_endproc\n.section .data.rel.ro,\"aw\"\n.balign 8\ntable: .rept 128\n.quad a, b\n.endr\n";
    let p = Program::new(&shared(source, "a.s"));
    assert_eq!(p.certainty("f"), Some(Certainty::Whole));
}

/// strcpy keeps what it will return in rax while it jumps through a table, which none of its ways reads.
#[test]
fn what_is_returned_outlives_a_dispatch() {
    let handlers: String = (0..9)
        .map(|k| format!("h{k}: add ${k}, %rsi\n inc %rdi\n movzbl (%rdi), %ecx\n cmp $9, %ecx\n ja out\n movslq (%r11,%rcx,4), %rcx\n add %r11, %rcx\n jmp *%rcx\n"))
        .collect();
    let source = format!(
        ".text\n.globl f\n.type f,@function\nf: .cfi_startproc\n mov %rsi, %rax\n lea table(%rip), %r11\n movzbl (%rdi), %ecx\n cmp $9, %ecx\n ja out\n movslq (%r11,%rcx,4), %rcx\n add %r11, %rcx\n jmp *%rcx
        {handlers}h9: mov %rsi, (%rdi)\nout: ret\n .cfi_endproc\n.section .rodata\n.balign 4\ntable: .long h0-table, h1-table, h2-table, h3-table, h4-table, h5-table, h6-table, h7-table, h8-table, h9-table\n"
    );
    let mut p = Program::new(&shared(&source, "a.s"));
    for code in [&[0, 1, 8, 9][..], &[9], &[10], &[4, 4, 4, 200]] {
        p.guest.write(CODE_AT, code);
        let run = p.run("f", [CODE_AT, 77, 0]);
        assert_eq!((run.rax, run.resumed), (77, 0), "{code:?}");
    }
}
