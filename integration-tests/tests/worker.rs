//! A running worker as the host sees it: what its code is mapped from, what it holds, what it can reach (07, S3, S4, S7).

use integration_tests::{Running, Setup, finish, show};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A guest that waits for a line, and the host's pid of its first process.
fn waiting(setup: &Setup, options: &[&str]) -> (Running, u32) {
    let mut run = Running::start(setup.vkernel_run(options, &["/bin/bash", "-c", "echo ready; read x; echo went on $x"]));
    run.expect("ready\n");
    let pid = run.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    let init = children.split_whitespace().next().expect("the supervisor has one child").parse().expect("a pid");
    (run, init)
}

fn goes_on(mut run: Running) {
    use std::io::Write;
    run.child.stdin.take().expect("piped").write_all(b"well\n").expect("the guest reads");
    run.expect("went on well\n");
    assert_eq!(run.wait(), 0);
}

/// Permissions and name of each mapping.
fn maps(pid: u32) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root reads it");
    let line = |l: &str| {
        let mut fields = l.splitn(6, ' ');
        let permissions = fields.nth(1).expect("permissions").to_owned();
        (permissions, fields.last().unwrap_or_default().trim().to_owned())
    };
    text.lines().map(line).collect()
}

fn executable(maps: &[(String, String)]) -> BTreeSet<String> {
    maps.iter().filter(|(p, _)| p.contains('x')).map(|(_, name)| name.clone()).collect()
}

#[test]
fn all_code_is_mapped_before_lock_down_from_files_that_only_host_root_can_change() {
    let setup = Setup::get();
    let (run, pid) = waiting(&setup, &[]);
    let maps = maps(pid);
    assert!(maps.iter().all(|(p, _)| !(p.contains('w') && p.contains('x'))), "writable code: {maps:?}");
    let own = executable(&self::maps(run.child.id()));
    let store: Vec<PathBuf> = executable(&maps).into_iter().filter(|n| !own.contains(n)).map(PathBuf::from).collect();
    assert_eq!(store.len(), 1, "one file holds all code: {store:?}");
    let shared = maps.iter().filter(|(p, n)| Path::new(n) == store[0] && !p.ends_with('s')).count();
    assert_eq!(shared, 0, "private mappings of code can be changed through /proc/self/mem: {maps:?}");
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root reads it");
    let code = text.lines().find(|l| l.contains(" r-x") && l.ends_with(&*store[0].to_string_lossy())).expect("mapped");
    let number = |field: &str| u64::from_str_radix(field, 16).expect("a number");
    let fields: Vec<&str> = code.split_whitespace().collect();
    let (start, offset) = (number(fields[0].split('-').next().expect("a range")), number(fields[2]));
    assert!(start.is_multiple_of(2 << 20) && offset.is_multiple_of(2 << 20), "huge pages need both aligned: {code}");
    for path in &store {
        let meta = fs::metadata(path).unwrap_or_else(|e| panic!("{} is executable in the worker: {e}", path.display()));
        assert!(meta.is_file() && meta.uid() == 0 && meta.mode() & 0o222 == 0 && meta.nlink() == 1, "{}: {meta:?}", path.display());
        let dir = fs::metadata(path.parent().expect("in the store")).expect("readable");
        assert!(dir.uid() == 0 && dir.mode() & 0o077 == 0, "{dir:?}");
        assert!(!Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").expect("absolute")).exists(), "the guest has a path to {}", path.display());
    }
    goes_on(run);
}

#[test]
fn a_worker_holds_no_descriptor_but_the_guests_own() {
    let (run, pid) = waiting(&Setup::get(), &[]);
    let held: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd")).expect("root reads it").map(|e| e.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(held, ["0", "1", "2"].map(str::to_owned).into());
    goes_on(run);
}

#[test]
fn no_guest_gets_to_write_the_store() {
    let mut setup = Setup::get();
    let dir = tempfile::tempdir_in(setup.rootfs.parent().expect("the image has a parent")).expect("a directory can be made");
    let root = dir.path().join("rootfs");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&root).status().expect("cp runs").success());
    setup.rootfs = root.clone();
    let store = root.join("store");
    let store = store.to_string_lossy();
    let volume = |options: &str| format!("{}:/mnt{options}", dir.path().display());
    for options in [["--writable", "--store", &store].as_slice(), &["-v", &volume(""), "--store", &store], &["-v", &format!("{store}:/mnt"), "--store", &store]] {
        let out = finish(setup.vkernel_run(options, &["/usr/bin/true"]));
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(125) && text.contains("the guest's to write") && text.contains("mount it read-only"), "{options:?}: {}", show(&out));
    }
    // Where the guest cannot write, it may lie anywhere.
    for options in [["--store", &store].as_slice(), &["-v", &volume(":ro"), "--store", &store]] {
        let (run, pid) = waiting(&setup, options);
        assert!(executable(&maps(pid)).iter().any(|n| n.starts_with(&*store)), "its code is the store's");
        goes_on(run);
    }
}
