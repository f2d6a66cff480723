//! `report`, `--min-coverage` and what the manifest says of system calls, the latter against what programs of this machine do natively, under strace. What they do under vkernel is compared in `integration-tests/tests/analysed.rs`.
//!
//! The fact a newcomer gets wrong: a test that only looks for missing calls passes if the lists hold everything, so each program also has calls that must *not* be in its list.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(args: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recompiler-build"));
    command.args(args).current_dir(directory).env("XDG_CACHE_HOME", directory.join("cache")).output().unwrap()
}

fn report(rootfs: &str, include: &[&str], extra: &[&str], directory: &Path) -> Output {
    run(&[&["report", "--rootfs", rootfs, "--include"], include, extra].concat(), directory)
}

fn names(list: &Value) -> BTreeSet<String> {
    let all = ["proved", "possible"].into_iter().flat_map(|key| list[key].as_array().unwrap());
    all.map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// The calls a program makes natively, in its children too. The first one is strace's own `execve`.
fn used(program: &[&str], directory: &Path) -> BTreeSet<String> {
    let log = directory.join("strace.log");
    let done = Command::new("strace").args(["-f", "-o"]).arg(&log).args(program).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").output();
    assert!(done.expect("strace is installed").status.success(), "{program:?}");
    let text = fs::read_to_string(log).unwrap();
    let name = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let (name, _) = call.split_once('(')?;
        name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_').then(|| name.to_owned())
    };
    text.lines().skip(1).filter_map(name).collect()
}

fn missing<'a>(used: &'a BTreeSet<String>, listed: &'a BTreeSet<String>) -> Vec<&'a String> {
    used.difference(listed).collect()
}

#[test]
fn nothing_a_run_uses_is_missing_from_the_list_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    // Numeric owners: names would make libc open modules that no file names.
    let programs: [&[&str]; 5] = [
        &["/usr/bin/ls", "-lnR", "/etc/apt", "/usr/share/doc/bash"],
        &["/usr/bin/cat", "/etc/passwd"],
        &["/usr/bin/wc", "/etc/passwd"],
        &["/usr/bin/sort", "-r", "/etc/passwd"],
        &["/usr/bin/bash", "-c", "x=$(echo a; pwd); (exit 3); echo $? $x; cd /; kill -0 $$; ulimit -n; read a < /etc/passwd; umask"],
    ];
    let include: Vec<&str> = programs.iter().map(|p| p[0]).collect();
    let out = report("/", &include, &["--json"], dir.path());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut exact = 0;
    for program in programs {
        let used = used(program, dir.path());
        assert!(used.len() > 8 && used.contains("exit_group"), "{program:?}: {used:?}");
        let all = json["programs"].as_array().unwrap();
        let s = &all.iter().find(|p| p["path"].as_str() == Some(program[0])).unwrap_or_else(|| panic!("{} is not in the report", program[0]))["syscalls"];
        let (linked, reachable) = (names(&s["linked"]), names(&s["reachable"]));
        // Places that are not known excuse nothing: what these runs do is in the lists.
        assert!(missing(&used, &linked).is_empty(), "{program:?} uses {:?}", missing(&used, &linked));
        assert!(missing(&used, &reachable).is_empty(), "{program:?} uses {:?}", missing(&used, &reachable));
        let bounded = s["reachable"]["unknown_sites"] == 0 && s["opens_objects"] == false;
        // The comparison can fail: a list without one of the calls is seen to lack it.
        let without: BTreeSet<String> = reachable.iter().filter(|n| *n != "exit_group").cloned().collect();
        assert_eq!(missing(&used, &without), ["exit_group"]);
        if bounded {
            exact += 1;
            for never in ["init_module", "ptrace", "reboot", "swapon"] {
                assert!(!reachable.contains(never) && linked.contains(never), "{program:?}: {never} is in libc, and nothing leads there");
            }
        }
    }
    assert_eq!(exact, 3, "all but bash, which loads builtins, and sort, whose libcrypto loads engines");
}

/// `_start` with a gap (`mov ss, edi`) behind a condition.
const GAP: &str = ".globl _start\n.type _start,@function\n_start:\n .cfi_startproc\n cmp $9,%edi\n jne 1f\n mov %edi,%ss\n1: mov $60,%eax\n syscall\n .cfi_endproc\n.section .note.GNU-stack,\"\",@progbits\n";

fn image(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("p.s"), text).unwrap();
    let made = Command::new("gcc").args(["-nostdlib", "-static-pie", "-o", "root/p", "p.s"]).current_dir(dir.path()).status();
    assert!(made.expect("gcc is installed").success());
    dir
}

#[test]
fn the_report_names_gaps_and_gated_code_and_sets_no_colour_in_a_pipe() {
    let dir = image(&GAP.replace("1: mov", " vzeroall\n1: mov"));
    let out = report("root", &["/p"], &["--gaps"], dir.path());
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && !text.contains('\x1b'), "{text}");
    assert!(text.contains("executes: 1 instructions of 1 mnemonics") && text.contains("mov ss,edi"), "{text}");
    assert!(text.contains("not shown: 1 instructions of 1 mnemonics") && text.contains("vzeroall"), "{text}");
}

#[test]
fn a_limit_that_a_file_does_not_reach_fails_before_anything_is_compiled() {
    let bad = image(GAP);
    let good = image(&GAP.replace(" mov %edi,%ss\n", " mov %edi,%ecx\n"));
    let build = |dir: &Path| run(&["--rootfs", "root", "--include", "/p", "--output", "out/c.wasm", "--manifest", "out/m.json", "--min-coverage", "100"], dir);
    for done in [build(bad.path()), report("root", &["/p"], &["--min-coverage", "100"], bad.path())] {
        let text = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{text}");
        assert!(text.starts_with("recompiler-build: coverage is below 100 % in /p (8") && text.lines().count() == 1, "{text}");
    }
    assert!(!bad.path().join("out/m.json").exists() && !bad.path().join("cache/vkernel/aot").exists());
    assert!(report("root", &["/p"], &["--min-coverage", "80"], bad.path()).status.success());
    assert!(!report("root", &["/p"], &["--min-coverage", "101"], bad.path()).status.success());
    assert!(report("root", &["/p"], &["--min-coverage", "100"], good.path()).status.success());
    let done = build(good.path());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let manifest: Value = serde_json::from_slice(&fs::read(good.path().join("out/m.json")).unwrap()).unwrap();
    let row = manifest["binaries"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&row["coverage"]["lifted_bytes"], &row["coverage"]["syscalls"]["proved"]), (&row["coverage"]["code_bytes"], &serde_json::json!(["exit"])));
    assert_eq!(row["syscalls"]["reachable"], row["coverage"]["syscalls"]);
}
