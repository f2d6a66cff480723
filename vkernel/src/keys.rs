//! Reading a manifest as the operator trusts it: which keys, which revocations, how many signatures. Owns the default places under
//! /etc/vkernel; the checks are `policy::verify`'s. The fact a newcomer gets wrong: `--key` replaces the default keys, it does not add to them.

use crate::failure::Failure;
use crate::store::Store;
use policy::{Algorithm, Digest, Revocations, TrustedKeys, Verified, canonical, memory};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What an operator configures.
pub const DIRECTORY: &str = "/etc/vkernel";
pub const KEYS: &str = "/etc/vkernel/keys";
pub const REVOKED: &str = "/etc/vkernel/revoked.json";

/// Of this program: manifests say which they need.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whom the host believes: its keys, and what was revoked.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub keys: TrustedKeys,
    pub revoked: Revocations,
}

impl Trust {
    /// All of a directory like /etc/vkernel, or the first thing that is wrong with it.
    pub fn read(directory: &Path) -> Result<Self, Failure> {
        let mut keys = TrustedKeys::default();
        let of_host = directory.join("keys");
        if of_host.is_dir() {
            keys.add_directory(&of_host).map_err(|e| Failure::new("trusted keys", e, ""))?;
        }
        Ok(Self { keys, revoked: revoked(&directory.join("revoked.json"))? })
    }

    /// Reads and verifies a manifest's bytes; `named` keys replace the host's.
    pub fn verify(&self, bytes: &[u8], named: &[PathBuf], threshold: usize) -> Result<Verified, Failure> {
        let named = if named.is_empty() { None } else { Some(trusted(named)?) };
        policy::verify(bytes, named.as_ref().unwrap_or(&self.keys), threshold, &self.revoked, VERSION).map_err(|e| Failure::new("manifest", e, ""))
    }
}

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

/// Reads and verifies; nothing of an unverified manifest is returned. With a store, what an earlier start found is not found again, and evidence that nobody acts upon is left out.
pub fn manifest(path: &Path, key_files: &[PathBuf], threshold: usize, store: Option<&Store>) -> Result<Verified, Failure> {
    let what = || format!("manifest {}", path.display());
    let keys = trusted(key_files)?;
    let revoked = revoked(Path::new(REVOKED))?;
    let recalled = store.and_then(|store| {
        let digest = digest(path).ok()?;
        memory::recall(&store.recall(&digest)?, digest, &keys, threshold, &revoked, VERSION)
    });
    if let Some(verified) = recalled {
        return Ok(verified);
    }
    let bytes = bytes(path)?;
    let verified = policy::verify(&bytes, &keys, threshold, &revoked, VERSION).map_err(|e| Failure::new(what(), e, ""))?;
    if let Some(store) = store {
        store.remember(&verified.digest(), &memory::remember(&verified, VERSION));
    }
    Ok(verified)
}

/// What a verification rests on, as it lies there: where that has not changed, a verification would end as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis(Vec<(PathBuf, Option<[i64; 7]>)>);

impl Basis {
    pub fn of(manifest: &Path, key_files: &[PathBuf]) -> Self {
        let mut files = vec![manifest.to_owned(), REVOKED.into()];
        files.extend_from_slice(key_files);
        if key_files.is_empty() {
            files.push(KEYS.into());
            files.extend(std::fs::read_dir(KEYS).into_iter().flatten().flatten().map(|e| e.path()));
        }
        files.sort();
        let state = |path: &PathBuf| {
            let m = std::fs::metadata(path).ok()?;
            Some([m.dev() as i64, m.ino() as i64, m.len() as i64, m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()])
        };
        let states: Vec<_> = files.iter().map(state).collect();
        Self(files.into_iter().zip(states).collect())
    }
}

fn revoked(path: &Path) -> Result<Revocations, Failure> {
    let what = || path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Revocations::parse(&bytes).map_err(|e| Failure::new(what(), e, "repair the list: nothing runs without it")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Revocations::default()),
        Err(e) => Err(Failure::new(what(), e, "make it readable: nothing runs without it")),
    }
}

/// Of a manifest as it lies there. Most starts need its bytes for nothing else: they never all lie in memory.
fn digest(path: &Path) -> std::io::Result<Digest> {
    let file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > canonical::MAX_BYTES as u64 {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    Digest::of_reader(Algorithm::Blake3, &mut file.take(meta.len()))
}

/// A manifest as it lies there; nothing of it is believed yet.
pub fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let what = || format!("manifest {}", path.display());
    let read = std::fs::File::open(path).and_then(canonical::bytes);
    let bytes = read.map_err(|e| Failure::new(what(), e, "name the manifest.json of a build"))?;
    if bytes.len() > canonical::MAX_BYTES {
        return Err(Failure::new(what(), "larger than 64 MiB", "name the manifest.json of a build"));
    }
    Ok(bytes)
}
