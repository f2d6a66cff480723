//! `cargo xtask suite signatures`: what a build says of itself, read by the tools of the formats' own projects.
//!
//! Owns getting them: securesystemslib, spdx-tools and cyclonedx-python-lib from PyPI, @sigstore/verify from npm, in directories of their own. The tests are in `integration-tests/tests/{supply,sbom}.rs`, the scripts in
//! `integration-tests/verifiers`; what needs openssl alone is in `cargo xtask test`.

use crate::process::{self, say, work};
use crate::{demo, release, rootfs, setup};
use std::process::Command;

const PYTHON: &[&str] = &["securesystemslib[crypto]==1.6.0", "spdx-tools==0.8.5", "cyclonedx-python-lib[json-validation]==11.12.0"];
const NODE: &[&str] = &["@sigstore/verify@2.1.1", "@sigstore/bundle@3.1.0"];

pub(crate) fn run() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    setup::install(&["python3-venv"])?;
    if process::output(Command::new("npm").arg("--version")).map_or(true, |o| !o.status.success()) {
        setup::install(&["nodejs", "npm"])?;
    }
    let (python, node) = (work().join("tools/verifiers-python"), work().join("tools/verifiers-node"));
    if !python.join("ready").exists() {
        say("verifiers from PyPI and npm (once; kept in target/vkernel/tools)");
        process::emptied(&python)?;
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
        process::run(Command::new(python.join("bin/pip")).args(["install", "--quiet"]).args(PYTHON))?;
        process::emptied(&node)?;
        process::run(Command::new("npm").args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&node).args(NODE))?;
        std::fs::write(python.join("ready"), "")?;
    }
    say("bundles and SBOMs by other projects' tools");
    let release = release::build(&binaries, "signatures", &rootfs::debian()?, &demo::programs())?;
    let mut tests = process::cargo();
    tests.args(["test", "--release", "-p", "integration-tests", "--test", "supply", "--test", "sbom", "--", "--include-ignored"]);
    tests.env("VERIFIER_PYTHON", python.join("bin/python")).env("VERIFIER_NODE_MODULES", node.join("node_modules"));
    process::run(crate::test::told(&mut tests, &binaries, &release))
}
