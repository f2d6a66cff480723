//! `syscall` requests: system calls in a running container without a program of it. Each refusal has a twin that works, and nothing of a request is left when it is over.

use base64::Engine;
use integration_tests::{Setup, finish, groups, show, within};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use vkernel_client::{Client, Error, Outcome, Output as Out, Request};

/// A directory for a daemon, its containers and its settings.
struct Host {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

const ON: &str = "syscall_requests = true\n";
/// A first program that waits, and says when it is told to end.
const WAITING: &str = "trap 'echo bye; exit 7' TERM; echo up; while :; do /usr/bin/sleep 0.05; done";

impl Host {
    fn with(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        std::fs::create_dir_all(dir.path().join("etc/keys")).expect("made");
        std::fs::write(dir.path().join("etc/serve.toml"), settings).expect("written");
        let mut host = Self { dir, daemon: None };
        host.start();
        host
    }

    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("serve.log")).expect("ours");
        let mut c = self.command();
        c.arg("serve").arg("--config").arg(self.path("etc")).stdin(Stdio::null()).stderr(log);
        self.daemon = Some(c.spawn().expect("the daemon starts"));
        soon("the daemon answers", || Client::connect(&self.socket()).is_ok_and(|mut c| c.result(&Request::Status).is_ok()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("vkernel.sock")
    }

    fn command(&self) -> Command {
        let mut c = Command::new(Setup::get().vkernel);
        c.arg("--root").arg(self.path("containers")).arg("--socket").arg(self.socket());
        c
    }

    fn client(&self) -> Client {
        let client = Client::connect(&self.socket()).expect("the daemon listens");
        client.set_timeout(Some(Duration::from_secs(90))).expect("set");
        client
    }

    fn call(&self, args: &[&str]) -> Output {
        let mut c = self.command();
        c.args(args);
        finish(c)
    }

    /// A container in the background that is up; its id.
    fn detach(&self, manifest: &Path, options: &[&str]) -> String {
        let setup = Setup::get();
        let mut c = self.command();
        c.arg("run").arg("-d").arg(manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(&setup.key);
        c.args(options).args(["--", "/bin/bash", "-c", WAITING]);
        let out = finish(c);
        assert!(out.status.success(), "{}", show(&out));
        let id = String::from_utf8(out.stdout).expect("an id").trim().to_owned();
        soon("it is up", || self.call(&["logs", &id]).stdout == b"up\n");
        id
    }

    /// The same with an audit log, from the tests' release.
    fn usual(&self) -> String {
        let log = self.path("audit.jsonl");
        self.detach(&Setup::get().manifest, &["--audit", &log.to_string_lossy(), "--name", "web"])
    }

    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit.jsonl")).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// Records of requests: decision, reason, and what was asked.
    fn requests(&self) -> Vec<(String, String, String)> {
        let word = |r: &Value, key: &str| r[key].as_str().unwrap_or_default().to_owned();
        let calls = |r: &Value| word(r, "detail").rsplit(": ").next().unwrap_or_default().to_owned();
        self.audit().iter().filter(|r| r["event"] == "syscall-request").map(|r| (word(r, "decision"), word(r, "reason"), calls(r))).collect()
    }

    fn ask(&self, request: Value) -> Result<Vec<Outcome>, Error> {
        self.client().outcomes(&request_of(request))
    }

    /// Outcomes of calls in `web`.
    fn made(&self, calls: Value) -> Vec<Outcome> {
        self.ask(json!({"type": "syscall", "container": "web", "calls": calls})).unwrap_or_else(|e| panic!("{calls}: {e}"))
    }

    fn one(&self, name: &str, args: Value) -> Outcome {
        self.made(json!([{"name": name, "args": args}])).remove(0)
    }

    /// What a file holds, or the error's name.
    fn file(&self, path: &str) -> Result<String, String> {
        let made = self.made(json!([{"name": "open", "args": [path]}, {"name": "read", "args": [{"result": 0}, {"out": 65536}, 65536]}]));
        match made.last().expect("one call at least") {
            Outcome::Failed { errno } => Err(errno.clone()),
            Outcome::Done { out, .. } => Ok(String::from_utf8(bytes(&out[0])).expect("text")),
        }
    }

    /// The processes of a container, by their numbers on the host.
    fn inside(&self, id: &str) -> usize {
        let out = self.call(&["ps", "--format", "json", id]);
        serde_json::from_slice::<Vec<u32>>(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", show(&out))).len()
    }

    /// Processes of requests whose calls are made just now: each has a command, and a process in the container, which executes nothing and so has the same command line.
    fn busy(&self) -> usize {
        let ours = self.dir.path().to_string_lossy().into_owned();
        let all = std::fs::read_dir("/proc").expect("procfs").flatten().map(|e| e.path());
        let lines = all.filter_map(|p| std::fs::read(p.join("cmdline")).ok()).map(|c| String::from_utf8_lossy(&c).replace('\0', " "));
        lines.filter(|c| c.contains(&ours) && c.contains("exec --calls")).count()
    }

    /// Nothing is left of any request. The first program starts one other at a time.
    fn is_clean(&self, id: &str) {
        soon("no process is left of any", || self.busy() == 0);
        soon("no process is left in the container", || self.inside(id) <= 2);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.call(&["ps", "-a", "-q"]).stdout).lines() {
            self.call(&["rm", "-f", id]);
        }
        if let Some(mut daemon) = self.daemon.take() {
            // SAFETY: plain numbers; the child is ours and not waited for yet.
            unsafe { libc::kill(daemon.id() as i32, libc::SIGTERM) };
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- serve.log\n{}", std::fs::read_to_string(self.path("serve.log")).unwrap_or_default());
        }
    }
}

fn soon(what: &str, is: impl FnMut() -> bool) {
    within(20, what, is);
}

fn request_of(request: Value) -> Request {
    serde_json::from_value(request.clone()).unwrap_or_else(|e| panic!("{e}: {request}"))
}

fn bytes(out: &Out) -> Vec<u8> {
    match out {
        Out::Text { text } => text.clone().into_bytes(),
        Out::Base64 { base64 } => base64::engine::general_purpose::STANDARD.decode(base64).expect("Base64"),
    }
}

fn done(outcome: &Outcome) -> i64 {
    match outcome {
        Outcome::Done { result, .. } => *result,
        Outcome::Failed { errno } => panic!("{errno}"),
    }
}

fn errno(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { errno } => errno,
        Outcome::Done { result, .. } => panic!("answered {result}"),
    }
}

#[test]
fn files_are_what_a_program_of_the_container_finds() {
    let host = Host::with(ON);
    let id = host.usual();
    let mut equal = 0;
    for path in ["/etc/hostname", "/etc/passwd", "/proc/sys/kernel/hostname", "/etc/os-release", "/no/such/file"] {
        let exec = host.call(&["exec", &id, "/usr/bin/cat", path]);
        match host.file(path) {
            Ok(text) => {
                assert_eq!(text.as_bytes(), &exec.stdout[..exec.stdout.len().min(65536)], "{path}");
                equal += 1;
            }
            Err(errno) => assert!(!exec.status.success() && errno == "ENOENT", "{path}: {errno}: {}", show(&exec)),
        }
    }
    assert!(equal >= 2);
    // What is done here is seen there.
    let calls = json!([
        {"name": "mkdir", "args": ["/tmp/d", 0o755]},
        {"name": "openat", "args": [-100, "/tmp/d/a", 0o101, 0o644]},
        {"name": "write", "args": [{"result": 1}, {"text": "new\n"}, 4]},
        {"name": "fsync", "args": [{"result": 1}]},
        {"name": "rename", "args": ["/tmp/d/a", "/tmp/d/b"]},
        {"name": "open", "args": ["/tmp/d", 0o200000]},
        {"name": "getdents64", "args": [{"result": 5}, {"out": 4096}, 4096]},
        {"name": "stat", "args": ["/tmp/d/b", {"out": 144}]},
    ]);
    let made = host.made(calls);
    assert_eq!(made.len(), 8, "{made:?}");
    let Outcome::Done { out, .. } = &made[6] else { panic!("{made:?}") };
    assert!(names(&bytes(&out[0])[..done(&made[6]) as usize]).contains("b"), "{made:?}");
    let Outcome::Done { out, .. } = &made[7] else { panic!("{made:?}") };
    // st_size.
    assert_eq!(bytes(&out[0])[48..56], 4u64.to_le_bytes());
    assert_eq!(host.call(&["exec", &id, "/usr/bin/cat", "/tmp/d/b"]).stdout, b"new\n");
    // Signals too.
    assert_eq!(done(&host.one("kill", json!([1, 15]))), 0);
    soon("it says that it ends", || host.call(&["logs", &id]).stdout == b"up\nbye\n");
    assert_eq!(host.client().result(&Request::Wait { container: id.clone() }).expect("a code"), 7);
    assert!(host.ask(json!({"type": "syscall", "container": id, "name": "getpid"})).expect_err("it has ended").to_string().contains("stopped"));
    host.call(&["rm", "web"]);
    assert_eq!(groups(&id), Vec::<PathBuf>::new());
}

/// Of `struct linux_dirent64` one after the other.
fn names(mut entries: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    while let Some((length, name)) = entries.get(16..18).zip(entries.get(19..)) {
        let end = name.iter().position(|b| *b == 0).expect("names end");
        found.insert(String::from_utf8_lossy(&name[..end]).into_owned());
        entries = &entries[usize::from(u16::from_le_bytes([length[0], length[1]]))..];
    }
    found
}

#[test]
fn the_process_is_the_containers_user_in_its_directory_and_no_more() {
    let host = Host::with(ON);
    let id = host.detach(&Setup::get().manifest, &["--name", "web", "--user", "1000:1001", "--workdir", "/usr"]);
    let ids = json!([{"name": "getuid"}, {"name": "getgid"}, {"name": "getcwd", "args": [{"out": 64}, 64]}, {"name": "mkdir", "args": ["/etc/x", 0o755]}]);
    let made = host.made(ids.clone());
    assert_eq!((done(&made[0]), done(&made[1])), (1000, 1001));
    let Outcome::Done { out, .. } = &made[2] else { panic!("{made:?}") };
    assert_eq!(bytes(&out[0]), b"/usr\0");
    assert!(["EACCES", "EROFS"].contains(&errno(&made[3])), "{made:?}");
    let other = host.ask(json!({"type": "syscall", "container": id, "calls": ids, "user": "65534", "cwd": "/tmp"})).expect("made");
    let Outcome::Done { out, .. } = &other[2] else { panic!("{other:?}") };
    assert_eq!((done(&other[0]), bytes(&out[0])), (65534, b"/tmp\0".to_vec()));
    let wrong = |member: &str, value: &str| host.ask(json!({"type": "syscall", "container": id, "name": "getpid", member: value})).expect_err("refused").to_string();
    assert!(wrong("user", "nobody-of-this-name").contains("nobody-of-this-name"));
    assert!(wrong("cwd", "/no/such/directory").contains("/no/such/directory"));
    assert!(wrong("as", "/no/such/program").contains("/no/such/program is no program of the release"));
    // Nothing of the command that began it: the lowest number is free, and there is no other.
    let first = host.made(json!([{"name": "open", "args": ["/proc/self/fd", 0o200000]}, {"name": "getdents64", "args": [{"result": 0}, {"out": 4096}, 4096]}]));
    let Outcome::Done { out, .. } = &first[1] else { panic!("{first:?}") };
    let list = bytes(&out[0])[..done(&first[1]) as usize].to_vec();
    assert_eq!((done(&first[0]), names(&list)), (0, vec!["0", ".", ".."].into_iter().map(str::to_owned).collect()), "the directory itself: {first:?}");
    host.is_clean(&id);
}

#[test]
fn no_path_leads_out_and_what_is_read_only_stays_so() {
    let host = Host::with(ON);
    let shared = host.path("shared");
    std::fs::create_dir(&shared).expect("made");
    std::fs::write(shared.join("canary"), "of the host\n").expect("written");
    let id = host.detach(&Setup::get().manifest, &["--name", "web", "-v", &format!("{}:/data:ro", shared.display())]);
    let canary = shared.join("canary").to_string_lossy().into_owned();
    let inside = host.file("/etc/passwd").expect("it has one");
    assert_eq!(host.file("/../../../../etc/passwd"), Ok(inside));
    for prefix in ["", "/..", "/proc/1/root", "/proc/self/root", "/proc/self/root/..", "/proc/1/cwd/../../..", "/proc/self/cwd/../.."] {
        let found = host.file(&format!("{prefix}{canary}"));
        assert!(found.as_ref().is_err_and(|e| ["ENOENT", "EACCES", "EPERM"].contains(&e.as_str())), "{prefix}: {found:?}");
    }
    // The twin: where it is shown.
    assert_eq!(host.file("/data/canary"), Ok("of the host\n".into()));
    for (name, args) in [
        ("mkdir", json!(["/data/new", 0o755])),
        ("open", json!(["/data/canary", 1])),
        ("unlink", json!(["/data/canary"])),
        ("rename", json!(["/data/canary", "/data/other"])),
        ("open", json!(["/proc/sys/kernel/hostname", 1])),
    ] {
        assert_eq!(errno(&host.one(name, args.clone())), "EROFS", "{name} {args}");
    }
    assert_eq!(done(&host.one("mkdir", json!(["/tmp/new", 0o755]))), 0);
    // Nothing becomes executable, nothing is mounted, and no socket is the host's.
    assert_eq!(errno(&host.one("mount", json!([]))), "EPERM");
    let reached = host.made(json!([{"name": "socket", "args": [2, 1, 0]}, {"name": "connect", "args": [{"result": 0}, {"base64": "AgAAFn8AAAEAAAAAAAAAAA=="}, 16]}]));
    assert!(matches!(reached.last(), Some(Outcome::Failed { .. })), "the release has no network: {reached:?}");
    host.is_clean(&id);
}

/// A copy of the tests' release whose list lacks `uname` but for one program.
fn tight(dir: &Path) -> PathBuf {
    let setup = Setup::get();
    let release = setup.manifest.parent().expect("the manifest has a directory");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(release).arg(dir.join("release")).status().expect("cp runs").success());
    let mut value: Value = serde_json::from_slice(&std::fs::read(&setup.manifest).expect("readable")).expect("JSON");
    value.as_object_mut().expect("an object").remove("signatures");
    value["global_policies"]["default_syscalls"].as_array_mut().expect("a list").retain(|n| n != "uname" && n != "mkdir");
    let uname = value["binaries"].as_object_mut().expect("a map").values_mut().find(|b| b["path"] == "/usr/bin/uname").expect("it is listed");
    uname["overrides"]["syscalls"] = json!(["uname"]);
    let path = dir.join("release/tight.json");
    std::fs::write(&path, serde_json::to_vec(&value).expect("JSON")).expect("room");
    let mut sign = Command::new(&setup.recompiler);
    sign.arg("sign").arg(&path).arg("--key").arg(setup.key.with_extension("key"));
    let out = finish(sign);
    assert!(out.status.success(), "{}", show(&out));
    path
}

