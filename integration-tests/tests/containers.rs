//! Containers that live on: detached ones and the commands on them, limits, volumes, further programs, and what is left when a supervisor is killed.

use integration_tests::{Setup, finish, groups, show, within};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

/// Records of one test's containers; whatever still runs at the end is removed.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory can be made") }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("containers")
    }

    fn call(&self, args: &[&str]) -> Output {
        let mut c = Command::new(Setup::get().vkernel);
        c.arg("--root").arg(self.root()).args(args);
        finish(c)
    }

    /// What a command that must succeed prints.
    fn told(&self, args: &[&str]) -> String {
        let out = self.call(args);
        assert!(out.status.success(), "{args:?}: {}", show(&out));
        String::from_utf8(out.stdout).expect("text")
    }

    fn run(&self, options: &[&str], script: &str) -> Output {
        let root = self.root().to_string_lossy().into_owned();
        let options: Vec<&str> = ["--root", &root].into_iter().chain(options.iter().copied()).collect();
        finish(Setup::get().vkernel_run(&options, &["/bin/bash", "-c", script]))
    }

    /// Starts in the background and gives the id.
    fn detach(&self, options: &[&str], script: &str) -> String {
        let options: Vec<&str> = std::iter::once("-d").chain(options.iter().copied()).collect();
        let out = self.run(&options, script);
        assert!(out.status.success(), "{}", show(&out));
        String::from_utf8(out.stdout).expect("an id").trim().to_owned()
    }

    fn inspect(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.told(&["inspect", name])).expect("JSON")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.call(&["ps", "-a", "-q"]).stdout).lines() {
            self.call(&["rm", "-f", id]);
        }
    }
}

fn soon(what: &str, is: impl FnMut() -> bool) {
    within(10, what, is);
}

const PATIENT: &str = "trap 'echo bye; exit 7' TERM; echo out; echo err >&2; while :; do sleep 0.05; done";

#[test]
fn a_detached_container_is_listed_logged_entered_frozen_stopped_and_removed() {
    let host = Host::new();
    let id = host.detach(&["--name", "web", "--pids-limit", "40"], PATIENT);
    assert!(host.told(&["ps"]).contains(&id));
    soon("two lines are logged", || {
        let out = host.call(&["logs", "web"]);
        out.stdout == b"out\n" && out.stderr == b"err\n"
    });
    let again = host.run(&["-d", "--name", "web"], "true");
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"), "{}", show(&again));
    assert_eq!(
        host.told(&["exec", "-w", "/etc", "-e", "A=b", "web", "/bin/bash", "-c", "echo $A $PWD; [ $$ = 1 ] || echo not 1; kill -0 1 && echo same"]),
        "b /etc\nnot 1\nsame\n"
    );
    assert_eq!(host.call(&["exec", "web", "/bin/bash", "-c", "exit 5"]).status.code(), Some(5));
    assert_eq!(host.told(&["exec", "--user", "65534:65534", "web", "/usr/bin/id", "-u"]), "65534\n");
    host.told(&["pause", "web"]);
    assert_eq!(host.inspect(&id)["status"], "paused");
    assert!(!host.call(&["exec", "web", "/usr/bin/true"]).status.success(), "a frozen container starts nothing");
    host.told(&["resume", "web"]);
    assert!(!host.call(&["rm", "web"]).status.success(), "what runs is not removed without --force");
    host.told(&["stop", "web"]);
    assert_eq!((host.told(&["ps", "-q"]), host.told(&["wait", "web"])), (String::new(), "7\n".to_owned()));
    assert!(host.told(&["logs", "--tail", "1", "web"]) == "bye\n" && host.inspect("web")["exitCode"] == 7);
    assert_eq!(groups(&id), Vec::<PathBuf>::new());
    host.told(&["rm", "web"]);
    assert_eq!(host.told(&["ps", "-a", "-q"]), "");
}

