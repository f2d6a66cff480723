//! From raw bytes to a manifest that may be acted upon.
//!
//! Owns the order of checks (07 S22): size, strict canonical JSON, signatures, and only then types and rules. Refuses to own files: artifacts and megabinary are checked by
//! whoever reads them, against the digests here. The fact a newcomer gets wrong: `Verified` has no public constructor, and must never get one.

use crate::canonical::{self, JsonError};
use crate::digest::Digest;
use crate::document::Document;
use crate::key::TrustedKeys;
use crate::manifest::{Binary, Library, Manifest, Script};
use crate::revocation::Revocations;
use crate::rules::{self, RuleError};
use crate::signature::{self, Made, SignatureError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("at {path}: {reason}")]
    Shape { path: String, reason: String },
    #[error("at {0}")]
    Rule(#[from] RuleError),
    #[error("the manifest wants vkernel {required}, this is {running}: update vkernel")]
    Version { required: String, running: String },
    #[error("{what} {digest} is revoked: get a newer release")]
    Revoked { what: &'static str, digest: Digest },
}

/// A manifest whose signatures, form and rules were checked, with the revocation list it was checked under.
#[derive(Clone, Debug)]
pub struct Verified {
    pub(crate) signed: Signed,
    signers: BTreeSet<String>,
    revoked: Revocations,
    sizes: BTreeSet<u64>,
    order: Vec<Digest>,
}

/// A manifest that somebody signed: what is known of its bytes alone, whomever this host trusts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signed {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    pub sha256: Digest,
    pub made: Vec<Made>,
    pub manifest: Manifest,
}

/// What an entry number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    Binary(&'a Binary),
    Library(&'a Library),
    Script(&'a Script),
}

/// Checks the bytes of a manifest file. `threshold` distinct keys must have signed; `running` is this program's version.
pub fn verify(bytes: &[u8], keys: &TrustedKeys, threshold: usize, revoked: &Revocations, running: &str) -> Result<Verified, VerifyError> {
    let document = Document::read(bytes)?;
    let (made, signers) = signature::check(&document, keys, threshold, revoked)?;
    // What does not fit is looked for again, for the way to it.
    let manifest = serde_json::from_slice(document.text()).or_else(|_| typed(canonical::parse(bytes)?))?;
    let signed = Signed { digest: Digest::blake3(bytes), sha256: Digest::sha256(bytes), made, manifest };
    Verified::new(signed, signers, revoked, running)
}

/// Reads a manifest value into its types, naming the JSON path of what does not fit.
pub fn typed(value: serde_json::Value) -> Result<Manifest, VerifyError> {
    // To keep account of the way to every member costs more than all else: only who has something to say needs it.
    Manifest::deserialize(&value)
        .or_else(|_| serde_path_to_error::deserialize(value))
        .map_err(|e| VerifyError::Shape { path: e.path().to_string(), reason: e.into_inner().to_string() })
}

impl Verified {
    /// The rest of verifying, once it is known who signed.
    pub(crate) fn new(signed: Signed, signers: BTreeSet<String>, revoked: &Revocations, running: &str) -> Result<Self, VerifyError> {
        let m = &signed.manifest;
        rules::check_acted_upon(m)?;
        if !rules::version_satisfied(&m.vkernel_version, running) {
            return Err(VerifyError::Version { required: m.vkernel_version.clone(), running: running.into() });
        }
        let named = [("container", m.container_id), ("megabinary", m.megabinary_digest)];
        let artifacts = m.artifacts.iter().flat_map(|a| [("artifact", a.digest), ("shard", a.shard)]);
        if let Some((what, digest)) = named.into_iter().chain(artifacts).find(|(_, d)| revoked.has_file(d)) {
            return Err(VerifyError::Revoked { what, digest });
        }
        let sizes = m.binaries.values().map(|b| b.size);
        let sizes = sizes.chain(m.libraries.values().map(|l| l.size)).chain(m.scripts.values().map(|s| s.size)).collect();
        Ok(Self { sizes, order: m.entry_order(), signed, signers, revoked: revoked.clone() })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.signed.manifest
    }

    /// BLAKE3 of the manifest file's bytes.
    pub fn digest(&self) -> Digest {
        self.signed.digest
    }

    /// SHA-256 of the same bytes, the digest that registries know.
    pub fn sha256(&self) -> Digest {
        self.signed.sha256
    }

    /// Ids of the trusted keys that signed.
    pub fn signers(&self) -> &BTreeSet<String> {
        &self.signers
    }

    pub fn revoked(&self) -> &Revocations {
        &self.revoked
    }

    /// Whether any listed file has this size: asked before a byte is hashed (07 S17).
    pub fn has_size(&self, size: u64) -> bool {
        self.sizes.contains(&size)
    }

    /// Whether SHA-256 digests occur as keys, so that files must be hashed with both functions.
    pub fn uses_sha256(&self) -> bool {
        self.order.iter().any(|d| d.algorithm == crate::Algorithm::Sha256)
    }

    /// The digest of an entry number (1-based).
    pub fn entry_digest(&self, entry: u32) -> Option<Digest> {
        self.order.get((entry as usize).checked_sub(1)?).copied()
    }

    /// The program or script of an entry number that `decide_exec` gave.
    pub fn program(&self, entry: u32) -> Option<Object<'_>> {
        let digest = self.entry_digest(entry)?;
        let binary = self.signed.manifest.binaries.get(&digest).map(Object::Binary);
        binary.or_else(|| self.signed.manifest.scripts.get(&digest).map(Object::Script))
    }

    /// The library of an entry number that `decide_library` gave.
    pub fn library(&self, entry: u32) -> Option<&Library> {
        self.signed.manifest.libraries.get(&self.entry_digest(entry)?)
    }
}
