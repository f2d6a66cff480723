//! `cargo xtask mutants`: breaks one rule at a time in a copy of the sources and expects the tests to notice. A suite is evidence only if it can fail.
//!
//! Owns the copy and the verdicts; the mutations are in `list`. The fact a newcomer gets wrong: a mutant that does not compile proves nothing and is an error, not a success.

mod list;

use crate::process::{self, output, root, say, work};
use anyhow::{Context, bail, ensure};
use list::{MUTANTS, Mutant, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// All tested crates together, whatever the test: another selection would unify features differently and rebuild the compiler stack.
const CRATES: &[&str] = &["policy", "syscalls", "megabinary", "loader", "recompiler-build", "vkernel"];
/// A mutant may loop; the slowest of the tests ends in a fifth of this.
const SECONDS: &str = "300";

/// Every mutation still applies, in one place.
pub(crate) fn check() -> anyhow::Result<()> {
    for m in MUTANTS {
        applied(&root(), m)?;
    }
    Ok(())
}

pub(crate) fn run(filter: Option<&str>, all: bool) -> anyhow::Result<()> {
    check()?;
    let wanted: Vec<&Mutant> = MUTANTS.iter().filter(|m| filter.is_none_or(|f| m.rule.contains(f) || m.file.contains(f)) && (all || m.target != Target::Twin)).collect();
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
    let mut targets: Vec<(Target, &str)> = wanted.iter().map(|m| (m.target, m.test)).collect();
    targets.sort_by_key(|t| format!("{t:?}"));
    targets.dedup();
    for (target, test) in targets {
        let out = run_tests(tree, target, test, false)?;
        let text = String::from_utf8_lossy(&out.stdout);
        let passed = text.lines().any(|l| l.starts_with("test ") && l.ends_with(" ... ok"));
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
    if m.target != Target::Twin {
        let built = run_tests(tree, m.target, m.test, true)?;
        if !built.status.success() {
            bail!("the mutation \"{}\" does not compile:\n{}", m.rule, String::from_utf8_lossy(&built.stderr));
        }
    }
    Ok(!run_tests(tree, m.target, m.test, false)?.status.success())
}

fn run_tests(tree: &Path, target: Target, test: &str, only_build: bool) -> anyhow::Result<Output> {
    let cargo = process::cargo();
    let mut c = Command::new("timeout");
    c.args(["--kill-after=10", SECONDS]).arg(cargo.get_program()).current_dir(tree);
    if target == Target::Twin {
        return output(c.args(["xtask", "test", test]));
    }
    c.args(["test", "--release"]);
    let crates = if matches!(target, Target::Lift(_)) { &["lift"] } else { CRATES };
    for name in crates {
        c.args(["-p", name]);
    }
    match target {
        Target::Test(name) | Target::Lift(name) => c.args(["--test", name]),
        _ => c.arg("--lib"),
    };
    if only_build { output(c.arg("--no-run")) } else { output(c.args(["--no-fail-fast", "--", test])) }
}
