//! What was changed after signing does not run. Every refusal has a twin that differs in one byte and runs.

use integration_tests::{Setup, finish, show};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A private copy of what a test wants to change.
struct Copy {
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Copy {
    /// A root directory that shares all files with the test image by hard links, except those a test replaces.
    fn of_rootfs() -> Copy {
        let mut setup = Setup::get();
        let parent = setup.rootfs.parent().expect("the rootfs has a parent").to_path_buf();
        let dir = tempfile::tempdir_in(parent).expect("a directory can be made");
        let root = dir.path().join("rootfs");
        assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&root).status().expect("cp runs").success());
        setup.rootfs = root;
        Copy { dir, setup }
    }

    fn replace(&self, path: &str, content: &[u8]) {
        let at = self.setup.rootfs.join(path);
        let _ = fs::remove_file(&at);
        fs::write(&at, content).expect("the copy is writable");
        assert!(Command::new("chmod").arg("755").arg(&at).status().expect("chmod runs").success());
    }

    fn audit(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    fn run(&self, program: &[&str]) -> (std::process::Output, String) {
        let audit = self.audit();
        let out = finish(self.setup.vkernel_run(&["--audit", &audit.to_string_lossy()], program));
        (out, fs::read_to_string(audit).unwrap_or_default())
    }
}

#[test]
fn refuses_a_program_with_one_byte_changed_and_runs_the_unchanged_one() {
    let copy = Copy::of_rootfs();
    let mut bytes = fs::read(copy.setup.rootfs.join("usr/bin/ls")).expect("ls is readable");
    copy.replace("usr/bin/ls", &bytes);
    let (out, _) = copy.run(&["/usr/bin/ls", "/"]);
    assert!(out.status.success(), "{}", show(&out));
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    copy.replace("usr/bin/ls", &bytes);
    let (out, audit) = copy.run(&["/usr/bin/ls", "/"]);
    assert_eq!(out.status.code(), Some(126), "{}", show(&out));
    assert!(audit.lines().any(|l| l.contains("unknown-hash") && l.contains("/usr/bin/ls")), "{audit}");
}

#[test]
fn refuses_a_program_copied_in_after_the_build() {
    let copy = Copy::of_rootfs();
    // A Debian program that the manifest does not list.
    let bytes = fs::read(copy.setup.rootfs.join("usr/bin/dpkg-query")).expect("the image has it");
    copy.replace("usr/bin/intruder", &bytes);
    let (out, audit) = copy.run(&["/bin/bash", "-c", "/usr/bin/intruder; echo $?"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("126"), "{}", show(&out));
    assert!(audit.lines().any(|l| l.contains("intruder") && l.contains("denied")), "{audit}");
}

#[test]
fn refuses_a_library_with_one_byte_changed() {
    let copy = Copy::of_rootfs();
    let path = "usr/lib/x86_64-linux-gnu/libselinux.so.1";
    let mut bytes = fs::read(copy.setup.rootfs.join(path)).expect("the library is readable");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    copy.replace(path, &bytes);
    let (out, _) = copy.run(&["/usr/bin/ls", "/"]);
    assert!(!out.status.success(), "{}", show(&out));
}

/// Changes one byte of a file of the release and expects both `verify` and `run` to refuse.
fn refused_release(file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut setup = Setup::get();
    let release = setup.manifest.parent().expect("the manifest has a directory").to_path_buf();
    let dir = tempfile::tempdir_in(release.parent().expect("in target")).expect("a directory can be made");
    let copy = dir.path().join("release");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&release).arg(&copy).status().expect("cp runs").success());
    let target =
        if file == "aot" { fs::read_dir(walk(&copy.join("aot"))).expect("native code is there").next().expect("a file").expect("readable").path() } else { copy.join(file) };
    let mut bytes = fs::read(&target).expect("readable");
    change(&mut bytes);
    fs::remove_file(&target).expect("in the copy");
    fs::write(&target, bytes).expect("writable");
    setup.manifest = copy.join("manifest.json");
    let mut verify = Command::new(&setup.vkernel);
    verify.arg("verify").arg(&setup.manifest).arg("--key").arg(&setup.key);
    let out = finish(verify);
    assert_eq!(out.status.code(), Some(1), "{}", show(&out));
    let out = finish(setup.vkernel_run(&[], &["/usr/bin/true"]));
    assert_eq!(out.status.code(), Some(125), "{}", show(&out));
}