#[test]
fn every_process_is_in_every_group_of_its_container_and_is_listed() {
    let host = Host::new();
    let id = host.detach(&[], "exec sleep 60");
    // It would keep our pipes open.
    let inside = host.call(&["exec", "-d", &id, "/bin/bash", "-c", "exec sleep 60 > /dev/null 2>&1"]);
    assert!(inside.status.success(), "{}", show(&inside));
    let init = host.inspect(&id)["pid"].as_i64().expect("a number");
    let listed: Vec<i64> = serde_json::from_str(&host.told(&["ps", "--format", "json", &id])).expect("numbers");
    assert!(listed.len() == 2 && listed.contains(&init), "{init} in {listed:?}");
    let made = groups(&id);
    assert!(!made.is_empty());
    for pid in &listed {
        for group in &made {
            let members = std::fs::read_to_string(group.join("cgroup.procs")).expect("a group lists its members");
            assert!(members.lines().any(|m| m == pid.to_string()), "{pid} in {}", group.display());
        }
    }
    let table = host.told(&["ps", &id]);
    assert!(table.starts_with("PID ") && table.lines().any(|l| l.starts_with(&format!("{init} ")) && l.contains("sleep")), "{table}");
    assert!(!host.call(&["ps", "nobody"]).status.success());
}

#[test]
fn a_further_program_must_be_listed_and_come_from_the_same_release() {
    let host = Host::new();
    let id = host.detach(&[], PATIENT);
    let code = |program: &str| host.call(&["exec", &id, program]).status.code();
    assert_eq!((code("/usr/bin/true"), code("/etc/passwd"), code("/usr/bin/nothing-here")), (Some(0), Some(126), Some(127)));
    // Another release in the same place: the record says which one runs.
    let record = host.root().join(&id).join("record.json");
    let text = std::fs::read_to_string(&record).expect("the record");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["release"]["digest"] = format!("blake3:{}", "0".repeat(64)).into();
    std::fs::write(&record, value.to_string()).expect("the record is ours");
    let other = host.call(&["exec", &id, "/usr/bin/true"]);
    assert!(other.status.code() == Some(125) && String::from_utf8_lossy(&other.stderr).contains("restart the container"), "{}", show(&other));
    std::fs::write(&record, text).expect("the record is ours");
    assert_eq!(code("/usr/bin/true"), Some(0));
}

#[test]
fn one_that_is_to_be_forgotten_forgets_itself() {
    let host = Host::new();
    let id = host.detach(&["--rm"], "read -t 0.3 x < /dev/zero; exit 3");
    soon("no record is left", || !host.root().join(&id).exists());
    let kept = host.detach(&[], "exit 3");
    assert_eq!(host.told(&["wait", &kept]), "3\n");
    assert!(host.root().join(&kept).exists());
    assert_eq!(host.run(&[], "exit 4").status.code(), Some(4));
    assert_eq!(host.told(&["ps", "-a", "-q"]), format!("{kept}\n"), "one in the foreground leaves no record");
}

#[test]
fn when_its_supervisor_is_killed_a_container_ends_and_its_groups_go() {
    let host = Host::new();
    let id = host.detach(&[], "while :; do /usr/bin/true; done");
    let before = host.inspect(&id);
    let number = |key: &str| i32::try_from(before[key].as_i64().expect("a number")).expect("a process");
    assert!(!groups(&id).is_empty());
    // SAFETY: plain numbers; the record names a process of this test's own container.
    assert_eq!(unsafe { libc::kill(number("supervisor"), libc::SIGKILL) }, 0);
    soon("its groups are gone", || groups(&id).is_empty());
    soon("it is stopped", || host.inspect(&id)["status"] == "stopped" && host.inspect(&id)["exitCode"] == 137);
}

#[test]
fn volumes_memory_and_a_read_only_root_are_as_with_podman() {
    let host = Host::new();
    let shared = tempfile::tempdir().expect("a directory can be made");
    std::fs::write(shared.path().join("in"), "of the host\n").expect("written");
    let volume = |to: &str| format!("{}:{to}", shared.path().display());
    let script = "cat /data/in; echo back > /rw/out; (echo x > /data/no) 2> /dev/null || echo data is read-only; (echo x > /etc/no) 2> /dev/null || echo root is read-only; \
                  echo x > /tmp/t && cat /tmp/t; echo y > /scratch/y && cat /scratch/y; ulimit -n; echo $FROM_FILE $ONE";
    let env = shared.path().join("env");
    std::fs::write(&env, "# comment\nFROM_FILE=yes\nONE=1\n").expect("written");
    let env = env.to_string_lossy().into_owned();
    let options = ["-v", &volume("/data:ro"), "-v", &volume("/rw"), "--tmpfs", "/scratch:size=64k", "--read-only", "--ulimit", "nofile=100:200", "--env-file", &env, "-e", "ONE=2"];
    let out = host.run(&options, script);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "of the host\ndata is read-only\nroot is read-only\nx\ny\n100\nyes 2\n", "{}", show(&out));
    assert_eq!(std::fs::read_to_string(shared.path().join("out")).expect("written"), "back\n");
}

