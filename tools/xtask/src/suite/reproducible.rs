//! `cargo xtask suite reproducible`: Debian's programs built twice by builders who share nothing.
//!
//! The tests are in `integration-tests/tests/reproducible.rs`; `cargo xtask test` runs the one with the tiny image.

use crate::process;
use crate::{demo, release, rootfs, setup};

pub(crate) fn run() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    let release = release::build(&binaries, "reproducible", &rootfs::debian()?, &demo::programs())?;
    let mut tests = process::cargo();
    tests.args(["test", "--release", "-p", "integration-tests", "--test", "reproducible", "--", "--include-ignored", "--test-threads", "1"]);
    process::run(crate::test::told(&mut tests, &binaries, &release))
}
