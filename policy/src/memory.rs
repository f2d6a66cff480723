//! What a host keeps of a manifest that it has verified, so that the next start does not read it again.
//!
//! Owns its form. Whoever can write a memory decides what a release is: it belongs where the release's code does. The fact a newcomer gets wrong: a memory says who signed, never whom to believe. Keys, revocations,
//! versions and rules are those of the moment, and who signed is asked of the manifest again if that is not enough. Evidence that nobody acts upon is not remembered.

use crate::digest::Digest;
use crate::key::TrustedKeys;
use crate::revocation::Revocations;
use crate::signature;
use crate::verify::{Signed, Verified};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    /// Version of the program that made it: another one may check what this one did not.
    by: String,
    signed: Signed,
}

/// What to keep, for `running`.
pub fn remember(verified: &Verified, running: &str) -> Vec<u8> {
    let mut signed = verified.signed.clone();
    for binary in signed.manifest.binaries.values_mut() {
        (binary.coverage, binary.syscalls) = (None, None);
    }
    for library in signed.manifest.libraries.values_mut() {
        library.coverage = None;
    }
    serde_json::to_vec(&Memory { by: running.to_owned(), signed }).expect("a manifest is plain JSON")
}

/// The manifest whose bytes have this digest, if the memory is of it and what `verify` would ask is fulfilled. `None`: ask `verify`, which says why.
pub fn recall(memory: &[u8], digest: Digest, keys: &TrustedKeys, threshold: usize, revoked: &Revocations, running: &str) -> Option<Verified> {
    // Looked through once for what is no text, not string by string.
    let Memory { by, signed } = serde_json::from_str(std::str::from_utf8(memory).ok()?).ok()?;
    if by != running || signed.digest != digest {
        return None;
    }
    let made: Vec<_> = signed.made.iter().cloned().map(Ok).collect();
    let signers = signature::signers(&made, keys, threshold, revoked).ok()?;
    Verified::new(signed, signers, revoked, running).ok()
}
