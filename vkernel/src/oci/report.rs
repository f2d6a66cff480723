//! `state`, `list` and `features`: what callers ask before and after. Owns the JSON of runtime-spec's state and of runc's list and features.

use crate::describe::VERSION;
use crate::state::{Entry, Status, all};
use oci_spec::runtime::LinuxSeccompAction;
use serde_json::{Value, json};
use std::path::Path;

/// The state of runtime-spec, with the members that runc adds.
pub fn state(entry: &Entry) -> Value {
    let (r, status) = (&entry.record, entry.status());
    json!({
        "ociVersion": r.spec.version(),
        "id": r.id,
        "pid": if status == Status::Stopped { 0 } else { r.init.pid },
        "status": status,
        "bundle": r.bundle,
        "rootfs": r.spec.root().as_ref().map(|root| r.bundle.join(root.path())),
        "created": r.created,
        "annotations": r.spec.annotations(),
        "owner": "",
    })
}

/// One line per container, or an array of their states.
pub fn list(root: &Path, as_json: bool, quiet: bool) -> String {
    let entries = all(root);
    if quiet {
        return entries.iter().map(|e| format!("{}\n", e.record.id)).collect();
    }
    if as_json {
        let states: Vec<Value> = entries.iter().map(state).collect();
        return format!("{}\n", Value::from(states));
    }
    let mut text = format!("{:<24} {:<10} {:<10} {:<40} CREATED\n", "ID", "PID", "STATUS", "BUNDLE");
    for e in &entries {
        let s = state(e);
        text += &format!("{:<24} {:<10} {:<10} {:<40} {}\n", e.record.id, s["pid"].to_string(), e.status().to_string(), e.record.bundle.display().to_string(), e.record.created);
    }
    text
}

/// What this runtime does, in the form of runtime-spec's features document.
pub fn features() -> Value {
    let actions = [
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActErrno,
        LinuxSeccompAction::ScmpActKill,
        LinuxSeccompAction::ScmpActKillProcess,
        LinuxSeccompAction::ScmpActKillThread,
        LinuxSeccompAction::ScmpActLog,
        LinuxSeccompAction::ScmpActTrace,
        LinuxSeccompAction::ScmpActTrap,
    ];
    let capabilities: Vec<String> = caps::all().into_iter().map(|c| c.to_string()).collect();
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "poststart", "poststop"],
        "mountOptions": ["async", "atime", "bind", "defaults", "dirsync", "noatime", "nodev", "nodiratime", "noexec", "nosuid", "private", "rbind", "relatime", "ro", "rprivate", "rw", "strictatime", "sync"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": false},
            "seccomp": {"enabled": true, "actions": actions, "archs": ["SCMP_ARCH_X86_64"]},
            "apparmor": {"enabled": false},
            "selinux": {"enabled": false},
            "intelRdt": {"enabled": false},
        },
        "annotations": {"io.vkernel.version": env!("CARGO_PKG_VERSION")},
    })
}
