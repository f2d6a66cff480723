//! `prove`: commands that do natively and under vkernel the same, written down so that anybody can ask again.
//!
//! Owns making the record; what it is, and replaying it, is the crate `proof`, which `vkernel` has, too. Refuses to own how the native side starts (`sides`). The fact a newcomer gets wrong: a proof is not that the release is
//! right, only that these commands came out alike; so commands whose own native runs differ are refused, they prove nothing.

mod sides;

use crate::cli::ProveArgs;
use crate::signing::Signer;
use crate::verifying::{self, read_manifest};
use crate::{fetching, output};
use anyhow::{Context, bail, ensure};
use policy::signature::Kind;
use policy::{Manifest, canonical};
use proof::{Proof, Row};
use serde::Deserialize;
use sides::Sides;
use std::collections::BTreeMap;
use std::path::Path;

/// `--tests DIR`: one file per command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    command: Vec<String>,
    /// Name of a file beside it.
    #[serde(default)]
    stdin: Option<String>,
}

/// Makes a proof, or replays it; a line for standard output.
pub fn run(args: &ProveArgs) -> anyhow::Result<String> {
    let keys = verifying::trusted(&args.trust)?;
    let revoked = verifying::revocations(None)?;
    let (verified, _) = verifying::verify(&args.manifest, &keys, 1, &revoked)?;
    let rootfs = fetching::rootfs(&args.source, args.cache.as_deref())?;
    let sides = Sides::new(&args.manifest, &rootfs, &args.trust)?;
    match &args.tests {
        None => {
            let again = proof::replay(&args.manifest, verified.manifest(), &keys, &revoked, &sides.guest)?;
            Ok(format!("{} commands come out as {} proved\n", again.commands, again.signers.into_iter().collect::<Vec<_>>().join(", ")))
        }
        Some(tests) => {
            let signer = Signer::open(&args.signer)?.context("who signs the proof? name a key with --key FILE, or a program with --signer COMMAND --signer-public FILE")?;
            make(&args.manifest, verified.manifest(), tests, &signer, &sides)
        }
    }
}

fn make(manifest: &Path, m: &Manifest, tests: &Path, signer: &Signer, sides: &Sides) -> anyhow::Result<String> {
    let tests = read_tests(tests)?;
    let (mut rows, mut contents, mut different) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for (name, (command, stdin)) in tests {
        let native = sides.native(&command, &stdin).with_context(|| name.clone())?;
        ensure!(native == sides.native(&command, &stdin)?, "{name}: two native runs differ, so it can prove nothing: leave it out, or make it say the same each time");
        let guest = sides.guest.run(&command, &stdin).with_context(|| name.clone())?;
        if guest != native {
            different.push(format!("{name} ({})", guest.difference(&native)));
        }
        let row = Row::new(command, &stdin, &native);
        contents.extend([(row.stdin, stdin), (row.stdout, native.stdout), (row.stderr, native.stderr)]);
        rows.insert(name, row);
    }
    ensure!(different.is_empty(), "not the same natively and under vkernel: {}; no proof was written", different.join(", "));
    let count = rows.len();
    let mut value = serde_json::to_value(Proof { manifest: proof::release(m), tests: rows, signatures: None }).context("a proof is plain JSON")?;
    signer.sign_document(Kind::Proof, &mut value)?;
    output::directory(&proof::blobs(manifest))?;
    contents.iter().try_for_each(|(digest, bytes)| output::replace(&proof::blobs(manifest).join(digest.hex()), bytes))?;
    output::replace(&proof::path(manifest), &canonical::to_bytes(&value))?;
    Ok(format!("{count} commands come out alike: {}\n", proof::path(manifest).display()))
}

/// Name → command and standard input, of every `*.json` of a directory.
fn read_tests(directory: &Path) -> anyhow::Result<BTreeMap<String, (Vec<String>, Vec<u8>)>> {
    let list = || format!("cannot list {}", directory.display());
    let mut tests = BTreeMap::new();
    for entry in std::fs::read_dir(directory).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let name = || format!("test {}", path.display());
        let test: Test = serde_json::from_value(canonical::parse(&read_manifest(&path)?).with_context(name)?).with_context(name)?;
        ensure!(test.command.first().is_some_and(|c| c.starts_with('/')), "{}: command must begin with the absolute path of a program", name());
        let stdin = match test.stdin {
            None => Vec::new(),
            Some(file) if file.contains('/') => bail!("{}: stdin must be the name of a file beside it", name()),
            Some(file) => std::fs::read(directory.join(&file)).with_context(|| format!("{}: cannot read {file}", name()))?,
        };
        tests.insert(path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), (test.command, stdin));
    }
    ensure!(!tests.is_empty(), "{}: holds no NAME.json with a command", directory.display());
    Ok(tests)
}
