//! `cargo xtask suite NAME`: what takes too long, or fetches too much, for every `cargo xtask test`.
//!
//! Owns the list of suites; each one's work is in a file of its own.

use crate::{gates, test};
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Suite {
    /// Licences, bans and sources of all dependencies (builds cargo-deny first)
    Deny,
    /// Every form of every lifted instruction with random operands through the whole pipeline
    Instructions,
}

impl Suite {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Suite::Deny => gates::deny(),
            Suite::Instructions => test::instruction_suite(),
        }
    }
}
