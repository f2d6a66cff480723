//! `cargo xtask suite valgrind`: valgrind's programs of none/tests/amd64, natively and lifted, line by line.
//!
//! Owns how they are compiled and which of them need more than a guest's CPU. Not their expected outputs: the host is the oracle (of 60 programs 11 print something else on it). The fact a newcomer gets wrong: a program that needs a feature the guest is
//! not told of must end in SIGILL, and is counted apart; once it does not, its lines are compared.

use super::batch::{self, Program};
use super::verdict::{self, Verdict};
use crate::process::{self, output, say, work};
use crate::{rootfs, setup, sources};
use anyhow::ensure;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const IN_IMAGE: &str = "usr/local/lib/valgrind";
/// 128 and SIGILL, as the shell says it.
const SIGILL: i32 = 132;
/// Programs of instructions beyond x86-64-v2: AES, AVX, AVX2, FMA, F16C, BMI, LZCNT, MOVBE, ADX, RDRAND, RDSEED, TSX.
const GATED: &[&str] = &["aes", "avx-1", "avx2-1", "avx_estimate_insn", "bmi", "f16c", "fb_test_amd64", "fma", "fma4", "lzcnt64", "movbe", "rdrand", "rdseed", "tm1", "xacq_xrel"];

pub(super) fn run() -> anyhow::Result<Verdict> {
    let binaries = setup::binaries()?;
    let image = rootfs::copy(&rootfs::debian()?, "valgrind-rootfs")?;
    let programs = compile(&sources()?, &image.join(IN_IMAGE))?;
    let release = batch::build(&binaries, "valgrind", &image, &programs)?;
    say("running natively and lifted");
    let (mut native, again) = (batch::natively(&image, &programs)?, batch::natively(&image, &programs)?);
    let (lifted, messages) = batch::lifted(&release, &binaries, &programs)?;
    let by_design = |name: &str| GATED.contains(&name) && lifted.get(name).is_some_and(|l| l.status == SIGILL);
    // What this machine's CPU has not either is no case.
    native.retain(|_, n| n.status != SIGILL);
    let all = native.len();
    native.retain(|name, _| !by_design(name));
    let refused = all - native.len();
    messages.iter().filter(|m| !GATED.iter().any(|g| m.contains(&format!("/{g}: ")))).for_each(|m| println!("{m}"));
    println!("{refused} programs of features beyond x86-64-v2 are refused by design, with SIGILL");
    let native = verdict::stable(batch::lines(&native), &batch::lines(&again));
    let native = verdict::settled(native, "double shifts of 16 bits by more than 16, lzcnt's overflow flag", is_makers_choice);
    // A program may end with any status of its own, but not by a signal or for lack of time.
    let passes = |result: &str| result.strip_prefix("exit ").and_then(|s| s.parse::<i32>().ok()).is_none_or(|status| status < 124);
    let mut verdict = verdict::judge("valgrind", &native, &batch::lines(&lifted), passes)?;
    verdict.refused = refused;
    ensure!(verdict.passing > 10_000, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// A double shift of 16 bits, which leaves 48 as they were, by more than 16 (its line begins with the count); and an lzcnt that left the overflow flag set (its line ends with the flags).
fn is_makers_choice(name: &str, line: &str) -> bool {
    let mut words = line.split_whitespace();
    if name.starts_with("shrld/") {
        let count: Option<u32> = words.next().and_then(|n| n.parse().ok());
        return count.is_some_and(|n| n & 31 > 16) && words.next().is_some_and(|result| result.starts_with("0x112233445566"));
    }
    name.starts_with("lzcnt64/") && words.next_back().and_then(|flags| u32::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & 0x800 != 0)
}

fn sources() -> anyhow::Result<PathBuf> {
    let archive = sources::file("valgrind", ".orig.tar.bz2")?;
    let script = r#"tar xjf "$1" -C "$2" --strip-components=1 --wildcards '*/none/tests/amd64/*' '*/tests/*.h' '*/include/*.h'; touch "$2/config.h""#;
    sources::unpacked(&archive, "valgrind-tests", script)
}

/// Options of the suite's Makefile.am, for programs that have some.
fn options(name: &str) -> &'static [&'static str] {
    match name {
        "amd64locked" | "fb_test_amd64" => &["-O", "-fno-strict-aliasing"],
        "bmi" => &["-mbmi", "-mbmi2", "-mlzcnt"],
        "fma" => &["-mfma"],
        "fma4" => &["-mfma4"],
        "cmpxchg" | "fcmovnu" | "fxtract" | "jrcxz" | "looper" | "sbbmisc" | "shrld" => &["-fno-pie", "-no-pie"],
        _ => &[],
    }
}

/// Every program that compiles; `insn_*` are generated first.
fn compile(root: &Path, into: &Path) -> anyhow::Result<Vec<Program>> {
    let tests = root.join("none/tests/amd64");
    process::emptied(into)?;
    let objects = work().join("valgrind-objects");
    fs::create_dir_all(&objects)?;
    let buffered = objects.join("line-buffered.c");
    fs::write(&buffered, batch::LINE_BUFFERED)?;
    let mut files: Vec<PathBuf> = fs::read_dir(&tests)?.filter_map(|e| e.ok().map(|e| e.path())).collect();
    files.sort();
    let (mut programs, mut left_out) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let source = match file.extension().and_then(|e| e.to_str()) {
            Some("c") => file,
            Some("def") => {
                let c = objects.join(format!("{name}.c"));
                process::run(Command::new("perl").arg(tests.join("gen_insn_test.pl")).stdin(fs::File::open(&file)?).stdout(fs::File::create(&c)?))?;
                c
            }
            _ => continue,
        };
        let mut gcc = Command::new("gcc");
        gcc.args(["-w", "-g", "-DVGO_linux=1", "-DVGA_amd64=1"]).args(options(&name));
        gcc.arg("-I").arg(root).arg("-I").arg(root.join("include")).arg("-I").arg(&tests).arg("-o").arg(into.join(&name)).arg(&source).arg(&buffered).arg("-lm");
        if output(&mut gcc)?.status.success() {
            programs.push(Program { path: format!("/{IN_IMAGE}/{name}"), name, args: Vec::new(), seconds: 60 });
        } else {
            left_out.push(name);
        }
    }
    println!("{} programs; {} do not compile here: {}", programs.len(), left_out.len(), left_out.join(" "));
    Ok(programs)
}
