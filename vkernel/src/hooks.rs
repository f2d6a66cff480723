//! Hooks of a description: programs of the host that are run at fixed moments of a container's life, with its state as JSON on standard input. Owns starting
//! them. The fact a newcomer gets wrong: `startContainer` hooks would be native programs inside the container, where nothing native runs; a description that has any is
//! refused when the container is created (07, S23).

use crate::child;
use crate::failure::Failure;
use crate::oci::Log;
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Hooks, Spec};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The namespaces exist, nothing is mounted; on the host. The older name is `prestart`.
    CreateRuntime,
    /// The same moment in the container's namespaces.
    CreateContainer,
    /// The program was told to begin.
    PostStart,
    /// The container was deleted.
    PostStop,
}

/// Who a container is to its hooks.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    pub id: String,
    pub bundle: PathBuf,
}

fn at(hooks: &Hooks, moment: Moment) -> Vec<Hook> {
    let lists = match moment {
        Moment::CreateRuntime => vec![hooks.prestart(), hooks.create_runtime()],
        Moment::CreateContainer => vec![hooks.create_container()],
        Moment::PostStart => vec![hooks.poststart()],
        Moment::PostStop => vec![hooks.poststop()],
    };
    lists.into_iter().flatten().flatten().cloned().collect()
}

/// Refuses what would have to run natively inside.
pub fn check(spec: &Spec) -> Result<(), Failure> {
    match spec.hooks().as_ref().and_then(|h| h.start_container().as_ref()).and_then(|h| h.first()) {
        None => Ok(()),
        Some(hook) => Err(Failure::new(
            format!("startContainer hook {}", hook.path().display()),
            "would run natively inside the container",
            "use createContainer, or the guest's own start script",
        )),
    }
}

/// Runs the hooks of a moment before the program begins; the first that fails is the failure.
pub fn run(spec: &Spec, subject: &Subject, moment: Moment, pid: Option<Pid>) -> Result<(), Failure> {
    all(spec, subject, moment, pid).collect()
}

/// Runs all hooks of a moment after it; runtime-spec: those that fail are worth a warning each.
pub fn run_warning(spec: &Spec, subject: &Subject, moment: Moment, pid: Option<Pid>, log: &Log) {
    all(spec, subject, moment, pid).filter_map(Result::err).for_each(|failure| log.warn(&failure.to_string()));
}

fn all(spec: &Spec, subject: &Subject, moment: Moment, pid: Option<Pid>) -> impl Iterator<Item = Result<(), Failure>> {
    let status = match moment {
        Moment::CreateRuntime | Moment::CreateContainer => "creating",
        Moment::PostStart => "running",
        Moment::PostStop => "stopped",
    };
    let state = serde_json::json!({
        "ociVersion": spec.version(), "id": subject.id, "status": status, "pid": pid.map_or(0, Pid::as_raw), "bundle": subject.bundle, "annotations": spec.annotations(),
    });
    spec.hooks().iter().flat_map(|hooks| at(hooks, moment)).collect::<Vec<_>>().into_iter().map(move |hook| one(&hook, moment, state.to_string().as_bytes()))
}

/// How much of what a hook says on standard error is told.
const TOLD: usize = 4096;

fn one(hook: &Hook, moment: Moment, state: &[u8]) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    let failure = |why: String| Failure::new(format!("{moment:?} hook {}", hook.path().display()), why, "");
    let mut command = Command::new(hook.path());
    // Who outlives it may go on writing.
    command.stdout(Stdio::null()).env_clear().envs(hook.env().iter().flatten().filter_map(|e| e.split_once('=')));
    if let [name, rest @ ..] = hook.args().as_deref().unwrap_or_default() {
        command.arg0(name).args(rest);
    }
    let limit = hook.timeout().map(|seconds| Duration::from_secs(seconds.max(0) as u64));
    let ended = child::run(&mut command, state, limit).map_err(failure)?;
    let told = String::from_utf8_lossy(&ended.errors[..ended.errors.len().min(TOLD)]).trim().to_owned();
    if ended.status.success() { Ok(()) } else { Err(failure(format!("{}: {told}", ended.status))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(hook: serde_json::Value) -> Spec {
        serde_json::from_value(serde_json::json!({"ociVersion": "1.2.0", "hooks": hook})).unwrap()
    }

    fn run_one(path: &str, args: &[&str]) -> Result<(), Failure> {
        let subject = Subject { id: "c1".into(), bundle: "/b".into() };
        run(&spec(serde_json::json!({"createRuntime": [{"path": path, "args": args, "timeout": 1}]})), &subject, Moment::CreateRuntime, Some(Pid::from_raw(77)))
    }

    #[test]
    fn a_hook_reads_the_state_and_its_failure_is_told_in_its_own_words() {
        let script = "read -r s; case $s in *'\"id\":\"c1\"'*'\"pid\":77'*'\"status\":\"creating\"'*) exit 0;; esac; echo got $s >&2; exit 3";
        run_one("/bin/bash", &["hook", "-c", script]).unwrap();
        let told = run_one("/bin/sh", &["hook", "-c", "echo because >&2; exit 3"]).unwrap_err().to_string();
        assert!(told.contains("because") && told.contains('3'), "{told}");
        assert!(run_one("/bin/sleep", &["sleep", "30"]).unwrap_err().to_string().contains("did not end"));
        // More than a pipe holds, and a child that keeps the pipe.
        run_one("/bin/bash", &["hook", "-c", "head -c 200000 /dev/zero >&2; sleep 2 & exit 0"]).unwrap();
        run_one("/bin/bash", &["hook", "-c", "trap 'exit 0' TERM; kill -TERM $$; sleep 5; exit 1"]).unwrap();
    }

    #[test]
    fn hooks_that_would_run_inside_are_refused() {
        let inside = serde_json::json!({"startContainer": [{"path": "/bin/true"}]});
        assert!(check(&spec(inside)).unwrap_err().to_string().contains("natively"));
        check(&spec(serde_json::json!({"createContainer": [{"path": "/bin/true"}]}))).unwrap();
    }
}
