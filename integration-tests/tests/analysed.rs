//! What the analysis says of programs' system calls against what they make: told by `--strace`, and enforced in a release whose lists come from code.
//!
//! The fact a newcomer gets wrong: a program without a bound (bash, whatever has threads) is compared, too. What is not known of it are single places; nothing that these programs did was missing so far, hence there is no list of exceptions.

use integration_tests::tiny::Image;
use integration_tests::{Setup, finish, show};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

/// All programs that a command runs, and the command.
type Case = (&'static [&'static str], &'static [&'static str]);

macro_rules! twin {
    ($name:literal) => {
        (&[concat!("/usr/local/lib/twins/", $name)], &[concat!("/usr/local/lib/twins/", $name)])
    };
}

const FILES: &str = "cd /tmp && mkdir -p d/e && echo text > d/e/f && cp d/e/f d/g && mv d/g d/h && ln -s h d/l && cat d/l && chmod 640 d/h && stat -c '%a %s' d/h && sed -i s/x/y/ d/h && cat d/h && rm -r d && ls";
const SHELL: &str = "x=$(echo a; pwd); (exit 3); echo $? $x; cd /; kill -0 $$; ulimit -n; read a < /etc/passwd; umask; trap 'echo t' USR1; kill -USR1 $$; seq 9 | sort -r | wc -l";

const CASES: &[Case] = &[
    (&["/usr/bin/ls"], &["/usr/bin/ls", "-lR", "/etc"]),
    (&["/usr/bin/cat"], &["/usr/bin/cat", "/etc/passwd"]),
    (&["/usr/bin/wc"], &["/usr/bin/wc", "/etc/passwd", "/etc/group"]),
    (&["/usr/bin/sed"], &["/usr/bin/sed", "-n", "s/root/R/p", "/etc/passwd"]),
    (&["/usr/bin/grep"], &["/usr/bin/grep", "-rc", "root", "/etc"]),
    (&["/usr/bin/id"], &["/usr/bin/id"]),
    (&["/usr/bin/sort"], &["/usr/bin/sort", "-r", "--parallel=2", "/etc/passwd"]),
    (&["/usr/bin/env", "/usr/bin/printf"], &["/usr/bin/env", "/usr/bin/printf", "%d\n", "7"]),
    (&["/usr/bin/bash", "/usr/bin/seq", "/usr/bin/sort", "/usr/bin/wc"], &["/usr/bin/bash", "-c", SHELL]),
    (&["bash", "mkdir", "cp", "mv", "ln", "cat", "chmod", "stat", "sed", "rm", "ls"], &["/usr/bin/bash", "-c", FILES]),
    twin!("threads_and_mutexes"),
    twin!("fork_in_threads"),
    twin!("signal_frames"),
    twin!("restart"),
    twin!("children"),
    twin!("vsyscall"),
    twin!("system_info"),
];

/// Programs of the cases that have a bound: no place is unknown, and they open no more objects.
const BOUNDED: &[&str] = &[
    "ls",
    "cat",
    "wc",
    "sed",
    "grep",
    "id",
    "env",
    "printf",
    "seq",
    "mkdir",
    "cp",
    "mv",
    "ln",
    "chmod",
    "stat",
    "rm",
    "signal_frames",
    "restart",
    "children",
    "vsyscall",
    "system_info",
];

fn name(path: &str) -> &str {
    path.rsplit('/').next().expect("a part")
}

/// The digest and row of a program, by the last part of its path.
fn row<'a>(manifest: &'a Value, program: &str) -> (&'a String, &'a Value) {
    let all = manifest["binaries"].as_object().expect("a map");
    all.iter().find(|(_, b)| b["path"].as_str().is_some_and(|p| name(p) == name(program))).unwrap_or_else(|| panic!("{program} is not in the release"))
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().map(|n| n.as_str().expect("a name").to_owned()).collect()
}

