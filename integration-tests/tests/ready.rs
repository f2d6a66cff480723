//! Containers that a daemon keeps ready: what runs in one is what would have run without, whoever dies; and nobody is left.

use integration_tests::host::{Host, soon};
use integration_tests::{Setup, finish, groups, show};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::time::Duration;
use vkernel_client::Request;

const READY: &str = "zygotes = 2\n";

/// A daemon, on a host that has linked the release: that takes longer than clients wait.
fn host(settings: &str) -> Host {
    static LINKED: Once = Once::new();
    LINKED.call_once(|| assert!(finish(Setup::get().vkernel_run(&["--socket", "/nonexistent"], &["/usr/bin/true"])).status.success()));
    Host::with(settings)
}

/// `vkernel run` that asks this daemon, or nobody.
fn run(host: &Host, ready: bool, options: &[&str], program: &[&str]) -> Command {
    let setup = Setup::get();
    let mut c = Command::new(&setup.vkernel);
    let socket = if ready { host.socket() } else { "/nonexistent".into() };
    c.arg("--root").arg(host.path("containers")).arg("--socket").arg(socket);
    c.arg("run").arg(&setup.manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(&setup.key).args(options).arg("--").args(program);
    c
}

fn with_input(mut c: Command, input: &str) -> Output {
    let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("taken");
    child.wait_with_output().expect("our child")
}

fn zygotes(host: &Host) -> Value {
    host.ask(&Request::Status)["zygotes"]["kinds"].clone()
}

/// How many clients were handed over to ready containers, of which none may have started one itself after all.
fn handed(host: &Host) -> Value {
    let log = std::fs::read_to_string(host.path("serve.log")).expect("text");
    assert!(!log.contains("zygote"), "{log}");
    host.ask(&Request::Status)["zygotes"]["handed"].clone()
}

/// Records that are there, those of containers that wait among them.
fn records(host: &Host) -> Vec<PathBuf> {
    std::fs::read_dir(host.path("containers")).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

fn record(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(dir.join("record.json")).ok()?).ok()
}

/// The one container that runs.
fn running(host: &Host) -> Option<Value> {
    records(host).iter().filter_map(|dir| record(dir)).find(|r| r["status"] == "running")
}

fn supervisor(record: &Value) -> i32 {
    record["supervisor"]["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a number")
}

/// What the kernel executed as this process.
fn command_line(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// A program that waits, in a ready container; and its record.
fn waits(host: &Host, script: &str) -> (Child, Value) {
    let mut c = run(host, true, &[], &["/bin/bash", "-c", script]);
    let child = c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    soon("it runs", || running(host).is_some());
    let record = running(host).expect("it runs");
    assert!(command_line(supervisor(&record)).contains("zygote"), "it was not a ready one: {record}");
    (child, record)
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: plain numbers, of processes that this test has made.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn all_gone(host: &Host, id: &str) {
    soon("the container is gone", || groups(id).is_empty() && !host.path("containers").join(id).exists());
}

/// Everything a program can see of how it was started.
const LOOK: &str = "umask; ulimit -a; /usr/bin/env | /usr/bin/sort; pwd; id; cat; \
    while read -r name value; do case $name in Sig*|Cap*|NoNew*|Seccomp*|Cpus_allowed:|Uid:|Gid:|Groups:|NSpid:|NSsid:|NSpgid:) echo $name $value;; esac; done < /proc/self/status; \
    read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ nice _ < /proc/self/stat; echo nice $nice; ls -l /proc/self/fd | while read -r a b c d e; do echo $a $b; done; \
    cat /proc/self/mountinfo | while read -r a b c d e f; do echo $d $e; done; ls -1a /dev /; echo $#: \"$@\"; echo error >&2; exit 7";

#[test]
fn a_ready_container_is_like_one_that_its_caller_starts() {
    let host = host(READY);
    let options: [&[&str]; 3] = [
        &["-e", "A=1", "-e", "FROM_CALLER", "-e", "NOT_THERE", "--hostname", "h"],
        &["--user", "7:8", "--workdir", "/tmp", "--network", "none", "--memory", "200m", "--ulimit", "fsize=1000000", "--hostname", "h"],
        &["--read-only", "--cap-drop", "all", "--tmpfs", "/mnt", "--hostname", "h"],
    ];
    for options in options {
        let look = |ready: bool| {
            let mut c = run(&host, ready, options, &["/bin/bash", "-c", LOOK, "zero", "one", "", "th ree"]);
            c.env("FROM_CALLER", "a value");
            // SAFETY: between fork and exec, system calls about this process only.
            unsafe {
                c.pre_exec(|| {
                    libc::umask(0o027);
                    let limit = libc::rlimit { rlim_cur: 300, rlim_max: 500 };
                    libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                    libc::setpriority(libc::PRIO_PROCESS, 0, 3);
                    let mut one: libc::cpu_set_t = std::mem::zeroed();
                    libc::CPU_SET(0, &mut one);
                    libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one);
                    let mut blocked: libc::sigset_t = std::mem::zeroed();
                    libc::sigaddset(&raw mut blocked, libc::SIGUSR2);
                    libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
                    Ok(())
                });
            }
            show(&with_input(c, "what it reads\n"))
        };
        let own = look(false);
        assert!(own.contains("status Some(7)") && own.contains("what it reads") && own.contains("error"), "{own}");
        // The first brings the zygote about, the others find containers.
        for _ in 0..3 {
            assert_eq!(look(true), own, "{options:?}");
        }
    }
    // Two kinds are kept, the third went in the place of the first.
    assert_eq!((zygotes(&host), handed(&host)), (2.into(), 9.into()));
}

#[test]
fn it_was_ready_and_is_shown_only_when_it_runs() {
    let host = host(READY);
    assert!(finish(run(&host, true, &[], &["/usr/bin/true"])).status.success());
    soon("two wait", || records(&host).iter().filter_map(|dir| record(dir)).filter(|r| r["status"] == "reserved").count() == 2);
    soon("nothing is shown", || show(&host.call(&["ps", "-a", "-q"])) == "status Some(0)\n--- stdout\n--- stderr\n");
    let (child, record) = waits(&host, "read -r line < <(/usr/bin/sleep 1000); exit 3");
    let id = record["id"].as_str().expect("a name").to_owned();
    assert!(String::from_utf8_lossy(&host.call(&["ps", "-q"]).stdout).contains(&id));
    // Another program enters it as it enters any.
    assert_eq!(show(&host.call(&["exec", &id, "/bin/bash", "-c", "echo inside"])), "status Some(0)\n--- stdout\ninside\n--- stderr\n");
    // Who stands for it is gone, and so is it.
    kill(child.id() as i32, libc::SIGKILL);
    all_gone(&host, &id);
    drop(finish_child(child));
}

fn finish_child(child: Child) -> Output {
    child.wait_with_output().expect("our child")
}

#[test]
fn signals_reach_it_and_its_end_is_the_clients() {
    let host = host(READY);
    let (mut child, record) = waits(&host, "trap 'echo got it; exit 4' TERM; echo ready; while :; do /usr/bin/sleep 0.05; done");
    let id = record["id"].as_str().expect("a name").to_owned();
    let mut told = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    told.read_line(&mut line).expect("text");
    kill(child.id() as i32, libc::SIGTERM);
    told.read_line(&mut line).expect("text");
    assert_eq!((line.as_str(), child.wait().expect("our child").code()), ("ready\ngot it\n", Some(4)));
    all_gone(&host, &id);
}

#[test]
fn whoever_dies_nothing_is_left_and_the_next_one_runs() {
    let host = host(READY);
    // Its supervisor: the client is told, the guest does not live on.
    let (child, record) = waits(&host, "/usr/bin/sleep 1000");
    kill(supervisor(&record), libc::SIGKILL);
    let out = show(&finish_child(child));
    assert!(out.contains("status Some(125)") && out.contains("its supervisor is gone"), "{out}");
    all_gone(&host, record["id"].as_str().expect("a name"));
    // The zygote: what was taken goes on.
    let (child, record) = waits(&host, "read -r line < <(/usr/bin/sleep 1); exit 9");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", supervisor(&record))).expect("it lives");
    let zygote = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).and_then(|pid| pid.parse().ok()).expect("a parent");
    assert!(command_line(zygote).contains("zygote"));
    kill(zygote, libc::SIGKILL);
    assert_eq!(finish_child(child).status.code(), Some(9));
    soon("the daemon has noticed", || zygotes(&host) == 0);
    assert!(finish(run(&host, true, &[], &["/usr/bin/true"])).status.success());
    assert_eq!(zygotes(&host), 1);
    // The daemon: the same, and those that waited end.
    let mut host = host;
    let (child, _) = waits(&host, "read -r line < <(/usr/bin/sleep 1); exit 8");
    assert_eq!(host.end(libc::SIGKILL), -libc::SIGKILL);
    assert_eq!(finish_child(child).status.code(), Some(8));
    soon("nothing waits", || records(&host).is_empty());
    soon("no process is left", || host.processes().is_empty());
}

#[test]
fn what_is_decided_at_a_start_is_decided_for_a_ready_one_too() {
    let host = host(READY);
    let setup = Setup::get();
    // A copy of the manifest beside the release's other files.
    let dir = tempfile::tempdir_in(setup.manifest.parent().and_then(Path::parent).expect("in target")).expect("a directory can be made");
    let release = dir.path().join("release");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(setup.manifest.parent().expect("a directory")).arg(&release).status().expect("cp runs").success());
    let manifest = release.join("own.json");
    std::fs::copy(&setup.manifest, &manifest).expect("copied");
    let run = |ready: bool, options: &[&str]| {
        let socket = if ready { host.socket() } else { "/nonexistent".into() };
        let mut c = Command::new(&setup.vkernel);
        c.arg("--root").arg(host.path("containers")).arg("--socket").arg(socket);
        c.arg("run").arg(&manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(&setup.key).arg("--serials").arg(host.path("serials")).args(options);
        c.args(["--", "/bin/bash", "-c", "echo ran; /usr/bin/dd 2> /dev/null; echo $?"]);
        show(&finish(c))
    };
    let good = run(false, &[]);
    // An unlisted program is refused in it.
    assert!(good.contains("ran\n126\n"), "{good}");
    for _ in 0..3 {
        assert_eq!(run(true, &[]), good);
    }
    assert_eq!(handed(&host), 3);
    // A newer release of its name has run since.
    let serial = std::fs::read_dir(host.path("serials")).expect("made").flatten().map(|e| e.path()).find(|p| p.file_name().is_some_and(|n| n.len() == 64)).expect("remembered");
    let text = std::fs::read_to_string(&serial).expect("text");
    let name = text.split_once(' ').expect("two words").1;
    std::fs::write(&serial, format!("4000000000 {name}")).expect("written");
    let (ready, own) = (run(true, &[]), run(false, &[]));
    assert!(ready == own && own.contains("has run serial 4000000000"), "{ready}\n{own}");
    std::fs::write(&serial, &text).expect("written");
    assert_eq!(run(true, &[]), good);
    // A pin is another kind, and is kept.
    assert!(run(true, &["--pin", "other"]).contains("not what --pin names"));
    // The manifest is not what it was.
    let mut bytes = std::fs::read(&manifest).expect("read");
    let at = bytes.windows(9).position(|w| w == b"\"serial\":").expect("it has one") + 9;
    bytes.insert(at, b'9');
    std::fs::write(&manifest, bytes).expect("written");
    let (ready, own) = (run(true, &[]), run(false, &[]));
    assert!(ready == own && !own.contains("ran"), "{ready}\n{own}");
}

#[test]
fn a_file_that_was_looked_at_before_it_was_asked_about_is_looked_at_again_when_it_has_changed() {
    let host = host(READY);
    let setup = Setup::get();
    let dir = tempfile::tempdir_in(setup.rootfs.parent().expect("in target")).expect("a directory can be made");
    let image = dir.path().join("image");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&image).status().expect("cp runs").success());
    // A file of its own, and older than any container.
    let (program, copy) = (image.join("usr/bin/true"), image.join("usr/bin/.true"));
    std::fs::copy(&program, &copy).expect("copied");
    std::fs::rename(&copy, &program).expect("renamed");
    std::thread::sleep(Duration::from_secs(4));
    let run = |ready: bool| {
        let mut c = Command::new(&setup.vkernel);
        c.arg("--root").arg(host.path("containers")).arg("--socket").arg(if ready { host.socket() } else { "/nonexistent".into() });
        c.arg("run").arg(&setup.manifest).arg("--rootfs").arg(&image).arg("--key").arg(&setup.key).args(["--", "/usr/bin/true"]);
        show(&finish(c))
    };
    let waiting = || records(&host).iter().filter_map(|dir| record(dir)).filter(|r| r["status"] == "reserved").map(|r| command_line(supervisor(&r))).collect::<Vec<_>>();
    // Those that wait have been told what others have asked about: numbers behind the options.
    soon("they know", || run(true) == run(false) && waiting().len() == 2 && waiting().iter().all(|line| line.trim_end_matches('\0').ends_with(|c: char| c.is_ascii_digit())));
    let before = handed(&host);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&program).expect("ours");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).expect("read");
    file.write_all_at(&[byte[0] ^ 1], 100).expect("written");
    let (ready, own) = (run(true), run(false));
    assert!(ready == own && own.contains("status Some(126)"), "{ready}\n{own}");
    assert_eq!(handed(&host).as_u64(), before.as_u64().map(|n| n + 1));
}

