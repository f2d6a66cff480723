//! The files of a release: a manifest and everything it names.
//!
//! Owns the list of names and where they lie. Refuses to own trust: signatures are checked by `vkernel`, before it believes anything. The fact a newcomer gets wrong: a manifest from outside may name any path; the rules that
//! forbid those (`policy::rules`) are applied here before a name becomes a path.

use anyhow::{Context, ensure};
use policy::{Digest, Manifest, canonical};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Name of the manifest in every shipped form.
pub const MANIFEST: &str = "manifest.json";
/// Where an image carries its release.
pub const DIRECTORY: &str = ".vkernel";

pub const ARTIFACT_TYPE: &str = "application/vnd.vkernel.release.v1+json";
pub const MANIFEST_TYPE: &str = "application/vnd.vkernel.manifest.v1+json";
pub const WASM_TYPE: &str = "application/wasm";
pub const AOT_TYPE: &str = "application/vnd.vkernel.aot.v1";

pub const TITLE: &str = "org.opencontainers.image.title";
pub const NAME_ANNOTATION: &str = "io.vkernel.name";
pub const SERIAL_ANNOTATION: &str = "io.vkernel.serial";
pub const DIGEST_ANNOTATION: &str = "io.vkernel.manifest";

/// What a manifest says must be beside it.
pub struct Release {
    pub manifest: Manifest,
    pub bytes: Vec<u8>,
}

impl Release {
    /// Reads a manifest that may come from anywhere.
    pub fn parse(bytes: Vec<u8>) -> anyhow::Result<Release> {
        let value = canonical::parse_canonical(&bytes)?;
        let manifest = policy::verify::typed(value)?;
        policy::rules::check(&manifest)?;
        ensure!(manifest.megabinary != MANIFEST && manifest.artifacts.iter().all(|a| a.file != MANIFEST), "the manifest names itself as one of its files");
        Ok(Release { manifest, bytes })
    }

    pub fn read(path: &Path) -> anyhow::Result<Release> {
        let name = || format!("manifest {}", path.display());
        let bytes = canonical::bytes(File::open(path).with_context(name)?).with_context(name)?;
        Release::parse(bytes).with_context(name)
    }

    /// Names of all files but the manifest, with the digests the manifest gives them.
    pub fn files(&self) -> BTreeMap<&str, Digest> {
        let artifacts = self.manifest.artifacts.iter().map(|a| (a.file.as_str(), a.digest));
        artifacts.chain([(self.manifest.megabinary.as_str(), self.manifest.megabinary_digest)]).collect()
    }

    /// The same beside a manifest on disk, checked: what is shipped is what was signed.
    pub fn on_disk(&self, manifest: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let directory = manifest.parent().unwrap_or(Path::new(""));
        let mut files = BTreeMap::from([(MANIFEST.to_owned(), manifest.to_path_buf())]);
        for (name, digest) in self.files() {
            let path = directory.join(name);
            check(&path, &digest)?;
            files.insert(name.into(), path);
        }
        Ok(files)
    }

    pub fn annotations(&self) -> BTreeMap<String, String> {
        let m = &self.manifest;
        BTreeMap::from([
            (NAME_ANNOTATION.to_owned(), m.name.clone()),
            (SERIAL_ANNOTATION.to_owned(), m.serial.to_string()),
            (DIGEST_ANNOTATION.to_owned(), Digest::blake3(&self.bytes).to_string()),
            ("org.opencontainers.image.version".to_owned(), m.version.clone()),
        ])
    }

    /// Media type of a file of the release.
    pub fn media_type(&self, name: &str) -> &'static str {
        match name {
            MANIFEST => MANIFEST_TYPE,
            _ if name == self.manifest.megabinary => WASM_TYPE,
            _ => AOT_TYPE,
        }
    }
}

/// A file against the digest the manifest gives it.
pub fn check(path: &Path, digest: &Digest) -> anyhow::Result<()> {
    let found = File::open(path).and_then(|mut f| Digest::of_reader(digest.algorithm, &mut f));
    let found = found.with_context(|| format!("cannot read {}: keep the files of a build together", path.display()))?;
    ensure!(found == *digest, "{}: its digest is {found}, the manifest says {digest}: rebuild, or get the release again", path.display());
    Ok(())
}
