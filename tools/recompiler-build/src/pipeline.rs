//! The whole way: scan → lift → merge → compile → sign → write.
//!
//! Owns the order of stages and their parallelism. Each stage's work is its own file's. The fact a newcomer gets wrong: everything is made, signed and written before any
//! name changes, and the manifest's changes last: a build that fails leaves the release that was there as it was.

use crate::assemble::{self, Built, Made, Release, Syscalls};
use crate::attest::provenance::{self, Source};
use crate::cache::Cache;
use crate::compile::Tier;
use crate::compiling::{self, MadeCode, Native};
use crate::cost::{Cost, Work};
use crate::coverage::{self, Certified};
use crate::lifting::{self, Shard};
use crate::lists::Lists;
use crate::output::{self, Together};
use crate::processor::{Architecture, Processor};
use crate::remote_cache::{Entry, Remote};
use crate::scan::rootfs::Rootfs;
use crate::scan::{self, Inventory};
use crate::signing::Signer;
use crate::wasi::{self, Programs};
use crate::{attest, progress};
use anyhow::Context;
use megabinary::slots;
use megabinary::{ImageSegment, Megabinary, Program, ShardInput};
use policy::manifest::{Form, Scripts};
use policy::signature::Kind;
use policy::{Digest, Manifest, canonical};
use serde::Serialize;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// What to build, and where to put it.
pub struct Build {
    /// None: a release of WASI programs alone.
    pub rootfs: Option<PathBuf>,
    pub include: Vec<String>,
    pub scripts: scan::Scripts,
    pub output: PathBuf,
    pub manifest: PathBuf,
    /// What the provenance says of where it came from.
    pub source: Source,
    pub signer: Option<Signer>,
    pub release: Release,
    pub wasi: Programs,
    pub cache: Cache,
    pub remote: Remote,
    pub tier: Tier,
    /// Of different architectures.
    pub processors: Vec<Processor>,
    pub jobs: NonZero<usize>,
    /// Percent that every file must reach.
    pub min_coverage: Option<f64>,
    /// Stop after merging: no native code, an unsigned manifest.
    pub merge_only: bool,
}

/// Figures of a finished build.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub objects: usize,
    pub scripts: usize,
    pub omitted: usize,
    /// Paths of scripts that the programs could run and the release refuses, because its policy has listed ones run only.
    pub unlisted_scripts: Vec<String>,
    /// Modules of WASI programs.
    pub programs: usize,
    pub lifted: usize,
    pub compiled: usize,
    /// Instructions that stop the guest; those behind cpuid bits that it is not shown.
    pub gaps: u64,
    pub gated: u64,
    /// Where the policy wants lists from code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<Lists>,
    pub wasm_bytes: usize,
    pub aot_bytes: usize,
    #[serde(flatten)]
    pub cost: Cost,
}

/// An object's place in the build, in the order of paths.
pub struct Placed<'a> {
    pub digest: Digest,
    pub object: &'a scan::Object,
    pub base: u64,
}

/// Builds a release.
pub fn build(b: &Build) -> anyhow::Result<Summary> {
    let directory = parent(&b.manifest)?;
    let inside = parent(&b.output)?.strip_prefix(&directory).map(Path::to_path_buf);
    let inside = inside.map_err(|_| anyhow::anyhow!("{} must lie in the manifest's directory {}", b.output.display(), directory.display()))?;
    let megabinary_name = inside.join(b.output.file_name().unwrap_or_default()).to_string_lossy().into_owned();
    let mut cost = Cost::default();
    let found = cost.stage("scan", || {
        let found = find(b)?;
        let text_bytes = found.objects.values().map(|o| o.facts.text_bytes()).sum();
        Ok((found, Work { text_bytes, made_bytes: 0 }))
    })?;
    let placed = place(&found)?;
    let (shards, lifted) = cost.stage("lift", || lift(b, &placed))?;
    if let Some(wanted) = b.min_coverage {
        coverage::require(wanted, &certified(&placed, &shards))?;
    }
    let native = cost.stage("compile", || {
        let native = if b.merge_only { Native::default() } else { compiling::compile(b, &placed, &shards)? };
        let work = native.work;
        Ok((native, work))
    })?;
    let (wasm_bytes, lists) = cost.stage("assemble", || {
        let merged = merge(b, &found, &placed, &shards)?;
        let (manifest, bytes) = manifest(b, &found, &placed, &shards, &merged, &native.code, megabinary_name)?;
        let mut files = Together::new();
        write(b, &mut files, &directory, &merged, &native.code)?;
        attest(b, &mut files, &found, &manifest, &merged, &native.code)?;
        files.replace(&b.manifest, &bytes)?;
        files.commit()?;
        Architecture::ALL.iter().for_each(|a| forget_old(&directory.join("aot").join(a.triple()), &native.code));
        let text_bytes = placed.iter().map(|p| p.object.facts.text_bytes()).sum();
        let lists = (b.release.policy.syscalls == Syscalls::Analysed).then(|| Lists::of(&manifest));
        Ok(((merged.wasm.len(), lists), Work { text_bytes, made_bytes: (merged.wasm.len() + bytes.len()) as u64 }))
    })?;
    let used: Vec<Entry> = lifted_entries(&placed, b.tier.structured()).into_iter().chain(native.entries).collect();
    b.remote.publish(&b.cache, &used, b.signer.as_ref());
    Ok(Summary {
        objects: placed.len(),
        scripts: found.scripts.len(),
        omitted: found.omitted.len(),
        unlisted_scripts: unlisted(b, &found)?,
        programs: b.wasi.iter().count(),
        lifted,
        compiled: native.fresh,
        gaps: shards.iter().map(|s| s.certificate.gap_count()).sum(),
        gated: shards.iter().map(|s| s.certificate.gated_count()).sum(),
        lists,
        wasm_bytes,
        aot_bytes: native.code.iter().map(|(_, c)| c.bytes.len()).sum(),
        cost,
    })
}

