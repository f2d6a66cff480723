//! Images made by umoci, skopeo and buildah, from layouts, archives and a real registry.

mod support;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;
use support::{Proxy, Registry, Work, error_of, log_in};

#[test]
fn layouts_archives_and_registries_give_the_tree_that_umoci_unpacks() {
    let w = Work::new();
    w.umoci_image();
    w.sh("umoci unpack --image lay:img bundle >/dev/null 2>&1");
    let expected = w.tree(&w.at("bundle/rootfs"));
    assert!(expected.contains("usr/bin/one f 4755 0 0  4 1 ") && expected.contains("null c") && expected.contains("etc/d/w") && !expected.contains("etc/y"), "{expected}");
    let registry = Registry::start();
    let remote = registry.put(&w, "a/b:1");
    w.tool("skopeo", &["copy", "-q", "oci:lay:img", "oci-archive:img.oci.tar:img"]);
    w.tool("skopeo", &["copy", "-q", "oci:lay:img", "docker-archive:img.docker.tar:shop/front:1"]);
    let docker = registry.reference("v2s2:1");
    w.tool("skopeo", &["copy", "-q", "--format", "v2s2", "--dest-tls-verify=false", "oci:lay:img", &docker]);
    let zstd = registry.reference("zstd:1");
    w.tool("skopeo", &["copy", "-q", "--dest-compress-format", "zstd", "--dest-compress", "--dest-tls-verify=false", "docker-archive:img.docker.tar", &zstd]);
    for from in ["oci:lay:img", "oci:lay", "oci-archive:img.oci.tar", "docker-archive:img.docker.tar", "docker-archive:img.docker.tar:shop/front:1", &remote, &docker, &zstd] {
        w.forget_everything();
        assert_eq!(w.tree(&w.ok(&["unpack", from])), expected, "{from}");
    }
    let text = w.refused(&["unpack", "docker-archive:img.docker.tar:other:2"]);
    assert!(text.contains("name one of its images") && text.contains("shop/front:1"), "{text}");
    assert!(w.refused(&["unpack", "oci:lay:other"]).contains("name one of its images: img"));
    w.sh("gzip -k img.docker.tar");
    assert!(w.refused(&["unpack", "docker-archive:img.docker.tar.gz"]).contains("unpack it first with gunzip"));
}

#[test]
fn an_image_of_buildah_is_unpacked_from_its_registry() {
    let w = Work::new();
    let registry = Registry::start();
    // The vfs driver and chroot isolation need nothing of the host.
    let buildah = |args: &[&str]| {
        let storage = [&["--storage-driver", "vfs", "--root", "storage", "--runroot", "run"][..], args].concat();
        w.tool("buildah", &storage)
    };
    let container = buildah(&["from", "scratch"]);
    let container = container.trim();
    fs::write(w.at("hello"), "hello\n").unwrap();
    buildah(&["copy", container, "hello", "/srv/hello"]);
    buildah(&["config", "--entrypoint", "[\"/srv/hello\"]", container]);
    buildah(&["commit", "-q", container, "made"]);
    buildah(&["push", "-q", "--tls-verify=false", "--compression-format", "zstd", "made", &registry.reference("made:1")]);
    let root = w.ok(&["unpack", &registry.reference("made:1")]);
    assert_eq!(fs::read_to_string(root.join("srv/hello")).unwrap(), "hello\n");
}

#[test]
fn a_pinned_digest_is_what_comes_or_nothing() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    let remote = registry.put(&w, "a:1");
    let digest = w.tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &remote]);
    let pinned = format!("{}/a@{}", registry.host(), digest.trim());
    let root = w.ok(&["unpack", &pinned]);
    assert!(root.join("usr/bin/one").is_file());
    // Once here, nobody is asked.
    let port = registry.port;
    drop(registry);
    assert_eq!(w.ok(&["unpack", &pinned]), root);
    w.forget_everything();
    let text = w.refused(&["unpack", &pinned]);
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("5 tries") && text.contains("can be reached"), "{text}");
}

#[test]
fn what_a_registry_changed_is_refused() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    let remote = registry.put(&w, "a:1");
    let (large, _) = registry.blobs().into_iter().max_by_key(|b| b.1).unwrap();
    let good = fs::read(&large).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&large, &bad).unwrap();
    assert!(w.refused(&["unpack", &remote]).contains("do not trust it"));
    fs::write(&large, &good[..good.len() - 100]).unwrap();
    w.refused(&["unpack", &remote]);
    fs::write(&large, &good).unwrap();
    w.ok(&["unpack", &remote]);
    assert!(w.refused(&["unpack", &registry.reference("a:2")]).contains("manifest unknown"));
    assert!(w.refused(&["unpack", &registry.reference("never:1")]).contains("check name and tag"));
}

#[test]
fn tls_and_passwords_are_needed_where_the_registry_wants_them() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::protected(&w);
    let remote = registry.reference("a:1");
    let ca = ["--registry-ca", "ca.pem"];
    w.sh("mkdir certs; cp ca.pem certs/ca.crt");
    w.tool("skopeo", &["copy", "-q", "--dest-creds", "u:secret", "--dest-cert-dir", "certs", "oci:lay:img", &remote]);
    let text = w.refused(&[&ca[..], &["unpack", &remote]].concat());
    assert!(text.contains("log in with podman login"), "{text}");
    log_in(&w, &registry.host());
    w.ok(&[&ca[..], &["unpack", &remote]].concat());
    w.forget_everything();
    // Another authority: the registry's certificate is not trusted.
    w.sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=other 2>/dev/null");
    let text = w.refused(&["--registry-ca", "other.pem", "unpack", &remote]);
    assert!(text.contains("--registry-ca"), "{text}");
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_stopped() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    registry.put(&w, "a:1");
    // Three connections end after 800 KB; the large layer has 3 MB.
    let proxy = Proxy::start(registry.port, 800_000, 3, Duration::ZERO);
    let root = w.ok(&["unpack", &format!("127.0.0.1:{}/a:1", proxy.port)]);
    assert_eq!(fs::metadata(root.join("usr/lib/big")).unwrap().len(), 3_000_000);
    let sent = proxy.sent.load(Ordering::Relaxed);
    assert!(sent < 3_600_000, "{sent} bytes were sent for 3 MB: pieces were fetched again");
}

