//! `cargo xtask suite NAME`: what takes too long, or fetches too much, for every `cargo xtask test`.
//!
//! Owns the list of suites; each one's work is in a file of its own. Suites of other people's tests run every case natively and lifted and end in a `Verdict`.

mod aarch64;
pub(crate) mod adversary;
mod avx;
mod bash;
mod batch;
pub(crate) mod blocks;
mod boot;
mod busybox;
pub(crate) mod csmith;
mod forked;
mod gawk;
mod gnu;
mod i386;
mod native;
mod perl;
mod polyfills;
mod programs;
mod python;
mod report;
mod reproducible;
mod scripted;
mod signatures;
mod sqlite3;
mod torture;
mod valgrind;
mod verdict;
mod xz;
mod zlib;

use crate::process::say;
use crate::{fuzz, gates, test};
use clap::Subcommand;
use verdict::Verdict;

#[derive(Subcommand)]
pub(crate) enum Suite {
    /// Every suite that compares natively with lifted, one after another: as each is by default, but every fourth case of torture only
    All {
        /// End with a table of all suites
        #[arg(long)]
        summary: bool,
    },
    /// Licences, bans and sources of all dependencies (builds cargo-deny first)
    Deny,
    /// QuickJS and CPython as WASI programs in the place of node and python3 (fetches both)
    Polyfills,
    /// Coverage-guided fuzzing of everything that parses foreign bytes
    Fuzz {
        /// Seconds, divided among the targets
        #[arg(default_value_t = 600)]
        seconds: u32,
    },
    /// gcc.c-torture/execute, natively and lifted, case by case (fetches Debian's source of gcc-12)
    Torture {
        /// Only every Nth case
        #[arg(long, default_value_t = 1)]
        sample: usize,
        /// Optimisation level
        #[arg(long, default_value = "O2", value_parser = ["O0", "O1", "O2", "O3", "Os"])]
        level: String,
        /// At fixed addresses instead of position-independent
        #[arg(long)]
        fixed: bool,
    },
    /// QEMU's tests of x86 instructions, natively and lifted, line by line (fetches Debian's source of qemu)
    I386,
    /// Code for AArch64: every form of every lifted instruction, natively and lifted under qemu-aarch64 (installs a cross compiler: 200 MB)
    Aarch64,
    /// SIMD instructions, natively and lifted, form by form (QEMU's test-avx)
    Avx,
    /// valgrind's programs for amd64, natively and lifted, line by line (fetches Debian's source of valgrind)
    Valgrind,
    /// Random C programs, natively and lifted, at every optimisation level: differential fuzzing with fixed or fresh seeds
    Csmith {
        /// How many seeds; each is eight cases
        #[arg(long, default_value_t = csmith::USUAL.count)]
        seeds: u32,
        /// The first seed
        #[arg(long, default_value_t = csmith::USUAL.first, conflicts_with = "fresh")]
        first: u32,
        /// Seeds from the clock (they are printed)
        #[arg(long)]
        fresh: bool,
        /// A few seeds only, in less than two minutes
        #[arg(long, conflicts_with = "seeds")]
        smoke: bool,
    },
    /// Random basic blocks, natively and lifted in both forms; a block that differs is shrunk and shown as assembly
    Blocks {
        /// How many
        #[arg(long, default_value_t = blocks::USUAL.count)]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = blocks::USUAL.first, conflicts_with = "fresh")]
        first: u64,
        /// Seeds from the clock (they are printed)
        #[arg(long)]
        fresh: bool,
        /// A few only, in less than a minute
        #[arg(long, conflicts_with_all = ["seeds", "first", "fresh"])]
        smoke: bool,
    },
    /// The tests of bash's source package on Debian's bash, run by the guest's own shell
    Bash {
        /// Only these `run-*` scripts
        cases: Vec<String>,
    },
    /// The tests of busybox's source package on Debian's busybox-static, run by the guest's own shell
    Busybox {
        /// Only these applets
        applets: Vec<String>,
    },
    /// The tests of coreutils' source package on Debian's coreutils, run by the guest's own shell
    Coreutils {
        /// Only these scripts (`tests/…`)
        cases: Vec<String>,
    },
    /// The tests of sed's source package on Debian's sed
    Sed {
        /// Only these scripts (`testsuite/…`)
        cases: Vec<String>,
    },
    /// The tests of grep's source package on Debian's grep
    Grep {
        /// Only these scripts
        cases: Vec<String>,
    },
    /// The tests of gawk's source package on Debian's gawk, run by Debian's make
    Gawk {
        /// Only these targets of its Makefile
        cases: Vec<String>,
    },
    /// CPython's own tests (libpython3.11-testsuite) on Debian's python3.11
    Python {
        /// Only these modules (`test_json`); by default a broad choice of those that take seconds
        cases: Vec<String>,
        /// All 484 modules
        #[arg(long, conflicts_with = "cases")]
        all: bool,
    },
    /// The core language's tests of perl's source package on Debian's perl, assertion by assertion
    Perl {
        /// Only these files (`op/pack.t`)
        cases: Vec<String>,
    },
    /// SQLite's Tcl tests: the source package's `testfixture`, lifted whole
    Sqlite3 {
        /// Only these files (`select1`); by default some of each part, of 1,148
        cases: Vec<String>,
    },
    /// The programs of zlib's source package on Debian's libz
    Zlib,
    /// The tests of xz-utils' source package on Debian's xz and liblzma
    Xz,
    /// Real work of many Debian programs (nginx, redis, git, perl, Go …), natively and lifted, case by case
    Programs {
        /// Only these cases
        cases: Vec<String>,
        /// How the image is compiled; a fast one is made in a fraction of the time and runs the resumable form alone
        #[arg(long, default_value = "full", value_parser = ["fast", "auto", "full"])]
        tier: String,
    },
    /// Attacks on the runtime from inside a guest and from outside, each with a harmless twin
    Adversary {
        /// Only these cases
        cases: Vec<String>,
        /// Only in these modes: identity, mapped, podman, rootless; may be repeated
        #[arg(long = "mode")]
        modes: Vec<String>,
    },
    /// The package on a Debian 12 of its own: its kernel, systemd and podman, in a virtual machine (makes an image of 600 MB)
    Boot {
        /// Only these cases, behind those that install the package
        cases: Vec<String>,
    },
    /// The page of `recompiler-build report --html` in a browser (installs chromium: 124 MB)
    Report,
    /// Debian's programs, built twice by builders who share nothing but the image
    Reproducible,
    /// Sigstore bundles, provenance and SBOMs by the tools of those formats' projects (fetches them from PyPI and npm)
    Signatures,
    /// Every form of every lifted instruction with random operands through the whole pipeline
    Instructions,
}

