//! Content-addressed bytes: a piece of a file that is known by its digest.
//!
//! Owns reading such pieces with their size and digest checked, and the directory of downloaded ones. The fact a newcomer gets wrong: a blob is not copied out of an archive that holds it; it is a range of that file.

use crate::layer::Hashed;
use anyhow::{Context, ensure};
use policy::digest::{Algorithm, Digest};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Manifests and configurations are read into memory; registries limit them to 4 MiB.
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub file: PathBuf,
    pub offset: u64,
    pub bytes: u64,
    /// Of exactly these bytes; `None` in docker-archives, whose layers are known by what is inside.
    pub digest: Option<Digest>,
}

/// The digest of a descriptor.
pub fn digest(text: &str) -> anyhow::Result<Digest> {
    let digest: Digest = text.parse()?;
    ensure!(digest.algorithm == Algorithm::Sha256, "{text}: image manifests use sha256 digests only");
    Ok(digest)
}

impl Blob {
    /// A whole file.
    pub fn of_file(file: &Path, digest: Option<Digest>) -> anyhow::Result<Blob> {
        let meta = std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(meta.is_file(), "{}: is not a regular file", file.display());
        Ok(Blob { file: file.into(), offset: 0, bytes: meta.len(), digest })
    }

    pub fn open(&self) -> anyhow::Result<std::io::Take<File>> {
        let name = || format!("cannot read {}", self.file.display());
        let mut file = File::open(&self.file).with_context(name)?;
        file.seek(SeekFrom::Start(self.offset)).with_context(name)?;
        Ok(file.take(self.bytes))
    }

    /// Everything, checked.
    pub fn document(&self) -> anyhow::Result<Vec<u8>> {
        ensure!(self.bytes <= MAX_DOCUMENT_BYTES, "{}: has {} bytes, no manifest or configuration is that large", self.file.display(), self.bytes);
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", self.file.display()))?;
        if let Some(digest) = self.digest {
            let found = Digest::sha256(&bytes);
            ensure!(found == digest, "{}: its digest is {found}, not {digest}: it is damaged, get it again", self.file.display());
        }
        Ok(bytes)
    }

    /// Reads everything and compares; nothing is kept.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(digest) = self.digest else { return Ok(()) };
        let mut hashed = Hashed::new(self.open()?);
        std::io::copy(&mut hashed, &mut std::io::sink()).with_context(|| format!("cannot read {}", self.file.display()))?;
        ensure!(hashed.bytes == self.bytes, "{}: is cut off", self.file.display());
        let found = hashed.digest();
        ensure!(found == digest, "{}: its digest is {found}, not {digest}: it is damaged, get it again", self.file.display());
        Ok(())
    }
}

/// The directory of downloaded blobs: `sha256/<hex>`, and `sha256/<hex>.part` while one is on its way.
#[derive(Clone, Debug)]
pub struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    pub fn open(directory: &Path) -> anyhow::Result<Blobs> {
        let directory = directory.join("sha256");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Blobs { directory })
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// A blob that is already here, with the size it should have.
    pub fn get(&self, digest: &Digest, bytes: u64) -> Option<Blob> {
        let blob = Blob::of_file(&self.path(digest), Some(*digest)).ok()?;
        (blob.bytes == bytes).then_some(blob)
    }
}
