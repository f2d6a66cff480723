//! What a build says of itself to other tools: Sigstore bundles, provenance, SBOMs; and keys that are not files, keys that are replaced.
//!
//! The fact a newcomer gets wrong: our own `verify` proves nothing about formats of others. openssl checks each signature here; `cargo xtask suite signatures` lets securesystemslib, @sigstore/verify, spdx-tools and cyclonedx-python-lib look,
//! too.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use integration_tests::tiny::Image;
use integration_tests::{Setup, show};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn decoded(value: &Value, pointer: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value, pointer)).unwrap()
}

/// Whether openssl finds the one signature of a bundle good; the statement in it.
fn openssl(image: &Image, bundle: &str, key: &str) -> (bool, Value) {
    let value = json(&image.at(bundle));
    let payload = decoded(&value, "/dsseEnvelope/payload");
    let kind = text(&value, "/dsseEnvelope/payloadType");
    let message = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), &payload].concat();
    fs::write(image.at("message"), message).unwrap();
    fs::write(image.at("signature"), decoded(&value, "/dsseEnvelope/signatures/0/sig")).unwrap();
    let args = ["pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", "message", "-sigfile", "signature"];
    let out = Command::new("openssl").args(args).current_dir(image.dir.path()).output().expect("openssl is installed");
    (out.status.success(), serde_json::from_slice(&payload).unwrap())
}

fn sha256sum(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(out.stdout).unwrap()[..64].to_owned()
}

#[test]
fn a_bundle_names_every_file_by_its_sha256_and_openssl_finds_it_signed() {
    let image = Image::made();
    image.build("out", &["--name", "shop/frontend"]);
    let (good, statement) = openssl(&image, "out/manifest.sigstore.json", "k.pub");
    assert!(good);
    image.ok(&["keygen", "other.pem"]);
    assert!(!openssl(&image, "out/manifest.sigstore.json", "other.pub").0);
    assert_eq!((text(&statement, "/_type"), text(&statement, "/predicate/name")), ("https://in-toto.io/Statement/v1", "shop/frontend"));
    let subjects = statement["subject"].as_array().unwrap();
    let mut named = BTreeSet::new();
    for s in subjects {
        let name = text(s, "/name");
        let path = if name.starts_with('/') { image.at("root").join(&name[1..]) } else { image.at("out").join(name) };
        assert_eq!(text(s, "/digest/sha256"), sha256sum(&path), "{name}");
        named.insert(name.to_owned());
    }
    let native = fs::read_dir(image.at("out/aot/x86_64-unknown-linux-gnu")).unwrap().map(|e| format!("aot/x86_64-unknown-linux-gnu/{}", e.unwrap().file_name().to_string_lossy()));
    let expected: BTreeSet<String> = native.chain(["container.wasm", "/bin/fixed", "/bin/moving", "/bin/script"].map(str::to_owned)).collect();
    assert_eq!(named, expected);
}

#[test]
fn provenance_says_how_and_from_what_and_nothing_of_this_machine() {
    let image = Image::made();
    image.build("out", &["--builder-id", "https://ci.example/builder"]);
    let (good, statement) = openssl(&image, "out/manifest.provenance.sigstore.json", "k.pub");
    assert!(good && statement == json(&image.at("out/manifest.provenance.json")));
    assert_eq!(text(&statement, "/predicateType"), "https://slsa.dev/provenance/v1");
    assert_eq!(text(&statement, "/predicate/runDetails/builder/id"), "https://ci.example/builder");
    assert_eq!(text(&statement, "/predicate/buildDefinition/externalParameters/tier"), "full");
    let inputs = statement.pointer("/predicate/buildDefinition/resolvedDependencies").unwrap().as_array().unwrap();
    assert_eq!(inputs.iter().map(|d| text(d, "/name")).collect::<Vec<_>>(), ["/bin/fixed", "/bin/moving", "/bin/script"]);
    assert_eq!(text(&inputs[1], "/digest/sha256"), sha256sum(&image.at("root/bin/moving")));
    let outputs: BTreeSet<&str> = statement["subject"].as_array().unwrap().iter().map(|s| text(s, "/name")).collect();
    assert!(outputs.contains("container.wasm") && outputs.len() == 5, "{outputs:?}");
    let whole = statement.to_string();
    assert!(!whole.contains(&*image.dir.path().to_string_lossy()) && !whole.contains("k.pem"), "{whole}");
}

