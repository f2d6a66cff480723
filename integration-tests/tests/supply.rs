//! What a build says of itself to other tools, in Sigstore bundles and provenance, and whether it is true.
//!
//! The fact a newcomer gets wrong: our own `verify` proves nothing about formats of others. openssl checks each signature here; `cargo xtask suite signatures` lets securesystemslib and @sigstore/verify look, too.

use integration_tests::Setup;
use integration_tests::foreign::{json, openssl, sha256sum, text, verifier};
use integration_tests::show;
use integration_tests::tiny::Image;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_bundle_names_every_file_by_its_sha256_and_openssl_finds_it_signed() {
    let image = Image::made(Setup::recompiler());
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
        let path = name.strip_prefix('/').map_or_else(|| image.at("out").join(name), |inside| image.at("root").join(inside));
        assert_eq!(text(s, "/digest/sha256"), sha256sum(&path), "{name}");
        named.insert(name.to_owned());
    }
    let native = fs::read_dir(image.at("out/aot/x86_64-unknown-linux-gnu")).unwrap().map(|e| format!("aot/x86_64-unknown-linux-gnu/{}", e.unwrap().file_name().to_string_lossy()));
    let expected: BTreeSet<String> = native.chain(["container.wasm", "/bin/fixed", "/bin/moving", "/bin/script"].map(str::to_owned)).collect();
    assert_eq!(named, expected);
}

