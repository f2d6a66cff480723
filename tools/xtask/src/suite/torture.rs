//! `cargo xtask suite torture`: gcc.c-torture/execute, natively and lifted, case by case.
//!
//! Owns how 1,592 programs become few: each case is compiled alone, all its symbols but a renamed `main` are made local, and a driver runs a hundred of them, each in a fork of
//! its own. One lifted program per case would cost minutes of ld.so and compiler start. The fact a newcomer gets wrong: only cases that pass natively count.

use super::verdict::{self, Results, Verdict};
use crate::process::{self, output, say, work};
use crate::{release, rootfs, setup, sources};
use anyhow::{Context, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const IN_IMAGE: &str = "usr/local/lib/torture";
const PER_PROGRAM: usize = 100;
const DRIVER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    for (const struct test *t = tests; t->name; t++) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            int null = open("/dev/null", O_RDWR);
            dup2(null, 0), dup2(null, 1), dup2(null, 2);
            alarm(20);
            exit(t->run());
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status)) printf("%s signal %d\n", t->name, WTERMSIG(status));
        else printf("%s exit %d\n", t->name, WEXITSTATUS(status));
    }
    return 0;
}
"#;

pub(super) fn run(sample: usize, level: &str, fixed: bool) -> anyhow::Result<Verdict> {
    ensure!(sample > 0, "a sample takes every Nth case");
    let binaries = setup::binaries()?;
    let image = image(&rootfs::debian()?)?;
    let cases: Vec<PathBuf> = cases()?.into_iter().step_by(sample).collect();
    say(&format!("compiling {} cases with -{level}", cases.len()));
    let programs = compile(&cases, &image.join(IN_IMAGE), level, fixed)?;
    let release = release::build(&binaries, "torture", &image, &programs)?;
    say("running natively and lifted");
    let (mut native, mut lifted) = (Results::new(), Results::new());
    for program in &programs {
        native.extend(results(Command::new("chroot").arg(&image).arg(program))?);
        lifted.extend(results(&mut release.run(&binaries, &[], &[program]))?);
    }
    let verdict = verdict::judge("torture", &native, &lifted, |r| r == "exit 0")?;
    ensure!(verdict.passing * 10 > cases.len() * 9, "only {} of {} cases pass natively: the set-up is wrong", verdict.passing, cases.len());
    Ok(verdict)
}

fn results(command: &mut Command) -> anyhow::Result<Results> {
    let out = output(command)?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    Ok(text.lines().filter_map(|l| l.split_once(' ')).map(|(n, r)| (n.to_owned(), r.to_owned())).collect())
}

fn image(rootfs: &Path) -> anyhow::Result<PathBuf> {
    let image = rootfs::copy(rootfs, "torture-rootfs")?;
    process::emptied(&image.join(IN_IMAGE))?;
    Ok(image)
}

/// All cases, by name.
fn cases() -> anyhow::Result<Vec<PathBuf>> {
    let archive = sources::file("gcc-12", ".orig.tar.gz")?;
    let script = r#"tar xzOf "$1" --wildcards '*/gcc-12*.tar.xz' | xz -d | tar x -C "$2" --strip-components=5 --wildcards '*/gcc/testsuite/gcc.c-torture/execute/*'"#;
    let dir = sources::unpacked(&archive, "torture", script)?;
    let mut found: Vec<PathBuf> = fs::read_dir(&dir)?.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.extension().is_some_and(|e| e == "c")).collect();
    found.sort();
    ensure!(found.len() > 1500, "only {} cases were unpacked", found.len());
    Ok(found)
}

/// Options a case asks for, for every target.
fn options(text: &str) -> Vec<&str> {
    let wanted = text.lines().filter(|l| (l.contains("dg-options") || l.contains("dg-additional-options")) && !l.contains("target"));
    wanted.filter_map(|l| l.split('"').nth(1)).flat_map(str::split_whitespace).collect()
}

/// Programs of a hundred cases each; their paths in the image. A case that does not compile natively is left out.
fn compile(cases: &[PathBuf], into: &Path, level: &str, fixed: bool) -> anyhow::Result<Vec<String>> {
    let objects = work().join("torture-objects");
    process::emptied(&objects)?;
    let position = if fixed { &["-fno-pie", "-no-pie"][..] } else { &["-fPIE", "-pie"] };
    let (mut programs, mut trampolines) = (Vec::new(), 0);
    for (k, group) in cases.chunks(PER_PROGRAM).enumerate() {
        let (mut table, mut files) = (String::from("struct test { const char *name; int (*run)(void); };\n"), Vec::new());
        let mut rows = String::new();
        for (n, case) in group.iter().enumerate() {
            let (object, entry) = (objects.join(format!("{k}-{n}.o")), format!("case_{n}"));
            let text = String::from_utf8_lossy(&fs::read(case)?).into_owned();
            let mut gcc = Command::new("gcc");
            gcc.args([&format!("-{level}"), "-w", "-c"]).args(position.iter().take(1)).args(options(&text)).arg(format!("-Dmain={entry}"));
            if !output(gcc.arg("-o").arg(&object).arg(case))?.status.success() {
                continue;
            }
            if wants_executable_stack(&object)? {
                trampolines += 1;
                continue;
            }
            process::run(Command::new("objcopy").arg(format!("--keep-global-symbol={entry}")).arg(&object))?;
            let name = case.file_stem().context("cases have names")?.to_string_lossy();
            writeln!(table, "int {entry}(void);")?;
            write!(rows, "{{\"{name}\", {entry}}}, ")?;
            files.push(object);
        }
        writeln!(table, "static const struct test tests[] = {{{rows}{{0, 0}}}};")?;
        let driver = objects.join(format!("driver-{k}.c"));
        fs::write(&driver, table + DRIVER)?;
        let program = into.join(format!("cases-{k:02}"));
        process::run(Command::new("gcc").args(["-O1", "-w"]).args(position).arg("-o").arg(&program).arg(&driver).args(&files).arg("-lm"))?;
        programs.push(format!("/{IN_IMAGE}/cases-{k:02}"));
    }
    println!("{trampolines} cases left out: they write code to the stack (nested functions), which is refused by design");
    Ok(programs)
}

fn wants_executable_stack(object: &Path) -> anyhow::Result<bool> {
    let sections = output(Command::new("readelf").args(["--sections", "--wide"]).arg(object))?;
    let text = String::from_utf8_lossy(&sections.stdout).into_owned();
    // Name, type, address, offset, size, entry size, flags.
    Ok(text.lines().any(|l| l.contains(".note.GNU-stack") && l.split_whitespace().any(|w| w == "X")))
}
