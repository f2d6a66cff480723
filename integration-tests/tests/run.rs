//! `vkernel run` as its caller sees it: streams, exit codes, signals, what stays of files, and what is left when the supervisor dies.

use integration_tests::{Running, Setup, finish, show, twin};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const STUBBORN: &str = "/usr/local/lib/twins/stubborn";

fn bash(script: &str) -> Command {
    Setup::get().vkernel_run(&[], &["/bin/bash", "-c", script])
}

#[test]
fn the_three_streams_are_the_callers() {
    let mut run = Running::start(bash("read line; echo \"out $line\"; echo err >&2; cat; exit 42"));
    run.child.stdin.take().expect("piped").write_all(b"one\nrest\nof it").expect("the guest reads");
    run.expect("out one\nrest\nof it");
    let mut err = String::new();
    run.child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert_eq!((err.as_str(), run.wait()), ("err\n", 42));
}

/// journald files a line under the process that wrote it, and a guest's is in no unit: `journalctl --unit` had no line of a container that was a unit.
#[test]
fn output_to_the_journal_is_written_by_vkernel_for_the_guest() {
    let output_is = |off: u64| {
        let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
        let theirs = OwnedFd::from(theirs);
        let known = std::fs::File::from(theirs.try_clone().expect("a duplicate")).metadata().expect("it is open");
        let mut run = bash("if [ -p /dev/stdout ]; then echo a pipe; elif [ -S /dev/stdout ]; then echo the socket; fi");
        run.env("JOURNAL_STREAM", format!("{}:{}", known.dev(), known.ino() + off)).stdout(theirs);
        let mut child = run.spawn().expect("it starts");
        drop(run);
        let mut text = String::new();
        ours.read_to_string(&mut text).expect("text");
        assert!(child.wait().expect("our child").success());
        text
    };
    assert_eq!((output_is(0).as_str(), output_is(1).as_str()), ("a pipe\n", "the socket\n"));
}

#[test]
fn a_closed_pipe_ends_the_writer_as_natively() {
    twin(&["/bin/bash", "-c", "while echo y; do :; done | head -1; echo ${PIPESTATUS[0]}"]);
}

#[test]
fn exit_codes_are_the_guests() {
    for code in [0, 1, 42, 125, 255] {
        assert_eq!(finish(bash(&format!("exit {code}"))).status.code(), Some(code));
    }
    twin(&["/bin/bash", "-c", "exec 2> /dev/null; (kill -9 $BASHPID); echo $?; (kill -SEGV $BASHPID); echo $?; (exit 300); echo $?"]);
}

#[test]
fn what_cannot_be_run_has_podmans_exit_codes() {
    let setup = Setup::get();
    let code = |options: &[&str], program: &[&str]| finish(setup.vkernel_run(options, program)).status.code();
    assert_eq!(code(&[], &["/usr/bin/nothing-here"]), Some(127));
    assert_eq!(code(&[], &["/etc/passwd"]), Some(126));
    assert_eq!(code(&["--workdir", "/nowhere"], &["/usr/bin/true"]), Some(127));
    assert_eq!(code(&["--no-such-option"], &["/usr/bin/true"]), Some(125));
    assert_eq!(code(&[], &["/usr/bin/true"]), Some(0));
}

#[test]
fn signals_sent_to_vkernel_reach_the_guests_handler() {
    for (name, signal) in [("TERM", libc::SIGTERM), ("HUP", libc::SIGHUP), ("INT", libc::SIGINT), ("QUIT", libc::SIGQUIT), ("USR1", libc::SIGUSR1), ("WINCH", libc::SIGWINCH)] {
        let mut run = Running::start(bash(&format!("trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.05; done")));
        run.expect("ready\n");
        run.signal(signal);
        run.expect(&format!("got {name}\n"));
        assert_eq!(run.wait(), 7, "after SIG{name}");
    }
}

#[test]
fn a_signal_the_first_program_does_not_handle_is_discarded_as_for_any_pid_1() {
    let mut run = Running::start(bash("echo ready; read x; echo still $x"));
    run.expect("ready\n");
    run.signal(libc::SIGTERM);
    run.signal(libc::SIGHUP);
    run.child.stdin.take().expect("piped").write_all(b"here\n").expect("the guest reads");
    run.expect("still here\n");
    assert_eq!(run.wait(), 0);
}

/// A root directory that shares all files with the test image.
fn copy_of_the_image() -> (tempfile::TempDir, PathBuf) {
    let setup = Setup::get();
    let dir = tempfile::tempdir_in(setup.rootfs.parent().expect("the image has a parent")).expect("a directory can be made");
    let root = dir.path().join("rootfs");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&root).status().expect("cp runs").success());
    (dir, root)
}

