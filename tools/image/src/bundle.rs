//! Named files as an OCI artifact: what a build cache in a registry is made of.
//!
//! Owns storing and fetching by name, each file a blob of its own. Refuses to own trust: whoever stores an index among the files signs it, whoever fetches checks it. The fact a newcomer gets wrong: storing replaces the artifact under its
//! tag, but what is to be kept of the old one is only named again, never transferred.

use crate::blob::{Blob, Blobs};
use crate::document::{self, describe};
use crate::image::{self, NotThere};
use crate::reference::Reference;
use crate::registry::Access;
use crate::release::TITLE;
use crate::target::Target;
use anyhow::{Context, ensure};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use policy::Digest;
use policy::digest::Algorithm;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

const TYPE: &str = "application/vnd.vkernel.cache.v1";
const FILE_TYPE: &str = "application/octet-stream";

/// More files than a manifest of 4 MiB could name.
const MAX_FILES: usize = 12_000;

fn titles(manifest: &OciImageManifest) -> BTreeMap<&str, &OciDescriptor> {
    let title = |l: &'_ OciDescriptor| l.annotations.as_ref().and_then(|a| a.get(TITLE)).map(|t| t.as_str().to_owned());
    manifest.layers.iter().filter_map(|l| title(l).map(|_| (l.annotations.as_ref().expect("it has a title")[TITLE].as_str(), l))).collect()
}

/// Fetches the named files of an artifact into a directory; names it lacks are passed over, and one that is not there yet lacks all.
pub fn get(from: &Reference, names: &BTreeSet<String>, into: &Path, access: &Access, blobs: &Blobs) -> anyhow::Result<usize> {
    let found = match image::find(from, access, blobs) {
        Err(e) if e.is::<NotThere>() => return Ok(0),
        found => found?,
    };
    ensure!(found.manifest.artifact_type.as_deref() == Some(TYPE), "{from}: is no build cache");
    let mut fetched = 0;
    for (name, descriptor) in titles(&found.manifest).into_iter().filter(|(n, _)| names.contains(*n)) {
        check_name(name)?;
        let blob = found.source().blob(descriptor)?;
        blob.check()?;
        let to = into.join(name);
        fs::create_dir_all(to.parent().context("names have directories")?).with_context(|| format!("cannot write into {}", into.display()))?;
        let copied = File::create(&to).and_then(|mut f| std::io::copy(&mut blob.open().map_err(std::io::Error::other)?, &mut f));
        copied.with_context(|| format!("cannot write {}", to.display()))?;
        fetched += 1;
    }
    Ok(fetched)
}

/// Stores the files of a directory, and keeps those named in `keep` of what is stored already.
pub fn put(directory: &Path, to: &Reference, keep: &BTreeSet<String>, access: &Access, blobs: &Blobs) -> anyhow::Result<Digest> {
    let target = Target::open(to, access, blobs)?;
    let mut layers = BTreeMap::new();
    if !keep.is_empty() {
        let old = image::find(to, access, blobs)?;
        for (name, descriptor) in titles(&old.manifest).into_iter().filter(|(n, _)| keep.contains(*n)) {
            layers.insert(name.to_owned(), descriptor.clone());
        }
    }
    for name in files(directory)? {
        check_name(&name)?;
        let path = directory.join(&name);
        let digest = File::open(&path).and_then(|mut f| Digest::of_reader(Algorithm::Sha256, &mut f)).with_context(|| format!("cannot read {}", path.display()))?;
        let blob = Blob::of_file(&path, Some(digest))?;
        target.blob(&blob, &digest)?;
        let annotations = Some([(TITLE.to_owned(), name.clone())].into());
        layers.insert(name, OciDescriptor { media_type: FILE_TYPE.into(), digest: digest.to_string(), size: blob.bytes as i64, annotations, ..OciDescriptor::default() });
    }
    ensure!(layers.len() <= MAX_FILES, "{to}: a build cache can hold {MAX_FILES} files, not {}: begin a new one under another tag", layers.len());
    target.bytes(b"{}")?;
    let manifest = OciImageManifest {
        media_type: Some(document::MANIFEST.into()),
        artifact_type: Some(TYPE.into()),
        config: describe("application/vnd.oci.empty.v1+json", b"{}"),
        layers: layers.into_values().collect(),
        ..OciImageManifest::default()
    };
    let bytes = document::bytes(&manifest);
    let mut descriptor = describe(document::MANIFEST, &bytes);
    descriptor.artifact_type = Some(TYPE.into());
    target.manifest(&bytes, &descriptor, true)?;
    Ok(Digest::sha256(&bytes))
}

/// Names come from a registry when fetching: plain components only.
fn check_name(name: &str) -> anyhow::Result<()> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    ensure!(name.split('/').all(plain), "{name:?} is no name of a cached file");
    Ok(())
}

/// Relative names of all files, one level of directories deep.
fn files(directory: &Path) -> anyhow::Result<Vec<String>> {
    let list = |d: &Path| -> anyhow::Result<Vec<_>> { Ok(fs::read_dir(d).with_context(|| format!("cannot read {}", d.display()))?.collect::<Result<Vec<_>, _>>()?) };
    let mut names = Vec::new();
    for entry in list(directory)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            names.extend(list(&entry.path())?.into_iter().map(|e| format!("{name}/{}", e.file_name().to_string_lossy())));
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
