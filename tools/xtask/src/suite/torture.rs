//! `cargo xtask suite torture`: gcc.c-torture/execute, natively and lifted, case by case.
//!
//! Owns which of its 1,592 programs are cases and how they are compiled. The fact a newcomer gets wrong: only cases that pass natively count.

use super::forked::{self, Case, Limits};
use super::verdict::Verdict;
use crate::process::{self, output, say, work};
use crate::{rootfs, sources};
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const IN_IMAGE: &str = "usr/local/lib/torture";
const LIMITS: Limits = Limits { native: 20, lifted: 20 };

pub(super) fn run(sample: usize, level: &str, fixed: bool) -> anyhow::Result<Verdict> {
    ensure!(sample > 0, "a sample takes every Nth case");
    let image = rootfs::copy(&rootfs::debian()?, "torture-rootfs")?;
    let cases: Vec<PathBuf> = cases()?.into_iter().step_by(sample).collect();
    say(&format!("compiling {} cases with -{level}", cases.len()));
    let position: &[&str] = if fixed { &["-fno-pie", "-no-pie"] } else { &["-fPIE", "-pie"] };
    let programs = forked::link(&compile(&cases, level, position[0])?, &image, IN_IMAGE, &[("", position)])?;
    let verdict = forked::compare("torture", &image, &programs, &LIMITS, |r| r == "exit 0" || r.starts_with("exit 0 "))?;
    ensure!(verdict.passing * 10 > cases.len() * 9, "only {} of {} cases pass natively: the set-up is wrong", verdict.passing, cases.len());
    Ok(verdict)
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

/// A case that does not compile natively is left out.
fn compile(cases: &[PathBuf], level: &str, position: &str) -> anyhow::Result<Vec<Case>> {
    let objects = work().join("torture-objects");
    process::emptied(&objects)?;
    let (mut compiled, mut trampolines) = (Vec::new(), 0);
    for (n, source) in cases.iter().enumerate() {
        let text = String::from_utf8_lossy(&fs::read(source)?).into_owned();
        let name = source.file_stem().context("cases have names")?.to_string_lossy();
        let mut gcc = Command::new("gcc");
        gcc.args([&format!("-{level}"), position]).args(options(&text));
        let Some(case) = Case::compile(gcc, &name, &format!("case_{n}"), source, objects.join(format!("{n}.o")))? else {
            continue;
        };
        if wants_executable_stack(&case.object)? {
            trampolines += 1;
        } else {
            compiled.push(case);
        }
    }
    println!("{trampolines} cases left out: they write code to the stack (nested functions), which is refused by design");
    Ok(compiled)
}

fn wants_executable_stack(object: &Path) -> anyhow::Result<bool> {
    let sections = output(Command::new("readelf").args(["--sections", "--wide"]).arg(object))?;
    let text = String::from_utf8_lossy(&sections.stdout).into_owned();
    // Name, type, address, offset, size, entry size, flags.
    Ok(text.lines().any(|l| l.contains(".note.GNU-stack") && l.split_whitespace().any(|w| w == "X")))
}
