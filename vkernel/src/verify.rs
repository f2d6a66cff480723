//! `vkernel verify`: signature, digests of every file of a release, engine and CPU. Owns what "fits this host" means; digests and signature are
//! `policy`'s. The fact a newcomer gets wrong: it reads the files themselves, never the store, so it says what is on disk now.

use crate::failure::Failure;
use crate::store::Item;
use policy::manifest::{Artifact, Form};
use policy::{Digest, Verified};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

/// What artifacts must have been made for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Engine and version this program was built with; the compiler's version follows after a space.
pub const ENGINE: &str = "wasmer 7.4.2";

/// The artifacts of this host's target.
pub fn artifacts(verified: &Verified) -> impl Iterator<Item = &Artifact> {
    verified.manifest().artifacts.iter().filter(|a| a.target == TARGET)
}

/// Everything the manifest vouches for that is a file next to it: the megabinary first, then this target's artifacts.
pub fn items(verified: &Verified, manifest: &Path) -> Vec<Item> {
    let dir = manifest.parent().unwrap_or(Path::new(""));
    let m = verified.manifest();
    let megabinary = Item { source: dir.join(&m.megabinary), digest: m.megabinary_digest, mapped: true };
    std::iter::once(megabinary).chain(artifacts(verified).map(|a| Item { source: dir.join(&a.file), digest: a.digest, mapped: a.form == Form::Wasi })).collect()
}

/// Why this host cannot run the release: one line each.
pub fn misfits(verified: &Verified) -> Vec<Failure> {
    let mut found = Vec::new();
    for a in artifacts(verified) {
        if a.engine.strip_prefix(ENGINE).is_none_or(|rest| !rest.is_empty() && !rest.starts_with(' ')) {
            found.push(Failure::new(format!("artifact {}", a.file), format!("made for {}, this is {ENGINE}", a.engine), "rebuild with this release's recompiler-build"));
        }
        for feature in a.cpu_features.iter().filter(|f| !has_cpu_feature(f)) {
            found.push(Failure::new(format!("artifact {}", a.file), format!("needs the CPU feature {feature}"), "run it on a CPU that has it, or rebuild without"));
        }
    }
    let m = verified.manifest();
    let targets: BTreeSet<&str> = m.artifacts.iter().map(|a| a.target.as_str()).collect();
    if !targets.is_empty() && !targets.contains(TARGET) {
        // One line, not two per program.
        let others = targets.into_iter().collect::<Vec<_>>().join(" and ");
        found.push(Failure::new("native code", format!("it is for {others}, this is {TARGET}"), format!("run it on such a host, or rebuild with --target {TARGET}")));
        return found;
    }
    let there: BTreeSet<(Digest, Form)> = artifacts(verified).map(|a| (a.shard, a.form)).collect();
    const LIFTED: &[Form] = &[Form::Structured, Form::Resumable];
    let forms = |elf: bool| if elf { LIFTED } else { &[Form::Wasi] };
    let programs = m.binaries.values().filter_map(|b| Some((&b.path, b.shard?, forms(b.elf.is_some()))));
    for (path, shard, forms) in programs.chain(m.libraries.values().map(|l| (&l.path, l.shard, LIFTED))) {
        for &form in forms {
            if !there.contains(&(shard, form)) {
                found.push(Failure::new(format!("{path} ({form:?} code)"), format!("no artifact for {TARGET}"), "rebuild for this target"));
            }
        }
    }
    found.sort_by(|a, b| a.what.cmp(&b.what).then_with(|| a.why.cmp(&b.why)));
    found.dedup();
    found
}

/// Every failure of `vkernel verify`; empty: the release is what was signed, and runs here.
pub fn failures(verified: &Verified, manifest: &Path) -> Vec<Failure> {
    let mut found = Vec::new();
    for item in items(verified, manifest) {
        let what = item.source.display().to_string();
        match File::open(&item.source).and_then(|mut f| Digest::of_reader(item.digest.algorithm, &mut f)) {
            Err(e) => found.push(Failure::new(what, e, "keep the files of a build together with their manifest")),
            Ok(digest) if digest != item.digest => {
                found.push(Failure::new(what, format!("its digest is {digest}, the manifest says {}", item.digest), "rebuild, or fetch the release again"));
            }
            Ok(_) => {}
        }
    }
    // A start looks at what it acts upon only.
    found.extend(policy::rules::check(verified.manifest()).err().map(|e| Failure::new("manifest", e, "sign a release that keeps the rules")));
    found.extend(misfits(verified));
    found
}

/// Features in wasmer's spelling. Unknown names count as missing.
pub fn has_cpu_feature(name: &str) -> bool {
    use std::arch::is_x86_feature_detected as has;
    match name {
        "sse2" => has!("sse2"),
        "sse3" => has!("sse3"),
        "ssse3" => has!("ssse3"),
        "sse4.1" | "sse41" => has!("sse4.1"),
        "sse4.2" | "sse42" => has!("sse4.2"),
        "popcnt" => has!("popcnt"),
        "avx" => has!("avx"),
        "avx2" => has!("avx2"),
        "fma" => has!("fma"),
        "bmi" | "bmi1" => has!("bmi1"),
        "bmi2" => has!("bmi2"),
        "lzcnt" => has!("lzcnt"),
        "avx512f" => has!("avx512f"),
        "avx512dq" => has!("avx512dq"),
        "avx512vl" => has!("avx512vl"),
        "cx16" | "cmpxchg16b" => has!("cmpxchg16b"),
        _ => false,
    }
}
