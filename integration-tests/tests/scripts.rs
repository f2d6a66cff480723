//! Which scripts run, and what becomes of program text: rules that are kept at exec, on Debian's own interpreters. Every refusal has a twin that differs in the script's hash, in the option, or in the rule.

use integration_tests::{Setup, finish, show};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const PROGRAMS: &[&str] = &[
    "/usr/bin/bash",
    "/usr/bin/dash",
    "/usr/bin/perl",
    "/usr/bin/python3.11",
    "/usr/bin/mawk",
    "/usr/bin/busybox",
    "/usr/bin/env",
    "/usr/bin/cat",
    "/usr/bin/chmod",
    "/usr/bin/cp",
    "/usr/bin/ln",
    "/usr/bin/mkdir",
    "/usr/bin/readlink",
    "/usr/bin/rm",
    "/opt/app/racer",
    "/opt/app/swapper",
];

/// Scripts of the image, listed by name: texts without a `#!` line among them.
const SCRIPTS: &[(&str, &str)] = &[
    ("listed.sh", "#!/usr/bin/bash\necho \"GOOD ${0##*/} $*\"\n"),
    ("listed.dash", "#!/usr/bin/dash\necho \"GOOD ${0##*/}\"\n"),
    ("listed.py", "print('GOOD', 'py')\n"),
    ("listed.pl", "print \"GOOD pl\\n\";\n"),
    ("listed.awk", "BEGIN { print \"GOOD awk\" }\n"),
    ("evasions.sh", include_str!("../programs/scripts/evasions.sh")),
    ("steering.sh", include_str!("../programs/scripts/steering.sh")),
    ("swaps.sh", include_str!("../programs/scripts/swaps.sh")),
    ("self.sh", include_str!("../programs/scripts/self.sh")),
    ("self.py", include_str!("../programs/scripts/self.py")),
    ("self.pl", include_str!("../programs/scripts/self.pl")),
];

/// A release of interpreters whose policy lists scripts and denies program text.
struct Release {
    dir: PathBuf,
    root: PathBuf,
    setup: Setup,
}

impl Release {
    /// Made once for all tests here, and removed with the process: statics are not dropped.
    fn get() -> &'static Release {
        static MADE: OnceLock<Release> = OnceLock::new();
        extern "C" fn remove() {
            if let Some(made) = MADE.get() {
                let _ = fs::remove_dir_all(&made.dir);
            }
        }
        MADE.get_or_init(|| {
            // SAFETY: a function that needs nothing but a static.
            unsafe { libc::atexit(remove) };
            Release::build()
        })
    }

    fn build() -> Release {
        let setup = Setup::get();
        let dir = setup.rootfs.parent().expect("the image has a parent").join("scripts-test");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("beside the image");
        let root = dir.join("rootfs");
        assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&root).status().expect("cp runs").success());
        let app = root.join("opt/app");
        fs::create_dir_all(&app).expect("in the copy");
        for (name, text) in SCRIPTS {
            fs::write(app.join(name), text).expect("in the copy");
            assert!(Command::new("chmod").arg("755").arg(app.join(name)).status().expect("chmod runs").success());
        }
        for program in ["racer", "swapper"] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("programs/scripts/{program}.c"));
            assert!(Command::new("gcc").args(["-O1", "-pthread", "-o"]).arg(app.join(program)).arg(source).status().expect("gcc runs").success());
        }
        let policy = dir.join("policy.json");
        fs::write(&policy, json!({"scripts": "listed", "inline": "deny"}).to_string()).expect("room");
        let mut build = Command::new(&setup.recompiler);
        build.arg("--rootfs").arg(&root).arg("--include").args(PROGRAMS).args(SCRIPTS.iter().map(|(name, _)| format!("/opt/app/{name}")));
        build.arg("--policy").arg(policy).args(["--tier", "fast", "--key"]).arg(setup.key.with_extension("key"));
        build.arg("--output").arg(dir.join("container.wasm")).arg("--manifest").arg(dir.join("manifest.json")).arg("--cache").arg(dir.with_file_name("cache"));
        let built = build.output().expect("the program starts");
        assert!(built.status.success(), "{}", show(&built));
        Release { dir, root, setup }
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.dir.join("manifest.json")).expect("readable")).expect("JSON")
    }

    /// The same release under other rules, signed again.
    fn ruled(&self, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut value = self.manifest();
        value.as_object_mut().expect("an object").remove("signatures");
        change(&mut value);
        let path = self.dir.join(name);
        fs::write(&path, serde_json::to_vec(&value).expect("JSON")).expect("room");
        let mut sign = Command::new(&self.setup.recompiler);
        sign.arg("sign").arg(&path).arg("--key").arg(self.setup.key.with_extension("key"));
        let out = finish(sign);
        assert!(out.status.success(), "{}", show(&out));
        path
    }

    fn strict(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    /// A run with its audit records.
    fn run(&self, manifest: &Path, options: &[&str], program: &[&str]) -> (Output, Vec<Value>) {
        let log = tempfile::NamedTempFile::new().expect("room");
        let mut c = Command::new(&self.setup.vkernel);
        c.arg("run").arg(manifest).arg("--rootfs").arg(&self.root).arg("--key").arg(&self.setup.key).arg("--audit").arg(log.path());
        c.arg("--store").arg(self.dir.join("store")).args(options).arg("--").args(program);
        let out = finish(c);
        let text = fs::read_to_string(log.path()).expect("it was written");
        (out, text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect())
    }
}

