//! `cargo xtask suite NAME`: what takes too long, or fetches too much, for every `cargo xtask test`.
//!
//! Owns the list of suites; each one's work is in a file of its own.

use crate::{fuzz, gates, test};
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
    /// Every form of every lifted instruction with random operands through the whole pipeline
    Instructions,
}

impl Suite {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Suite::Deny => gates::deny(),
            Suite::Fuzz { seconds } => fuzz::run(seconds),
            Suite::Instructions => test::instruction_suite(),
        }
    }
}
