//! `cargo xtask suite avx`: the forms of SIMD instructions that QEMU's test-avx generates, natively and lifted, form by form.
//!
//! Owns the driver they run in. QEMU's own loads all registers around an indirect call, which no compiler does: structured code may believe that an unknown callee reads and returns what SysV says (ARCHITECTURE.md, "Registers across
//! boundaries"). So here each form loads and stores its registers itself. The fact a newcomer gets wrong: forms beyond the CPU a guest is told of must end in SIGILL; they are counted apart, and one that computes something is compared.

use super::batch::{self, Program};
use super::i386;
use super::verdict::{self, Results, Verdict};
use crate::process::{self, say, work};
use crate::{rootfs, setup};
use anyhow::{Context, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

const IN_IMAGE: &str = "usr/local/lib/avx";
/// What every guest's CPU has (x86-64-v2), in the words of x86.csv.
const GRANTED: &str = r#"archs = ["MMX", "SSE", "SSE2", "SSE3", "SSSE3", "SSE4_1", "SSE4_2""#;
/// What it is not told of.
const GATED: &str = r#"archs = ["AES", "AVX", "AVX2", "AES+AVX", "VAES+AVX", "F16C", "FMA""#;
const REFUSED: &str = "refused: SIGILL";
/// In place of QEMU's `run_test` and `TEST`. Offsets are those of its `reg_state`; the forms use xmm9 to xmm14, mm1 to mm4, rax, rcx, and memory at rdx, rsi and rdi.
const DRIVER: &str = r##"
#include <setjmp.h>
#include <signal.h>
static sigjmp_buf refused;
static void on_sigill(int signal) { siglongjmp(refused, signal); }
reg_state now, result;
static void run_test(const TestDef *t)
{
    memcpy(t->init->mem, t->init->mem0, sizeof(t->init->mem));
    now = result = *t->init;
    printf("@ %s\n", t->s);
    signal(SIGILL, on_sigill);
    if (sigsetjmp(refused, 1) == 0) {
        t->fn();
        compare_state(t->init, &result);
    } else {
        asm volatile("emms");
        puts("refused: SIGILL");
    }
}
#define FROM(w, r, o) "mov" w " " #r ", now[rip+" #o "]\n\t"
#define INTO(w, r, o) "mov" w " result[rip+" #o "], " #r "\n\t"
#define SIMD(F) F("dqa", xmm0, 0x40) F("dqa", xmm9, 0x160) F("dqa", xmm10, 0x180) F("dqa", xmm11, 0x1a0) F("dqa", xmm12, 0x1c0) F("dqa", xmm13, 0x1e0) F("dqa", xmm14, 0x200) \
    F("q", mm1, 0x08) F("q", mm2, 0x10) F("q", mm3, 0x18) F("q", mm4, 0x20) F("", rax, 0x240) F("", rcx, 0x250)
#define TEST(n, cmd, type) \
static void __attribute__((naked)) test_##n(void) \
{ \
    asm volatile("push 2\n\tpopf\n\t" SIMD(FROM) FROM("", rdx, 0x258) FROM("", rsi, 0x260) FROM("", rdi, 0x268) \
        cmd "\n\t" SIMD(INTO) "pushf\n\tpop rax\n\tand eax, 0xff\n\t" INTO("", rax, 0x2c0) "emms\n\tret"); \
}
"##;

pub(super) fn run() -> anyhow::Result<Verdict> {
    let binaries = setup::binaries()?;
    let image = rootfs::copy(&rootfs::debian()?, "avx-rootfs")?;
    let programs = compile(&i386::sources()?, &image.join(IN_IMAGE))?;
    let release = batch::build(&binaries, "avx", &image, &programs)?;
    say("running natively and lifted");
    let native = verdict::stable(forms(&batch::natively(&image, &programs)?), &forms(&batch::natively(&image, &programs)?));
    let (lifted, _) = batch::lifted(&release, &binaries, &programs)?;
    let lifted = forms(&lifted);
    let by_design = |name: &str| name.starts_with("gated/") && lifted.get(name).is_some_and(|r| r == REFUSED);
    // What this machine's CPU has not either is no case.
    let (refused, compared): (Results, Results) = native.into_iter().filter(|(_, r)| r != REFUSED).partition(|(name, _)| by_design(name));
    let mut verdict = verdict::judge("avx", &compared, &lifted, |r| r.starts_with("exit 0") || !r.starts_with("exit "))?;
    verdict.refused = refused.len();
    println!("{} forms beyond x86-64-v2 are refused by design, with SIGILL", refused.len());
    ensure!(verdict.passing > 8_000 && verdict.refused > 400, "only {} forms and {} gated ones run natively: the set-up is wrong", verdict.passing, verdict.refused);
    Ok(verdict)
}

/// Two programs: all forms a guest's CPU has, and the first form of each row that it has not.
fn compile(dir: &Path, into: &Path) -> anyhow::Result<Vec<Program>> {
    process::emptied(into)?;
    let objects = work().join("avx-objects");
    fs::create_dir_all(&objects)?;
    let generator = fs::read_to_string(dir.join("test-avx.py"))?;
    let archs = between(&generator, "archs = [", "]\n")?;
    let all = "for insn in g.gen():";
    ensure!(generator.contains(all), "test-avx.py has changed");
    let c = objects.join("test-avx.c");
    let text = fs::read_to_string(dir.join("test-avx.c"))?;
    fs::write(&c, text.replace(between(&text, "#define LOADMM", "#include \"test-avx.h\"")?, DRIVER))?;
    let program = |name: &str, words: &str, generated: &str| -> anyhow::Result<Program> {
        let (script, headers) = (objects.join(format!("{name}.py")), objects.join(name));
        fs::create_dir_all(&headers)?;
        fs::write(&script, generator.replace(archs, words).replacen(all, generated, 1))?;
        process::run(Command::new("python3").arg(&script).arg(dir.join("x86.csv")).arg(headers.join("test-avx.h")))?;
        let mut gcc = Command::new("gcc");
        gcc.args(["-w", "-O1", "-masm=intel", "-fno-pie", "-no-pie", "-I"]).arg(&headers);
        process::run(gcc.arg("-o").arg(into.join(name)).arg(&c))?;
        Ok(Program { name: name.to_owned(), path: format!("/{IN_IMAGE}/{name}"), args: Vec::new(), seconds: 120 })
    };
    Ok(vec![program("granted", GRANTED, all)?, program("gated", GATED, "for insn in list(g.gen())[:1]:")?])
}

/// The text from `begin` to just before `end`.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> anyhow::Result<&'a str> {
    let at = text.find(begin).with_context(|| format!("no {begin} in QEMU's test"))?;
    let length = text[at..].find(end).with_context(|| format!("no {end} in QEMU's test"))?;
    Ok(&text[at..at + length])
}

/// What each form changed, by `PROGRAM/FORM`; a form that is tested more than once is numbered.
fn forms(outcomes: &batch::Outcomes) -> Results {
    let mut results = Results::new();
    for (program, ended) in outcomes {
        results.insert(format!("{program}/exit"), format!("exit {}", ended.status));
        for part in ended.stdout.split("\n@ ").skip(1) {
            let (form, changes) = part.split_once('\n').unwrap_or((part, ""));
            let name =
                (1..).map(|n| if n == 1 { format!("{program}/{form}") } else { format!("{program}/{form} #{n}") }).find(|n| !results.contains_key(n)).expect("numbers do not end");
            results.insert(name, changes.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("; "));
        }
    }
    results
}
