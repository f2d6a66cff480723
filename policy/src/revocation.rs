//! Revoked keys and files: the list that wins over everything.
//!
//! Owns its JSON form, `{"files": ["blake3:…"], "keys": ["build-server-2026"]}`. The fact a newcomer gets wrong: a key is revoked by its id *or* its fingerprint; the id in
//! a signature is a claim, so the id of the trusted key that really verified it is looked up too.

use crate::canonical;
use crate::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

#[derive(Debug, Error)]
#[error("revocation list: {0}")]
pub struct RevocationError(String);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Revocations {
    /// Digests of guest files, shards or artifacts.
    pub files: BTreeSet<Digest>,
    /// Key ids or key fingerprints.
    pub keys: BTreeSet<String>,
}

impl Revocations {
    /// Reads a list. It is trusted by where it lies, so it need not be canonical, only strict.
    pub fn parse(bytes: &[u8]) -> Result<Revocations, RevocationError> {
        let value = canonical::parse(bytes).map_err(|e| RevocationError(e.to_string()))?;
        serde_json::from_value(value).map_err(|e| RevocationError(e.to_string()))
    }

    pub fn has_file(&self, digest: &Digest) -> bool {
        self.files.contains(digest)
    }

    pub fn has_key(&self, id: &str) -> bool {
        self.keys.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_an_unknown_member_is_refused() {
        assert!(Revocations::parse(br#"{"keys":["a"]}"#).unwrap().has_key("a"));
        assert!(Revocations::parse(br#"{"key":["a"]}"#).is_err());
    }
}
