//! Shipping a release: inside its image as one more layer, or beside it as an artifact.
//!
//! Owns the two forms. In an image everything is one layer below `/.vkernel`; as an artifact every file is a blob of its own, so that releases share the code of libraries they share, and the image is its *subject*. What accompanies a release (`accompanying`) follows it. The fact a
//! newcomer gets wrong: the layers of the original image are pushed as they are, byte for byte; whoever pulled the original has them already.

use crate::accompanying;
use crate::blob::{Blob, Blobs};
use crate::document::{self, describe};
use crate::image::{self, Image};
use crate::reference::Reference;
use crate::registry::Access;
use crate::release::{self, Release};
use crate::scratch::Scratch;
use crate::target::Target;
use crate::writer::{self, Compression, Written};
use anyhow::Context;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use policy::Digest;
use policy::digest::Algorithm;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// The image with one more layer that holds the release.
    #[default]
    Image,
    /// An artifact that refers to the image.
    Artifact,
}

pub struct Push<'a> {
    pub manifest: PathBuf,
    pub to: Reference,
    pub image: Option<Reference>,
    pub form: Form,
    pub compression: Compression,
    /// Where layers are made before they are pushed.
    pub scratch: PathBuf,
    pub access: &'a Access,
    pub blobs: &'a Blobs,
}

/// Pushes; the result is the digest of the manifest that was made.
pub fn push(p: &Push<'_>) -> anyhow::Result<Digest> {
    let release = Release::read(&p.manifest)?;
    let files = release.on_disk(&p.manifest)?;
    let target = Target::open(&p.to, p.access, p.blobs)?;
    let scratch = Scratch::new(&p.scratch)?;
    let accompanying = accompanying::beside(&p.manifest)?;
    let pushed = match p.form {
        Form::Image => {
            let base = base(p, &scratch)?.context("name the image that the release was built from with --image REF, or push --form artifact")?;
            let layer = writer::release(&scratch.path().join("release"), p.compression, release::DIRECTORY, &files)?;
            push_image(&base, &layer, p.compression, &release, &target)
        }
        Form::Artifact => {
            let base = base(p, &scratch)?;
            let mut layers = Vec::new();
            for (name, path) in &files {
                let digest = File::open(path).and_then(|mut f| Digest::of_reader(Algorithm::Sha256, &mut f)).with_context(|| format!("cannot read {}", path.display()))?;
                let blob = Blob::of_file(path, Some(digest))?;
                target.blob(&blob, &digest)?;
                let annotations = Some([(release::TITLE.to_owned(), name.clone())].into());
                layers.push(OciDescriptor {
                    media_type: release.media_type(name).into(),
                    digest: digest.to_string(),
                    size: blob.bytes as i64,
                    annotations,
                    ..OciDescriptor::default()
                });
            }
            push_artifact(base.as_ref(), layers, &release, &target)
        }
    }?;
    // A subject is named by its digest and size alone: annotations are the list's.
    let subject = OciDescriptor { artifact_type: None, annotations: None, ..pushed };
    accompanying::push(&accompanying, &subject, &target)?;
    crate::blob::digest(&subject.digest)
}

/// The image the release belongs to, with every layer at hand.
fn base(p: &Push<'_>, scratch: &Scratch) -> anyhow::Result<Option<Image>> {
    Ok(match &p.image {
        None => None,
        Some(Reference::Directory(root)) => Some(from_directory(root, p.compression, scratch)?),
        Some(reference) => Some(image::open(reference, p.access, p.blobs)?),
    })
}

/// An image of one layer.
fn from_directory(root: &Path, compression: Compression, scratch: &Scratch) -> anyhow::Result<Image> {
    let Written { blob, diff_id } = writer::directory(&scratch.path().join("base"), compression, root)?;
    let config_bytes = document::bytes(&json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [diff_id] } }));
    let manifest = OciImageManifest {
        media_type: Some(document::MANIFEST.into()),
        config: describe(document::CONFIG, &config_bytes),
        layers: vec![layer_descriptor(&blob, compression.media_type())?],
        ..OciImageManifest::default()
    };
    let config = document::config(&manifest, &config_bytes)?;
    let bytes = document::bytes(&manifest);
    Ok(Image { digest: Digest::sha256(&bytes), manifest, bytes: Some(bytes), config_bytes, config, layers: vec![blob] })
}

