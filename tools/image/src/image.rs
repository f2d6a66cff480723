//! An image that can be read: its manifest, its configuration and where its layers are.
//!
//! Owns finding these for every kind of reference. Refuses to own unpacking. The fact a newcomer gets wrong: nothing of a layer has been checked when this returns; `unpack` checks while it reads.

use crate::archive;
use crate::blob::{self, Blob, Blobs};
use crate::document::{self, Config, Document};
use crate::reference::{Reference, Wanted};
use crate::registry::{Access, Registry};
use anyhow::{Context, anyhow, bail, ensure};
use oci_client::manifest::{OciDescriptor, OciImageIndex, OciImageManifest};
use policy::Digest;
use std::collections::BTreeMap;
use std::path::Path;

/// An index may name an index; a chain of them must end.
const MAX_INDEXES: usize = 4;

/// There is nothing of the name that was asked for. The text says where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotThere(pub String);

/// A manifest with the source its blobs come from.
pub struct Found {
    pub digest: Digest,
    pub manifest: OciImageManifest,
    pub bytes: Vec<u8>,
    source: Source,
}

/// An image whose layers are all on this machine.
#[derive(Debug)]
pub struct Image {
    /// Of the manifest; of the configuration for docker-archives, which have none.
    pub digest: Digest,
    pub manifest: OciImageManifest,
    /// The manifest as it came; docker-archives have none.
    pub bytes: Option<Vec<u8>>,
    pub config_bytes: Vec<u8>,
    pub config: Config,
    pub layers: Vec<Blob>,
}

/// Where blobs of a manifest are.
pub enum Source {
    /// Files of a layout by digest, or ranges of an archive by name.
    Layout(std::path::PathBuf),
    Archive(BTreeMap<String, Blob>),
    Registry(Box<Registry>),
}

impl Source {
    /// A blob on this machine; fetched if need be. Its digest is checked by whoever reads it.
    pub fn blob(&self, d: &OciDescriptor) -> anyhow::Result<Blob> {
        let (digest, bytes) = document::descriptor(d)?;
        let blob = match self {
            Source::Layout(directory) => Blob::of_file(&directory.join("blobs/sha256").join(digest.hex()), Some(digest))?,
            Source::Archive(index) => {
                let name = format!("blobs/sha256/{}", digest.hex());
                let blob = index.get(&name).with_context(|| format!("the archive lacks {name}"))?;
                Blob { digest: Some(digest), ..blob.clone() }
            }
            Source::Registry(registry) => registry.blob(&digest, bytes)?,
        };
        ensure!(blob.bytes == bytes, "{digest}: has {} bytes, its manifest says {bytes}: it is damaged or hostile", blob.bytes);
        Ok(blob)
    }

    /// A manifest or configuration, checked.
    pub fn document(&self, d: &OciDescriptor) -> anyhow::Result<Vec<u8>> {
        match self {
            Source::Registry(registry) => registry.manifest_by_digest(&blob::digest(&d.digest)?),
            _ => self.blob(d)?.document(),
        }
    }
}

/// Finds the manifest of a reference.
pub fn find(reference: &Reference, access: &Access, blobs: &Blobs) -> anyhow::Result<Found> {
    let name = || reference.to_string();
    match reference {
        Reference::Directory(_) => bail!("{reference} is a plain directory, not an image"),
        Reference::Registry(remote) => {
            let registry = Registry::new(remote.clone(), access, blobs.clone())?;
            let bytes = registry.manifest()?;
            found(Source::Registry(Box::new(registry)), bytes).with_context(name)
        }
        Reference::Layout { directory, wanted } => {
            let index = std::fs::read(directory.join("index.json")).map_err(|e| {
                let line = format!("{} is no OCI layout: {e}", directory.display());
                if e.kind() == std::io::ErrorKind::NotFound { NotThere(line).into() } else { anyhow!(line) }
            })?;
            in_layout(Source::Layout(directory.clone()), &index, wanted).with_context(name)
        }
        Reference::OciArchive { file, wanted } => {
            let index = archive::index(file).with_context(name)?;
            let document = index.get("index.json").with_context(|| format!("{} holds no index.json, it is no OCI archive", file.display()))?.document()?;
            in_layout(Source::Archive(index), &document, wanted).with_context(name)
        }
        Reference::DockerArchive { .. } => bail!("{reference}: a docker archive holds no manifest"),
    }
}

