//! The record itself. Owns its JSON form, where its files lie, and which release it is of. The fact a newcomer gets wrong: it names the release by the digest of the manifest *without* signatures, so a further signature leaves a proof as it is.

use crate::command::Came;
use policy::{Digest, Manifest, canonical};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One command and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub command: Vec<String>,
    pub stdin: Digest,
    /// As a shell says it: 128 and more for a signal.
    pub status: u32,
    pub stdout: Digest,
    pub stderr: Digest,
}

impl Row {
    pub fn new(command: Vec<String>, stdin: &[u8], came: &Came) -> Row {
        Row { command, stdin: Digest::sha256(stdin), status: came.status, stdout: Digest::sha256(&came.stdout), stderr: Digest::sha256(&came.stderr) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// `release` of the manifest.
    pub manifest: Digest,
    pub tests: BTreeMap<String, Row>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signatures: Option<policy::manifest::Signatures>,
}

/// The proof of the release beside whose manifest it lies.
pub fn path(manifest: &Path) -> PathBuf {
    manifest.with_extension("proof.json")
}

/// Directory of what went in and came out, by digest.
pub fn blobs(manifest: &Path) -> PathBuf {
    manifest.with_extension("proof")
}

/// The digest that names a release whoever signed it: of the manifest's canonical form without signatures.
pub fn release(m: &Manifest) -> Digest {
    let unsigned = Manifest { signatures: None, ..m.clone() };
    Digest::sha256(&canonical::to_bytes(&serde_json::to_value(&unsigned).expect("a manifest is plain JSON")))
}
