//! `cargo xtask test`: unit tests of all crates, then the integration tests on a release made for them.

use crate::process::{self, root, say, work};
use crate::suite::{adversary, blocks, csmith};
use crate::{demo, fuzz, gates, mutants, release, rootfs, setup, wasi};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folder of the test programs inside the image.
pub(crate) const IN_IMAGE: &str = "usr/local/lib/twins";

/// Packages of programs in Go, OCaml and Haskell, and the programs.
const FOREIGN: [(&str, &str); 4] = [("age", "/usr/bin/age"), ("age", "/usr/bin/age-keygen"), ("unison-2.52", "/usr/bin/unison-2.52"), ("cpphs", "/usr/bin/cpphs")];

/// Packages of interpreters that the base system lacks, and what they need.
const INTERPRETERS: [&str; 4] = ["busybox-static", "python3.11-minimal", "libpython3.11-minimal", "libexpat1"];

/// Enough to run every input ever found, and to notice a target that no longer works; `cargo xtask suite fuzz` searches.
const FUZZ_SECONDS: u32 = 28;

/// Crates whose unit tests are built together: as the programs are (see `setup::binaries`), so that nothing is built twice and `vkernel` stays as it is.
const UNIT_TESTS: &[&[&str]] = &[&["policy", "proof", "syscalls", "recompiler-build"], &["loader", "vkernel-client", "vkernel"], WITH_WASMTIME, &["image"], &["xtask"]];

/// Their tests run modules in wasmtime, which shares its compiler with wasmer and wants more of it: together with others they would have wasmer's stack built anew.
const WITH_WASMTIME: &[&str] = &["lift", "megabinary"];

pub(crate) fn run(filter: Option<&str>) -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    if filter.is_none() {
        gates::format()?;
        gates::lint()?;
        mutants::check()?;
        say("unit tests");
        for crates in UNIT_TESTS {
            let mut unit = process::cargo();
            unit.args(["test", "--release", "--no-fail-fast"]);
            for name in *crates {
                unit.args(["-p", name]);
            }
            process::run(&mut unit).context("unit tests failed")?;
        }
    }
    if filter.is_none() {
        fuzz::run(FUZZ_SECONDS)?;
    }
    say("the image of the integration tests");
    let image = image(&rootfs::debian()?)?;
    let mut include = demo::programs();
    include.push("/usr/bin/ldd".to_owned());
    include.extend(test_programs(&image)?);
    include.extend(adversary::programs(&image)?);
    include.extend(FOREIGN.iter().map(|(_, program)| (*program).to_owned()));
    let release = release::build(&binaries, "tests", &image, &include)?;
    say("integration tests");
    integration(&binaries, &release, &[], filter)?;
    if filter.is_none() {
        blocks::run(blocks::SMOKE)?.check()?;
        csmith::run(&csmith::SMOKE)?.check()?;
    }
    Ok(())
}

/// `cargo xtask suite instructions`: only the generated instruction twins, in an image of their own.
pub(crate) fn instruction_suite() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    let image = image(&rootfs::debian()?)?;
    let include: Vec<String> = test_programs(&image)?.into_iter().filter(|p| p.contains("/x86_")).collect();
    let release = release::build(&binaries, "instructions", &image, &include)?;
    integration(&binaries, &release, &["instructions"], None)
}

/// Runs test targets of the integration crate, or all, against a release.
fn integration(binaries: &setup::Binaries, release: &release::Release, targets: &[&str], filter: Option<&str>) -> anyhow::Result<()> {
    let mut tests = process::cargo();
    tests.args(["test", "--release", "-p", "integration-tests", "--no-fail-fast"]);
    if targets.is_empty() {
        tests.arg("--tests");
    }
    for target in targets {
        tests.args(["--test", target]);
    }
    tests.arg("--").args(filter).args(["--test-threads", "2"]);
    if targets.is_empty() {
        tests.env("VKERNEL_WASI", wasi::modules()?).env("VKERNEL_ORACLE", wasi::oracle()?);
    }
    process::run(told(&mut tests, binaries, release)).context("integration tests failed")
}

/// Tells the integration crate what it is to test.
pub(crate) fn told<'a>(command: &'a mut Command, binaries: &setup::Binaries, release: &release::Release) -> &'a mut Command {
    command.env("VKERNEL_BIN", &binaries.vkernel).env("RECOMPILER_BIN", &binaries.recompiler);
    command.env("VKERNEL_MANIFEST", &release.manifest).env("VKERNEL_ROOTFS", &release.rootfs).env("VKERNEL_KEY", &release.public_key)
}

