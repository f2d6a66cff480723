//! Getting a release, or only an image, from wherever it is into a directory of its own.
//!
//! Owns the directory (`rootfs/`, and beside it `manifest.json` with its files) and its name, which follows from digests. The fact a newcomer gets wrong: nothing here decides whether a release may run; a file that does not have the
//! digest its manifest gives it is refused here only so that the error comes early and names the registry.

use crate::accompanying;
use crate::blob::Blobs;
use crate::image::{self, Found, Image};
use crate::layer::Applied;
use crate::reference::Reference;
use crate::referrers;
use crate::registry::Access;
use crate::release::{self, Release};
use crate::scratch::Scratch;
use crate::unpack::unpack;
use crate::{image::Source, target};
use anyhow::{Context, bail, ensure};
use oci_client::manifest::OciDescriptor;
use policy::Digest;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// When the registry is asked although the image is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// Only if nothing was pulled by this name yet.
    #[default]
    Missing,
    Always,
    Never,
}

pub struct Pull<'a> {
    pub from: Reference,
    /// Where directories of pulled images are.
    pub images: PathBuf,
    pub max_bytes: u64,
    pub access: &'a Access,
    pub blobs: &'a Blobs,
}

/// An image's root directory; what it carries below `/.vkernel` stays where it is.
pub fn image(p: &Pull<'_>) -> anyhow::Result<PathBuf> {
    if let Reference::Directory(directory) = &p.from {
        return Ok(directory.clone());
    }
    if let Some(place) = pinned(p, "rootfs") {
        return Ok(place.join("rootfs"));
    }
    let image = image::open(&p.from, p.access, p.blobs)?;
    let place = p.images.join(format!("rootfs-{}", image.digest.hex()));
    if !place.is_dir() {
        let scratch = Scratch::new(&p.images)?;
        rootfs(&image, &scratch, p)?;
        scratch.publish(&place)?;
    }
    Ok(place.join("rootfs"))
}

/// A release and its image.
pub fn release(p: &Pull<'_>, when: When) -> anyhow::Result<PathBuf> {
    let note = p.images.join("names").join(Digest::sha256(p.from.to_string().as_bytes()).hex());
    let known = fs::read_to_string(&note).ok().filter(|n| !n.contains('/')).map(|n| p.images.join(n)).filter(|d| d.join(release::MANIFEST).is_file());
    let remote = matches!(p.from, Reference::Registry(_));
    match (known, when) {
        (Some(place), When::Missing) if remote => return Ok(place),
        (Some(place), When::Never) => return Ok(place),
        (None, When::Never) => bail!("{} was never pulled, and --pull never forbids to do it now", p.from),
        _ => {}
    }
    let place = fetch(p).with_context(|| p.from.to_string())?;
    fs::create_dir_all(p.images.join("names")).with_context(|| format!("cannot write into {}", p.images.display()))?;
    target::replace(&note, place.file_name().unwrap_or_default().as_encoded_bytes())?;
    Ok(place)
}

/// The directory of an image named by its digest needs nobody to be asked.
fn pinned(p: &Pull<'_>, kind: &str) -> Option<PathBuf> {
    let Reference::Registry(remote) = &p.from else { return None };
    let place = p.images.join(format!("{kind}-{}", remote.digest()?.strip_prefix("sha256:")?));
    place.is_dir().then_some(place)
}

fn fetch(p: &Pull<'_>) -> anyhow::Result<PathBuf> {
    if let Some(place) = pinned(p, "release") {
        return Ok(place);
    }
    let found = image::find(&p.from, p.access, p.blobs)?;
    if found.manifest.artifact_type.as_deref() == Some(release::ARTIFACT_TYPE) {
        return from_artifact(found, p);
    }
    let carries = found.manifest.layers.iter().any(|l| l.annotations.as_ref().is_some_and(|a| a.contains_key(release::DIGEST_ANNOTATION)));
    if carries {
        return from_image(&found, p);
    }
    match newest_referrer(&found)? {
        Some(artifact) => from_artifact(found.related(&artifact)?, p),
        // A tool that copied the image may have dropped annotations: look inside.
        None => from_image(&found, p),
    }
}

/// The release artifact with the highest serial among those that refer to an image. Annotations are not signed: a wrong one here only leads to a release that the host then refuses.
fn newest_referrer(image: &Found) -> anyhow::Result<Option<OciDescriptor>> {
    let serial = |a: &Option<BTreeMap<String, String>>| a.as_ref().and_then(|a| a.get(release::SERIAL_ANNOTATION)?.parse::<u64>().ok()).unwrap_or(0);
    let newest = referrers::of(image, |kind| kind == release::ARTIFACT_TYPE)?.into_iter().max_by_key(|e| serial(&e.annotations));
    Ok(newest.map(|e| OciDescriptor { media_type: e.media_type, digest: e.digest, size: e.size, ..OciDescriptor::default() }))
}

/// What accompanies the release, beside it; some of it may have been added since the release was pulled.
fn accompanied(found: &Found, release: &Release, directory: &Path) {
    for note in accompanying::pull(found, release, directory) {
        eprintln!("vkernel-image: note: {note}");
    }
}

