//! Bad input of `vkernel`: one line that says what, why and what to do; exit code 125; nothing left behind.

use integration_tests::{Setup, finish, install, show};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the release that a test may change, with a store of its own.
struct Release {
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Release {
    fn copy() -> Release {
        let mut setup = Setup::get();
        let release = setup.manifest.parent().expect("the manifest has a directory").to_path_buf();
        let dir = tempfile::tempdir_in(release.parent().expect("in target")).expect("a directory can be made");
        let copy = dir.path().join("release");
        assert!(Command::new("cp").args(["--archive", "--link"]).arg(&release).arg(&copy).status().expect("cp runs").success());
        setup.manifest = copy.join("manifest.json");
        Release { dir, setup }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn command(&self, options: &[&str]) -> Command {
        let store = self.store().to_string_lossy().into_owned();
        self.setup.vkernel_run(&[&["--store", &store], options].concat(), &["/usr/bin/true"])
    }

    /// Changes the manifest and signs it again.
    fn edit(&self, change: impl FnOnce(&mut serde_json::Value)) {
        let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&self.setup.manifest).expect("readable")).expect("JSON");
        value.as_object_mut().expect("an object").remove("signatures");
        change(&mut value);
        self.put("manifest.json", &serde_json::to_vec(&value).expect("JSON"));
        // Nobody built what comes out.
        let _ = fs::remove_file(self.path("manifest.provenance.json"));
        let mut sign = Command::new(&self.setup.recompiler);
        sign.arg("sign").arg(&self.setup.manifest).arg("--key").arg(self.setup.key.with_extension("key"));
        let out = finish(sign);
        assert!(out.status.success(), "{}", show(&out));
    }

    /// Replaces a file; the original is shared with the release.
    fn put(&self, file: &str, bytes: &[u8]) {
        let path = self.path(file);
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, bytes).expect("writable");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("release").join(file)
    }

    fn artifact(&self, form: &str) -> String {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(&self.setup.manifest).expect("readable")).expect("JSON");
        let found = value["artifacts"].as_array().expect("a list").iter().find(|a| a["form"] == form).expect("one of the form");
        found["file"].as_str().expect("a name").to_owned()
    }

    /// Expects `command` to refuse with one line that holds all of `says`, and nothing to be left.
    fn refused(&self, command: Command, says: &[&str]) {
        refused(command, says);
        let halves = fs::read_dir(self.store()).into_iter().flatten().flatten().filter(|e| e.file_name().to_string_lossy().starts_with('.')).count();
        assert_eq!(halves, 0, "half-written files are left in the store");
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("/proc is there")
}

fn refused(command: Command, says: &[&str]) {
    let before = mounts();
    let out = finish(command);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(125), "{}", show(&out));
    assert_eq!((text.lines().count(), out.stdout.len()), (1, 0), "{}", show(&out));
    assert!(text.starts_with("vkernel: ") && text.matches(": ").count() >= 2, "what, why and what to do: {text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert_eq!(mounts(), before);
}

#[test]
fn the_unchanged_copy_runs() {
    let release = Release::copy();
    let out = finish(release.command(&[]));
    assert!(out.status.success(), "{}", show(&out));
}

#[test]
fn a_manifest_that_is_missing_a_directory_or_no_manifest() {
    let mut release = Release::copy();
    let good = release.setup.manifest.clone();
    release.setup.manifest = good.with_file_name("none.json");
    release.refused(release.command(&[]), &["none.json", "No such file", "name the manifest.json"]);
    release.setup.manifest = good.parent().expect("it has one").to_path_buf();
    release.refused(release.command(&[]), &["Is a directory", "name the manifest.json"]);
    release.setup.manifest = good;
    release.put("manifest.json", b"{\"binaries\":");
    release.refused(release.command(&[]), &["manifest.json"]);
}

#[test]
fn keys_that_are_missing_or_none() {
    let mut release = Release::copy();
    let good = release.setup.key.clone();
    release.setup.key = good.with_file_name("none.pub");
    release.refused(release.command(&[]), &["none.pub", "No such file"]);
    release.setup.key = release.path("manifest.json");
    release.refused(release.command(&[]), &["manifest.json"]);
}

