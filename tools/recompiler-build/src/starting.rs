//! `verify --start PROGRAM`: how long a release takes from the command to the end of a program.
//!
//! Owns the measurement. The fact a newcomer gets wrong: the first start copies the release into a store and is not counted; the store and the memory of serials are temporary ones, so that verifying leaves no trace on the host.

use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const PROGRAM: &str = "vkernel";
const INSTALLED: &str = "/usr/bin/vkernel";
/// Enough for a median that one slow start does not move.
const RUNS: usize = 9;

/// What to start, and whom to believe.
pub struct Start<'a> {
    pub manifest: &'a Path,
    pub rootfs: &'a Path,
    pub keys: &'a [PathBuf],
    pub program: &'a str,
}

/// The runtime: beside this program or where it is installed, never from PATH.
pub fn vkernel() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let found = own.parent().map(|d| d.join(PROGRAM)).into_iter().chain([INSTALLED.into()]).find(|p| p.is_file());
    found.with_context(|| format!("{PROGRAM} is neither beside {} nor in /usr/bin: install it", own.display()))
}

/// The median in milliseconds.
pub fn milliseconds(s: &Start<'_>) -> anyhow::Result<f64> {
    let vkernel = vkernel()?;
    let place = tempfile::tempdir().context("cannot make a temporary directory")?;
    let run = || -> anyhow::Result<f64> {
        let mut c = Command::new(&vkernel);
        c.arg("run").arg(s.manifest).arg("--rootfs").arg(s.rootfs).arg("--store").arg(place.path().join("store")).arg("--serials").arg(place.path().join("serials"));
        s.keys.iter().for_each(|k| {
            c.arg("--key").arg(k);
        });
        c.args(["--", s.program]).env_remove("RUST_MIN_STACK").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let clock = Instant::now();
        let out = c.output().with_context(|| format!("cannot start {}", vkernel.display()))?;
        let taken = clock.elapsed().as_secs_f64() * 1e3;
        ensure!(out.status.success(), "{} does not start: {}", s.program, String::from_utf8_lossy(&out.stderr).trim());
        Ok(taken)
    };
    run()?;
    let mut taken = (0..RUNS).map(|_| run()).collect::<anyhow::Result<Vec<f64>>>()?;
    taken.sort_by(f64::total_cmp);
    Ok(taken[RUNS / 2])
}
