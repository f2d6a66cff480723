//! The decisions: may this file run, may it be mapped executable, may this release be started.
//!
//! Pure functions of a `Verified` manifest and facts about the file. Refuses to own hashing, caching and answering. The fact a newcomer gets wrong: refusal is the default arm, and
//! a revoked digest is refused even though a valid signature covers it.

use crate::digest::{Digest, DigestError};
use crate::manifest::{Binary, Inline, Manifest, Scripts};
use crate::verify::Verified;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What the supervisor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Become (exec) or bind (library) this entry.
    Allow {
        entry: u32,
    },
    Refuse(Reason),
}

/// Why not. The text is the audit log's reason code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No row has this digest.
    UnknownHash,
    /// A row has the digest but another size: the hash was not made of this file.
    SizeMismatch,
    /// No row has this size; the file was not hashed.
    UnknownSize,
    /// On the revocation list.
    Revoked,
    /// Seen at build time and left out.
    Omitted,
    /// A listed library, but no program.
    NotAProgram,
    /// A listed program, but no library.
    NotALibrary,
    /// Needs a polyfill, which this release does not have.
    NeedsPolyfill,
    /// The release is older than one this host has run.
    Replayed,
    /// Not the release the caller named.
    NotPinned,
    /// The signer wants the lists of system calls enforced.
    PermissiveForbidden,
    /// A script that no row names, where only listed ones run.
    ScriptNotListed,
    /// A listed script, but its interpreter is another file than the row says.
    OtherInterpreter,
    /// An interpreter was given program text, or a stream.
    InlineDenied,
}

/// Which release a caller wants, whatever else is validly signed (07 S21).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pin {
    Name(String),
    /// Of the manifest file, or the container id.
    Digest(Digest),
}

impl FromStr for Pin {
    type Err = DigestError;

    /// A digest if it begins like one: a mistyped digest must not become a name that nothing has.
    fn from_str(text: &str) -> Result<Pin, DigestError> {
        let digest = text.starts_with("blake3:") || text.starts_with("sha256:");
        if digest { text.parse().map(Pin::Digest) } else { Ok(Pin::Name(text.into())) }
    }
}

impl Reason {
    pub const fn code(self) -> &'static str {
        match self {
            Reason::UnknownHash => "unknown-hash",
            Reason::SizeMismatch => "size-mismatch",
            Reason::UnknownSize => "unknown-size",
            Reason::Revoked => "revoked",
            Reason::Omitted => "omitted",
            Reason::NotAProgram => "not-a-program",
            Reason::NotALibrary => "not-a-library",
            Reason::NeedsPolyfill => "needs-polyfill",
            Reason::Replayed => "replayed",
            Reason::NotPinned => "not-pinned",
            Reason::PermissiveForbidden => "permissive-forbidden",
            Reason::ScriptNotListed => "script-not-listed",
            Reason::OtherInterpreter => "other-interpreter",
            Reason::InlineDenied => "inline-denied",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// May a file with this digest and size be executed?
pub fn decide_exec(verified: &Verified, digest: &Digest, size: u64) -> Decision {
    let m = verified.manifest();
    if verified.revoked().has_file(digest) {
        return Decision::Refuse(Reason::Revoked);
    }
    if let Some(b) = m.binaries.get(digest) {
        if b.shard.is_none() {
            return Decision::Refuse(Reason::NeedsPolyfill);
        }
        return allow(b.entry, b.size, size);
    }
    if let Some(s) = m.scripts.get(digest) {
        return allow(s.entry, s.size, size);
    }
    let known = m.libraries.contains_key(digest);
    Decision::Refuse(if known { Reason::NotAProgram } else { unlisted(verified, digest) })
}

/// May an interpreter run a file with these digests (of one file) and this size?
pub fn decide_script(verified: &Verified, digests: &[Digest], size: u64) -> Result<(), Reason> {
    let m = verified.manifest();
    if digests.iter().any(|d| verified.revoked().has_file(d)) {
        return Err(Reason::Revoked);
    }
    if digests.iter().any(|d| m.omitted.iter().any(|o| o.digest == *d)) {
        return Err(Reason::Omitted);
    }
    let is_listed = || digests.iter().any(|d| m.scripts.get(d).is_some_and(|s| s.size == size));
    if m.global_policies.scripts == Scripts::Any || is_listed() { Ok(()) } else { Err(Reason::ScriptNotListed) }
}

/// What becomes of program text that this binary is given; `Allow` for what is no interpreter.
pub fn decide_inline(verified: &Verified, binary: &Binary) -> Inline {
    inline_rule(verified.manifest(), binary)
}

pub(crate) fn inline_rule(m: &Manifest, binary: &Binary) -> Inline {
    let rule = binary.overrides.inline.unwrap_or(m.global_policies.inline);
    if binary.overrides.interpreter.is_some() { rule } else { Inline::Allow }
}

/// May a file with this digest and size be mapped executable?
pub fn decide_library(verified: &Verified, digest: &Digest, size: u64) -> Decision {
    let m = verified.manifest();
    if verified.revoked().has_file(digest) {
        return Decision::Refuse(Reason::Revoked);
    }
    if let Some(l) = m.libraries.get(digest) {
        return allow(l.entry, l.size, size);
    }
    let known = m.binaries.contains_key(digest) || m.scripts.contains_key(digest);
    Decision::Refuse(if known { Reason::NotALibrary } else { unlisted(verified, digest) })
}

/// May this release start on a host that has run `highest` of the same name (07 S21)?
pub fn decide_serial(verified: &Verified, highest: Option<u64>) -> Result<(), Reason> {
    if highest.is_some_and(|h| verified.manifest().serial < h) { Err(Reason::Replayed) } else { Ok(()) }
}

/// Is this the release that was asked for?
pub fn decide_pin(verified: &Verified, pin: &Pin) -> Result<(), Reason> {
    let fits = match pin {
        Pin::Name(name) => verified.manifest().name == *name,
        Pin::Digest(digest) => verified.digest() == *digest || verified.sha256() == *digest || verified.manifest().container_id == *digest,
    };
    if fits { Ok(()) } else { Err(Reason::NotPinned) }
}

/// May a host run it without enforcing its lists of system calls?
pub fn decide_permissive(verified: &Verified) -> Result<(), Reason> {
    if verified.manifest().global_policies.forbid_permissive { Err(Reason::PermissiveForbidden) } else { Ok(()) }
}

fn allow(entry: u32, listed: u64, size: u64) -> Decision {
    if listed == size { Decision::Allow { entry } } else { Decision::Refuse(Reason::SizeMismatch) }
}

fn unlisted(verified: &Verified, digest: &Digest) -> Reason {
    let omitted = verified.manifest().omitted.iter().any(|o| o.digest == *digest);
    if omitted { Reason::Omitted } else { Reason::UnknownHash }
}
