//! `cargo xtask mutants`: breaks one rule at a time in a copy of the sources and expects the tests to notice. A suite is evidence only if it can fail.
//!
//! Owns the copy and the verdicts; the mutations are in `list`. The fact a newcomer gets wrong: a mutant that does not compile proves nothing and is an error, not a success.

mod list;

use crate::process::{self, output, root, say, work};
use anyhow::{Context, bail, ensure};
use list::{MUTANTS, Mutant, Target};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// Crates whose tests are built together, as `setup::binaries` builds vkernel; every other crate's alone.
const TOGETHER: &[&str] = &["loader", "vkernel"];
/// For building and for running each. A mutant that loops is not caught: a test says what is wrong.
const SECONDS: &str = "600";

/// Every mutation still applies, in one place.
pub(crate) fn check() -> anyhow::Result<()> {
    for m in MUTANTS {
        applied(&root(), m)?;
    }
    Ok(())
}

pub(crate) fn run(filter: Option<&str>, all: bool) -> anyhow::Result<()> {
    check()?;
    let wanted: Vec<&Mutant> = MUTANTS.iter().filter(|m| filter.is_none_or(|f| m.rule.contains(f) || m.file.contains(f)) && (all || !m.target.rebuilds())).collect();
    ensure!(!wanted.is_empty(), "no mutation is named so");
    let tree = copy()?;
    say("the tests pass without a mutation");
    baseline(&tree, &wanted)?;
    say(&format!("{} mutations", wanted.len()));
    let mut survivors = Vec::new();
    for m in &wanted {
        let begun = Instant::now();
        let verdict = verdict(&tree, m)?;
        println!("{:<9} {} ({}, {} s)", if verdict { "caught" } else { "SURVIVED" }, m.rule, m.file, begun.elapsed().as_secs());
        if !verdict {
            survivors.push(m.rule);
        }
    }
    println!("{} of {} mutations caught", wanted.len() - survivors.len(), wanted.len());
    ensure!(survivors.is_empty(), "no test noticed: {}", survivors.join("; "));
    Ok(())
}

/// The file's text with the mutation.
fn applied(tree: &Path, m: &Mutant) -> anyhow::Result<String> {
    let path = tree.join(m.file);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let places = text.matches(m.from).count();
    ensure!(places == 1, "the mutation \"{}\" fits {places} places in {}: change it together with the rule", m.rule, m.file);
    Ok(text.replacen(m.from, m.to, 1))
}

/// A copy of the sources with a target directory whose dependencies are this one's, by hard link: cargo and rustc replace such files, they do not write into them.
fn copy() -> anyhow::Result<PathBuf> {
    let tree = work().join("mutants/tree");
    say("copying the sources (target/vkernel/mutants)");
    fs::create_dir_all(&tree)?;
    let script = r#"set -e
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --archive --target-directory "$1"
mkdir -p "$1/target/release"
for d in deps build; do [ -e "$1/target/release/$d" ] || cp --archive --link "target/release/$d" "$1/target/release/$d"; done
[ -e "$1/target/release/.fingerprint" ] || cp --archive target/release/.fingerprint "$1/target/release/.fingerprint"
find "$1/target/release/deps" -maxdepth 1 -name '*.d' -links +1 -exec sh -c 'for f; do cp --archive "$f" "$f.own" && mv "$f.own" "$f"; done' own {} +"#;
    process::run(Command::new("bash").current_dir(root()).args(["-c", script, "copy"]).arg(&tree))?;
    Ok(tree)
}

fn baseline(tree: &Path, wanted: &[&Mutant]) -> anyhow::Result<()> {
    let mut seen = HashSet::new();
    for m in wanted.iter().filter(|m| seen.insert((package(m), m.target, m.test))) {
        let (target, test) = (m.target, m.test);
        let out = run_tests(tree, m, false)?;
        let text = String::from_utf8_lossy(&out.stdout);
        let passed = text.lines().any(|l| l.starts_with("test ") && l.ends_with(" ... ok") || l.starts_with("blocks "));
        ensure!(out.status.success() && passed, "{target:?} {test}: red or empty without any mutation:\n{text}\n{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

/// Whether the test turned red. The file is as before afterwards.
fn verdict(tree: &Path, m: &Mutant) -> anyhow::Result<bool> {
    let path = tree.join(m.file);
    let original = fs::read(&path)?;
    fs::write(&path, applied(tree, m)?)?;
    let result = judge(tree, m);
    fs::write(&path, original)?;
    result
}

fn judge(tree: &Path, m: &Mutant) -> anyhow::Result<bool> {
    if !m.target.rebuilds() {
        let built = run_tests(tree, m, true)?;
        if !built.status.success() {
            bail!("the mutation \"{}\" does not compile:\n{}", m.rule, String::from_utf8_lossy(&built.stderr));
        }
    }
    let status = run_tests(tree, m, false)?.status;
    ensure!(status.code() != Some(TIMED_OUT), "with the mutation \"{}\" the tests did not end within {SECONDS} s", m.rule);
    Ok(!status.success())
}

/// Of `timeout`.
const TIMED_OUT: i32 = 124;

/// The crate whose file a mutation changes.
fn package(m: &Mutant) -> &'static str {
    m.file.strip_prefix("tools/").unwrap_or(m.file).split('/').next().expect("a path has a first part")
}

fn run_tests(tree: &Path, m: &Mutant, only_build: bool) -> anyhow::Result<Output> {
    let cargo = process::cargo();
    let mut c = Command::new("timeout");
    c.args(["--kill-after=10", SECONDS]).arg(cargo.get_program()).current_dir(tree);
    match m.target {
        Target::Twin => return output(c.args(["xtask", "test", m.test])),
        Target::Blocks => return output(c.args(["xtask", "suite", "blocks", "--smoke"])),
        _ => {}
    }
    let package = package(m);
    c.args(["test", "--release"]);
    let crates = if TOGETHER.contains(&package) { TOGETHER } else { &[package] };
    c.args(crates.iter().flat_map(|name| ["-p", name]));
    match m.target {
        Target::Test(name) | Target::Lift(name) => c.args(["--test", name]),
        _ => c.arg("--lib"),
    };
    if only_build { output(c.arg("--no-run")) } else { output(c.args(["--no-fail-fast", "--", m.test])) }
}
