//! Running commands: one place that says what failed.

use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Instant;

/// The checkout's root.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("tools/xtask lies two levels below the root").to_path_buf()
}

/// Where everything made by xtask lies.
pub(crate) fn work() -> PathBuf {
    root().join("target/vkernel")
}

/// The cargo that runs us, at the checkout's root.
pub(crate) fn cargo() -> Command {
    let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.current_dir(root());
    // What cargo told us about our own package: build scripts that look at it (ring's) would run again in every other build.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            c.env_remove(name);
        }
    }
    c
}

/// Runs a command with the caller's terminal; an error names it and its status.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a command and takes its output, whatever its status.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<Output> {
    command.output().with_context(|| format!("cannot start {:?}", command.get_program()))
}

/// The same; an error names the command, its status and what it said.
pub(crate) fn successful(command: &mut Command) -> anyhow::Result<Output> {
    let out = output(command)?;
    ensure!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(out)
}

/// The command for no longer than `seconds`, and for no longer than xtask: whatever ends xtask, the kernel then kills the watch, and with the watch what it watches. `timeout` alone would go on, in a process group
/// that a terminal's Ctrl-C does not reach.
pub(crate) fn bounded(seconds: u32, command: &Command) -> Command {
    let tie = ["setpriv", "--pdeathsig", "KILL"];
    let mut c = Command::new(tie[0]);
    c.args(&tie[1..]).args(["timeout", "--kill-after=10", &seconds.to_string()]).args(tie).arg(command.get_program()).args(command.get_args());
    c
}

/// Makes a directory empty, or makes it.
pub(crate) fn emptied(dir: &Path) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// One explaining line, so that a reader of the output can follow, with the minutes and seconds since the first.
pub(crate) fn say(text: &str) {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let seconds = FIRST.get_or_init(Instant::now).elapsed().as_secs();
    println!("\n== {:02}:{:02} {text}", seconds / 60, seconds % 60);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Whether a process runs whose last argument is `word`.
    fn runs(word: &str) -> bool {
        let processes = std::fs::read_dir("/proc").expect("/proc is there").flatten();
        processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok()).any(|line| line.ends_with(format!("{word}\0").as_bytes()) && line.starts_with(b"sleep\0"))
    }

    fn wait_until(what: &str, holds: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < limit, "not within 10 s: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A shell stands in for xtask.
    #[test]
    fn a_bounded_command_does_not_outlive_a_killed_starter() {
        let seconds = format!("600.{}", std::process::id());
        let command = bounded(60, Command::new("sleep").arg(&seconds));
        let mut starter = Command::new("sh").args(["-c", "\"$@\" & wait", "starter"]).arg(command.get_program()).args(command.get_args()).spawn().expect("sh starts");
        wait_until("the command runs", || runs(&seconds));
        starter.kill().expect("it is ours");
        starter.wait().expect("it is ours");
        wait_until("the command is gone", || !runs(&seconds));
    }

    #[test]
    fn a_bounded_command_ends_when_its_time_is_over() {
        let begin = Instant::now();
        assert!(!bounded(1, Command::new("sleep").arg("50")).status().expect("setpriv starts").success());
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}
