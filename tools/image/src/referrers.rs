//! What refers to an image or a release: artifacts whose subject it is. Owns asking a registry, and looking in a layout. The fact a newcomer gets wrong: who refers is whoever may push; being listed says nothing about being right.

use crate::document;
use crate::image::{Found, Source};
use anyhow::Context;
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageIndex};
use std::fs;
use std::path::Path;

/// Artifacts of the wanted types, in the order of the list they stand in. Archives hold none.
pub fn of(subject: &Found, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<ImageIndexEntry>> {
    let mut entries = match subject.source() {
        Source::Registry(registry) => registry.referrers(&subject.digest)?,
        Source::Layout(directory) => in_layout(directory, subject, &is_wanted)?,
        Source::Archive(_) => Vec::new(),
    };
    entries.retain(|e| e.artifact_type.as_deref().is_some_and(&is_wanted));
    Ok(entries)
}

fn in_layout(directory: &Path, subject: &Found, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<ImageIndexEntry>> {
    let path = directory.join("index.json");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let index: OciImageIndex = serde_json::from_slice(&bytes).with_context(|| format!("{} is malformed", path.display()))?;
    let mut refers = Vec::new();
    for entry in index.manifests.into_iter().filter(|e| e.artifact_type.as_deref().is_some_and(&is_wanted)) {
        let descriptor = OciDescriptor { digest: entry.digest.clone(), size: entry.size, ..OciDescriptor::default() };
        if let document::Document::Manifest(m) = document::read(&subject.source().blob(&descriptor)?.document()?)?
            && m.subject.is_some_and(|s| s.digest == subject.digest.to_string())
        {
            refers.push(entry);
        }
    }
    Ok(refers)
}