fn stdout(o: &Output) -> String {
    String::from_utf8_lossy(&o.stdout).into_owned()
}

fn binary<'a>(manifest: &'a mut Value, path: &str) -> &'a mut Value {
    manifest["binaries"].as_object_mut().expect("a map").values_mut().find(|b| b["path"] == path).expect("it is listed")
}

fn execs(records: &[Value]) -> impl Iterator<Item = &Value> {
    records.iter().filter(|r| r["event"] == "exec")
}

#[test]
fn the_manifest_has_every_script_with_its_interpreters_hash_and_every_interpreters_grammar() {
    let release = Release::get();
    let mut m = release.manifest();
    assert_eq!((&m["global_policies"]["scripts"], &m["global_policies"]["inline"]), (&json!("listed"), &json!("deny")));
    let digest = |path: &str| m["binaries"].as_object().expect("a map").iter().find(|(_, b)| b["path"] == path).expect("listed").0.clone();
    for (name, interpreter) in [("listed.sh", "/usr/bin/bash"), ("listed.dash", "/usr/bin/dash"), ("listed.py", "/usr/bin/python3.11"), ("listed.awk", "/usr/bin/mawk")] {
        let script = m["scripts"].as_object().expect("a map").values().find(|s| s["path"] == format!("/opt/app/{name}")).expect("listed");
        assert_eq!((&script["interpreter"], &script["interpreter_digest"]), (&json!(interpreter), &json!(digest(interpreter))), "{name}");
    }
    let bash = binary(&mut m, "/usr/bin/bash");
    assert!(bash["overrides"]["interpreter"]["flags"].as_str().is_some_and(|f| !f.contains('c')), "{bash}");
    assert!(bash["overrides"]["strip"].as_array().expect("a list").contains(&json!("BASH_ENV")));
    assert!(binary(&mut m, "/usr/bin/env")["overrides"]["interpreter"].is_null());
}

