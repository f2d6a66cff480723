//! What a container's init does to itself before guest code runs, in this order: listener filter, no executable gain (MDWE), Landlock,
//! credentials, allow-list. Owns the order and the system calls; the filters' content is `filter`'s.
//!
//! The fact a newcomer gets wrong: the order. The allow-list denies `seccomp(2)`, so it comes last; Landlock and both filters need
//! no_new_privs; changing credentials clears PDEATHSIG and may make the process dumpable, so both are set after it.

use crate::failure::Failure;
use crate::filter::Program;
use crate::sys;
use caps::{CapSet, CapsHashSet};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, PosixRlimitType, Spec};
use std::os::fd::{FromRawFd, OwnedFd};

fn failure(what: &str) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |e| Failure::new(format!("lock down: {what}"), e, "see `vkernel check`")
}

/// Who the guest's program is and what it may do; none of it reaches beyond the container's user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: Option<u32>,
    pub bounding: CapsHashSet,
    pub effective: CapsHashSet,
    pub permitted: CapsHashSet,
    pub inheritable: CapsHashSet,
    pub ambient: CapsHashSet,
}

impl Credentials {
    /// What a description says; without a word about capabilities there are none.
    pub fn of(spec: &Spec) -> Result<Self, Failure> {
        let Some(process) = spec.process() else { return Ok(Self::default()) };
        let user = process.user();
        let sets = process.capabilities().as_ref();
        let set = |one: fn(&LinuxCapabilities) -> &Option<Capabilities>| sets.map_or(Ok(CapsHashSet::new()), |s| named(one(s).iter().flatten()));
        let groups = user.additional_gids().clone().unwrap_or_default();
        Ok(Self {
            uid: user.uid(),
            gid: user.gid(),
            groups,
            umask: user.umask(),
            bounding: set(LinuxCapabilities::bounding)?,
            effective: set(LinuxCapabilities::effective)?,
            permitted: set(LinuxCapabilities::permitted)?,
            inheritable: set(LinuxCapabilities::inheritable)?,
            ambient: set(LinuxCapabilities::ambient)?,
        })
    }
}

/// As capabilities(7) spells it.
pub fn capability_name(c: &oci_spec::runtime::Capability) -> String {
    serde_json::to_value(c).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The two crates spell capabilities alike.
fn named<'a>(all: impl Iterator<Item = &'a oci_spec::runtime::Capability>) -> Result<CapsHashSet, Failure> {
    let one = |c: &oci_spec::runtime::Capability| {
        let value = capability_name(c);
        value.parse().map_err(|e| Failure::new(format!("capability {value}"), e, "see capabilities(7)"))
    };
    all.map(one).collect()
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

/// Becomes the guest's user with the capabilities it is given, cannot be inspected, and if `tied` dies with its parent.
pub fn take_credentials(who: &Credentials, tied: bool) -> Result<(), Failure> {
    let cap_failure = |e: caps::errors::CapsError| Failure::new("lock down: capabilities", e, "see `vkernel check`");
    for cap in caps::all().into_iter().filter(|c| !who.bounding.contains(c)) {
        // Capabilities newer than this kernel: EINVAL, and nothing to drop.
        if caps::has_cap(None, CapSet::Bounding, cap).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, cap).map_err(cap_failure)?;
        }
    }
    // Without it, becoming another user than root clears every set before what is given can be chosen.
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).map_err(failure("PR_SET_KEEPCAPS"))?;
    // SAFETY: `groups` is valid for its length; the others take plain numbers.
    unsafe {
        sys::check(libc::setgroups(who.groups.len(), who.groups.as_ptr()).into()).map_err(failure("setgroups"))?;
        sys::check(libc::setresgid(who.gid, who.gid, who.gid).into()).map_err(failure("setresgid"))?;
        sys::check(libc::setresuid(who.uid, who.uid, who.uid).into()).map_err(failure("setresuid"))?;
    }
    // Of what the description asks for, what the bounding set leaves.
    let within = |set: &CapsHashSet| set.intersection(&who.bounding).copied().collect::<CapsHashSet>();
    let given = within(&who.permitted);
    // What execve(2) would leave, which nobody calls here: of another user than root the ambient ones.
    let kept = |set: &CapsHashSet| -> CapsHashSet { set.iter().filter(|c| who.uid == 0 || who.ambient.contains(c) && who.inheritable.contains(c)).copied().collect() };
    let permitted = kept(&given);
    let effective: CapsHashSet = if who.uid == 0 { within(&who.effective).intersection(&permitted).copied().collect() } else { permitted.clone() };
    sys::prctl(libc::PR_SET_KEEPCAPS, 0, 0).map_err(failure("PR_SET_KEEPCAPS"))?;
    caps::set(None, CapSet::Effective, &effective).map_err(cap_failure)?;
    // Only what is permitted can become inheritable.
    caps::set(None, CapSet::Inheritable, &within(&who.inheritable)).map_err(cap_failure)?;
    caps::set(None, CapSet::Permitted, &permitted).map_err(cap_failure)?;
    for cap in within(&who.ambient).intersection(&within(&who.inheritable)).filter(|c| permitted.contains(c)) {
        caps::raise(None, CapSet::Ambient, *cap).map_err(cap_failure)?;
    }
    if let Some(umask) = who.umask {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    }
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0).map_err(failure("PR_SET_DUMPABLE"))?;
    if tied {
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0).map_err(failure("PR_SET_PDEATHSIG"))?;
        syscalls::process::tie_to_parent();
    }
    Ok(())
}

