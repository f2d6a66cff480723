//! The daemon: requests on its socket, containers it serves, and what happens when it, its holder, or nothing of both survives. Every daemon of these tests has a directory of its own.

use integration_tests::host::{Host, holders, soon};
use integration_tests::{Setup, finish, groups, show};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;
use vkernel_client::{Client, Error, Reply, Request};

/// Says how often a program ran of how often it was tried. It is a long script whose interpreter is a long script, and so on, so that most of the time something is being decided: the hash of
/// a file that the guest wrote is not remembered.
const COUNTING: &str = "long() { { echo \"#!$2\"; /usr/bin/head -c 14000000 /dev/zero; } > $1; /usr/bin/chmod +x $1; }; long /tmp/c /usr/bin/true; long /tmp/b /tmp/c; long /tmp/long /tmp/b; \
                        n=0; y=0; trap e=1 TERM; while [ -z \"$e\" ]; do /tmp/long && y=$((y+1)); n=$((n+1)); done 2> /dev/null; echo ran $y of $n";

fn exec(container: &str, path: &str) -> Request {
    Request::Exec { container: container.into(), path: Some(path.into()), hash: None, size: None, library: false }
}

#[test]
fn a_container_in_the_background_is_the_daemons_and_can_be_asked_about() {
    let host = Host::started();
    let id = host.detach(&["--name", "web"], "trap 'echo bye; exit 7' TERM; echo out; while :; do /usr/bin/sleep 0.05; done");
    assert_eq!(host.ask(&Request::Status)["containers"], json!([id]));
    assert_eq!(host.ask(&Request::Ps { all: false })[0]["id"], *id);
    let told = host.ask(&Request::Inspect { container: "web".into() });
    assert!(told["daemon"] == true && told["status"] == "running", "{told}");
    soon("a line is logged", || host.logs(&id) == "out\n");
    let mut lines = Vec::new();
    host.client()
        .stream(&Request::Logs { container: id.clone(), tail: None, follow: false }, |line| {
            lines.push(line["text"].clone());
            true
        })
        .expect("logs");
    assert_eq!(lines, ["out"]);
    assert!(host.ask(&Request::Stats { container: id.clone() })["memory_bytes"].as_u64().is_some_and(|n| n > 0));
    // Decisions, by path and by hash.
    let Reply::Ok { entry_point: Some(entry), .. } = host.client().call(&exec(&id, "/usr/bin/true")).expect("an answer") else { panic!("true is listed") };
    let refused = |path: &str| matches!(host.client().result(&exec(&id, path)), Err(Error::Denied(reason)) if reason == "not-a-program");
    assert!(refused("/etc/passwd") && matches!(host.client().result(&exec(&id, "/nothing")), Err(Error::Failed { .. })));
    // What follows the line in the log follows it a moment later.
    soon("it has run", || std::fs::read_to_string(host.path("audit.jsonl")).is_ok_and(|text| text.lines().any(|line| line.contains("/usr/bin/sleep") && line.ends_with('}'))));
    let hash = host.audit().iter().find(|r| r["path"] == "/usr/bin/sleep").expect("it has run")["hash"].as_str().expect("text").to_owned();
    let by_hash = |hash: &str, size| host.client().call(&Request::Exec { container: id.clone(), path: None, hash: Some(hash.into()), size, library: false }).expect("an answer");
    let Reply::Ok { entry_point: Some(sleep), .. } = by_hash(&hash, None) else { panic!("sleep is listed") };
    assert_ne!(sleep, entry);
    assert_eq!(by_hash(&hash, Some(3)), Reply::Denied { reason: "size-mismatch".into() });
    assert_eq!(by_hash(&format!("blake3:{}", "0".repeat(64)), None), Reply::Denied { reason: "unknown-hash".into() });
    // Its end.
    let waiter = {
        let mut c = host.client();
        let id = id.clone();
        std::thread::spawn(move || c.result(&Request::Wait { container: id }))
    };
    host.ask(&Request::Kill { container: "web".into(), signal: Some("TERM".into()), all: false });
    assert_eq!(waiter.join().expect("a thread").expect("a code"), 7);
    soon("nothing is served", || host.ask(&Request::Status)["containers"] == json!([]));
    host.ask(&Request::Rm { container: "web".into(), force: false });
    assert_eq!((host.ask(&Request::Ps { all: true }), groups(&id)), (json!([]), vec![]));
}