#[test]
fn the_containers_list_counts_and_what_it_lacks_is_audited() {
    let host = Host::with(ON);
    let release = tempfile::tempdir_in(Setup::get().manifest.parent().and_then(Path::parent).expect("in target")).expect("a directory can be made");
    let manifest = tight(release.path());
    let (log, store, serials) = (host.path("audit.jsonl"), release.path().join("store"), release.path().join("serials"));
    let text = |p: &Path| p.to_string_lossy().into_owned();
    let id = host.detach(&manifest, &["--name", "web", "--audit", &text(&log), "--store", &text(&store), "--serials", &text(&serials)]);
    let uname = json!([{"name": "uname", "args": [{"out": 390}]}]);
    assert_eq!(errno(&host.made(uname.clone())[0]), "EPERM");
    // Without those of the container's own programs: bash asks once.
    let refused = || host.audit().into_iter().filter(|r| r["reason"] == "syscall-not-listed" && r["path"] != "/usr/bin/bash").collect::<Vec<_>>();
    let [one] = &refused()[..] else { panic!("one call was refused: {:?}", host.audit()) };
    assert_eq!((&one["event"], &one["detail"], &one["from_worker"], one["path"].as_str()), (&json!("syscall"), &json!("uname"), &json!(true), None));
    // By a program whose list has it, by path and by digest.
    let digests = serde_json::from_slice::<Value>(&std::fs::read(&manifest).expect("readable")).expect("JSON");
    let digest = digests["binaries"].as_object().expect("a map").iter().find(|(_, b)| b["path"] == "/usr/bin/uname").expect("listed").0.clone();
    for program in ["/usr/bin/uname", &digest] {
        let made = host.ask(json!({"type": "syscall", "container": "web", "calls": uname, "as": program})).expect("made");
        let Outcome::Done { result: 0, out } = &made[0] else { panic!("{made:?}") };
        assert!(bytes(&out[0]).starts_with(b"Linux\0"), "{made:?}");
    }
    assert_eq!(refused().len(), 1);
    // Another program's list does not help, and a call that no list has is in no filter either.
    for (program, name, args) in [("/usr/bin/true", "uname", json!([{"out": 390}])), ("/usr/bin/uname", "mkdir", json!(["/tmp/x", 0o755]))] {
        let made = host.ask(json!({"type": "syscall", "container": "web", "name": name, "args": args, "as": program})).expect("an answer");
        assert_eq!(errno(&made[0]), "EPERM", "{name} as {program}");
        let last = refused().pop().expect("a record");
        assert_eq!((&last["detail"], &last["path"]), (&json!(name), &json!(program)));
    }
    // What the table refuses to everybody.
    assert_eq!(errno(&host.one("ptrace", json!([0, 1]))), "EPERM");
    let records = host.requests();
    let (calls, rest): (Vec<_>, Vec<_>) = records.iter().map(|(decision, reason, calls)| (calls.as_str(), (decision.as_str(), reason.as_str()))).unzip();
    assert_eq!(calls, ["uname", "uname", "uname", "uname", "mkdir", "ptrace"]);
    assert!(rest.iter().all(|r| *r == ("allowed", "asked")), "{records:?}");
    host.is_clean(&id);
    // A container whose lists are not enforced lets it through here, too, and says so.
    let loose = host.detach(&manifest, &["--permissive", "--audit", &text(&log), "--store", &text(&store), "--serials", &text(&serials)]);
    assert_eq!(done(&host.ask(json!({"type": "syscall", "container": loose, "calls": uname})).expect("made")[0]), 0);
    assert!(host.audit().iter().any(|r| r["container"] == *loose && r["reason"] == "would-refuse" && r["detail"] == "uname" && r["path"].is_null()), "{:?}", host.audit());
    assert_eq!(errno(&host.ask(json!({"type": "syscall", "container": loose, "name": "ptrace"})).expect("an answer")[0]), "EPERM");
    host.is_clean(&loose);
}