#[test]
fn settings_read_again_end_those_that_wait() {
    let mut host = host(READY);
    assert!(finish(run(&host, true, &[], &["/usr/bin/true"])).status.success());
    assert_eq!(zygotes(&host), 1);
    host.ask(&Request::Reload);
    assert_eq!(zygotes(&host), 0);
    soon("nothing waits", || records(&host).is_empty());
    std::fs::write(host.path("etc/serve.toml"), "zygotes = 0\n").expect("written");
    host.ask(&Request::Reload);
    // Without them, everything is as ever.
    assert_eq!(show(&finish(run(&host, true, &[], &["/bin/bash", "-c", "echo own"]))), "status Some(0)\n--- stdout\nown\n--- stderr\n");
    assert_eq!(zygotes(&host), 0);
    assert_eq!(host.end(libc::SIGTERM), 0);
}

#[test]
fn streams_of_every_kind() {
    let host = host(READY);
    let file = host.path("out");
    let text = |socket: bool| {
        let script = "echo to a file; cat; exec 3> /dev/stdout; echo again >&3; [ -w /proc/self/fd/0 ] && echo writable; ls -l /proc/self/fd/0 > /dev/null; echo e >&2";
        let mut c = run(&host, socket, &[], &["/bin/bash", "-c", script]);
        std::fs::write(host.path("in"), "of a file\n").expect("written");
        let out = || std::fs::File::create(&file).expect("ours");
        let both = out();
        c.stdin(std::fs::File::open(host.path("in")).expect("ours")).stdout(both.try_clone().expect("ours")).stderr(both);
        let status = c.status().expect("it starts");
        (status.code(), std::fs::read_to_string(&file).expect("text"))
    };
    let own = text(false);
    for _ in 0..3 {
        assert_eq!(text(true), own);
    }
    assert_eq!(handed(&host), 3);
    // A closed one, and a command line longer than a request: by itself.
    let long = "x".repeat(100_000);
    let many: Vec<&str> = ["/bin/bash", "-c", "echo ${#1} $#", "zero"].into_iter().chain(std::iter::repeat_n(long.as_str(), 12)).collect();
    assert_eq!(show(&finish(run(&host, true, &[], &many))), "status Some(0)\n--- stdout\n100000 12\n--- stderr\n");
    assert_eq!(show(&finish(run(&host, true, &[], &many[..6]))), "status Some(0)\n--- stdout\n100000 2\n--- stderr\n");
    let mut c = run(&host, true, &[], &["/bin/bash", "-c", "echo open"]);
    // SAFETY: between fork and exec, one system call.
    unsafe {
        c.pre_exec(|| {
            libc::close(0);
            Ok(())
        });
    }
    assert_eq!(show(&c.output().expect("it starts")), "status Some(0)\n--- stdout\nopen\n--- stderr\n");
}

