//! `report`: what an image or a finished release holds, for people who have to answer for it.
//!
//! Owns the command: which facts are gathered from where (an image, a release, a release that an image carries), and in which forms they are printed. Refuses to own the figures (`coverage`) and to judge signatures (`verifying`): a report on a release says whose signatures it carries,
//! not whether they are good. The fact a newcomer gets wrong: the page has no date and no name of this machine, so that the same release always gives the same page, which can be signed or compared.

mod diff;
mod facts;
mod image;
mod linked;
mod page;
mod release;
mod timings;

use crate::cache::Cache;
use crate::cli::ReportArgs;
use crate::coverage::{self, Certified};
use crate::scan::rootfs::Rootfs;
use crate::{fetching, lifting, output, progress, scan};
use anyhow::ensure;
use facts::Facts;
use std::io::IsTerminal;
use std::path::Path;

/// Runs the command; the text is for standard output.
pub fn run(args: &ReportArgs, print: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if let Some(manifest) = &args.release {
        return write(args, &release::facts(manifest)?, &print);
    }
    if let (true, Some(image)) = (args.include.is_empty(), &args.source.image) {
        ensure!(
            args.html.is_some() && !args.json && !args.gaps && args.min_coverage.is_none(),
            "name what of {image} is to be looked at with --include, or its release's page with --html alone"
        );
        return write(args, &release::facts(&fetching::release(image, &args.source, args.cache.as_deref())?)?, &print);
    }
    let cache = Cache::open(args.cache.as_deref())?;
    let rootfs = Rootfs::open(&fetching::rootfs(&args.source, args.cache.as_deref())?)?;
    let found = scan::scan(&rootfs, &args.include, scan::Scripts::Included, Default::default())?;
    let bar = progress::bar("certify", found.objects.len());
    let mut certificates = Vec::new();
    for (digest, object) in &found.objects {
        bar.set_message(object.path.clone());
        certificates.push((object.path.as_str(), *digest, lifting::certificate(&cache, digest, object)?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    certificates.sort_by_key(|(path, ..)| *path);
    let certified: Vec<_> = certificates.iter().map(|(path, digest, certificate)| Certified { path, digest: *digest, certificate }).collect();
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    match (args.json, args.gaps, &args.html) {
        (true, ..) => print(&format!("{:#}\n", coverage::json(&found, &certified)))?,
        (_, true, _) => print(&(coverage::table(&found, &certified, color) + &coverage::gaps(&certified)))?,
        (_, _, None) => print(&coverage::table(&found, &certified, color))?,
        (_, _, Some(_)) => {}
    }
    let name = args.source.image.as_deref().unwrap_or("root directory");
    write(args, &image::facts(name, &rootfs, &found, &certified), &print)?;
    Ok(args.min_coverage.map_or(Ok(()), |wanted| coverage::require(wanted, &certified))?)
}

/// The page, if one is wanted.
fn write(args: &ReportArgs, facts: &Facts, print: &impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Some(path) = &args.html else { return Ok(()) };
    let changes = args.previous.as_deref().map(|previous| previous_facts(previous, args).map(|old| diff::compare(old, facts))).transpose()?;
    let timings = args.cost.as_deref().map(timings::read).transpose()?;
    output::replace(path, page::render(facts, changes.as_ref(), timings.as_ref()).as_bytes())?;
    if args.json { Ok(()) } else { print(&format!("{}: {} files, {} left out\n", path.display(), facts.files.len(), facts.omitted.len())) }
}

fn previous_facts(named: &Path, args: &ReportArgs) -> anyhow::Result<Facts> {
    let image = named.to_str().filter(|name| fetching::is_image(name));
    let fetched = image.map(|image| fetching::release(image, &args.source, args.cache.as_deref())).transpose()?;
    release::from_manifest(&release::read(fetched.as_deref().unwrap_or(named))?)
}
