//! Reading a manifest as the operator trusts it: which keys, which revocations, how many signatures. Owns the default places under
//! /etc/vkernel; the checks are `policy::verify`'s. The fact a newcomer gets wrong: `--key` replaces the default keys, it does not add to them.

use crate::failure::Failure;
use policy::{Revocations, TrustedKeys, Verified};
use std::io::Read;
use std::path::{Path, PathBuf};

pub const KEYS: &str = "/etc/vkernel/keys";
pub const REVOKED: &str = "/etc/vkernel/revoked.json";
/// More is no manifest (03).
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// The keys the caller named, or those of the host.
pub fn trusted(files: &[PathBuf]) -> Result<TrustedKeys, Failure> {
    let mut keys = TrustedKeys::default();
    let failure = |e: policy::KeyError| Failure::new("trusted keys", e, "");
    for file in files {
        keys.add_file(file).map_err(failure)?;
    }
    if files.is_empty() && Path::new(KEYS).is_dir() {
        keys.add_directory(Path::new(KEYS)).map_err(failure)?;
    }
    if keys.is_empty() {
        return Err(Failure::new("trusted keys", "there are none", format!("put public keys into {KEYS} as *.pub, or name one with --key FILE")));
    }
    Ok(keys)
}

/// Reads and verifies; nothing of an unverified manifest is returned.
pub fn manifest(path: &Path, key_files: &[PathBuf], threshold: usize) -> Result<Verified, Failure> {
    let what = || format!("manifest {}", path.display());
    let keys = trusted(key_files)?;
    let revoked = match std::fs::read(REVOKED) {
        Ok(bytes) => Revocations::parse(&bytes).map_err(|e| Failure::new(REVOKED, e, "repair the list: nothing runs without it"))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Revocations::default(),
        Err(e) => return Err(Failure::new(REVOKED, e, "make it readable: nothing runs without it")),
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| Failure::new(what(), e, "name the manifest.json of a build"))?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(Failure::new(what(), "larger than 64 MiB", "name the manifest.json of a build"));
    }
    policy::verify(&bytes, &keys, threshold, &revoked, env!("CARGO_PKG_VERSION")).map_err(|e| Failure::new(what(), e, ""))
}
