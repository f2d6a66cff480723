//! Releases pushed in both forms and pulled again, and images that carry hostile ones. What is inside a release does not matter here: its code is a few bytes that only digests look at.

mod support;

use policy::Digest;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use support::{Registry, Work, release};

fn same_release(a: &Path, b: &Path) {
    let names = |d: &Path| {
        let mut all = Vec::new();
        let mut work = vec![d.to_path_buf()];
        while let Some(dir) = work.pop() {
            for e in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| !p.ends_with("rootfs")) {
                if e.is_dir() { work.push(e) } else { all.push((e.strip_prefix(d).unwrap().to_owned(), fs::read(&e).unwrap())) }
            }
        }
        all.sort();
        all
    };
    let (a, b) = (names(a), names(b));
    assert!(a.len() >= 5 && a == b, "{:?} {:?}", a.iter().map(|x| &x.0).collect::<Vec<_>>(), b.iter().map(|x| &x.0).collect::<Vec<_>>());
}

#[test]
fn a_release_inside_its_image_comes_back_and_the_original_layers_stay_as_they_are() {
    let w = Work::new();
    w.umoci_image();
    release(&w, "out", 3, "a");
    let registry = Registry::start();
    for (to, compression) in [(registry.reference("shop:1"), "gzip"), (registry.reference("shop:2"), "zstd"), ("oci:shipped:x".to_owned(), "gzip")] {
        w.ok(&["push", "out/manifest.json", &to, "--image", "oci:lay:img", "--compression", compression]);
        let place = w.ok(&["pull", &to]);
        same_release(&place, &w.at("out"));
        let original = w.ok(&["unpack", "oci:lay:img"]);
        assert_eq!(w.tree(&place.join("rootfs")), w.tree(&original), "the guest sees the original image only");
    }
    // Other tools read it: skopeo lists one layer more, umoci unpacks it.
    let layers = |from: &str| w.tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{range .Layers}}{{.}} {{end}}", from]);
    let (before, after) = (layers("oci:lay:img"), layers(&registry.reference("shop:1")));
    assert!(after.starts_with(before.trim()) && after.split_whitespace().count() == before.split_whitespace().count() + 1, "{before} {after}");
    w.sh("umoci unpack --image shipped:x b2 >/dev/null 2>&1 && cmp b2/rootfs/.vkernel/manifest.json out/manifest.json && cmp b2/rootfs/.vkernel/container.wasm out/container.wasm");
    // The same release gives the same bytes, whoever pushes it.
    let digest = w.ok(&["push", "out/manifest.json", "oci:shipped:y", "--image", "oci:lay:img"]);
    assert_eq!(digest, w.ok(&["push", "out/manifest.json", "oci:shipped:z", "--image", "oci:lay:img"]));
}

#[test]
fn an_artifact_is_found_from_its_image_and_code_is_shared_between_releases() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    let image = registry.put(&w, "shop:1");
    assert!(w.refused(&["pull", &image]).contains("carries no release"));
    release(&w, "one", 1, "first");
    w.ok(&["push", "--form", "artifact", "one/manifest.json", &registry.reference("shop:1-r1"), "--image", &image]);
    let before: u64 = registry.blobs().iter().map(|b| b.1).sum();
    release(&w, "two", 2, "second");
    w.ok(&["push", "--form", "artifact", "two/manifest.json", &registry.reference("shop:1-r2"), "--image", &image]);
    let added = registry.blobs().iter().map(|b| b.1).sum::<u64>() - before;
    assert!((100_000..200_000).contains(&added), "{added} bytes were added: of 1.1 MB of code, 0.1 MB changed");
    // By the image's own name the newest; by the artifact's name that one.
    same_release(&w.ok(&["pull", &image]), &w.at("two"));
    let first = w.ok(&["pull", &registry.reference("shop:1-r1")]);
    same_release(&first, &w.at("one"));
    assert_eq!(w.tree(&first.join("rootfs")), w.tree(&w.ok(&["unpack", "oci:lay:img"])));
    // On disk, too: one inode for code that both hold.
    let second = w.ok(&["pull", &registry.reference("shop:1-r2")]);
    let inode = |place: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(place.join("aot/x86_64-unknown-linux-gnu/88888888.structured.so")).unwrap());
    assert_eq!(inode(&first), inode(&second));
    // The same in a layout.
    w.ok(&["push", "--form", "artifact", "two/manifest.json", "oci:lay:r2", "--image", "oci:lay:img"]);
    same_release(&w.ok(&["pull", "oci:lay:img"]), &w.at("two"));
}

