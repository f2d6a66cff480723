//! `verify`: does this release hang together?
//!
//! Owns the build side's check: signature, digests of all files, and that megabinary and manifest tell the same story about every hash. Whether the host can run it is `vkernel verify`'s question. The fact a newcomer gets
//! wrong: `_dispatch` is checked twice: its code is what `vkernel.map` makes, and, run for every digest, it starts what the *manifest* says.

use crate::attest::Beside;
use crate::{attest, routing};
use anyhow::{Context, ensure};
use megabinary::section;
use policy::{Digest, Revocations, TrustedKeys, Verified, canonical};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Reads a manifest file, bounded.
pub fn read_manifest(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = || format!("cannot read manifest {}", path.display());
    canonical::bytes(File::open(path).with_context(name)?).with_context(name)
}

pub(crate) const KEYS_DIRECTORY: &str = "/etc/vkernel/keys";

/// The named public keys; without names the host's.
pub fn trusted(named: &[PathBuf]) -> anyhow::Result<TrustedKeys> {
    let mut keys = TrustedKeys::default();
    named.iter().try_for_each(|path| keys.add_file(path))?;
    if named.is_empty() && Path::new(KEYS_DIRECTORY).is_dir() {
        keys.add_directory(Path::new(KEYS_DIRECTORY))?;
    }
    Ok(keys)
}

/// Where a host's own list lies.
const REVOKED: &str = "/etc/vkernel/revoked.json";

/// The named list of what is revoked; without a name the host's, if it has one.
pub fn revocations(named: Option<&Path>) -> anyhow::Result<Revocations> {
    let Some(path) = named.or(Some(Path::new(REVOKED)).filter(|p| p.exists())) else { return Ok(Revocations::default()) };
    Revocations::parse(&read_manifest(path)?).with_context(|| path.display().to_string())
}

/// Checks a release; the result lists who signed and what it holds, and what lies beside it.
pub fn verify(path: &Path, keys: &TrustedKeys, threshold: usize, revoked: &Revocations) -> anyhow::Result<(Verified, Beside)> {
    ensure!(!keys.is_empty(), "no trusted key: name one with --key FILE.pub, or put it into /etc/vkernel/keys");
    let bytes = read_manifest(path)?;
    let verified = policy::verify(&bytes, keys, threshold, revoked, env!("CARGO_PKG_VERSION"));
    let verified = verified.with_context(|| path.display().to_string())?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let m = verified.manifest();
    for a in &m.artifacts {
        check_digest(&directory.join(&a.file), &a.digest)?;
    }
    let megabinary = directory.join(&m.megabinary);
    check_digest(&megabinary, &m.megabinary_digest)?;
    let wasm = std::fs::read(&megabinary).with_context(|| format!("cannot read {}", megabinary.display()))?;
    same_story(&verified, &wasm).with_context(|| megabinary.display().to_string())?;
    let beside = attest::verify(path, m, keys)?;
    Ok((verified, beside))
}

/// Compares a file with its listed digest.
pub fn check_digest(path: &Path, listed: &Digest) -> anyhow::Result<()> {
    let open = File::open(path).and_then(|mut f| Digest::of_reader(listed.algorithm, &mut f));
    let found = open.with_context(|| format!("cannot read {}: keep the files of a build together", path.display()))?;
    ensure!(found == *listed, "{}: its digest is {found}, the manifest says {listed}: rebuild, or fetch the release again", path.display());
    Ok(())
}

/// The module's sections and code against the manifest's rows.
fn same_story(verified: &Verified, wasm: &[u8]) -> anyhow::Result<()> {
    let m = verified.manifest();
    let sections = section::read(wasm)?;
    ensure!(sections.meta.container_id == m.container_id, "made for container {}, not {}", sections.meta.container_id, m.container_id);
    megabinary::check_dispatch(wasm, &sections.map)?;
    let binaries = m.binaries.iter().filter_map(|(d, b)| Some((d, b.shard?, b.elf.as_ref()?)));
    let libraries = m.libraries.iter().map(|(d, l)| (d, l.shard, &l.elf));
    for (digest, shard, elf) in binaries.chain(libraries) {
        let row = sections.shards.iter().find(|r| r.source == *digest);
        let row = row.with_context(|| format!("holds no shard of {digest}"))?;
        ensure!(row.shard == shard && row.base == elf.base, "its shard of {digest} is not the manifest's");
        for s in &elf.segments {
            ensure!(s.image_offset + s.filesz <= wasm.len() as u64, "a segment of {digest} lies past its end");
        }
    }
    for (digest, binary) in m.binaries.iter().filter(|(_, b)| b.elf.is_none()) {
        let Some(shard) = binary.shard else { continue };
        let found = sections.programs.iter().any(|row| row.shard == shard && row.sources.contains(digest));
        ensure!(found, "holds no program for {} ({digest})", binary.path);
    }
    for (digest, binary) in m.binaries.iter().filter(|(_, b)| b.shard.is_some()) {
        ensure!(sections.map.0.contains_key(digest), "_dispatch does not know {} ({digest})", binary.path);
    }
    routing::check(m, &sections, wasm)?;
    let unknown = sections.map.0.keys().find(|d| !m.binaries.contains_key(d));
    ensure!(unknown.is_none(), "_dispatch knows {unknown:?}, the manifest does not");
    Ok(())
}