#[test]
fn writable_changes_the_image_and_the_default_forgets() {
    let (_dir, root) = copy_of_the_image();
    let mut setup = Setup::get();
    setup.rootfs = root.clone();
    let script = "echo kept > /new; mkdir /etc/made; rm /etc/hostname 2> /dev/null; cat /new; ls -d /etc/made";
    let forgotten = finish(setup.vkernel_run(&[], &["/bin/bash", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&forgotten.stdout), "kept\n/etc/made\n", "{}", show(&forgotten));
    assert!(!root.join("new").exists() && !root.join("etc/made").exists());
    let kept = finish(setup.vkernel_run(&["--writable"], &["/bin/bash", "-c", script]));
    assert_eq!(show(&kept), show(&forgotten));
    assert_eq!(std::fs::read_to_string(root.join("new")).expect("written"), "kept\n");
    assert!(root.join("etc/made").is_dir());
}

#[test]
fn the_default_root_is_an_overlay_over_the_image_with_its_changes_in_memory() {
    let out = finish(bash("while read -r from at kind options rest; do [ \"$at\" = / ] && echo \"$kind $options\"; done < /proc/mounts"));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.starts_with("overlay rw,nosuid,nodev,noexec") && text.contains("upperdir=upper"), "{}", show(&out));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    assert!(!mounts.contains("upperdir=upper"), "no mount of a container is visible outside: {mounts}");
}

/// Namespaces of a process, as their links in /proc read.
fn namespaces(pid: &str) -> BTreeSet<PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten().filter_map(|e| std::fs::read_link(e.path()).ok()).collect()
}

/// Processes that are in one of these namespaces.
fn members(of: &BTreeSet<PathBuf>) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").expect("/proc is there").flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    pids.filter(|p| p.parse::<u32>().is_ok() && !namespaces(p).is_disjoint(of)).collect()
}

/// Namespaces that are the container's own.
fn container_of(run: &Running) -> BTreeSet<PathBuf> {
    let pid = run.child.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    let init = children.split_whitespace().next().expect("the supervisor has one child").to_owned();
    let own = namespaces(&init).difference(&namespaces("self")).cloned().collect();
    assert!(!members(&own).is_empty());
    own
}

fn assert_all_gone(container: &BTreeSet<PathBuf>) {
    let limit = Instant::now() + Duration::from_secs(5);
    while !members(container).is_empty() {
        let left = members(container);
        if Instant::now() > limit {
            // A failed test leaves nothing either.
            // SAFETY: plain numbers, of processes in namespaces that this test's run made.
            left.iter().for_each(|pid| assert_eq!(unsafe { libc::kill(pid.parse().expect("a number"), libc::SIGKILL) }, 0));
            panic!("left: {left:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_is_left_when_the_supervisor_is_killed() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is there");
    let before = mounts();
    for (program, ready) in [(vec![STUBBORN], "changed 65534 0"), (vec!["/bin/bash", "-c", "sleep 100 & echo ready; while :; do /usr/bin/true; done"], "ready")] {
        let mut run = Running::start(Setup::get().vkernel_run(&[], &program));
        run.expect(ready);
        let container = container_of(&run);
        run.signal(libc::SIGKILL);
        assert_eq!(run.wait(), 128 + libc::SIGKILL);
        assert_all_gone(&container);
    }
    assert_eq!(mounts(), before);
}

#[test]
fn nothing_is_left_when_the_first_program_ends_before_its_children() {
    let mut run = Running::start(bash("sleep 100 & (sleep 100 &) ; echo ready; read x"));
    run.expect("ready\n");
    let container = container_of(&run);
    drop(run.child.stdin.take());
    assert_eq!(run.wait(), 1, "read's status at the end of input");
    assert_all_gone(&container);
}

#[test]
fn an_exec_that_waits_for_a_supervisor_which_is_killed_runs_nothing() {
    let mut run = Running::start(bash("echo ready; read x; /usr/bin/echo escaped; echo after $?"));
    run.expect("ready\n");
    let container = container_of(&run);
    run.signal(libc::SIGSTOP);
    run.child.stdin.take().expect("piped").write_all(b"go\n").expect("the guest reads");
    std::thread::sleep(Duration::from_millis(200));
    run.signal(libc::SIGKILL);
    run.wait();
    assert_all_gone(&container);
    let rest = run.rest();
    assert!(!rest.contains("escaped"), "{rest}");
}

#[test]
fn a_plain_program_leaves_no_audit_record_but_of_its_own_start() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let log = dir.path().join("audit.jsonl");
    let out = finish(Setup::get().vkernel_run(&["--audit", &log.to_string_lossy()], &["/usr/bin/true"]));
    assert!(out.status.success(), "{}", show(&out));
    let events: Vec<String> = lines(&log).iter().map(|l| format!("{} {}", l["event"].as_str().unwrap_or("?"), l["decision"].as_str().unwrap_or("?"))).collect();
    let refused: Vec<_> = events.iter().filter(|e| e.ends_with("denied")).collect();
    assert!(refused.is_empty() && events.contains(&"exec allowed".to_owned()), "{events:?}");
}

fn lines(log: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(log).expect("the log is written");
    text.lines().map(|l| serde_json::from_str(l).expect("one object a line")).collect()
}
