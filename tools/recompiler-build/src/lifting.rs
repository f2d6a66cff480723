//! Lifting through the cache.
//!
//! Owns the call into `lift` and the stored form of a shard. The fact a newcomer gets wrong: this very program's bytes are part of the key, so a rebuilt lifter never serves shards of its predecessor;
//! native code is keyed by the shard's bytes and survives when those are equal.

use crate::cache::{Cache, Key};
use crate::scan::Object;
use lift::{Certificate, Structured};
use policy::Digest;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use thiserror::Error;

pub const KIND: &str = "shard";
/// Kind of the entries that hold a certificate alone. It does not depend on where the object is placed.
pub const CERTIFICATE: &str = "certificate";

#[derive(Debug, Error)]
pub enum LiftError {
    #[error(transparent)]
    Lift(#[from] lift::Error),
    #[error("{path}: the lifter stopped at a fault of its own, please report it with this file")]
    Panic { path: String },
}

/// A lifted object as the pipeline needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Shard {
    pub structured: Vec<u8>,
    pub resumable: Vec<u8>,
    pub certificate: Certificate,
}

/// BLAKE3 of this program.
static OWN_DIGEST: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read("/proc/self/exe").map(|b| blake3::hash(&b).as_bytes().to_vec()).unwrap_or_default());

/// The cached shard of an object at a base, if there is one.
pub fn cached(cache: &Cache, digest: &Digest, base: u64, structured: Structured) -> Option<Shard> {
    decode(&cache.get(KIND, &key(digest, base, structured))?)
}

/// Lifts an object, and remembers the result.
pub fn lift(cache: &Cache, digest: &Digest, object: &Object, base: u64, structured: Structured) -> Result<Shard, LiftError> {
    let lifted = lift_bytes(&object.bytes, base, &object.path, structured)?;
    let shard = Shard { certificate: lifted.certificate, structured: lifted.structured, resumable: lifted.resumable };
    cache.put(KIND, &key(digest, base, structured), &encode(&shard));
    cache.put(CERTIFICATE, &certificate_key(digest), &stored(&shard.certificate));
    Ok(shard)
}

/// The certificate alone: much less work than a shard, and the same one.
pub fn certificate(cache: &Cache, digest: &Digest, object: &Object) -> Result<Certificate, LiftError> {
    let key = certificate_key(digest);
    if let Some(known) = cache.get(CERTIFICATE, &key).and_then(|b| serde_json::from_slice(&b).ok()) {
        return Ok(known);
    }
    let base = if object.facts.non_pie { 0 } else { megabinary::slots::RANGE.start };
    let made = without_panic(&object.path, || lift::certify(&object.bytes, base, &object.path))?;
    cache.put(CERTIFICATE, &key, &stored(&made));
    Ok(made)
}

fn stored(c: &Certificate) -> Vec<u8> {
    serde_json::to_vec(c).expect("a certificate is plain JSON")
}

fn certificate_key(digest: &Digest) -> String {
    Key::new(CERTIFICATE).part(&digest.bytes).part(lift::LIFTER_VERSION.as_bytes()).part(&OWN_DIGEST).hex()
}

/// Lifts bytes without the cache, turning a panic of the lifter into an error.
pub fn lift_bytes(bytes: &[u8], base: u64, path: &str, structured: Structured) -> Result<lift::Shard, LiftError> {
    without_panic(path, || lift::lift_forms(bytes, base, path, structured))
}

fn without_panic<T>(path: &str, work: impl FnOnce() -> Result<T, lift::Error>) -> Result<T, LiftError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    Ok(done.map_err(|_| LiftError::Panic { path: path.into() })??)
}

/// Name of an object's shard in the cache.
pub fn key(digest: &Digest, base: u64, structured: Structured) -> String {
    Key::new(KIND).part(&digest.bytes).part(&base.to_le_bytes()).part(format!("{structured:?}").as_bytes()).part(lift::LIFTER_VERSION.as_bytes()).part(&OWN_DIGEST).hex()
}

fn encode(s: &Shard) -> Vec<u8> {
    let certificate = stored(&s.certificate);
    let numbers = [certificate.len() as u64, s.structured.len() as u64];
    let head: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    [&head[..], &certificate, &s.structured, &s.resumable].concat()
}

fn decode(bytes: &[u8]) -> Option<Shard> {
    let number = |i: usize| Some(u64::from_le_bytes(bytes.get(8 * i..8 * i + 8)?.try_into().ok()?));
    let (certificate, modules) = bytes.get(16..)?.split_at_checked(usize::try_from(number(0)?).ok()?)?;
    let (structured, resumable) = modules.split_at_checked(usize::try_from(number(1)?).ok()?)?;
    Some(Shard { certificate: serde_json::from_slice(certificate).ok()?, structured: structured.to_vec(), resumable: resumable.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lift::certificate::Site;

    #[test]
    fn a_stored_shard_comes_back_whole() {
        let certificate = Certificate { functions: 5, reached_bytes: 6, sites: vec![Site { address: 7, numbers: [60].into(), ..Site::default() }], ..Certificate::default() };
        let shard = Shard { structured: vec![1, 2, 3], resumable: vec![4], certificate };
        assert_eq!(decode(&encode(&shard)), Some(shard));
        assert_eq!(decode(&[0; 20]), None);
    }
}
