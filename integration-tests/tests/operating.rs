//! What an operator looks at: `top` on a real terminal and without one, `stats`, `events`, and the audit log in systemd's journal.

use integration_tests::pty::Pty;
use integration_tests::{Running, Setup, finish, show, within};
use serde_json::Value;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A daemon with a directory of its own, and one container that it serves.
struct Host {
    dir: tempfile::TempDir,
    daemon: Child,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().expect("a directory can be made");
        std::fs::create_dir_all(dir.path().join("etc/keys")).expect("made");
        let mut c = Self::command_in(dir.path().into());
        c.arg("serve").arg("--config").arg(dir.path().join("etc")).stdin(Stdio::null()).stderr(Stdio::null());
        let daemon = c.spawn().expect("the daemon starts");
        within(20, "the daemon listens", || std::os::unix::net::UnixStream::connect(dir.path().join("vkernel.sock")).is_ok());
        Host { dir, daemon }
    }

    fn command_in(dir: PathBuf) -> Command {
        let mut c = Command::new(Setup::get().vkernel);
        c.arg("--root").arg(dir.join("containers")).arg("--socket").arg(dir.join("vkernel.sock"));
        c
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = Self::command_in(self.dir.path().into());
        c.args(args);
        c
    }

    fn call(&self, args: &[&str]) -> Output {
        finish(self.command(args))
    }

    /// Asks again and again for something that is refused, and for something that is not.
    fn busy(&self, name: &str) {
        let setup = Setup::get();
        let script = "echo -e '#!/bin/bash\nexit 0' > /tmp/x; echo x > /tmp/y; chmod 755 /tmp/y /tmp/x; while sleep 0.05; do /tmp/y; /usr/bin/true; /usr/bin/env /tmp/z; done";
        let mut c = self.command(&["run", "-d", "--rm", "--name", name, "--audit"]);
        c.arg(self.dir.path().join("audit.jsonl")).arg(&setup.manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(&setup.key);
        let out = finish({
            c.args(["--", "/bin/bash", "-c", script]);
            c
        });
        assert!(out.status.success(), "{}", show(&out));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let listed = self.call(&["ps", "-q"]);
        for id in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
            self.call(&["rm", "-f", id]);
        }
        // SAFETY: plain numbers; the child is ours and not waited for yet.
        unsafe { libc::kill(self.daemon.id() as i32, libc::SIGTERM) };
        let _ = self.daemon.wait();
    }
}

/// `top` on a terminal of its own.
fn screen(mut command: Command) -> Pty {
    command.env("TERM", "xterm");
    Pty::start(command, 100)
}

const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

#[test]
fn top_shows_containers_and_refusals_and_every_way_out_gives_the_terminal_back() {
    let host = Host::new();
    host.busy("shop");
    for (way, code) in [("key", 0), ("ctrl-c", 0), ("SIGTERM", 128 + libc::SIGTERM), ("SIGHUP", 128 + libc::SIGHUP)] {
        let mut screen = screen(host.command(&["top", "--interval", "0.2"]));
        screen.run.expect(ENTERED);
        screen.run.expect("shop");
        // The refusals of the guest, as they happen, and what is not refused a second.
        screen.run.expect("/tmp/y");
        assert!(!screen.is_cooked(), "keys come one by one");
        match way {
            "key" => screen.send("\x1b[C\x1b[C\x1b[Brq"),
            "ctrl-c" => screen.send("\x03"),
            "SIGTERM" => screen.run.signal(libc::SIGTERM),
            _ => screen.run.signal(libc::SIGHUP),
        }
        screen.run.expect(LEFT);
        assert_eq!((screen.run.wait(), screen.is_cooked()), (code, true), "{way}");
    }
}

