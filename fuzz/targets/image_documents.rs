//! Any bytes as what names an image: documents by themselves, a layout, archives, files of credentials. They are refused or make sense together, and what was accepted can be read as often as one likes and pushed again.
//!
//! The first byte says what the rest is. Where a document names another one, `$0` is the digest and `#0` the size of the first one: no fuzzer finds a digest.
#![no_main]

use image::blob::{self, Blobs};
use image::document::{self, Document};
use image::image::Image;
use image::reference::Reference;
use image::registry::Access;
use image::{archive, credentials, referrers};
use policy::Digest;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

static REMOTE: LazyLock<Reference> = LazyLock::new(|| "r.example/team/x:1".parse().expect("a reference"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let parts: Vec<&[u8]> = rest.split(|b| *b == 0).collect();
    match kind {
        b'A' => in_archive(rest),
        b'C' => keys(rest),
        b'D' => in_archive(&members(&parts)),
        b'L' => in_layout(&parts),
        _ => documents(&parts),
    }
});

/// A manifest and its configuration, or an index, as a registry sends them: also as a list of what refers to something.
fn documents(parts: &[&[u8]]) {
    let mut value = serde_json::from_slice::<Value>(parts[0]);
    let is_list = value.as_mut().map(|v| document::entries(v).map(|list| list.push(json!({}))).is_ok());
    match document::read(parts[0]) {
        Ok(Document::Index(index)) => {
            assert!(document::choose(&index).is_err() || !index.manifests.is_empty());
            assert!(is_list.unwrap_or(true), "what was read as an index cannot be added to");
        }
        Ok(Document::Manifest(manifest)) => {
            manifest.layers.iter().for_each(|l| drop(document::descriptor(l)));
            assert!(matches!(document::read(&document::bytes(&manifest)), Ok(Document::Manifest(_))), "its own copy is refused");
            if let Some(bytes) = parts.get(1)
                && let Ok(config) = document::config(&manifest, bytes)
            {
                assert_eq!(config.rootfs.diff_ids.len(), manifest.layers.len());
                document::with_layer(bytes, &Digest::sha256(b""), json!({})).expect("a good configuration takes one more layer");
            }
        }
        Err(_) => {}
    }
}

/// An OCI layout: the last part is its index, the others are blobs.
fn in_layout(parts: &[&[u8]]) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let blobs = place.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("writable");
    let mut done: Vec<(String, usize)> = Vec::new();
    for (n, part) in parts.iter().take(8).enumerate() {
        let Ok(mut text) = String::from_utf8(part.to_vec()) else { return };
        for (i, (digest, size)) in done.iter().enumerate() {
            text = text.replace(&format!("${i}"), digest).replace(&format!("#{i}"), &size.to_string());
        }
        let digest = Digest::sha256(text.as_bytes());
        let path = if n + 1 == parts.len() { place.path().join("index.json") } else { blobs.join(digest.hex()) };
        fs::write(path, &text).expect("writable");
        done.push((digest.to_string(), text.len()));
    }
    let (access, store) = (Access::default(), Blobs::open(place.path()).expect("writable"));
    for wanted in ["", ":x"] {
        let reference: Reference = format!("oci:{}{wanted}", place.path().display()).parse().expect("a reference");
        let Ok(found) = image::image::find(&reference, &access, &store) else { continue };
        for entry in referrers::of(&found, |_| true).into_iter().flatten() {
            blob::digest(&entry.digest).expect("its manifest was read");
        }
        if let Ok(image) = found.image() {
            sensible(&image, place.path());
            assert!(image.layers.iter().all(|l| l.file.starts_with(&blobs)));
        }
    }
}

/// A tar of the parts: names and contents in turn; `a -> b` is a link.
fn members(parts: &[&[u8]]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for pair in parts.chunks_exact(2).take(16) {
        let mut header = tar::Header::new_gnu();
        let at = pair[0].windows(4).position(|w| w == b" -> ");
        let (name, target) = at.map_or((pair[0], &b""[..]), |at| (&pair[0][..at], &pair[0][at + 4..]));
        let content = if at.is_some() { &b""[..] } else { pair[1] };
        header.as_old_mut().name[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
        header.as_old_mut().linkname[..target.len().min(100)].copy_from_slice(&target[..target.len().min(100)]);
        header.set_entry_type(if at.is_some() { tar::EntryType::Symlink } else { tar::EntryType::Regular });
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).expect("it is in memory");
    }
    tar.into_inner().expect("it is in memory")
}

/// A docker-archive or an oci-archive.
fn in_archive(bytes: &[u8]) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("a.tar");
    fs::write(&file, bytes).expect("writable");
    if let Ok(index) = archive::index(&file) {
        assert!(index.values().all(|b| b.offset.checked_add(b.bytes).is_some_and(|end| end <= bytes.len() as u64)), "a member lies outside");
    }
    let (access, store) = (Access::default(), Blobs::open(place.path()).expect("writable"));
    for scheme in ["docker-archive", "oci-archive"] {
        let reference: Reference = format!("{scheme}:{}", file.display()).parse().expect("a reference");
        if let Ok(image) = image::image::open(&reference, &access, &store) {
            sensible(&image, &file);
        }
    }
}

fn sensible(image: &Image, within: &Path) {
    assert!(image.layers.len() == image.config.rootfs.diff_ids.len() && image.layers.len() == image.manifest.layers.len());
    assert!(image.layers.iter().all(|l| l.file.starts_with(within)));
    document::with_layer(&image.config_bytes, &Digest::sha256(b""), json!({})).expect("a good configuration takes one more layer");
}

/// Files that name a program which knows the credentials are left out: it would be started.
fn keys(bytes: &[u8]) {
    let helped = |v: &Value| v.as_object().is_none_or(|o| o.contains_key("credsStore") || o.contains_key("credHelpers"));
    let Reference::Registry(remote) = &*REMOTE else { return };
    if !serde_json::from_slice(bytes).is_ok_and(|v| helped(&v)) {
        let _ = credentials::of(bytes, remote);
    }
}
