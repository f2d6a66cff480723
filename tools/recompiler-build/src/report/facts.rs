//! What a page is about: files, programs and what was left out, whether they come from an image or from a finished release.
//!
//! Owns the one shape both have. The fact a newcomer gets wrong: what is `None` is not known from this source, which is not the same as none; the page says "not known".

use policy::Digest;
use policy::manifest::{Coverage, Networking, ProgramSyscalls};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Facts {
    pub title: String,
    /// Names and values of what identifies it, in the order of the page.
    pub identity: Vec<(&'static str, String)>,
    /// In the order of paths.
    pub files: Vec<File>,
    pub omitted: Vec<Omitted>,
    pub networking: Option<Networking>,
    /// Path of a library → paths of the programs that are linked with it.
    pub sharing: Option<BTreeMap<String, BTreeSet<String>>>,
    /// Bytes of what a build made; empty if nothing was built, or it is not there.
    pub sizes: Vec<(String, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Program,
    Library,
    /// The dynamic linker, and libraries that can be started.
    Both,
    Script,
}

pub(super) struct File {
    pub path: String,
    pub kind: Kind,
    pub size: u64,
    pub digest: Digest,
    pub sha256: Option<Digest>,
    /// setuid, setgid.
    pub privileges: Vec<&'static str>,
    pub interpreter: Option<String>,
    pub coverage: Option<Coverage>,
    pub syscalls: Option<ProgramSyscalls>,
    /// What the release allows it.
    pub allowed: Option<BTreeSet<String>>,
}

pub(super) struct Omitted {
    pub path: String,
    pub digest: Digest,
    pub reason: String,
}

/// What people ask first about a program, and the calls that answer.
pub(super) const POWERS: [(&str, &[&str]); 8] = [
    ("connect", &["connect"]),
    ("listen", &["bind", "listen", "accept", "accept4"]),
    ("execute", &["execve", "execveat"]),
    ("change user", &["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset"]),
    ("mount", &["mount", "umount2", "pivot_root", "chroot", "move_mount", "fsmount", "open_tree"]),
    ("trace", &["ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"]),
    ("namespaces", &["unshare", "setns"]),
    ("kernel", &["init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf", "perf_event_open", "reboot", "swapon", "swapoff"]),
];

/// How surely a program's code can make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Can {
    No,
    /// One of several that a place may make.
    Possibly,
    Proved,
}

impl File {
    pub(super) fn is_program(&self) -> bool {
        matches!(self.kind, Kind::Program | Kind::Both) && self.syscalls.is_some()
    }

    /// Whether code that its call graph leads to makes one of these calls, and the release lets it.
    pub(super) fn can(&self, calls: &[&str]) -> Can {
        let Some(s) = &self.syscalls else { return Can::No };
        let lets = |call: &&&str| self.allowed.as_ref().is_none_or(|a| a.contains(**call));
        let made = |list: &BTreeSet<String>| calls.iter().filter(lets).any(|c| list.contains(*c));
        match () {
            () if made(&s.reachable.proved) => Can::Proved,
            () if made(&s.reachable.possible) => Can::Possibly,
            () => Can::No,
        }
    }

    /// Every call that its code can make and the release lets it make.
    pub(super) fn effective(&self) -> BTreeSet<&str> {
        let made = self.syscalls.iter().flat_map(|s| s.reachable.proved.iter().chain(&s.reachable.possible));
        made.filter(|c| self.allowed.as_ref().is_none_or(|a| a.contains(*c))).map(String::as_str).collect()
    }

    pub(super) fn unknown_sites(&self) -> u64 {
        self.syscalls.as_ref().map_or(0, |s| s.reachable.unknown_sites)
    }
}

impl Facts {
    pub(super) fn programs(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|f| f.is_program())
    }
}
