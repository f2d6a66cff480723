//! From an image to a root directory.
//!
//! Owns the order of layers and that every layer is what manifest and configuration say: digest of the stored bytes, digest of the tar stream. The fact a newcomer gets wrong: digests are known only when a layer was read, that is after
//! it was applied; therefore everything happens in a directory that is thrown away when one is wrong.

use crate::image::Image;
use crate::layer::{Applied, Budget, Hashed, apply, decompressed};
use crate::progress;
use crate::scratch::Scratch;
use anyhow::{Context, ensure};
use std::io::Read;
use std::path::Path;

/// Unpacks all layers below `root`, an empty directory inside a scratch directory.
pub fn unpack(image: &Image, scratch: &Scratch, root: &Path, max_bytes: u64) -> anyhow::Result<Applied> {
    debug_assert!(root.starts_with(scratch.path()));
    let mut budget = Budget::new(max_bytes);
    let mut total = Applied::default();
    let bar = progress::bytes("unpack", image.layers.iter().map(|l| l.bytes).sum(), "");
    for (i, (blob, diff_id)) in image.layers.iter().zip(&image.config.rootfs.diff_ids).enumerate() {
        let name = || format!("layer {} of {}{}", i + 1, image.layers.len(), blob.digest.map(|d| format!(" ({d})")).unwrap_or_default());
        let mut stored = Hashed::new(bar.wrap_read(blob.open()?));
        let mut stream = Hashed::new(decompressed(&mut stored).with_context(name)?);
        let applied = apply(&mut stream, root, &mut budget).with_context(name)?;
        let found = stream.digest();
        ensure!(found == *diff_id, "{}: its content has digest {found}, the configuration says {diff_id}: the image is damaged or hostile", name());
        std::io::copy(&mut stored.by_ref(), &mut std::io::sink()).with_context(name)?;
        ensure!(stored.bytes == blob.bytes, "{}: is cut off", name());
        let found = stored.digest();
        ensure!(blob.digest.is_none_or(|d| d == found), "{}: its digest is {found}: it is damaged, get the image again", name());
        total.entries += applied.entries;
        total.removed += applied.removed;
        total.attributes_left_out += applied.attributes_left_out;
        total.devices_left_out += applied.devices_left_out;
    }
    bar.finish_and_clear();
    Ok(total)
}
