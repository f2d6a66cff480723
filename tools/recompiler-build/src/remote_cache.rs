//! The build cache in a registry: results of other machines, signed by their keys (07, S20).
//!
//! Owns the signed index of a cache and which entries are asked for and offered; moving files is `vkernel-image`'s. The fact a newcomer gets wrong: cached native code is as good as the key that signed its index, no better: it is run
//! by hosts that trust *our* signature over it. So an index without a signature of a listed builder key is an error, while a cache that cannot be reached only makes the build slower.

use crate::cache::Cache;
use crate::cli::{RemoteCacheArgs, SourceArgs};
use crate::fetching;
use crate::signing::Signer;
use anyhow::{Context, ensure};
use policy::signature::{self, Kind};
use policy::{Digest, Revocations, TrustedKeys, canonical};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

const INDEX: &str = "index.json";

/// Kind and key of an entry, as the local cache names its files.
pub type Entry = (&'static str, String);

fn name((kind, key): &Entry) -> String {
    format!("{kind}/{key}")
}

/// Caches to take from and to give to.
pub struct Remote {
    from: Vec<(String, BTreeMap<String, Digest>)>,
    to: Option<String>,
    keys: TrustedKeys,
    access: Vec<OsString>,
}

impl Remote {
    /// No cache of anybody else's.
    pub fn none() -> Remote {
        Remote { from: Vec::new(), to: None, keys: TrustedKeys::default(), access: Vec::new() }
    }

    /// Fetches and checks the indexes. Without `signs`, nothing can be given to a cache.
    pub fn open(args: &RemoteCacheArgs, source: &SourceArgs, cache: &Cache, signs: bool) -> anyhow::Result<Remote> {
        ensure!(signs || args.cache_to.is_none(), "--cache-to needs --key or --signer: entries are signed");
        let mut keys = TrustedKeys::default();
        args.cache_key.iter().try_for_each(|k| keys.add_file(k))?;
        let mut remote = Remote { from: Vec::new(), to: args.cache_to.clone(), keys, access: fetching::access(source, Some(cache.directory())) };
        for image in &args.cache_from {
            if let Some(index) = remote.index(image)? {
                remote.from.push((image.clone(), index));
            }
        }
        Ok(remote)
    }

    /// The entries of a cache with their digests; `None` if it cannot be had.
    fn index(&self, image: &str) -> anyhow::Result<Option<BTreeMap<String, Digest>>> {
        let place = tempfile::tempdir().context("cannot make a temporary directory")?;
        if let Err(e) = self.get(image, &BTreeSet::from([INDEX.to_owned()]), place.path()) {
            eprintln!("recompiler-build: warning: build cache {image} is not used: {e:#}");
            return Ok(None);
        }
        let Ok(bytes) = std::fs::read(place.path().join(INDEX)) else { return Ok(None) };
        read(&bytes, &self.keys).with_context(|| format!("build cache {image}")).map(Some)
    }

    fn get(&self, image: &str, names: &BTreeSet<String>, into: &Path) -> anyhow::Result<()> {
        let list = into.join("names");
        std::fs::write(&list, names.iter().map(|n| format!("{n}\n")).collect::<String>()).context("cannot write a temporary file")?;
        fetching::image_tool(&self.access, ["bundle-get".as_ref(), image.as_ref(), into.as_os_str(), "--names".as_ref(), list.as_os_str()])
    }

    /// Takes what the local cache lacks; how many entries that were.
    pub fn fill(&self, cache: &Cache, wanted: &[Entry]) -> anyhow::Result<usize> {
        let mut taken = 0;
        for (image, index) in &self.from {
            let missing: BTreeMap<String, &Entry> = wanted.iter().filter(|e| index.contains_key(&name(e)) && cache.get(e.0, &e.1).is_none()).map(|e| (name(e), e)).collect();
            if missing.is_empty() {
                continue;
            }
            let place = tempfile::tempdir_in(cache.directory()).context("cannot write into the cache")?;
            if let Err(e) = self.get(image, &missing.keys().cloned().collect(), place.path()) {
                eprintln!("recompiler-build: warning: build cache {image}: {e:#}");
                continue;
            }
            for (name, entry) in missing {
                let Ok(bytes) = std::fs::read(place.path().join(&name)) else { continue };
                let found = Digest::blake3(&bytes);
                ensure!(found == index[&name], "build cache {image}: {name} has digest {found}, its signed index says {}: do not trust it", index[&name]);
                cache.put(entry.0, &entry.1, &bytes);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Offers the entries of this build. A cache that does not take them costs other builds time only. Of builds that end at the same time, the last one's index counts.
    pub fn publish(&self, cache: &Cache, used: &[Entry], signer: Option<&Signer>) {
        let Some((to, signer)) = self.to.as_ref().zip(signer) else { return };
        if let Err(e) = self.put(cache, used, to, signer) {
            eprintln!("recompiler-build: warning: build cache {to} was given nothing: {e:#}");
        }
    }

    /// Beside the entries that are there with a good signature.
    fn put(&self, cache: &Cache, used: &[Entry], to: &str, signer: &Signer) -> anyhow::Result<()> {
        let mut trusted = Remote { from: Vec::new(), to: None, keys: self.keys.clone(), access: self.access.clone() };
        trusted.keys.add(signer.public());
        // What somebody else's key signed is not ours to vouch for: it is left behind.
        let old = trusted.index(to).unwrap_or_default().unwrap_or_default();
        let place = tempfile::tempdir_in(cache.directory()).context("cannot write into the cache")?;
        let (mut entries, mut keep) = (old.clone(), old.keys().cloned().collect::<BTreeSet<_>>());
        for entry in used {
            let Some(bytes) = cache.get(entry.0, &entry.1) else { continue };
            let (name, digest) = (name(entry), Digest::blake3(&bytes));
            if old.get(&name) == Some(&digest) {
                continue;
            }
            let path = place.path().join(&name);
            crate::output::directory(path.parent().context("entries have kinds")?)?;
            std::fs::write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            keep.remove(&name);
            entries.insert(name, digest);
        }
        std::fs::write(place.path().join(INDEX), write(&entries, signer)?).context("cannot write the index")?;
        let list = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        std::fs::write(list.path(), keep.iter().map(|n| format!("{n}\n")).collect::<String>()).context("cannot write a temporary file")?;
        fetching::image_tool(&self.access, ["bundle-put".as_ref(), place.path().as_os_str(), to.as_ref(), "--keep".as_ref(), list.path().as_os_str()])
    }
}

/// A signed index.
fn write(entries: &BTreeMap<String, Digest>, signer: &Signer) -> anyhow::Result<Vec<u8>> {
    let mut value = json!({ "entries": entries });
    signer.sign_document(Kind::Cache, &mut value)?;
    Ok(canonical::to_bytes(&value))
}

fn read(bytes: &[u8], keys: &TrustedKeys) -> anyhow::Result<BTreeMap<String, Digest>> {
    let value: Value = canonical::parse_canonical(bytes)?;
    signature::check_as(Kind::Cache, &value, keys, 1, &Revocations::default()).context("name its builder's key with --cache-key FILE.pub")?;
    serde_json::from_value(value["entries"].clone()).context("its index is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::PrivateKey;

    #[test]
    fn an_index_counts_only_with_a_listed_builders_signature_over_an_index() {
        let key = PrivateKey::from_seed([1; 32]);
        let trusted = TrustedKeys::of([key.public("k")]);
        let entries = BTreeMap::from([("aot/x".to_owned(), Digest::blake3(b"x"))]);
        let good = write(&entries, &Signer::of(PrivateKey::from_seed([1; 32]), "k")).unwrap();
        assert_eq!(read(&good, &trusted).unwrap(), entries);
        assert!(read(&good, &TrustedKeys::of([PrivateKey::from_seed([2; 32]).public("k")])).is_err());
        let mut changed = good.clone();
        let at = changed.windows(5).position(|w| w == b"aot/x").unwrap();
        changed[at + 4] = b'y';
        assert!(read(&changed, &trusted).is_err());
        // The same key's signature over a manifest with the same words is no signature over an index.
        let mut value = json!({ "entries": entries });
        signature::sign(&mut value, &key, "k");
        assert!(read(&canonical::to_bytes(&value), &trusted).is_err());
    }
}
