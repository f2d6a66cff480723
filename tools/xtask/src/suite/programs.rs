//! `cargo xtask suite programs`: real work of many Debian programs: servers, version control, interpreters, Go, OCaml, Haskell.
//!
//! Owns the cases: functions of a shell script of ours (`integration-tests/programs/suites/programs.sh`). A case's result is its exit status and the checksum of what it printed and of the files it says. The fact a newcomer gets
//! wrong: cases print nothing that changes from run to run (dates, commits and hash seeds are fixed, ports and sockets are the container's own), so a case that is not stable is a mistake in the case.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::process;
use crate::rootfs::{self, elf_files};
use anyhow::{Context, ensure};
use std::fs;

/// What the cases and the driver execute of the base system.
const BASE: &str = "bash dash awk basename cat chmod cmp cp cut date diff dirname echo env expr find grep head id ln ls mkdir mktemp mv od rm sed seq setsid sha256sum sleep sort tail tee timeout touch tr true uniq wc xargs";
/// All ELF files of these packages.
const PACKAGES: &[&str] = &[
    "perl-base",
    "perl",
    "libperl5.36",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "git",
    "sqlite3",
    "curl",
    "openssl",
    "vim-tiny",
    "gawk",
    "tar",
    "gzip",
    "xz-utils",
    "zstd",
    "make",
    "nginx",
    "redis-server",
    "redis-tools",
    "jq",
    "ripgrep",
    "busybox-static",
    "gocryptfs",
    "rclone",
    "age",
    "unison-2.52",
    "shellcheck",
];
/// Where the cases lie below the root of the sources.
const CASES: &str = "integration-tests/programs/suites/programs.sh";

pub(super) fn run(cases: &[String], tier: &str) -> anyhow::Result<Verdict> {
    let image = rootfs::programs()?;
    process::emptied(&image.join(HOME))?;
    let mut programs = scripted::named(BASE);
    for package in PACKAGES {
        programs.extend(elf_files(&image, package)?);
    }
    let path = process::root().join(CASES);
    let driver = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let policy = process::work().join("programs-policy.json");
    fs::write(&policy, r#"{"networking":"loopback"}"#)?;
    let policy = policy.to_str().context("the checkout's path is not text")?;
    let suite = Scripted::build_with("programs", &image, &programs, &driver, &["--tier", tier, "--policy", policy])?.with_loopback();
    let verdict = suite.compare(cases, |r| r.starts_with("exit 0 "))?;
    ensure!(verdict.passing == verdict.cases, "{} cases fail natively: the set-up is wrong", verdict.cases - verdict.passing);
    Ok(verdict)
}
