//! Lifting through the cache.
//!
//! Owns the call into `lift` and the stored form of a shard. The fact a newcomer gets wrong: this very program's bytes are part of the key, so a rebuilt lifter never serves shards of its predecessor;
//! native code is keyed by the shard's bytes and survives when those are equal.

use crate::cache::{Cache, Key};
use crate::scan::Object;
use policy::Digest;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use thiserror::Error;

pub const KIND: &str = "shard";

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
    pub functions: u64,
    /// Instructions that stop the guest.
    pub gaps: u64,
}

/// BLAKE3 of this program.
static OWN_DIGEST: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read("/proc/self/exe").map(|b| blake3::hash(&b).as_bytes().to_vec()).unwrap_or_default());

/// The cached shard of an object at a base, if there is one.
pub fn cached(cache: &Cache, digest: &Digest, base: u64) -> Option<Shard> {
    decode(&cache.get(KIND, &key(digest, base))?)
}

/// Lifts an object, and remembers the result.
pub fn lift(cache: &Cache, digest: &Digest, object: &Object, base: u64) -> Result<Shard, LiftError> {
    let lifted = lift_bytes(&object.bytes, base, &object.path)?;
    let gaps = lifted.report.gaps.values().sum();
    let shard = Shard { functions: lifted.report.functions, gaps, structured: lifted.structured, resumable: lifted.resumable };
    cache.put(KIND, &key(digest, base), &encode(&shard));
    Ok(shard)
}

/// Lifts bytes without the cache, turning a panic of the lifter into an error.
pub fn lift_bytes(bytes: &[u8], base: u64, path: &str) -> Result<lift::Shard, LiftError> {
    let lifted = catch_unwind(AssertUnwindSafe(|| lift::lift(bytes, base, path)));
    Ok(lifted.map_err(|_| LiftError::Panic { path: path.into() })??)
}

/// Name of an object's shard in the cache.
pub fn key(digest: &Digest, base: u64) -> String {
    Key::new(KIND).part(&digest.bytes).part(&base.to_le_bytes()).part(lift::LIFTER_VERSION.as_bytes()).part(&OWN_DIGEST).hex()
}

fn encode(s: &Shard) -> Vec<u8> {
    let numbers = [s.functions, s.gaps, s.structured.len() as u64];
    let head: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    [&head[..], &s.structured, &s.resumable].concat()
}

fn decode(bytes: &[u8]) -> Option<Shard> {
    let number = |i: usize| Some(u64::from_le_bytes(bytes.get(8 * i..8 * i + 8)?.try_into().ok()?));
    let (functions, gaps, split) = (number(0)?, number(1)?, number(2)? as usize);
    let modules = bytes.get(24..)?;
    let structured = modules.get(..split)?.to_vec();
    Some(Shard { functions, gaps, structured, resumable: modules[split..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_shard_comes_back_whole() {
        let shard = Shard { structured: vec![1, 2, 3], resumable: vec![4], functions: 5, gaps: 6 };
        assert_eq!(decode(&encode(&shard)), Some(shard));
        assert_eq!(decode(&[0; 20]), None);
    }
}
