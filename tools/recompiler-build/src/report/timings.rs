//! What a build cost, as its `--json` printed it.
//!
//! The fact a newcomer gets wrong: times are in no manifest and never will be; a page has them only if somebody hands this file over.

use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::Path;

/// A build's figures are some hundred bytes.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
pub(super) struct Timings {
    pub stages: Vec<Stage>,
    pub peak_memory_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stage {
    pub name: String,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub text_bytes: u64,
    pub made_bytes: u64,
}

pub(super) fn read(path: &Path) -> anyhow::Result<Timings> {
    let size = std::fs::metadata(path).with_context(|| format!("cannot read cost file {}", path.display()))?.len();
    ensure!(size <= MAX_BYTES, "{}: is no cost file: give what a build with --json printed", path.display());
    let bytes = std::fs::read(path).with_context(|| format!("cannot read cost file {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: is no cost file: give what a build with --json printed", path.display()))
}