#[test]
fn provenance_of_an_image_names_it_by_the_digest_of_its_manifest() {
    let image = Image::made();
    let script = r#"umoci init --layout layout && umoci new --image layout:tiny && umoci unpack --rootless --image layout:tiny bundle && cp -a root/. bundle/rootfs && umoci repack --image layout:tiny bundle"#;
    let made = Command::new("sh").args(["-ec", script]).current_dir(image.dir.path()).output().expect("sh starts");
    assert!(made.status.success(), "{}", show(&made));
    image.ok(&["--image", "oci:layout:tiny", "--include", "/bin", "--key", "k.pem", "--output", "out/container.wasm", "--manifest", "out/manifest.json", "--tier", "fast"]);
    let index = json(&image.at("layout/index.json"));
    let statement = json(&image.at("out/manifest.provenance.json"));
    let dependency = statement.pointer("/predicate/buildDefinition/resolvedDependencies/0").unwrap();
    assert_eq!(format!("sha256:{}", text(dependency, "/digest/sha256")), text(&index, "/manifests/0/digest"));
    assert_eq!(text(dependency, "/uri"), "oci:layout:tiny");
}

#[test]
fn verify_refuses_a_bundle_that_speaks_of_another_release() {
    let image = Image::made();
    image.build("one", &["--tier", "fast"]);
    image.build("two", &["--tier", "fast", "--serial", "2"]);
    let verify = ["verify", "two/manifest.json", "--key", "k.pub"];
    assert!(image.ok(&verify).contains("2 Sigstore bundles say the same"));
    let good = fs::read(image.at("two/manifest.sigstore.json")).unwrap();
    fs::copy(image.at("one/manifest.sigstore.json"), image.at("two/manifest.sigstore.json")).unwrap();
    assert!(image.refused(&verify).contains("speaks of another release"));
    // The same words, signed by somebody who calls himself k.
    image.ok(&["keygen", "false.pem"]);
    image.ok(&["sign", "two/manifest.json", "--key", "false.pem", "--key-id", "k"]);
    assert!(image.refused(&["verify", "two/manifest.json", "--key", "k.pub"]).contains("k: no trusted key fits"));
    image.ok(&["sign", "two/manifest.json", "--key", "k.pem"]);
    assert_eq!(fs::read(image.at("two/manifest.sigstore.json")).unwrap(), good);
    image.ok(&verify);
    // A build without a key leaves no bundle of an earlier one.
    image.ok(&["--rootfs", "root", "--include", "/bin", "--tier", "fast", "--output", "two/container.wasm", "--manifest", "two/manifest.json"]);
    assert!(!image.at("two/manifest.sigstore.json").exists() && image.at("two/manifest.provenance.json").exists());
    image.ok(&["sign", "two/manifest.json", "--key", "k.pem"]);
    assert!(image.ok(&verify).contains("2 Sigstore bundles"));
    // Where only the manifest is, only that is signed.
    fs::create_dir(image.at("alone")).unwrap();
    fs::copy(image.at("two/manifest.json"), image.at("alone/manifest.json")).unwrap();
    image.ok(&["sign", "alone/manifest.json", "--key", "k.pem"]);
    assert_eq!(fs::read_dir(image.at("alone")).unwrap().count(), 1);
}