#[test]
fn ctrl_c_removes_what_is_half_made_and_keeps_what_can_be_continued() {
    let w = Work::new();
    w.umoci_image();
    let registry = Registry::start();
    registry.put(&w, "a:1");
    let proxy = Proxy::start(registry.port, u64::MAX, 0, Duration::from_millis(30));
    let child = w.command(&["unpack", &format!("127.0.0.1:{}/a:1", proxy.port)]).stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    while proxy.sent.load(Ordering::Relaxed) < 600_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{out:?}");
    assert!(error_of(&out).contains("interrupted"));
    w.nothing_half_made();
    let parts: Vec<u64> =
        fs::read_dir(w.at("cache/vkernel/blobs/sha256")).unwrap().map(|e| e.unwrap()).filter(|e| e.path().extension().is_some()).map(|e| e.metadata().unwrap().len()).collect();
    assert!(parts.iter().any(|n| *n > 300_000), "{parts:?}");
}

/// Layouts whose documents lie.
#[test]
fn documents_that_do_not_fit_together_are_refused() {
    let w = Work::new();
    w.umoci_image();
    w.ok(&["unpack", "oci:lay:img"]);
    let read = |path: &std::path::Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &serde_json::Value| w.at("lay/blobs/sha256").join(&digest.as_str().unwrap()[7..]);
    let index = read(&w.at("lay/index.json"));
    let entry = index["manifests"].as_array().unwrap().iter().find(|e| e["annotations"]["org.opencontainers.image.ref.name"] == "img").unwrap().clone();
    let manifest = read(&blob(&entry["digest"]));
    let config = read(&blob(&manifest["config"]["digest"]));
    // Stores a changed manifest and configuration as image `bad`.
    let refused = |change: &dyn Fn(&mut serde_json::Value, &mut serde_json::Value), reason: &str| {
        let (mut manifest, mut config, mut index) = (manifest.clone(), config.clone(), index.clone());
        let store = |value: &serde_json::Value| {
            let bytes = serde_json::to_vec(value).unwrap();
            let digest = policy::Digest::sha256(&bytes);
            fs::write(w.at("lay/blobs/sha256").join(digest.hex()), &bytes).unwrap();
            (serde_json::json!(digest.to_string()), serde_json::json!(bytes.len()))
        };
        change(&mut manifest, &mut config);
        (manifest["config"]["digest"], manifest["config"]["size"]) = store(&config);
        let mut bad = entry.clone();
        (bad["digest"], bad["size"]) = store(&manifest);
        bad["annotations"]["org.opencontainers.image.ref.name"] = "bad".into();
        index["manifests"] = serde_json::json!([bad]);
        fs::write(w.at("lay/index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
        let text = w.refused(&["unpack", "oci:lay:bad"]);
        assert!(text.contains(reason), "{text}");
    };
    refused(&|m, _| m["layers"][0]["size"] = 5.into(), "its manifest says 5");
    refused(&|m, _| m["layers"][0]["digest"] = m["layers"][1]["digest"].clone(), "damaged");
    refused(&|_, c| c["rootfs"]["diff_ids"].as_array_mut().unwrap().reverse(), "the configuration says");
    refused(&|_, c| drop(c["rootfs"]["diff_ids"].as_array_mut().unwrap().pop()), "lists 3 layers, its configuration 2");
    refused(&|_, c| c["architecture"] = "arm64".into(), "linux/arm64, not linux/amd64");
    refused(&|m, _| m["layers"][0]["mediaType"] = "application/wasm".into(), "media type application/wasm");
    refused(&|m, _| m["config"]["mediaType"] = "application/x-other".into(), "not a container image");
    refused(&|m, _| m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into(), "not a digest");
    refused(&|m, _| m["layers"][0]["size"] = (-1).into(), "negative");
    refused(&|m, _| m["schemaVersion"] = 1.into(), "schema version 1");
    let text = w.refused(&["--max-bytes", "1000000", "unpack", "oci:lay:bad"]);
    assert!(text.contains("schema version"), "{text}");
    fs::write(w.at("lay/index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    w.forget_everything();
    assert!(w.refused(&["--max-bytes", "1000000", "unpack", "oci:lay:img"]).contains("--max-bytes"));
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    let w = Work::new();
    w.umoci_image();
    fs::create_dir(w.at("cache")).unwrap();
    // A file system of its own, seen by this one process only.
    let script = r#"mount -t tmpfs -o size=1m none cache; "$0" unpack oci:lay:img; code=$?; find cache -name '.new*'; exit $code"#;
    let mut c = std::process::Command::new("unshare");
    c.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_vkernel-image")]).current_dir(w.dir.path()).env("XDG_CACHE_HOME", w.at("cache"));
    let out = c.output().unwrap();
    assert!(error_of(&out).contains("No space left on device") && out.stdout.is_empty(), "{out:?}");
}
