//! What accompanies a release: Sigstore bundles, its provenance, SBOMs and its proof. Each goes to a registry as an artifact of its format's own media type whose *subject* is the release, so that tools of those formats find it there.
//!
//! Owns which files these are, by name, and both ways. Refuses to own what is in them: whoever reads one checks it. The fact a newcomer gets wrong: nothing of it is needed to run a release, and anybody who may push can add to it; so what cannot be had, or
//! is not what it should be, is left out of a pull with a note, and the release is there all the same.

use crate::blob::Blob;
use crate::document::{self, Document, describe};
use crate::image::Found;
use crate::referrers;
use crate::release::{self, Release, TITLE};
use crate::target::{self, Target};
use anyhow::{Context, ensure};
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest};
use policy::{Digest, canonical};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Each of a release's own attachments is called `manifest.…` when it is shipped.
const STEM: &str = "manifest.";
/// More than a release needs; a registry could list any number.
const MOST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Bundle,
    Provenance,
    Spdx,
    CycloneDx,
    Proof,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Bundle, Kind::Provenance, Kind::Spdx, Kind::CycloneDx, Kind::Proof];

    /// Of a file by its name when shipped, which is a plain file name or one in the proof's directory.
    fn of(name: &str) -> Option<Kind> {
        if blob_of_proof(name).is_some() {
            return Some(Kind::Proof);
        }
        let plain = !name.starts_with('.') && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match name.strip_prefix(STEM) {
            _ if !plain => None,
            Some("provenance.json") => Some(Kind::Provenance),
            Some("proof.json") => Some(Kind::Proof),
            Some(rest) if rest.ends_with("sigstore.json") => Some(Kind::Bundle),
            _ if name.ends_with(".spdx.json") => Some(Kind::Spdx),
            _ if name.ends_with(".cdx.json") => Some(Kind::CycloneDx),
            _ => None,
        }
    }

    /// Of the artifact, and of its files.
    fn media_type(self) -> &'static str {
        match self {
            Kind::Bundle => "application/vnd.dev.sigstore.bundle.v0.3+json",
            Kind::Provenance => "application/vnd.in-toto+json",
            Kind::Spdx => "application/spdx+json",
            Kind::CycloneDx => "application/vnd.cyclonedx+json",
            Kind::Proof => "application/vnd.vkernel.proof.v1+json",
        }
    }
}

/// The digest that names what went into a command of the proof, or came out.
fn blob_of_proof(name: &str) -> Option<Digest> {
    let digest: Digest = format!("sha256:{}", name.strip_prefix("manifest.proof/")?).parse().ok()?;
    Some(digest)
}

/// One artifact to be: its files by their names when shipped.
#[derive(Debug)]
pub struct Attachment {
    kind: Kind,
    files: BTreeMap<String, PathBuf>,
}

