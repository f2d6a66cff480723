//! `cargo xtask suite aarch64`: lifted code for AArch64, run under qemu-user and compared with the same programs run natively.
//!
//! Owns which programs these are: the instruction twins, whose every form is a case, and a C program whose every line is one; each in both forms. The code is made by `recompiler-build` as for a release, placed by the loader's linker, and run by a runtime
//! of a few hundred lines (`integration-tests/programs/aarch64/runtime.c`), because `vkernel` does not run on such hosts. The fact a newcomer gets wrong: qemu on an x86-64 host keeps x86's order of memory accesses, so it says nothing about order;
//! what barriers there are is a test of `recompiler-build`, which reads the code.

use super::verdict::{self, Results, Verdict};
use crate::process::{self, bounded, output, root, say, work};
use crate::setup;
use crate::test;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: &[&str] = &["qemu-user", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "musl-tools"];
const TARGET: &str = "aarch64-unknown-linux-gnu";
const FORMS: [&str; 2] = ["structured", "resumable"];
/// Where code is placed: what runtime.c says.
const PLACES: [(&str, &str); 2] = [("structured", "100000000000"), ("resumable", "110000000000")];
/// Random states per form of an instruction.
const STATES: &str = "20";
const SECONDS: u32 = 300;
/// Twins that need the x87 in their driver already: its instructions are helpers, which this runtime lacks.
const LEFT_OUT: [&str; 2] = ["mmx", "x87"];

/// A static program at fixed addresses, in a directory of its own.
struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<&'static str>,
}

pub(super) fn run() -> anyhow::Result<Verdict> {
    let binaries = setup::binaries()?;
    setup::install(PACKAGES)?;
    let dir = work().join("aarch64");
    process::emptied(&dir)?;
    let runtime = dir.join("runtime");
    let sources = root().join("integration-tests/programs");
    process::run(
        Command::new("aarch64-linux-gnu-gcc").args(["-O1", "-Wall", "-Wextra", "-Werror", "-static-pie", "-o"]).arg(&runtime).arg(sources.join("aarch64/runtime.c")).arg("-lm"),
    )?;
    process::run(process::cargo().args(["build", "--quiet", "--release", "-p", "loader", "--example", "place"]))?;
    let place = root().join("target/release/examples/place");
    let (mut native, mut lifted) = (Results::new(), Results::new());
    for program in programs(&dir, &sources)? {
        say(&format!("{}: compiling for {TARGET}", program.name));
        let expected = lines(&output(&mut bounded(SECONDS, Command::new(&program.path).args(&program.arguments)))?);
        make(&binaries.recompiler, &place, &program)?;
        for form in FORMS {
            let results = lines(&output(&mut bounded(SECONDS, &emulated(&runtime, &program, form)))?);
            let named = |results: &[String]| results.iter().enumerate().map(|(n, line)| case(&program.name, form, n, line)).collect::<Vec<_>>();
            native.extend(named(&expected));
            lifted.extend(named(&results));
        }
    }
    ensure!(native.len() > 6_000, "only {} cases: the set-up is wrong", native.len());
    verdict::judge("aarch64", &native, &lifted, |_| true)
}

/// Lifts, compiles and places.
fn make(recompiler: &Path, place: &Path, program: &Program) -> anyhow::Result<()> {
    let dir = program.path.parent().context("a program has a directory")?;
    let quiet = |command: &mut Command| -> anyhow::Result<()> {
        let out = output(command)?;
        ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    };
    quiet(Command::new(recompiler).arg("lift").arg(&program.path).arg("--output").arg(dir))?;
    let file = |form: &str, extension: &str| dir.join(format!("{}.{form}.{extension}", program.name));
    quiet(Command::new(recompiler).arg("compile").args(FORMS.map(|form| file(form, "wasm"))).args(["--target", TARGET, "--output"]).arg(dir))?;
    PLACES.iter().try_for_each(|(form, address)| quiet(Command::new(place).arg(file(form, "so")).arg(address).arg(file(form, "placed"))))
}

/// The program in one form; the structured one goes on in the resumable one where it has to, as with `vkernel`.
fn emulated(runtime: &Path, program: &Program, form: &str) -> Command {
    let file = |form: &str, extension: &str| program.path.with_file_name(format!("{}.{form}.{extension}", program.name));
    let mut c = Command::new("qemu-aarch64");
    c.arg(runtime).arg(&program.path).arg(file("structured", "wasm")).arg(file("structured", "placed"));
    c.arg(file("resumable", "placed")).arg(file("resumable", "so")).arg(form).args(&program.arguments);
    c
}

fn programs(dir: &Path, sources: &Path) -> anyhow::Result<Vec<Program>> {
    let made = dir.join("sources");
    fs::create_dir_all(&made)?;
    process::run(Command::new(test::example_of_lift("instruction_twins")?).arg(&made))?;
    let mut programs = Vec::new();
    let mut compile = |name: &str, compiler: &str, from: &[PathBuf], arguments: &[&'static str]| -> anyhow::Result<()> {
        let path = dir.join(name).join(name);
        fs::create_dir_all(dir.join(name))?;
        process::run(Command::new(compiler).args(["-O2", "-static", "-no-pie", "-o"]).arg(&path).args(from).arg("-lm"))?;
        programs.push(Program { name: name.to_owned(), path, arguments: arguments.to_vec() });
        Ok(())
    };
    compile("numbers", "gcc", &[sources.join("aarch64/numbers.c")], &["one", "two"])?;
    let mut groups: Vec<PathBuf> = fs::read_dir(&made)?.map(|e| Ok(e?.path())).collect::<anyhow::Result<_>>()?;
    groups.sort();
    for group in groups {
        let name = group.file_stem().context("sources have names")?.to_string_lossy().into_owned();
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        // With the smallest libc: what is lifted beside the forms is compiled each time.
        compile(&name, "musl-gcc", &[group, sources.join("x86/driver.c")], &[STATES])?;
    }
    Ok(programs)
}

/// What a program printed, and how it ended.
fn lines(out: &std::process::Output) -> Vec<String> {
    let end = format!("{:?}", out.status.code());
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).chain([format!("end {end}")]).collect()
}

/// Twins print a form's name and its checksum; other lines are known by their number.
fn case(program: &str, form: &str, number: usize, line: &str) -> (String, String) {
    match line.rsplit_once(' ') {
        Some((name, sum)) if sum.len() == 16 && sum.bytes().all(|b| b.is_ascii_hexdigit()) => (format!("{program}/{name}/{form}"), sum.to_owned()),
        _ => (format!("{program}/{number}/{form}"), line.to_owned()),
    }
}