#[test]
fn run_requests_go_through_the_command_line_and_its_checks() {
    let host = Host::started();
    let setup = Setup::get();
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let run = |options: &[&str], command: &[&str]| {
        let fixed = [format!("--rootfs={}", setup.rootfs.display()), format!("--key={}", setup.key.display())];
        let options = fixed.into_iter().chain(options.iter().map(|o| (*o).to_owned())).collect();
        host.client().result(&Request::Run { manifest: text(&setup.manifest), options, command: command.iter().map(|c| (*c).to_owned()).collect() })
    };
    let id = run(&["--name", "shop", "-d", "-e", "NOTIFY_SOCKET"], &["/bin/bash", "-c", "umask; ulimit -Sn; echo $NOTIFY_SOCKET.; exit 5"]).expect("an id");
    assert_eq!(host.ask(&Request::Wait { container: "shop".into() }), 5, "{id}");
    // Like one that was started by hand.
    let by_hand = host.detach(&[], "umask; ulimit -Sn; echo .");
    host.ask(&Request::Wait { container: by_hand.clone() });
    assert_eq!(host.logs("shop"), host.logs(&by_hand));
    let why = |result: Result<Value, Error>| result.expect_err("refused").to_string();
    assert!(why(run(&["--name", "shop"], &["/usr/bin/true"])).contains("exists"));
    assert!(why(run(&["--no-such"], &["/usr/bin/true"])).contains("--no-such"));
    assert!(why(run(&["--help"], &["/usr/bin/true"])).starts_with("run: "));
    assert!(why(run(&["--hostname"], &["/usr/bin/true"])).starts_with("run: "), "an option that takes the manifest for its value");
    let refused = run(&[], &["/usr/bin/dd"]).expect("it runs until it is refused");
    assert_eq!(host.ask(&Request::Wait { container: refused.as_str().expect("an id").into() }), 126);
    assert!(why(run(&[], &[])).starts_with("run: "));
}