fn rootfs(image: &Image, scratch: &Scratch, p: &Pull<'_>) -> anyhow::Result<()> {
    let root = scratch.path().join("rootfs");
    fs::create_dir(&root).and_then(|()| fs::set_permissions(&root, fs::Permissions::from_mode(0o755))).with_context(|| format!("cannot make {}", root.display()))?;
    let Applied { attributes_left_out, devices_left_out, .. } = unpack(image, scratch, &root, p.max_bytes)?;
    if attributes_left_out > 0 {
        eprintln!("vkernel-image: note: {attributes_left_out} extended attributes were left out: they are not an image's to set, or the file system has no place for them");
    }
    if devices_left_out > 0 {
        eprintln!("vkernel-image: note: {devices_left_out} devices were left out, and owners not set: only root can do that");
    }
    Ok(())
}

/// The release lies in the image: unpack everything, then move it out, where the guest cannot see it.
fn from_image(found: &Found, p: &Pull<'_>) -> anyhow::Result<PathBuf> {
    let place = p.images.join(format!("release-{}", found.digest.hex()));
    if place.is_dir() {
        accompanied(found, &Release::read(&place.join(release::MANIFEST))?, &place);
        return Ok(place);
    }
    let image = found.image()?;
    let scratch = Scratch::new(&p.images)?;
    rootfs(&image, &scratch, p)?;
    let root = scratch.path().join("rootfs");
    let manifest = regular(&root, release::MANIFEST)?.context("the image carries no release, and no release refers to it: build one with recompiler-build and push it")?;
    let bytes = policy::canonical::bytes(manifest).context("cannot read the release's manifest")?;
    let release = Release::parse(bytes).context("the release's manifest")?;
    for name in release.files().into_keys().chain([release::MANIFEST]) {
        ensure!(regular(&root, name)?.is_some(), "the image's release lacks {name}: push it again");
        let to = scratch.path().join(name);
        make_parent(&to)?;
        // The way there holds no symlink, as was just seen, and nobody else changes this tree.
        fs::rename(root.join(release::DIRECTORY).join(name), &to)
            .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(0o644)))
            .with_context(|| format!("cannot move {name}"))?;
    }
    fs::remove_dir_all(root.join(release::DIRECTORY)).context("cannot remove the release from the root directory")?;
    check_files(&release, scratch.path())?;
    accompanied(found, &release, scratch.path());
    scratch.publish(&place)?;
    Ok(place)
}

/// A regular file of the release that the image carries, reached without following any symlink; with several links it could also be a file of the image.
fn regular(root: &Path, name: &str) -> anyhow::Result<Option<File>> {
    let inside = format!("{}/{name}", release::DIRECTORY);
    let open = |dir: &Path| -> rustix::io::Result<OwnedFd> {
        let dir = rustix::fs::openat(CWD, dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        openat2(dir, &inside, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    };
    let fd = match open(root) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(std::io::Error::from(e)).with_context(|| format!("/{inside} of the image: it must be a plain file in plain directories")),
    };
    let stat = fstat(&fd).map_err(std::io::Error::from).with_context(|| format!("/{inside} of the image"))?;
    ensure!(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile, "/{inside} of the image is not a regular file");
    let file = File::from(fd);
    ensure!(file.metadata()?.nlink() == 1, "/{inside} of the image has several links: the image is hostile");
    Ok(Some(file))
}

fn from_artifact(found: Found, p: &Pull<'_>) -> anyhow::Result<PathBuf> {
    let subject = found.manifest.subject.clone();
    let key = format!("release-{}", found.digest.hex());
    let place = p.images.join(key);
    if place.is_dir() {
        accompanied(&found, &Release::read(&place.join(release::MANIFEST))?, &place);
        return Ok(place);
    }
    let scratch = Scratch::new(&p.images)?;
    let layer = |name: &str| {
        let titled = |l: &&OciDescriptor| l.annotations.as_ref().is_some_and(|a| a.get(release::TITLE).is_some_and(|t| t == name));
        found.manifest.layers.iter().find(titled).with_context(|| format!("the release artifact lacks {name}: push it again"))
    };
    let manifest = found.source().blob(layer(release::MANIFEST)?)?;
    ensure!(manifest.bytes <= policy::canonical::MAX_BYTES as u64, "the release's manifest is larger than 64 MiB");
    manifest.check()?;
    let mut bytes = Vec::new();
    manifest.open()?.read_to_end(&mut bytes).context("cannot read the release's manifest")?;
    let release = Release::parse(bytes).context("the release's manifest")?;
    for name in release.files().into_keys().chain([release::MANIFEST]) {
        let blob = found.source().blob(layer(name)?)?;
        let to = scratch.path().join(name);
        make_parent(&to)?;
        // Releases that share a library share its code on disk, too. Layouts and archives may lie elsewhere.
        if blob.offset != 0 || !matches!(found.source(), Source::Registry(_)) || fs::hard_link(&blob.file, &to).is_err() {
            let copy = File::create(&to).and_then(|mut f| std::io::copy(&mut blob.open().map_err(std::io::Error::other)?, &mut f));
            copy.with_context(|| format!("cannot write {}", to.display()))?;
        }
    }
    check_files(&release, scratch.path())?;
    accompanied(&found, &release, scratch.path());
    if let Some(subject) = subject {
        let image = found.related(&subject).context("the image that the release is for")?;
        rootfs(&image.image()?, &scratch, p)?;
    }
    scratch.publish(&place)?;
    Ok(place)
}

fn make_parent(path: &Path) -> anyhow::Result<()> {
    let parent = path.parent().context("release files have names")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

fn check_files(release: &Release, directory: &Path) -> anyhow::Result<()> {
    release.files().iter().try_for_each(|(name, digest)| release::check(&directory.join(name), digest))
}