#[test]
fn many_at_once() {
    let host = host("zygotes = 1\nzygote_containers = 3\n");
    let start = |n: usize| run(&host, true, &[], &["/bin/bash", "-c", &format!("echo {n}; exit {n}")]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let children: Vec<Child> = (0..24).map(|n| start(n).expect("it starts")).collect();
    for (n, child) in children.into_iter().enumerate() {
        let out = finish_child(child);
        assert_eq!(show(&out), format!("status Some({n})\n--- stdout\n{n}\n--- stderr\n"));
    }
    assert_eq!((zygotes(&host), handed(&host)), (1.into(), 24.into()));
}

#[test]
fn a_daemon_that_does_not_answer_delays_a_start_and_loses_none() {
    let host = host(READY);
    assert!(finish(run(&host, true, &[], &["/usr/bin/true"])).status.success());
    host.signal(libc::SIGSTOP);
    let out = show(&finish(run(&host, true, &[], &["/bin/bash", "-c", "echo own"])));
    host.signal(libc::SIGCONT);
    assert_eq!(out, "status Some(0)\n--- stdout\nown\n--- stderr\n");
}

#[test]
fn the_small_program_in_front_does_what_the_whole_one_does() {
    let host = host(READY);
    let front = Setup::get().vkernel.with_file_name("vkernel-front");
    let by_front = |c: &Command| {
        let mut by_front = Command::new(&front);
        by_front.args(c.get_args());
        by_front
    };
    let look = |ready: bool, in_front: bool| {
        let c = run(&host, ready, &["--hostname", "h", "-e", "FROM_CALLER"], &["/bin/bash", "-c", LOOK, "zero", "one"]);
        let mut c = if in_front { by_front(&c) } else { c };
        c.env("FROM_CALLER", "a value");
        // SAFETY: between fork and exec, system calls about this process only.
        unsafe {
            c.pre_exec(|| {
                let mut blocked: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut blocked, libc::SIGUSR2);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
                Ok(())
            });
        }
        show(&with_input(c, "what it reads\n"))
    };
    let own = look(false, false);
    assert!(own.contains("status Some(7)") && own.contains("FROM_CALLER=a value"), "{own}");
    assert_eq!(look(false, true), own);
    for _ in 0..3 {
        assert_eq!(look(true, true), own);
    }
    // A container that one made ready is the other's too.
    assert_eq!((look(true, false), zygotes(&host), handed(&host)), (own, 1.into(), 4.into()));
    // Whatever else there is to do, the whole program does.
    for words in [&["--version"][..], &["run", "--nonsense"], &["ps", "--all"], &[], &["run", "/nonexistent", "--", "true"], &["check"]] {
        let mut c = host.command();
        c.args(words);
        // Usage is told by the name that it was called by.
        assert_eq!(show(&finish(by_front(&c))).replace("vkernel-front", "vkernel"), show(&finish(c)), "{words:?}");
    }
    // Of what it was given it misses nothing, and closed streams stay the whole one's to open.
    let mut c = by_front(&run(&host, true, &[], &["/bin/bash", "-c", "echo open; exit 3"]));
    // SAFETY: between fork and exec, one system call.
    unsafe {
        c.pre_exec(|| {
            libc::close(0);
            Ok(())
        });
    }
    assert_eq!(show(&c.output().expect("it starts")), "status Some(3)\n--- stdout\nopen\n--- stderr\n");
}

