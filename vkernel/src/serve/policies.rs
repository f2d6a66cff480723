//! The manifests of running containers and what is believed of them now. Owns a copy of each manifest's bytes, by digest: a container goes on with the one it began with, whatever lies
//! where it came from (07, S15), also under the next daemon.
//!
//! The fact a newcomer gets wrong: the copies prove nothing. They are verified each time with the keys and revocations of that moment.

use super::settings::{Revoked, Settings};
use crate::failure::Failure;
use crate::keys;
use crate::release::Source;
use policy::{Digest, Verified};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(super) struct Policies {
    dir: PathBuf,
    /// By digest and whom the container's caller wanted believed.
    known: Mutex<HashMap<(String, Vec<PathBuf>, usize), Weak<Verified>>>,
}

impl Policies {
    pub(super) fn new(dir: PathBuf) -> Result<Self, Failure> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| Failure::new(dir.display().to_string(), e, "choose another place with --socket PATH"))?;
        Ok(Self { dir, known: Mutex::default() })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest.replace([':', '/'], "-"))
    }

    /// The release of a container, as these settings judge it.
    pub(super) fn get(&self, source: &Source, settings: &Settings) -> Result<Arc<Verified>, Failure> {
        let digest = source.digest.clone().ok_or_else(|| Failure::new("container record", "names no manifest", "delete the container"))?;
        let key = (digest.clone(), source.keys.clone(), source.threshold);
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let bytes = self.bytes(source, &digest)?;
        let verified = Arc::new(settings.trust.verify(&bytes, &source.keys, source.threshold)?);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::downgrade(&verified));
        Ok(verified)
    }

    /// The same for containers that run already: a release that is believed no more is `None`, or goes on as it was.
    pub(super) fn judge(&self, source: &Source, settings: &Settings, before: Option<&Arc<Verified>>) -> Option<Arc<Verified>> {
        self.get(source, settings).ok().or_else(|| before.filter(|_| settings.file.revoked_releases == Revoked::Keep).cloned())
    }

    /// New keys: everything is verified again.
    pub(super) fn forget_verdicts(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn bytes(&self, source: &Source, digest: &str) -> Result<Vec<u8>, Failure> {
        let is_it = |bytes: &Vec<u8>| Digest::blake3(bytes).to_string() == digest;
        let path = self.path(digest);
        if let Some(bytes) = std::fs::read(&path).ok().filter(is_it) {
            return Ok(bytes);
        }
        let bytes = keys::bytes(&source.manifest)?;
        if !is_it(&bytes) {
            return Err(Failure::new(format!("manifest {}", source.manifest.display()), format!("is no longer {digest}"), "restart the container to run the other release"));
        }
        let new = path.with_extension("new");
        let kept = std::fs::write(&new, &bytes).and_then(|()| std::fs::rename(&new, &path));
        kept.map_err(|e| Failure::new(path.display().to_string(), e, "make room for a copy of the manifest"))?;
        Ok(bytes)
    }

    /// Removes the copies that no container needs.
    pub(super) fn sweep(&self, needed: &BTreeSet<String>) {
        let needed: BTreeSet<PathBuf> = needed.iter().map(|d| self.path(d)).collect();
        for file in std::fs::read_dir(&self.dir).into_iter().flatten().flatten().filter(|f| !needed.contains(&f.path())) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}
