//! The two seccomp programs of a container: the notify filter (libseccomp) and the allow-list (seccompiler). Owns which host syscalls a
//! worker may ever make and with which arguments; installing them is `lockdown`'s. ERRNO and KILL beat USER_NOTIF, which beats ALLOW:
//! so the allow-list must *allow* execve and execveat, or no exec would reach the supervisor.

mod lists;
mod ranges;

pub use lists::{NEVER, RUNTIME};

use crate::failure::Failure;
use libseccomp::{ScmpAction, ScmpArch, ScmpFilterContext, ScmpSyscall};
use lists::{FORBIDDEN_IOCTLS, PRCTL};
use seccompiler::{SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter, SeccompRule, TargetArch};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};
use std::os::fd::AsFd;

/// A BPF program as the kernel takes it.
pub type Program = Vec<libc::sock_filter>;

/// The allow-list is two programs, which the kernel asks both. Under the first a process can still hear that it is to begin, and install the rest, which takes that away again. It is the first that takes long to install, and that
/// is done while nobody waits for it.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    pub first: Program,
    pub rest: Program,
}

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("build seccomp filter", e, "report this as a bug")
}

/// arch ≠ x86-64: kill. x32 numbers and clone3 (its flags are behind a pointer, so no filter can see them): ENOSYS. execve, execveat: notify.
pub fn notify_program() -> Result<Program, Failure> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow).map_err(failure)?;
    filter.set_act_badarch(ScmpAction::KillProcess).map_err(failure)?;
    if !filter.is_arch_present(ScmpArch::X8664).map_err(failure)? {
        filter.add_arch(ScmpArch::X8664).map_err(failure)?;
    }
    for nr in [libc::SYS_execve, libc::SYS_execveat] {
        filter.add_rule(ScmpAction::Notify, ScmpSyscall::from(nr as i32)).map_err(failure)?;
    }
    filter.add_rule(ScmpAction::Errno(libc::ENOSYS), ScmpSyscall::from(libc::SYS_clone3 as i32)).map_err(failure)?;
    let mut program = x32_is_enosys();
    program.extend(exported(&filter)?);
    Ok(program)
}

/// What libseccomp compiled.
pub(crate) fn exported(filter: &ScmpFilterContext) -> Result<Program, Failure> {
    let mut file = std::fs::File::from(crate::sys::memfd(c"seccomp-filter").map_err(failure)?);
    filter.export_bpf(file.as_fd()).map_err(failure)?;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(failure)?;
    let instruction = |b: &[u8]| libc::sock_filter { code: u16::from_ne_bytes([b[0], b[1]]), jt: b[2], jf: b[3], k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]) };
    Ok(bytes.chunks_exact(8).map(instruction).collect())
}

/// libseccomp would kill on an x32 number (nr ≥ 0x40000000, same AUDIT_ARCH); Linux without x32 answers ENOSYS. Jumps in the rest are
/// relative, so these instructions go in front.
fn x32_is_enosys() -> Program {
    use ranges::{AUDIT_ARCH_X86_64, JEQ, JGE, LD, RET, op};
    vec![op(LD, 0, 0, 4), op(JEQ, 0, 3, AUDIT_ARCH_X86_64), op(LD, 0, 0, 0), op(JGE, 0, 1, 0x4000_0000), op(RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32)]
}

/// The container's allow-list: `guest` (numbers the manifest's lists name) plus what the runtime itself needs, minus what is never allowed,
/// with argument rules where a call is only partly harmless. Everything else: EPERM.
pub fn allow_list(guest: &BTreeSet<i64>) -> Result<AllowList, Failure> {
    let listed = allowed(guest);
    let others: Vec<i64> = lists::TOLD.iter().filter(|nr| !listed.contains(nr)).copied().collect();
    Ok(AllowList { first: allow(guest, &others)?, rest: ranges::refused(&others) })
}

fn allowed(guest: &BTreeSet<i64>) -> BTreeSet<i64> {
    guest.iter().chain(RUNTIME).filter(|nr| !NEVER.contains(nr)).copied().collect()
}

fn allow(guest: &BTreeSet<i64>, others: &[i64]) -> Result<Program, Failure> {
    let mut allowed = allowed(guest);
    allowed.extend(others);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (nr, alternatives) in argument_rules().map_err(failure)? {
        if allowed.remove(&nr) {
            rules.insert(nr, alternatives);
        }
    }
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, TargetArch::x86_64).map_err(failure)?;
    let others: seccompiler::BpfProgram = filter.try_into().map_err(failure)?;
    // Of two filters that both say ERRNO the younger one's number counts.
    let mut program = x32_is_enosys();
    program.extend(ranges::allowed(&allowed));
    program.extend(others.into_iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }));
    Ok(program)
}

type Rules = Vec<(i64, Vec<SeccompRule>)>;