/// What is lifted: nothing without an image.
fn find(b: &Build) -> anyhow::Result<Inventory> {
    match &b.rootfs {
        Some(rootfs) if !b.include.is_empty() => Ok(scan::scan(&Rootfs::open(rootfs)?, &b.include, b.scripts, b.wasi.replaced())?),
        _ => Ok(Inventory::default()),
    }
}

fn unlisted(b: &Build, found: &Inventory) -> anyhow::Result<Vec<String>> {
    match &b.rootfs {
        Some(rootfs) if b.release.policy.scripts == Scripts::Listed && b.scripts == scan::Scripts::Included => {
            Ok(scan::unlisted(&Rootfs::open(rootfs)?, found, &b.wasi.replaced())?)
        }
        _ => Ok(Vec::new()),
    }
}

/// The directory a file is to be written into, made if needed, without symlinks.
fn parent(path: &Path) -> anyhow::Result<PathBuf> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    output::directory(directory)?;
    std::fs::canonicalize(directory).with_context(|| format!("cannot use directory {}", directory.display()))
}

fn place(found: &Inventory) -> anyhow::Result<Vec<Placed<'_>>> {
    let mut placed: Vec<_> = found.objects.iter().map(|(&digest, object)| Placed { digest, object, base: 0 }).collect();
    placed.sort_by(|a, b| a.object.path.cmp(&b.object.path));
    let object = |p: &Placed<'_>| slots::Object { path: p.object.path.clone(), span: p.object.facts.span(), align: p.object.facts.align, non_pie: p.object.facts.non_pie };
    let bases = slots::allocate(&placed.iter().map(object).collect::<Vec<_>>())?;
    placed.iter_mut().zip(bases).for_each(|(p, base)| p.base = base);
    Ok(placed)
}

fn certified<'a>(placed: &[Placed<'a>], shards: &'a [Shard]) -> Vec<Certified<'a>> {
    placed.iter().zip(shards).map(|(p, s)| Certified { path: &p.object.path, digest: p.digest, certificate: &s.certificate }).collect()
}

