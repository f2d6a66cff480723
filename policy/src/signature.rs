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
    #[error("{valid} of {threshold} required trusted keys signed this ({tried}): check the keys, or whether the manifest was changed after signing")]
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

/// Checks that at least `threshold` *distinct* trusted, unrevoked keys signed the manifest, and returns their ids.
///
/// A signature's own `key_id` is not authenticated, so every trusted key is tried; the id only names the failure, and a revoked id disqualifies its signature.
pub fn check(manifest: &Document<'_>, keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> Result<BTreeSet<String>, SignatureError> {
    let signatures = manifest.member("signatures").ok_or(SignatureError::Missing)?;
    let signatures: Signatures = serde_json::from_slice(signatures).map_err(|_| SignatureError::Malformed)?;
    let message = manifest.without("signatures", Kind::Manifest.domain());
    signers(&message, &signatures.iter().cloned().collect::<Vec<_>>(), keys, threshold, revoked)
}

/// Checks any kind of document in the same way.
pub fn check_as(kind: Kind, document: &Value, keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> Result<BTreeSet<String>, SignatureError> {
    if document.get("signatures").is_none() {
        return Err(SignatureError::Missing);
    }
    let signatures = listed(document).ok_or(SignatureError::Malformed)?;
    signers(&message_as(kind, document), &signatures, keys, threshold, revoked)
}

fn signers(message: &[u8], signatures: &[Signature], keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> Result<BTreeSet<String>, SignatureError> {
    if signatures.len() > MAX_SIGNATURES {
        return Err(SignatureError::Malformed);
    }
    let threshold = threshold.max(1);
    let (mut valid, mut seen, mut tried) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for s in signatures {
        let bytes = unhex(&s.signature).and_then(|b| <[u8; 64]>::try_from(b).ok()).ok_or(SignatureError::Malformed)?;
        let signer = keys.iter().find(|k| k.key.verify_strict(message, &Ed25519::from_bytes(&bytes)).is_ok());
        tried.push(match signer {
            None => format!("{}: no trusted key fits", s.key_id),
            Some(k) if revoked.has_key(&s.key_id) || revoked.has_key(&k.id) || revoked.has_key(&k.fingerprint()) => {
                format!("{}: key is revoked", s.key_id)
            }
            Some(k) => {
                if seen.insert(k.key.to_bytes()) {
                    valid.insert(k.id.clone());
                }
                continue;
            }
        });
    }
    if seen.len() < threshold {
        return Err(SignatureError::TooFew { valid: seen.len(), threshold, tried: tried.join(", ") });
    }
    Ok(valid)
}
