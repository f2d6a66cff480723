//! Credentials, process groups, capabilities: the kernel's own, pointers translated.
//!
//! The fact a newcomer gets wrong: set*id acts on one host thread only, and that is right: the guest's C library does the rest itself.

use crate::errno::Errno;
use crate::pass::{at, at_mut, passes, quick, rows};
use crate::table::SysResult;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

passes! {
    39 "getpid" [] "" |_, _| [0; 0];
    110 "getppid" [] "" |_, _| [0; 0];
    102 "getuid" [] "" |_, _| [0; 0];
    104 "getgid" [] "" |_, _| [0; 0];
    107 "geteuid" [] "" |_, _| [0; 0];
    108 "getegid" [] "" |_, _| [0; 0];
    115 "getgroups" [Int Ptr] "" |t, a| [a[0], t.array(a[1], u64::from((a[0] as i32).max(0) as u32), 4)];
    116 "setgroups" [Int Ptr] "" |t, a| [a[0], t.array(a[1], u64::from((a[0] as i32).max(0) as u32), 4)];
    118 "getresuid" [Ptr Ptr Ptr] "" |t, a| [t.ptr(a[0], 4), t.ptr(a[1], 4), t.ptr(a[2], 4)];
    120 "getresgid" [Ptr Ptr Ptr] "" |t, a| [t.ptr(a[0], 4), t.ptr(a[1], 4), t.ptr(a[2], 4)];
    111 "getpgrp" [] "" |_, _| [0; 0];
    112 "setsid" [] "" |_, _| [0; 0];
    121 "getpgid" [Pid] "" |_, a| [a[0]];
    124 "getsid" [Pid] "" |_, a| [a[0]];
    125 "capget" [Ptr Ptr] "" |t, a| [t.ptr(a[0], 8), t.ptr(a[1], 24)];
}

rows! {
    109 "setpgid" [Pid Pid] Pass "" |t, a| if joins_as_first(a[0], a[1]) { Err(Errno::EPERM) } else { t.host(109, &[a[0], a[1]]) };
    105 "setuid" [Int] Pass "" |t, a| changed(t.host(105, &[a[0]]));
    106 "setgid" [Int] Pass "" |t, a| changed(t.host(106, &[a[0]]));
    113 "setreuid" [Int Int] Pass "" |t, a| changed(t.host(113, &[a[0], a[1]]));
    114 "setregid" [Int Int] Pass "" |t, a| changed(t.host(114, &[a[0], a[1]]));
    117 "setresuid" [Int Int Int] Pass "" |t, a| changed(t.host(117, &[a[0], a[1], a[2]]));
    119 "setresgid" [Int Int Int] Pass "" |t, a| changed(t.host(119, &[a[0], a[1], a[2]]));
    122 "setfsuid" [Int] Pass "" |t, a| { APART.store(true, Ordering::Relaxed); changed(t.host(122, &[a[0]])) };
    123 "setfsgid" [Int] Pass "" |t, a| { APART.store(true, Ordering::Relaxed); changed(t.host(123, &[a[0]])) };
    126 "capset" [Ptr Ptr] Pass "" |t, a| {
        let args = [t.ptr(a[0], 8), t.ptr(a[1], 24)];
        changed(t.host(126, &args))
    };
}

/// File system ids may be others than the effective ones: setfsuid or setfsgid was called since the last exec.
static APART: AtomicBool = AtomicBool::new(false);

/// A namespace's first process must not be a member of another's group: when that one is gone, the number is still in use, and the kernel waits for it before it lets the first process end. Nothing could end the container then
/// (seen with Linux 6.18, zap_pid_ns_processes).
fn joins_as_first(pid: u64, group: u64) -> bool {
    std::process::id() == 1 && matches!(pid as i32, 0 | 1) && !matches!(group as i32, 0 | 1)
}

/// The process that dies with its parent whatever its credentials become; 0: none.
static TIED: AtomicU32 = AtomicU32::new(0);

/// Says that the calling process must die with its parent, its supervisor. A container whose supervisor is no parent of it, as with runc's callers, has no such process.
pub fn tie_to_parent() {
    TIED.store(std::process::id(), Ordering::Relaxed);
}

pub(super) fn is_tied() -> bool {
    TIED.load(Ordering::Relaxed) == std::process::id()
}

/// In a forked child, whose number may be the tied one's once that is gone.
pub(super) fn untie() {
    TIED.store(0, Ordering::Relaxed);
}

/// What the kernel does to a process whose credentials change is undone. It may become dumpable (fs.suid_dumpable), which would open its procfs files (07, S5); and it loses its death signal: a
/// process that is tied to its supervisor must have that again, because by it everything ends when the supervisor is killed.
fn changed(result: SysResult) -> SysResult {
    if result.is_ok() {
        let _ = quick(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 0]);
        if is_tied() {
            let _ = quick(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64]);
        }
    }
    result
}

/// User and group ids, groups and capabilities of one thread.
pub(crate) struct Credentials {
    users: [u32; 3],
    groups: [u32; 3],
    further: Vec<u32>,
    /// Effective, permitted, inheritable, low words and then high ones (`struct __user_cap_data_struct`).
    capabilities: [u32; 6],
}

/// `struct __user_cap_header_struct` of version 3, for the calling thread.
const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

