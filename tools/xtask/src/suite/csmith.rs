//! `cargo xtask suite csmith`: differential fuzzing with random C programs, natively and lifted, seed by seed.
//!
//! Owns how random programs become cases: every seed is compiled at each optimisation level, and each of these objects is linked into a position-independent and into a static program. The fact a newcomer gets wrong: without
//! `--fresh` the seeds are always the same ones, so that a run means the same on every day; a difference is reproduced by `csmith --seed N`.

use super::forked::{self, Case, Limits};
use super::verdict::Verdict;
use crate::process::{self, say, work};
use crate::rootfs;
use anyhow::{Context, ensure};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const IN_IMAGE: &str = "usr/local/lib/csmith";
const LEVELS: &[&str] = &["O0", "O1", "O2", "O3"];
const WAYS: &[(&str, &[&str])] = &[("pie/", &["-fPIE", "-pie"]), ("static/", &["-fno-pie", "-no-pie", "-static"])];
/// Some random programs never end.
const LIMITS: Limits = Limits { native: 5, lifted: 60 };

/// What to run.
pub(crate) struct Seeds {
    pub count: u32,
    pub first: u32,
}

/// What `suite all` runs.
pub(super) const USUAL: Seeds = Seeds { count: 25, first: 1 };
/// What `--smoke` and every `cargo xtask test` run: eight cases.
pub(crate) const SMOKE: Seeds = Seeds { count: 1, first: 1 };

impl Seeds {
    /// Seeds nobody ran before, from the clock.
    pub(super) fn fresh(count: u32) -> anyhow::Result<Self> {
        // A thousand seeds a second, and never beyond what csmith reads.
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() % u128::from(u32::MAX - count);
        Ok(Self { count, first: now.try_into()? })
    }
}

pub(crate) fn run(seeds: &Seeds) -> anyhow::Result<Verdict> {
    ensure!(seeds.count > 0, "at least one seed");
    let image = rootfs::copy(&rootfs::debian()?, "csmith-rootfs")?;
    let last = seeds.first + (seeds.count - 1);
    say(&format!("compiling csmith's programs of seeds {} to {last}: `--first {} --seeds {}`", seeds.first, seeds.first, seeds.count));
    let programs = forked::link(&compile(seeds)?, &image, IN_IMAGE, WAYS)?;
    let verdict = forked::compare("csmith", &image, &programs, &LIMITS, |r| r.starts_with("exit 0 checksum = "))?;
    ensure!(verdict.passing * 2 > verdict.cases, "only {} of {} cases pass natively: the set-up is wrong", verdict.passing, verdict.cases);
    Ok(verdict)
}

fn compile(seeds: &Seeds) -> anyhow::Result<Vec<Case>> {
    let dir = work().join("csmith-objects");
    process::emptied(&dir)?;
    let mut cases = Vec::new();
    for seed in seeds.first..seeds.first + seeds.count {
        let source = dir.join(format!("{seed}.c"));
        // csmith leaves a file where it runs.
        process::run(Command::new("csmith").current_dir(&dir).arg("--seed").arg(seed.to_string()).arg("--output").arg(&source))?;
        for level in LEVELS {
            let mut gcc = Command::new("gcc");
            gcc.args(["-fPIE", "-I/usr/include/csmith", &format!("-{level}")]);
            let name = format!("{seed}-{level}");
            let case = Case::compile(gcc, &name, &format!("case_{seed}_{level}"), &source, dir.join(format!("{name}.o")))?;
            cases.push(case.with_context(|| format!("gcc refuses seed {seed} at -{level}"))?);
        }
    }
    Ok(cases)
}