impl Suite {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Suite::All { summary } => all(summary),
            Suite::Deny => gates::deny(),
            Suite::Polyfills => polyfills::run_all(),
            Suite::Fuzz { seconds } => fuzz::run(seconds),
            Suite::Torture { sample, level, fixed } => torture::run(sample, &level, fixed)?.check(),
            Suite::I386 => i386::run()?.check(),
            Suite::Aarch64 => aarch64::run()?.check(),
            Suite::Avx => avx::run()?.check(),
            Suite::Valgrind => valgrind::run()?.check(),
            Suite::Csmith { seeds, first, fresh, smoke } => {
                let count = if smoke { csmith::SMOKE.count } else { seeds };
                let seeds = if fresh { csmith::Seeds::fresh(count)? } else { csmith::Seeds { count, first } };
                csmith::run(&seeds)?.check()
            }
            Suite::Blocks { smoke: true, .. } => blocks::run(blocks::SMOKE)?.check(),
            Suite::Blocks { seeds, fresh: true, .. } => blocks::run(blocks::Seeds::fresh(seeds)?)?.check(),
            Suite::Blocks { seeds, first, .. } => blocks::run(blocks::Seeds { count: seeds, first })?.check(),
            Suite::Bash { cases } => bash::run(&cases)?.check(),
            Suite::Busybox { applets } => busybox::run(&applets)?.check(),
            Suite::Coreutils { cases } => gnu::run(&gnu::COREUTILS, &cases)?.check(),
            Suite::Sed { cases } => gnu::run(&gnu::SED, &cases)?.check(),
            Suite::Grep { cases } => gnu::run(&gnu::GREP, &cases)?.check(),
            Suite::Gawk { cases } => gawk::run(&cases)?.check(),
            Suite::Python { cases, all } => python::run(&cases, all)?.check(),
            Suite::Perl { cases } => perl::run(&cases)?.check(),
            Suite::Sqlite3 { cases } => sqlite3::run(&cases)?.check(),
            Suite::Zlib => zlib::run()?.check(),
            Suite::Xz => xz::run()?.check(),
            Suite::Programs { cases, tier } => programs::run(&cases, &tier)?.check(),
            Suite::Adversary { cases, modes } => adversary::run(&cases, &modes),
            Suite::Boot { cases } => boot::run(&cases),
            Suite::Report => report::run(),
            Suite::Reproducible => reproducible::run(),
            Suite::Signatures => signatures::run(),
            Suite::Instructions => test::instruction_suite(),
        }
    }
}

/// In `suite all`: the whole is a quarter of an hour of compiling by itself.
const TORTURE_SAMPLE: usize = 4;

/// Suites that compare, in the order of `suite all`.
const COMPARING: &[(&str, fn() -> anyhow::Result<Verdict>)] = &[
    ("i386", i386::run),
    ("avx", avx::run),
    ("aarch64", aarch64::run),
    ("valgrind", valgrind::run),
    ("blocks", || blocks::run(blocks::USUAL)),
    ("csmith", || csmith::run(&csmith::USUAL)),
    ("torture", || torture::run(TORTURE_SAMPLE, "O2", false)),
    ("bash", || bash::run(&[])),
    ("busybox", || busybox::run(&[])),
    ("coreutils", || gnu::run(&gnu::COREUTILS, &[])),
    ("sed", || gnu::run(&gnu::SED, &[])),
    ("grep", || gnu::run(&gnu::GREP, &[])),
    ("gawk", || gawk::run(&[])),
    ("zlib", zlib::run),
    ("xz", xz::run),
    ("sqlite3", || sqlite3::run(&[])),
    ("perl", || perl::run(&[])),
    ("python", || python::run(&[], false)),
    ("programs", || programs::run(&[], "full")),
];

/// Runs all comparing suites; one that fails does not keep the others from running.
fn all(summary: bool) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    let mut verdicts = Vec::new();
    for (name, run) in COMPARING {
        match run() {
            Ok(verdict) => {
                failed.extend(verdict.check().err());
                verdicts.push(verdict);
            }
            Err(e) => failed.push(e.context(format!("suite {name}"))),
        }
    }
    if summary {
        say("summary");
        verdict::print(&verdicts);
    }
    failed.iter().for_each(|e| println!("FAILED {e:#}"));
    anyhow::ensure!(failed.is_empty(), "{} of {} suites failed", failed.len(), COMPARING.len());
    Ok(())
}