/// What its code can make: proved and possible.
fn known(row: &Value) -> BTreeSet<String> {
    let reachable = &row["syscalls"]["reachable"];
    names(&reachable["proved"]).union(&names(&reachable["possible"])).cloned().collect()
}

fn is_bounded(row: &Value) -> bool {
    row["syscalls"]["reachable"]["unknown_sites"] == 0 && row["syscalls"]["opens_objects"] == false
}

/// The calls of a run with `--strace`; a number that Linux has no call for is called as in the manifest.
fn used(out: &Output) -> BTreeSet<String> {
    let call = |line: &str| {
        let (name, _) = line.split_once('(').filter(|_| line.contains(" = ")).unwrap_or_else(|| panic!("no line of a trace: {line}"));
        name.strip_prefix("syscall_0x").map_or_else(|| name.to_owned(), |hex| format!("number_{}", u32::from_str_radix(hex, 16).expect("a number")))
    };
    String::from_utf8_lossy(&out.stderr).lines().filter(|l| !l.starts_with("--- ")).map(call).collect()
}

#[test]
fn no_program_makes_a_call_that_the_manifest_does_not_know_of_it() {
    let setup = Setup::get();
    let manifest: Value = serde_json::from_slice(&fs::read(&setup.manifest).expect("readable")).expect("JSON");
    for (programs, command) in CASES {
        let out = finish(setup.vkernel_run(&["--strace"], command));
        assert!(out.status.success(), "{command:?}: {}", show(&out));
        let used = used(&out);
        assert!(used.len() > 10 && used.contains("mmap"), "{command:?}: {used:?}");
        let known: BTreeSet<String> = programs.iter().flat_map(|p| known(row(&manifest, p).1)).collect();
        let missing = |known: &BTreeSet<String>| used.difference(known).cloned().collect::<Vec<_>>();
        assert_eq!(missing(&known), Vec::<String>::new(), "{command:?}");
        // The comparison can fail: a list without one of the calls is seen to lack it.
        let less = known.iter().filter(|n| *n != "mmap").cloned().collect();
        assert_eq!(missing(&less), ["mmap"]);
        for program in *programs {
            let row = row(&manifest, program).1;
            assert_eq!(is_bounded(row), BOUNDED.contains(&name(program)), "{program}");
            let never: Vec<_> = ["init_module", "reboot", "swapon", "mount"].into_iter().filter(|n| self::known(row).contains(*n)).collect();
            assert!(never.is_empty() || !is_bounded(row), "{program}: {never:?} are in libc, and nothing leads there");
        }
    }
}

/// A release of all programs of the cases whose lists come from their code. Built once, by the quick compiler.
struct Analysed {
    dir: tempfile::TempDir,
    setup: Setup,
    /// What the build said.
    told: Value,
}

