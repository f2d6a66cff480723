//! Many small C programs as few: each is compiled alone, all its symbols but a renamed `main` are made local, and a driver runs a hundred of them, each in a fork of its own, natively and lifted.
//!
//! Owns that driver and what its output says. One lifted program per case would cost minutes of ld.so and compiler start. The fact a newcomer gets wrong: what a case prints is part of its result, and lifted only those cases run that pass natively.

use super::native;
use super::verdict::{self, Results, Verdict};
use crate::process::{self, output, say};
use crate::{release, setup};
use anyhow::{Context, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PER_PROGRAM: usize = 100;
/// No program runs longer on one side.
const LIMIT_SECONDS: u32 = 1800;
const MARK: &str = "@@case ";
/// Arguments: seconds for each case, then the cases to run; without any, all.
const DRIVER: &str = r#"
#include <fcntl.h>
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
        printf("@@case %s\n", t->name);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            char *none[] = {"case", 0};
            int null = open("/dev/null", O_RDWR);
            dup2(null, 0), dup2(null, 2);
            alarm(atoi(argv[1]));
            exit(t->run(1, none));
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status)) printf("\n@@case signal %d\n", WTERMSIG(status));
        else printf("\n@@case exit %d\n", WEXITSTATUS(status));
    }
    return 0;
}
"#;

/// One case: its name, the function that its `main` became, and its object.
pub(super) struct Case {
    pub name: String,
    pub entry: String,
    pub object: PathBuf,
}

/// A hundred cases linked.
pub(super) struct Program {
    /// Before the names of its cases, for suites that link the same cases in more than one way.
    pub prefix: &'static str,
    /// In the image.
    pub path: String,
}

/// Seconds that one case may take. Random programs may never end; lifted ones run only if they did natively.
pub(super) struct Limits {
    pub native: u32,
    pub lifted: u32,
}

impl Case {
    /// Compiles `source` with `gcc`, which has its options already; none if the compiler refuses it.
    pub(super) fn compile(mut gcc: Command, name: &str, entry: &str, source: &Path, object: PathBuf) -> anyhow::Result<Option<Case>> {
        gcc.args(["-w", "-c", &format!("-Dmain={entry}"), "-o"]).arg(&object).arg(source);
        if !output(&mut gcc)?.status.success() {
            return Ok(None);
        }
        process::run(Command::new("objcopy").arg(format!("--keep-global-symbol={entry}")).arg(&object))?;
        Ok(Some(Case { name: name.to_owned(), entry: entry.to_owned(), object }))
    }
}

/// Links the cases into programs in the directory `into` of `image`; each way has the words before its cases' names and options for the linker.
pub(super) fn link(cases: &[Case], image: &Path, into: &str, ways: &[(&'static str, &[&str])]) -> anyhow::Result<Vec<Program>> {
    let dir = image.join(into);
    process::emptied(&dir)?;
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
        for (n, (prefix, options)) in ways.iter().enumerate() {
            let name = format!("cases-{n}-{k:02}");
            let mut gcc = Command::new("gcc");
            gcc.args(["-w", "-O1"]).args(*options).arg("-o").arg(dir.join(&name)).arg(&driver).args(group.iter().map(|c| &c.object)).arg("-lm");
            process::run(&mut gcc).context("the linker")?;
            programs.push(Program { prefix, path: format!("/{into}/{name}") });
        }
    }
    Ok(programs)
}

/// Runs all programs natively, and lifted those of their cases that pass.
pub(super) fn compare(suite: &str, image: &Path, programs: &[Program], limits: &Limits, passes: impl Fn(&str) -> bool) -> anyhow::Result<Verdict> {
    let binaries = setup::binaries()?;
    let paths: Vec<String> = programs.iter().map(|p| p.path.clone()).collect();
    let release = release::build(&binaries, suite, image, &paths)?;
    say("running natively and lifted");
    let (mut native, mut lifted) = (Results::new(), Results::new());
    for program in programs {
        let seconds = limits.native.to_string();
        let all = results(program, &mut native::command(image, 0, LIMIT_SECONDS, false, native::ROOTS, [program.path.as_str(), &seconds])?)?;
        let passing = all.iter().filter(|(_, r)| passes(r)).filter_map(|(n, _)| n.strip_prefix(program.prefix));
        let seconds = limits.lifted.to_string();
        let words: Vec<&str> = [program.path.as_str(), &seconds].into_iter().chain(passing).collect();
        if words.len() > 2 {
            lifted.extend(results(program, &mut process::bounded(LIMIT_SECONDS, &release.run(&binaries, &[], &words)))?);
        }
        native.extend(all);
    }
    verdict::judge(suite, &native, &lifted, passes)
}

/// How each case ended, and what it printed: `exit 0 checksum = 1A2B`.
fn results(program: &Program, command: &mut Command) -> anyhow::Result<Results> {
    let out = output(command)?;
    ensure!(out.status.success(), "{}: {}\n{}", program.path, out.status, String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut results = Results::new();
    let mut parts = text.split(MARK).skip(1);
    while let (Some(begin), Some(end)) = (parts.next(), parts.next()) {
        let (name, printed) = begin.split_once('\n').context("a mark is a line")?;
        let words: Vec<&str> = end.split_whitespace().chain(printed.split_whitespace()).collect();
        results.insert(format!("{}{name}", program.prefix), words.join(" "));
    }
    Ok(results)
}