#[test]
fn nothing_is_called_where_the_host_does_not_allow_it_and_every_request_has_one_record() {
    let host = Host::with("");
    let id = host.usual();
    let getpid = |container: &str| json!({"type": "syscall", "container": container, "name": "getpid"});
    let why = host.ask(getpid("web")).expect_err("refused").to_string();
    assert!(why.contains("syscall_requests = true in serve.toml"), "{why}");
    std::fs::write(host.path("etc/serve.toml"), format!("{ON}audit = {:?}\n", host.path("own.jsonl"))).expect("written");
    host.client().result(&Request::Reload).expect("reloaded");
    // The answer is there, and so is the record.
    assert!(done(&host.ask(getpid("web")).expect("made")[0]) > 1);
    let refused = |call: &str| ("denied".to_owned(), "requests-off".to_owned(), call.to_owned());
    let asked = ("allowed".to_owned(), "asked".to_owned(), "getpid".to_owned());
    assert_eq!(host.requests(), [refused("getpid"), asked.clone()]);
    let record = host.audit().into_iter().find(|r| r["reason"] == "asked").expect("it is there");
    assert_eq!((&record["container"], &record["pid"], &record["detail"]), (&json!(id), &json!(std::process::id()), &json!("uid 0: getpid")));
    // Of one that nobody knows, in the daemon's own log.
    assert!(host.ask(getpid("nobody")).is_err());
    let own = std::fs::read_to_string(host.path("own.jsonl")).expect("it is there");
    assert!(own.lines().any(|l| l.contains("\"syscall-request\"") && l.contains("no-container") && l.contains("\"nobody\"")), "{own}");
    // A container without a log has its records there, those of its worker too.
    let other = host.detach(&Setup::get().manifest, &[]);
    assert_eq!(errno(&host.ask(json!({"type": "syscall", "container": other, "name": "ptrace"})).expect("an answer")[0]), "EPERM");
    let own = std::fs::read_to_string(host.path("own.jsonl")).expect("it is there");
    let of_other = |event: &str| own.lines().filter(|l| l.contains(&other) && l.contains(event)).count();
    assert_eq!((of_other("\"syscall-request\""), of_other("\"syscall-not-listed\"")), (1, 1), "{own}");
    // A program that is believed no more lends its list to nobody, and in a release that is not nothing is called.
    let manifest: Value = serde_json::from_slice(&std::fs::read(Setup::get().manifest).expect("a manifest")).expect("JSON");
    let digest = manifest["binaries"].as_object().expect("a map").iter().find(|(_, b)| b["path"] == "/usr/bin/uname").expect("listed").0.clone();
    let mut borrowed = getpid("web");
    borrowed["as"] = "/usr/bin/uname".into();
    for (revoked, works) in [(json!({}), [true, true]), (json!({"files": [digest]}), [true, false]), (json!({"files": [manifest["container_id"]]}), [false, false])] {
        std::fs::write(host.path("etc/revoked.json"), revoked.to_string()).expect("written");
        host.client().result(&Request::Reload).expect("reloaded");
        let answers = [getpid("web"), borrowed.clone()].map(|request| host.ask(request));
        assert!(answers.iter().all(|a| a.is_ok() || matches!(a, Err(Error::Denied(_)))), "{answers:?}");
        assert_eq!(answers.map(|a| a.is_ok()), works, "{revoked}");
    }
    assert_eq!(host.requests().last().expect("a record").1, "release-revoked");
    assert_eq!(host.requests().iter().filter(|r| r.1 == "revoked").count(), 1, "{:?}", host.requests());
    host.is_clean(&id);
}

