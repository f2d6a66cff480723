//! `vkernel check`: which kernel features are there, which of them are required, and what covers a missing optional one. Owns the probes.
//!
//! The fact a newcomer gets wrong: features are probed by asking the kernel, not by its version, because distributions backport; the version
//! column only says where mainline has it.

use crate::failure::Failure;
use crate::sys;
use std::io;

/// One line of the table.
pub struct Feature {
    pub name: &'static str,
    pub since: &'static str,
    pub present: bool,
    /// Empty: required. Otherwise what does its work when it is missing.
    pub covered_by: &'static str,
}

/// Asks the kernel; takes some microseconds.
pub fn features() -> Vec<Feature> {
    let row = |name, since, present, covered_by| Feature { name, since, present, covered_by };
    vec![
        row("running as root", "-", is_root(), ""),
        row("x86-64-v2 CPU", "-", ["sse4.2", "popcnt", "ssse3", "cx16"].iter().all(|f| crate::verify::has_cpu_feature(f)), ""),
        row("seccomp user notification", "5.0", has_action(libc::SECCOMP_RET_USER_NOTIF), ""),
        row("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "5.19", has_filter_flags(), ""),
        row("pidfd_getfd(2)", "5.6", answers(libc::SYS_pidfd_getfd, [u64::MAX, 0, 0]), ""),
        row("openat2(2)", "5.6", answers(libc::SYS_openat2, [u64::MAX, 0, 0]), ""),
        row("close_range(2)", "5.9", answers(libc::SYS_close_range, [9, 1, 0]), ""),
        row("overlayfs", "3.18", has_filesystem("overlay"), "--writable, which binds the image's root directory"),
        row("user namespaces", "3.8", has_user_namespaces(), ""),
        row("Landlock", "5.13", landlock_version() > 0, "the notify filter and noexec mounts"),
        row("PR_SET_MDWE", "6.3", sys::prctl(libc::PR_GET_MDWE, 0, 0).is_ok(), "the allow-list's rule against PROT_EXEC"),
        row("vm.memfd_noexec", "6.3", std::path::Path::new("/proc/sys/vm/memfd_noexec").exists(), "the notify filter; natives that enter from outside"),
        row("SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP", "6.6", at_least(6, 6), "nothing: execs cost some microseconds more"),
        row("PIDFD_THREAD", "6.9", pidfd_of_thread(), "procfs, where the thread's descriptors are"),
        row("fine-grained ctime", "6.13", at_least(6, 13), "files younger than the container are never cached"),
    ]
}

/// The table as text, aligned.
pub fn table() -> String {
    use std::fmt::Write;
    let mut text = format!("{:<40} {:<7} {:<8} {}\n", "feature", "since", "state", "if missing");
    for f in features() {
        let state = if f.present { "yes" } else { "MISSING" };
        let _ = writeln!(text, "{:<40} {:<7} {:<8} {}", f.name, f.since, state, if f.covered_by.is_empty() { "vkernel does not run" } else { f.covered_by });
    }
    text
}

/// The first required feature that is missing.
pub fn require() -> Result<(), Failure> {
    match features().into_iter().find(|f| !f.present && f.covered_by.is_empty()) {
        None => Ok(()),
        Some(f) if f.since == "-" && f.name.contains("root") => Err(Failure::new("this host", "not running as root", "use sudo")),
        Some(f) => Err(Failure::new("this host", format!("lacks {} (Linux {})", f.name, f.since), "see `vkernel check`; Linux 6.1 or newer is needed")),
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the kernel knows a syscall: with these arguments it may only fail for another reason.
fn answers(nr: i64, args: [u64; 3]) -> bool {
    // SAFETY: all arguments are invalid on purpose (bad descriptors, null pointers, an empty range): nothing is changed.
    let r = unsafe { libc::syscall(nr, args[0], args[1], args[2], 0) };
    r >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

fn has_action(action: u32) -> bool {
    // SAFETY: reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Known flags with a null program: EFAULT; unknown flags: EINVAL.
fn has_filter_flags() -> bool {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the null program is refused before anything is installed.
    let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::null::<u8>()) };
    r < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

fn landlock_version() -> i64 {
    const CREATE_RULESET_VERSION: u64 = 1;
    // SAFETY: the documented way to ask for the version.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, CREATE_RULESET_VERSION) }
}

fn pidfd_of_thread() -> bool {
    sys::pidfd_open(std::process::id(), sys::PIDFD_THREAD).is_ok()
}

fn has_filesystem(name: &str) -> bool {
    std::fs::read_to_string("/proc/filesystems").is_ok_and(|t| t.lines().any(|l| l.split_whitespace().last() == Some(name)))
}

fn has_user_namespaces() -> bool {
    std::fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|t| t.trim().parse::<u64>().is_ok_and(|n| n > 0))
}

fn at_least(major: u32, minor: u32) -> bool {
    let Ok(uname) = nix::sys::utsname::uname() else { return false };
    let release = uname.release().to_string_lossy().into_owned();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).filter_map(|p| p.parse::<u32>().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_feature_once() {
        let mut names: Vec<_> = features().iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), features().len());
        assert_eq!(table().lines().count(), names.len() + 1);
    }
}
