//! `cargo xtask suite csmith`: differential fuzzing with random C programs, natively and lifted, seed by seed.
//!
//! Owns how random programs become cases: every seed is compiled at each optimisation level, and each of these objects is linked into a position-independent and into a static program, a hundred cases in one, each run in a fork. The fact a
//! newcomer gets wrong: without `--fresh` the seeds are always the same ones, so that a run means the same on every day; a difference is reproduced by `csmith --seed N`.

use super::verdict::{self, Results, Verdict};
use crate::process::{self, output, say, work};
use crate::release::{self, Release};
use crate::setup::Binaries;
use crate::{rootfs, setup};
use anyhow::{Context, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const IN_IMAGE: &str = "usr/local/lib/csmith";
const PER_PROGRAM: usize = 100;
const LEVELS: &[&str] = &["O0", "O1", "O2", "O3"];
/// Some random programs never end.
const NATIVE_SECONDS: &str = "5";
const LIFTED_SECONDS: &str = "60";
/// Arguments: seconds for each case, then the cases to run; without any, all. A case prints its checksum itself.
const DRIVER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int wanted(const char *name, int argc, char **argv) {
    for (int i = 2; i < argc; i++) if (strcmp(argv[i], name) == 0) return 1;
    return argc <= 2;
}
int main(int argc, char **argv) {
    for (const struct test *t = tests; t->name; t++) {
        if (!wanted(t->name, argc, argv)) continue;
        printf("%s ", t->name);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            char *none[] = {"case", 0};
            alarm(atoi(argv[1]));
            exit(t->run(1, none));
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status) printf("ended with status %x\n", status);
    }
    return 0;
}
"#;

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
    let binaries = setup::binaries()?;
    let image = rootfs::copy(&rootfs::debian()?, "csmith-rootfs")?;
    let last = seeds.first + (seeds.count - 1);
    say(&format!("compiling csmith's programs of seeds {} to {last}: `--first {} --seeds {}`", seeds.first, seeds.first, seeds.count));
    let cases = compile(seeds)?;
    let programs = link(&cases, &image.join(IN_IMAGE))?;
    let release = release::build(&binaries, "csmith", &image, &programs)?;
    say("running natively and lifted");
    let (mut native, mut lifted) = (Results::new(), Results::new());
    for program in &programs {
        let all = results(program, Command::new("chroot").arg(&image).arg(program).arg(NATIVE_SECONDS))?;
        let passing: Vec<&str> = all.iter().filter(|(_, r)| passes(r)).map(|(n, _)| n.as_str()).collect();
        lifted.extend(run_lifted(&release, &binaries, program, &passing)?);
        native.extend(all);
    }
    let verdict = verdict::judge("csmith", &native, &lifted, passes)?;
    ensure!(verdict.passing * 2 > verdict.cases, "only {} of {} cases pass natively: the set-up is wrong", verdict.passing, verdict.cases);
    Ok(verdict)
}

fn passes(result: &str) -> bool {
    result.starts_with("checksum = ") && !result.contains("ended")
}

fn run_lifted(release: &Release, binaries: &Binaries, program: &str, cases: &[&str]) -> anyhow::Result<Results> {
    if cases.is_empty() {
        return Ok(Results::new());
    }
    let name = |case: &str| case.rsplit_once('/').map_or(case, |(_, name)| name).to_owned();
    let words: Vec<String> = [program.to_owned(), LIFTED_SECONDS.to_owned()].into_iter().chain(cases.iter().map(|c| name(c))).collect();
    results(program, &mut release.run(binaries, &[], &words.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// Results by `KIND/SEED-LEVEL`; the kind is the program's.
fn results(program: &str, command: &mut Command) -> anyhow::Result<Results> {
    let out = output(command)?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{:?} {program}: {}\n{}", command.get_program(), out.status, String::from_utf8_lossy(&out.stderr));
    let kind = if program.contains("/static-") { "static" } else { "pie" };
    Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(n, r)| (format!("{kind}/{n}"), r.to_owned())).collect())
}

/// A seed at one level: the name, its entry point, and the object for each kind of program.
struct Case {
    name: String,
    entry: String,
    object: PathBuf,
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
            let (name, entry) = (format!("{seed}-{level}"), format!("case_{seed}_{level}"));
            let object = dir.join(format!("{name}.o"));
            let mut gcc = Command::new("gcc");
            gcc.args(["-w", "-c", "-fPIE", "-I/usr/include/csmith", &format!("-{level}"), &format!("-Dmain={entry}")]);
            process::run(gcc.arg("-o").arg(&object).arg(&source))?;
            process::run(Command::new("objcopy").arg(format!("--keep-global-symbol={entry}")).arg(&object))?;
            cases.push(Case { name, entry, object });
        }
    }
    Ok(cases)
}

/// Programs of a hundred cases each, of both kinds; their paths in the image.
fn link(cases: &[Case], into: &Path) -> anyhow::Result<Vec<String>> {
    process::emptied(into)?;
    let mut programs = Vec::new();
    for (k, group) in cases.chunks(PER_PROGRAM).enumerate() {
        let (mut text, mut rows) = (String::from("struct test { const char *name; int (*run)(int, char **); };\n"), String::new());
        for case in group {
            writeln!(text, "int {}(int, char **);", case.entry)?;
            write!(rows, "{{\"{}\", {}}}, ", case.name, case.entry)?;
        }
        writeln!(text, "static const struct test tests[] = {{{rows}{{0, 0}}}};")?;
        let driver = group[0].object.with_file_name(format!("driver-{k}.c"));
        fs::write(&driver, text + DRIVER)?;
        for (kind, options) in [("pie", &["-fPIE", "-pie"][..]), ("static", &["-fno-pie", "-no-pie", "-static"])] {
            let name = format!("{kind}-{k:02}");
            let mut gcc = Command::new("gcc");
            gcc.args(["-w", "-O1"]).args(options).arg("-o").arg(into.join(&name)).arg(&driver).args(group.iter().map(|c| &c.object));
            process::run(&mut gcc).context("the linker")?;
            programs.push(format!("/{IN_IMAGE}/{name}"));
        }
    }
    Ok(programs)
}
