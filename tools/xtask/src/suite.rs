//! `cargo xtask suite NAME`: what takes too long, or fetches too much, for every `cargo xtask test`.
//!
//! Owns the list of suites; each one's work is in a file of its own.

use crate::{fuzz, gates, test, torture};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Suite {
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
    /// Every form of every lifted instruction with random operands through the whole pipeline
    Instructions,
}

impl Suite {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Suite::Deny => gates::deny(),
            Suite::Fuzz { seconds } => fuzz::run(seconds),
            Suite::Torture { sample, level, fixed } => torture::run(sample, &level, fixed),
            Suite::Instructions => test::instruction_suite(),
        }
    }
}
