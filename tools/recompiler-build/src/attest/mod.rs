//! The release's facts for other people's tools: in-toto statements in DSSE envelopes in Sigstore bundles.
//!
//! Owns the statements (what the release is; how it was made; each SBOM) and the names of their files beside the manifest. Refuses to own trust: `vkernel` reads none of these files, the manifest's own signature is what counts. The fact a
//! newcomer gets wrong: a bundle holds one signature (Sigstore's rule), so a second signer gets a file of its own, `manifest.KEY.sigstore.json`.

pub mod bundle;
pub mod provenance;

use crate::signing::Signer;
use crate::verifying::check_digest;
use anyhow::{Context, ensure};
use bundle::Bundle;
use policy::{Algorithm, Digest, Manifest, TrustedKeys, canonical};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
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

/// Megabinary and native code, with the digests the manifest gives them and their SHA-256, which `sha256` tells of a name and its listed digest.
pub(crate) fn made(m: &Manifest, sha256: impl Fn(&str, &Digest) -> anyhow::Result<Digest>) -> anyhow::Result<Subjects> {
    let named: BTreeMap<&str, Digest> = m.artifacts.iter().map(|a| (a.file.as_str(), a.digest)).chain([(m.megabinary.as_str(), m.megabinary_digest)]).collect();
    named.into_iter().map(|(name, listed)| Ok((name.to_owned(), digests([listed, sha256(name, &listed)?])))).collect()
}

/// The same of files that lie beside the manifest, whose listed digests are checked.
fn written(manifest: &Path, m: &Manifest) -> anyhow::Result<Subjects> {
    let directory = manifest.parent().unwrap_or(Path::new(""));
    made(m, |name, listed| {
        let path = directory.join(name);
        check_digest(&path, listed)?;
        File::open(&path).and_then(|mut f| Digest::of_reader(Algorithm::Sha256, &mut f)).with_context(|| format!("cannot read {}", path.display()))
    })
}

/// What the release is: everything made, and every file of the image that it may run.
fn release(m: &Manifest, made: &Subjects) -> Value {
    let mut subjects = made.clone();
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
    statement(&subjects, RELEASE, predicate)
}

fn unsigned(m: &Manifest) -> Vec<u8> {
    let unsigned = Manifest { signatures: None, ..m.clone() };
    canonical::to_bytes(&serde_json::to_value(&unsigned).expect("a manifest is plain JSON"))
}

/// `out/manifest` of `out/manifest.json`.
fn stem(manifest: &Path) -> PathBuf {
    manifest.with_extension("")
}

/// What the names of its own files begin with.
fn prefix(manifest: &Path) -> String {
    format!("{}.", stem(manifest).file_name().unwrap_or_default().to_string_lossy())
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

/// What is said of a release: what it is called in a bundle's name, and the payload.
type Statements = Vec<(String, Vec<u8>)>;

/// What a build says.
fn own_statements(m: &Manifest, made: &Subjects, provenance: Option<Vec<u8>>) -> Statements {
    let mut statements = vec![(String::new(), canonical::to_bytes(&release(m, made)))];
    statements.extend(provenance.map(|bytes| ("provenance.".to_owned(), bytes)));
    statements
}

/// What lies beside a manifest, of files that lie there, too.
fn statements(manifest: &Path, m: &Manifest) -> anyhow::Result<Statements> {
    let made = written(manifest, m)?;
    let path = provenance_path(manifest);
    let provenance = path.exists().then(|| crate::verifying::read_manifest(&path)).transpose()?;
    if let Some(bytes) = &provenance {
        provenance::check(bytes, &made).with_context(|| path.display().to_string())?;
    }
    let mut statements = own_statements(m, &made, provenance);
    for (path, predicate_type) in sboms(manifest)? {
        let document = canonical::parse(&crate::verifying::read_manifest(&path)?).with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kind = name.strip_prefix(&prefix(manifest)).unwrap_or(&name).trim_end_matches("json").to_owned();
        statements.push((kind, canonical::to_bytes(&statement(&made, predicate_type, document))));
    }
    Ok(statements)
}

/// Bundles: files, and what is to be in them.
fn bundles(statements: &Statements, signer: &Signer, place: impl Fn(&str, &[u8]) -> PathBuf) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    statements.iter().map(|(kind, payload)| Ok((place(kind, payload), Bundle::sign(payload, signer)?.to_bytes()))).collect()
}

