//! Certificates of small assembled programs: which numbers a `syscall` can have, what is a gap, what is data, and who reaches whom.

mod elf;

use elf::{DATA, TEXT, program};
use iced_x86::code_asm::*;
use lift::certificate::Site;
use lift::{Certificate, Structured};
use std::process::Command;

const BASE: u64 = 0x1000_0000;

fn certificate(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Certificate {
    let mut a = CodeAssembler::new(64).unwrap();
    write(&mut a).unwrap();
    let code = a.assemble(TEXT).unwrap();
    lift::certify(&program(&code, &39u32.to_le_bytes()), BASE, "test").unwrap()
}

/// The only site of a program.
fn site(write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Site {
    let c = certificate(write);
    assert_eq!(c.sites.len(), 1, "{:?}", c.sites);
    c.sites[0].clone()
}

fn numbers(site: &Site) -> Vec<u32> {
    assert_eq!(site.unknown, None);
    site.numbers.iter().copied().collect()
}

#[test]
fn a_constant_is_proved_however_it_is_made() {
    type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: [(u32, Write); 8] = [
        (60, |a| a.mov(eax, 60)),
        (0, |a| a.xor(eax, eax)),
        (60, |a| a.push(60).and_then(|()| a.pop(rax))),
        (231, |a| a.mov(edx, 231).and_then(|()| a.mov(rax, rdx))),
        (60, |a| a.xor(eax, eax).and_then(|()| a.mov(al, 60))),
        (15, |a| a.mov(ecx, 10).and_then(|()| a.lea(eax, dword_ptr(rcx + 5)))),
        (u32::MAX, |a| a.or(rax, -1)),
        // mov eax, [rip + x], of read-only data.
        (39, |a| a.db(&[&[0x8b, 0x05][..], &((DATA - TEXT - 6) as u32).to_le_bytes()].concat())),
    ];
    for (number, write) in cases {
        let s = site(|a| {
            write(a)?;
            a.syscall()?;
            a.hlt()
        });
        assert_eq!((numbers(&s), s.is_proved()), (vec![number], true));
    }
}

#[test]
fn paths_that_meet_make_several_numbers_possible() {
    let s = site(|a| {
        let (mut other, mut join) = (a.create_label(), a.create_label());
        a.test(edi, edi)?;
        a.je(other)?;
        a.mov(eax, 1)?;
        a.jmp(join)?;
        a.set_label(&mut other)?;
        a.mov(eax, 20)?;
        a.set_label(&mut join)?;
        a.syscall()?;
        a.ret()
    });
    assert_eq!((numbers(&s), s.is_proved()), (vec![1, 20], false));
}

#[test]
fn a_condition_without_a_branch_makes_two() {
    let s = site(|a| {
        a.mov(eax, 5)?;
        a.mov(edx, 4)?;
        a.test(edi, edi)?;
        a.cmove(eax, edx)?;
        a.syscall()?;
        a.ret()
    });
    assert_eq!(numbers(&s), [4, 5]);
}

#[test]
fn a_number_in_an_argument_comes_from_the_callers() {
    let s = site(|a| {
        let mut wrapper = a.create_label();
        a.mov(edi, 39)?;
        a.call(wrapper)?;
        a.mov(edi, 102)?;
        a.call(wrapper)?;
        a.hlt()?;
        a.set_label(&mut wrapper)?;
        a.mov(rax, rdi)?;
        a.syscall()?;
        a.ret()
    });
    assert_eq!(numbers(&s), [39, 102]);
}

#[test]
fn a_loop_that_keeps_the_number_is_still_proved() {
    let s = site(|a| {
        let mut again = a.create_label();
        a.mov(ebx, 202)?;
        a.set_label(&mut again)?;
        a.mov(eax, ebx)?;
        a.syscall()?;
        a.test(rax, rax)?;
        a.jne(again)?;
        a.ret()
    });
    assert!(s.is_proved() && numbers(&s) == [202]);
}

/// Each is one step away from a proved program; what cannot be bounded must say so.
#[test]
fn what_cannot_be_bounded_is_unknown() {
    type Write = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: [(&str, Write); 6] = [
        ("loaded from memory", |a| a.mov(eax, dword_ptr(rdi))),
        ("result of a system call", |a| a.nop()),
        ("argument of a function that anybody may call", |a| a.mov(eax, edi)),
        ("computed", |a| a.imul_2(eax, edi)),
        ("written in part", |a| a.mov(al, dil)),
        ("result of a call", |a| a.call(rdi)),
    ];
    for (why, write) in cases {
        let c = certificate(|a| {
            if why == "result of a system call" {
                a.mov(eax, 39)?;
                a.syscall()?;
            }
            write(a)?;
            a.syscall()?;
            a.ret()
        });
        let last = c.sites.last().unwrap();
        assert_eq!(last.unknown.as_ref().map(|u| u.1.as_str()), Some(why));
    }
}

#[test]
fn gaps_are_told_from_gated_code() {
    let c = certificate(|a| {
        a.vaddps(ymm0, ymm1, ymm2)?;
        a.rdrand(eax)?;
        // mov ss, edi: no gate, and no semantics.
        a.db(&[0x8e, 0xd7])?;
        a.ret()
    });
    assert_eq!((c.gap_count(), c.gated_count()), (1, 2));
    assert_eq!(c.gates.keys().collect::<Vec<_>>(), ["AVX", "RDRAND"]);
    assert_eq!(c.gaps["mov"].examples[0].0, TEXT + 4 + 3, "addresses are the file's own");
    assert_eq!(c.code_bytes() - c.lifted_bytes(), 2);
    assert_eq!(c.executable_bytes, c.reached_bytes + c.padding_bytes + c.data_bytes + c.unclaimed_bytes);
}

#[test]
fn the_parts_of_a_file_add_up_and_certify_agrees_with_lift() {
    let file = std::fs::read("/usr/bin/cat").expect("coreutils are installed");
    let alone = lift::certify(&file, BASE, "cat").unwrap();
    assert_eq!(alone.executable_bytes, alone.reached_bytes + alone.padding_bytes + alone.data_bytes + alone.unclaimed_bytes);
    assert_eq!(lift::lift(&file, BASE, "cat").unwrap().certificate, alone);
    assert_eq!(lift::lift(&file, BASE + (1 << 24), "cat").unwrap().certificate, alone, "it does not depend on the place");
}

#[test]
fn a_limit_of_the_structured_form_changes_nothing_else() {
    let file = std::fs::read("/usr/bin/cat").expect("coreutils are installed");
    let lift = |forms| lift::lift_forms(&file, BASE, "cat", forms).unwrap();
    let (all, some, none) = (lift(Structured::All), lift(Structured::UpTo(50)), lift(Structured::None));
    assert!(all.structured.len() > some.structured.len() && some.structured.len() > none.structured.len());
    assert_eq!(none.structured, lift::no_structured_functions());
    for other in [&some, &none] {
        assert!(other.resumable == all.resumable && other.certificate == all.certificate);
    }
}

#[test]
fn a_memory_barrier_on_the_stack_is_no_jump_to_elsewhere() {
    let alone = |write: fn(&mut CodeAssembler) -> Result<(), IcedError>| {
        let mut a = CodeAssembler::new(64).unwrap();
        write(&mut a).and_then(|()| a.ret()).unwrap();
        lift::lift(&program(&a.assemble(TEXT).unwrap(), &[]), BASE, "barrier").unwrap().report.resumable_only.len()
    };
    assert_eq!(alone(|a| a.lock().or(dword_ptr(rsp), 0)), 0, "what it writes is what it has read");
    assert_eq!(alone(|a| a.lock().or(dword_ptr(rsp), 1)), 1, "the return is a jump");
    assert_eq!(alone(|a| a.lock().and(dword_ptr(rsp), -1)), 0);
    assert_eq!(alone(|a| a.xchg(qword_ptr(rsp), rax)), 1);
}

/// Built with gcc: libc's `syscall` called directly, through the global offset table, and by its address.
#[test]
fn calls_of_libcs_syscall_are_sites_of_the_caller() {
    let dir = tempfile::tempdir().unwrap();
    let build = |text: &str, flag: &str| {
        let (source, out) = (dir.path().join("p.c"), dir.path().join("p"));
        std::fs::write(&source, text).unwrap();
        let made = Command::new("gcc").args(["-O2", flag, "-o"]).arg(&out).arg(&source).status();
        assert!(made.expect("gcc is installed").success());
        lift::certify(&std::fs::read(out).unwrap(), BASE, "p").unwrap()
    };
    let call = "long syscall(long, ...); int main(int c, char **v) { return syscall(c > 1 ? 186 : 39) == 0; }";
    for flag in ["-fplt", "-fno-plt"] {
        let c = build(call, flag);
        assert_eq!(c.sites.iter().map(numbers).collect::<Vec<_>>(), [[39, 186]], "{flag}");
        assert!(!c.calls.sites.is_empty());
    }
    let taken = build("long syscall(long, ...); long (*volatile p)(long, ...); int main(void) { p = syscall; return p(39) == 0; }", "-fno-plt");
    assert!(taken.sites.iter().any(|s| s.unknown.is_some()), "{:?}", taken.sites);
}
