//! Building signed releases with `recompiler-build`.

use crate::process::{run, successful, work};
use crate::setup::Binaries;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A signed release on disk.
pub(crate) struct Release {
    pub manifest: PathBuf,
    pub rootfs: PathBuf,
    pub public_key: PathBuf,
}

/// The key pair of demo, tests and benches, made once.
fn key(binaries: &Binaries) -> anyhow::Result<PathBuf> {
    let key = work().join("keys/demo.key");
    if !key.exists() {
        fs::create_dir_all(work().join("keys"))?;
        run(Command::new(&binaries.recompiler).arg("keygen").arg(&key))?;
    }
    Ok(key)
}

/// Builds the release `name` from `rootfs` with the programs `include`.
pub(crate) fn build(binaries: &Binaries, name: &str, rootfs: &Path, include: &[String]) -> anyhow::Result<Release> {
    make(binaries, name, rootfs, include, &[])
}

/// The same with more options of `recompiler-build`.
pub(crate) fn make(binaries: &Binaries, name: &str, rootfs: &Path, include: &[String], options: &[&str]) -> anyhow::Result<Release> {
    let key = key(binaries)?;
    let dir = work().join(name);
    fs::create_dir_all(&dir)?;
    let manifest = dir.join("manifest.json");
    run(Command::new(&binaries.recompiler)
        .arg("--rootfs")
        .arg(rootfs)
        .arg("--include")
        .args(include)
        .arg("--output")
        .arg(dir.join("container.wasm"))
        .arg("--manifest")
        .arg(&manifest)
        .arg("--key")
        .arg(&key)
        .arg("--cache")
        .arg(work().join("cache"))
        .args(["--name", name])
        .args(options))?;
    Ok(Release { manifest, rootfs: rootfs.to_path_buf(), public_key: key.with_extension("pub") })
}

/// What `recompiler-build report` prints of the files `include` and all they need.
pub(crate) fn report(binaries: &Binaries, rootfs: &Path, include: &[String], form: &str) -> anyhow::Result<Vec<u8>> {
    let mut report = Command::new(&binaries.recompiler);
    report.args(["report", form, "--rootfs"]).arg(rootfs).arg("--cache").arg(work().join("cache")).arg("--include").args(include);
    Ok(successful(&mut report)?.stdout)
}

impl Release {
    /// `vkernel run` of this release; options first, then `--`, then the program.
    pub(crate) fn run(&self, binaries: &Binaries, options: &[&str], program: &[&str]) -> Command {
        let mut c = Command::new(&binaries.vkernel);
        c.arg("run").arg(&self.manifest).arg("--rootfs").arg(&self.rootfs).arg("--key").arg(&self.public_key);
        c.args(options).arg("--").args(program);
        c
    }
}
