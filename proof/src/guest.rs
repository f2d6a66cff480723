//! The lifted side: a command under `vkernel run`. Owns that nothing of it stays on the host and that every host asks alike: a store and a memory of serials of its own, no network, a surrounding that is always the same. The fact a newcomer gets wrong: guests run in
//! `vkernel`'s own processes, never in this one, also where this one is `vkernel`.

use crate::ProofError;
use crate::command::{self, Came};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A release, and the runtime that is asked.
pub struct Guest {
    vkernel: PathBuf,
    manifest: PathBuf,
    rootfs: PathBuf,
    keys: Vec<PathBuf>,
    threshold: usize,
    place: tempfile::TempDir,
}

impl Guest {
    /// The keys, so many of which must have signed, are those it runs the release with; none: the host's.
    pub fn new(vkernel: PathBuf, manifest: &Path, rootfs: &Path, keys: &[PathBuf], threshold: usize) -> Result<Guest, ProofError> {
        Ok(Guest { vkernel, manifest: manifest.into(), rootfs: rootfs.into(), keys: keys.into(), threshold, place: tempfile::tempdir().map_err(ProofError::Temporary)? })
    }

    pub fn run(&self, command: &[String], stdin: &[u8]) -> Result<Came, ProofError> {
        let mut c = Command::new(&self.vkernel);
        c.arg("run").arg(&self.manifest).arg("--rootfs").arg(&self.rootfs);
        c.arg("--store").arg(self.place.path().join("store")).arg("--serials").arg(self.place.path().join("serials"));
        for key in &self.keys {
            c.arg("--key").arg(key);
        }
        c.args(["--threshold", &self.threshold.to_string(), "--network", "none"]).arg("--").args(command).env_remove("RUST_MIN_STACK");
        command::run(c, stdin)
    }
}
