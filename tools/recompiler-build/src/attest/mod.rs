//! The release's facts for other people's tools: in-toto statements in DSSE envelopes in Sigstore bundles.
//!
//! Owns the two statements (what the release is; how it was made) and the names of their files beside the manifest. Refuses to own trust: `vkernel` reads none of these files, the manifest's own signature is what counts. The fact a
//! newcomer gets wrong: a bundle holds one signature (Sigstore's rule), so a second signer gets a file of its own, `manifest.KEY.sigstore.json`.

pub mod bundle;
pub mod provenance;

use crate::output;
use crate::signing::Signer;
use crate::verifying::check_digest;
use anyhow::{Context, ensure};
use bundle::Bundle;
use policy::{Algorithm, Digest, Manifest, TrustedKeys, canonical};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Who builds, if nobody says so.
pub const BUILDER: &str = "https://vkernel.io/recompiler-build";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const RELEASE: &str = "https://vkernel.io/attestations/release/v1";
const SUFFIX: &str = "sigstore.json";

/// What a statement is about, in the order of names.
type Subjects = BTreeMap<String, BTreeMap<&'static str, String>>;

pub(crate) fn statement(subjects: &Subjects, predicate_type: &str, predicate: Value) -> Value {
    let subjects: Vec<Value> = subjects.iter().map(|(name, digests)| json!({ "name": name, "digest": digests })).collect();
    json!({ "_type": STATEMENT, "subject": subjects, "predicateType": predicate_type, "predicate": predicate })
}

fn digests(all: impl IntoIterator<Item = Digest>) -> BTreeMap<&'static str, String> {
    let name = |a: Algorithm| match a {
        Algorithm::Blake3 => "blake3",
        Algorithm::Sha256 => "sha256",
    };
    all.into_iter().map(|d| (name(d.algorithm), d.hex())).collect()
}

/// Megabinary and native code, with the digests the manifest gives them (checked here) and their SHA-256.
pub(crate) fn made(m: &Manifest, directory: &Path) -> anyhow::Result<Subjects> {
    let files: BTreeMap<&str, Digest> = m.artifacts.iter().map(|a| (a.file.as_str(), a.digest)).chain([(m.megabinary.as_str(), m.megabinary_digest)]).collect();
    let mut subjects = Subjects::new();
    for (name, listed) in files {
        let path = directory.join(name);
        check_digest(&path, &listed)?;
        let second = File::open(&path).and_then(|mut f| Digest::of_reader(Algorithm::Sha256, &mut f)).with_context(|| format!("cannot read {}", path.display()))?;
        subjects.insert(name.to_owned(), digests([listed, second]));
    }
    Ok(subjects)
}

/// What the release is: everything made, and every file of the image that it may run.
fn release(m: &Manifest, directory: &Path) -> anyhow::Result<Value> {
    let mut subjects = made(m, directory)?;
    let binaries = m.binaries.iter().map(|(d, b)| (&b.path, *d, b.sha256));
    let libraries = m.libraries.iter().map(|(d, l)| (&l.path, *d, l.sha256));
    let scripts = m.scripts.iter().map(|(d, s)| (&s.path, *d, s.sha256));
    for (path, digest, second) in binaries.chain(libraries).chain(scripts) {
        subjects.entry(path.clone()).or_default().extend(digests([Some(digest), second].into_iter().flatten()));
    }
    let bytes = unsigned(m);
    let predicate = json!({
        "name": m.name, "version": m.version, "serial": m.serial, "containerId": m.container_id.to_string(), "vkernelVersion": m.vkernel_version,
        // Of the canonical form without signatures: what the manifest's own signatures are over, behind their prefix.
        "manifest": { "digest": digests([Digest::blake3(&bytes), Digest::sha256(&bytes)]) },
    });
    Ok(statement(&subjects, RELEASE, predicate))
}