static ANALYSED: LazyLock<Analysed> = LazyLock::new(|| {
    let setup = Setup::get();
    let dir = tempfile::tempdir().expect("a directory can be made");
    fs::write(dir.path().join("policy.json"), r#"{"syscalls": "analysed"}"#).expect("room");
    let programs: BTreeSet<String> = CASES.iter().flat_map(|(programs, _)| *programs).map(|p| if p.starts_with('/') { (*p).to_owned() } else { format!("/usr/bin/{p}") }).collect();
    let mut build = Command::new(&setup.recompiler);
    build.arg("--rootfs").arg(&setup.rootfs).args(["--tier", "fast", "--json", "--include"]).args(programs).arg("--policy").arg(dir.path().join("policy.json"));
    build.arg("--output").arg(dir.path().join("container.wasm")).arg("--manifest").arg(dir.path().join("manifest.json")).arg("--key").arg(setup.key.with_extension("key"));
    build.arg("--cache").arg(setup.manifest.parent().and_then(|p| p.parent()).expect("in target").join("cache")).args(["--name", "analysed"]);
    let built = build.output().expect("the builder starts");
    assert!(built.status.success(), "{}", show(&built));
    let told = serde_json::from_slice(&built.stdout).expect("figures");
    Analysed { dir, setup, told }
});

impl Analysed {
    fn at(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.at("manifest.json")).expect("readable")).expect("JSON")
    }

    /// Another manifest of the same files, made by `change`.
    fn signed(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest();
        manifest.as_object_mut().expect("an object").remove("signatures");
        change(&mut manifest);
        fs::write(self.at(name), manifest.to_string()).expect("room");
        let mut sign = Command::new(&self.setup.recompiler);
        sign.arg("sign").arg(self.at(name)).arg("--key").arg(self.setup.key.with_extension("key"));
        let signed = finish(sign);
        assert!(signed.status.success(), "{}", show(&signed));
    }

    /// Runs it with an audit log of this name.
    fn run(&self, manifest: &str, log: &str, command: &[&str]) -> Output {
        let mut c = Command::new(&self.setup.vkernel);
        c.arg("run").arg(self.at(manifest)).arg("--rootfs").arg(&self.setup.rootfs).arg("--key").arg(&self.setup.key).arg("--audit").arg(self.at(log));
        c.arg("--store").arg(self.at("store")).arg("--serials").arg(self.at("serials")).arg("--").args(command);
        finish(c)
    }

    /// Calls that were refused for the list's sake, each with its program's digest.
    fn refused(&self, log: &str) -> Vec<Value> {
        refused(&self.at(log))
    }
}

fn refused(log: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("a log");
    text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON")).filter(|r| r["reason"] == "syscall-not-listed").collect()
}

#[test]
fn programs_with_lists_from_their_code_do_what_they_do_natively() {
    let release = &*ANALYSED;
    let manifest = release.manifest();
    let default = names(&manifest["global_policies"]["default_syscalls"]);
    for row in manifest["binaries"].as_object().expect("a map").values() {
        let path = row["path"].as_str().expect("a path");
        let is_named = BOUNDED.contains(&name(path)) || path.contains("/ld-linux");
        assert_eq!((is_bounded(row), row["overrides"]["without_default"] == true), (is_named, is_named), "{path}");
        let told = &release.told["lists"];
        if is_named {
            assert_eq!(names(&row["overrides"]["syscalls"]), known(row).intersection(&default).cloned().collect(), "{path}: exactly");
            assert_eq!(told["own"][path], json!(names(&row["overrides"]["syscalls"]).len()));
        } else {
            let why = json!({ "unknown_sites": row["syscalls"]["reachable"]["unknown_sites"], "opens_objects": row["syscalls"]["opens_objects"] });
            assert_eq!((&row["overrides"]["syscalls"], &told["default"][path]), (&Value::Null, &why), "{path}");
        }
    }
    for (i, (_, command)) in CASES.iter().enumerate() {
        let log = format!("case{i}.jsonl");
        let (native, guest) = (finish(release.setup.native(command)), release.run("manifest.json", &log, command));
        assert_eq!(show(&guest), show(&native), "{command:?}");
        assert_eq!(release.refused(&log), Vec::<Value>::new(), "{command:?}");
    }
}

/// What the runtime and the rows do on the host besides the guest's calls must not need somebody else's list.
#[test]
fn programs_with_a_bound_run_in_a_container_whose_kernel_filter_has_their_lists_alone() {
    let release = &*ANALYSED;
    for (i, (programs, command)) in CASES.iter().take(6).enumerate() {
        let (manifest, log) = (format!("alone{i}.json"), format!("alone{i}.jsonl"));
        release.signed(&manifest, |m| {
            let others = m["binaries"].as_object_mut().expect("a map").values_mut().filter(|b| b["path"] != programs[0]);
            others.for_each(|b| b["overrides"] = json!({ "without_default": true }));
        });
        let (native, guest) = (finish(release.setup.native(command)), release.run(&manifest, &log, command));
        assert_eq!(show(&guest), show(&native), "{command:?}");
        let other = release.run(&manifest, &log, &["/usr/bin/env"]);
        assert!(!other.status.success() && other.stdout.is_empty(), "a program whose list is empty: {}", show(&other));
    }
}

