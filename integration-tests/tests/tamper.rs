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
