//! From image to image: built from a registry's image, shipped to a registry, run on a host that never saw it.

use integration_tests::{Setup, finish, show};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Debian's docker-registry on loopback.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(data: &Path) -> Registry {
        let port = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").port();
        let config = data.join(format!("config-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            data.display()
        );
        fs::write(&config, text).expect("writable");
        let child = Command::new("docker-registry").arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("docker-registry is installed");
        // Made first: a panic below must end the child.
        let registry = Registry { child, port };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory on the test image's file system; some hosts keep /tmp in memory.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(Setup::get().rootfs.parent().expect("the rootfs has a parent")).expect("a directory can be made")
}

/// A registry's storage with the tests' release in both forms, made once: `shop:image`, `shop:base` and the artifact that refers to it. Removed by the next run.
fn storage() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let setup = Setup::get();
        let data = setup.rootfs.parent().expect("the rootfs has a parent").join("images-test");
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).expect("a directory can be made");
        let registry = Registry::start(&data);
        let base = format!("dir:{}", setup.rootfs.display());
        recompiler(&data, &["push", &setup.manifest.to_string_lossy(), &registry.reference("shop:image"), "--image", &base, "--compression", "zstd"]);
        recompiler(&data, &["push", "--form", "artifact", &setup.manifest.to_string_lossy(), &registry.reference("shop:release"), "--image", &base, "--compression", "zstd"]);
        data
    })
}

fn recompiler(cache: &Path, args: &[&str]) -> String {
    let out = finish(recompiler_command(cache, args));
    assert!(out.status.success(), "{args:?}: {}", show(&out));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn recompiler_command(cache: &Path, args: &[&str]) -> Command {
    let mut c = Command::new("env");
    c.arg(format!("XDG_CACHE_HOME={}", cache.join("cache").display())).arg(&Setup::get().recompiler).args(args);
    c
}

/// `vkernel run IMAGE` on a host that has nothing.
fn run(host: &Path, image: &str, options: &[&str], key: &Path, program: &[&str]) -> Output {
    let mut c = Command::new(&Setup::get().vkernel);
    c.args(["run", image, "--images"]).arg(host.join("images")).arg("--store").arg(host.join("store")).arg("--key").arg(key);
    c.args(options).arg("--").args(program);
    finish(c)
}

/// How many names a file has is no property of an image, and left out: other tests link the test image's.
const PROGRAM: [&str; 3] = [
    "/bin/bash",
    "-c",
    "ls -l /usr /etc | sort | tail -5 | while read -r mode links rest; do case $mode in total) echo $mode $links;; *) echo $mode $rest;; esac; done; ls / | grep -c vkernel; exit 7",
];

#[test]
fn an_image_in_a_registry_runs_on_a_host_that_never_saw_it() {
    let setup = Setup::get();
    let host = place();
    let registry = Registry::start(storage());
    let expected = finish(setup.vkernel_run(&[], &PROGRAM));
    assert_eq!(expected.status.code(), Some(7), "{}", show(&expected));
    let image = registry.reference("shop:image");
    assert_eq!(show(&run(host.path(), &image, &[], &setup.key, &PROGRAM)), show(&expected));
    drop(registry);
    // Pulled once, it runs without the registry; asked to look, it says what is missing.
    assert_eq!(show(&run(host.path(), &image, &[], &setup.key, &PROGRAM)), show(&expected));
    let refused = run(host.path(), &image, &["--pull", "always"], &setup.key, &PROGRAM);
    assert!(refused.status.code() == Some(125) && show(&refused).contains("can be reached"), "{}", show(&refused));
}

#[test]
fn a_release_beside_its_image_is_found_and_run() {
    let setup = Setup::get();
    let host = place();
    let registry = Registry::start(storage());
    let out = run(host.path(), &registry.reference("shop:release"), &[], &setup.key, &PROGRAM);
    assert_eq!(show(&out), show(&finish(setup.vkernel_run(&[], &PROGRAM))));
}

#[test]
fn a_pulled_release_must_be_signed_by_a_trusted_key() {
    let host = place();
    let registry = Registry::start(storage());
    let other = host.path().join("other.pem");
    recompiler(host.path(), &["keygen", &other.to_string_lossy()]);
    let out = run(host.path(), &registry.reference("shop:image"), &[], &other.with_extension("pub"), &PROGRAM);
    assert_eq!(out.status.code(), Some(125), "{}", show(&out));
    // What was pulled and then changed on disk is refused as well.
    let release =
        fs::read_dir(host.path().join("images/images")).expect("images").map(|e| e.expect("readable").path()).find(|p| p.join("manifest.json").is_file()).expect("a release");
    let wasm = release.join("container.wasm");
    let mut bytes = fs::read(&wasm).expect("readable");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&wasm, bytes).expect("writable");
    let out = run(host.path(), &registry.reference("shop:image"), &[], &Setup::get().key, &PROGRAM);
    assert!(out.status.code() == Some(125) && show(&out).contains("its digest is"), "{}", show(&out));
}

