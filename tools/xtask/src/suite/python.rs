//! `cargo xtask suite python`: CPython's own tests (Debian's libpython3.11-testsuite) on Debian's python3.11, module by module.
//!
//! Owns which modules run, and what a case is: one test method, or the exit status of a module. The fact a newcomer gets wrong: tests that skip or fail natively (no network, no OpenSSL, no GUI in this image) cost nothing
//! but time, since only what passes natively counts; a module that dies takes all its cases with it, so each has an interpreter of its own.

use super::scripted::{self, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the standard library's modules and their tests load. OpenSSL is not among them: `hashlib` then uses its own code, which is the one to test here, and `ssl` is mostly network.
const PACKAGES: &[&str] = &[
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libpython3.11-testsuite",
    "libexpat1",
    "libffi8",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "media-types",
    "zlib1g",
];
const MODULES: &str = "usr/lib/python3.11/lib-dynload";
/// Extension modules whose libraries are not in the image.
const WITHOUT_LIBRARY: &[&str] = &["_hashlib.", "_ssl.", "nis."];
const PROGRAMS: &str = "awk bash cat chmod cp cut dash date echo env false getent id ln ls mkdir mv rm sed setsid sleep timeout touch tr true tty uname wc";
/// By default: what exercises the interpreter, the standard library and the system calls, each module in a few seconds natively. Left out are modules that need a network, OpenSSL, a display, idle or lib2to3; those
/// that measure or wait (`test_time`s and timeouts), and those that take more than ten seconds: asyncio, concurrent_futures, multiprocessing, and tests that start hundreds of interpreters. `--all` runs everything.
const USUAL: &str = "MODULES";
/// After `set`.
const DRIVER: &str = r##"
export LC_ALL=C.UTF-8
cd /tmp
[ "$1" != --all ] || set -- $(python3.11 -c 'from test.libregrtest.runtest import findtests; print(*findtests())')
for module; do
    rm -rf /tmp/report.xml
    timeout --kill-after=5 200 python3.11 -m test --junit-xml /tmp/report.xml $module > /tmp/printed 2>&1 < /dev/null
    result $module "exit $?" /tmp/printed
    [ -s /tmp/report.xml ] || continue
    sed 's/<testcase /\n&/g' /tmp/report.xml | awk -v module=$module '/^<testcase / {
        split($0, quoted, "\""); name = quoted[2]; gsub(/[^!-~]/, "_", name)
        word = match($0, /<(error|failure|skipped)/) ? substr($0, RSTART + 1, RLENGTH - 1) : "ok"
        seen[name]++
        print module "/" name (seen[name] > 1 ? "#" seen[name] : "") " " word
    }'
done
"##;

pub(super) fn run(cases: &[String], all: bool) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "python-rootfs")?;
    scripted::tree(&image, "python", |_| install(&image))?;
    let mut programs = scripted::named(PROGRAMS);
    programs.push("/usr/bin/python3.11".to_owned());
    for entry in fs::read_dir(image.join(MODULES))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !WITHOUT_LIBRARY.iter().any(|w| name.starts_with(w)) {
            programs.push(format!("/{MODULES}/{name}"));
        }
    }
    let suite = Scripted::build("python", &image, &programs, DRIVER)?;
    let usual = || USUAL.split_whitespace().map(|m| format!("test_{m}")).collect();
    let chosen = match (cases.is_empty(), all) {
        (_, true) => vec!["--all".to_owned()],
        (true, false) => usual(),
        (false, false) => cases.to_vec(),
    };
    let verdict = suite.compare(&chosen, |r| r == "ok" || r == "exit 0")?;
    ensure!(!cases.is_empty() || verdict.passing > 9_000, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The interpreter, its modules and their tests, compiled to bytecode once: the guest may not write beside them.
fn install(image: &Path) -> anyhow::Result<()> {
    for package in PACKAGES {
        rootfs::add_package(image, package)?;
    }
    // Some of the tests' files are no Python on purpose: the status says nothing.
    process::output(Command::new("chroot").arg(image).args(["/usr/bin/python3.11", "-m", "compileall", "-q", "-j2", "/usr/lib/python3.11"]))?;
    Ok(())
}
