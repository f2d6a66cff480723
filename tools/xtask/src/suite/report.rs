//! `cargo xtask suite report`: the page of `report --html` as a browser shows it.
//!
//! Owns getting the browser. The tests are in `integration-tests/tests/report.rs`; `cargo xtask test` runs those that need only an HTML parser.

use crate::process::{self, say};
use crate::setup;

pub(crate) fn run() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    setup::install(&["chromium"])?;
    say("a report in a browser");
    let mut tests = process::cargo();
    tests.args(["test", "--release", "-p", "integration-tests", "--test", "report", "--", "--include-ignored"]).env("RECOMPILER_BIN", &binaries.recompiler);
    process::run(&mut tests)
}