#[test]
fn a_call_that_is_taken_out_of_the_list_is_refused_and_audited_and_only_there() {
    let release = &*ANALYSED;
    let digest = row(&release.manifest(), "/usr/bin/ls").0.clone();
    release.signed("tight.json", |m| m["binaries"][&digest]["overrides"]["syscalls"].as_array_mut().expect("a list").retain(|n| n != "getdents64"));
    let out = release.run("tight.json", "tight.jsonl", &["/usr/bin/ls", "/etc"]);
    assert!(!out.status.success() && out.stdout.is_empty(), "{}", show(&out));
    let refused = release.refused("tight.jsonl");
    assert!(!refused.is_empty() && refused.iter().all(|r| r["detail"] == "getdents64" && r["hash"] == digest.as_str()), "{refused:?}");
    // bash has no bound, hence the default list, and reads directories; what ls does besides works.
    for harmless in [&["/usr/bin/bash", "-c", "cd /etc; echo *"][..], &["/usr/bin/ls", "-d", "/etc"]] {
        let out = release.run("tight.json", "harmless.jsonl", harmless);
        assert!(out.status.success() && !out.stdout.is_empty() && release.refused("harmless.jsonl").is_empty(), "{}", show(&out));
    }
}

/// The number is 60 for an analysis that believes that a call keeps rbx, and getuid's in truth. It exits with 1 if that is refused.
const MISLEADING: &str = ".globl _start\n.type _start,@function\n_start: .cfi_startproc\n mov $60,%ebx\n call f\n mov %ebx,%eax\n syscall\n and $1,%eax\n mov %eax,%edi\n mov $60,%eax\n syscall\n .cfi_endproc\n\
.size _start,.-_start\n.type f,@function\nf: .cfi_startproc\n mov $102,%ebx\n ret\n .cfi_endproc\n.size f,.-f\n.section .note.GNU-stack,\"\",@progbits\n";

#[test]
fn a_call_that_the_analysis_does_not_find_is_refused_and_audited_where_lists_come_from_code() {
    let setup = Setup::get();
    let image = Image::made(&setup.recompiler);
    fs::write(image.at("misleading.s"), MISLEADING).expect("room");
    let gcc = Command::new("gcc").args(["-nostdlib", "-static-pie", "-o"]).arg(image.at("root/bin/misleading")).arg(image.at("misleading.s")).status();
    assert!(gcc.expect("gcc is installed").success());
    fs::write(image.at("analysed.json"), r#"{"syscalls": "analysed"}"#).expect("room");
    let run = |release: &str| {
        let mut c = Command::new(&setup.vkernel);
        c.arg("run").arg(image.at(release).join("manifest.json")).arg("--rootfs").arg(image.at("root")).arg("--key").arg(image.at("k.pub"));
        c.arg("--store").arg(image.at("store")).arg("--serials").arg(image.at(&format!("{release}.serials"))).arg("--audit").arg(image.at(&format!("{release}.jsonl")));
        c.args(["--", "/bin/misleading"]);
        (finish(c).status.code(), refused(&image.at(&format!("{release}.jsonl"))))
    };
    let told = image.build("plain", &["--tier", "fast"]);
    assert!(!told.contains("lists of their own"), "{told}");
    assert_eq!(run("plain"), (Some(0), vec![]), "the twin: under the default list");
    let told = image.build("own", &["--tier", "fast", "--policy", "analysed.json"]);
    assert!(told.contains("3 of 3 programs have lists of their own (of 1 to 1 system calls), 0 the default one"), "{told}");
    let manifest = image.manifest("own");
    assert_eq!(row(&manifest, "misleading").1["overrides"], json!({ "syscalls": ["exit"], "without_default": true }));
    let (code, refused) = run("own");
    let [one] = &refused[..] else { panic!("one call: {refused:?}") };
    assert_eq!((code, &one["detail"], &one["path"]), (Some(1), &json!("getuid"), &json!("/bin/misleading")));
}
