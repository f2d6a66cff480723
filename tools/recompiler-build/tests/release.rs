//! A release on the disk: whole or as it was, and `verify` that believes no part of it without reason.
//!
//! The fact a newcomer gets wrong: most changes here are signed again, because a change that its digest gives away never reaches the check that is asked about.

#[path = "../../../integration-tests/src/tiny.rs"]
pub mod tiny;

use megabinary::section;
use policy::Digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tiny::Image;

const BUILDER: &str = env!("CARGO_BIN_EXE_recompiler-build");
const VERIFY: [&str; 4] = ["verify", "out/manifest.json", "--key", "k.pub"];

fn all(image: &Image) -> BTreeMap<PathBuf, Vec<u8>> {
    tiny::files(&image.at("out")).into_iter().collect()
}

fn build<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--rootfs", "root", "--include", "/bin", "--tier", "fast", "--output", "out/container.wasm", "--manifest", "out/manifest.json"], more].concat()
}

/// Writes a changed manifest, and signs it; how it was made, nobody says.
fn signed_again(image: &Image, manifest: &Value) {
    fs::remove_file(image.at("out/manifest.provenance.json")).unwrap();
    fs::remove_file(image.at("out/manifest.provenance.sigstore.json")).unwrap();
    fs::write(image.at("out/manifest.json"), policy::canonical::to_bytes(manifest)).unwrap();
    image.ok(&["sign", "out/manifest.json", "--key", "k.pem"]);
}

/// A program that signs like the key `calls - 1` times and fails then.
fn tiring(image: &Image, calls: usize) -> String {
    let path = image.at(&format!("tires-{calls}"));
    let script =
        format!("#!/bin/sh\necho x >> {0}.calls\n[ $(wc -l < {0}.calls) -lt {calls} ] || exit 3\nexec openssl pkeyutl -sign -rawin -inkey k.pem -in /dev/stdin\n", path.display());
    // Written by another process: a descriptor open for writing here could be inherited by what other tests start, and the kernel executes no such file.
    assert!(Command::new("sh").args(["-ec", "printf '%s' \"$1\" > \"$2\"", "-", &script]).arg(&path).status().unwrap().success());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_build_that_fails_at_its_end_leaves_the_release_that_was_there() {
    let image = Image::made(BUILDER);
    image.ok(&build(&["--key", "k.pem"]));
    let before = all(&image);
    fs::write(image.at("root/bin/another"), "#!/bin/moving -y\n").unwrap();
    // The manifest, what the release is, how it was made: three signatures.
    for calls in 1..=3 {
        let signer = tiring(&image, calls);
        let text = image.refused(&build(&["--serial", "2", "--signer", &signer, "--signer-public", "k.pub"]));
        assert!(text.contains("failed (exit status: 3)"), "{calls}: {text}");
        assert_eq!(all(&image), before, "{calls}");
        fs::remove_file(image.at(&format!("tires-{calls}.calls"))).unwrap();
        let text = image.refused(&["sign", "out/manifest.json", "--key-id", "second", "--signer", &signer, "--signer-public", "k.pub"]);
        assert!(text.contains("failed (exit status: 3)"), "{calls}: {text}");
        assert_eq!(all(&image), before, "{calls}");
    }
    assert!(image.refused(&build(&["--serial", "2", "--cache-to", "docker://localhost:1/x"])).contains("--cache-to needs --key or --signer"));
    assert_eq!(all(&image), before);
    image.ok(&VERIFY);
    // A cache that takes nothing costs others time; the release is made.
    let out = image.run(&build(&["--serial", "2", "--key", "k.pem", "--cache-to", "docker://localhost:1/x"]));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("warning: build cache docker://localhost:1/x was given nothing"), "{text}");
    assert!(image.ok(&VERIFY).contains("(serial 2)"));
}