/// Of the calling thread. Asked for their number first: room for as many as there may be is a quarter of a megabyte, which a forked process would have to copy.
pub(crate) fn supplementary_groups() -> Vec<u32> {
    let count = quick(libc::SYS_getgroups, &[0, 0]).unwrap_or(0);
    let mut groups = vec![0u32; count as usize];
    let n = quick(libc::SYS_getgroups, &[count, at_mut(groups.as_mut_slice())]).unwrap_or(0);
    groups.truncate(n as usize);
    groups
}

impl Credentials {
    pub(crate) fn of_this_thread() -> Self {
        let mut c = Self { users: [0; 3], groups: [0; 3], further: supplementary_groups(), capabilities: [0; 6] };
        let three = |ids: &mut [u32; 3]| -> Vec<u64> { ids.iter_mut().map(|id| std::ptr::from_mut(id) as u64).collect() };
        let _ = quick(libc::SYS_getresuid, &three(&mut c.users));
        let _ = quick(libc::SYS_getresgid, &three(&mut c.groups));
        let mut header = CAPABILITY_HEADER;
        let _ = quick(libc::SYS_capget, &[at_mut(header.as_mut_slice()), at_mut(c.capabilities.as_mut_slice())]);
        c
    }

    /// Makes them the calling thread's; what it already has need not be allowed.
    pub(crate) fn take(&self) -> SysResult {
        let now = Self::of_this_thread();
        if now.further != self.further {
            quick(libc::SYS_setgroups, &[self.further.len() as u64, at(self.further.as_slice())])?;
        }
        if now.groups != self.groups {
            changed(quick(libc::SYS_setresgid, &self.groups.map(u64::from)))?;
        }
        if now.users != self.users {
            changed(quick(libc::SYS_setresuid, &self.users.map(u64::from)))?;
        }
        let mut header = CAPABILITY_HEADER;
        let same = Self::of_this_thread().capabilities == self.capabilities;
        if same { Ok(0) } else { changed(quick(libc::SYS_capset, &[at_mut(header.as_mut_slice()), at(self.capabilities.as_slice())])) }
    }
}

/// Bits of PR_GET_SECUREBITS (<linux/securebits.h>): user 0 is like others.
const SECURE_NOROOT: u64 = 1;
/// As in a system call's arguments: leaves the id as it is.
const SAME: u64 = u64::MAX;

/// What execve does to the calling thread's credentials (capabilities(7), "Transformation of capabilities during execve()"; credentials(7)), which here no kernel does: saved and file system ids become the effective ones,
/// capabilities are those of root or the ambient ones, and PR_SET_KEEPCAPS ends. For a program without set-id bits and capabilities of its own, and never more than before: so the kernel does where no_new_privs is
/// set. True: all ids are the effective ones, which makes a process dumpable. An error leaves more rights than the new program may have.
pub(super) fn transform() -> Result<bool, crate::errno::Errno> {
    let now = Credentials::of_this_thread();
    let ([uid, euid, suid], [gid, egid, sgid]) = (now.users, now.groups);
    let option = |option: i32, a: u64, b: u64| quick(libc::SYS_prctl, &[option as u64, a, b, 0, 0]);
    let root = option(libc::PR_GET_SECUREBITS, 0, 0)? & SECURE_NOROOT == 0;
    let [permitted, inheritable] = [1, 2].map(|kind| u64::from(now.capabilities[kind]) | u64::from(now.capabilities[kind + 3]) << 32);
    let those = |set: u64, holds: &dyn Fn(u64) -> bool| (0..64).filter(|c| set >> c & 1 == 1 && holds(*c)).map(|c| 1u64 << c).sum::<u64>();
    let ambient = those(permitted & inheritable, &|c| option(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as u64, c) == Ok(1));
    let bounded = || those(permitted, &|c| inheritable >> c & 1 == 1 || option(libc::PR_CAPBSET_READ, c, 0) == Ok(1));
    let new_permitted = if root && (uid == 0 || euid == 0) { bounded() } else { 0 } | ambient;
    let new_effective = if root && euid == 0 { new_permitted } else { ambient };

    let apart = APART.swap(false, Ordering::Relaxed) && (quick(libc::SYS_setfsuid, &[SAME]) != Ok(euid.into()) || quick(libc::SYS_setfsgid, &[SAME]) != Ok(egid.into()));
    if ambient != 0 && suid != euid {
        // Leaving the last id of root would take them all.
        option(libc::PR_SET_KEEPCAPS, 1, 0)?;
    }
    if sgid != egid || apart {
        changed(quick(libc::SYS_setresgid, &[SAME, u64::from(egid), u64::from(egid)]))?;
    }
    if suid != euid || apart {
        changed(quick(libc::SYS_setresuid, &[SAME, u64::from(euid), u64::from(euid)]))?;
    }
    let word = |set: u64, high: usize| (set >> (32 * high)) as u32;
    let capabilities = [0, 1].map(|high| [word(new_effective, high), word(new_permitted, high), word(inheritable, high)]).concat();
    if Credentials::of_this_thread().capabilities != capabilities.as_slice() {
        let mut header = CAPABILITY_HEADER;
        changed(quick(libc::SYS_capset, &[at_mut(header.as_mut_slice()), at(capabilities.as_slice())]))?;
    }
    for c in (0..64).filter(|c| ambient >> c & 1 == 1) {
        // Lost ones are fewer rights: no reason to die.
        let _ = option(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, c);
    }
    // A locked one cannot be ended; it concerns changes of ids that a program without root's cannot make.
    let _ = option(libc::PR_SET_KEEPCAPS, 0, 0);
    Ok(uid == euid && gid == egid && !apart)
}
