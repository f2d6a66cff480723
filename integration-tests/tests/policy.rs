//! Lists of system calls: enforced, relaxed with a record, learned from records, and enforced again. Every lesson has a twin that stays refused.

use integration_tests::{Setup, finish, show};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const UNAME: &str = "/usr/bin/uname";

/// A copy of the release that a test may sign anew, with a store and a memory of serials of its own.
struct Release {
    dir: tempfile::TempDir,
    setup: Setup,
}

impl Release {
    fn copy() -> Release {
        let setup = Setup::get();
        let release = setup.manifest.parent().expect("the manifest has a directory").to_path_buf();
        let dir = tempfile::tempdir_in(release.parent().expect("in target")).expect("a directory can be made");
        assert!(Command::new("cp").args(["--archive", "--link"]).arg(&release).arg(dir.path().join("release")).status().expect("cp runs").success());
        Release { dir, setup }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A manifest made from the tests' by `change`, signed.
    fn signed(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value: Value = serde_json::from_slice(&fs::read(&self.setup.manifest).expect("readable")).expect("JSON");
        value.as_object_mut().expect("an object").remove("signatures");
        change(&mut value);
        let path = self.path("release").join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, serde_json::to_vec(&value).expect("JSON")).expect("room");
        self.sign(name);
    }

    fn sign(&self, name: &str) {
        let mut sign = Command::new(&self.setup.recompiler);
        sign.arg("sign").arg(self.path("release").join(name)).arg("--key").arg(self.setup.key.with_extension("key"));
        let out = finish(sign);
        assert!(out.status.success(), "{}", show(&out));
    }

    fn run(&self, manifest: &str, options: &[&str], program: &[&str]) -> Output {
        let mut c = Command::new(&self.setup.vkernel);
        c.arg("run").arg(self.path("release").join(manifest)).arg("--rootfs").arg(&self.setup.rootfs).arg("--key").arg(&self.setup.key);
        c.arg("--store").arg(self.path("store")).arg("--serials").arg(self.path("serials"));
        c.args(options).arg("--").args(program);
        finish(c)
    }

    fn policy(&self, args: &[&str]) -> Output {
        let mut c = Command::new(&self.setup.vkernel);
        let named = |a: &&str| if a.ends_with(".json") && !a.starts_with('/') { self.path("release").join(a) } else { a.into() };
        c.arg("policy").args(args.iter().map(named));
        finish(c)
    }

