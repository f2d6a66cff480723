//! The commands that make a release: a build of an image, and a bundle of WASI programs.
//!
//! Owns how their arguments become a `Build`, and what is printed of its figures. The fact a newcomer gets wrong: a bundle is a build without an image; there is one pipeline.

use crate::assemble::{PolicyFile, Release};
use crate::attest::provenance::Source;
use crate::cache::Cache;
use crate::cli::{BuildArgs, BundleArgs, ReleaseArgs, WorkArgs};
use crate::commands::print;
use crate::pipeline::{self, Build, Summary};
use crate::processor::Processor;
use crate::remote_cache::Remote;
use crate::scan::rootfs::Rootfs;
use crate::signing::Signer;
use crate::wasi::Programs;
use crate::{compile, fetching, output, scan};
use anyhow::Context;
use std::num::NonZero;
use std::path::Path;
use std::time::Instant;

pub(crate) fn jobs(work: &WorkArgs) -> NonZero<usize> {
    work.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZero::<usize>::MIN)
}

/// A release of an image.
pub fn build(args: BuildArgs, merge_only: bool) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut wasi = Programs::default();
    args.add_tool.iter().try_for_each(|tool| wasi.add_tool(tool))?;
    let cache = Cache::open(args.work.cache.as_deref())?;
    let signer = Signer::open(&args.release.signer)?;
    let remote = Remote::open(&args.remote, &args.image.source, &cache, signer.is_some())?;
    let rootfs = fetching::rootfs(&args.image.source, args.work.cache.as_deref())?;
    if !args.polyfill.is_empty() {
        let image = Rootfs::open(&rootfs)?;
        args.polyfill.iter().try_for_each(|polyfill| wasi.add_polyfill(polyfill, &image))?;
    }
    let (tier, min_coverage) = (args.tier, args.min_coverage);
    let release = &args.release;
    let image = args.image.source.image;
    let built = pipeline::build(&Build {
        remote,
        source: Source { digest: image.as_ref().and_then(|_| fetching::image_digest(&rootfs)), image, builder_id: release.builder_id.clone() },
        rootfs: Some(rootfs),
        include: args.image.include,
        scripts: args.scripts,
        output: release.output.clone(),
        manifest: release.manifest.clone(),
        signer,
        release: described(release)?,
        wasi,
        cache,
        tier,
        processors: Processor::all(&release.processor.target, &release.processor.cpu)?,
        jobs: jobs(&args.work),
        min_coverage,
        merge_only,
    })?;
    tell(&built, release.json, start)
}

/// WASI programs alone.
pub fn bundle(args: BundleArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut wasi = Programs::default();
    args.programs.iter().try_for_each(|program| wasi.add_tool(program))?;
    let release = &args.release;
    let built = pipeline::build(&Build {
        remote: Remote::none(),
        rootfs: None,
        include: Vec::new(),
        scripts: scan::Scripts::default(),
        output: release.output.clone(),
        manifest: release.manifest.clone(),
        source: Source { digest: None, image: None, builder_id: release.builder_id.clone() },
        signer: Signer::open(&release.signer)?,
        release: described(release)?,
        wasi: wasi.clone(),
        cache: Cache::open(args.work.cache.as_deref())?,
        tier: compile::Tier::default(),
        processors: Processor::all(&release.processor.target, &release.processor.cpu)?,
        jobs: jobs(&args.work),
        min_coverage: None,
        merge_only: false,
    })?;
    if let Some(root) = &args.install {
        install(&wasi, root)?;
    }
    tell(&built, release.json, start)
}

/// Puts the files of a bundle where their rows say.
fn install(wasi: &Programs, root: &Path) -> anyhow::Result<()> {
    for (program, row) in wasi.rows() {
        let at = root.join(&row.path[1..]);
        output::directory(at.parent().unwrap_or(root))?;
        output::replace(&at, &program.module.file)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&at, executable).with_context(|| format!("cannot make {} executable", at.display()))?;
    }
    Ok(())
}

fn described(release: &ReleaseArgs) -> anyhow::Result<Release> {
    Ok(Release { name: release.name.clone(), serial: release.serial, version: release.release.clone(), policy: PolicyFile::read(release.policy.as_deref())? })
}

/// The figures of a build.
fn tell(summary: &Summary, json: bool, start: Instant) -> anyhow::Result<()> {
    if let Some(first) = summary.unlisted_scripts.first() {
        let count = summary.unlisted_scripts.len();
        eprintln!(
            "recompiler-build: note: the policy has listed scripts run only, and {count} of the image that its programs could run are not listed, {first} the first: name them with --include, or list all with --scripts all"
        );
    }
    if json {
        return print(&format!("{:#}\n", serde_json::to_value(summary).context("figures are plain JSON")?));
    }
    println!(
        "{} objects ({} lifted now), {} WASI programs, {} scripts, {} omitted, {} unlifted instructions and {} gated ones",
        summary.objects, summary.lifted, summary.programs, summary.scripts, summary.omitted, summary.gaps, summary.gated
    );
    println!(
        "{:.1} MB WASM, {:.1} MB native code ({} modules compiled now), {:.1} s",
        summary.wasm_bytes as f64 / 1e6,
        summary.aot_bytes as f64 / 1e6,
        summary.compiled,
        start.elapsed().as_secs_f64()
    );
    if let Some(lists) = &summary.lists {
        print(&lists.table())?;
    }
    print(&summary.cost.table())
}