/// The steps of "How to rotate a key" in recompiler-build(1).
#[test]
fn a_key_is_rotated_as_the_manual_says() {
    let image = Image::made();
    image.build("out", &["--tier", "fast"]);
    let verify = |keys: &[&str], more: &[&str]| {
        let keys: Vec<&str> = keys.iter().flat_map(|k| ["--key", k]).collect();
        image.run(&[&["verify", "out/manifest.json"], &keys[..], more].concat())
    };
    let ok = |out: Output| assert!(out.status.success(), "{}", show(&out));
    let refused = |out: Output, why: &str| assert!(!out.status.success() && show(&out).contains(why), "{why}: {}", show(&out));
    // 1. The new key, 2. both signatures: hosts of both kinds believe the release, and who wants both gets both.
    image.ok(&["keygen", "new.key"]);
    image.ok(&["sign", "out/manifest.json", "--key", "new.key"]);
    assert!(
        image.at("out/manifest.sigstore.json").exists() && image.at("out/manifest.new.sigstore.json").exists() && image.at("out/manifest.provenance.new.sigstore.json").exists()
    );
    assert!(openssl(&image, "out/manifest.sigstore.json", "k.pub").0 && openssl(&image, "out/manifest.new.sigstore.json", "new.pub").0);
    ok(verify(&["k.pub"], &[]));
    ok(verify(&["new.pub"], &[]));
    ok(verify(&["k.pub", "new.pub"], &["--threshold", "2"]));
    refused(verify(&["k.pub"], &["--threshold", "2"]), "1 of 2 required");
    // 3. Hosts trust both, 4. the old one is revoked: by its id, whatever the signature calls itself.
    fs::write(image.at("revoked.json"), r#"{"keys": ["k"]}"#).unwrap();
    ok(verify(&["k.pub", "new.pub"], &["--revoked", "revoked.json"]));
    refused(verify(&["k.pub"], &["--revoked", "revoked.json"]), "k: key is revoked");
    refused(verify(&["k.pub", "new.pub"], &["--revoked", "revoked.json", "--threshold", "2"]), "1 of 2 required");
    // What only the old key signed is believed no more.
    image.build("old", &["--tier", "fast", "--key-id", "renamed"]);
    let old = |more: &[&str]| image.run(&[&["verify", "old/manifest.json", "--key", "k.pub", "--key", "new.pub"], more].concat());
    ok(old(&[]));
    refused(old(&["--revoked", "revoked.json"]), "renamed: key is revoked");
    refused(old(&["--revoked", "nowhere.json"]), "nowhere.json");
    fs::write(image.at("wrong.json"), r#"{"key": ["k"]}"#).unwrap();
    refused(old(&["--revoked", "wrong.json"]), "unknown field `key`");
    let manual = image.ok(&["man"]);
    for word in ["HOW TO ROTATE A KEY", "keygen new.key", "revoked.json"] {
        assert!(manual.replace('\\', "").contains(word), "the manual lacks {word}");
    }
}

/// A program that signs, and how it misbehaves.
fn signer(image: &Image, name: &str, script: &str) -> String {
    let path = image.at(name);
    // Written by another process: a descriptor open for writing here could be inherited by what other tests start, and the kernel executes no such file.
    let written = Command::new("sh").args(["-ec", "printf '%s' \"$1\" > \"$2\"", "-", script]).arg(&path).status().unwrap();
    assert!(written.success());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

const OPENSSL: &str = "#!/bin/sh\nexec openssl pkeyutl -sign -rawin -inkey \"$1\" -in /dev/stdin\n";

#[test]
fn a_program_signs_in_the_place_of_a_key_file() {
    let image = Image::made();
    image.build("with-key", &["--tier", "fast"]);
    let raw = signer(&image, "raw", OPENSSL);
    let text = signer(&image, "text", "#!/bin/sh\nopenssl pkeyutl -sign -rawin -inkey \"$1\" -in /dev/stdin | base64\n");
    for (name, program) in [("raw", raw), ("text", text)] {
        let out = format!("by-{name}");
        let (wasm, manifest) = (format!("{out}/container.wasm"), format!("{out}/manifest.json"));
        let command = format!("{program} k.pem");
        image.ok(&["--rootfs", "root", "--include", "/bin", "--tier", "fast", "--output", &wasm, "--manifest", &manifest, "--signer", &command, "--signer-public", "k.pub"]);
        // Ed25519 signatures are deterministic: the key and the program that has it give the same files.
        for file in ["manifest.json", "manifest.sigstore.json", "manifest.provenance.sigstore.json"] {
            assert_eq!(fs::read(image.at(&out).join(file)).unwrap(), fs::read(image.at("with-key").join(file)).unwrap(), "{file}");
        }
        image.ok(&["sign", &manifest, "--signer", &command, "--signer-public", "k.pub", "--key-id", "again"]);
        assert!(image.ok(&["verify", &manifest, "--key", "k.pub"]).contains("signed by k"));
    }
}

#[test]
fn a_program_that_signs_badly_is_an_error_that_says_how_and_changes_nothing() {
    let image = Image::made();
    image.build("out", &["--tier", "fast"]);
    image.ok(&["keygen", "other.pem"]);
    let before = fs::read(image.at("out/manifest.json")).unwrap();
    let good = signer(&image, "good", OPENSSL);
    let sign = |command: &str, more: &[&str]| image.run(&[&["sign", "out/manifest.json", "--signer", command, "--signer-public", "k.pub", "--key-id", "hsm"], more].concat());
    let cases = [
        ("fails", "#!/bin/sh\necho no card >&2\nexit 3\n", "failed (exit status: 3)"),
        ("silent", "#!/bin/sh\n", "printed 0 bytes"),
        ("chatty", "#!/bin/sh\necho 'PIN ok'\n", "printed 7 bytes that are neither"),
        ("endless", "#!/bin/sh\nexec cat /dev/zero\n", "printed more than 4096 bytes"),
        ("hangs", "#!/bin/sh\nexec sleep 50\n", "gave no signature within 1 s"),
        ("lingers", "#!/bin/sh\nexec >&-\nexec sleep 50\n", "did not end within 1 s"),
        ("zeros", "#!/bin/sh\nhead -c 64 /dev/zero\n", "is not the signature of k's key"),
        ("hashes", "#!/bin/sh\nsha256sum > h\nexec openssl pkeyutl -sign -rawin -inkey k.pem -in h\n", "is not the signature of k's key"),
    ];
    for (name, script, expect) in cases {
        let out = sign(&signer(&image, name, script), &["--signer-timeout", "1"]);
        let text = show(&out);
        assert!(!out.status.success() && text.contains(expect) && text.contains(name), "{name}: {text}");
        let own: Vec<&str> = text.lines().filter(|l| l.starts_with("recompiler-build: ")).collect();
        assert_eq!(own.len(), 1, "{text}");
        assert_eq!(fs::read(image.at("out/manifest.json")).unwrap(), before, "{name}");
    }
    // Another key's good signature, a missing program, words that a shell would take apart.
    assert!(show(&sign(&format!("{good} other.pem"), &[])).contains("is not the signature of k's key"));
    assert!(show(&sign("/nowhere/signer", &[])).contains("cannot be started"));
    assert!(show(&sign(&format!("{good} k.pem; touch owned"), &[])).contains("recompiler-build: signer"));
    assert!(!image.at("owned").exists());
    assert!(show(&image.run(&["sign", "out/manifest.json"])).contains("who signs?"));
    assert!(show(&sign(" ", &[])).contains("--signer names no program"));
    assert_eq!(fs::read(image.at("out/manifest.json")).unwrap(), before);
    assert!(sign(&format!("{good} k.pem"), &[]).status.success());
    assert_ne!(fs::read(image.at("out/manifest.json")).unwrap(), before);
}

/// The test image of Debian.
fn debian() -> PathBuf {
    Setup::get().rootfs
}

fn sbom(image: &Image, format: &str, include: &[&str]) -> Value {
    let rootfs = debian().display().to_string();
    let file = format!("sbom.{format}.json");
    image.ok(&[&["sbom", "--rootfs", &rootfs, "--format", format, "--output", &file, "--include"], include].concat());
    json(&image.at(&file))
}

const PROGRAMS: [&str; 4] = ["/bin/bash", "/usr/bin/ls", "/usr/bin/sh", "/usr/bin/ldd"];

/// The package that dpkg itself says owns a file.
fn dpkg_owner(path: &str) -> Option<String> {
    // Its database has the names of before the merge of /usr.
    let old = path.strip_prefix("/usr").filter(|p| ["/bin/", "/sbin/", "/lib/", "/lib64/"].iter().any(|d| p.starts_with(d)));
    [Some(path), old].into_iter().flatten().find_map(|p| {
        let out = Command::new("dpkg-query").arg(format!("--admindir={}", debian().join("var/lib/dpkg").display())).args(["-S", p]).output().expect("dpkg is installed");
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().filter(|l| !l.starts_with("diversion ")).find_map(|l| Some(l.strip_suffix(&format!(": {p}"))?.split(':').next()?.to_owned()))
    })
}

#[test]
fn an_sbom_gives_each_file_the_package_that_dpkg_gives_it() {
    let image = Image::made();
    let bom = sbom(&image, "cyclonedx", &PROGRAMS);
    let mut owned = 0;
    for component in bom["components"].as_array().unwrap() {
        for file in component["components"].as_array().into_iter().flatten() {
            assert_eq!(dpkg_owner(text(file, "/name")).as_deref(), Some(text(component, "/name")), "{}", text(file, "/name"));
            owned += 1;
        }
        if component["type"] == "file" {
            assert_eq!(dpkg_owner(text(component, "/name")), None);
        }
    }
    assert!(owned >= 6, "{bom:#}");
    let libc = bom["components"].as_array().unwrap().iter().find(|c| c["name"] == "libc6").unwrap();
    let out = Command::new("dpkg-query").arg(format!("--admindir={}", debian().join("var/lib/dpkg").display())).args(["-W", "-f", "${Version}", "libc6"]).output().unwrap();
    assert_eq!(text(libc, "/version").as_bytes(), out.stdout);
    assert!(text(libc, "/purl").starts_with("pkg:deb/debian/libc6@2.36-") && text(libc, "/purl").ends_with("?arch=amd64&distro=debian-12"), "{libc:#}");
    // The same says SPDX, in its own words.
    let spdx = sbom(&image, "spdx", &PROGRAMS);
    let relations: Vec<[&str; 3]> =
        spdx["relationships"].as_array().unwrap().iter().map(|r| ["/spdxElementId", "/relationshipType", "/relatedSpdxElement"].map(|p| text(r, p))).collect();
    let id = |list: &str, key: &str, name: &str| spdx[list].as_array().unwrap().iter().find(|e| e[key] == name).map(|e| text(e, "/SPDXID").to_owned()).unwrap();
    let (ls, coreutils) = (id("files", "fileName", "./usr/bin/ls"), id("packages", "name", "coreutils"));
    assert!(relations.contains(&[&ls, "OTHER", &coreutils]), "{spdx:#}");
    let sha256 = |file: &Value| file["checksums"].as_array().unwrap().iter().find(|c| c["algorithm"] == "SHA256").map(|c| text(c, "/checksumValue").to_owned()).unwrap();
    let row = spdx["files"].as_array().unwrap().iter().find(|f| f["fileName"] == "./usr/bin/ls").unwrap();
    assert_eq!(sha256(row), sha256sum(&debian().join("usr/bin/ls")));
}

#[test]
fn an_sbom_is_the_same_each_time_and_dated_only_by_its_caller() {
    let image = Image::made();
    let made = |format: &str, date: Option<&str>| {
        let mut c = Command::new(Setup::recompiler());
        c.args(["sbom", "--rootfs", "root", "--format", format]).current_dir(image.dir.path()).env_remove("SOURCE_DATE_EPOCH");
        c.envs(date.map(|d| ("SOURCE_DATE_EPOCH", d))).output().unwrap()
    };
    for (format, date) in [("cyclonedx", "\"timestamp\": \"2024-02-29T00:00:00Z\""), ("spdx", "\"created\": \"2024-02-29T00:00:00Z\"")] {
        let once = made(format, None);
        assert!(once.status.success() && once.stdout == made(format, None).stdout, "{}", show(&once));
        assert!(String::from_utf8(made(format, Some("1709164800")).stdout).unwrap().contains(date));
        assert!(!String::from_utf8(once.stdout).unwrap().contains("202"), "no date of today");
        let bad = made(format, Some("yesterday"));
        assert!(!bad.status.success() && show(&bad).contains("SOURCE_DATE_EPOCH is \"yesterday\""));
    }
}

/// A verifier of the suite with its own libraries.
fn verifier(script: &str, args: &[&Path]) -> Output {
    let var = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run cargo xtask suite signatures"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifiers").join(script);
    let mut c = if script.extension().is_some_and(|e| e == "js") { Command::new("node") } else { Command::new(var("VERIFIER_PYTHON")) };
    c.arg(script).args(args).env("NODE_PATH", var("VERIFIER_NODE_MODULES")).output().expect("the interpreter starts")
}

#[test]
#[ignore = "needs packages of PyPI and npm: cargo xtask suite signatures"]
fn other_projects_verify_bundles_and_refuse_changed_ones() {
    let image = Image::made();
    image.build("out", &[]);
    for bundle in ["manifest.sigstore.json", "manifest.provenance.sigstore.json"] {
        let path = image.at("out").join(bundle);
        let check = |script: &str, key: &str| verifier(script, &[&path, &image.at(key), Path::new("k")]);
        let names = check("dsse.py", "k.pub");
        assert!(names.status.success() && show(&names).contains("container.wasm\n"), "{}", show(&names));
        let verified = check("bundle.js", "k.pub");
        assert!(verified.status.success() && verified.stdout == b"verified\n", "{}", show(&verified));
        // Another key, and one character of the payload.
        image.run(&["keygen", "other.pem"]);
        assert!(show(&check("bundle.js", "other.pub")).contains("signature verification failed"));
        assert!(show(&check("dsse.py", "other.pub")).contains("Accepted signatures do not match threshold"));
        let good = fs::read_to_string(&path).unwrap();
        let at = good.find("\"payload\":\"").unwrap() + 100;
        let other = if &good[at..=at] == "A" { "B" } else { "A" };
        fs::write(&path, [&good[..at], other, &good[at + 1..]].concat()).unwrap();
        assert!(show(&check("bundle.js", "k.pub")).contains("signature verification failed"));
        assert!(show(&check("dsse.py", "k.pub")).contains("Accepted signatures do not match threshold"));
        fs::write(&path, good).unwrap();
    }
}

#[test]
#[ignore = "needs packages of PyPI: cargo xtask suite signatures"]
fn the_projects_of_both_formats_find_sboms_valid_and_broken_ones_not() {
    let image = Image::made();
    for (format, from, to) in [("cyclonedx", "\"SHA-256\"", "\"SHA-2\""), ("spdx", "\"DESCRIBES\"", "\"DESCRIBED_BY\"")] {
        sbom(&image, format, &PROGRAMS);
        let path = image.at(&format!("sbom.{format}.json"));
        let checked = verifier("sbom.py", &[Path::new(format), &path]);
        assert!(checked.status.success(), "{format}: {}", show(&checked));
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
        assert!(!verifier("sbom.py", &[Path::new(format), &path]).status.success(), "{format}");
    }
}