#[test]
fn bad_requests_say_what_is_wrong_and_the_connection_lives_on() {
    let host = Host::with(ON);
    let id = host.usual();
    let mut stream = UnixStream::connect(host.socket()).expect("it listens");
    let mut answers = BufReader::new(stream.try_clone().expect("a duplicate"));
    let mut ask = |request: &Value| -> Value {
        stream.write_all(format!("{request}\n").as_bytes()).expect("written");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
    };
    let of = |calls: Value| json!({"type": "syscall", "container": "web", "calls": calls});
    let one = |name: &str, args: Value| of(json!([{"name": name, "args": args}]));
    let call = json!({"name": "getpid"});
    let mut both = of(json!([call]));
    both["name"] = "getpid".into();
    let seconds = |n: Value| json!({"type": "syscall", "container": "web", "name": "getpid", "seconds": n});
    let cases = [
        (of(json!([])), "names no call"),
        (both, "write either"),
        (of(vec![call.clone(); 65].into()), "64 are the most"),
        (one("fly", json!([])), "no system call"),
        (one("getpid", json!([1])), "it takes 0"),
        (one("read", json!([0, {"out": 70000}, 1])), "65536 are the most"),
        (one("read", json!([0, {"result": 0}, 1])), "comes no earlier"),
        (one("read", json!([0, {"in": 1}, 1])), "an argument is"),
        (one("open", json!([0.5])), "whole number"),
        (seconds(json!(0)), "1 to 60"),
        (seconds(json!(61)), "1 to 60"),
        (seconds(json!(-1)), "-1"),
        (json!({"type": "syscall", "name": "getpid"}), "container"),
        (json!({"type": "syscall", "container": "nobody", "name": "getpid"}), "nobody"),
    ];
    let never = "exit exit_group execve execveat fork vfork clone wait4 pause nanosleep rt_sigreturn rt_sigsuspend prctl setuid mmap alarm futex";
    let never: Vec<_> = never.split_whitespace().map(|name| (one(name, json!([])), "cannot be asked for")).collect();
    for (request, says) in cases.iter().chain(&never) {
        let answer = ask(request);
        assert!(answer["status"] == "error" && answer.to_string().contains(says), "{request}: {answer}");
        assert_eq!(ask(&json!({"id": 1, "type": "ps"}))["result"][0]["id"], *id);
    }
    assert!(ask(&of(json!([call])))["result"][0]["result"].as_i64().is_some_and(|pid| pid > 1));
    assert!(host.requests().iter().filter(|r| r.1 == "bad-calls").count() >= never.len());
    // An error ends the calls, unless it is not to; what would use its result is not made.
    let chain = json!([{"name": "open", "args": ["/no"]}, {"name": "kill", "args": [{"result": 0}, 9]}, {"name": "getpid"}]);
    let stopped = ask(&of(chain.clone()));
    assert_eq!(stopped["result"], json!([{"errno": "ENOENT"}]));
    let mut on = of(chain);
    on["keep_going"] = true.into();
    let all = ask(&on);
    assert_eq!((&all["result"][0], &all["result"][1]), (&json!({"errno": "ENOENT"}), &json!({"errno": "ECANCELED"})));
    assert!(all["result"][2]["result"].is_i64(), "{all}");
    // The largest reply there can be, and a pointer to nowhere.
    let most = vec![json!({"name": "getrandom", "args": [{"out": 65536}, 65536, 0]}); 4];
    let random = ask(&of(most.into()));
    assert_eq!(random["result"].as_array().expect("outcomes").len(), 4);
    assert_eq!(ask(&one("getrandom", json!([4096, 10, 0])))["result"], json!([{"errno": "EFAULT"}]));
    assert_eq!(ask(&one("stat", json!([4096, {"out": 144}])))["result"], json!([{"errno": "EFAULT"}]));
    assert_eq!(ask(&one("getcwd", json!([-4096, 4096])))["result"], json!([{"errno": "EFAULT"}]));
    // Of the examples of the manual.
    let mut socat = Command::new("/bin/sh");
    let line = r#"{"type": "syscall", "container": "web", "calls": [{"name": "open", "args": ["/etc/passwd"]}, {"name": "read", "args": [{"result": 0}, {"out": 4096}, 4096]}]}"#;
    socat.args(["-c", &format!("echo '{line}' | socat -t 15 - UNIX-CONNECT:{}", host.socket().display())]);
    let out = finish(socat);
    let told: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", show(&out)));
    assert!(told["result"][1]["out"][0]["text"].as_str().is_some_and(|t| t.starts_with("root:")), "{told}");
    host.is_clean(&id);
}

