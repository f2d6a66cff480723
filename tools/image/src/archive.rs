//! Where the members of an image archive lie, so that blobs are read in place.
//!
//! Owns the index of `oci-archive:` and `docker-archive:` files. Refuses to own what the members mean. The fact a newcomer gets wrong: old docker archives name layers through symlinks inside the archive, and compressed archives
//! have no places to point to: they are refused with the command that unpacks them.

use crate::blob::Blob;
use crate::layer::{self, Budget};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Members by name, links resolved. Nothing is extracted.
pub fn index(path: &Path) -> anyhow::Result<BTreeMap<String, Blob>> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut magic = [0; 6];
    let n = file.read(&mut magic).with_context(|| format!("cannot read {}", path.display()))?;
    let compressed = [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z']];
    ensure!(!compressed.iter().any(|m| magic[..n].starts_with(m)), "{}: is compressed as a whole, unpack it first with gunzip, unzstd, unxz or bunzip2", path.display());
    let file = BufReader::with_capacity(1 << 20, File::open(path)?);
    // The archive's own size is its budget: nothing in a plain tar can cost more.
    let size = std::fs::metadata(path)?.len();
    let mut budget = Budget::new(size.saturating_add(1 << 20));
    let members = layer::members(file, &mut budget).with_context(|| path.display().to_string())?;
    let mut found = BTreeMap::new();
    for m in &members {
        if m.link.is_none() {
            let blob = Blob { file: path.into(), offset: m.offset, bytes: m.bytes, digest: None };
            ensure!(found.insert(m.path.clone(), blob).is_none(), "{}: {} stands twice in it", path.display(), m.path);
        }
    }
    for m in &members {
        if let Some(target) = &m.link
            && let Some(blob) = found.get(target).cloned()
        {
            found.entry(m.path.clone()).or_insert(blob);
        }
    }
    Ok(found)
}