/// What lies beside a manifest.
pub fn beside(manifest: &Path) -> anyhow::Result<Vec<Attachment>> {
    let directory = manifest.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let list = || format!("cannot list {}", directory.display());
    let own = format!("{}.", manifest.file_stem().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(list)? {
        let path = entry.with_context(list)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shipped = match name.strip_prefix(&own) {
            Some(rest) => format!("{STEM}{rest}"),
            // Of another manifest in the same directory.
            None if name.starts_with(STEM) => continue,
            None => name,
        };
        let Some(kind) = Kind::of(&shipped).filter(|_| path.is_file()) else { continue };
        let mut files = BTreeMap::from([(shipped, path.clone())]);
        if kind == Kind::Proof {
            files.extend(blobs(manifest, &path)?);
            let most = document::MAX_LAYERS;
            ensure!(files.len() <= most, "{}: has {} files, an artifact holds {most}: prove fewer commands", path.display(), files.len());
        }
        found.push(Attachment { kind, files });
    }
    found.sort_by(|a, b| (a.kind, &a.files).cmp(&(b.kind, &b.files)));
    Ok(found)
}

/// What a proof speaks of, and nothing that an older one left.
fn blobs(manifest: &Path, path: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let name = || format!("proof {}", path.display());
    let proof: proof::Proof = serde_json::from_slice(&bounded(File::open(path).with_context(name)?).with_context(name)?).with_context(name)?;
    let digests = proof.tests.values().flat_map(|row| [row.stdin, row.stdout, row.stderr]);
    Ok(digests.map(|digest| (format!("manifest.proof/{}", digest.hex()), proof::blobs(manifest).join(digest.hex()))).collect())
}

/// Pushes them with `subject` as what they are about.
pub fn push(attachments: &[Attachment], subject: &OciDescriptor, target: &Target) -> anyhow::Result<()> {
    for attachment in attachments {
        let kind = attachment.kind.media_type();
        let (mut layers, mut annotations) = (Vec::new(), BTreeMap::new());
        for (name, path) in &attachment.files {
            let bytes = bounded(File::open(path).with_context(|| format!("cannot read {}", path.display()))?).with_context(|| path.display().to_string())?;
            if attachment.kind == Kind::Bundle {
                annotations = bundle_annotations(&bytes);
            }
            target.bytes(&bytes)?;
            let media_type = if blob_of_proof(name).is_some() { "application/octet-stream" } else { kind };
            layers.push(OciDescriptor { annotations: Some([(TITLE.to_owned(), name.clone())].into()), ..describe(media_type, &bytes) });
        }
        target.bytes(document::EMPTY)?;
        let annotations = Some(annotations).filter(|a| !a.is_empty());
        let manifest = OciImageManifest {
            media_type: Some(document::MANIFEST.into()),
            artifact_type: Some(kind.into()),
            config: describe(document::EMPTY_TYPE, document::EMPTY),
            layers,
            subject: Some(subject.clone()),
            annotations: annotations.clone(),
            ..OciImageManifest::default()
        };
        let bytes = document::bytes(&manifest);
        let descriptor = OciDescriptor { artifact_type: Some(kind.into()), annotations, ..describe(document::MANIFEST, &bytes) };
        target.manifest(&bytes, &descriptor, false)?;
        target.refer(&crate::blob::digest(&subject.digest)?, &descriptor)?;
    }
    Ok(())
}

/// By which cosign and its like choose among bundles without getting them; none for what is no bundle.
fn bundle_annotations(bytes: &[u8]) -> BTreeMap<String, String> {
    use base64::Engine;
    let statement = || -> Option<serde_json::Value> {
        let bundle: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let payload = base64::prelude::BASE64_STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str()?).ok()?;
        serde_json::from_slice(&payload).ok()
    };
    let predicate = statement().and_then(|s| Some(s["predicateType"].as_str()?.to_owned()));
    let rows = predicate.map(|p| [("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()), ("dev.sigstore.bundle.predicateType".to_owned(), p)]);
    rows.into_iter().flatten().collect()
}

/// Puts what accompanies a release into the directory where its files lie; a line for each thing that was left out.
pub fn pull(found: &Found, release: &Release, into: &Path) -> Vec<String> {
    let is_known = |kind: &str| Kind::ALL.iter().any(|k| k.media_type() == kind);
    let entries = match referrers::of(found, is_known) {
        Ok(entries) => entries,
        Err(e) => return vec![format!("what accompanies the release was left out: {e:#}")],
    };
    let mut left_out = Vec::new();
    if entries.len() > MOST {
        left_out.push(format!("{} artifacts accompany the release, only {MOST} were looked at", entries.len()));
    }
    for entry in entries.iter().take(MOST) {
        if let Err(e) = one(found, entry, release, into) {
            left_out.push(format!("{} {} was left out: {e:#}", entry.artifact_type.as_deref().unwrap_or_default(), entry.digest));
        }
    }
    left_out
}

/// All files of one artifact, or none.
fn one(found: &Found, entry: &ImageIndexEntry, release: &Release, into: &Path) -> anyhow::Result<()> {
    let descriptor = OciDescriptor { digest: entry.digest.clone(), size: entry.size, ..OciDescriptor::default() };
    let Document::Manifest(manifest) = document::read(&found.source().document(&descriptor)?)? else { anyhow::bail!("it is an index") };
    ensure!(manifest.subject.is_some_and(|s| s.digest == found.digest.to_string()), "it is about something else");
    let mut files = BTreeMap::new();
    for layer in &manifest.layers {
        let name = layer.annotations.as_ref().and_then(|a| a.get(TITLE)).context("a file of it has no name")?;
        let is_own = Kind::of(name).is_some_and(|k| Some(k.media_type()) == entry.artifact_type.as_deref());
        let is_free = name != release::MANIFEST && !release.files().contains_key(name.as_str());
        ensure!(is_own && is_free, "{name:?} is no name of a file of it");
        let fits = blob_of_proof(name).is_none_or(|digest| digest.to_string() == layer.digest);
        ensure!(fits, "{name}: is not what its name says");
        let blob: Blob = found.source().blob(layer)?;
        blob.check()?;
        files.insert(name, bounded(blob.open()?)?);
    }
    for (name, bytes) in files {
        let to = into.join(name);
        fs::create_dir_all(to.parent().unwrap_or(into)).with_context(|| format!("cannot make the directory of {name}"))?;
        target::replace(&to, &bytes)?;
    }
    Ok(())
}

fn bounded(from: impl Read) -> anyhow::Result<Vec<u8>> {
    let bytes = canonical::bytes(from)?;
    ensure!(bytes.len() <= canonical::MAX_BYTES, "has more than 64 MiB");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name_and_names_lead_nowhere_else() {
        let hex = "ab".repeat(32);
        for (name, kind) in [
            ("manifest.sigstore.json", Kind::Bundle),
            ("manifest.provenance.sigstore.json", Kind::Bundle),
            ("manifest.second-key.sigstore.json", Kind::Bundle),
            ("manifest.provenance.json", Kind::Provenance),
            ("manifest.proof.json", Kind::Proof),
            (&format!("manifest.proof/{hex}"), Kind::Proof),
            ("sbom.spdx.json", Kind::Spdx),
            ("manifest.cdx.json", Kind::CycloneDx),
        ] {
            assert_eq!(Kind::of(name), Some(kind), "{name}");
        }
        for name in [
            "manifest.json",
            "x.sigstore.json",
            "../sbom.spdx.json",
            "a/sbom.spdx.json",
            ".spdx.json",
            "manifest.proof/../../x",
            "manifest.proof/x",
            &format!("manifest.proof/{hex}/x"),
            &format!("manifest.proof/blake3:{hex}"),
            "rootfs",
            "",
            "a b.cdx.json",
        ] {
            assert_eq!(Kind::of(name), None, "{name}");
        }
    }
}