fn layer_descriptor(blob: &Blob, media_type: &str) -> anyhow::Result<OciDescriptor> {
    let digest = blob.digest.context("a layer that is pushed has a digest")?;
    Ok(OciDescriptor { media_type: media_type.into(), digest: digest.to_string(), size: blob.bytes as i64, ..OciDescriptor::default() })
}

/// Pushes layers and configuration of an image, and returns the manifest's layer list in OCI's words. Layers of docker-archives get their digest here.
fn push_layers(image: &Image, target: &Target) -> anyhow::Result<Vec<OciDescriptor>> {
    let mut layers = Vec::new();
    for (blob, listed) in image.layers.iter().zip(&image.manifest.layers) {
        let digest = match blob.digest {
            Some(digest) => digest,
            None => Digest::of_reader(Algorithm::Sha256, &mut blob.open()?)?,
        };
        let blob = Blob { digest: Some(digest), ..blob.clone() };
        blob.check()?;
        target.blob(&blob, &digest)?;
        layers.push(OciDescriptor { annotations: listed.annotations.clone(), ..layer_descriptor(&blob, document::layer_type(&listed.media_type)?)? });
    }
    Ok(layers)
}

fn push_image(base: &Image, layer: &Written, compression: Compression, release: &Release, target: &Target) -> anyhow::Result<OciDescriptor> {
    let mut layers = push_layers(base, target)?;
    target.blob(&layer.blob, &layer.blob.digest.context("a written layer has a digest")?)?;
    let annotations = release.annotations();
    layers.push(OciDescriptor { annotations: Some(annotations.clone()), ..layer_descriptor(&layer.blob, compression.media_type())? });
    let line = json!({ "created_by": "recompiler-build push", "comment": format!("{} serial {}", release.manifest.name, release.manifest.serial) });
    let config = document::with_layer(&base.config_bytes, &layer.diff_id, line)?;
    target.bytes(&config)?;
    let manifest = OciImageManifest {
        media_type: Some(document::MANIFEST.into()),
        config: describe(document::CONFIG, &config),
        layers,
        annotations: Some(base.manifest.annotations.clone().unwrap_or_default().into_iter().chain(annotations).collect()),
        ..OciImageManifest::default()
    };
    let bytes = document::bytes(&manifest);
    let descriptor = describe(document::MANIFEST, &bytes);
    target.manifest(&bytes, &descriptor, true)?;
    Ok(descriptor)
}

fn push_artifact(base: Option<&Image>, layers: Vec<OciDescriptor>, release: &Release, target: &Target) -> anyhow::Result<OciDescriptor> {
    let subject = base.map(|image| push_subject(image, target)).transpose()?;
    target.bytes(document::EMPTY)?;
    let annotations = release.annotations();
    let manifest = OciImageManifest {
        media_type: Some(document::MANIFEST.into()),
        artifact_type: Some(release::ARTIFACT_TYPE.into()),
        config: describe(document::EMPTY_TYPE, document::EMPTY),
        layers,
        subject: subject.clone(),
        annotations: Some(annotations.clone()),
        ..OciImageManifest::default()
    };
    let bytes = document::bytes(&manifest);
    let mut descriptor = describe(document::MANIFEST, &bytes);
    descriptor.artifact_type = Some(release::ARTIFACT_TYPE.into());
    descriptor.annotations = Some(annotations);
    target.manifest(&bytes, &descriptor, true)?;
    if let Some(subject) = subject {
        target.refer(&crate::blob::digest(&subject.digest)?, &descriptor)?;
    }
    Ok(descriptor)
}

/// Makes sure that the image is where the artifact goes: a subject must be in the same repository.
fn push_subject(image: &Image, target: &Target) -> anyhow::Result<OciDescriptor> {
    let bytes = image.bytes.as_ref().context(
        "a docker archive has no manifest that an artifact could refer to: copy the image to the destination first (skopeo copy) and name it there, or push --form image",
    )?;
    push_layers(image, target)?;
    target.bytes(&image.config_bytes)?;
    let descriptor = describe(image.manifest.media_type.as_deref().unwrap_or(document::MANIFEST), bytes);
    target.manifest(bytes, &descriptor, false)?;
    Ok(descriptor)
}
