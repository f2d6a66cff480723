//! Keys that are not files, and keys that are replaced.
//!
//! The fact a newcomer gets wrong: a signing program may do anything, so most of these tests are about programs that do something else.

use integration_tests::Setup;
use integration_tests::foreign::openssl;
use integration_tests::show;
use integration_tests::tiny::Image;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// The steps of "How to rotate a key" in recompiler-build(1).
#[test]
fn a_key_is_rotated_as_the_manual_says() {
    let image = Image::made(Setup::recompiler());
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

/// What hosts do, as `verify` of the builder above: both commands ask for two signers, and count keys, not signatures.
#[test]
fn a_host_that_wants_two_signers_runs_nothing_that_one_signed() {
    let image = Image::made(Setup::recompiler());
    for directory in ["dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(image.at("root").join(directory)).unwrap();
    }
    image.build("out", &["--tier", "fast"]);
    image.ok(&["keygen", "new.key"]);
    image.ok(&["keygen", "stranger.key"]);
    fs::copy(image.at("k.pub"), image.at("copy.pub")).unwrap();
    let vkernel = |command: &[&str], threshold: &str, keys: &[&str], program: &[&str]| {
        let mut c = Command::new(Setup::get().vkernel);
        c.args(command).args(["--threshold", threshold]).args(keys.iter().flat_map(|k| ["--key", k])).args(program);
        c.current_dir(image.dir.path()).output().expect("it starts")
    };
    let run = |threshold: &str, keys: &[&str]| vkernel(&["run", "out/manifest.json", "--rootfs", "root", "--store", "store"], threshold, keys, &["--", "/bin/moving"]);
    let verify = |threshold: &str, keys: &[&str]| vkernel(&["verify", "out/manifest.json"], threshold, keys, &[]);
    let accepted = |threshold: &str, keys: &[&str]| {
        for out in [verify(threshold, keys), run(threshold, keys)] {
            assert!(out.status.success(), "{threshold} of {keys:?}: {}", show(&out));
        }
    };
    let refused = |threshold: &str, keys: &[&str], why: &str| {
        for (out, code) in [(verify(threshold, keys), 1), (run(threshold, keys), 125)] {
            assert!(out.status.code() == Some(code) && show(&out).contains(why), "{threshold} of {keys:?}: {}", show(&out));
        }
    };
    let both = ["k.pub", "new.pub"];
    // Run once, the host remembers that it verified the release; that one had signed is no answer to the next question.
    accepted("1", &both);
    refused("2", &both, "1 of 2 required");
    // The same key under another name, and trusted twice, is one signer.
    image.ok(&["sign", "out/manifest.json", "--key", "k.pem", "--key-id", "again"]);
    refused("2", &["k.pub", "copy.pub", "new.pub"], "1 of 2 required");
    image.ok(&["sign", "out/manifest.json", "--key", "stranger.key"]);
    refused("2", &both, "1 of 2 required");
    image.ok(&["sign", "out/manifest.json", "--key", "new.key"]);
    accepted("2", &both);
    accepted("2", &both);
    refused("3", &both, "2 of 3 required");
    refused("2", &["k.pub"], "1 of 2 required");
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
    let image = Image::made(Setup::recompiler());
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
    let image = Image::made(Setup::recompiler());
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