#[test]
fn a_guest_that_takes_too_much_memory_is_killed_and_the_audit_log_says_so() {
    let host = Host::new();
    let log = host.dir.path().join("audit.jsonl");
    let script = "head -c 200000000 /dev/zero | tail -c 150000000 > /dev/null; echo ${PIPESTATUS[1]}";
    let out = host.run(&["--memory", "64m", "--memory-swap", "64m", "--audit", &log.to_string_lossy()], script);
    assert_eq!(String::from_utf8_lossy(&out.stdout), "137\n", "{}", show(&out));
    let text = std::fs::read_to_string(&log).expect("the log is written");
    assert!(text.lines().any(|l| l.contains("\"out-of-memory\"") && l.contains("oom-kill")), "{text}");
    let plenty = host.run(&["--memory", "1g"], script);
    assert_eq!(String::from_utf8_lossy(&plenty.stdout), "0\n", "{}", show(&plenty));
}

#[test]
fn what_the_first_start_of_a_release_needs_of_memory_is_not_the_containers() {
    let host = Host::new();
    let store = host.dir.path().join("store");
    for start in ["first", "second"] {
        let out = host.run(&["--store", &store.to_string_lossy(), "--memory", "24m", "--memory-swap", "24m"], "echo well");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "well\n", "{start} start: {}", show(&out));
    }
}

#[test]
fn ids_of_a_container_are_mapped_as_asked() {
    let host = Host::new();
    let shared = tempfile::tempdir().expect("a directory can be made");
    std::fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    let volume = format!("{}:/out", shared.path().display());
    let out = host.run(&["--uidmap", "0:200000:65536", "-v", &volume], "id -u; echo x > /out/file; set -- $(ls -ln /etc/passwd); echo $3:$4; cat /proc/self/uid_map | tr -s ' '");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "0\n0:0\n 0 200000 65536\n", "{}", show(&out));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(shared.path().join("file")).expect("written")), 200_000);
}

#[test]
fn capabilities_are_what_the_container_was_given_whoever_enters_it() {
    let host = Host::new();
    let effective = |out: &Output| show(out).lines().find_map(|l| l.strip_prefix("CapEff:\t").map(str::to_owned));
    let status = "while read -r line; do echo \"$line\"; done < /proc/self/status";
    // Another user than root, with one capability.
    assert_eq!(effective(&host.run(&["--user", "7", "--cap-add", "kill"], status)).as_deref(), Some("0000000000000020"));
    assert_eq!(effective(&host.run(&["--user", "7"], status)).as_deref(), Some("0000000000000000"));
    let id = host.detach(&["--cap-drop", "ALL"], "while :; do /usr/bin/sleep 0.05; done");
    for options in [&["--user", "0"][..], &[]] {
        let words: Vec<&str> = std::iter::once("exec").chain(options.iter().copied()).chain([id.as_str(), "/bin/bash", "-c", status]).collect();
        assert_eq!(effective(&host.call(&words)).as_deref(), Some("0000000000000000"), "{options:?}");
    }
}

#[test]
fn who_waits_for_a_container_that_forgets_itself_is_told_its_code() {
    let host = Host::new();
    let id = host.detach(&["--rm"], "/usr/bin/sleep 0.5; exit 7");
    assert_eq!(host.told(&["wait", &id]), "7\n");
    assert!(!host.call(&["inspect", &id]).status.success());
}

#[test]
fn a_supervisor_of_descendants_sleeps_while_they_live() {
    let host = Host::new();
    let id = host.detach(&[], "/usr/bin/sleep 60");
    host.told(&["exec", "-d", &id, "/bin/bash", "-c", "/usr/bin/sleep 30 & exit 0"]);
    std::thread::sleep(Duration::from_millis(300));
    // CPU time of all supervisors of this test's records, in ticks of 10 ms (proc(5)).
    let ours = format!("--root\0{}", host.root().display());
    let spent = || -> u64 {
        let processes = std::fs::read_dir("/proc").expect("procfs").flatten().map(|e| e.path());
        let supervisors = processes.filter(|p| std::fs::read(p.join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(&ours)));
        let times = supervisors.filter_map(|p| std::fs::read_to_string(p.join("stat")).ok());
        times.filter_map(|s| s.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum::<u64>())).sum()
    };
    let before = spent();
    std::thread::sleep(Duration::from_millis(700));
    assert!(spent().saturating_sub(before) < 40, "a supervisor spins");
}