/// The shards in order, and how many had to be lifted anew. The lifter is parallel inside.
fn lift(b: &Build, placed: &[Placed<'_>]) -> anyhow::Result<((Vec<Shard>, usize), Work)> {
    let forms = b.tier.structured();
    b.remote.fill(&b.cache, &lifted_entries(placed, forms))?;
    let bar = progress::bar("lift", placed.len());
    let (mut fresh, mut work) = (0, Work::default());
    let mut shards = Vec::new();
    for p in placed {
        bar.set_message(p.object.path.clone());
        let shard = match lifting::cached(&b.cache, &p.digest, p.base, forms) {
            Some(shard) => shard,
            None => {
                fresh += 1;
                let shard = lifting::lift(&b.cache, &p.digest, p.object, p.base, forms)?;
                work.text_bytes += p.object.facts.text_bytes();
                work.made_bytes += (shard.structured.len() + shard.resumable.len()) as u64;
                shard
            }
        };
        shards.push(shard);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(((shards, fresh), work))
}

fn merge(b: &Build, found: &Inventory, placed: &[Placed<'_>], shards: &[Shard]) -> anyhow::Result<Megabinary> {
    let inputs: Vec<ShardInput<'_>> = placed
        .iter()
        .zip(shards)
        .map(|(p, s)| ShardInput {
            path: &p.object.path,
            file: &p.object.bytes,
            source: p.digest,
            segments: p.object.facts.loads.iter().map(|l| ImageSegment { file_offset: l.offset, filesz: l.filesz }).collect(),
            base: p.base,
            entry: match p.object.facts.entry {
                0 => 0,
                entry => p.base + entry,
            },
            structured: &s.structured,
            resumable: &s.resumable,
        })
        .collect();
    let index = |digest: &Digest| placed.iter().position(|p| p.digest == *digest).expect("every object is placed");
    let rootfs = b.rootfs.as_deref().map(Rootfs::open).transpose()?;
    let mut programs = Vec::new();
    for p in placed.iter().filter(|p| p.object.program) {
        let start_shard = match (&p.object.facts.interpreter, &rootfs) {
            (Some(interpreter), Some(rootfs)) => index(&found.paths[&rootfs.resolve(interpreter)?.0]),
            _ => index(&p.digest),
        };
        let start = placed[start_shard].base + placed[start_shard].object.facts.entry;
        programs.push(Program { path: &p.object.path, source: p.digest, start_shard, start });
    }
    let tools = [("lift", lift::LIFTER_VERSION), ("recompiler-build", env!("CARGO_PKG_VERSION"))];
    let tools = tools.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>();
    let wasi: Vec<_> = b.wasi.iter().map(wasi::Program::input).collect();
    Ok(megabinary::merge(assemble::container_id(&b.release, found, &b.wasi), tools, &inputs, &programs, &wasi)?)
}

/// The cache's names of the shards of a build.
fn lifted_entries(placed: &[Placed<'_>], forms: lift::Structured) -> Vec<Entry> {
    placed.iter().map(|p| (lifting::KIND, lifting::key(&p.digest, p.base, forms))).collect()
}

pub fn form_name(form: Form) -> &'static str {
    match form {
        Form::Structured => "structured",
        Form::Resumable => "resumable",
        Form::Wasi => "wasi",
    }
}

/// The manifest and its file.
fn manifest(b: &Build, found: &Inventory, placed: &[Placed<'_>], shards: &[Shard], merged: &Megabinary, made: &[MadeCode], name: String) -> anyhow::Result<(Manifest, Vec<u8>)> {
    let mut programs = coverage::programs(found, &certified(placed, shards));
    let built: Vec<Built<'_>> = (0..placed.len())
        .map(|i| Built {
            digest: placed[i].digest,
            object: placed[i].object,
            base: placed[i].base,
            row: &merged.shards[i],
            image_offsets: &merged.image_offsets[i],
            coverage: coverage::of(&shards[i].certificate),
            syscalls: programs.remove(&placed[i].digest),
        })
        .collect();
    let copy = |(m, _): &MadeCode| Made { processor: m.processor.clone(), shard: m.shard, form: m.form, file: m.file.clone(), digest: m.digest, engine: m.engine.clone() };
    let made = made.iter().map(copy).collect();
    let manifest = assemble::manifest(&b.release, found, &b.wasi, &built, made, (name, Digest::blake3(&merged.wasm)));
    if !b.merge_only {
        policy::rules::check(&manifest).context("the manifest just made breaks a rule, please report this")?;
    }
    let mut value = serde_json::to_value(&manifest).expect("a manifest is plain JSON");
    if let Some(signer) = &b.signer {
        signer.sign_document(Kind::Manifest, &mut value)?;
    }
    Ok((manifest, canonical::to_bytes(&value)))
}

/// How it was made, and the bundles. What speaks of an earlier release goes.
fn attest(b: &Build, files: &mut Together, found: &Inventory, m: &Manifest, merged: &Megabinary, code: &[MadeCode]) -> anyhow::Result<()> {
    let mut old = attest::all(&b.manifest)?;
    if !b.merge_only {
        let named = code.iter().map(|(made, code)| (made.file.as_str(), code.bytes.as_slice())).chain([(m.megabinary.as_str(), merged.wasm.as_slice())]);
        let named: BTreeMap<&str, &[u8]> = named.collect();
        let made = attest::made(m, |name, _| named.get(name).map(|bytes| Digest::sha256(bytes)).with_context(|| format!("{name} was not made")))?;
        let provenance = provenance::of(b, found, m, &made);
        files.replace(&attest::provenance_path(&b.manifest), &provenance)?;
        let bundles = b.signer.as_ref().map(|signer| attest::first(&b.manifest, m, &made, provenance, signer)).transpose()?;
        for (path, bytes) in bundles.into_iter().flatten() {
            old.retain(|o| o.file_name() != path.file_name());
            files.replace(&path, &bytes)?;
        }
    }
    old.extend(proof::of_another_release(&b.manifest, m));
    old.into_iter().for_each(|path| files.remove(path));
    Ok(())
}

fn write(b: &Build, files: &mut Together, directory: &Path, merged: &Megabinary, made: &[MadeCode]) -> anyhow::Result<()> {
    b.processors.iter().try_for_each(|p| output::directory(&directory.join("aot").join(p.architecture.triple())))?;
    for (m, code) in made {
        let path = directory.join(&m.file);
        if std::fs::read(&path).is_ok_and(|old| old == code.bytes) {
            continue;
        }
        files.replace(&path, &code.bytes)?;
    }
    Ok(files.replace(&b.output, &merged.wasm)?)
}

/// Removes artifacts of earlier builds that the new manifest does not name.
fn forget_old(directory: &Path, made: &[MadeCode]) {
    let ours = |name: &str| {
        let mut parts = name.split('.');
        let digest = parts.next().is_some_and(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit()));
        digest && matches!(parts.next(), Some("structured" | "resumable" | "wasi")) && parts.count() == 1
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let named = made.iter().any(|(m, _)| directory.ends_with(m.processor.architecture.triple()) && m.file.ends_with(&name));
        if ours(&name) && !named {
            // An old file that stays does no harm: no manifest names it.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
