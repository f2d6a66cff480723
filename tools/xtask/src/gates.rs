//! What a change must pass before its tests are worth running: format, lints, licences and sources of dependencies.
//!
//! Owns how these tools are started; what they demand is in `rustfmt.toml`, `clippy.toml`, `deny.toml` and the workspace's `[lints]`. The fact a newcomer gets wrong:
//! clippy reads the dependencies' metadata in the release profile too; another profile would build the compiler stack's build scripts a second time.

use crate::process::{self, root, say, work};
use anyhow::Context;
use std::path::PathBuf;
use std::process::Command;

/// rustfmt changes nothing.
pub(crate) fn format() -> anyhow::Result<()> {
    say("format");
    for workspace in ["", "fuzz"] {
        process::run(process::cargo().current_dir(root().join(workspace)).args(["fmt", "--check"]))
            .with_context(|| format!("run `cargo fmt` in {}", root().join(workspace).display()))?;
    }
    Ok(())
}

/// Clippy and rustc have nothing to say about our crates. Measured on 2 cores: 60 s when the dependencies were never checked, 13 s after a change, 1 s after none.
pub(crate) fn lint() -> anyhow::Result<()> {
    say("lints");
    let mut clippy = process::cargo();
    clippy.args(["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"]);
    process::run(&mut clippy).context("lints: every finding is fixed, or expected with a reason")
}

/// Licences, bans and sources. Advisories are left out: their database is a git repository, which cannot be fetched everywhere.
pub(crate) fn deny() -> anyhow::Result<()> {
    let tool = cargo_deny()?;
    say("licences, bans and sources of dependencies");
    let mut deny = Command::new(tool);
    deny.current_dir(root()).args(["--offline", "--all-features", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    process::run(&mut deny).context("a new dependency needs an entry with a reason in deny.toml")
}

/// `cargo-deny`, built once (four minutes) into the target directory.
fn cargo_deny() -> anyhow::Result<PathBuf> {
    let tools = work().join("tools");
    let tool = tools.join("bin/cargo-deny");
    if !tool.exists() {
        say("building cargo-deny (once; kept in target/vkernel/tools)");
        process::run(
            process::cargo().args(["install", "--locked", "--quiet", "cargo-deny", "--version", "0.20.2", "--root"]).arg(&tools).arg("--target-dir").arg(tools.join("build")),
        )?;
    }
    Ok(tool)
}
