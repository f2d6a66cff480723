//! `vkernel prove --replay`: asks a release's proof again on a host that has nothing but vkernel.
//!
//! Owns whose proofs are believed here: those of the keys that are trusted for releases, also of one key where a release needs several. Refuses to own the record and its comparison (the crate `proof`). The fact a newcomer gets wrong: a difference is
//! exit code 1, an answer; whatever keeps the question from being asked is 125.

use crate::cli::Prove;
use crate::failure::Failure;
use crate::{fetch, keys, rootfs};
use proof::{Guest, ProofError};

/// A line for standard output.
pub fn replay(options: &Prove) -> Result<String, Failure> {
    let manifest = fetch::manifest(&options.manifest, &options.registry)?;
    let verified = keys::manifest(&manifest, &options.trust.keys, options.trust.threshold, None)?;
    let trusted = keys::trusted(&options.trust.keys)?;
    let rootfs = options.rootfs.clone().unwrap_or_else(|| rootfs::beside(&manifest));
    let own = std::env::current_exe().map_err(|e| Failure::new("find this program", e, "mount /proc"))?;
    let guest = Guest::new(own, &manifest, &rootfs, &options.trust.keys, options.trust.threshold).map_err(failure)?;
    let again = proof::replay(&manifest, verified.manifest(), &trusted, verified.revoked(), &guest).map_err(failure)?;
    Ok(format!("{} commands come out as {} proved\n", again.commands, again.signers.into_iter().collect::<Vec<_>>().join(", ")))
}

fn failure(e: ProofError) -> Failure {
    match e {
        ProofError::Different(_) => Failure::new("proof", e, "").with_code(1),
        e => Failure::new("proof", e, ""),
    }
}
