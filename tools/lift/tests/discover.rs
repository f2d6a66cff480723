//! Discovery: small assembled programs with a known shape, and Debian's files checked for what must hold of any program.

mod elf;

use elf::{DATA, TEXT, each_debian_file, program};
use iced_x86::code_asm::*;
use iced_x86::{FlowControl, Instruction, OpKind};
use lift::discover::discover;
use lift::function::{Function, Program, SwitchIndex, Terminator};
use lift::image::Image;
use std::collections::HashSet;
use std::process::Command;

const BASE: u64 = 0x1000_0000;

fn assembled(data: &[u8], write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> (Program, Vec<u8>) {
    let mut a = CodeAssembler::new(64).unwrap();
    write(&mut a).unwrap();
    let code = a.assemble(TEXT).unwrap();
    let image = Image::parse(&program(&code, data), BASE).unwrap();
    (discover(&image), code)
}

fn main_of(program: &Program) -> &Function {
    &program.functions[&(BASE + TEXT)]
}

fn offsets(table_base: u64, targets: &[u64]) -> Vec<u8> {
    targets.iter().flat_map(|t| ((TEXT + t).wrapping_sub(table_base) as u32).to_le_bytes()).collect()
}

/// `lea rdx, [rip + x]` that gives `DATA`, placed at `offset`.
fn lea_rdx(offset: u64) -> Vec<u8> {
    let distance = (DATA - (TEXT + offset + 7)) as u32;
    [&[0x48, 0x8d, 0x15][..], &distance.to_le_bytes()].concat()
}

fn only_switch(function: &Function) -> (SwitchIndex, Vec<u64>) {
    let mut found = function.blocks.values().filter_map(|b| match &b.end {
        Terminator::Switch { index, targets, .. } => Some((index.clone(), targets.iter().map(|t| t - BASE - TEXT).collect())),
        _ => None,
    });
    found.next().expect("a switch")
}

/// What LLVM makes of a `match` over few of many values: no branch says how long the table is.
#[test]
fn a_conditional_move_bounds_the_index_of_a_table() {
    // A fifth entry would be code, too.
    let data = offsets(DATA, &[0x1b, 0x1e, 0x21, 0x24, 0x1c]);
    let (program, _) = assembled(&data, |a| {
        a.mov(eax, 3)?;
        a.cmp(edi, 3)?;
        a.cmovae(edi, eax)?;
        a.db(&lea_rdx(11))?;
        a.movsxd(rax, dword_ptr(rdx + rdi * 4))?;
        a.add(rax, rdx)?;
        a.jmp(rax)?;
        for case in 1..=4 {
            a.mov(al, case)?;
            a.ret()?;
        }
        Ok(())
    });
    assert_eq!(only_switch(main_of(&program)).1, [0x1b, 0x1e, 0x21, 0x24]);
}

/// `cmp edi, 2; ja default; lea rdx, [table]; movsxd rax, [rdx + rdi*4]; add rax, rdx; jmp rax`, then cases of 3 bytes (`mov al, n; ret`).
fn relative_switch(bound: i32, entries: &[u64]) -> Program {
    let data = offsets(DATA, entries);
    let (program, _) = assembled(&data, |a| {
        let mut default = a.create_label();
        a.cmp(edi, bound)?;
        a.ja(default)?;
        a.mov(edi, edi)?;
        a.db(&lea_rdx(7))?;
        a.movsxd(rax, dword_ptr(rdx + rdi * 4))?;
        a.add(rax, rdx)?;
        a.db(&[0x3e])?;
        a.jmp(rax)?;
        // 0x18
        a.mov(al, 1)?;
        a.ret()?;
        a.mov(al, 2)?;
        a.ret()?;
        a.mov(al, 3)?;
        a.ret()?;
        a.set_label(&mut default)?;
        a.xor(eax, eax)?;
        a.ret()
    });
    program
}

#[test]
fn a_bounded_relative_table_has_exactly_the_targets_let_through() {
    let program = relative_switch(2, &[0x18, 0x1b, 0x1e, 0x1b, 0x1b]);
    let (index, targets) = only_switch(main_of(&program));
    assert_eq!(targets, [0x18, 0x1b, 0x1e]);
    assert!(matches!(index, SwitchIndex::SavedAtLoad(at) if at > BASE + TEXT), "{index:x?}");
    assert!(main_of(&program).unreached.is_empty());
    assert_eq!(program.stats.unresolved_indirect_jumps, 0);
}

#[test]
fn a_table_shorter_than_its_bound_is_not_believed() {
    let program = relative_switch(5, &[0x18, 0x1b, 0x1e]);
    assert!(main_of(&program).blocks.values().any(|b| b.end == Terminator::IndirectJump));
    assert!(program.stats.unresolved_indirect_jumps == 1);
    let owners = program.block_owners();
    assert!([0x18u64, 0x1b, 0x1e].iter().all(|t| owners.contains_key(&(BASE + TEXT + t))), "the cases are still lifted");
}

#[test]
fn an_absolute_table_uses_the_register_of_the_jump() {
    // Nothing relocates the words here: they hold guest addresses already.
    let data: Vec<u8> = [0x10u64, 0x13, 0x10, 0x13].iter().flat_map(|t| (BASE + TEXT + t).to_le_bytes()).collect();
    let (program, _) = assembled(&data, |a| {
        a.and(eax, 3)?;
        a.db(&lea_rdx(5))?;
        a.db(&[0x3e])?;
        a.jmp(qword_ptr(rdx + rax * 8))?;
        a.mov(al, 1)?;
        a.ret()?;
        a.mov(al, 2)?;
        a.ret()
    });
    let (index, targets) = only_switch(main_of(&program));
    assert_eq!(index, SwitchIndex::Register(iced_x86::Register::RAX));
    assert_eq!(targets, [0x10, 0x13, 0x10, 0x13]);
}

#[test]
fn blocks_are_split_where_another_jumps() {
    let (program, _) = assembled(&[], |a| {
        let mut again = a.create_label();
        a.mov(eax, 1)?;
        a.set_label(&mut again)?;
        a.dec(edi)?;
        a.jne(again)?;
        a.ret()
    });
    let main = main_of(&program);
    let starts: Vec<u64> = main.blocks.keys().map(|b| b - BASE - TEXT).collect();
    assert_eq!(starts, [0, 5, 9]);
    assert_eq!(main.blocks[&(BASE + TEXT)].end, Terminator::Jump(BASE + TEXT + 5));
    assert_eq!(main.blocks[&(BASE + TEXT + 5)].end, Terminator::Branch { taken: BASE + TEXT + 5, next: BASE + TEXT + 9 });
}

#[test]
fn a_called_function_is_an_entry_and_a_jump_to_it_a_tail_call() {
    let (program, _) = assembled(&[], |a| {
        let mut callee = a.create_label();
        a.call(callee)?;
        a.test(eax, eax)?;
        a.je(callee)?;
        a.jmp(callee)?;
        a.set_label(&mut callee)?;
        a.ret()
    });
    let callee = BASE + TEXT + 11;
    assert!(program.functions.contains_key(&callee));
    let ends: Vec<&Terminator> = main_of(&program).blocks.values().map(|b| &b.end).collect();
    assert_eq!(ends, [&Terminator::TailBranch { taken: callee, next: BASE + TEXT + 9 }, &Terminator::TailJump(callee)]);
}

#[test]
fn running_into_another_function_is_a_tail_jump_through_an_empty_block_if_need_be() {
    let (program, _) = assembled(&[], |a| {
        let mut next = a.create_label();
        let mut out = a.create_label();
        a.call(next)?;
        a.test(eax, eax)?;
        a.je(out)?;
        a.set_label(&mut next)?;
        a.nop()?;
        a.set_label(&mut out)?;
        a.ret()
    });
    let next = BASE + TEXT + 9;
    let main = main_of(&program);
    assert_eq!(main.blocks[&(BASE + TEXT)].end, Terminator::Branch { taken: BASE + TEXT + 10, next });
    let empty = &main.blocks[&next];
    assert!(empty.instructions.is_empty());
    assert_eq!(empty.end, Terminator::TailJump(next));
    assert_eq!(program.block_owners()[&next], next, "the real block serves this address");
}

#[test]
fn a_jump_past_a_lock_prefix_makes_two_overlapping_blocks() {
    let (program, _) = assembled(&[], |a| {
        // cmp byte [rip+..], 0 stands in for glibc's single-thread check; je 1f; lock; 1: inc dword [rdi]; ret
        a.test(eax, eax)?;
        a.db(&[0x74, 0x01, 0xf0, 0xff, 0x07, 0xc3])
    });
    let main = main_of(&program);
    let lengths: Vec<(u64, usize)> = main.blocks.values().map(|b| (b.start - BASE - TEXT, b.instructions[0].len())).collect();
    assert_eq!(lengths, [(0, 2), (4, 3), (5, 2), (7, 1)]);
}

#[test]
fn code_that_nothing_refers_to_is_found() {
    let (program, _) = assembled(&[], |a| {
        a.ret()?;
        a.int3()?;
        a.int3()?;
        a.nop()?;
        a.push(rbx)?;
        a.pop(rbx)?;
        a.ret()
    });
    let hidden = &program.functions[&(BASE + TEXT + 4)];
    assert!(hidden.address_taken, "nobody knows who calls it");
    assert_eq!(program.stats.leftovers, []);
}

#[test]
fn stops_at_ud2_int3_and_retf_but_not_at_syscall() {
    for (bytes, end) in [(&[0x0f, 0x0b][..], Terminator::Stop), (&[0xcc], Terminator::Stop), (&[0xcb], Terminator::Stop), (&[0x0f, 0x05, 0xc3], Terminator::Return)] {
        let (program, _) = assembled(&[], |a| a.db(bytes));
        assert_eq!(main_of(&program).blocks[&(BASE + TEXT)].end, end, "{bytes:x?}");
    }
}

fn near_target(instruction: &Instruction) -> Option<u64> {
    (instruction.op_count() == 1 && instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}

fn check_blocks(path: &str, function: &Function) {
    let mut starts: HashSet<u64> = function.blocks.keys().copied().collect();
    assert!(starts.remove(&function.entry), "{path}: {} has no entry block", function.name);
    for (&start, block) in &function.blocks {
        assert_eq!(start, block.start);
        let mut next = start;
        for instruction in &block.instructions {
            assert_eq!(instruction.ip(), next, "{path}: instructions of a block follow each other");
            assert!(next == start || !starts.contains(&next), "{path}: block {start:x} runs over block {next:x}");
            next = instruction.next_ip();
        }
        // A branch at the very end of a frame runs on through padding into the next function (__memcpy_chk); it must not stop there.
        if block.end == Terminator::Stop && !function.unreached.contains(&start) {
            assert!(!block.instructions.is_empty(), "{path}: {start:x} stops where control goes on");
        }
        for successor in block.successors() {
            assert!(function.blocks.contains_key(&successor), "{path}: {start:x} leads to {successor:x}, which is no block of {}", function.name);
        }
        if let Terminator::TailJump(target) | Terminator::TailBranch { taken: target, .. } = block.end {
            let own = function.blocks.get(&target).is_some_and(|b| !b.instructions.is_empty());
            assert!(!own, "{path}: {start:x} leaves for a block of its own function");
        }
    }
    for start in &function.unreached {
        assert!(function.blocks.contains_key(start));
    }
}

#[test]
fn every_direct_target_in_debian_files_is_a_block_start() {
    each_debian_file(|path, bytes| {
        let image = Image::parse(bytes, BASE).unwrap();
        let program = discover(&image);
        let owners = program.block_owners();
        for function in program.functions.values() {
            check_blocks(path, function);
            for instruction in function.blocks.values().flat_map(|b| &b.instructions) {
                let Some(target) = near_target(instruction) else { continue };
                assert!(owners.contains_key(&target) || !image.is_code(target), "{path}: {:x} goes to {target:x}", instruction.ip());
                if instruction.flow_control() == FlowControl::Call && image.is_code(target) {
                    assert!(program.functions.contains_key(&target), "{path}: {:x} calls {target:x}", instruction.ip());
                }
            }
        }
    });
}

#[test]
fn lazy_plt_entries_of_debian_files_are_functions() {
    let mut lazy = 0;
    each_debian_file(|path, bytes| {
        let image = Image::parse(bytes, BASE).unwrap();
        let program = discover(&image);
        for entry in &image.lazy_entries {
            let function = program.functions.get(entry).unwrap_or_else(|| panic!("{path}: {entry:x}"));
            assert!(function.is_lazy_entry(), "{path}: {function:?}");
            assert!(function.blocks.values().any(|b| b.end == Terminator::IndirectJump), "{path}: {entry:x} must jump to the resolver itself");
        }
        lazy += image.lazy_entries.len();
        // What a PLT entry jumps through is not mistaken for a lazy entry.
        assert!(program.functions.values().filter(|f| f.slot().is_some()).all(|f| !f.is_lazy_entry()), "{path}");
    });
    assert!(lazy > 100, "Debian binds lazily: {lazy}");
}

#[test]
fn all_code_of_debian_files_is_covered() {
    each_debian_file(|path, bytes| {
        let image = Image::parse(bytes, BASE).unwrap();
        let program = discover(&image);
        let stats = &program.stats;
        println!(
            "{path}: {} of {} executable bytes, {} functions, {} blocks, {} instructions, {} switches, {} unresolved, {} leftovers",
            stats.covered_bytes,
            stats.executable_bytes,
            stats.functions,
            stats.blocks,
            stats.instructions,
            stats.switches,
            stats.unresolved_indirect_jumps,
            stats.leftovers.len()
        );
        assert_eq!(stats.leftovers, [], "{path}: neither code nor padding");
        assert!(stats.emitted_instructions * 100 <= stats.instructions * 102, "{path}: too much code is copied");
        // Frames are an independent witness of where functions are.
        let owners = program.block_owners();
        for frame in &image.frames {
            assert!(owners.contains_key(&frame.start), "{path}: frame at {:x}", frame.start);
            assert!(frame.landing_pads.iter().all(|p| owners.contains_key(p)), "{path}: landing pads of {:x}", frame.start);
        }
        for symbol in image.symbols.iter().filter(|s| s.exported && s.function) {
            assert!(program.functions[&symbol.address].address_taken, "{path}: {}", symbol.name);
        }
        for target in &image.relocation_targets {
            assert!(owners.contains_key(target), "{path}: relocation to {target:x}");
        }
    });
}

#[test]
fn the_same_file_gives_the_same_program() {
    let Ok(bytes) = std::fs::read("/usr/bin/ls") else { return eprintln!("SKIPPED: no /usr/bin/ls here") };
    let print = || format!("{:?}", discover(&Image::parse(&bytes, BASE).unwrap()));
    assert_eq!(print(), print());
}

/// Builds a static program; None if this machine has no C compiler.
fn static_program(directory: &std::path::Path, flags: &[&str]) -> Option<std::path::PathBuf> {
    let (source, output) = (directory.join("a.c"), directory.join("a.out"));
    std::fs::write(&source, "#include <stdio.h>\nint main(int c, char **v) { return printf(\"%s %f\\n\", v[0], 1.0 / c); }\n").unwrap();
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&output).args(flags).arg(&source).status();
    if built.is_ok_and(|s| s.success()) {
        return Some(output);
    }
    eprintln!("SKIPPED: cc {flags:?} does not work here");
    None
}

#[test]
fn a_stripped_static_program_without_frames_keeps_all_functions_that_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let Some(path) = static_program(directory.path(), &["-static"]) else { return };
    let full = discover(&Image::parse(&std::fs::read(&path).unwrap(), 0).unwrap());
    let stripped = Command::new("objcopy").args(["--strip-all", "-R", ".eh_frame", "-R", ".eh_frame_hdr"]).arg(&path).status();
    assert!(stripped.unwrap().success());
    let image = Image::parse(&std::fs::read(&path).unwrap(), 0).unwrap();
    assert!(image.frames.is_empty() && image.symbols.is_empty());
    let bare = discover(&image);
    let owners = bare.block_owners();
    for function in full.functions.values() {
        for block in function.blocks.values() {
            for instruction in block.instructions.iter().filter(|i| i.flow_control() == FlowControl::Call) {
                // Weak functions that are not there are called at 0.
                let Some(target) = near_target(instruction).filter(|&t| image.is_code(t)) else { continue };
                assert!(bare.functions.contains_key(&target), "{:x} called from {}", target, function.name);
            }
            if let Terminator::Switch { targets, .. } = &block.end {
                assert!(targets.iter().all(|t| owners.contains_key(t)), "switch of {}", function.name);
            }
        }
    }
    assert_eq!(bare.stats.leftovers, []);
}

