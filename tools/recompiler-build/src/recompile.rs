//! `verify --recompile`: the same release made again, from the image and what its provenance says, and compared byte for byte (07, S20).
//!
//! Owns reading the build's parameters back and the comparison. The fact a newcomer gets wrong: the provenance need not be believed for this. If its parameters are not those of the build, the bytes differ, and that is the answer; and no
//! cache is used, because a cache may be what went wrong.

use crate::assemble::Release;
use crate::attest::{self, provenance::Source};
use crate::cache::Cache;
use crate::compile::Tier;
use crate::pipeline::{self, Build};
use crate::processor::Processor;
use crate::remote_cache::Remote;
use crate::scan::Scripts;
use crate::verifying::read_manifest;
use crate::wasi::Programs;
use anyhow::{Context, ensure};
use clap::ValueEnum;
use policy::manifest::Form;
use policy::{Manifest, canonical};
use serde_json::Value;
use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Where to build again, and from what.
pub struct Again<'a> {
    pub rootfs: PathBuf,
    pub manifest: &'a Path,
    pub jobs: NonZero<usize>,
}

/// Builds a verified release again; how many files are equal.
pub fn recompile(again: Again<'_>, m: &Manifest) -> anyhow::Result<usize> {
    let path = attest::provenance_path(again.manifest);
    let name = || format!("{}: without it nobody knows how to build again", path.display());
    let provenance = canonical::parse(&read_manifest(&path).with_context(name)?).with_context(name)?;
    ensure!(m.artifacts.iter().all(|a| a.form != Form::Wasi), "has WASI programs, whose modules are not in the image: build it again from them and compare the manifests");
    let named = named_processors(m);
    let targets: BTreeSet<&str> = named.iter().map(|(target, _)| *target).collect();
    ensure!(named.len() == targets.len(), "was compiled for several processors of one kind at once, which no build of this version does");
    let place = tempfile::tempdir().context("cannot make a temporary directory")?;
    let b = build(again, m, &provenance, place.path()).with_context(|| format!("{}: its parameters are not those of a build of this version", path.display()))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let made = place.path();
    pipeline::build(&b).context("cannot be built again")?;
    let files: BTreeSet<&str> = m.artifacts.iter().map(|a| a.file.as_str()).chain([m.megabinary.as_str()]).collect();
    for file in &files {
        let (old, new) = (directory.join(file), made.join(file));
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("{file} is not made by this build"));
        let (old, new) = (read(&old)?, read(&new)?);
        let first = old.iter().zip(&new).position(|(a, b)| a != b).unwrap_or(old.len().min(new.len()));
        ensure!(old == new, "{file}: built again it differs, first at byte {first} (of {} and {}): do not trust the builder or its cache", old.len(), new.len());
    }
    let value = |m: Manifest| serde_json::to_value(Manifest { signatures: None, ..m }).expect("a manifest is plain JSON");
    let new = policy::verify::typed(canonical::parse(&read_manifest(&b.manifest)?)?)?;
    ensure!(value(new) == value(m.clone()), "the manifest differs, built again, although all code is equal: do not trust the builder");
    Ok(files.len())
}

/// What the artifacts were made for, as the manifest spells it: targets and features.
fn named_processors(m: &Manifest) -> BTreeSet<(&str, &[String])> {
    m.artifacts.iter().map(|a| (a.target.as_str(), &a.cpu_features[..])).collect()
}

/// The same as a build's choice, in its order.
fn processors(m: &Manifest) -> anyhow::Result<Vec<Processor>> {
    let mut processors = named_processors(m).iter().map(|(target, features)| Processor::named(target, features)).collect::<anyhow::Result<Vec<_>>>()?;
    processors.sort_by_key(|p| p.architecture);
    Ok(if processors.is_empty() { vec![Processor::native()] } else { processors })
}

/// The build that a provenance tells of, into another directory.
fn build(again: Again<'_>, m: &Manifest, provenance: &Value, place: &Path) -> anyhow::Result<Build> {
    let parameters = provenance.pointer("/predicate/buildDefinition/externalParameters").context("has no parameters")?;
    let word = |name: &str| parameters[name].as_str().with_context(|| format!("{name} is missing"));
    let choice = |e: String| anyhow::anyhow!(e);
    Ok(Build {
        rootfs: Some(again.rootfs),
        include: serde_json::from_value(parameters["include"].clone()).context("include is no list of paths")?,
        scripts: Scripts::from_str(word("scripts")?, false).map_err(choice)?,
        output: place.join(&m.megabinary),
        manifest: place.join("manifest.json"),
        source: Source { image: None, digest: None, builder_id: String::new() },
        signer: None,
        release: Release {
            name: m.name.clone(),
            serial: m.serial,
            version: m.version.clone(),
            policy: serde_json::from_value(parameters["policy"].clone()).context("policy is none")?,
        },
        wasi: Programs::default(),
        cache: Cache::open(Some(&place.join("cache")))?,
        remote: Remote::none(),
        tier: Tier::from_str(word("tier")?, false).map_err(choice)?,
        // The manifest's: code for other processors than this one can be compared here, too.
        processors: processors(m)?,
        jobs: again.jobs,
        min_coverage: None,
        merge_only: false,
    })
}