#[test]
fn nothing_that_is_not_listed_is_run_by_an_interpreter_however_it_is_told() {
    let release = Release::get();
    let (out, records) = release.run(&release.strict(), &[], &["/opt/app/evasions.sh"]);
    let text = stdout(&out);
    assert!(!text.contains("EVIL") && text.contains("tried "), "{}", show(&out));
    let tried = text.lines().filter(|l| l.split_once(": ").is_some_and(|(n, _)| n.len() < 4)).count();
    let through: Vec<&str> = text.lines().filter(|l| l.ends_with(": 0")).collect();
    assert!(through.is_empty() && tried > 90, "{tried} tried, not refused: {through:?}\n{}", show(&out));
    let refused = |reason: &str| execs(&records).filter(|r| r["decision"] == "denied" && r["reason"] == reason).count();
    let (inline, unlisted) = (refused("inline-denied"), refused("script-not-listed"));
    assert!(inline > 70 && unlisted > 20 && inline + unlisted >= tried, "{inline} {unlisted} of {tried}");
    assert!(!text.contains("GOOD"), "{text}");
    let option = execs(&records).find(|r| r["reason"] == "inline-denied" && r["detail"] == "option -c").expect("the record says why");
    assert!(option["hash"].as_str().is_some() && !records.iter().any(|r| r.to_string().contains("EV''IL")), "program text is in no record");
    // The kernel was asked to run none of it: what is told is the interpreter's refusal.
    assert!(!execs(&records).any(|r| r["reason"] == "arguments-untold"), "{records:?}");
}

/// No rule is kept.
fn free(m: &mut Value) {
    let policies = m["global_policies"].as_object_mut().expect("a map");
    assert!(policies.remove("scripts").is_some() && policies.remove("inline").is_some());
    for b in m["binaries"].as_object_mut().expect("a map").values_mut() {
        b.get_mut("overrides").and_then(Value::as_object_mut).map(|o| o.remove("strip"));
    }
}

/// The twin of the test above: the same attempts where no rule is kept.
#[test]
fn each_of_these_ways_is_one_where_no_rule_is_kept() {
    let release = Release::get();
    let free = release.ruled("free.json", free);
    let (out, records) = release.run(&free, &[], &["/opt/app/evasions.sh"]);
    let (mut evil, mut tame) = (false, Vec::new());
    for line in stdout(&out).lines() {
        evil |= line.contains("EVIL");
        if line.split_once(": ").is_some_and(|(n, _)| n.len() < 4) && !std::mem::take(&mut evil) {
            tame.push(line.to_owned());
        }
    }
    assert!(tame.is_empty() && stdout(&out).contains("tried "), "no evasion at all: {tame:?}\n{}", show(&out));
    let ruled = execs(&records).find(|r| ["inline-denied", "inline-audited", "script-not-listed"].iter().any(|reason| r["reason"] == *reason));
    assert!(ruled.is_none(), "{ruled:?}");
}

#[test]
fn listed_scripts_run_by_themselves_by_name_and_as_a_copy() {
    let release = Release::get();
    let strict = release.strict();
    for (line, says) in [
        (&["/opt/app/listed.sh", "a"][..], "GOOD listed.sh a"),
        (&["/opt/app/listed.dash"], "GOOD listed.dash"),
        (&["/usr/bin/bash", "/opt/app/listed.sh", "-c"], "GOOD listed.sh -c"),
        (&["/usr/bin/bash", "-e", "+x", "-o", "pipefail", "--", "/opt/../opt/app/listed.sh"], "GOOD listed.sh "),
        (&["/usr/bin/env", "-S", "bash -e /opt/app/listed.sh b"], "GOOD listed.sh b"),
        (&["/usr/bin/busybox", "sh", "/opt/app/listed.dash"], "GOOD listed.dash"),
        (&["/usr/bin/dash", "-o", "errexit", "/opt/app/listed.dash"], "GOOD listed.dash"),
        (&["/usr/bin/python3.11", "-Es", "-W", "ignore", "/opt/app/listed.py"], "GOOD py"),
        (&["/usr/bin/perl", "-w", "/opt/app/listed.pl"], "GOOD pl"),
        (&["/usr/bin/mawk", "-F:", "-f", "/opt/app/listed.awk"], "GOOD awk"),
        (&["/usr/bin/bash", "--version"], "GNU bash"),
        (&["/usr/bin/busybox", "echo", "sh", "-c"], "sh -c"),
    ] {
        let (out, records) = release.run(&strict, &[], line);
        assert!(stdout(&out).starts_with(says), "{line:?}: {}\n{records:?}", show(&out));
    }
    for line in [&["listed.sh"][..], &["./listed.sh"], &["../app/listed.sh"]] {
        let (out, _) = release.run(&strict, &["--workdir", "/opt/app"], &[&["/usr/bin/bash"], line].concat());
        assert_eq!(stdout(&out), "GOOD listed.sh \n", "{line:?}: {}", show(&out));
    }
    let (unlisted, _) = release.run(&strict, &["--workdir", "/opt"], &["/usr/bin/bash", "listed.sh"]);
    assert_eq!(unlisted.status.code(), Some(126), "{}", show(&unlisted));
}