#[test]
fn an_artifact_that_is_missing_a_directory_or_truncated() {
    let release = Release::copy();
    for form in ["structured", "resumable"] {
        let file = release.artifact(form);
        let bytes = fs::read(release.path(&file)).expect("readable");
        release.put(&file, &bytes[..bytes.len() / 2]);
        release.refused(release.command(&[]), &[&file, "its digest is", "rebuild, or fetch"]);
        fs::remove_file(release.path(&file)).expect("in the copy");
        release.refused(release.command(&[]), &[&file, "No such file", "keep the files of a build together"]);
        fs::create_dir(release.path(&file)).expect("in the copy");
        release.refused(release.command(&[]), &[&file, "Is a directory"]);
        fs::remove_dir(release.path(&file)).expect("in the copy");
        fs::write(release.path(&file), &bytes).expect("in the copy");
    }
    let out = finish(release.command(&[]));
    assert!(out.status.success(), "{}", show(&out));
}

#[test]
fn an_artifact_that_was_signed_truncated_or_is_no_artifact() {
    for form in ["structured", "resumable"] {
        for keep in [0, 10, 4096, 20_000] {
            let release = Release::copy();
            let file = release.artifact(form);
            let bytes = fs::read(release.path(&file)).expect("readable");
            let content = if keep == 0 { b"#!/bin/sh\n".to_vec() } else { bytes[..keep.min(bytes.len() / 2)].to_vec() };
            release.put(&file, &content);
            let digest = finish({
                let mut sum = Command::new("sha256sum");
                sum.arg(release.path(&file));
                sum
            });
            let digest = format!("sha256:{}", String::from_utf8_lossy(&digest.stdout).split_whitespace().next().expect("a digest"));
            release.edit(|m| {
                let row = m["artifacts"].as_array_mut().expect("a list").iter_mut().find(|a| a["file"] == *file).expect("the row");
                row["digest"] = digest.into();
            });
            release.refused(release.command(&[]), &["load container", "rebuild"]);
        }
    }
}

#[test]
fn an_artifact_for_another_engine_or_cpu() {
    let release = Release::copy();
    release.edit(|m| m["artifacts"][0]["engine"] = "wasmer 9.9.9 llvm 22.1".into());
    release.refused(release.command(&[]), &["made for wasmer 9.9.9 llvm 22.1, this is wasmer 7", "rebuild with this release's recompiler-build"]);
    let release = Release::copy();
    release.edit(|m| m["artifacts"][0]["cpu_features"].as_array_mut().expect("a list").push("zz-quantum".into()));
    release.refused(release.command(&[]), &["needs the CPU feature zz-quantum", "run it on a CPU that has it"]);
    let release = Release::copy();
    release.edit(|m| m["artifacts"].as_array_mut().expect("a list").iter_mut().for_each(|a| a["target"] = "aarch64-unknown-linux-gnu".into()));
    release.refused(release.command(&[]), &["native code", "for aarch64-unknown-linux-gnu, this is x86_64-unknown-linux-gnu", "rebuild with --target x86_64-unknown-linux-gnu"]);
}

#[test]
fn options_that_name_nothing() {
    let mut release = Release::copy();
    release.refused(release.command(&["--user", "nobody-here"]), &["nobody-here", "not in the container", "use a number or a name"]);
    release.refused(release.command(&["--audit", "/nowhere/audit.jsonl"]), &["/nowhere/audit.jsonl", "name a writable file"]);
    release.refused(release.command(&["--network", "host"]), &["the manifest allows none", "sign a manifest that allows it"]);
    release.setup.rootfs = release.path("no-rootfs");
    release.refused(release.command(&[]), &["no-rootfs", "--rootfs DIR"]);
    release.setup.rootfs = release.path("manifest.json");
    release.refused(release.command(&[]), &["manifest.json", "--rootfs DIR"]);
}

#[test]
fn a_store_that_others_may_write() {
    let release = Release::copy();
    fs::create_dir(release.store()).expect("a directory can be made");
    fs::set_permissions(release.store(), fs::Permissions::from_mode(0o777)).expect("ours");
    release.refused(release.command(&[]), &["others than root", "chmod 700"]);
}