/// gcc moves `case 2` and `case 4` out of line, with a frame of their own; the words of the jump table hold their addresses. In an executable without relocations those words look like pointers to functions:
/// CPython's comparisons became three functions each, and every jump between them left the structured form.
#[test]
fn a_cold_part_whose_address_stands_in_a_jump_table_belongs_to_its_function() {
    let dir = tempfile::tempdir().unwrap();
    let (source, file) = (dir.path().join("cold.c"), dir.path().join("cold"));
    let cases = "case 0: return f(a, c) + g(d); case 1: return f(b, 2) - c; case 2: note(1); return g(a) + c + d; case 3: return g(b) * d;
        case 4: note(2); note(3); return f(c, d) + a * b; case 5: return f(d, c) ^ a; case 6: return g(c) | 9; default: return a + c + d;";
    let text = format!(
        "int f(int a, int b) {{ return a * 3 + b; }} int g(int a) {{ return a ^ 5; }} __attribute__((cold)) void note(int n) {{ __builtin_exit(n); }}
        int pick(int n, int a, int b) {{ int c = g(a), d = f(a, b); switch (n) {{ {cases} }} }}
        int main(int n, char **v) {{ return pick(n, n * 2, 7); }}"
    );
    std::fs::write(&source, text).unwrap();
    let gcc = Command::new("gcc").args(["-O2", "-fno-pie", "-no-pie", "-fno-inline", "-fno-ipa-cp", "-o"]).arg(&file).arg(&source).status().unwrap();
    assert!(gcc.success());
    let program = discover(&Image::parse(&std::fs::read(&file).unwrap(), 0).unwrap());
    let pick = program.functions.values().find(|f| f.name == "pick").unwrap();
    let (_, targets) = pick.blocks.values().find_map(|b| if let Terminator::Switch { index, targets, .. } = &b.end { Some((index, targets)) } else { None }).unwrap();
    let cold: Vec<&u64> = targets.iter().filter(|t| **t < pick.entry).collect();
    assert!(!cold.is_empty(), "gcc made no cold part: {targets:x?}");
    assert!(cold.iter().all(|t| !program.functions.contains_key(t) && !pick.blocks[t].instructions.is_empty()), "{cold:x?}");
}