#[test]
fn what_can_be_read_once_is_read_by_its_caller() {
    let host = host(READY);
    let setup = Setup::get();
    let script = r#""$0" --root "$1" --socket "$2" run "$3" --rootfs "$4" --key "$5" --env-file <(echo SECRET=here) -- /bin/bash -c 'echo $SECRET'"#;
    let mut c = Command::new("bash");
    c.args(["-c", script]).arg(&setup.vkernel).arg(host.path("containers")).arg(host.socket()).args([&setup.manifest, &setup.rootfs, &setup.key]);
    assert_eq!(show(&finish(c)), "status Some(0)\n--- stdout\nhere\n--- stderr\n");
    // A file by its name is no such thing.
    std::fs::write(host.path("env"), "SECRET=in a file\nFROM_CALLER\n").expect("written");
    let mut c = run(&host, true, &["--env-file", &host.path("env").to_string_lossy()], &["/bin/bash", "-c", "echo $SECRET $FROM_CALLER"]);
    c.env("FROM_CALLER", "and outside");
    assert_eq!(show(&c.stdin(Stdio::null()).output().expect("it starts")), "status Some(0)\n--- stdout\nin a file and outside\n--- stderr\n");
    assert_eq!(handed(&host), 1);
    // What is logged is logged where its caller means.
    let audit = host.path("audit.jsonl");
    let script = r#""$0" --root "$1" --socket "$2" run "$3" --rootfs "$4" --key "$5" --audit /dev/stdout -- /usr/bin/true | grep -c container-stop"#;
    let mut c = Command::new("bash");
    c.args(["-c", script]).arg(&setup.vkernel).arg(host.path("containers")).arg(host.socket()).args([&setup.manifest, &setup.rootfs, &setup.key]);
    assert_eq!(show(&finish(c)), "status Some(0)\n--- stdout\n1\n--- stderr\n");
    let events = || {
        let events: Vec<Value> = host.audit().into_iter().map(|record| record["event"].clone()).collect();
        let _ = std::fs::rename(&audit, host.path("rotated"));
        events
    };
    let logged = |ready: bool| {
        assert!(finish(run(&host, ready, &["--audit", &audit.to_string_lossy()], &["/usr/bin/true"])).status.success());
        events()
    };
    let own = logged(false);
    assert!(own.len() > 4 && own.last().is_some_and(|event| event == "container-stop"), "{own:?}");
    for _ in 0..3 {
        assert_eq!(logged(true), own);
    }
    assert_eq!(handed(&host), 4);
}