/// A call that waits for ever.
fn waiting(seconds: u32) -> Value {
    json!({"type": "syscall", "container": "web", "calls": [{"name": "getpid"}, {"name": "poll", "args": [0, 0, -1]}], "seconds": seconds})
}

#[test]
fn calls_end_with_their_time_their_client_or_their_daemon() {
    let mut host = Host::with(ON);
    let id = host.usual();
    let begun = Instant::now();
    let why = host.ask(waiting(1)).expect_err("it waits").to_string();
    assert!(why.contains("1 s have passed in call 1 (poll)") && begun.elapsed() < Duration::from_secs(15), "{why}");
    host.is_clean(&id);
    // A process of the container may kill it, as any other of the same user.
    let mut client = host.client();
    client.send(&request_of(waiting(60))).expect("sent");
    soon("it waits there", || host.inside(&id) > 2 && host.busy() == 2);
    let inside = "for p in /proc/[0-9]*; do p=${p#/proc/}; [ $p = 1 ] || [ $p = $$ ] || kill -9 $p; done";
    host.call(&["exec", &id, "/bin/bash", "-c", inside]);
    let told = client.answer().expect("an answer").reply;
    assert!(format!("{told:?}").contains("status 137"), "{told:?}");
    host.is_clean(&id);
    // Its client goes; another one's goes on.
    let mut other = host.client();
    other.send(&request_of(waiting(6))).expect("sent");
    let mut client = host.client();
    client.send(&request_of(waiting(60))).expect("sent");
    soon("both wait there", || host.busy() == 4 && host.inside(&id) > 3);
    drop(client);
    soon("one is gone", || host.busy() == 2);
    assert!(format!("{:?}", other.answer().expect("an answer").reply).contains("6 s have passed"));
    host.is_clean(&id);
    // The daemon goes.
    let mut client = host.client();
    client.send(&request_of(waiting(60))).expect("sent");
    soon("it waits there", || host.inside(&id) > 2 && host.busy() == 2);
    let mut daemon = host.daemon.take().expect("it runs");
    daemon.kill().expect("killed");
    daemon.wait().expect("our child");
    host.is_clean(&id);
    host.start();
    assert!(done(&host.one("getpid", json!([]))) > 1);
    // A frozen container is not entered.
    assert!(host.call(&["pause", "web"]).status.success());
    assert!(host.ask(waiting(1)).expect_err("refused").to_string().contains("paused"));
    assert!(host.call(&["resume", "web"]).status.success());
    assert!(done(&host.one("getpid", json!([]))) > 1);
}