#[test]
fn builds_at_the_same_time_make_the_same_and_one_whole_release() {
    let image = Image::made(BUILDER);
    let start = |out: &str| {
        let (wasm, manifest) = (format!("{out}/container.wasm"), format!("{out}/manifest.json"));
        let mut c = Command::new(BUILDER);
        c.args(["--rootfs", "root", "--include", "/bin", "--tier", "fast", "--key", "k.pem", "--output", &wasm, "--manifest", &manifest]);
        c.current_dir(image.dir.path()).env("XDG_CACHE_HOME", image.at("cache")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Four with one cache, two of them into one place.
    let builds = ["one", "two", "out", "out"].map(start);
    for child in builds {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert!(image.ok(&VERIFY).contains("2 Sigstore bundles say the same"));
    let relative = |of: &str| tiny::files(&image.at(of)).into_iter().map(|(p, bytes)| (p.strip_prefix(image.at(of)).unwrap().to_owned(), bytes)).collect::<Vec<_>>();
    assert_eq!(relative("one"), relative("two"));
    assert_eq!(relative("one"), relative("out"));
}

#[test]
fn a_dispatch_that_starts_another_program_is_refused_whoever_signed_it() {
    let image = Image::made(BUILDER);
    image.ok(&build(&["--key", "k.pem"]));
    let good = all(&image);
    // The module's map speaks of its programs the other way round, its code does not.
    let wasm = fs::read(image.at("out/container.wasm")).unwrap();
    let sections = section::read(&wasm).unwrap();
    let digests: Vec<String> = sections.map.0.keys().map(Digest::to_string).collect();
    assert_eq!(digests.len(), 2);
    let map = serde_json::to_vec(&sections.map).unwrap();
    let at = wasm.windows(map.len()).position(|w| w == map).expect("the section is canonical");
    let (one, two) = (sections.map.0.values().next().unwrap(), sections.map.0.values().nth(1).unwrap());
    let swapped = serde_json::to_vec(&serde_json::json!({ &digests[0]: two, &digests[1]: one })).unwrap();
    assert_eq!(swapped.len(), map.len(), "the rows' numbers are of equal length");
    let changed = [&wasm[..at], &policy::canonical::to_bytes(&serde_json::from_slice(&swapped).unwrap())[..], &wasm[at + map.len()..]].concat();
    fs::write(image.at("out/container.wasm"), &changed).unwrap();
    let mut manifest = image.manifest("out");
    manifest["megabinary_digest"] = Digest::blake3(&changed).to_string().into();
    signed_again(&image, &manifest);
    let text = image.refused(&VERIFY);
    assert!(text.contains("_dispatch"), "{text}");
    good.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    image.ok(&VERIFY);
    // Map and code agree, and start a program elsewhere than its file says.
    let mut manifest = image.manifest("out");
    let moving = manifest["binaries"].as_object_mut().unwrap().values_mut().find(|b| b["path"] == "/bin/moving").unwrap();
    moving["elf"]["entry"] = (moving["elf"]["entry"].as_u64().unwrap() + 1).into();
    signed_again(&image, &manifest);
    let text = image.refused(&VERIFY);
    assert!(text.contains("_dispatch starts /bin/moving at "), "{text}");
}

#[test]
fn sboms_are_signed_with_the_release_and_a_changed_one_is_refused() {
    let image = Image::made(BUILDER);
    image.ok(&build(&["--key", "k.pem"]));
    for format in ["spdx", "cyclonedx"] {
        let name = if format == "spdx" { "out/sbom.spdx.json" } else { "out/manifest.cdx.json" };
        image.ok(&["sbom", "--rootfs", "root", "--include", "/bin", "--format", format, "--output", name]);
    }
    let text = image.ok(&VERIFY);
    assert!(text.contains("not signed") && text.contains("sbom.spdx.json") && text.contains("cdx.json"), "{text}");
    image.ok(&["sign", "out/manifest.json", "--key", "k.pem"]);
    let text = image.ok(&VERIFY);
    assert!(text.contains("4 Sigstore bundles say the same") && !text.contains("not signed"), "{text}");
    let bundle: Value = serde_json::from_slice(&fs::read(image.at("out/manifest.sbom.spdx.sigstore.json")).unwrap()).unwrap();
    let payload = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    let document: Value = serde_json::from_slice(&fs::read(image.at("out/sbom.spdx.json")).unwrap()).unwrap();
    assert_eq!((&statement["predicateType"], &statement["predicate"]), (&"https://spdx.dev/Document".into(), &document));
    for name in ["out/sbom.spdx.json", "out/manifest.cdx.json"] {
        let good = fs::read(image.at(name)).unwrap();
        fs::write(image.at(name), String::from_utf8(good.clone()).unwrap().replacen("moving", "mooing", 1)).unwrap();
        assert!(image.refused(&VERIFY).contains("speaks of another release, build or SBOM"));
        fs::write(image.at(name), good).unwrap();
    }
    image.ok(&VERIFY);
    // What was said of it goes with the release; the documents stay, and nobody vouches for them.
    image.ok(&build(&["--key", "k.pem", "--serial", "2"]));
    let text = image.ok(&VERIFY);
    assert!(text.contains("2 Sigstore bundles say the same") && text.contains("not signed"), "{text}");
}
