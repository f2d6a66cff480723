//! `cargo xtask suite adversary`: attacks from inside a guest and from outside, each with a harmless twin.
//!
//! Owns the attackers' programs in an image and the release they are in; the cases and the judging are integration-tests' (`adversary`). The fact a newcomer gets wrong: what lies in `unlisted` must be in no
//! manifest, so it is compiled into the image but not named to `recompiler-build`.

use crate::process::{self, root};
use crate::{release, rootfs, setup, test};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Below the root of the sources.
const SOURCES: &str = "integration-tests/programs/adversary";
/// In the image; `attack.h` says the same.
const HOME: &str = "usr/local/lib/adversary";
/// What the attackers execute, preload and pass on.
const LISTED: [&str; 6] =
    ["/usr/bin/true", "/usr/bin/dash", "/usr/bin/cat", "/usr/bin/sleep", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libm.so.6"];

/// Runs these cases, or all, in these modes, or all.
pub(crate) fn run(cases: &[String], modes: &[String]) -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    let image = rootfs::copy(&rootfs::debian()?, "adversary-rootfs")?;
    let release = release::build(&binaries, "adversary", &image, &programs(&image)?)?;
    let mut suite = process::cargo();
    suite.args(["run", "--quiet", "--release", "-p", "integration-tests", "--bin", "adversary", "--"]);
    for mode in modes {
        suite.args(["--mode", mode]);
    }
    process::run(test::told(suite.args(cases), &binaries, &release)).context("suite adversary failed")
}

/// Compiles the attackers into an image; the paths of those that a manifest is to list, with what they use.
pub(crate) fn programs(image: &Path) -> anyhow::Result<Vec<String>> {
    let (sources, home) = (root().join(SOURCES), image.join(HOME));
    process::emptied(&home.join("unlisted"))?;
    let mut listed = LISTED.map(str::to_owned).to_vec();
    for source in c_files(&sources)? {
        let name = source.file_stem().context("sources have names")?.to_string_lossy().into_owned();
        process::run(Command::new("gcc").args(["-O2", "-w", "-pthread", "-o"]).arg(home.join(&name)).arg(&source).args(["-ldl", "-lutil"]))?;
        listed.push(format!("/{HOME}/{name}"));
    }
    let unlisted = |name: &str| home.join("unlisted").join(name);
    process::run(Command::new("gcc").args(["-O2", "-static", "-o"]).arg(unlisted("canary")).arg(sources.join("unlisted/canary.c")))?;
    process::run(Command::new("gcc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(unlisted("canary.so")).arg(sources.join("unlisted/library.c")))?;
    Ok(listed)
}

fn c_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    all.retain(|p| p.extension().is_some_and(|e| e == "c"));
    all.sort();
    Ok(all)
}
