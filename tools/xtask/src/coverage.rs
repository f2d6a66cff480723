//! `cargo xtask coverage`: the coverage certificate of each image that has to be whole.
//!
//! Owns the list of images and the strict list of gaps, `integration-tests/suites/coverage.txt`: a line is `FILE MNEMONIC: reason`. A gap in code that an x86-64-v2 processor executes fails unless it is listed, and so does a line
//! without its gap. Refuses to own what a gap is (`lift::certificate`). The fact a newcomer gets wrong: an image here is a Debian package with all it needs, reported out of one common root filesystem; its other files are not in the figures.

use crate::process::{root, say, work};
use crate::rootfs::{self, elf_files};
use crate::{release, setup};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Image, and the packages whose files are in it. Libraries of other packages that they need come with them.
const IMAGES: &[(&str, &[&str])] = &[
    ("python3.11", &["python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib"]),
    ("perl", &["perl", "perl-base", "libperl5.36"]),
    ("git", &["git"]),
    ("sqlite3", &["sqlite3"]),
    ("curl", &["curl", "openssl", "libssl3"]),
    ("vim-tiny", &["vim-tiny"]),
    ("tools", &["gawk", "findutils", "tar", "gzip", "xz-utils", "zstd", "make"]),
    ("gcc", &["gcc-12", "cpp-12", "binutils-x86-64-linux-gnu"]),
    ("nginx", &["nginx"]),
    ("redis-server", &["redis-server", "redis-tools"]),
    ("jq", &["jq"]),
    ("ripgrep", &["ripgrep"]),
    ("busybox-static", &["busybox-static"]),
    ("gocryptfs", &["gocryptfs"]),
    ("rclone", &["rclone"]),
    ("age", &["age"]),
    ("unison", &["unison-2.52"]),
    ("shellcheck", &["shellcheck"]),
];
/// All of the base system, which has a root filesystem of its own.
const BASE: &str = "minbase";

/// Prints a line an image; what `recompiler-build report` says of each lies in `target/vkernel/coverage`.
pub(crate) fn run(wanted: &[String]) -> anyhow::Result<()> {
    let unknown: Vec<&String> = wanted.iter().filter(|w| *w != BASE && !IMAGES.iter().any(|(i, _)| i == *w)).collect();
    ensure!(unknown.is_empty(), "no such image: {unknown:?}");
    let binaries = setup::binaries()?;
    let is_wanted = |image: &str| wanted.is_empty() || wanted.iter().any(|w| w == image);
    let mut images = Vec::new();
    if is_wanted(BASE) {
        images.push((BASE, rootfs::debian()?, vec!["/usr".to_owned()]));
    }
    for (image, packages) in IMAGES.iter().filter(|(image, _)| is_wanted(image)) {
        let rootfs = rootfs::programs()?;
        let mut include = Vec::new();
        for package in *packages {
            include.extend(elf_files(&rootfs, package)?);
        }
        images.push((image, rootfs, include));
    }
    fs::create_dir_all(work().join("coverage"))?;
    say("coverage certificates");
    println!("{HEAD}");
    let mut gaps = BTreeMap::new();
    for (image, rootfs, include) in &images {
        let report = |form: &str| release::report(&binaries, rootfs, include, form);
        fs::write(work().join(format!("coverage/{image}.txt")), report("--gaps")?)?;
        let json: Value = serde_json::from_slice(&report("--json")?).with_context(|| format!("{image}: the report is not JSON"))?;
        println!("{}", line(image, &json));
        gaps.extend(gaps_of(&json));
    }
    println!("the whole reports: {}", work().join("coverage").display());
    judge(&gaps, &root().join("integration-tests/suites/coverage.txt"), wanted.is_empty())
}

const HEAD: &str = "coverage  files functions      code B    lifted B    gaps   gated  jumps  calls proved possible unknown  image";

fn line(image: &str, report: &Value) -> String {
    let t = &report["totals"];
    let n = |name: &str| t[name].as_u64().unwrap_or(0);
    let of = |name: &str| t["syscalls"][name].as_array().map_or(0, Vec::len);
    format!(
        "{:>8} {:>6} {:>9} {:>11} {:>11} {:>7} {:>7} {:>6} {:>6} {:>6} {:>8} {:>7}  {image}",
        t["coverage"].as_str().unwrap_or("?"),
        n("objects"),
        n("functions"),
        n("code_bytes"),
        n("lifted_bytes"),
        n("unlifted_instructions"),
        n("gated_instructions"),
        n("unresolved_jumps"),
        n("indirect_calls"),
        of("proved"),
        of("possible"),
        t["syscalls"]["unknown_sites"].as_u64().unwrap_or(0)
    )
}

/// `FILE MNEMONIC` → how many, and the first.
fn gaps_of(report: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for object in report["objects"].as_array().into_iter().flatten() {
        let path = object["path"].as_str().unwrap_or("?");
        for (mnemonic, gap) in object["certificate"]["gaps"].as_object().into_iter().flatten() {
            found.insert(format!("{path} {mnemonic}"), format!("{} times, e.g. {}", gap["count"], gap["examples"][0]));
        }
    }
    found
}

/// Strict: no gap that is not listed, and, when all images were reported, none listed in vain.
fn judge(gaps: &BTreeMap<String, String>, list: &Path, all: bool) -> anyhow::Result<()> {
    let text = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let listed: BTreeSet<&str> = lines.map(|l| l.split_once(": ").map(|(gap, _)| gap).with_context(|| format!("no reason: {l}"))).collect::<anyhow::Result<_>>()?;
    let new: Vec<_> = gaps.iter().filter(|(name, _)| !listed.contains(name.as_str())).collect();
    new.iter().for_each(|(name, what)| println!("GAP {name}: {what}"));
    let stale: Vec<_> = listed.iter().filter(|l| all && !gaps.contains_key(**l)).collect();
    println!("{} kinds of gaps, {} of them listed", gaps.len(), gaps.len() - new.len());
    ensure!(new.is_empty(), "{} kinds of gaps are not listed", new.len());
    ensure!(stale.is_empty(), "listed, but no gap: {stale:?}");
    Ok(())
}