/// Everything that can lie beside a manifest, and some files that are nobody's to ship. The names of the first.
fn accompany(w: &Work, directory: &str) -> Vec<String> {
    let put = |name: &str, bytes: &[u8]| {
        let path = w.at(directory).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        name.to_owned()
    };
    // {"predicateType":"p:1"}
    let bundle = r#"{"dsseEnvelope":{"payload":"eyJwcmVkaWNhdGVUeXBlIjoicDoxIn0="}}"#;
    let mut names = vec![
        put("manifest.sigstore.json", bundle.as_bytes()),
        put("manifest.second.sigstore.json", b"not even JSON"),
        put("manifest.provenance.json", b"{}"),
        put("sbom.spdx.json", br#"{"spdxVersion":"SPDX-2.3"}"#),
        put("manifest.cdx.json", br#"{"bomFormat":"CycloneDX"}"#),
    ];
    let mut blob = |bytes: &[u8]| {
        names.push(put(&format!("manifest.proof/{}", Digest::sha256(bytes).hex()), bytes));
        Digest::sha256(bytes).to_string()
    };
    let row = json!({ "command": ["/bin/x"], "stdin": blob(b""), "status": 0, "stdout": blob(b"printed\n"), "stderr": blob(b"said\n") });
    names.push(put("manifest.proof.json", json!({ "manifest": Digest::sha256(b"x").to_string(), "tests": { "t": row } }).to_string().as_bytes()));
    put(&format!("manifest.proof/{}", Digest::sha256(b"of an older proof").hex()), b"of an older proof");
    put("notes.txt", b"mine");
    put("manifest.sigstore.json.bak", b"mine");
    names
}

/// The files of a directory that are no release's.
fn accompanying(place: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(place).unwrap().chain(fs::read_dir(place.join("manifest.proof")).into_iter().flatten()).map(|e| e.unwrap().path()) {
        let name = entry.strip_prefix(place).unwrap().to_str().unwrap().to_owned();
        if !["manifest.json", "container.wasm", "aot", "rootfs", "manifest.proof"].contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    names
}

#[test]
fn what_accompanies_a_release_is_found_by_its_media_type_and_comes_back() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    release(&w, "out", 3, "a");
    let mut names = accompany(&w, "out");
    names.sort();
    for (to, form) in
        [(registry.reference("shop:1"), "image"), (registry.reference("shop:2"), "artifact"), ("oci:shipped:x".to_owned(), "image"), ("oci:shipped:y".to_owned(), "artifact")]
    {
        let pushed = w.ok(&["push", "out/manifest.json", &to, "--image", "oci:lay:img", "--form", form]);
        // Again changes nothing.
        assert_eq!(w.ok(&["push", "out/manifest.json", &to, "--image", "oci:lay:img", "--form", form]), pushed);
        let place = w.ok(&["pull", &to]);
        assert_eq!(accompanying(&place), names, "{to}");
        for name in &names {
            assert_eq!(fs::read(place.join(name)).unwrap(), fs::read(w.at("out").join(name)).unwrap(), "{to} {name}");
        }
        if to.starts_with("oci:") {
            continue;
        }
        // As tools of the formats look for them: by the subject's tag or the API, and the artifact's type.
        let index = w.sh(&format!(
            "curl -sf -H 'Accept: application/vnd.oci.image.index.v1+json' http://{}/v2/shop/manifests/{}",
            registry.host(),
            pushed.to_str().unwrap().replace(':', "-")
        ));
        let index: Value = serde_json::from_str(&index).unwrap();
        let mut found: Vec<(String, Value)> =
            index["manifests"].as_array().unwrap().iter().map(|e| (e["artifactType"].as_str().unwrap().to_owned(), e["annotations"].clone())).collect();
        found.sort_by(|a, b| (&a.0, a.1.to_string()).cmp(&(&b.0, b.1.to_string())));
        let annotated = json!({ "dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": "p:1" });
        let row = |kind: &str, annotations: Value| (format!("application/{kind}+json"), annotations);
        let bundle = "vnd.dev.sigstore.bundle.v0.3";
        assert_eq!(
            found,
            [
                row("spdx", Value::Null),
                row("vnd.cyclonedx", Value::Null),
                row(bundle, Value::Null),
                row(bundle, annotated),
                row("vnd.in-toto", Value::Null),
                row("vnd.vkernel.proof.v1", Value::Null)
            ]
        );
    }
    // What is added later is there at the next pull that asks.
    w.sh("echo '{}' > out/late.spdx.json");
    let to = registry.reference("shop:1");
    w.ok(&["push", "out/manifest.json", &to, "--image", "oci:lay:img"]);
    assert!(!w.ok(&["pull", &to]).join("late.spdx.json").exists());
    assert!(w.ok(&["pull", "--pull", "always", &to]).join("late.spdx.json").exists());
}

#[test]
fn a_proof_of_more_files_than_an_artifact_holds_is_refused_before_anything_is_pushed() {
    let w = Work::new();
    w.umoci_image();
    release(&w, "out", 1, "a");
    let proof = |rows: usize| {
        fs::create_dir_all(w.at("out/manifest.proof")).unwrap();
        let blob = |text: String| {
            let digest = Digest::sha256(text.as_bytes());
            fs::write(w.at("out/manifest.proof").join(digest.hex()), text).unwrap();
            digest.to_string()
        };
        let row = |n: usize| json!({ "command": ["/bin/x"], "stdin": blob(String::new()), "status": 0, "stdout": blob(format!("{n}")), "stderr": blob(String::new()) });
        let tests: serde_json::Map<String, Value> = (0..rows).map(|n| (format!("t{n}"), row(n))).collect();
        fs::write(w.at("out/manifest.proof.json"), json!({ "manifest": Digest::sha256(b"x").to_string(), "tests": tests }).to_string()).unwrap();
    };
    let push = ["push", "out/manifest.json", "oci:dest:x", "--image", "oci:lay:img"];
    proof(999);
    assert!(w.refused(&push).contains("manifest.proof.json: has 1001 files, an artifact holds 1000"));
    assert!(!w.at("dest/index.json").exists());
    proof(998);
    w.ok(&push);
    assert_eq!(fs::read_dir(w.ok(&["pull", "oci:dest:x"]).join("manifest.proof")).unwrap().count(), 999);
}

/// Whoever may push can say anything; what is not right is left out, and the release comes all the same.
#[test]
fn what_accompanies_a_release_wrongly_is_left_out_with_a_note() {
    let w = Work::new();
    w.umoci_image();
    let release_manifest = release(&w, "out", 3, "a");
    let good = fs::read(&release_manifest).unwrap();
    w.sh("echo '{}' > out/sbom.spdx.json");
    let digest = w.ok(&["push", "out/manifest.json", "oci:shipped:x", "--image", "oci:lay:img"]);
    let index: Value = serde_json::from_slice(&fs::read(w.at("shipped/index.json")).unwrap()).unwrap();
    let entry = index["manifests"].as_array().unwrap().iter().find(|e| e["artifactType"] == "application/spdx+json").unwrap().clone();
    let blob = |digest: &str| w.at("shipped/blobs/sha256").join(&digest["sha256:".len()..]);
    let artifact: Value = serde_json::from_slice(&fs::read(blob(entry["digest"].as_str().unwrap())).unwrap()).unwrap();
    let store = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes).to_string();
        fs::write(blob(&digest), bytes).unwrap();
        digest
    };
    let title = "/layers/0/annotations/org.opencontainers.image.title";
    let hex = "ab".repeat(32);
    let proof = "application/vnd.vkernel.proof.v1+json";
    let place = w.at("cache/vkernel/images").join(format!("release-{}", &digest.to_str().unwrap()["sha256:".len()..]));
    let pulled = || {
        let _ = fs::remove_dir_all(&place);
        let out = w.command(&["pull", "oci:shipped:x"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(fs::read(place.join("manifest.json")).unwrap(), good);
        String::from_utf8(out.stderr).unwrap()
    };
    assert_eq!(pulled(), "");
    assert_eq!(accompanying(&place), ["sbom.spdx.json"]);
    for (pointer, value, kind, reason) in [
        (title, json!("../sbom.spdx.json"), "application/spdx+json", "is no name of a file of it"),
        (title, json!("manifest.json"), "application/spdx+json", "is no name of a file of it"),
        (title, json!("sbom.cdx.json"), "application/spdx+json", "is no name of a file of it"),
        (title, json!(format!("manifest.proof/{hex}")), proof, "is not what its name says"),
        ("/layers/0/annotations", Value::Null, "application/spdx+json", "has no name"),
        ("/layers/0/size", json!(4), "application/spdx+json", "its manifest says 4"),
        ("/layers/0/digest", json!(format!("sha256:{hex}")), "application/spdx+json", "cannot read"),
    ] {
        let mut changed = artifact.clone();
        *changed.pointer_mut(pointer).unwrap() = value.clone();
        let bytes = serde_json::to_vec(&changed).unwrap();
        let mut index = index.clone();
        let listed = index["manifests"].as_array_mut().unwrap().iter_mut().find(|e| e["digest"] == entry["digest"]).unwrap();
        (listed["digest"], listed["size"], listed["artifactType"]) = (json!(store(&bytes)), json!(bytes.len()), json!(kind));
        fs::write(w.at("shipped/index.json"), index.to_string()).unwrap();
        let note = pulled();
        assert!(note.starts_with("vkernel-image: note: ") && note.contains(reason) && note.lines().count() == 1, "{value}: {note}");
        assert!(accompanying(&place).is_empty(), "{value}");
    }
}

/// Debian's registry knows only the tag for what refers to an image; newer ones answer a question. Stands in for them with that one answer.
#[test]
fn a_registry_with_the_referrers_api_is_asked() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    let image = registry.put(&w, "shop:1");
    release(&w, "one", 1, "first");
    release(&w, "two", 2, "second");
    w.ok(&["push", "--form", "artifact", "one/manifest.json", "oci:aside:one", "--image", "oci:lay:img"]);
    for name in ["one", "two"] {
        // Without --image nothing refers to the image by tag, as in a registry that computes referrers itself.
        w.ok(&["push", "--form", "artifact", &format!("{name}/manifest.json"), &registry.reference(&format!("shop:{name}"))]);
    }
    let manifest = |tag: &str| w.tool("skopeo", &["inspect", "--raw", "--tls-verify=false", &registry.reference(&format!("shop:{tag}"))]);
    let subject = Digest::sha256(manifest("1").as_bytes());
    let entries: Vec<Value> = ["one", "two"]
        .iter()
        .map(|tag| {
            // The subject that the real registry would have seen.
            let mut m: Value = serde_json::from_str(&manifest(tag)).unwrap();
            m["subject"] = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject.to_string(), "size": manifest("1").len() });
            let bytes = serde_json::to_vec(&m).unwrap();
            fs::write(w.at("m.json"), &bytes).unwrap();
            w.sh(&format!("curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @m.json http://{}/v2/shop/manifests/{tag}", registry.host()));
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::sha256(&bytes).to_string(), "size": bytes.len(), "artifactType": m["artifactType"], "annotations": m["annotations"] })
        })
        .collect();
    assert!(w.refused(&["pull", "--pull", "always", &image]).contains("no release refers to it"));
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries }).to_string();
    let port = support::answering(registry.port, &format!("/v2/shop/referrers/{subject}"), &index);
    let place = w.ok(&["pull", &format!("127.0.0.1:{port}/shop:1")]);
    same_release(&place, &w.at("two"));
    assert!(place.join("rootfs/usr/bin/one").is_file());
}

