//! What a container's init does to itself before guest code runs, in this order: listener filter, no executable gain (MDWE), Landlock,
//! credentials, allow-list. Owns the order and the system calls; the filters' content is `filter`'s.
//!
//! The fact a newcomer gets wrong: the order. The allow-list denies `seccomp(2)`, so it comes last; Landlock and both filters need
//! no_new_privs; changing credentials clears PDEATHSIG and may make the process dumpable, so both are set after it.

use crate::failure::Failure;
use crate::filter::Program;
use crate::sys;
use std::os::fd::{FromRawFd, OwnedFd};

fn failure(what: &str) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |e| Failure::new(format!("lock down: {what}"), e, "see `vkernel check`")
}

/// Root inside the container keeps these and no others; none of them reaches beyond the container's user namespace.
pub const KEPT: [caps::Capability; 8] = [
    caps::Capability::CAP_CHOWN,
    caps::Capability::CAP_DAC_OVERRIDE,
    caps::Capability::CAP_FOWNER,
    caps::Capability::CAP_FSETID,
    caps::Capability::CAP_KILL,
    caps::Capability::CAP_SETGID,
    caps::Capability::CAP_SETUID,
    caps::Capability::CAP_NET_BIND_SERVICE,
];

/// Who the guest's first program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// Home directory, from the container's /etc/passwd.
    pub home: String,
}

/// Sets no_new_privs and installs the notify filter; the caller sends the listener to the supervisor and must close it.
pub fn install_notify(program: &Program) -> Result<OwnedFd, Failure> {
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(failure("no_new_privs"))?;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let fd = install(program, flags).map_err(failure("notify filter"))?;
    // SAFETY: with NEW_LISTENER the result is a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn install(program: &Program, flags: libc::c_ulong) -> std::io::Result<i64> {
    let length = u16::try_from(program.len()).map_err(|_| std::io::Error::from_raw_os_error(libc::E2BIG))?;
    let prog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `prog` points to `len` instructions; the kernel copies them.
    sys::check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) })
}

/// Memory that was writable never becomes executable (Linux ≥ 6.3; the allow-list's PROT_EXEC rule covers older kernels).
pub fn refuse_exec_gain() -> Result<(), Failure> {
    match sys::prctl(libc::PR_SET_MDWE, libc::PR_MDWE_REFUSE_EXEC_GAIN.into(), 0) {
        Err(e) if e.raw_os_error() != Some(libc::EINVAL) => Err(failure("PR_SET_MDWE")(e)),
        _ => Ok(()),
    }
}

/// Landlock: EXECUTE is handled and no rule allows it, for no file. REFER is handled and allowed everywhere: a ruleset that does not name it
/// forbids every rename and link into another directory (EXDEV). Kernels built without Landlock rely on the filters.
pub fn refuse_execute() -> Result<(), Failure> {
    use landlock::{Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr};
    let error = |e: landlock::RulesetError| Failure::new("lock down: landlock", e, "see `vkernel check`");
    let execute = AccessFs::Execute;
    debug_assert!(AccessFs::from_all(landlock::ABI::V1).contains(execute));
    let root = PathFd::new("/").map_err(|e| Failure::new("lock down: landlock", e, "check the image's root directory"))?;
    let ruleset = Ruleset::default().handle_access(execute | AccessFs::Refer).map_err(error)?.create().map_err(error)?;
    ruleset.add_rule(PathBeneath::new(root, AccessFs::Refer)).map_err(error)?.restrict_self().map_err(error)?;
    Ok(())
}

/// Becomes the guest's user with at most the `KEPT` capabilities, cannot be inspected, and dies with the supervisor.
pub fn take_credentials(who: &Credentials) -> Result<(), Failure> {
    use caps::{CapSet, CapsHashSet};
    let cap_failure = |e: caps::errors::CapsError| Failure::new("lock down: capabilities", e, "see `vkernel check`");
    let kept: CapsHashSet = KEPT.into_iter().collect();
    for cap in caps::all().into_iter().filter(|c| !kept.contains(c)) {
        // Capabilities newer than this kernel: EINVAL, and nothing to drop.
        if caps::has_cap(None, CapSet::Bounding, cap).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, cap).map_err(cap_failure)?;
        }
    }
    // SAFETY: `groups` is valid for its length; the others take plain numbers.
    unsafe {
        sys::check(libc::setgroups(who.groups.len(), who.groups.as_ptr()).into()).map_err(failure("setgroups"))?;
        sys::check(libc::setresgid(who.gid, who.gid, who.gid).into()).map_err(failure("setresgid"))?;
        sys::check(libc::setresuid(who.uid, who.uid, who.uid).into()).map_err(failure("setresuid"))?;
    }
    let own = if who.uid == 0 { kept } else { CapsHashSet::new() };
    caps::set(None, CapSet::Effective, &own).map_err(cap_failure)?;
    caps::set(None, CapSet::Permitted, &own).map_err(cap_failure)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(cap_failure)?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).map_err(failure("PR_SET_DUMPABLE"))?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map_err(failure("PR_SET_PDEATHSIG"))?;
    Ok(())
}

/// No core file may hold runtime memory.
pub fn no_core_files() -> Result<(), Failure> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit.
    sys::check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }.into()).map(drop).map_err(failure("RLIMIT_CORE"))
}

/// The last step: from here on this process and its descendants make only the calls the container's lists name.
pub fn install_allow_list(program: &Program) -> Result<(), Failure> {
    install(program, libc::SECCOMP_FILTER_FLAG_TSYNC).map(drop).map_err(failure("allow-list filter"))
}
