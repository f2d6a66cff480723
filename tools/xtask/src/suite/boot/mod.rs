//! `cargo xtask suite boot`: the package on a real Debian 12 host: its kernel, booted by its systemd, with version 2 control groups alone, in a virtual machine.
//!
//! Owns which release goes into the machine and the judging of what comes out. The disks are `disks`', the machine is `machine`'s; the cases are shell functions in `integration-tests/programs/boot`, and `host.sh` there is what
//! runs them inside. The fact a newcomer gets wrong: the cases build upon each other (the first installs the package, the last purges it), so a choice of cases is run behind those of `install.sh`.

mod disks;
mod machine;

use crate::process::{self, root, say, work};
use crate::{demo, package, release, rootfs, setup, test};
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::fs;
use std::path::PathBuf;

/// Below the root of the sources.
const CASES: &str = "integration-tests/programs/boot";
/// Files of cases, in the order in which they are run.
const FILES: [&str; 9] = ["install", "service", "containers", "twins", "limits", "daemon", "podman", "containerd", "end"];
/// Twins that run on this kernel, too: calls come out as natively on every one, and an exec of a thread takes another way before Linux 6.9.
const TWINS: [&str; 3] = ["syscalls", "control/exec_from_thread.c", "control/exec_beside_vfork.c"];
/// What an imitated processor has, and any host of today.
const CPU: &str = "x86-64-v2";

/// One line of what comes out of the machine.
#[derive(Deserialize)]
struct Told {
    case: String,
    ok: bool,
    milliseconds: u64,
    /// Notes of a case that passed, the last words of one that did not.
    said: String,
}

/// Runs these cases, or all.
pub(super) fn run(chosen: &[String]) -> anyhow::Result<()> {
    let (base, all) = (cases(&FILES[..1])?, cases(&FILES)?);
    let unknown: Vec<_> = chosen.iter().filter(|c| !all.contains(c)).collect();
    ensure!(unknown.is_empty(), "no such case: {unknown:?}; there are {}", all.join(" "));
    let wanted: Vec<String> = all.into_iter().filter(|c| chosen.is_empty() || chosen.contains(c) || base.contains(c)).collect();
    let binaries = setup::binaries()?;
    setup::install(&["qemu-system-x86"])?;
    let packages = package::build(&binaries, &[package::HOSTS])?;
    say("a release for the machine");
    let (image, twins) = image()?;
    let release = release::make(&binaries, "boot", &image, &[demo::programs(), twins].concat(), &["--cpu", CPU])?;
    say("disks");
    let place = disks::Place::new(work().join("boot-machine"))?;
    let machine = machine::Machine { system: place.system(&rootfs::bootable()?)?, payload: place.payload(&release, &packages, &wanted)?, console: place.console() };
    say(&format!("{} cases in a virtual machine ({})", wanted.len(), machine::accelerator().1));
    let mut failed = wanted.clone();
    machine.run(|line| {
        let told: Told = serde_json::from_str(line).with_context(|| format!("the machine said {line:?}"))?;
        println!("{:<6} {:>6.1} s  {}", if told.ok { "ok" } else { "FAILED" }, told.milliseconds as f64 / 1000.0, told.case);
        told.said.lines().for_each(|l| println!("                 {l}"));
        failed.retain(|f| !told.ok || *f != told.case);
        Ok(())
    })?;
    println!("\n{} cases, {} passed, {} failed", wanted.len(), wanted.len() - failed.len(), failed.len());
    ensure!(failed.is_empty(), "suite boot: failed, or never run: {}; the machine's console is in {}", failed.join(", "), place.console().display());
    Ok(())
}

/// Debian with twins in it, and their paths there.
fn image() -> anyhow::Result<(PathBuf, Vec<String>)> {
    let image = rootfs::copy(&rootfs::debian()?, "boot-image")?;
    let into = image.join(test::IN_IMAGE);
    process::emptied(&into)?;
    for place in TWINS {
        let place = root().join("integration-tests/programs").join(place);
        let files = if place.is_dir() { fs::read_dir(&place)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()? } else { vec![place] };
        files.iter().try_for_each(|file| test::compile(file, &into))?;
    }
    let twins = fs::read_dir(&into)?.map(|e| Ok(format!("/{}/{}", test::IN_IMAGE, e?.file_name().to_string_lossy()))).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((image, twins))
}

/// The sources of the cases.
fn sources() -> PathBuf {
    root().join(CASES)
}

/// Names of the cases in these files, in their order.
fn cases(files: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let path = sources().join(format!("{file}.sh"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(text.lines().filter_map(|l| l.strip_prefix("case_")?.strip_suffix("() {")).map(str::to_owned));
    }
    Ok(all)
}
