//! Where things are pushed: a registry, or an OCI layout on disk.
//!
//! Owns writing blobs and manifests to either, manifests last. The fact a newcomer gets wrong: a layout's index.json is replaced as a whole, so a reader sees the old images or the new ones.

use crate::blob::{Blob, Blobs};
use crate::document;
use crate::reference::{Reference, Wanted};
use crate::registry::{Access, Registry};
use anyhow::{Context, bail, ensure};
use oci_client::manifest::OciDescriptor;
use policy::Digest;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub enum Target {
    Registry(Box<Registry>),
    Layout { directory: PathBuf, tag: String },
}

impl Target {
    pub fn open(reference: &Reference, access: &Access, blobs: &Blobs) -> anyhow::Result<Target> {
        Ok(match reference {
            Reference::Registry(r) => {
                ensure!(r.digest().is_none(), "{reference}: a destination is named by a tag, its digest follows from what is pushed");
                Target::Registry(Box::new(Registry::new(r.clone(), access, blobs.clone())?))
            }
            Reference::Layout { directory, wanted: Wanted::Tag(tag) } => {
                fs::create_dir_all(directory.join("blobs/sha256")).with_context(|| format!("cannot make {}", directory.display()))?;
                replace(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
                Target::Layout { directory: directory.clone(), tag: tag.clone() }
            }
            Reference::Layout { .. } => bail!("{reference}: name the image in the layout: oci:DIR:TAG"),
            _ => bail!("{reference}: cannot be pushed to: write docker://HOST/NAME:TAG or oci:DIR:TAG"),
        })
    }

    pub fn blob(&self, blob: &Blob, digest: &Digest) -> anyhow::Result<()> {
        match self {
            Target::Registry(registry) => registry.push_blob(blob, digest),
            Target::Layout { directory, .. } => {
                let place = directory.join("blobs/sha256").join(digest.hex());
                if Blob::of_file(&place, None).is_ok_and(|b| b.bytes == blob.bytes) {
                    return Ok(());
                }
                let mut new = tempfile::NamedTempFile::new_in(directory.join("blobs/sha256")).with_context(|| format!("cannot write into {}", directory.display()))?;
                std::io::copy(&mut blob.open()?, &mut new).with_context(|| format!("cannot write {}", place.display()))?;
                publish(new, &place)
            }
        }
    }

    pub fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut file = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        std::io::Write::write_all(&mut file, bytes).context("cannot write a temporary file")?;
        let digest = Digest::sha256(bytes);
        self.blob(&Blob::of_file(file.path(), Some(digest))?, &digest)
    }

    /// Stores a manifest; under the target's tag, or known by its digest only.
    pub fn manifest(&self, bytes: &[u8], descriptor: &OciDescriptor, tagged: bool) -> anyhow::Result<()> {
        match self {
            Target::Registry(registry) => {
                let by_digest = registry.reference().clone_with_digest(descriptor.digest.clone());
                registry.push_manifest(bytes, &descriptor.media_type, if tagged { registry.reference() } else { &by_digest })
            }
            Target::Layout { directory, tag } => {
                self.bytes(bytes)?;
                let path = directory.join("index.json");
                let mut index: Value = match fs::read(&path) {
                    Ok(old) => serde_json::from_slice(&old).with_context(|| format!("{} is malformed", path.display()))?,
                    Err(_) => document::empty_index(),
                };
                let mut entry = serde_json::to_value(descriptor).context("a descriptor is plain JSON")?;
                if tagged {
                    entry["annotations"][REF_NAME] = json!(tag);
                }
                let list = document::entries(&mut index).with_context(|| path.display().to_string())?;
                list.retain(|e| if tagged { e["annotations"][REF_NAME] != json!(tag) } else { e["digest"] != entry["digest"] || !e["annotations"][REF_NAME].is_null() });
                list.push(entry);
                replace(&path, &document::bytes(&index))
            }
        }
    }

    /// Makes a manifest findable from its subject.
    pub fn refer(&self, subject: &Digest, descriptor: &OciDescriptor) -> anyhow::Result<()> {
        match self {
            Target::Registry(registry) => registry.add_referrer(subject, descriptor),
            // The entry in index.json is enough: readers look at subjects there.
            Target::Layout { .. } => Ok(()),
        }
    }
}

/// Replaces a file wholly or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(directory).with_context(|| format!("cannot write into {}", directory.display()))?;
    std::io::Write::write_all(&mut new, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    publish(new, path)
}

fn publish(new: tempfile::NamedTempFile, place: &Path) -> anyhow::Result<()> {
    let name = || format!("cannot write {}", place.display());
    new.as_file().sync_all().with_context(name)?;
    fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).with_context(name)?;
    new.persist(place).map(drop).map_err(|e| e.error).with_context(name)
}