/// Limits of a description that are the host process's; those of memory are the guest's own and emulated (07, S1), and no core file is ever written.
pub fn limits(spec: &Spec) -> Result<(), Failure> {
    for limit in spec.process().iter().filter_map(|p| p.rlimits().as_ref()).flatten() {
        let Some(resource) = resource(limit.typ()) else { continue };
        let value = libc::rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
        // SAFETY: `value` is a valid rlimit.
        let set = sys::check(unsafe { libc::setrlimit(resource, &raw const value) }.into());
        set.map_err(|e| Failure::new(format!("limit {} = {}:{}", limit.typ(), limit.soft(), limit.hard()), e, "ask for at most what this host allows"))?;
    }
    Ok(())
}

/// The host's number of a limit that is applied to the host process.
pub(crate) fn resource(kind: PosixRlimitType) -> Option<libc::__rlimit_resource_t> {
    use PosixRlimitType as T;
    Some(match kind {
        T::RlimitAs | T::RlimitData | T::RlimitStack | T::RlimitCore => return None,
        T::RlimitCpu => libc::RLIMIT_CPU,
        T::RlimitFsize => libc::RLIMIT_FSIZE,
        T::RlimitRss => libc::RLIMIT_RSS,
        T::RlimitNproc => libc::RLIMIT_NPROC,
        T::RlimitNofile => libc::RLIMIT_NOFILE,
        T::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        T::RlimitLocks => libc::RLIMIT_LOCKS,
        T::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        T::RlimitNice => libc::RLIMIT_NICE,
        T::RlimitRtprio => libc::RLIMIT_RTPRIO,
        T::RlimitRttime => libc::RLIMIT_RTTIME,
    })
}

/// The guest's own view of the limits that are emulated.
pub fn emulated_limits(spec: &Spec) -> syscalls::process::Limits {
    let mut limits = syscalls::process::Limits::default();
    for limit in spec.process().iter().filter_map(|p| p.rlimits().as_ref()).flatten() {
        let both = (limit.soft(), limit.hard());
        match limit.typ() {
            PosixRlimitType::RlimitAs => limits.address_space = both,
            PosixRlimitType::RlimitData => limits.data = both,
            PosixRlimitType::RlimitStack => limits.stack = both,
            PosixRlimitType::RlimitCore => limits.core = both,
            _ => {}
        }
    }
    limits
}

/// No core file may hold runtime memory.
pub fn no_core_files() -> Result<(), Failure> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit.
    sys::check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }.into()).map(drop).map_err(failure("RLIMIT_CORE"))
}

/// The description's own profile, beside ours: it can only take more away.
pub fn install_profile(program: &Program) -> Result<(), Failure> {
    install(program, libc::SECCOMP_FILTER_FLAG_TSYNC).map(drop).map_err(failure("the description's seccomp profile"))
}

/// The last steps, one for each of its parts: from here on this process and its descendants make only the calls the container's lists name.
pub fn install_allow_list(part: &Program) -> Result<(), Failure> {
    install(part, libc::SECCOMP_FILTER_FLAG_TSYNC).map(drop).map_err(failure("allow-list filter"))
}
