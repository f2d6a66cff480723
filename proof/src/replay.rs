//! Asking again. Owns that a proof is believed before a command of it is run, and what a difference is. The fact a newcomer gets wrong: what was proved is known by digest; the bytes are there to be the input, and to say where a difference begins.

use crate::{Came, Guest, Proof, ProofError, Row, blobs, path, release};
use policy::signature::{self, Kind};
use policy::{Digest, Manifest, Revocations, TrustedKeys, canonical};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// More was never written: `command` bounds it, and inputs are for people to read.
const MOST: u64 = 1 << 30;

/// A proof that came out again.
#[derive(Debug)]
pub struct Replayed {
    pub commands: usize,
    pub signers: BTreeSet<String>,
}

/// Runs everything again, and compares with what was signed. `m` is the verified manifest that lies at `manifest`.
pub fn replay(manifest: &Path, m: &Manifest, keys: &TrustedKeys, revoked: &Revocations, guest: &Guest) -> Result<Replayed, ProofError> {
    let (proof, signers) = believed(manifest, m, keys, revoked)?;
    let mut different = Vec::new();
    for (name, signed) in &proof.tests {
        let again = again(manifest, signed, guest).map_err(|cause| ProofError::Test { test: name.clone(), cause: Box::new(cause) })?;
        different.extend(again.map(|difference| format!("{name} ({difference})")));
    }
    if different.is_empty() { Ok(Replayed { commands: proof.tests.len(), signers }) } else { Err(ProofError::Different(different.join(", "))) }
}

/// Checks a proof without running anything: signed by trusted keys for this release, and all it speaks of is there. How many commands it proves.
pub fn check(manifest: &Path, m: &Manifest, keys: &TrustedKeys, revoked: &Revocations) -> Result<usize, ProofError> {
    let (proof, _) = believed(manifest, m, keys, revoked)?;
    for row in proof.tests.values() {
        [&row.stdin, &row.stdout, &row.stderr].into_iter().try_for_each(|digest| blob(manifest, digest).map(drop))?;
    }
    Ok(proof.tests.len())
}

/// The proof beside a manifest, if it is that of another release.
pub fn of_another_release(manifest: &Path, m: &Manifest) -> Option<PathBuf> {
    let path = path(manifest);
    let value = canonical::parse(&opened(&path, canonical::bytes).ok()?).ok()?;
    (value["manifest"] != serde_json::to_value(release(m)).ok()?).then_some(path)
}

/// What differs, if anything.
fn again(manifest: &Path, signed: &Row, guest: &Guest) -> Result<Option<String>, ProofError> {
    let stdin = blob(manifest, &signed.stdin)?;
    let came = guest.run(&signed.command, &stdin)?;
    if Row::new(signed.command.clone(), &stdin, &came) == *signed {
        return Ok(None);
    }
    let before = Came { status: signed.status, stdout: blob(manifest, &signed.stdout)?, stderr: blob(manifest, &signed.stderr)? };
    Ok(Some(came.difference(&before)))
}

/// The proof beside a manifest, if trusted keys signed it for this release.
fn believed(manifest: &Path, m: &Manifest, keys: &TrustedKeys, revoked: &Revocations) -> Result<(Proof, BTreeSet<String>), ProofError> {
    let path = path(manifest);
    let bytes = opened(&path, canonical::bytes)?;
    let value = canonical::parse_canonical(&bytes).map_err(|cause| ProofError::Json { path: path.clone(), cause })?;
    let signers = signature::check_as(Kind::Proof, &value, keys, 1, revoked).map_err(|cause| ProofError::Signature { path: path.clone(), cause })?;
    let proof: Proof = serde_json::from_value(value).map_err(|cause| ProofError::Shape { path: path.clone(), cause })?;
    if proof.manifest == release(m) { Ok((proof, signers)) } else { Err(ProofError::OtherRelease { path }) }
}

fn blob(manifest: &Path, digest: &Digest) -> Result<Vec<u8>, ProofError> {
    let path = blobs(manifest).join(digest.hex());
    let bytes = opened(&path, |file| {
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).map(|_| bytes)
    })?;
    if Digest::sha256(&bytes) == *digest { Ok(bytes) } else { Err(ProofError::Changed { path }) }
}

fn opened(path: &Path, read: impl FnOnce(File) -> io::Result<Vec<u8>>) -> Result<Vec<u8>, ProofError> {
    File::open(path).and_then(read).map_err(|cause| ProofError::Read { path: path.to_path_buf(), cause })
}