#[test]
fn provenance_says_how_and_from_what_and_nothing_of_this_machine() {
    let image = Image::made(Setup::recompiler());
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
    let image = Image::made(Setup::recompiler());
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
    let image = Image::made(Setup::recompiler());
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

#[test]
fn a_release_that_was_not_built_from_its_image_is_found_by_building_again() {
    let image = Image::made(Setup::recompiler());
    // All of a policy is in the provenance.
    fs::write(
        image.at("policy.json"),
        r#"{"default_syscalls": ["exit"], "scripts": "listed", "inline": "audit", "forbid_permissive": true, "overrides": {"/bin/moving": {"interpreter": {"flags": "x"}, "strip": ["X_*"]}}}"#,
    )
    .unwrap();
    image.build("out", &["--name", "shop/x", "--serial", "3", "--release", "1.2", "--policy", "policy.json"]);
    let built = image.manifest("out");
    let moving = built["binaries"].as_object().unwrap().iter().find(|(_, b)| b["path"] == "/bin/moving").unwrap();
    assert_eq!((&moving.1["overrides"]["interpreter"]["flags"], &moving.1["overrides"]["strip"][0]), (&"x".into(), &"X_*".into()));
    assert!(built["scripts"].as_object().unwrap().values().all(|s| s["interpreter_digest"] == **moving.0));
    let verify = ["verify", "out/manifest.json", "--key", "k.pub", "--recompile", "--rootfs", "root", "--cache", "cache"];
    assert!(image.ok(&verify).contains("built again: 5 files and the manifest are equal, byte for byte"));
    // The image is another one, by one byte that no code sees.
    let good = fs::read(image.at("root/bin/moving")).unwrap();
    fs::write(image.at("root/bin/moving"), [&good[..], b"x"].concat()).unwrap();
    assert!(image.refused(&verify).contains("container.wasm: built again it differs"));
    fs::write(image.at("root/bin/moving"), &good).unwrap();
    image.ok(&verify);
    // Native code that another compiler made of the same image, all of it listed and signed: every digest is right.
    let native = image.at("out/aot/x86_64-unknown-linux-gnu");
    let path = fs::read_dir(&native).unwrap().map(|e| e.unwrap().path()).find(|p| p.to_string_lossy().contains(".resumable.")).unwrap();
    let mut code = fs::read(&path).unwrap();
    let at = code.len() - 1;
    code[at] ^= 1;
    fs::write(&path, &code).unwrap();
    let mut manifest = json(&image.at("out/manifest.json"));
    let b3sum = blake3_of(&image, &path);
    for a in manifest["artifacts"].as_array_mut().unwrap() {
        if path.ends_with(a["file"].as_str().unwrap()) {
            a["digest"] = b3sum.clone().into();
        }
    }
    fs::write(image.at("out/manifest.json"), manifest.to_string()).unwrap();
    for stale in ["out/manifest.sigstore.json", "out/manifest.provenance.sigstore.json"] {
        fs::remove_file(image.at(stale)).unwrap();
    }
    let provenance = fs::read_to_string(image.at("out/manifest.provenance.json")).unwrap();
    let mut provenance: Value = serde_json::from_str(&provenance).unwrap();
    for s in provenance["subject"].as_array_mut().unwrap() {
        if path.ends_with(s["name"].as_str().unwrap()) {
            s["digest"] = serde_json::json!({ "blake3": b3sum.trim_start_matches("blake3:"), "sha256": sha256sum(&path) });
        }
    }
    fs::write(image.at("out/manifest.provenance.json"), provenance.to_string()).unwrap();
    image.ok(&["sign", "out/manifest.json", "--key", "k.pem"]);
    image.ok(&["verify", "out/manifest.json", "--key", "k.pub"]);
    let text = image.refused(&verify);
    assert!(text.contains(".resumable.so: built again it differs, first at byte") && text.contains("do not trust the builder"), "{text}");
}

#[test]
fn verify_says_how_fast_a_release_starts_and_fails_over_the_limit() {
    let image = Image::made(Setup::recompiler());
    image.build("out", &[]);
    for empty in ["dev", "proc", "sys", "tmp", "etc"] {
        fs::create_dir_all(image.at("root").join(empty)).unwrap();
    }
    let verify = |limit: &'static str| ["verify", "out/manifest.json", "--key", "k.pub", "--rootfs", "root", "--start", "/bin/moving", "--start-limit", limit];
    let text = image.ok(&verify("10000"));
    assert!(text.contains("/bin/moving starts and ends in ") && text.contains(" ms where containers are kept ready, in "), "{text}");
    assert!(image.refused(&verify("0")).contains("more than 0 (--start-limit)"));
    assert!(image.refused(&["verify", "out/manifest.json", "--key", "k.pub", "--rootfs", "root", "--start", "/bin/none"]).contains("/bin/none does not start"));
}

/// Signs as FILE.NAME with keys of its own, and checks what it signed.
const DETACHED: [(&str, &str, &str); 3] = [
    (
        "minisig",
        "printf '\\n\\n' | minisign -G -p mini.pub -s mini.key > /dev/null; printf '\\n' | minisign -S -s mini.key -m $1 -x $1.minisig > /dev/null",
        "minisign -V -q -p mini.pub -m $1 -x $1.minisig",
    ),
    (
        "signify",
        "signify-openbsd -G -n -p signify.pub -s signify.sec; signify-openbsd -S -s signify.sec -m $1 -x $1.signify",
        "signify-openbsd -V -q -p signify.pub -m $1 -x $1.signify",
    ),
    (
        "sig",
        "ssh-keygen -q -t ed25519 -N '' -f ssh; echo release@example $(cat ssh.pub) > signers; ssh-keygen -q -Y sign -f ssh -n vkernel $1",
        "ssh-keygen -q -Y verify -f signers -I release@example -n vkernel -s $1.sig < $1",
    ),
];

#[test]
#[ignore = "needs minisign and signify: cargo xtask suite signatures"]
fn detached_signatures_of_a_manifest_by_other_tools_hold_until_it_changes() {
    let image = Image::made(Setup::recompiler());
    image.build("out", &["--tier", "fast"]);
    let manifest = image.at("out/manifest.json");
    let good = fs::read(&manifest).unwrap();
    let sh = |script: &str| Command::new("sh").args(["-ec", script, "-", "out/manifest.json"]).current_dir(image.dir.path()).output().expect("sh starts");
    for (name, sign, check) in DETACHED {
        let signed = sh(sign);
        assert!(signed.status.success() && image.at("out").join(format!("manifest.json.{name}")).exists(), "{name}: {}", show(&signed));
        assert!(sh(check).status.success(), "{name}: {}", show(&sh(check)));
        fs::write(&manifest, [&good[..], b"\n"].concat()).unwrap();
        assert!(!sh(check).status.success(), "{name} did not notice a change");
        fs::write(&manifest, &good).unwrap();
    }
    assert!(image.ok(&["verify", "out/manifest.json", "--key", "k.pub"]).contains("Sigstore bundles say the same"));
}

#[test]
#[ignore = "needs packages of PyPI and npm: cargo xtask suite signatures"]
fn other_projects_verify_bundles_and_refuse_changed_ones() {
    let image = Image::made(Setup::recompiler());
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

/// A file's BLAKE3 as manifests have it.
fn blake3_of(image: &Image, path: &Path) -> String {
    fs::create_dir_all(image.at("digest")).unwrap();
    fs::copy(path, image.at("digest/file")).unwrap();
    let found: Value = serde_json::from_str(&image.ok(&["scan", "--rootfs", "digest", "--json"])).unwrap();
    found["files"][0]["blake3"].as_str().unwrap().to_owned()
}