#[test]
fn pull_never_and_missing_ask_nobody_and_always_does() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    let name = registry.reference("shop:1");
    assert!(w.refused(&["pull", "--pull", "never", &name]).contains("never pulled"));
    release(&w, "one", 1, "first");
    w.ok(&["push", "one/manifest.json", &name, "--image", "oci:lay:img"]);
    let one = w.ok(&["pull", &name]);
    release(&w, "two", 2, "second");
    w.ok(&["push", "two/manifest.json", &name, "--image", "oci:lay:img"]);
    assert_eq!(w.ok(&["pull", &name]), one);
    let two = w.ok(&["pull", "--pull", "always", &name]);
    same_release(&two, &w.at("two"));
    drop(registry);
    assert_eq!(w.ok(&["pull", "--pull", "never", &name]), two);
    w.refused(&["pull", "--pull", "always", &name]);
}

#[test]
fn what_was_changed_after_the_build_is_not_pushed_and_not_pulled() {
    let w = Work::new();
    w.umoci_image();
    release(&w, "out", 1, "a");
    w.ok(&["push", "--form", "artifact", "out/manifest.json", "oci:dest:good", "--image", "oci:lay:img"]);
    fs::write(w.at("out/container.wasm"), "other").unwrap();
    assert!(w.refused(&["push", "out/manifest.json", "oci:dest:bad", "--image", "oci:lay:img"]).contains("its digest is"));
    assert!(w.refused(&["push", "lay/index.json", "oci:dest:bad", "--image", "oci:lay:img"]).contains("manifest lay/index.json"));
    w.ok(&["pull", "oci:dest:good"]);
    w.forget_everything();
    // A blob of the layout changed: the manifest's digest does not fit any more.
    let code = fs::read(w.at("out/aot/x86_64-unknown-linux-gnu/88888888.structured.so")).unwrap();
    let mut bad = code.clone();
    bad[7] ^= 1;
    fs::write(w.at("dest/blobs/sha256").join(Digest::sha256(&code).hex()), bad).unwrap();
    assert!(w.refused(&["pull", "oci:dest:good"]).contains("its digest is"));
}