#[test]
fn program_text_runs_with_a_record_where_the_rule_is_audit_and_a_program_may_have_its_own_rule() {
    let release = Release::get();
    let audit = release.ruled("audit.json", |m| {
        m["global_policies"]["inline"] = "audit".into();
        m["global_policies"].as_object_mut().expect("a map").remove("scripts");
        binary(m, "/usr/bin/dash")["overrides"]["inline"] = "allow".into();
        binary(m, "/usr/bin/perl")["overrides"]["inline"] = "deny".into();
    });
    for (line, code, reason, detail) in [
        (&["/usr/bin/bash", "-xc", "exit 7"][..], 7, "inline-audited", json!("option -c")),
        (&["/usr/bin/dash", "-c", "exit 7"], 7, "listed", Value::Null),
        (&["/usr/bin/perl", "-e", "exit 7"], 126, "inline-denied", json!("option -e")),
        (&["/usr/bin/python3.11", "-c", "raise SystemExit(7)"], 7, "inline-audited", json!("option -c")),
        (&["/usr/bin/bash", "/opt/app/listed.sh"], 0, "listed", Value::Null),
        (&["/usr/bin/bash", "/etc/passwd"], 127, "listed", Value::Null),
    ] {
        let (out, records) = release.run(&audit, &[], line);
        let [record] = &execs(&records).collect::<Vec<_>>()[..] else { panic!("one record per exec: {records:?}") };
        assert_eq!((out.status.code(), &record["reason"], &record["detail"]), (Some(code), &json!(reason), &detail), "{line:?}: {}", show(&out));
    }
}

#[test]
fn permissive_relaxes_neither_rule() {
    let release = Release::get();
    for (line, reason) in [(&["/usr/bin/bash", "-c", "echo EV''IL"][..], "inline-denied"), (&["/usr/bin/bash", "/etc/passwd"], "script-not-listed")] {
        let (out, records) = release.run(&release.strict(), &["--permissive"], line);
        assert_eq!(out.status.code(), Some(126), "{}", show(&out));
        assert!(execs(&records).any(|r| r["decision"] == "denied" && r["reason"] == reason), "{records:?}");
    }
}