#[test]
fn a_release_built_from_a_registrys_image_runs() {
    let setup = Setup::get();
    let host = place();
    let registry = Registry::start(storage());
    let at = |name: &str| host.path().join(name).to_string_lossy().into_owned();
    recompiler(host.path(), &["keygen", &at("k.pem")]);
    let (wasm, manifest, key, image) = (at("out/c.wasm"), at("out/manifest.json"), at("k.pem"), registry.reference("shop:image"));
    // Whatever was built before is taken from the tests' cache, so only what differs is compiled.
    let cache = setup.manifest.parent().and_then(Path::parent).expect("beside the release").join("cache").to_string_lossy().into_owned();
    let before: Vec<_> = ["images", "blobs"].iter().map(|d| Path::new(&cache).join(d)).filter(|d| !d.exists()).collect();
    let out = recompiler_command(
        host.path(),
        &["--image", &image, "--include", "/usr/bin/true", "/usr/bin/ls", "--key", &key, "--output", &wasm, "--manifest", &manifest, "--cache", &cache],
    )
    .output()
    .expect("it starts");
    before.iter().for_each(|d| drop(fs::remove_dir_all(d)));
    assert!(out.status.success(), "{}", show(&out));
    let mut c = Command::new(&setup.vkernel);
    c.arg("run").arg(&manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(at("k.pub")).arg("--store").arg(at("store")).args(["--", "/usr/bin/ls", "/usr"]);
    let guest = finish(c);
    assert_eq!(show(&guest), show(&finish(setup.vkernel_run(&[], &["/usr/bin/ls", "/usr"]))));
}

/// The tests' root directory is mmdebstrap's; umoci makes an image of it, in two layers.
#[test]
fn an_image_of_mmdebstrap_and_umoci_holds_what_its_root_directory_holds() {
    let setup = Setup::get();
    let host = place();
    let umoci = |args: &[&str]| {
        let mut c = Command::new("umoci");
        c.args(args).current_dir(host.path());
        let out = c.output().expect("umoci is installed");
        assert!(out.status.success(), "{args:?}: {}", show(&out));
    };
    // Programs, libraries and what names them; documents and data are most of it, and nothing that could run.
    let root = host.path().join("root");
    fs::create_dir_all(root.join("usr")).expect("writable");
    let copy = |names: &[&str], to: &Path| {
        let mut c = Command::new("cp");
        c.args(["--archive", "--link"]).args(names.iter().map(|n| setup.rootfs.join(n))).arg(to);
        assert!(finish(c).status.success(), "{names:?}");
    };
    copy(&["bin", "etc", "lib", "lib64", "sbin"], &root);
    copy(&["usr/bin", "usr/sbin", "usr/lib"], &root.join("usr"));
    for large in ["perl", "perl-base", "gconv"] {
        fs::remove_dir_all(root.join("usr/lib/x86_64-linux-gnu").join(large)).expect("the image has it");
    }
    umoci(&["init", "--layout", "lay"]);
    umoci(&["new", "--image", "lay:debian"]);
    umoci(&["insert", "--image", "lay:debian", &root.to_string_lossy(), "/"]);
    fs::write(host.path().join("tool"), "#!/bin/bash\n").expect("writable");
    umoci(&["insert", "--image", "lay:debian", "tool", "/usr/bin/tool"]);
    fs::copy(host.path().join("tool"), root.join("usr/bin/tool")).expect("writable");
    let layout = format!("oci:{}:debian", host.path().join("lay").display());
    let scanned = |from: &[&str]| recompiler(host.path(), &[&["scan"], from, &["--json"]].concat());
    let (of_image, of_root) = (scanned(&["--image", &layout]), scanned(&["--rootfs", &root.to_string_lossy()]));
    assert!(of_image == of_root, "{:?}", of_image.lines().zip(of_root.lines()).find(|(a, b)| a != b));
    let found: serde_json::Value = serde_json::from_str(&of_image).expect("JSON");
    let files = found["files"].as_array().expect("a list");
    for path in ["/usr/bin/bash", "/usr/bin/perl", "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/tool"] {
        assert!(files.iter().any(|f| f["path"] == path), "{path} is not among {} files", files.len());
    }
    assert!(files.iter().any(|f| f["path"] == "/usr/bin/su" || f["path"] == "/usr/bin/passwd"), "setuid programs among them");
}

/// Two machines that share nothing but a registry: the second compiles nothing, and gets the same bytes.
#[test]
fn a_build_takes_what_another_machine_compiled_and_signed() {
    let host = place();
    let data = place();
    let registry = Registry::start(data.path());
    let at = |name: &str| host.path().join(name).to_string_lossy().into_owned();
    fs::create_dir_all(host.path().join("root/bin")).expect("writable");
    for (name, code) in [("one", "mov $60,%eax\n xor %edi,%edi\n syscall"), ("two", "mov $60,%eax\n mov $2,%edi\n syscall")] {
        fs::write(host.path().join("t.s"), format!(".globl _start\n_start: {code}\n.section .note.GNU-stack,\"\",@progbits\n")).expect("writable");
        let gcc = Command::new("gcc").args(["-nostdlib", "-static-pie", "-o", &at(&format!("root/bin/{name}")), &at("t.s")]).status().expect("gcc is installed");
        assert!(gcc.success());
    }
    for key in ["k", "other"] {
        recompiler(host.path(), &["keygen", &at(&format!("{key}.pem"))]);
    }
    let cache = format!("docker://{}", registry.reference("cache:x"));
    let build = |out: &str, include: &[&str], local: &str, more: &[&str]| {
        let (wasm, manifest, key, local, root) = (at(&format!("{out}/c.wasm")), at(&format!("{out}/manifest.json")), at("k.pem"), at(local), at("root"));
        let mut args = vec!["--rootfs", &root, "--key", &key, "--output", &wasm, "--manifest", &manifest, "--cache", &local, "--include"];
        args.extend(include);
        args.extend(more);
        finish(recompiler_command(host.path(), &args))
    };
    let text = |out: &Output| {
        assert!(out.status.success(), "{}", show(out));
        show(out)
    };
    let (trusted, stranger) = (at("k.pub"), at("other.pub"));
    // The first machine has one program; what the second adds is kept beside it.
    let first = text(&build("a", &["/bin/one"], "cache-a", &["--cache-to", &cache]));
    assert!(first.contains("(2 modules compiled now)") && !first.contains("is not used"), "{first}");
    let more = text(&build("b", &["/bin/one", "/bin/two"], "cache-b", &["--cache-from", &cache, "--cache-key", &trusted, "--cache-to", &cache]));
    assert!(more.contains("1 lifted now") && more.contains("(2 modules compiled now)"), "{more}");
    let all = text(&build("c", &["/bin/one", "/bin/two"], "cache-c", &["--cache-from", &cache, "--cache-key", &trusted]));
    assert!(all.contains("0 lifted now") && all.contains("(0 modules compiled now)"), "{all}");
    assert_eq!(fs::read(at("b/manifest.json")).expect("built"), fs::read(at("c/manifest.json")).expect("built"));
    // Another builder's key is not listed: refused, not passed over.
    let refused = build("d", &["/bin/one"], "cache-d", &["--cache-from", &cache, "--cache-key", &stranger]);
    assert!(!refused.status.success() && show(&refused).contains("--cache-key"), "{}", show(&refused));
    // A cache that is not there costs time only.
    drop(registry);
    let slow = build("e", &["/bin/one"], "cache-e", &["--cache-from", &cache, "--cache-key", &trusted]);
    assert!(text(&slow).contains("is not used") && text(&slow).contains("(2 modules compiled now)"), "{}", show(&slow));
}
