//! The manifests of running containers and what is believed of them now. Owns a copy of each manifest's bytes, by digest: a container goes on with the one it began with, whatever lies
//! where it came from (07, S15), also under the next daemon.
//!
//! The fact a newcomer gets wrong: the copies prove nothing. They are verified each time with the keys and revocations of that moment.

use super::settings::{Revoked, Settings};
use crate::failure::Failure;
use crate::keys;
use crate::release::Source;
use policy::{Digest, Verified};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Releases that are kept although nothing of them runs just now: to verify a large manifest takes longer than all else that a start needs of the daemon.
const RECENT: usize = 8;

/// Digest, and whom the container's caller wanted believed.
type Key = (String, Vec<PathBuf>, usize);

#[derive(Default)]
struct Known {
    /// Of the settings that these verdicts were made under.
    generation: u64,
    all: HashMap<Key, Weak<Verified>>,
    recent: VecDeque<(String, Arc<Verified>)>,
}

impl Known {
    fn remember(&mut self, digest: &str, verified: &Arc<Verified>) {
        self.recent.retain(|(_, other)| !Arc::ptr_eq(other, verified));
        self.recent.push_front((digest.to_owned(), verified.clone()));
        self.recent.truncate(RECENT);
    }
}

pub(super) struct Policies {
    dir: PathBuf,
    known: Mutex<Known>,
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
        let mut known = self.known();
        let current = known.generation == settings.generation;
        if let Some(verified) = known.all.get(&key).and_then(Weak::upgrade).filter(|_| current) {
            known.remember(&digest, &verified);
            return Ok(verified);
        }
        drop(known);
        let bytes = self.bytes(source, &digest)?;
        let verified = Arc::new(settings.trust.verify(&bytes, &source.keys, source.threshold)?);
        let mut known = self.known();
        // Not if there was a reload meanwhile.
        if known.generation == settings.generation {
            known.all.retain(|_, other| other.strong_count() > 0);
            known.all.insert(key, Arc::downgrade(&verified));
            known.remember(&digest, &verified);
        }
        Ok(verified)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for containers that run already: a release that is believed no more is `None`, or goes on as it was.
    pub(super) fn judge(&self, source: &Source, settings: &Settings, before: Option<&Arc<Verified>>) -> Option<Arc<Verified>> {
        self.get(source, settings).ok().or_else(|| before.filter(|_| settings.file.revoked_releases == Revoked::Keep).cloned())
    }

    /// New settings: everything is verified again.
    pub(super) fn forget_verdicts(&self, settings: &Settings) {
        *self.known() = Known { generation: settings.generation, ..Known::default() };
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

    /// Removes the copies that no container needs, and no verdict was made of.
    pub(super) fn sweep(&self, needed: &BTreeSet<String>) {
        let known = self.known();
        let needed: BTreeSet<PathBuf> = needed.iter().chain(known.recent.iter().map(|(digest, _)| digest)).map(|d| self.path(d)).collect();
        for file in std::fs::read_dir(&self.dir).into_iter().flatten().flatten().filter(|f| !needed.contains(&f.path())) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}