#[test]
fn lint_and_diff_know_the_rules() {
    let release = Release::get();
    let policy = |args: &[&std::ffi::OsStr]| {
        let mut c = Command::new(&release.setup.vkernel);
        c.arg("policy").args(args);
        stdout(&finish(c))
    };
    let loose = release.ruled("loose.json", |m| {
        m["global_policies"].as_object_mut().expect("a map").remove("inline");
        let bash = binary(m, "/usr/bin/bash")["overrides"].as_object_mut().expect("a map");
        assert!(bash.remove("strip").is_some() && bash.remove("interpreter").is_some());
    });
    let quiet = policy(&["lint".as_ref(), release.strict().as_ref()]);
    let found = policy(&["lint".as_ref(), loose.as_ref()]);
    for (code, at) in [("inline-allowed", "/usr/bin/dash"), ("unread-interpreter", "/usr/bin/bash")] {
        assert!(!quiet.contains(code), "{quiet}");
        assert!(found.lines().any(|l| l.contains(code) && l.contains(at)), "{code}: {found}");
    }
    let told = policy(&["diff".as_ref(), release.strict().as_ref(), loose.as_ref()]);
    for line in ["/usr/bin/dash: program text: Deny -> Allow", "/usr/bin/bash: its command line is read in another way", "/usr/bin/bash: variables it does not get: BASHOPTS"] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn variables_that_steer_interpreters_do_not_reach_them_unless_the_signer_says_so() {
    let release = Release::get();
    let (out, records) = release.run(&release.strict(), &["--env", "LD_PRELOAD=/nowhere.so", "--user", "65534"], &["/opt/app/steering.sh"]);
    assert_eq!((stdout(&out).matches("GOOD").count(), stdout(&out).contains("EVIL")), (5, false), "{}", show(&out));
    let stripped: Vec<&Value> = execs(&records).map(|r| &r["stripped"]).filter(|s| !s.is_null()).collect();
    for names in [json!(["LD_PRELOAD"]), json!(["BASH_ENV"]), json!(["BASH_FUNC_echo%%"]), json!(["SHELLOPTS", "PS4"]), json!(["PERL5LIB", "PERL5OPT"]), json!(["PYTHONPATH"])] {
        assert!(stripped.contains(&&names), "{names}: {stripped:?}");
    }
    assert!(!records.iter().any(|r| r.to_string().contains("/tmp/s")), "values are in no record");
    let allowed = release.ruled("steered.json", |m| {
        for program in ["bash", "perl", "python3.11"] {
            binary(m, &format!("/usr/bin/{program}"))["overrides"]["strip"] = json!(["LD_*"]);
        }
    });
    let (out, _) = release.run(&allowed, &["--user", "65534"], &["/opt/app/steering.sh"]);
    assert!(stdout(&out).matches("EVIL").count() >= 5, "each is an attack where nothing is stripped: {}", show(&out));
}

#[test]
fn a_script_whose_interpreter_is_another_file_does_not_run() {
    let release = Release::get();
    let other = release.ruled("other.json", |m| {
        let dash = m["binaries"].as_object().expect("a map").iter().find(|(_, b)| b["path"] == "/usr/bin/dash").expect("listed").0.clone();
        let script = m["scripts"].as_object_mut().expect("a map").values_mut().find(|s| s["path"] == "/opt/app/listed.sh").expect("listed");
        script["interpreter_digest"] = dash.into();
    });
    let (out, records) = release.run(&other, &[], &["/opt/app/listed.sh"]);
    assert_eq!(out.status.code(), Some(126), "{}", show(&out));
    assert!(execs(&records).any(|r| r["reason"] == "other-interpreter"), "{records:?}");
    assert!(stdout(&release.run(&other, &[], &["/opt/app/listed.dash"]).0).starts_with("GOOD"));
}

#[test]
fn the_command_line_that_is_judged_is_the_one_that_runs() {
    let release = Release::get();
    let (out, _) = release.run(&release.strict(), &[], &["/opt/app/racer", "400", "/opt/app/listed.sh"]);
    let text = stdout(&out);
    let last: Vec<&str> = text.lines().last().unwrap_or_default().split(' ').collect();
    let ["ran", ran, "refused", refused] = last[..] else { panic!("{}", show(&out)) };
    assert!(ran != "0" && refused != "0", "no race took place: {}", show(&out));
    assert!(!text.contains("EVIL"), "{}", show(&out));
}

/// What `swaps.sh` tells of each of its tries: what it was, and its lines.
fn swaps(out: &Output) -> Vec<(String, Vec<String>)> {
    let text = stdout(out);
    let mut tries = Vec::new();
    let mut lines = text.lines();
    while let Some((n, what)) = lines.next().and_then(|line| line.split_once(' ')).filter(|(n, _)| n.parse::<u32>().is_ok()) {
        let end = format!("{n}: ");
        tries.push((what.to_owned(), lines.by_ref().take_while(|line| !line.starts_with(&end)).map(str::to_owned).collect()));
    }
    assert!(text.ends_with(&format!("tried {}\n", tries.len())) && tries.len() > 130, "{}", show(out));
    tries
}

/// Interpreters that tell when they are about to open their script, by the locale that they read before.
fn waits(what: &str) -> bool {
    !what.contains("dash") && !what.contains("busybox") && what.split(' ').next() != Some("same")
}

#[test]
fn a_script_that_is_swapped_after_the_decision_runs_as_it_was_decided_about() {
    let release = Release::get();
    // Under a rule about program text any file may be run, but a stream is none.
    let no_text = release.ruled("no_text.json", |m| drop(m["global_policies"].as_object_mut().expect("a map").remove("scripts")));
    for manifest in [&release.strict(), &no_text] {
        let (out, records) = release.run(manifest, &[], &["/opt/app/swaps.sh"]);
        for (what, lines) in swaps(&out) {
            let swapped = lines.iter().any(|line| line == "swapped");
            assert!(lines.iter().any(|line| line.starts_with("GOOD")) && !lines.iter().any(|line| line == "EVIL"), "{what}: {lines:?}\n{}", show(&out));
            assert!(swapped || !waits(&what), "{what} was not swapped: {lines:?}\n{}", show(&out));
        }
        // What was swapped later is in no record: each script was executed once, and is told once.
        assert!(!execs(&records).any(|r| r["decision"] == "denied"), "{records:?}");
    }
}

/// The twin of the test above: swaps that nobody notices.
#[test]
fn each_of_these_swaps_is_one_where_no_rule_is_kept() {
    let release = Release::get();
    let (out, _) = release.run(&release.ruled("free_swaps.json", free), &[], &["/opt/app/swaps.sh"]);
    let mut raced = 0;
    for (what, lines) in swaps(&out) {
        let has = |word: &str| lines.iter().any(|line| line.starts_with(word));
        match what.split(' ').next() {
            Some("same") => assert!(has("GOOD") && !has("EVIL"), "{what}: {lines:?}"),
            Some("gone") => assert!(!has("GOOD") && !has("EVIL"), "{what}: {lines:?}\n{}", show(&out)),
            _ if waits(&what) => assert!(has("EVIL") && !has("GOOD"), "{what}: {lines:?}\n{}", show(&out)),
            _ => raced += usize::from(has("EVIL")),
        }
    }
    assert!(raced > 0, "no race took place: {}", show(&out));
}

#[test]
fn a_script_sees_itself_as_it_does_where_no_rule_is_kept() {
    let release = Release::get();
    let free = release.ruled("free_self.json", free);
    for (line, says) in [
        (&["/opt/app/self.sh", "a b"][..], "open: /opt/app/self.sh\n"),
        (&["/usr/bin/bash", "self.sh"], "called self.sh with 0 \n"),
        (&["/usr/bin/env", "bash", "./self.sh", "x"], "own: #!/usr/bin/bash\n"),
        (&["/usr/bin/python3.11", "/opt/app/self.py", "1"], "    [][1]\n"),
        (&["/usr/bin/python3.11", "self.py"], " /opt/app/self.py /opt/app\n"),
        (&["/usr/bin/perl", "self.pl", "x"], "more data\n"),
    ] {
        let run = |manifest: &Path| release.run(manifest, &["--workdir", "/opt/app"], line);
        let ((kept, records), (free, _)) = (run(&release.strict()), run(&free));
        assert_eq!(
            (stdout(&kept), String::from_utf8_lossy(&kept.stderr), kept.status.code()),
            (stdout(&free), String::from_utf8_lossy(&free.stderr), free.status.code()),
            "{line:?}"
        );
        assert!(stdout(&kept).contains(says), "{line:?}: {}", show(&kept));
        assert!(!execs(&records).any(|r| r["decision"] == "denied"), "{records:?}");
    }
}
