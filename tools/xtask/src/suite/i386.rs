//! `cargo xtask suite i386`: QEMU's tests/tcg/i386 as x86-64 programs, natively and lifted, line by line.
//!
//! Owns how they are compiled and what is left out of them. The fact a newcomer gets wrong: test-i386's functions run in a child each here (in QEMU's one after another), so that one that dies costs its own lines only.

use super::batch::{self, Program};
use super::verdict::{self, Verdict};
use crate::process::{self, say, work};
use crate::{rootfs, setup, sources};
use anyhow::{Context, ensure};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const IN_IMAGE: &str = "usr/local/lib/i386";
const ALONE: &str = r#"
#include <stdio.h>
#include <unistd.h>
#include <sys/wait.h>
#define ALONE(...) do { int status = 0; fflush(stdout); if (fork() == 0) { __VA_ARGS__; fflush(stdout); _exit(0); } wait(&status); if (status) printf("died: %x\n", status); } while (0)
"#;

/// Programs beside test-i386, and options their Makefile names. Not here: what is 32-bit, for QEMU alone, or needs features beyond x86-64-v2 (bmi2); test-avx, test-mmx and test-3dnow are `suite avx`.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("f2xm1", &[]),
    ("fbstp", &[]),
    ("fisttp", &[]),
    ("fldcst", &[]),
    ("fp-exceptions", &[]),
    ("fpatan", &[]),
    ("fprem", &[]),
    ("fscale", &[]),
    ("fxam", &[]),
    ("fxtract", &[]),
    ("fyl2x", &[]),
    ("fyl2xp1", &[]),
    ("pcmpistri", &["-msse4.2"]),
    ("pseudo-denormal", &[]),
    ("snan-convert", &[]),
    ("sse-exceptions", &["-msse4.1", "-mfpmath=sse"]),
    ("ssse3", &[]),
];

pub(super) fn run() -> anyhow::Result<Verdict> {
    let binaries = setup::binaries()?;
    let image = rootfs::copy(&rootfs::debian()?, "i386-rootfs")?;
    let programs = compile(&sources()?, &image.join(IN_IMAGE))?;
    let release = batch::build(&binaries, "i386", &image, &programs)?;
    say("running natively and lifted");
    let native = verdict::stable(batch::lines(&batch::natively(&image, &programs)?), &batch::lines(&batch::natively(&image, &programs)?));
    let native = verdict::settled(native, "double shifts of 16 bits by more than 16", is_makers_choice);
    let (lifted, messages) = batch::lifted(&release, &binaries, &programs)?;
    messages.iter().for_each(|m| println!("{m}"));
    let verdict = verdict::judge("i386", &native, &batch::lines(&lifted), |r| r == "exit 0" || !r.starts_with("exit "))?;
    ensure!(verdict.passing > 10_000, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// A double shift of 16 bits by more than 16, which its line names as C.
fn is_makers_choice(name: &str, line: &str) -> bool {
    let count = || line.split_whitespace().find_map(|word| u64::from_str_radix(word.strip_prefix("C=")?, 16).ok());
    ["test-i386/shldw-", "test-i386/shrdw-"].iter().any(|test| name.starts_with(test)) && count().is_some_and(|c| c & 31 > 16)
}

/// QEMU's tests for i386 and x86-64.
pub(super) fn sources() -> anyhow::Result<PathBuf> {
    let archive = sources::file("qemu", ".orig.tar.xz")?;
    sources::unpacked(&archive, "qemu-tests", r#"tar xJf "$1" -C "$2" --strip-components=4 --wildcards '*/tests/tcg/i386/*'"#)
}

fn compile(dir: &Path, into: &Path) -> anyhow::Result<Vec<Program>> {
    process::emptied(into)?;
    let objects = work().join("i386-objects");
    fs::create_dir_all(&objects)?;
    let buffered = objects.join("line-buffered.c");
    fs::write(&buffered, batch::LINE_BUFFERED)?;
    let main = objects.join("test-i386.c");
    fs::write(&main, in_children(&fs::read_to_string(dir.join("test-i386.c"))?)?)?;
    let gcc = |name: &str, source: &Path, options: &[&str]| -> anyhow::Result<Program> {
        let mut c = Command::new("gcc");
        // At fixed addresses: pointers that are printed are the same on both sides.
        c.args(["-w", "-fno-pie", "-no-pie", "-I"]).arg(dir).args(options).arg("-o").arg(into.join(name)).arg(source).arg(&buffered).arg("-lm");
        process::run(&mut c)?;
        Ok(Program { name: name.to_owned(), path: format!("/{IN_IMAGE}/{name}"), args: Vec::new(), seconds: 60 })
    };
    let mut programs = vec![gcc("test-i386", &main, &["-O2"])?];
    for (name, options) in PROGRAMS {
        let source = objects.join(format!("{name}.c"));
        fs::write(&source, with_names(&fs::read_to_string(dir.join(format!("test-i386-{name}.c")))?)?)?;
        programs.push(gcc(name, &source, options)?);
    }
    Ok(programs)
}

/// A program that names only the checks that fail, made to name those that do not too: each is a case.
fn with_names(text: &str) -> anyhow::Result<String> {
    let (mut out, mut check) = (String::new(), None);
    for line in text.lines() {
        match line.split_once("printf(\"FAIL: ").and_then(|(_, rest)| rest.split_once("\\n\"")) {
            Some((name, _)) => check = Some(name.replace(|c: char| !c.is_alphanumeric(), "_")),
            None if line.trim() == "}" && check.is_some() => {
                writeln!(out, "}} else puts(\"ok_{}\");", check.take().expect("it is some"))?;
                continue;
            }
            None => {}
        }
        writeln!(out, "{line}")?;
    }
    Ok(out)
}

/// test-i386 with each function that its `main` calls in a child, and each of the tests that use an instruction in several operand sizes.
fn in_children(text: &str) -> anyhow::Result<String> {
    let main = text.find("int main(").context("test-i386.c has no main")?;
    let sized = |line: &str| ["TEST_ENV(", "TEST_ENTER("].iter().any(|m| line.trim_start().starts_with(m));
    let (mut out, mut at) = (String::new(), 0);
    for line in text.lines() {
        match line.trim().strip_suffix(';') {
            // Inside a function: definitions of macros do not end so.
            Some(test) if sized(line) || at > main && test.ends_with("()") => writeln!(out, "ALONE({test});")?,
            _ if line.starts_with("#define TEST_ENV(") => writeln!(out, "{ALONE}{line}")?,
            _ => writeln!(out, "{line}")?,
        }
        at += line.len() + 1;
    }
    ensure!(out.contains("ALONE(test_floats())") && out.contains("ALONE(TEST_ENTER("), "test-i386.c has changed");
    Ok(out)
}