/// A copy of the root filesystem with the test programs compiled into it.
fn image(rootfs: &Path) -> anyhow::Result<PathBuf> {
    let image = rootfs::copy(rootfs, "test-rootfs")?;
    let into = image.join(IN_IMAGE);
    let _ = fs::remove_dir_all(&into);
    fs::create_dir_all(&into)?;
    for folder in ["control", "run", "syscalls"] {
        for entry in fs::read_dir(root().join("integration-tests/programs").join(folder))? {
            compile(&entry?.path(), &into)?;
        }
    }
    instructions(&into)?;
    foreign(&image)?;
    Ok(image)
}

/// Programs in languages with conventions of their own, with a secret for them to keep, and interpreters.
fn foreign(image: &Path) -> anyhow::Result<()> {
    for (package, program) in FOREIGN {
        if !image.join(&program[1..]).exists() {
            rootfs::add_package(image, package)?;
        }
    }
    if !["usr/bin/python3.11", "bin/busybox"].iter().all(|program| image.join(program).exists()) {
        INTERPRETERS.iter().try_for_each(|package| rootfs::add_package(image, package))?;
    }
    let share = image.join("usr/local/share/twins");
    if !share.join("secret.age").exists() {
        let script = "mkdir -p $1; age-keygen -o $1/age.key 2> /dev/null; ls -lR /usr/share > $1/plain; age --encrypt --identity $1/age.key -o $1/secret.age $1/plain";
        process::run(Command::new("chroot").arg(image).args(["/bin/bash", "-ec", script, "-", "/usr/local/share/twins"]))?;
    }
    Ok(())
}

/// The generated instruction twins: one program per group, at fixed addresses. Every form is a function of its own, so that LLVM's time stays linear: 4,000 forms cost
/// 40 s when the lifter changed, and nothing otherwise.
fn instructions(into: &Path) -> anyhow::Result<()> {
    let sources = work().join("instruction-twins");
    let _ = fs::remove_dir_all(&sources);
    fs::create_dir_all(&sources)?;
    process::run(Command::new(example_of_lift("instruction_twins")?).arg(&sources))?;
    let driver = root().join("integration-tests/programs/x86/driver.c");
    for entry in fs::read_dir(&sources)? {
        let source = entry?.path();
        let group = source.file_stem().context("sources have names")?.to_string_lossy().into_owned();
        process::run(Command::new("gcc").args(["-O2", "-no-pie", "-o"]).arg(into.join(format!("x86_{group}"))).arg(&source).arg(&driver))?;
    }
    Ok(())
}

/// An example of the lifter's, built as its tests are.
pub(crate) fn example_of_lift(name: &str) -> anyhow::Result<PathBuf> {
    let packages = WITH_WASMTIME.iter().flat_map(|name| ["-p", name]);
    process::run(process::cargo().args(["build", "--quiet", "--release", "--example", name]).args(packages))?;
    Ok(root().join("target/release/examples").join(name))
}

/// Compiles a test program; what is none is left alone.
pub(crate) fn compile(source: &Path, into: &Path) -> anyhow::Result<()> {
    let name = source.file_stem().context("sources have names")?;
    let compiler = match source.extension().and_then(|e| e.to_str()) {
        Some("c") => "gcc",
        Some("cpp") => "g++",
        _ => return Ok(()),
    };
    // A program may ask for options in its first line.
    let text = fs::read_to_string(source)?;
    let own = text.lines().next().and_then(|l| l.strip_prefix("// gcc: ")).unwrap_or_default();
    process::run(
        Command::new(compiler).args(["-O2", "-w", "-pthread"]).args(own.split_whitespace()).arg("-o").arg(into.join(name)).arg(source).args(["-lm", "-ldl", "-lutil", "-lrt"]),
    )
}

/// Paths of the test programs inside the image, and libraries they open at run time.
fn test_programs(image: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = vec!["/usr/lib/x86_64-linux-gnu/libm.so.6".to_owned()];
    for entry in fs::read_dir(image.join(IN_IMAGE))? {
        names.push(format!("/{IN_IMAGE}/{}", entry?.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names)
}
