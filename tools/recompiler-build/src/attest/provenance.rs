//! How a release was made: a SLSA v1 provenance predicate.
//!
//! Owns what is said of a build. The fact a newcomer gets wrong: nothing here comes from the machine (no times, no directories, no host), so that two builds of one image have equal provenance; who built is what `--builder-id` says,
//! and as true as the signature over it.

use super::statement;
use crate::pipeline::Build;
use crate::processor::Processor;
use crate::scan::Inventory;
use anyhow::ensure;
use policy::{Digest, Manifest, canonical};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const PREDICATE: &str = "https://slsa.dev/provenance/v1";
const BUILD_TYPE: &str = "https://vkernel.io/build/v1";

/// What a build was given, as far as it shapes the result.
pub struct Source {
    /// The image's reference; `None` for a root directory.
    pub image: Option<String>,
    /// Digest of the image's manifest.
    pub digest: Option<Digest>,
    pub builder_id: String,
}

/// A reference without the directories of this machine.
fn portable(image: &str) -> String {
    match image.split_once(':') {
        Some((kind @ ("oci" | "oci-archive" | "docker-archive" | "dir"), path)) => format!("{kind}:{}", path.rsplit('/').next().unwrap_or_default()),
        _ => image.to_owned(),
    }
}

/// The unsigned statement of a build that made these files.
pub(crate) fn of(b: &Build, found: &Inventory, m: &Manifest, made: &super::Subjects) -> Vec<u8> {
    let parameters = json!({
        "source": b.source.image.as_deref().map_or("rootfs".into(), portable),
        "include": b.include, "scripts": word(&b.scripts), "tier": word(&b.tier),
        "name": m.name, "serial": m.serial, "version": m.version, "policy": b.release.policy,
    });
    let engines: BTreeSet<&str> = m.artifacts.iter().map(|a| a.engine.as_str()).collect();
    let predicate = json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "internalParameters": internal(b, &engines),
            "resolvedDependencies": dependencies(b, found),
        },
        "runDetails": { "builder": { "id": b.source.builder_id, "version": { "recompiler-build": env!("CARGO_PKG_VERSION"), "lift": lift::LIFTER_VERSION } } },
    });
    canonical::to_bytes(&statement(made, PREDICATE, predicate))
}

/// What the build chose by itself. Of several processors a list; of one, as it always was, the two words.
fn internal(b: &Build, engines: &BTreeSet<&str>) -> Value {
    let of = |p: &Processor| json!({ "target": p.architecture.triple(), "cpuFeatures": p.features() });
    let mut chosen = match b.processors.as_slice() {
        [one] => of(one),
        several => json!({ "processors": several.iter().map(of).collect::<Vec<_>>() }),
    };
    chosen["engines"] = json!(engines);
    chosen
}

fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// The image by its digest; of a root directory, which has none, every file that went in.
fn dependencies(b: &Build, found: &Inventory) -> Vec<Value> {
    if let (Some(image), Some(digest)) = (&b.source.image, &b.source.digest) {
        return vec![json!({ "uri": portable(image), "digest": super::digests([*digest]) })];
    }
    let objects = found.objects.iter().map(|(d, o)| (o.path.as_str(), [*d, Digest::sha256(&o.bytes)]));
    let files: BTreeMap<&str, [Digest; 2]> = objects.chain(found.scripts.iter().map(|(d, s)| (s.path.as_str(), [*d, s.sha256]))).collect();
    files.into_iter().map(|(path, both)| json!({ "name": path, "digest": super::digests(both) })).collect()
}

/// Whether a statement is a provenance of exactly these files.
pub(super) fn check(bytes: &[u8], made: &super::Subjects) -> anyhow::Result<()> {
    let value = canonical::parse_canonical(bytes)?;
    let wanted = statement(made, PREDICATE, value["predicate"].clone());
    ensure!(value == wanted, "is not the provenance of this release's files: build it again");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lose_the_directories_of_the_machine_only() {
        for (given, told) in [
            ("docker://registry.example/shop:1", "docker://registry.example/shop:1"),
            ("registry.example/shop:1", "registry.example/shop:1"),
            ("oci-archive:/home/x/shop.tar:1", "oci-archive:shop.tar:1"),
            ("oci:layout:debian", "oci:layout:debian"),
        ] {
            assert_eq!(portable(given), told);
        }
    }
}