fn in_layout(source: Source, index: &[u8], wanted: &Wanted) -> anyhow::Result<Found> {
    let index: OciImageIndex = serde_json::from_slice(index).context("index.json is malformed")?;
    let tag = |e: &oci_client::manifest::ImageIndexEntry| e.annotations.as_ref().and_then(|a| a.get("org.opencontainers.image.ref.name").cloned());
    let entry = match wanted {
        Wanted::Only if index.manifests.len() == 1 => index.manifests.first(),
        Wanted::Only => None,
        Wanted::Tag(t) => index.manifests.iter().find(|e| tag(e).as_deref() == Some(t)),
        Wanted::Digest(d) => index.manifests.iter().find(|e| e.digest == *d),
    };
    let all = || index.manifests.iter().map(|e| tag(e).unwrap_or_else(|| e.digest.clone())).collect::<Vec<_>>().join(", ");
    let entry = entry.ok_or_else(|| NotThere(format!("name one of its images: {}", all())))?;
    let descriptor = OciDescriptor { digest: entry.digest.clone(), size: entry.size, ..OciDescriptor::default() };
    let bytes = source.document(&descriptor)?;
    found(source, bytes)
}

/// Follows indexes down to a manifest.
fn found(source: Source, mut bytes: Vec<u8>) -> anyhow::Result<Found> {
    for _ in 0..MAX_INDEXES {
        match document::read(&bytes)? {
            Document::Manifest(manifest) => return Ok(Found { digest: Digest::sha256(&bytes), manifest: *manifest, bytes, source }),
            Document::Index(index) => {
                let entry = document::choose(&index)?;
                bytes = source.document(&OciDescriptor { digest: entry.digest.clone(), size: entry.size, ..OciDescriptor::default() })?;
            }
        }
    }
    bail!("an index names an index too often")
}

impl Found {
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Another manifest of the same place: the subject of an artifact, or what refers to an image.
    pub fn related(self, descriptor: &OciDescriptor) -> anyhow::Result<Found> {
        let bytes = self.source.document(descriptor)?;
        found(self.source, bytes)
    }

    /// Gets all layers of an image here.
    pub fn image(&self) -> anyhow::Result<Image> {
        let config_bytes = self.source.blob(&self.manifest.config)?.document()?;
        let config = document::config(&self.manifest, &config_bytes)?;
        let layers = self.manifest.layers.iter().map(|l| self.source.blob(l)).collect::<anyhow::Result<_>>()?;
        Ok(Image { digest: self.digest, manifest: self.manifest.clone(), bytes: Some(self.bytes.clone()), config_bytes, config, layers })
    }
}

/// The image of any reference but a plain directory.
pub fn open(reference: &Reference, access: &Access, blobs: &Blobs) -> anyhow::Result<Image> {
    match reference {
        Reference::DockerArchive { file, wanted } => docker(file, wanted).with_context(|| reference.to_string()),
        _ => find(reference, access, blobs)?.image().with_context(|| reference.to_string()),
    }
}

/// `docker save` and its imitators: manifest.json, a configuration and uncompressed layers, by name.
fn docker(file: &Path, wanted: &Wanted) -> anyhow::Result<Image> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Row {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Vec<String>,
    }
    let index = archive::index(file)?;
    let get = |name: &str| index.get(name).with_context(|| format!("the archive lacks {name}"));
    let rows: Vec<Row> = serde_json::from_slice(&get("manifest.json").context("it is no docker archive")?.document()?).context("manifest.json is malformed")?;
    let all = || rows.iter().flat_map(|r| r.repo_tags.clone().unwrap_or_default()).collect::<Vec<_>>().join(", ");
    // Docker leaves its own host and `library/` out of names, other tools write them.
    let same = |name: &str, t: &str| name == t || name.split_once('/').is_some_and(|(host, rest)| host.contains('.') && (rest == t || rest.strip_prefix("library/") == Some(t)));
    let tagged = |r: &&Row, t: &str| r.repo_tags.iter().flatten().any(|name| same(name, t));
    let row = match wanted {
        Wanted::Only if rows.len() == 1 => rows.first(),
        Wanted::Tag(t) => rows.iter().find(|r| tagged(r, t)),
        _ => None,
    };
    let row = row.with_context(|| format!("name one of its images: {}", all()))?;
    let config_bytes = get(&row.config)?.document()?;
    let layers: Vec<Blob> = row.layers.iter().map(|l| get(l).cloned()).collect::<anyhow::Result<_>>()?;
    let manifest = OciImageManifest {
        media_type: Some(document::MANIFEST.into()),
        config: document::describe(document::CONFIG, &config_bytes),
        layers: layers.iter().map(|l| OciDescriptor { media_type: document::LAYER_PLAIN.into(), size: l.bytes as i64, ..OciDescriptor::default() }).collect(),
        ..OciImageManifest::default()
    };
    let config = document::config(&manifest, &config_bytes)?;
    Ok(Image { digest: Digest::sha256(&config_bytes), manifest, bytes: None, config_bytes, config, layers })
}