/// The bundles of a new release. What lies beside its manifest is not of it.
pub(crate) fn first(manifest: &Path, m: &Manifest, made: &Subjects, provenance: Vec<u8>, signer: &Signer) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    bundles(&own_statements(m, made, Some(provenance)), signer, |kind, _| plain(manifest, kind))
}

/// The bundles that a signer adds to a release, of which all is written.
pub fn sign(manifest: &Path, m: &Manifest, signer: &Signer) -> anyhow::Result<Vec<(PathBuf, Vec<u8>)>> {
    bundles(&statements(manifest, m)?, signer, |kind, payload| place(manifest, kind, payload, &signer.key_id))
}

/// Where the first signer's bundle lies.
fn plain(manifest: &Path, kind: &str) -> PathBuf {
    beside(manifest, &format!("{kind}{SUFFIX}"))
}

/// The first signer's file has the plain name; who signs the same thing beside another gets one with the key's name.
fn place(manifest: &Path, kind: &str, payload: &[u8], key_id: &str) -> PathBuf {
    let plain = plain(manifest, kind);
    let other = std::fs::read(&plain).ok().and_then(|bytes| Bundle::parse(&bytes).ok()).is_some_and(|b| b.payload == payload && b.key_id != key_id);
    let safe: String = key_id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect();
    if other { beside(manifest, &format!("{kind}{safe}.{SUFFIX}")) } else { plain }
}

/// Files beside a manifest whose names are like this.
fn listed(manifest: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let directory = manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// All bundles beside a manifest.
pub(crate) fn all(manifest: &Path) -> anyhow::Result<Vec<PathBuf>> {
    listed(manifest, |name| name.starts_with(&prefix(manifest)) && name.ends_with(&format!(".{SUFFIX}")))
}

/// All SBOMs beside a manifest, with the types that in-toto's predicates of them have.
fn sboms(manifest: &Path) -> anyhow::Result<Vec<(PathBuf, &'static str)>> {
    let of = |end: &'static str, kind| Ok::<_, anyhow::Error>(listed(manifest, |name| name.ends_with(end))?.into_iter().map(move |p| (p, kind)));
    Ok(of(".cdx.json", "https://cyclonedx.org/bom")?.chain(of(".spdx.json", "https://spdx.dev/Document")?).collect())
}

/// What lies beside a manifest.
pub struct Beside {
    /// How many bundles, all good.
    pub bundles: usize,
    /// Statements that no bundle is about.
    pub unsigned: Vec<String>,
}

/// Checks what lies beside a manifest, as far as it is there: each bundle says what the release says, and a bundle that names a trusted key is signed by it.
pub fn verify(manifest: &Path, m: &Manifest, keys: &TrustedKeys) -> anyhow::Result<Beside> {
    let statements = statements(manifest, m)?;
    let paths = all(manifest)?;
    let mut signed = BTreeSet::new();
    for path in &paths {
        let name = || path.display().to_string();
        let bundle = Bundle::parse(&crate::verifying::read_manifest(path)?).with_context(name)?;
        let known = statements.iter().find(|(_, payload)| *payload == bundle.payload);
        let (kind, _) = known.with_context(|| format!("{}: speaks of another release, build or SBOM: sign the manifest again", name()))?;
        let named: Vec<_> = keys.iter().filter(|k| k.id == bundle.key_id).collect();
        let good = named.is_empty() || named.iter().any(|k| k.verifies(&bundle.message(), &bundle.signature));
        ensure!(good, "{}: is not signed by {}, whom it names: sign the manifest again", name(), bundle.key_id);
        signed.insert(kind);
    }
    let unsigned = statements.iter().map(|(kind, _)| kind).filter(|kind| !kind.is_empty() && !signed.contains(kind));
    Ok(Beside { bundles: paths.len(), unsigned: unsigned.map(|kind| format!("{kind}json")).collect() })
}