    fn audit(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    fn log(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

/// Lists without these calls.
fn without(value: &mut Value, calls: &[&str]) {
    let list = value["global_policies"]["default_syscalls"].as_array_mut().expect("a list");
    let before = list.len();
    list.retain(|n| !calls.contains(&n.as_str().expect("a name")));
    assert_eq!(before - list.len(), calls.len(), "the tests' release lists {calls:?}");
}

fn stdout(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned()
}

fn digest_of(manifest: &Value, path: &str) -> String {
    let binaries = manifest["binaries"].as_object().expect("a map");
    binaries.iter().find(|(_, b)| b["path"] == path).expect("it is listed").0.clone()
}

#[test]
fn a_refused_program_is_learned_from_a_permissive_run_signed_and_then_runs_enforced() {
    let release = Release::copy();
    release.signed("tight.json", |m| without(m, &["uname", "getdents64"]));
    let listing = ["/usr/bin/ls", "-d", "/"];
    let refused = release.run("tight.json", &["--audit", &release.log("enforced.jsonl")], &[UNAME, "-s"]);
    assert!(!refused.status.success() && stdout(&refused).is_empty(), "{}", show(&refused));
    assert!(release.audit("enforced.jsonl").iter().any(|r| r["reason"] == "syscall-not-listed" && r["detail"] == "uname"));
    let run = release.run("tight.json", &["--permissive", "--audit", &release.log("run.jsonl")], &[UNAME, "-s"]);
    assert_eq!(stdout(&run), "Linux\n", "{}", show(&run));
    assert!(String::from_utf8_lossy(&run.stderr).contains("--permissive: lists of system calls are not enforced"), "{}", show(&run));
    let manifest: Value = serde_json::from_slice(&fs::read(release.path("release/tight.json")).expect("readable")).expect("JSON");
    let audit = release.audit("run.jsonl");
    let would: Vec<&Value> = audit.iter().filter(|r| r["reason"] == "would-refuse").collect();
    let [one] = would[..] else { panic!("one call of one program: {would:?}") };
    let nr = u64::try_from(libc::SYS_uname).expect("a number");
    assert_eq!((&one["hash"], &one["path"], &one["detail"], &one["nr"]), (&json!(digest_of(&manifest, UNAME)), &json!(UNAME), &json!("uname"), &json!(nr)));
    assert_eq!((&one["decision"], &one["from_worker"]), (&json!("allowed"), &json!(true)));
    assert!(audit.iter().any(|r| r["event"] == "policy-load" && r["reason"] == "permissive"), "{audit:?}");

    let learned = release.policy(&["learn", "tight.json", "--audit", &release.log("run.jsonl"), "--output", "learned.json"]);
    assert!(learned.status.success() && stdout(&learned).contains("/usr/bin/uname\n  + uname\n"), "{}", show(&learned));
    assert!(!stdout(&learned).contains("getdents64"), "nobody needed it: {}", stdout(&learned));
    let unsigned = release.run("learned.json", &[], &[UNAME, "-s"]);
    assert_eq!(unsigned.status.code(), Some(125), "{}", show(&unsigned));
    release.sign("learned.json");
    let again = release.run("learned.json", &["--audit", &release.log("again.jsonl")], &[UNAME, "-s"]);
    assert_eq!(stdout(&again), "Linux\n", "{}", show(&again));
    // The twin: what was not recorded stays refused, and so does the same call of another program.
    let other = release.run("learned.json", &["--audit", &release.log("again.jsonl")], &["/usr/bin/ls", "/"]);
    assert!(!other.status.success(), "{}", show(&other));
    assert!(release.audit("again.jsonl").iter().any(|r| r["reason"] == "syscall-not-listed" && r["detail"] == "getdents64"));
    assert_eq!(stdout(&release.run("learned.json", &[], &listing)), "/\n");
}

#[test]
fn permissive_relaxes_neither_the_hash_rule_nor_what_the_table_refuses_and_a_manifest_can_forbid_it() {
    let release = Release::copy();
    release.signed("tight.json", |m| without(m, &["uname"]));
    let log = release.log("run.jsonl");
    // A program that is not listed: a copy of one whose last byte differs.
    let script = "cp /usr/bin/uname /tmp/x; echo >> /tmp/x; chmod 755 /tmp/x; /tmp/x; echo $?; /usr/bin/uname -s";
    let mixed = release.run("tight.json", &["--permissive", "--audit", &log], &["/bin/bash", "-c", script]);
    assert!(stdout(&mixed).starts_with("126\n") && stdout(&mixed).ends_with("Linux\n"), "{}", show(&mixed));
    assert!(release.audit("run.jsonl").iter().any(|r| r["event"] == "exec" && r["decision"] == "denied" && r["path"] == "/tmp/x"));
    // What no list names is not in the container's kernel filter either, until that is as wide as the table.
    release.signed("closed.json", |m| without(m, &["fchmodat"]));
    for (options, works) in [(vec![], false), (vec!["--permissive", "--audit", &log], true)] {
        let chmod = release.run("closed.json", &options, &["/bin/bash", "-c", "echo > /tmp/x; chmod 600 /tmp/x"]);
        assert_eq!(chmod.status.success(), works, "{}", show(&chmod));
    }
    let refused = release.run("tight.json", &["--permissive"], &[UNAME]);
    assert!(refused.status.code() == Some(125) && String::from_utf8_lossy(&refused.stderr).contains("--audit"), "without a record: {}", show(&refused));
    release.signed("strict.json", |m| {
        without(m, &["uname"]);
        m["global_policies"]["forbid_permissive"] = true.into();
    });
    let forbidden = release.run("strict.json", &["--permissive", "--audit", &release.log("strict.jsonl")], &[UNAME]);
    assert_eq!(forbidden.status.code(), Some(125), "{}", show(&forbidden));
    assert_eq!(String::from_utf8_lossy(&forbidden.stderr), "vkernel: --permissive: the manifest forbids it: run without it, or sign a release that allows it\n");
    assert!(release.audit("strict.jsonl").iter().any(|r| r["reason"] == "permissive-forbidden" && r["decision"] == "denied"));
    assert!(release.run("strict.json", &[], &["/usr/bin/true"]).status.success());
}

#[test]
fn what_no_recorded_run_used_is_taken_away_and_the_program_still_runs() {
    let release = Release::copy();
    release.signed("wide.json", |_| {});
    let log = release.log("run.jsonl");
    let run = release.run("wide.json", &["--record-syscalls", "--audit", &log], &[UNAME, "-s"]);
    assert_eq!(stdout(&run), "Linux\n", "{}", show(&run));
    let learned = release.policy(&["learn", "wide.json", "--audit", &log, "--tighten", "--output", "learned.json", "--json"]);
    assert!(learned.status.success(), "{}", show(&learned));
    let told: Value = serde_json::from_slice(&learned.stdout).expect("JSON");
    let changed = told["difference"]["changed"].as_array().expect("a list");
    let [change] = &changed[..] else { panic!("one program ran: {changed:?}") };
    let gone = change["no_longer"].as_array().expect("a list");
    assert!(change["path"] == UNAME && gone.len() > 100 && gone.contains(&json!("connect")) && !gone.contains(&json!("uname")) && !gone.contains(&json!("exit_group")), "{change}");
    release.sign("learned.json");
    assert_eq!(stdout(&release.run("learned.json", &[], &[UNAME, "-s"])), "Linux\n");
    let other = release.run("learned.json", &[], &["/bin/bash", "-c", "/usr/bin/uname -s; /usr/bin/id -u"]);
    assert_eq!(stdout(&other), "Linux\n0\n", "programs that were not recorded lost nothing: {}", show(&other));
    // A log without such a recording tells nothing.
    let log = release.log("plain.jsonl");
    release.run("learned.json", &["--audit", &log], &[UNAME]);
    let refused = release.policy(&["learn", "wide.json", "--audit", &log, "--tighten"]);
    assert!(refused.status.code() == Some(125) && String::from_utf8_lossy(&refused.stderr).contains("--record-syscalls"), "{}", show(&refused));
}

#[test]
fn a_learned_policy_file_builds_a_release_and_diff_and_lint_say_what_it_means() {
    let release = Release::copy();
    release.signed("tight.json", |m| {
        without(m, &["uname", "connect", "sendto", "sendmsg", "sendmmsg"]);
        m["version"] = "1.2".into();
    });
    release.signed("next.json", |m| {
        without(m, &["uname", "sendto", "sendmsg", "sendmmsg"]);
        m["version"] = "1.3".into();
    });
    let log = release.log("run.jsonl");
    release.run("tight.json", &["--permissive", "--audit", &log], &[UNAME]);
    let learned = release.policy(&["learn", "tight.json", "--audit", &log, "--as", "policy", "--output", "policy.json"]);
    assert!(learned.status.success(), "{}", show(&learned));
    let mut build = Command::new(&release.setup.recompiler);
    build.arg("merge").arg("--rootfs").arg(&release.setup.rootfs).args(["--include", UNAME, "--policy"]).arg(release.path("release/policy.json"));
    build.arg("--output").arg(release.path("built/container.wasm")).arg("--manifest").arg(release.path("built/manifest.json"));
    build.arg("--cache").arg(release.setup.manifest.parent().and_then(|p| p.parent()).expect("in target").join("cache"));
    let built = finish(build);
    assert!(built.status.success(), "{}", show(&built));
    let manifest: Value = serde_json::from_slice(&fs::read(release.path("built/manifest.json")).expect("readable")).expect("JSON");
    assert_eq!(manifest["binaries"][digest_of(&manifest, UNAME)]["overrides"]["syscalls"], json!(["uname"]));

    let diff = release.policy(&["diff", "tight.json", "next.json"]);
    assert!(
        diff.status.code() == Some(1) && stdout(&diff).contains("1.3 newly can: connect to others") && stdout(&diff).contains("  + connect   (connect to others)"),
        "{}",
        show(&diff)
    );
    let same = release.policy(&["diff", "tight.json", "tight.json"]);
    assert!(same.status.success() && stdout(&same).ends_with("no difference\n"), "{}", show(&same));
    let lint = release.policy(&["lint", "tight.json", "--json"]);
    let found: Value = serde_json::from_slice(&lint.stdout).expect("JSON");
    let has = |code: &str| found.as_array().expect("a list").iter().any(|f| f["code"] == code);
    assert!(lint.status.success() && has("permissive-possible") && !has("no-list"), "{}", show(&lint));
    let every = release.policy(&["lint", &release.setup.manifest.to_string_lossy()]);
    assert!(every.status.code() == Some(1) && stdout(&every).contains("warning no-list: global_policies.default_syscalls"), "{}", show(&every));
    for (args, says) in [(["lint", "/etc/passwd"], "not the strict JSON"), (["lint", "missing.json"], "No such file")] {
        let out = release.policy(&args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(125) && text.lines().count() == 1 && text.contains(says), "{}", show(&out));
    }
}

#[test]
fn what_is_permissive_is_seen_in_ps_and_inspect_and_holds_for_who_enters() {
    let release = Release::copy();
    release.signed("tight.json", |m| without(m, &["uname"]));
    let root = release.log("containers");
    let log = release.log("run.jsonl");
    let id = {
        let mut c = Command::new(&release.setup.vkernel);
        c.args(["--root", &root, "run", "-d", "--rm", "--permissive", "--audit", &log]).arg(release.path("release/tight.json"));
        c.arg("--rootfs").arg(&release.setup.rootfs).arg("--key").arg(&release.setup.key);
        c.arg("--store").arg(release.path("store")).arg("--serials").arg(release.path("serials")).args(["--", "/usr/bin/sleep", "60"]);
        let out = finish(c);
        assert!(out.status.success(), "{}", show(&out));
        stdout(&out).trim().to_owned()
    };
    let call = |args: &[&str]| {
        let mut c = Command::new(&release.setup.vkernel);
        c.args(["--root", &root]).args(args);
        finish(c)
    };
    let (ps, inspect, exec) = (call(&["ps"]), call(&["inspect", &id]), call(&["exec", &id, UNAME, "-s"]));
    let gone = call(&["rm", "-f", &id]);
    assert!(stdout(&ps).contains(" permissive "), "{}", show(&ps));
    let told: Value = serde_json::from_slice(&inspect.stdout).expect("JSON");
    assert_eq!(told["permissive"], true);
    assert_eq!(stdout(&exec), "Linux\n", "{}", show(&exec));
    assert!(gone.status.success(), "{}", show(&gone));
    assert!(release.audit("run.jsonl").iter().any(|r| r["reason"] == "would-refuse" && r["path"] == UNAME));
}