#[test]
fn bad_input_gets_an_error_and_the_connection_lives_on() {
    let host = Host::started();
    let mut stream = UnixStream::connect(host.socket()).expect("it listens");
    let mut answers = BufReader::new(stream.try_clone().expect("a duplicate"));
    let mut ask = |line: &[u8]| -> Value {
        stream.write_all(&[line, b"\n"].concat()).expect("written");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
    };
    let long = vec![b'x'; (1 << 20) + 100];
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let lines: [&[u8]; 10] = [
        b"nonsense",
        b"{}",
        b"[]",
        b"\xff\xfe\0",
        br#"{"type":"fly"}"#,
        br#"{"type":"ps","al":true}"#,
        br#"{"type":"kill"}"#,
        br#"{"type":"inspect","container":"../x"}"#,
        &long,
        &deep,
    ];
    for line in lines {
        let answer = ask(line);
        assert!(answer["status"] == "error" && answer["why"].as_str().is_some_and(|w| !w.is_empty()), "{answer}");
        assert_eq!(ask(br#"{"id":[1,"a"],"type":"ps"}"#), json!({"id": [1, "a"], "status": "ok", "result": []}));
    }
    let answer = ask(br#"{"id":"q","type":"adopt","container":"x","root":"/","waits":false}"#);
    assert!(answer["status"] == "error" && answer["id"] == "q", "{answer}");
    // Of the examples of the manual.
    let mut socat = Command::new("/bin/sh");
    socat.args(["-c", &format!(r#"echo '{{"type": "status"}}' | socat -t 10 - UNIX-CONNECT:{}"#, host.socket().display())]);
    let out = finish(socat);
    let told: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", show(&out)));
    assert_eq!(told["result"]["pid"], host.daemon.as_ref().expect("it runs").id());
}

#[test]
fn only_root_is_heard() {
    let host = Host::started();
    let status = |uid: u32| {
        let mut c = Command::new("socat");
        c.args(["-t", "10", "-", &format!("UNIX-CONNECT:{}", host.socket().display())]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).uid(uid);
        let mut child = c.spawn().expect("socat runs");
        let _ = child.stdin.take().expect("piped").write_all(b"{\"type\": \"status\"}\n");
        String::from_utf8_lossy(&child.wait_with_output().expect("our child").stdout).into_owned()
    };
    assert!(status(0).contains("\"ok\""));
    assert_eq!(status(65534), "", "the socket's mode");
    // Even where the modes would let others in.
    for path in [host.dir.path(), &host.socket()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
    }
    let told = status(65534);
    assert!(told.contains("only root") && !told.contains("\"ok\""), "{told}");
}

#[test]
fn hundreds_of_clients_are_answered_and_too_many_are_told_so() {
    let host = Host::with("clients = 400\n");
    let id = host.detach(&[], "while :; do /usr/bin/sleep 1; done");
    let crowd: Vec<_> = (0..350)
        .map(|_| {
            let (mut client, id) = (host.client(), id.clone());
            std::thread::spawn(move || (0..5).all(|_| client.result(&Request::Ps { all: false }).is_ok() && client.result(&exec(&id, "/usr/bin/true")).is_ok()))
        })
        .collect();
    assert!(crowd.into_iter().all(|t| t.join().expect("a thread")));
    soon("they are gone", || host.ask(&Request::Status)["clients"] == 1);
    let held: Vec<Client> = (0..400).map(|_| host.client()).collect();
    soon("one more is refused", || host.client().result(&Request::Status).is_err_and(|e| e.to_string().contains("too many")));
    drop(held);
    soon("there is room again", || host.client().result(&Request::Status).is_ok());
}

#[test]
fn metrics_count_what_was_decided() {
    let mut host = Host::without();
    let at = host.path("metrics");
    std::fs::write(host.path("etc/serve.toml"), format!("metrics = {at:?}\n")).expect("written");
    host.start();
    let get = |path: &str| {
        let mut stream = UnixStream::connect(&at).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
        std::io::read_to_string(stream).expect("text")
    };
    let number = |name: &str| -> Option<f64> { get("/metrics").lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok()) };
    assert_eq!((number("vkernel_containers"), number("vkernel_execs_allowed_total")), (Some(0.0), Some(0.0)));
    let id = host.detach(&[], "for i in 1 2 3; do /usr/bin/true; /usr/bin/dd; done; /usr/bin/sleep 30");
    soon("it has run", || host.audit().iter().any(|r| r["path"] == "/usr/bin/sleep"));
    let records = host.audit();
    let count = |decision: &str| records.iter().filter(|r| r["decision"] == decision && r.get("latency_us").is_some()).count() as f64;
    soon("all are counted", || number("vkernel_decision_seconds_count").is_some_and(|n| n >= count("allowed") + count("denied")));
    let reason = records.iter().find(|r| r["decision"] == "denied").expect("dd is not listed")["reason"].as_str().expect("text").to_owned();
    assert_eq!(number(&format!("vkernel_execs_refused_total{{reason=\"{reason}\"}}")), Some(3.0));
    assert!(number("vkernel_hash_cache_hits_total").is_some_and(|n| n > 0.0) && number("vkernel_containers") == Some(1.0));
    assert!(number(&format!("vkernel_container_memory_bytes{{container=\"{id}\"}}")).is_some_and(|n| n > 0.0));
    assert!(get("/").starts_with("HTTP/1.1 404"));
}

#[test]
fn events_show_decisions_as_they_are_made() {
    let host = Host::started();
    let mut listener = host.client();
    listener.send(&Request::Events { container: None }).expect("sent");
    soon("somebody listens", || host.ask(&Request::Status)["clients"] == 2);
    let id = host.detach(&[], "/usr/bin/true; /usr/bin/dd; /usr/bin/sleep 5");
    let mut seen = Vec::new();
    while !seen.contains(&("denied".to_owned(), "/usr/bin/dd".to_owned())) {
        let Reply::Event { event } = listener.answer().expect("an event").reply else { panic!("no event") };
        if event["container"] == *id {
            seen.push((event["decision"].as_str().unwrap_or_default().to_owned(), event["path"].as_str().unwrap_or_default().to_owned()));
        }
    }
    assert!(seen.contains(&("allowed".to_owned(), "/usr/bin/true".to_owned())), "{seen:?}");
}

#[test]
fn a_reload_takes_everything_or_nothing() {
    let mut host = Host::started();
    let id = host.detach(&[], "while :; do /usr/bin/true && echo ran || echo refused; done 2> /dev/null");
    let may = |host: &Host| host.client().result(&exec(&id, "/usr/bin/true")).is_ok();
    let last = |host: &Host| host.logs(&id).lines().last().unwrap_or_default().to_owned();
    soon("it runs", || last(&host) == "ran");
    let hash = host.audit().iter().find(|r| r["path"] == "/usr/bin/true").expect("it has run")["hash"].as_str().expect("text").to_owned();
    let revoked = host.path("etc/revoked.json");
    // A list with a mistake beside one that is right: nothing of both is taken.
    std::fs::write(&revoked, json!({"files": [hash]}).to_string()).expect("written");
    std::fs::write(host.path("etc/keys/new.pub"), "no key").expect("written");
    let failed = host.client().result(&Request::Reload).expect_err("a bad key");
    assert!(failed.to_string().contains("new.pub") && failed.to_string().contains("stay in force"), "{failed}");
    assert!(may(&host));
    // The same through the signal.
    host.signal(libc::SIGHUP);
    soon("the log says so", || std::fs::read_to_string(host.path("serve.log")).is_ok_and(|l| l.matches("nothing was changed").count() == 2));
    assert!(may(&host) && last(&host) == "ran");
    std::fs::remove_file(host.path("etc/keys/new.pub")).expect("ours");
    let told = host.ask(&Request::Reload);
    assert!(told.as_str().is_some_and(|t| t.contains("1 revoked files")), "{told}");
    assert!(!may(&host));
    soon("it is refused", || last(&host) == "refused");
    std::fs::write(&revoked, "{}").expect("written");
    host.signal(libc::SIGHUP);
    soon("it runs again", || last(&host) == "ran");
    // The whole release.
    let manifest: Value = serde_json::from_slice(&std::fs::read(Setup::get().manifest).expect("a manifest")).expect("JSON");
    std::fs::write(&revoked, json!({"files": [manifest["container_id"]]}).to_string()).expect("written");
    assert!(host.ask(&Request::Reload).as_str().is_some_and(|t| t.contains("1 may start nothing")));
    soon("all is refused", || last(&host) == "refused");
    assert!(host.audit().iter().any(|r| r["reason"] == "release-revoked"));
    // The next daemon does not believe it either.
    host.end(libc::SIGKILL);
    let before = host.logs(&id).lines().count();
    host.start();
    soon("it is served", || host.logs(&id).lines().count() > before + 3);
    assert_eq!(last(&host), "refused");
}

#[test]
fn a_killed_daemon_leaves_execs_waiting_and_there_is_one_record_of_each() {
    let mut host = Host::started();
    let id = host.detach(&[], COUNTING);
    // Until one was killed in the middle of a decision.
    for round in 0.. {
        if round >= 12 && host.undecided() > 3 {
            break;
        }
        assert!(round < 60, "no daemon was killed while it decided");
        let before = host.execs();
        soon("it runs programs", || host.execs() > before + 3);
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        host.end(libc::SIGKILL);
        // Nothing is decided by anybody, so nothing runs.
        let (now, lines) = (host.execs(), host.audit().len());
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!((host.execs(), host.audit().len()), (now, lines), "something ran without a daemon");
        host.start();
        assert_eq!(host.ask(&Request::Status)["containers"], json!([id]));
    }
    host.call(&["kill", &id, "TERM"]);
    soon("it has ended", || host.logs(&id).contains("ran "));
    soon("nothing is served", || host.ask(&Request::Status)["containers"] == json!([]));
    let told = host.logs(&id);
    let numbers: Vec<usize> = told.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [ran, tried] = numbers[..] else { panic!("{told}") };
    // Each try has exactly one record, whatever the daemon was doing when it died, and no record stands there twice.
    let records = host.audit();
    let lines: std::collections::BTreeSet<String> = records.iter().map(Value::to_string).collect();
    let tries = records.iter().filter(|r| r["event"] == "exec" && r["path"] == "/tmp/long").count();
    assert_eq!((lines.len(), tries), (records.len(), tried), "{told}");
    // What was refused is what the dead daemons had not decided: the program itself, or a library of it.
    assert_eq!(tried - ran, host.undecided(), "{told}");
    host.call(&["rm", &id]);
    assert_eq!(groups(&id), Vec::<PathBuf>::new());
    assert_eq!(host.end(libc::SIGTERM), 0);
    soon("no process is left", || host.processes().is_empty() && holders(&host.path("holder")).is_empty());
    assert!(!host.socket().exists() && !host.path("holder").exists());
}

#[test]
fn a_holder_that_is_killed_is_replaced() {
    let mut host = Host::started();
    let id = host.detach(&[], COUNTING);
    let [first] = holders(&host.path("holder"))[..] else { panic!("one holder") };
    // SAFETY: plain numbers; this test's own holder.
    assert_eq!(unsafe { libc::kill(first, libc::SIGKILL) }, 0);
    soon("there is another one", || matches!(holders(&host.path("holder"))[..], [other] if other != first));
    soon("it is told", || std::fs::read_to_string(host.path("serve.log")).is_ok_and(|l| l.contains("holder-replaced")));
    let before = host.execs();
    soon("the guest goes on", || host.execs() > before + 3);
    host.end(libc::SIGKILL);
    host.start();
    assert_eq!(host.ask(&Request::Status)["containers"], json!([id]));
    let before = host.execs();
    soon("the guest goes on", || host.execs() > before + 3);
}

#[test]
fn when_no_daemon_comes_in_time_execs_fail_and_none_is_approved() {
    let mut host = Host::with("takeover_seconds = 1\n");
    let id = host.detach(&[], "while :; do /usr/bin/true && echo ran || echo failed; done 2> /dev/null");
    soon("it runs", || host.logs(&id).contains("ran"));
    host.end(libc::SIGKILL);
    let records = host.audit().len();
    let lines = host.logs(&id).lines().count();
    std::thread::sleep(Duration::from_millis(400));
    assert!(host.logs(&id).lines().count() <= lines + 1, "execs wait while somebody may come");
    soon("they fail", || host.logs(&id).lines().rev().take(20).filter(|l| *l == "failed").count() == 20);
    assert!(holders(&host.path("holder")).is_empty());
    assert_eq!(host.audit().len(), records, "nothing was decided");
    host.start();
    assert_eq!(host.ask(&Request::Status)["containers"], json!([]));
    // It can still be removed.
    assert!(host.call(&["rm", "-f", &id]).status.success());
    assert_eq!(groups(&id), Vec::<PathBuf>::new());
}

#[test]
fn further_processes_and_their_descendants_are_the_daemons_too() {
    let mut host = Host::started();
    let id = host.detach(&[], "while :; do /usr/bin/sleep 0.2; done");
    let processes = |host: &Host| host.ask(&Request::Status)["processes"].clone();
    let script = "(while :; do /usr/bin/true && echo ran; /usr/bin/sleep 0.02; done) > /tmp/further 2>&1 & exit 0";
    assert!(host.call(&["exec", "-d", &id, "/bin/bash", "-c", script]).status.success());
    let lines =
        |host: &Host| host.call(&["exec", &id, "/usr/bin/wc", "-l", "/tmp/further"]).stdout.iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    soon("its descendant runs programs", || lines(&host) > 2);
    assert_eq!((processes(&host), host.ask(&Request::Status)["containers"].clone()), (json!(2), json!([id])));
    host.end(libc::SIGKILL);
    host.start();
    assert_eq!(processes(&host), 2);
    let before = lines(&host);
    soon("it goes on", || lines(&host) > before + 2);
    assert!(host.call(&["rm", "-f", &id]).status.success());
    soon("nothing is served", || processes(&host) == 0);
}

#[test]
fn a_daemon_that_ends_cleanly_leaves_its_containers_to_the_next() {
    let mut host = Host::started();
    let id = host.detach(&[], COUNTING);
    soon("it runs programs", || host.execs() > 5);
    assert_eq!(host.end(libc::SIGTERM), 0);
    host.start();
    let before = host.execs();
    soon("it goes on", || host.execs() > before + 5);
    host.call(&["kill", &id, "TERM"]);
    soon("it has ended", || host.logs(&id).contains("ran "));
    assert!(host.audit().iter().all(|r| r["decision"] != "denied"), "nobody was refused");
    // A second daemon in the same place would answer the same execs.
    let mut second = host.command();
    second.arg("serve").arg("--config").arg(host.path("etc"));
    let out = finish(second);
    assert!(out.status.code() == Some(125) && show(&out).contains("runs already"), "{}", show(&out));
}

/// Keeps what a service manager keeps.
struct Manager {
    messages: Receiver<(String, Option<OwnedFd>)>,
    at: PathBuf,
    seen: Vec<String>,
    stored: BTreeMap<String, OwnedFd>,
}

/// A message, and the descriptor that came with it.
fn receive(socket: &UnixDatagram) -> Option<(String, Option<OwnedFd>)> {
    let mut text = [0u8; 4096];
    let mut space = [0u64; 16];
    let mut bytes = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // SAFETY: a message header may be all zero; what it points to outlives the call.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut bytes;
    header.msg_iovlen = 1;
    header.msg_control = space.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&space);
    // SAFETY: a valid header; one control message at most, of one descriptor.
    let (n, fd) = unsafe {
        let n = libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC);
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        let fd = (n >= 0 && !control.is_null()).then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(control).cast::<i32>().read_unaligned()));
        (n, fd)
    };
    (n >= 0).then(|| (String::from_utf8_lossy(&text[..n as usize]).into_owned(), fd))
}

impl Manager {
    fn new(at: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&at).expect("bound");
        let (sender, messages) = std::sync::mpsc::channel();
        // It reads all the time: the queue of a datagram socket is short, and who sends waits.
        std::thread::spawn(move || {
            while let Some(message) = receive(&socket) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self { messages, at, seen: Vec::new(), stored: BTreeMap::new() }
    }

    fn take_one(&mut self) -> bool {
        let Ok((message, fd)) = self.messages.recv_timeout(Duration::from_secs(10)) else { return false };
        let value = |key: &str| message.lines().find_map(|l| l.strip_prefix(key)).map(str::to_owned);
        if let Some(name) = value("FDNAME=") {
            match fd {
                Some(fd) => drop(self.stored.insert(name, fd)),
                None => drop(self.stored.remove(&name)),
            }
        }
        self.seen.extend(message.lines().map(str::to_owned));
        true
    }

    fn until(&mut self, wanted: &str) {
        while !self.seen.iter().any(|l| l.starts_with(wanted)) {
            assert!(self.take_one(), "{wanted} did not come: {:?}", self.seen);
        }
        self.seen.clear();
    }

    /// Starts the daemon as a unit with a socket and with what was stored.
    fn start(&mut self, host: &Host, listener: &UnixListener) -> Child {
        let mut fds = vec![("vkernel.socket".to_owned(), listener.as_fd().try_clone_to_owned().expect("a duplicate"))];
        fds.extend(self.stored.iter().map(|(name, fd)| (name.clone(), fd.try_clone().expect("a duplicate"))));
        let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
        let serve = format!(
            "LISTEN_PID=$$ exec {} --root {} --socket {} serve --config {}",
            Setup::get().vkernel.display(),
            host.path("containers").display(),
            host.socket().display(),
            host.path("etc").display()
        );
        let mut c = Command::new("/bin/sh");
        c.args(["-c", &serve]).env("LISTEN_FDS", fds.len().to_string()).env("LISTEN_FDNAMES", names.join(":")).env("NOTIFY_SOCKET", &self.at).env("WATCHDOG_USEC", "400000");
        c.stdin(Stdio::null());
        let raw: Vec<i32> = fds.iter().map(|(_, fd)| fd.as_raw_fd()).collect();
        // SAFETY: dup2 and fcntl only. The numbers are first moved out of each other's way.
        unsafe {
            c.pre_exec(move || {
                let high: Vec<i32> = raw.iter().map(|fd| libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 500)).collect();
                for (at, fd) in high.iter().enumerate() {
                    libc::dup2(*fd, 3 + at as i32);
                }
                Ok(())
            });
        }
        c.spawn().expect("the daemon starts")
    }
}

#[test]
fn under_a_service_manager_descriptors_are_stored_there_and_come_back() {
    let mut host = Host::without();
    let mut manager = Manager::new(host.path("notify"));
    let listener = UnixListener::bind(host.socket()).expect("bound");
    host.daemon = Some(manager.start(&host, &listener));
    manager.until("READY=1");
    manager.until("WATCHDOG=1");
    let id = host.detach(&[], COUNTING);
    manager.until("STATUS=serving 1 ");
    let mut parts: Vec<_> = manager.stored.keys().filter_map(|n| n.split_once('.')).map(|(_, part)| part.to_owned()).collect();
    parts.sort();
    assert_eq!(parts, ["journal", "listener", "pid", "ring", "root"]);
    assert!(holders(&host.path("holder")).is_empty());
    soon("it runs programs", || host.execs() > 5);
    host.end(libc::SIGKILL);
    let now = host.execs();
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(host.execs(), now);
    host.daemon = Some(manager.start(&host, &listener));
    manager.until("READY=1");
    soon("it goes on", || host.execs() > now + 5);
    host.signal(libc::SIGHUP);
    manager.until("RELOADING=1");
    manager.until("READY=1");
    host.call(&["kill", &id, "TERM"]);
    manager.until("STATUS=serving 0 ");
    assert!(manager.stored.is_empty(), "{:?}", manager.stored);
    assert_eq!(host.end(libc::SIGTERM), 0);
    manager.until("STOPPING=1");
    assert!(host.socket().exists(), "the socket is the service manager's");
}

#[test]
fn a_bundle_that_waits_survives_the_daemon_and_is_started_by_the_next() {
    let mut host = Host::started();
    let setup = Setup::get();
    let name = host.dir.path().file_name().expect("named").to_string_lossy().into_owned();
    let config = json!({
        "ociVersion": "1.0.2",
        "root": {"path": setup.rootfs, "readonly": true},
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/bash", "-c", "/usr/bin/true && echo ran; trap 'exit 0' TERM; while :; do /usr/bin/sleep 0.05; done"], "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "annotations": {"io.vkernel.manifest": setup.manifest},
        "linux": {"cgroupsPath": format!("/vkernel-daemon-test/{name}"), "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
    });
    std::fs::create_dir(host.path("bundle")).expect("made");
    std::fs::write(host.path("bundle/config.json"), config.to_string()).expect("written");
    let written = || std::fs::read_to_string(host.path("out")).unwrap_or_default();
    let create = format!(
        "exec {} --root {} --socket {} create --bundle {} --key {} --pid-file {} --audit {} box > {} 2>&1 < /dev/null",
        setup.vkernel.display(),
        host.path("containers").display(),
        host.socket().display(),
        host.path("bundle").display(),
        setup.key.display(),
        host.path("pid").display(),
        host.path("audit.jsonl").display(),
        host.path("out").display()
    );
    let mut c = Command::new("/bin/sh");
    c.args(["-c", &create]);
    assert!(finish(c).status.success(), "{}", written());
    let status = |host: &Host| -> Value { serde_json::from_slice::<Value>(&host.call(&["state", "box"]).stdout).unwrap_or_default()["status"].clone() };
    assert_eq!(status(&host), "created");
    assert_eq!(host.ask(&Request::Status)["containers"], json!(["box"]));
    host.end(libc::SIGKILL);
    let refused = host.call(&["start", "box"]);
    assert!(!refused.status.success() && show(&refused).contains("no daemon listens"), "{}", show(&refused));
    host.start();
    assert_eq!(status(&host), "created");
    assert!(host.call(&["start", "box"]).status.success());
    soon("it has run a program", || std::fs::read_to_string(host.path("out")).is_ok_and(|t| t == "ran\n"));
    assert_eq!(status(&host), "running");
    let again = host.client().result(&Request::Start { container: "box".into() });
    assert!(again.is_err_and(|e| e.to_string().contains("running")));
    assert!(host.call(&["kill", "box", "TERM"]).status.success());
    soon("it has ended", || status(&host) == "stopped");
    soon("its end is recorded", || host.audit().iter().any(|r| r["event"] == "container-stop"));
    assert!(host.call(&["delete", "box"]).status.success());
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        assert!(!hierarchy.path().join("vkernel-daemon-test").join(&name).exists());
        let _ = std::fs::remove_dir(hierarchy.path().join("vkernel-daemon-test"));
    }
}

#[test]
fn without_a_daemon_a_killed_supervisor_leaves_one_record_of_each_exec() {
    let host = Host::without();
    for _ in 0..5 {
        let _ = std::fs::remove_file(host.path("audit.jsonl"));
        let id = host.detach(&[], COUNTING);
        soon("it runs programs", || host.execs() > 3);
        let told: Value = serde_json::from_slice(&host.call(&["inspect", &id]).stdout).expect("JSON");
        let supervisor = i32::try_from(told["supervisor"].as_i64().expect("a number")).expect("a process");
        // SAFETY: plain numbers; the record names a process of this test's own container.
        assert_eq!(unsafe { libc::kill(supervisor, libc::SIGKILL) }, 0);
        soon("its groups are gone", || groups(&id).is_empty());
        let records = host.audit();
        let lines: std::collections::BTreeSet<String> = records.iter().map(Value::to_string).collect();
        assert_eq!(lines.len(), records.len());
        host.call(&["rm", "-f", &id]);
    }
}
