//! `cargo xtask suite signatures`: what a build says of itself, read by the tools of the formats' own projects.
//!
//! Owns getting them: securesystemslib, spdx-tools and cyclonedx-python-lib from PyPI, @sigstore/verify from npm, in directories of their own, and an rpm that knows ndb, made from Debian's source, since Debian's program is built without it.
//! The tests are in `integration-tests/tests/{supply,sbom}.rs` and `tools/recompiler-build/tests/rpm.rs`, the scripts in `integration-tests/verifiers`; what needs openssl alone is in `cargo xtask test`.

use super::scripted;
use crate::process::{self, say, work};
use crate::{demo, release, rootfs, setup};
use std::process::Command;

const PYTHON: &[&str] = &["securesystemslib[crypto]==1.6.0", "spdx-tools==0.8.5", "cyclonedx-python-lib[json-validation]==11.12.0"];
const NODE: &[&str] = &["@sigstore/verify@2.1.1", "@sigstore/bundle@3.1.0"];

/// What rpm's libraries are built with.
const RPM_NEEDS: &[&str] = &[
    "autoconf",
    "automake",
    "autopoint",
    "gettext",
    "libtool",
    "libarchive-dev",
    "libbz2-dev",
    "libelf-dev",
    "libgcrypt20-dev",
    "liblua5.3-dev",
    "libmagic-dev",
    "libpopt-dev",
    "libsqlite3-dev",
];
/// They have the interface of Debian's, so its `rpm` runs with them.
const RPM: &str = "autoreconf --install --force > autoreconf.log 2>&1; \
                   LUA_CFLAGS=-I/usr/include/lua5.3 LUA_LIBS=-llua5.3 ./configure --prefix=/usr --localstatedir=/var --enable-ndb --disable-plugins --disable-nls --disable-openmp --without-selinux --without-audit > configure.log; \
                   for part in misc rpmio lib; do make --jobs 2 -C $part >> make.log 2>&1; done";

pub(crate) fn run() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    setup::install(&["python3-venv", "minisign", "signify-openbsd", "openssh-client"])?;
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
    process::run(crate::test::told(&mut tests, &binaries, &release))?;
    say("SUSE's form of rpm's database, by an rpm that knows it");
    setup::install(RPM_NEEDS)?;
    let rpm = scripted::built("rpm", ".orig.tar.xz", RPM)?;
    let libraries = std::env::join_paths(["lib/.libs", "rpmio/.libs"].map(|l| rpm.join(l)))?;
    process::run(process::cargo().args(["test", "--release", "-p", "recompiler-build", "--test", "rpm", "--", "--include-ignored"]).env("RPM_LIBRARIES", libraries))
}