/// Links `source` (C, or assembly if `name` says so) without a library.
fn linked(name: &str, source: &str, flags: &[&str]) -> Image {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join(name), dir.path().join("out"));
    std::fs::write(&input, source).unwrap();
    let gcc = Command::new("gcc").args(["-O2", "-nostdlib", "-o"]).arg(&output).args(flags).arg(&input).status().unwrap();
    assert!(gcc.success());
    let bytes = std::fs::read(&output).unwrap();
    Image::parse(&bytes, if bytes[16] == 2 { 0 } else { BASE }).unwrap()
}

fn address(image: &Image, name: &str) -> u64 {
    image.symbols.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no symbol {name}")).address
}

/// ld.so may find other functions of these names first, so the words of the table are not known before.
#[test]
fn a_table_of_exported_functions_is_a_switch_only_if_nobody_can_define_them_first() {
    let source = "int e0(int x) { return x + 1; } int e1(int x) { return x * 3; } int e2(int x) { return x ^ 5; }
        static int (*const tab[])(int) = { e0, e1, e2 };
        int f(unsigned i, int x) { if (i >= 3) return 0; return tab[i](x); }";
    for (flag, switches) in [("-Wl,-Bsymbolic", 1), ("-Wl,-z,now", 0)] {
        let image = linked("a.c", source, &["-shared", "-fPIC", flag]);
        let program = discover(&image);
        assert_eq!(program.stats.switches, switches, "{flag}");
        assert_eq!(program.stats.unresolved_indirect_jumps, 1 - switches, "{flag}");
        assert!(["e0", "e1", "e2"].iter().all(|e| program.functions[&address(&image, e)].address_taken));
    }
}

