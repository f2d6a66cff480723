//! `cargo xtask suite NAME`: what takes too long, or fetches too much, for every `cargo xtask test`.
//!
//! Owns the list of suites; each one's work is in a file of its own. Suites of other people's tests run every case natively and lifted and end in a `Verdict`.

mod avx;
mod bash;
mod batch;
mod blocks;
mod busybox;
pub(crate) mod csmith;
mod gnu;
mod i386;
mod scripted;
mod torture;
mod valgrind;
mod verdict;

use crate::process::say;
use crate::{fuzz, gates, test};
use clap::Subcommand;
use verdict::Verdict;

#[derive(Subcommand)]
pub(crate) enum Suite {
    /// Every suite that compares natively with lifted, one after another
    All {
        /// End with a table of all suites
        #[arg(long)]
        summary: bool,
    },
    /// Licences, bans and sources of all dependencies (builds cargo-deny first)
    Deny,
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
    /// Every form of every lifted instruction with random operands through the whole pipeline
    Instructions,
}

impl Suite {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Suite::All { summary } => all(summary),
            Suite::Deny => gates::deny(),
            Suite::Fuzz { seconds } => fuzz::run(seconds),
            Suite::Torture { sample, level, fixed } => torture::run(sample, &level, fixed)?.check(),
            Suite::I386 => i386::run()?.check(),
            Suite::Avx => avx::run()?.check(),
            Suite::Valgrind => valgrind::run()?.check(),
            Suite::Csmith { seeds, first, fresh, smoke } => {
                let count = if smoke { csmith::SMOKE.count } else { seeds };
                let seeds = if fresh { csmith::Seeds::fresh(count)? } else { csmith::Seeds { count, first } };
                csmith::run(&seeds)?.check()
            }
            Suite::Blocks { smoke: true, .. } => blocks::run(blocks::SMOKE),
            Suite::Blocks { seeds, fresh: true, .. } => blocks::run(blocks::Seeds::fresh(seeds)?),
            Suite::Blocks { seeds, first, .. } => blocks::run(blocks::Seeds { count: seeds, first }),
            Suite::Bash { cases } => bash::run(&cases)?.check(),
            Suite::Busybox { applets } => busybox::run(&applets)?.check(),
            Suite::Coreutils { cases } => gnu::run(&gnu::COREUTILS, &cases)?.check(),
            Suite::Sed { cases } => gnu::run(&gnu::SED, &cases)?.check(),
            Suite::Grep { cases } => gnu::run(&gnu::GREP, &cases)?.check(),
            Suite::Instructions => test::instruction_suite(),
        }
    }
}

/// Suites that compare, in the order of `suite all`.
const COMPARING: &[(&str, fn() -> anyhow::Result<Verdict>)] = &[
    ("i386", i386::run),
    ("avx", avx::run),
    ("valgrind", valgrind::run),
    ("csmith", || csmith::run(&csmith::USUAL)),
    ("torture", || torture::run(1, "O2", false)),
    ("bash", || bash::run(&[])),
    ("busybox", || busybox::run(&[])),
    ("coreutils", || gnu::run(&gnu::COREUTILS, &[])),
    ("sed", || gnu::run(&gnu::SED, &[])),
    ("grep", || gnu::run(&gnu::GREP, &[])),
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
        verdicts.iter().for_each(Verdict::print);
    }
    failed.iter().for_each(|e| println!("FAILED {e:#}"));
    anyhow::ensure!(failed.is_empty(), "{} of {} suites failed", failed.len(), COMPARING.len());
    Ok(())
}
