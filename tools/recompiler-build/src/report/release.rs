//! Facts of a finished release: its manifest, and the files beside it as far as they are there.
//!
//! Refuses to judge signatures: that needs keys, and is `verify`'s. The fact a newcomer gets wrong: a manifest is hostile input here, too, whoever seems to have signed it: form and rules are checked, and the megabinary's digest before it is read.

use super::facts::{Facts, File, Kind, Omitted};
use super::linked;
use crate::verifying;
use anyhow::Context;
use policy::manifest::{Binary, Inline, Library, Manifest, Script, Scripts};
use policy::unread::Unread;
use policy::{Digest, canonical};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A manifest in its types, by all rules.
pub(super) fn read(path: &Path) -> anyhow::Result<Manifest> {
    let name = || path.display().to_string();
    let value = canonical::parse(&verifying::read_manifest(path)?).with_context(name)?;
    let manifest = policy::verify::typed(value).with_context(name)?;
    policy::rules::check(&manifest).with_context(name)?;
    Ok(manifest)
}

/// Everything that manifest and megabinary say.
pub(super) fn facts(path: &Path) -> anyhow::Result<Facts> {
    let manifest = read(path)?;
    let mut facts = from_manifest(&manifest)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let megabinary = directory.join(&manifest.megabinary);
    if megabinary.exists() {
        verifying::check_digest(&megabinary, &manifest.megabinary_digest)?;
        let wasm = std::fs::read(&megabinary).with_context(|| format!("cannot read {}", megabinary.display()))?;
        facts.sharing = Some(linked::sharing(&manifest, &wasm));
        facts.sizes.push((manifest.megabinary.clone(), wasm.len() as u64));
    }
    let artifacts: std::collections::BTreeSet<&str> = manifest.artifacts.iter().map(|a| a.file.as_str()).collect();
    facts.sizes.extend(artifacts.into_iter().filter_map(|file| Some((file.to_owned(), std::fs::metadata(directory.join(file)).ok()?.len()))));
    Ok(facts)
}

/// What the manifest alone says.
pub(super) fn from_manifest(m: &Manifest) -> anyhow::Result<Facts> {
    let mut files: Vec<File> = m.binaries.iter().map(|(digest, b)| program(m, digest, b)).collect();
    files.extend(m.libraries.iter().filter(|(digest, _)| !m.binaries.contains_key(digest)).map(|(digest, l)| library(digest, l)));
    files.extend(m.scripts.iter().map(|(digest, s)| script(digest, s)));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let signers: Vec<&str> = m.signatures.iter().flat_map(|s| s.iter()).map(|s| s.key_id.as_str()).collect();
    let signers = if signers.is_empty() { "nobody".into() } else { format!("{} (claimed; recompiler-build verify checks it)", signers.join(", ")) };
    let omitted = m.omitted.iter().map(|o| Omitted { path: o.path.clone(), digest: o.digest, reason: o.reason.clone() });
    Ok(Facts {
        title: m.name.clone(),
        identity: vec![
            ("Version", m.version.clone()),
            ("Serial", m.serial.to_string()),
            ("Container", m.container_id.to_string()),
            ("Megabinary", m.megabinary_digest.to_string()),
            ("Runtime", format!("vkernel {}", m.vkernel_version)),
            ("Signed by", signers),
            (RULES, rules(m)),
        ],
        files,
        omitted: omitted.collect(),
        networking: Some(m.global_policies.networking),
        sharing: None,
        sizes: Vec::new(),
    })
}

/// Of a manifest that `read` has checked.
fn stated<T: Serialize + DeserializeOwned>(unread: &Option<Unread<T>>) -> Option<T> {
    unread.as_ref()?.read().ok()
}

/// Name of the row that says which scripts run and what becomes of program text.
pub(super) const RULES: &str = "Scripts";

fn rules(m: &Manifest) -> String {
    let scripts = match m.global_policies.scripts {
        Scripts::Any => "any that a program of this release runs",
        Scripts::Listed => "the listed ones only",
    };
    let word = |inline| match inline {
        Inline::Allow => "runs",
        Inline::Audit => "runs and is recorded",
        Inline::Deny => "is refused",
    };
    let own = m.binaries.values().filter_map(|b| Some(format!("{}: {}", b.path, word(b.overrides.inline?)))).collect::<Vec<_>>();
    let but = if own.is_empty() { String::new() } else { format!(" (but {})", own.join(", ")) };
    format!("{scripts}; program text given to interpreters {}{but}", word(m.global_policies.inline))
}

fn program(m: &Manifest, digest: &Digest, b: &Binary) -> File {
    File {
        path: b.path.clone(),
        kind: if m.libraries.contains_key(digest) { Kind::Both } else { Kind::Program },
        size: b.size,
        digest: *digest,
        sha256: b.sha256,
        privileges: Vec::new(),
        interpreter: b.elf.as_ref().and_then(|e| e.interpreter.clone()),
        coverage: stated(&b.coverage),
        syscalls: stated(&b.syscalls),
        allowed: Some(m.allowed_syscalls(b).into_iter().map(str::to_owned).collect()),
    }
}

fn library(digest: &Digest, l: &Library) -> File {
    File {
        path: l.path.clone(),
        kind: Kind::Library,
        size: l.size,
        digest: *digest,
        sha256: l.sha256,
        privileges: Vec::new(),
        interpreter: l.elf.interpreter.clone(),
        coverage: stated(&l.coverage),
        syscalls: None,
        allowed: None,
    }
}

fn script(digest: &Digest, s: &Script) -> File {
    File {
        path: s.path.clone(),
        kind: Kind::Script,
        size: s.size,
        digest: *digest,
        sha256: s.sha256,
        privileges: Vec::new(),
        interpreter: Some(s.interpreter.clone()),
        coverage: None,
        syscalls: None,
        allowed: None,
    }
}