/// Old linkers, and gold, put constants into the segment of the code: here the only word that leads to a label.
#[test]
fn pointers_between_code_lead_to_code_too() {
    let source = ".text\n.globl _start\n_start: .cfi_startproc\n mov pointer, %rax\n jmp *%rax\n nop\n add $1, %ebx\nlabel: add $2, %ebx\n ret\n .cfi_endproc\n.section .rodata\n.balign 8\npointer: .quad label\n";
    for flag in ["-Wl,-z,noseparate-code", "-Wl,-z,separate-code"] {
        let image = linked("a.s", source, &["-static", "-no-pie", flag]);
        let pointer = image.segments.iter().find(|s| s.bytes.windows(8).any(|w| w == address(&image, "label").to_le_bytes())).unwrap();
        assert_eq!(pointer.execute, flag.ends_with("noseparate-code"), "the case that is meant");
        assert!(discover(&image).block_owners().contains_key(&address(&image, "label")), "{flag}");
    }
}

/// A function symbol says that there is a function, not that somebody calls it: callers may know it by an offset.
#[test]
fn a_function_that_no_code_refers_to_may_be_called_by_anybody() {
    let source = ".text\n.globl _start\n.type _start,@function\n_start: .cfi_startproc\n call called\n ret\n .cfi_endproc\n
        .type called,@function\ncalled: .cfi_startproc\n dec %edi\n jne called\n ret\n .cfi_endproc\n
        .type hidden,@function\nhidden: .cfi_startproc\n dec %edi\n jne hidden\n ret\n .cfi_endproc\n.section .rodata\n.long hidden - .\n";
    let image = linked("a.s", source, &["-shared", "-fPIC"]);
    let program = discover(&image);
    assert!(program.functions[&address(&image, "hidden")].address_taken);
    assert!(!program.functions[&address(&image, "called")].address_taken);
}

#[test]
fn an_exported_symbol_without_a_type_is_a_function_if_it_stands_at_code() {
    let source = ".text\n.globl _start\n.type _start,@function\n_start: xor %eax, %eax\n.globl second\nsecond: add $1, %eax\n ret\n.globl end\nend:\n .zero 64\n";
    let image = linked("a.s", source, &["-shared", "-fPIC"]);
    let program = discover(&image);
    assert!(program.functions[&address(&image, "second")].address_taken);
    assert!(!program.functions.contains_key(&address(&image, "end")));
}
