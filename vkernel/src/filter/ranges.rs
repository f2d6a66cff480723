//! A seccomp program that finds out quickly whether a call's number is among those that are allowed whatever their arguments are. Owns the search; everything else is left to the program behind it.
//!
//! The fact a newcomer gets wrong: a library's filter compares one number after the other, and the kernel runs it for every number there is when it is installed, to remember what does not depend on arguments: a millisecond
//! for each container, in which nothing else is done.

use super::Program;
use std::collections::BTreeSet;

pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// BPF_LD | BPF_W | BPF_ABS
pub(super) const LD: u16 = 0x20;
const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGE: u16 = 0x35;
pub(super) const RET: u16 = 0x06;

/// Where `struct seccomp_data` has the call's number and the processor's kind.
const NR: u32 = 0;
const ARCH: u32 = 4;

pub(super) fn op(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Ends with ALLOW if the number is one of `numbers` and the call is one of x86-64; runs off its end otherwise.
pub(super) fn allowed(numbers: &BTreeSet<i64>) -> Program {
    let numbers: BTreeSet<u32> = numbers.iter().filter_map(|nr| u32::try_from(*nr).ok()).collect();
    // Where numbers begin to be allowed, and where they end to be.
    let is_bound = |at: &u32| numbers.contains(at) != at.checked_sub(1).is_some_and(|before| numbers.contains(&before));
    let bounds: BTreeSet<u32> = numbers.iter().flat_map(|nr| [*nr, nr + 1]).filter(is_bound).collect();
    let mut search = Vec::new();
    descend(&Vec::from_iter(bounds), false, &mut search);
    let mut program = vec![op(LD, 0, 0, ARCH), op(JEQ, 1, 0, AUDIT_ARCH_X86_64), op(JA, 0, 0, search.len() as u32 + 1), op(LD, 0, 0, NR)];
    program.append(&mut search);
    // The leaves that allow nothing lead to the end.
    let end = program.len();
    for (at, instruction) in program.iter_mut().enumerate().filter(|(_, i)| i.code == JA && i.k == u32::MAX) {
        instruction.k = (end - at - 1) as u32;
    }
    program
}

/// Answers EPERM to these numbers of x86-64, and allows all others. What is no call of x86-64, or one of x32, is others' to refuse.
pub(super) fn refused(numbers: &[i64]) -> Program {
    let numbers: Vec<u32> = numbers.iter().filter_map(|nr| u32::try_from(*nr).ok()).collect();
    let count = numbers.len() as u8;
    let compare = numbers.iter().enumerate().map(|(n, nr)| op(JEQ, count - n as u8, 0, *nr));
    [op(LD, 0, 0, ARCH), op(JEQ, 1, 0, AUDIT_ARCH_X86_64), op(RET, 0, 0, libc::SECCOMP_RET_ALLOW), op(LD, 0, 0, NR)]
        .into_iter()
        .chain(compare)
        .chain([op(RET, 0, 0, libc::SECCOMP_RET_ALLOW), op(RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32)])
        .collect()
}

/// `inside`: whether numbers below the first bound are allowed.
fn descend(bounds: &[u32], inside: bool, out: &mut Program) {
    let middle = bounds.len() / 2;
    let Some(bound) = bounds.get(middle) else {
        out.push(if inside { op(RET, 0, 0, libc::SECCOMP_RET_ALLOW) } else { op(JA, 0, 0, u32::MAX) });
        return;
    };
    let mut below = Vec::new();
    descend(&bounds[..middle], inside, &mut below);
    // A conditional jump reaches 255 instructions.
    out.extend([op(JGE, 0, 1, *bound), op(JA, 0, 0, below.len() as u32)]);
    out.append(&mut below);
    descend(&bounds[middle + 1..], inside ^ middle.is_multiple_of(2), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{AllowList, NEVER, RUNTIME, allow, allow_list};

    /// What the kernel would do: the answer, and how many instructions it took; `None` for running off the end.
    fn run(program: &[libc::sock_filter], nr: u32, arch: u32, args: [u64; 6]) -> (Option<u32>, usize) {
        let mut data = [nr, arch, 0, 0].to_vec();
        data.extend(args.iter().flat_map(|a| [*a as u32, (*a >> 32) as u32]));
        let (mut at, mut a, mut steps) = (0usize, 0u32, 0);
        while let Some(i) = program.get(at) {
            steps += 1;
            at += 1;
            let jump = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LD => a = data[i.k as usize / 4],
                JA => at += i.k as usize,
                JEQ => at += jump(a == i.k),
                JGE => at += jump(a >= i.k),
                0x25 => at += jump(a > i.k),
                0x45 => at += jump(a & i.k != 0),
                0x54 => a &= i.k,
                RET => return (Some(i.k), steps),
                other => panic!("instruction {other:#x}"),
            }
        }
        (None, steps)
    }

    #[test]
    fn allows_its_numbers_and_leaves_all_others_alone() {
        for numbers in [vec![], vec![0], vec![1, 2, 3], vec![0, 1, 5, 9, 10, 400], (0..400).step_by(2).collect::<Vec<i64>>(), (0..467).collect()] {
            let program = allowed(&numbers.iter().copied().collect());
            for nr in 0..600 {
                let expected = numbers.contains(&nr.into()).then_some(libc::SECCOMP_RET_ALLOW);
                assert_eq!(run(&program, nr, AUDIT_ARCH_X86_64, [0; 6]).0, expected, "{nr} of {numbers:?}");
                assert_eq!(run(&program, nr, 0x4000_0003, [0; 6]).0, None, "i386");
            }
        }
    }

    #[test]
    fn in_two_parts_it_allows_the_same_and_meanwhile_what_is_needed_to_be_told() {
        let stricter = |a: u32, b: u32| if (a & libc::SECCOMP_RET_ACTION_FULL) as i32 <= (b & libc::SECCOMP_RET_ACTION_FULL) as i32 { a } else { b };
        for guest in [BTreeSet::new(), (0..467).collect(), BTreeSet::from([libc::SYS_recvmsg, libc::SYS_seccomp])] {
            let (whole, AllowList { first, rest }) = (allow(&guest, &[]).unwrap(), allow_list(&guest).unwrap());
            let all = (0..600).chain([0x4000_0000, 0x4000_002f]);
            for (nr, arch) in all.flat_map(|nr| [(nr, AUDIT_ARCH_X86_64), (nr, 0x4000_0003)]) {
                let answer = |program| run(program, nr, arch, [0; 6]).0.expect("an answer");
                assert_eq!(stricter(answer(&rest), answer(&first)), answer(&whole), "{nr} on {arch:#x}");
            }
            for nr in [libc::SYS_recvmsg, libc::SYS_seccomp, libc::SYS_dup2, libc::SYS_sendmsg] {
                assert_eq!(run(&first, nr as u32, AUDIT_ARCH_X86_64, [0; 6]).0, Some(libc::SECCOMP_RET_ALLOW), "{nr}");
            }
            assert_eq!(run(&rest, libc::SYS_seccomp as u32, AUDIT_ARCH_X86_64, [0; 6]).0, Some(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
        }
    }

    #[test]
    fn the_whole_filter_allows_what_it_names_refuses_the_rest_and_is_quick() {
        let guest: BTreeSet<i64> = (0..467).collect();
        let program = allow(&guest, &[]).unwrap();
        let answer = |nr: i64, args| run(&program, nr as u32, AUDIT_ARCH_X86_64, args);
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        for nr in NEVER {
            assert_eq!(answer(*nr, [0; 6]).0, Some(refused), "{nr}");
        }
        assert_eq!(answer(1000, [0; 6]).0, Some(refused));
        assert_eq!(answer(libc::SYS_mmap, [0, 4096, libc::PROT_EXEC as u64, 0, 0, 0]).0, Some(refused));
        assert_eq!(answer(libc::SYS_mmap, [0, 4096, libc::PROT_READ as u64, 0, 0, 0]).0, Some(libc::SECCOMP_RET_ALLOW));
        assert_eq!(answer(libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]).0, Some(refused));
        assert_eq!(run(&program, 0x4000_0000, AUDIT_ARCH_X86_64, [0; 6]).0, Some(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
        assert_eq!(run(&program, 0, 0x4000_0003, [0; 6]).0, Some(libc::SECCOMP_RET_KILL_PROCESS), "int 0x80");
        for nr in [libc::SYS_read, libc::SYS_execveat, libc::SYS_exit_group] {
            let (told, steps) = answer(nr, [0; 6]);
            assert!(told == Some(libc::SECCOMP_RET_ALLOW) && steps < 30, "{nr}: {told:?} after {steps}");
        }
        let only_the_runtimes = allow(&BTreeSet::new(), &[]).unwrap();
        assert!(RUNTIME.iter().all(|nr| run(&only_the_runtimes, *nr as u32, AUDIT_ARCH_X86_64, [0; 6]).0.is_some()));
        assert_eq!(run(&only_the_runtimes, libc::SYS_socket as u32, AUDIT_ARCH_X86_64, [libc::AF_UNIX as u64, 0, 0, 0, 0, 0]).0, Some(refused), "not even its arguments count");
    }
}
