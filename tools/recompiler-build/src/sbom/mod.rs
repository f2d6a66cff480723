//! `sbom`: which packages an image's programs come from.
//!
//! Owns the command and the one model that both formats are written from. Refuses to own reading package databases (`packages`, `rpm`), and licences: dpkg has them only as prose. The fact a newcomer gets wrong: files are listed by the name they
//! have after all symbolic links (`/usr/bin/ls`), while package databases may say `/bin/ls`; `packages::owners` knows.

mod cyclonedx;
mod date;
mod installed;
pub mod packages;
pub mod rpm;
mod spdx;

use crate::cli::SbomArgs;
use crate::inventory::{self, File};
use crate::scan::rootfs::Rootfs;
use crate::{fetching, output};
use anyhow::Context;
use packages::Package;
use policy::{Digest, canonical};
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// CycloneDX 1.6.
    #[default]
    Cyclonedx,
    /// SPDX 2.3.
    Spdx,
}

/// What a document says.
struct Bom {
    name: String,
    version: String,
    /// `ID` and `VERSION_ID` of os-release.
    distribution: (String, String),
    /// In the order of their purls; only those that own a file below.
    packages: Vec<Package>,
    files: Vec<Listed>,
    /// SOURCE_DATE_EPOCH.
    seconds: Option<u64>,
}

struct Listed {
    file: File,
    sha1: String,
    /// Index into `packages`.
    owner: Option<usize>,
    /// Paths of the files it is linked with or interpreted by.
    needs: BTreeSet<String>,
}

pub fn run(args: &SbomArgs, print: impl Fn(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let rootfs = Rootfs::open(&fetching::rootfs(&args.source, args.cache.as_deref())?)?;
    let bom = gather(&rootfs, args)?;
    let document = match args.format {
        Format::Cyclonedx => cyclonedx::document(&bom),
        Format::Spdx => spdx::document(&bom),
    };
    let text = format!("{document:#}\n");
    match &args.output {
        Some(path) => Ok(output::replace(path, text.as_bytes())?),
        None => print(&text),
    }
}

fn gather(rootfs: &Rootfs, args: &SbomArgs) -> anyhow::Result<Bom> {
    let seconds =
        std::env::var("SOURCE_DATE_EPOCH").ok().map(|text| text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds"))).transpose()?;
    let found = inventory::survey(rootfs, &args.include)?.files;
    let all = installed::read(rootfs)?;
    let owners = installed::owners(rootfs, &all);
    let owner = |path: &str| owners.get(path).copied();
    let used: BTreeSet<usize> = found.iter().filter_map(|f| owner(&f.path)).collect();
    let place: BTreeMap<usize, usize> = used.iter().enumerate().map(|(new, old)| (*old, new)).collect();
    let mut files = Vec::new();
    for file in found {
        let bytes = rootfs.read(&file.path)?.bytes;
        let sha1 = policy::digest::hex(&Sha1::digest(&bytes));
        let needs = file.edges().into_iter().filter_map(|n| n.path.clone()).filter(|p| *p != file.path).collect();
        files.push(Listed { sha1, owner: owner(&file.path).map(|o| place[&o]), needs, file });
    }
    let names: BTreeSet<String> = files.iter().map(|f| f.file.path.clone()).collect();
    files.iter_mut().for_each(|f| f.needs.retain(|n| names.contains(n)));
    let packages = all.into_iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, p)| p).collect();
    Ok(Bom { name: args.name.clone(), version: args.release.clone(), distribution: installed::distribution(rootfs), packages, files, seconds })
}

impl Bom {
    fn purl(&self, package: &Package) -> String {
        package.purl(&self.distribution.0, &self.distribution.1)
    }
}

/// An RFC 9562 version 8 UUID of a document: equal contents have equal names.
fn uuid(document: &Value) -> String {
    let mut bytes = Digest::blake3(&canonical::to_bytes(document)).bytes;
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = policy::digest::hex(&bytes[..16]);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