/// The innermost directory of `aot/<triple>/`.
fn walk(dir: &std::path::Path) -> PathBuf {
    let first = fs::read_dir(dir).expect("a directory").next().expect("not empty").expect("readable").path();
    if first.is_dir() { walk(&first) } else { dir.to_path_buf() }
}

#[test]
fn refuses_a_manifest_with_one_byte_flipped() {
    refused_release("manifest.json", |b| {
        let at = b.windows(7).position(|w| w == b"\"size\":").expect("sizes are listed") + 7;
        b[at] ^= 1;
    });
}

#[test]
fn refuses_native_code_changed_after_signing() {
    refused_release("aot", |b| {
        let at = b.len() / 2;
        b[at] ^= 1;
    });
}

#[test]
fn the_unchanged_release_verifies() {
    let setup = Setup::get();
    let mut verify = Command::new(&setup.vkernel);
    verify.arg("verify").arg(&setup.manifest).arg("--key").arg(&setup.key);
    let out = finish(verify);
    assert!(out.status.success(), "{}", show(&out));
}

/// Two releases that differ in their serial only, validly signed: the older one is refused once the newer one has run.
#[test]
fn refuses_an_older_release_after_a_newer_one_ran() {
    let setup = Setup::get();
    let release = setup.manifest.parent().expect("the manifest has a directory");
    let dir = tempfile::tempdir_in(release.parent().expect("in target")).expect("a directory can be made");
    let at = |name: &str| dir.path().join(name);
    let copy = |from: &std::path::Path, to: &std::path::Path| assert!(Command::new("cp").args(["--archive", "--link"]).arg(from).arg(to).status().expect("cp runs").success());
    copy(release, &at("old"));
    copy(release, &at("new"));
    let recompiler = |args: &[&str]| {
        let mut c = Command::new("sh");
        c.args(["-c", "cd \"$0\" && exec \"$@\""]).arg(dir.path()).arg(&setup.recompiler).args(args);
        let out = finish(c);
        assert!(out.status.success(), "{}", show(&out));
    };
    recompiler(&["keygen", "k.pem"]);
    for (name, serial) in [("old", 1), ("new", 2)] {
        let path = at(name).join("manifest.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
        manifest["serial"] = serial.into();
        manifest["name"] = "test/replay".into();
        fs::remove_file(&path).expect("in the copy");
        fs::write(&path, manifest.to_string()).expect("writable");
        recompiler(&["sign", &path.to_string_lossy(), "--key", "k.pem"]);
    }
    let run = |name: &str, options: &[&str]| {
        let audit = at("audit.jsonl");
        let _ = fs::remove_file(&audit);
        let mut c = Command::new(&setup.vkernel);
        c.arg("run").arg(at(name).join("manifest.json")).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(at("k.pub")).arg("--serials").arg(at("serials"));
        c.arg("--audit").arg(&audit).args(options).args(["--", "/usr/bin/true"]);
        let out = finish(c);
        (out.status.code(), show(&out), fs::read_to_string(audit).unwrap_or_default())
    };
    for (name, options, code) in [("old", &[][..], 0), ("new", &[], 0), ("new", &["--pin", "test/replay"], 0)] {
        let (status, text, _) = run(name, options);
        assert_eq!(status, Some(code), "{text}");
    }
    let (status, text, audit) = run("old", &[]);
    assert!(status == Some(125) && text.contains("this host has run serial 2"), "{text}");
    assert!(audit.lines().any(|l| l.contains("replayed") && l.contains("denied")), "{audit}");
    let (status, text, audit) = run("old", &["--allow-rollback"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(audit.lines().any(|l| l.contains("\"rollback\"")), "{audit}");
    let (status, text, audit) = run("new", &["--pin", "test/other"]);
    assert!(status == Some(125) && text.contains("--pin") && audit.contains("not-pinned"), "{text}");
}