#[test]
fn without_a_terminal_there_is_one_sample_and_stats_counts_what_a_container_uses() {
    let host = Host::new();
    host.busy("shop");
    let mut told = Value::Null;
    within(30, "execs and refusals are counted", || {
        told = serde_json::from_slice(&host.call(&["top", "--json"]).stdout).expect("JSON");
        let one = &told["containers"][0];
        one["execs_per_second"].as_f64().is_some_and(|n| n > 0.0) && one["counts"]["denials"].as_u64().is_some_and(|n| n > 0)
    });
    assert_eq!((&told["daemon"], &told["containers"][0]["name"]), (&true.into(), &"shop".into()));
    let text = String::from_utf8(host.call(&["top", "--once"]).stdout).expect("text");
    let piped = String::from_utf8(host.call(&["top"]).stdout).expect("text");
    assert!(text.starts_with("CONTAINER") && text.contains("shop") && piped.lines().next() == text.lines().next() && !piped.contains('\x1b'), "{text}{piped}");

    let stats: Value = serde_json::from_slice(&host.call(&["stats", "--no-stream", "--json", "shop"]).stdout).expect("JSON");
    let one = &stats[0];
    let positive = |name: &str| one[name].as_f64().is_some_and(|n| n > 0.0);
    assert!(["cpu_us", "memory_bytes", "memory_limit_bytes", "processes", "age_seconds", "average_cpu_percent"].into_iter().all(positive), "{one}");
    let table = String::from_utf8(host.call(&["stats", "--no-stream"]).stdout).expect("text");
    assert!(table.starts_with("ID ") && table.lines().next().is_some_and(|l| l.contains("MEM USAGE / LIMIT")) && table.contains(" shop "), "{table}");
    let mut stream = Running::start(host.command(&["stats", "--json", "--interval", "0.1"]));
    stream.expect("]\n");
    stream.expect("]\n");
    let missing = host.call(&["stats", "nothing"]);
    assert!(missing.status.code() == Some(125) && String::from_utf8_lossy(&missing.stderr).contains("does not exist"), "{}", show(&missing));
}

#[test]
fn events_are_printed_as_they_happen_and_without_a_daemon_there_is_a_line_that_says_so() {
    let host = Host::new();
    host.busy("shop");
    let mut events = Running::start(host.command(&["events", "--denied", "shop"]));
    let seen = events.expect("/tmp/y");
    assert!(seen.contains(" exec denied ") && !seen.contains(" allowed "), "{seen}");
    let mut events = Running::start(host.command(&["events", "--json"]));
    let seen = events.expect("}\n");
    let record: Value = serde_json::from_str(seen.lines().next().expect("a line")).expect("JSON");
    assert!(record["event"].is_string() && record["reason"].is_string(), "{record}");
    let mut alone = Command::new(Setup::get().vkernel);
    alone.args(["--socket", "/nowhere/vkernel.sock", "events"]);
    let out = finish(alone);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(125) && text.lines().count() == 1 && text.contains("start `vkernel serve`"), "{text}");
}

#[test]
fn records_go_to_the_journal_with_hash_container_decision_and_reason() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("socket");
    let journal = UnixDatagram::bind(&path).expect("a socket");
    journal.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let audit = format!("journald:{}", path.display());
    let setup = Setup::get();
    let run = std::thread::spawn(move || finish(setup.vkernel_run(&["--audit", &audit], &["/bin/bash", "-c", "echo x > /tmp/x; chmod 755 /tmp/x; /tmp/x; exit 3"])));
    let mut records = Vec::new();
    let mut bytes = vec![0; 1 << 16];
    while !records.iter().any(|r: &String| r.contains("VKERNEL_EVENT=container-stop\n")) {
        let n = journal.recv(&mut bytes).expect("a record");
        records.push(String::from_utf8(bytes[..n].to_vec()).expect("text"));
    }
    assert_eq!(run.join().expect("it ran").status.code(), Some(3));
    let exec = |decision: &str| {
        records.iter().find(|r| r.contains("VKERNEL_EVENT=exec\n") && r.contains(&format!("VKERNEL_DECISION={decision}\n"))).unwrap_or_else(|| panic!("{records:?}"))
    };
    let allowed = exec("allowed");
    for part in ["VKERNEL_HASH=blake3:", "VKERNEL_CONTAINER=", "VKERNEL_REASON=listed\n", "PRIORITY=6\n", "SYSLOG_IDENTIFIER=vkernel\n", "MESSAGE=exec allowed listed "] {
        assert!(allowed.contains(part), "{part}: {allowed}");
    }
    assert!(exec("denied").contains("PRIORITY=4\n") && exec("denied").contains("VKERNEL_PATH=/tmp/x\n"), "{}", exec("denied"));
    let away = finish(Setup::get().vkernel_run(&["--audit", "journald:/nowhere/socket"], &["/usr/bin/true"]));
    let text = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(away.status.code() == Some(125) && text.lines().count() == 1 && text.contains("audit log journald:/nowhere/socket"), "{text}");
}