fn when(conditions: &[(u8, Len, Op, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions.iter().map(|(arg, len, op, value)| SeccompCondition::new(*arg, len.clone(), op.clone(), *value));
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Alternatives that together say: of `arg`, the bits of `mask` are not `value`. And `others` hold.
fn differs(arg: u8, mask: u64, value: u64, others: &[(u8, Len, Op, u64)]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let bits = (0..32).map(|n| 1 << n).filter(|bit| mask & bit != 0);
    bits.map(|bit| when(&[others, &[(arg, Len::Dword, Op::MaskedEq(bit), !value & bit)]].concat())).collect()
}

/// Each rule is one alternative under which the call is allowed.
fn argument_rules() -> Result<Rules, seccompiler::BackendError> {
    let no_exec = |arg| when(&[(arg, Len::Dword, Op::MaskedEq(libc::PROT_EXEC as u64), 0)]);
    let mut rules: Rules = Vec::new();
    // No executable page is ever made after lock-down.
    for nr in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.push((nr, vec![no_exec(2)?]));
    }
    rules.push((libc::SYS_shmat, vec![when(&[(2, Len::Dword, Op::MaskedEq(libc::SHM_EXEC as u64), 0)])?]));
    // Threads and forks, but no namespaces.
    const NAMESPACES: u64 =
        (libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET) as u64 | 0x80;
    rules.push((libc::SYS_clone, vec![when(&[(0, Len::Qword, Op::MaskedEq(NAMESPACES), 0)])?]));
    let mut prctl = Vec::new();
    for option in PRCTL {
        prctl.push(when(&[(0, Len::Dword, Op::Eq, *option as u64)])?);
    }
    // One way only: the runtime takes dumpability back after the guest changed its credentials.
    prctl.push(when(&[(0, Len::Dword, Op::Eq, libc::PR_SET_DUMPABLE as u64), (1, Len::Qword, Op::Eq, 0)])?);
    // Where procfs finds a process's command line; it changes no mapping, and the file (`exe_fd`) only for those who may restore checkpoints.
    prctl.push(when(&[(0, Len::Dword, Op::Eq, libc::PR_SET_MM as u64), (1, Len::Qword, Op::Eq, libc::PR_SET_MM_MAP as u64)])?);
    rules.push((libc::SYS_prctl, prctl));
    rules.push((libc::SYS_arch_prctl, vec![when(&[(0, Len::Dword, Op::Eq, loader::fault::SET_GS as u64)])?]));
    let mut ioctl = Vec::new();
    for command in FORBIDDEN_IOCTLS {
        ioctl.push((1, Len::Dword, Op::Ne, *command));
    }
    rules.push((libc::SYS_ioctl, vec![when(&ioctl)?]));
    let mut socket = Vec::new();
    for family in [libc::AF_UNIX, libc::AF_INET6] {
        socket.push(when(&[(0, Len::Dword, Op::Eq, family as u64)])?);
    }
    // Of this family and the type SOCK_PACKET the kernel makes a packet socket.
    const SOCK_TYPE_MASK: u64 = 0xf;
    socket.extend(differs(1, SOCK_TYPE_MASK, syscalls::net::SOCK_PACKET, &[(0, Len::Dword, Op::Eq, libc::AF_INET as u64)])?);
    socket.push(when(&[(0, Len::Dword, Op::Eq, libc::AF_NETLINK as u64), (2, Len::Dword, Op::Eq, libc::NETLINK_ROUTE as u64)])?);
    rules.push((libc::SYS_socket, socket.clone()));
    // Files, pipes and sockets, but no devices: of the format's bits these two types have one in common that no other has alone.
    const FORMAT: u64 = (libc::S_IFMT & !(libc::S_IFBLK ^ libc::S_IFCHR)) as u64;
    rules.push((libc::SYS_mknod, differs(1, FORMAT, libc::S_IFCHR.into(), &[])?));
    rules.push((libc::SYS_mknodat, differs(2, FORMAT, libc::S_IFCHR.into(), &[])?));
    rules.push((libc::SYS_socketpair, vec![when(&[(0, Len::Dword, Op::Eq, libc::AF_UNIX as u64)])?]));
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_the_runtime_needs_is_refused_for_ever() {
        assert!(RUNTIME.iter().all(|nr| !NEVER.contains(nr)));
    }

    #[test]
    fn no_row_is_said_to_work_whose_call_is_refused_for_ever() {
        use syscalls::table::{Support, rows};
        let hosts = rows().filter(|row| matches!(row.support, Support::Pass | Support::Translate));
        let lies: Vec<&str> = hosts.filter(|row| NEVER.contains(&row.nr.into())).map(|row| row.name).collect();
        assert_eq!(lies, Vec::<&str>::new());
    }

    #[test]
    fn the_notify_filter_fits_the_kernel_and_starts_with_the_x32_check() {
        let program = notify_program().unwrap();
        assert!(program.len() > 10 && program.len() < 4096);
        assert_eq!(program[4].k & 0xffff, libc::ENOSYS as u32);
    }

    #[test]
    fn a_guest_list_cannot_bring_back_a_forbidden_call() {
        let plain = allow_list(&BTreeSet::new()).unwrap();
        let asking = allow_list(&NEVER.iter().copied().collect()).unwrap();
        assert_eq!((plain.first.len(), plain.rest.len()), (asking.first.len(), asking.rest.len()));
    }
}