#[test]
fn a_hundred_requests_at_once_are_answered_each_with_its_own() {
    let host = Host::with(ON);
    let id = host.usual();
    let crowd: Vec<_> = (0..100)
        .map(|n| {
            let mut client = host.client();
            let calls = json!([
                {"name": "open", "args": [format!("/tmp/f{n}"), 0o102, 0o600]},
                {"name": "write", "args": [{"result": 0}, {"text": format!("<{n}>")}, format!("<{n}>").len()]},
                {"name": "lseek", "args": [{"result": 0}, 0, 0]},
                {"name": "read", "args": [{"result": 0}, {"out": 64}, 64]},
            ]);
            let request = request_of(json!({"type": "syscall", "container": "web", "calls": calls, "seconds": 60}));
            std::thread::spawn(move || client.outcomes(&request))
        })
        .collect();
    for (n, thread) in crowd.into_iter().enumerate() {
        let made = thread.join().expect("a thread").unwrap_or_else(|e| panic!("{n}: {e}"));
        let Some(Outcome::Done { out, .. }) = made.last() else { panic!("{n}: {made:?}") };
        assert_eq!(bytes(&out[0]), format!("<{n}>").as_bytes());
    }
    assert_eq!(host.requests().len(), 100);
    host.is_clean(&id);
    assert_eq!(host.client().result(&Request::Status).expect("told")["processes"], 1, "the daemon serves the container and nothing else");
}
