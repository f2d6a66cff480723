//! `cargo xtask demo | test | bench | build`: the project's own commands. Each does all set-up itself on a fresh Debian 12 machine, as root.
//!
//! Owns the order of things, not their substance: building images is `recompiler-build`'s, running them `vkernel`'s. The fact a newcomer gets wrong:
//! everything these commands make lies in `target/vkernel/` and may be deleted at any time.

#![forbid(unsafe_code)]

mod bench;
mod coverage;
mod demo;
mod fuzz;
mod gates;
mod mutants;
mod package;
mod process;
mod release;
mod rootfs;
mod setup;
mod sources;
mod suite;
mod test;
mod wasi;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, show, test and measure vkernel (as root, on Debian 12)")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, make a Debian container, run it, and show three refusals
    Demo,
    /// Run all tests
    Test {
        /// Only integration tests whose names contain this
        filter: Option<String>,
    },
    /// Measure native and vkernel side by side; writes target/bench.json
    Bench {
        /// Only these groups: compute, programs, syscalls, exec, start; host (only if named); python, tools and gcc, each of which is run alone
        groups: Vec<String>,
        /// Runs per figure; the median is printed
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Say of each image of many Debian programs how much of its code is translated; fails on a gap that is not listed
    Coverage {
        /// Only these images
        images: Vec<String>,
    },
    /// Run a suite that is too large, or needs too much, for `test`
    #[command(subcommand)]
    Suite(suite::Suite),
    /// Break one rule at a time in a copy of the sources; the tests must notice
    Mutants {
        /// Only mutations whose rule or file contains this
        filter: Option<String>,
        /// Also those that need a rebuilt image: minutes each
        #[arg(long)]
        all: bool,
    },
    /// Make Debian packages in target/vkernel/package, and see that they install, run and leave nothing
    Package,
    /// Install packages and build the release binaries
    Build,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo => demo::run(),
        Command::Test { filter } => test::run(filter.as_deref()),
        Command::Bench { groups, runs } => bench::run(&groups, runs),
        Command::Coverage { images } => coverage::run(&images),
        Command::Suite(suite) => suite.run(),
        Command::Mutants { filter, all } => mutants::run(filter.as_deref(), all),
        Command::Package => package::run_all(),
        Command::Build => setup::binaries().map(|_| ()),
    }
}
