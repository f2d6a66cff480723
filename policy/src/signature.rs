//! Ed25519 signatures over the canonical manifest.
//!
//! Owns which bytes are signed. The fact a newcomer gets wrong: the signed message is not the file but a domain-separation prefix and the canonical form of the
//! manifest *without* its `signatures` member, so several signers can sign the same thing and a signature can never be replayed for another kind of document.

use crate::canonical;
use crate::digest::{hex, unhex};
use crate::document::Document;
use crate::key::{PrivateKey, TrustedKeys};
use crate::manifest::{Signature, Signatures};
use crate::revocation::Revocations;
use ed25519_dalek::Signature as Ed25519;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use thiserror::Error;

/// What a document is: a signature over one kind never counts for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Manifest,
    /// The index of a build cache (07 S20).
    Cache,
    /// What commands did natively and under vkernel.
    Proof,
}

impl Kind {
    /// Prefix of every signed message.
    const fn domain(self) -> &'static [u8] {
        match self {
            Kind::Manifest => b"vkernel manifest signature v1\0",
            Kind::Cache => b"vkernel build cache signature v1\0",
            Kind::Proof => b"vkernel proof signature v1\0",
        }
    }
}

/// More signatures than this are refused unread: checking one costs 50 µs.
const MAX_SIGNATURES: usize = 64;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    #[error("the manifest has no signatures: run recompiler-build sign")]
    Missing,
    #[error("the signatures member is malformed: write one {{key_id, signature}} or an array of at most 64")]
    Malformed,
    #[error("{valid} of {threshold} required trusted keys signed this{tried}: check the keys, or whether the manifest was changed after signing")]
    TooFew { valid: usize, threshold: usize, tried: String },
}

/// The message that is signed for a manifest value.
pub fn message(manifest: &Value) -> Vec<u8> {
    message_as(Kind::Manifest, manifest)
}

/// The message that is signed for any kind of document.
pub fn message_as(kind: Kind, document: &Value) -> Vec<u8> {
    canonical::without(document, "signatures", kind.domain())
}

/// Signs a manifest value in place; a signature of the same key id is replaced, others stay.
pub fn sign(manifest: &mut Value, key: &PrivateKey, key_id: &str) {
    sign_as(Kind::Manifest, manifest, key, key_id);
}

/// Signs any kind of document in the same way.
pub fn sign_as(kind: Kind, manifest: &mut Value, key: &PrivateKey, key_id: &str) {
    let made = key.sign(&message_as(kind, manifest));
    attach(manifest, &made, key_id);
}

/// Adds a signature over `message_as` that was made elsewhere; one of the same key id is replaced, others stay.
pub fn attach(manifest: &mut Value, signature: &[u8; 64], key_id: &str) {
    let made = Signature { key_id: key_id.into(), signature: hex(signature) };
    let mut all: Vec<Signature> = listed(manifest).unwrap_or_default();
    all.retain(|s| s.key_id != key_id);
    all.push(made);
    all.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    let all = if all.len() == 1 { Signatures::One(all.remove(0)) } else { Signatures::Several(all) };
    manifest["signatures"] = serde_json::to_value(all).expect("signatures are plain JSON");
}

fn listed(manifest: &Value) -> Option<Vec<Signature>> {
    let all: Signatures = serde_json::from_value(manifest.get("signatures")?.clone()).ok()?;
    Some(all.iter().cloned().collect())
}

/// A signature that was found good: whose it said it is, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    pub key_id: String,
    /// 64 digits of the key itself.
    pub key: String,
}

/// Checks that at least `threshold` *distinct* trusted, unrevoked keys signed the manifest, and returns what they made and their ids.
///
/// A signature's own `key_id` is not authenticated, so every trusted key is tried; the id only names the failure, and a revoked id disqualifies its signature.
pub fn check(manifest: &Document<'_>, keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> Result<(Vec<Made>, BTreeSet<String>), SignatureError> {
    let signatures = manifest.member("signatures").ok_or(SignatureError::Missing)?;
    let signatures: Signatures = serde_json::from_slice(signatures).map_err(|_| SignatureError::Malformed)?;
    let message = manifest.without("signatures", Kind::Manifest.domain());
    let made = made(&message, &signatures.iter().cloned().collect::<Vec<_>>(), keys)?;
    let signers = signers(&made, keys, threshold, revoked)?;
    Ok((made.into_iter().filter_map(Result::ok).collect(), signers))
}

/// Checks any kind of document in the same way.
pub fn check_as(kind: Kind, document: &Value, keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> Result<BTreeSet<String>, SignatureError> {
    if document.get("signatures").is_none() {
        return Err(SignatureError::Missing);
    }
    let signatures = listed(document).ok_or(SignatureError::Malformed)?;
    signers(&made(&message_as(kind, document), &signatures, keys)?, keys, threshold, revoked)
}

/// Whose each signature is; of one that fits no key, the id that it claims.
fn made(message: &[u8], signatures: &[Signature], keys: &TrustedKeys) -> Result<Vec<Result<Made, String>>, SignatureError> {
    if signatures.len() > MAX_SIGNATURES {
        return Err(SignatureError::Malformed);
    }
    let one = |s: &Signature| {
        let bytes = Ed25519::from_bytes(&unhex(&s.signature).ok_or(SignatureError::Malformed)?);
        let signer = keys.iter().find(|k| k.key.verify_strict(message, &bytes).is_ok());
        Ok(signer.map(|k| Made { key_id: s.key_id.clone(), key: hex(k.key.as_bytes()) }).ok_or_else(|| s.key_id.clone()))
    };
    signatures.iter().map(one).collect()
}

/// The ids of the trusted keys among those that signed, if there are enough.
pub(crate) fn signers(made: &[Result<Made, String>], keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> Result<BTreeSet<String>, SignatureError> {
    let (mut valid, mut seen, mut tried) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for one in made {
        let trusted = |m: &Made| keys.iter().find(|k| hex(k.key.as_bytes()) == m.key);
        match one.as_ref().map(|m| (m, trusted(m))) {
            Ok((m, Some(k))) if revoked.has_key(&m.key_id) || revoked.has_key(&k.id) || revoked.has_key(&k.fingerprint()) => {
                tried.push(format!("{}: key is revoked", m.key_id));
            }
            Ok((m, Some(k))) => {
                if seen.insert(&m.key) {
                    valid.insert(k.id.clone());
                }
            }
            Ok((Made { key_id, .. }, None)) | Err(key_id) => tried.push(format!("{key_id}: no trusted key fits")),
        }
    }
    if seen.len() < threshold.max(1) {
        return Err(SignatureError::TooFew {
            valid: seen.len(),
            threshold: threshold.max(1),
            tried: if tried.is_empty() { String::new() } else { format!(" ({})", tried.join(", ")) },
        });
    }
    Ok(valid)
}