#[test]
fn what_is_remembered_of_a_manifest_is_of_those_bytes_alone() {
    let mut release = Release::copy();
    let runs = |release: &Release| {
        let out = finish(release.command(&[]));
        assert!(out.status.success(), "{}", show(&out));
        let entries = fs::read_dir(release.store()).expect("made").map(|e| e.expect("readable").path());
        let memories: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "manifest")).collect();
        assert_eq!(memories.len(), 1, "{memories:?}");
        let bytes = fs::read(&memories[0]).expect("readable");
        (memories[0].clone(), bytes)
    };
    let (path, memory) = runs(&release);
    let made = fs::metadata(&path).expect("it is there").ino();
    assert_eq!((runs(&release).1, fs::metadata(&path).expect("it is there").ino()), (memory.clone(), made), "it is used, not made again");
    for damaged in [&b""[..], &memory[..memory.len() / 2], b"{}"] {
        fs::remove_file(&path).expect("it is there");
        fs::write(&path, damaged).expect("writable");
        assert_eq!(runs(&release).1, memory, "it is made again");
    }
    let repaired = fs::metadata(&path).expect("it is there").ino();
    let manifest = fs::read(&release.setup.manifest).expect("readable");
    let name = String::from_utf8_lossy(&manifest).find("/usr/bin/").expect("programs");
    let mut other = manifest.clone();
    other[name + 1] ^= 1;
    release.put("manifest.json", &other);
    release.refused(release.command(&[]), &["manifest", "no trusted key fits"]);
    release.put("manifest.json", &manifest);
    assert_eq!(runs(&release).1, memory);
    assert_eq!(fs::metadata(&path).expect("it is there").ino(), repaired, "nor was one made for bytes that nobody signed");
    // Whom to believe is asked anew.
    let key = release.dir.path().join("stranger.key");
    let mut keygen = Command::new(&release.setup.recompiler);
    keygen.arg("keygen").arg(&key);
    assert!(finish(keygen).status.success());
    release.setup.key = key.with_extension("pub");
    release.refused(release.command(&[]), &["no trusted key fits"]);
}

/// A copy of the program that everybody may execute.
fn for_everybody(program: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = dir.path().join("vkernel");
    install(program, &copy);
    (dir, copy)
}

#[test]
fn a_caller_who_is_not_root() {
    let mut setup = Setup::get();
    let (_dir, copy) = for_everybody(&setup.vkernel);
    setup.vkernel = copy;
    let mut command = setup.vkernel_run(&[], &["/usr/bin/true"]);
    command.uid(65534).gid(65534).current_dir("/");
    // `timeout` would start the program as root again.
    let out = command.output().expect("it starts");
    assert_eq!(out.status.code(), Some(125), "{}", show(&out));
    assert_eq!(String::from_utf8_lossy(&out.stderr), "vkernel: this host: not running as root: use sudo\n");
}

/// Lets the kernel answer ENOSYS to one syscall for the program started by `command`, as a kernel without it would.
fn without(command: &mut Command, nr: i64) {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let ld = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let program = [
        op(ld, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, nr as u32),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: two system calls, both safe after fork; the kernel copies the program.
    unsafe {
        command.pre_exec(move || {
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    };
}

#[test]
fn a_kernel_that_lacks_a_required_feature_is_told_which() {
    let setup = Setup::get();
    for (nr, feature) in
        [(libc::SYS_pidfd_getfd, "pidfd_getfd(2)"), (libc::SYS_openat2, "openat2(2)"), (libc::SYS_close_range, "close_range(2)"), (libc::SYS_seccomp, "seccomp user notification")]
    {
        let mut run = setup.vkernel_run(&[], &["/usr/bin/true"]);
        without(&mut run, nr);
        let out = run.output().expect("it starts");
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), text.lines().count()), (Some(125), 1), "{}", show(&out));
        assert!(text.contains(&format!("lacks {feature}")) && text.contains("vkernel check") && text.contains("6.1"), "{text}");
        let mut check = Command::new(&setup.vkernel);
        check.arg("check");
        without(&mut check, nr);
        let out = check.output().expect("it starts");
        let table = String::from_utf8_lossy(&out.stdout).into_owned();
        let row = table.lines().find(|l| l.starts_with(feature)).unwrap_or_else(|| panic!("no row {feature}: {table}"));
        assert!(row.contains("MISSING") && row.contains("vkernel does not run"), "{row}");
        assert_eq!(out.status.code(), Some(1));
    }
}

#[test]
fn a_kernel_that_lacks_an_optional_feature_runs_and_the_table_names_the_cover() {
    let setup = Setup::get();
    let mut run = setup.vkernel_run(&[], &["/bin/bash", "-c", "ls /usr > /dev/null && echo fine"]);
    without(&mut run, libc::SYS_landlock_create_ruleset);
    let out = run.output().expect("it starts");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "fine\n", "{}", show(&out));
    let mut check = Command::new(&setup.vkernel);
    check.arg("check");
    without(&mut check, libc::SYS_landlock_create_ruleset);
    let out = check.output().expect("it starts");
    let table = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(table.lines().any(|l| l.starts_with("Landlock") && l.contains("MISSING") && l.contains("the notify filter")), "{table}");
    assert_eq!(out.status.code(), Some(0));
    let mut check = Command::new(&setup.vkernel);
    check.arg("check");
    assert!(!String::from_utf8_lossy(&finish(check).stdout).lines().any(|l| l.starts_with("Landlock") && l.contains("MISSING")));
}