fn unsigned(m: &Manifest) -> Vec<u8> {
    let unsigned = Manifest { signatures: None, ..m.clone() };
    canonical::to_bytes(&serde_json::to_value(&unsigned).expect("a manifest is plain JSON"))
}

/// `out/manifest` of `out/manifest.json`.
fn stem(manifest: &Path) -> PathBuf {
    manifest.with_extension("")
}

fn beside(manifest: &Path, end: &str) -> PathBuf {
    let mut name = stem(manifest).into_os_string();
    name.push(format!(".{end}"));
    name.into()
}

/// Where the provenance lies, as a statement that nobody has signed yet.
pub fn provenance_path(manifest: &Path) -> PathBuf {
    beside(manifest, "provenance.json")
}

/// Writes the bundles of a manifest that this signer signs; which files these are. The files of the release must lie beside it.
pub fn sign(manifest: &Path, m: &Manifest, signer: &Signer) -> anyhow::Result<Vec<PathBuf>> {
    let directory = manifest.parent().unwrap_or(Path::new(""));
    let mut statements = vec![("", canonical::to_bytes(&release(m, directory)?))];
    let path = provenance_path(manifest);
    if path.exists() {
        let bytes = crate::verifying::read_manifest(&path)?;
        provenance::check(&bytes, &made(m, directory)?).with_context(|| path.display().to_string())?;
        statements.push(("provenance.", bytes));
    }
    let mut written = Vec::new();
    for (kind, payload) in statements {
        let bundle = Bundle::sign(&payload, signer)?;
        let path = place(manifest, kind, &payload, &signer.key_id);
        output::replace(&path, &bundle.to_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// The first signer's file has the plain name; who signs the same thing beside another gets one with the key's name.
fn place(manifest: &Path, kind: &str, payload: &[u8], key_id: &str) -> PathBuf {
    let plain = beside(manifest, &format!("{kind}{SUFFIX}"));
    let other = std::fs::read(&plain).ok().and_then(|bytes| Bundle::parse(&bytes).ok()).is_some_and(|b| b.payload == payload && b.key_id != key_id);
    let safe: String = key_id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if other { beside(manifest, &format!("{kind}{safe}.{SUFFIX}")) } else { plain }
}

/// All bundles beside a manifest.
fn all(manifest: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let directory = manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let begin = format!("{}.", stem(manifest).file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&begin) && name.ends_with(&format!(".{SUFFIX}")) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Removes the bundles of an earlier build: they speak of files that are gone.
pub fn forget(manifest: &Path) -> anyhow::Result<()> {
    for path in all(manifest)? {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Checks what lies beside a manifest, as far as it is there: each bundle says what the release says, and a bundle that names a trusted key is signed by it. How many were checked.
pub fn verify(manifest: &Path, m: &Manifest, keys: &TrustedKeys) -> anyhow::Result<usize> {
    let directory = manifest.parent().unwrap_or(Path::new(""));
    let release = canonical::to_bytes(&release(m, directory)?);
    let path = provenance_path(manifest);
    let provenance = path.exists().then(|| crate::verifying::read_manifest(&path)).transpose()?;
    if let Some(bytes) = &provenance {
        provenance::check(bytes, &made(m, directory)?).with_context(|| path.display().to_string())?;
    }
    let paths = all(manifest)?;
    for path in &paths {
        let name = || path.display().to_string();
        let bundle = Bundle::parse(&crate::verifying::read_manifest(path)?).with_context(name)?;
        let known = bundle.payload == release || provenance.as_ref() == Some(&bundle.payload);
        ensure!(known, "{}: speaks of another release or build: sign the manifest again", name());
        let named: Vec<_> = keys.iter().filter(|k| k.id == bundle.key_id).collect();
        let signed = named.is_empty() || named.iter().any(|k| k.verifies(&bundle.message(), &bundle.signature));
        ensure!(signed, "{}: is not signed by {}, whom it names: sign the manifest again", name(), bundle.key_id);
    }
    Ok(paths.len())
}
