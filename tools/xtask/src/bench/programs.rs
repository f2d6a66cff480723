//! Groups with an image and a release of their own: CPython, everyday tools, and gcc.
//!
//! Owns their programs and commands. The fact a newcomer gets wrong: openssl chooses its code by cpuid, and natively finds SHA and AVX2 instructions that a guest is never shown. What is measured is the translation, so both sides
//! get the same capabilities through openssl's own variable: those of the guest.

use super::{Bench, Group, data, figure};
use crate::process::{root, say};
use crate::setup::Binaries;
use crate::{release, rootfs};
use std::fs;
use std::path::{Path, PathBuf};

/// Of `integration-tests/programs/bench/python.py`.
const PYTHON: &[&str] = &["calls", "nbody", "fannkuch", "queens", "words", "regex", "documents", "digits", "objects", "sorting"];

/// `OPENSSL_ia32cap`: words 0 and 1 are edx and ecx of cpuid leaf 1, word 2 is ebx of leaf 7, as `loader/src/helper/cpuid.rs` presents them.
const GUEST_CAPABILITIES: &str = "OPENSSL_ia32cap=0x0098220107808111:0";

/// Name, and the command whose time counts.
const TOOLS: &[(&str, &str)] = &[
    ("xz -6 of 2 MB", "xz -6 -T1 -c /srv/text2"),
    ("gzip of 20 MB", "gzip -c /srv/text20"),
    ("sqlite3, 1 M rows", "sqlite3 :memory: < /srv/rows.sql"),
    ("sha256sum of 100 MB", "sha256sum /srv/text"),
    ("openssl sha256, like cpuid", "openssl dgst -sha256 /srv/text"),
    ("sort of 1 M lines", "sort /srv/lines"),
    ("grep over 100 MB", "grep -c 99999 /srv/text | cat"),
];
const TOOL_PROGRAMS: &[&str] = &["bash", "xz", "gzip", "sqlite3", "sha256sum", "openssl", "sort", "grep", "cat", "env", "true"];

const GCC: &[(&str, &str)] = &[("gcc -O2 of 10,000 lines", "gcc -O2 -c -o /tmp/large.o /srv/large.c"), ("gcc -O0 of 10,000 lines", "gcc -O0 -c -o /tmp/large.o /srv/large.c")];
const GCC_PROGRAMS: &[&str] =
    &["/usr/bin/bash", "/usr/bin/env", "/usr/bin/true", "/usr/bin/x86_64-linux-gnu-gcc-12", "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", "/usr/bin/x86_64-linux-gnu-as"];

/// Pure-Python programs on Debian's CPython.
pub(super) fn python(binaries: Binaries, runs: usize) -> anyhow::Result<()> {
    let image = rootfs::copy(&rootfs::debian()?, "bench-python-rootfs")?;
    for package in ["python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libexpat1", "zlib1g"] {
        rootfs::add_package(&image, package)?;
    }
    fs::create_dir_all(image.join("usr/local/bench"))?;
    fs::copy(root().join("integration-tests/programs/bench/python.py"), image.join("usr/local/bench/python.py"))?;
    let modules = "/usr/lib/python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so";
    say("building the bench release with CPython");
    let release = release::build(&binaries, "bench-python", &image, &["/usr/bin/python3.11".to_owned(), modules.to_owned()])?;
    let mut bench = Bench::new(binaries, release, runs);
    for name in PYTHON {
        let rounds = bench.alternate(&["/usr/bin/python3.11", "/usr/local/bench/python.py", name], figure)?;
        bench.row("python", name, "ns", rounds, None)?;
    }
    bench.finish()
}

/// Everyday programs on enough data to last a second.
pub(super) fn tools(binaries: Binaries, runs: usize) -> anyhow::Result<()> {
    let programs: Vec<String> = TOOL_PROGRAMS.iter().map(|p| format!("/usr/bin/{p}")).collect();
    measure(binaries, runs, "tools", &programs, None, TOOLS)
}

/// The compiler: 30 MB of text, so its release takes many minutes the first time.
pub(super) fn gcc(binaries: Binaries, runs: usize) -> anyhow::Result<()> {
    let programs: Vec<String> = GCC_PROGRAMS.iter().map(|p| (*p).to_owned()).collect();
    measure(binaries, runs, "gcc", &programs, Some(&["/usr/bin/bash", "-c", "gcc -O2 -S -o - /srv/large.c"]), GCC)
}

/// All groups of this kind, by name.
pub(super) const GROUPS: &[(&str, Group)] = &[("python", python), ("tools", tools), ("gcc", gcc)];

/// `same`: a program whose output is compared first.
fn measure(binaries: Binaries, runs: usize, group: &str, programs: &[String], same: Option<&[&str]>, commands: &[(&str, &str)]) -> anyhow::Result<()> {
    let image = image()?;
    say(&format!("building the bench release of {group}"));
    let release = release::build(&binaries, &format!("bench-{group}"), &image, programs)?;
    let mut bench = Bench::new(binaries, release, runs);
    bench.environment = vec![GUEST_CAPABILITIES];
    same.map_or(Ok(()), |program| bench.same_output(program))?;
    super::heading();
    for (name, command) in commands {
        bench.timed(group, name, command, None)?;
    }
    bench.finish()
}

fn image() -> anyhow::Result<PathBuf> {
    let image = rootfs::programs()?;
    let srv = image.join("srv");
    if !Path::new(&srv.join("large.c")).exists() {
        say("making the bench image's data");
        data::common(&srv)?;
        data::programs(&srv)?;
    }
    Ok(image)
}