/// Images whose `/.vkernel` is not what it should be: nothing outside may be moved or read.
#[test]
fn a_hostile_release_inside_an_image_is_refused() {
    let w = Work::new();
    release(&w, "out", 1, "a");
    fs::write(w.at("secret"), "outside").unwrap();
    let carrying = |name: &str, script: &str| {
        w.sh(&format!("rm -rf lay b; umoci init --layout lay; umoci new --image lay:{name}; umoci unpack --image lay:{name} b >/dev/null 2>&1; cd b/rootfs; mkdir .vkernel; cp -r ../../out/. .vkernel/; {script}; cd ../..; umoci repack --image lay:{name} b >/dev/null 2>&1"));
        w.command(&["pull", &format!("oci:lay:{name}")]).output().unwrap()
    };
    let good = carrying("good", "true");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let secret = w.name("secret");
    for (name, script, reason) in [
        ("link", format!("rm .vkernel/container.wasm; ln -s {secret} .vkernel/container.wasm"), "plain file"),
        ("directory", format!("mv .vkernel real; ln -s real .vkernel; ln -s {secret} x"), "plain file"),
        ("manifest", format!("rm .vkernel/manifest.json; ln -s {secret} .vkernel/manifest.json"), "plain file"),
        ("fifo", "rm .vkernel/manifest.json; mkfifo .vkernel/manifest.json".to_owned(), "not a regular file"),
        ("hard", "mkdir etc; ln .vkernel/container.wasm etc/passwd".to_owned(), "several links"),
        ("path", "sed -i 's|\"megabinary\":\"container.wasm\"|\"megabinary\":\"../../../x\"|' .vkernel/manifest.json".to_owned(), "manifest"),
        ("absent", "rm -r .vkernel/aot".to_owned(), "lacks aot"),
        ("changed", "echo x >> .vkernel/container.wasm".to_owned(), "its digest is"),
    ] {
        let out = carrying(name, &script);
        let text = support::error_of(&out);
        assert!(text.contains(reason), "{name}: {text}");
        w.nothing_half_made();
        assert_eq!(fs::read(w.at("secret")).unwrap(), b"outside");
    }
}
