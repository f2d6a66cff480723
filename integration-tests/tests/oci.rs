//! The OCI runtime command line: the life of a bundle beside runc's on the same description, bundles of umoci, and Debian's podman with vkernel as its runtime.

use integration_tests::{Setup, finish, podman, show};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A copy of the test image beside it, so that hard links work, and what a runtime keeps.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let beside = Setup::get().rootfs.parent().expect("the image has a parent").to_owned();
        let dir = tempfile::tempdir_in(beside).expect("a directory can be made");
        let place = Self { dir };
        copy(&Setup::get().rootfs, &place.path("rootfs"));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn bundle(&self, name: &str, config: &Value) -> String {
        std::fs::create_dir_all(self.path(name)).expect("made");
        std::fs::write(self.path(name).join("config.json"), config.to_string()).expect("written");
        self.text(name)
    }

    /// A description for both runtimes.
    fn config(&self, script: &str) -> Value {
        json!({
            "ociVersion": "1.0.2",
            "root": {"path": self.path("rootfs"), "readonly": true},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/bash", "-c", script], "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            ],
            "annotations": {"io.vkernel.manifest": Setup::get().manifest},
            "linux": {"cgroupsPath": format!("/vkernel-test/{}", self.dir.path().file_name().expect("named").to_string_lossy()), "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
        })
    }

    /// A script that podman can call: vkernel with this test's places.
    fn runtime(&self) -> String {
        let root = format!("--root {}", self.text("containers"));
        integration_tests::runtime(self.dir.path(), &root, "").to_string_lossy().into_owned()
    }

    fn podman(&self, args: &[&str]) -> Output {
        let mut c = podman(&self.path("storage"), &self.path("run"));
        c.arg("--runtime").arg(self.runtime());
        c.args(args);
        finish(c)
    }

    /// `podman run` with what a hybrid host needs.
    fn podman_run(&self, options: &[&str], script: &str) -> Output {
        let manifest = format!("io.vkernel.manifest={}", Setup::get().manifest.display());
        let rootfs = self.text("rootfs");
        let fixed = ["run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--annotation", &manifest];
        let all: Vec<&str> = fixed.iter().chain(options).copied().chain(["--rootfs", &rootfs, "/bin/bash", "-c", script]).collect();
        self.podman(&all)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.path("storage").exists() {
            self.podman(&["rm", "--all", "--force", "--time", "0"]);
        }
        // Parents of groups, which runtimes leave; not empty if somebody else uses them, or for a moment more, until conmon has ended.
        let limit = Instant::now() + Duration::from_secs(2);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for parent in ["vkernel-test", "libpod_parent/conmon", "libpod_parent"] {
                let parent = hierarchy.path().join(parent);
                while parent.exists() && std::fs::remove_dir(&parent).is_err() && Instant::now() < limit {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(from).arg(to).status().expect("cp runs").success());
}

fn text(out: &Output) -> String {
    assert!(out.status.success(), "{}", show(out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A runtime, the directory of its state, and what its `create` needs besides.
struct Runtime {
    program: PathBuf,
    root: String,
    create: Vec<String>,
}

impl Runtime {
    fn vkernel(place: &Place) -> Self {
        let setup = Setup::get();
        Self { program: setup.vkernel, root: place.text("vkernel"), create: vec!["--key".into(), setup.key.to_string_lossy().into_owned()] }
    }

    fn runc(place: &Place) -> Self {
        Self { program: "runc".into(), root: place.text("runc"), create: Vec::new() }
    }

    fn call(&self, args: &[&str]) -> Output {
        let mut c = Command::new(&self.program);
        c.args(["--root", &self.root, args[0]]).args(if args[0] == "create" { &self.create[..] } else { &[] }).args(&args[1..]);
        finish(c)
    }

    /// The streams of a created container are its caller's; a pipe's reader would wait for the container's end.
    fn create(&self, bundle: &str, id: &str, options: &[&str]) -> Output {
        let (out, words) = (format!("{}.{id}", self.root), [&self.create.iter().map(String::as_str).collect::<Vec<_>>()[..], options].concat().join(" "));
        let mut c = Command::new("/bin/sh");
        c.args(["-c", &format!("exec {} --root {} create --bundle {bundle} {words} {id} > {out} 2>&1 < /dev/null", self.program.display(), self.root)]);
        finish(c)
    }

    fn written(&self, id: &str) -> String {
        std::fs::read_to_string(format!("{}.{id}", self.root)).unwrap_or_default()
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_slice(&self.call(&["state", id]).stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or("none").to_owned()
    }

    fn until(&self, id: &str, status: &str) -> String {
        let limit = Instant::now() + Duration::from_secs(10);
        while self.status(id) != status && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.status(id)
    }
}

/// Whatever a test that failed has left running.
impl Drop for Runtime {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.call(&["list", "-q"]).stdout).lines() {
            self.call(&["delete", "--force", id]);
        }
    }
}

/// What a caller sees of a container's life: success of each call and the status after it.
fn life(runtime: &Runtime, bundle: &str, pid_file: &str) -> Vec<String> {
    let id = "life-1";
    let created = runtime.create(bundle, id, &["--pid-file", pid_file]);
    let mut seen = vec![format!("create {} {}", created.status.success(), runtime.until(id, "created"))];
    let pid = std::fs::read_to_string(pid_file).expect("a number");
    let state: Value = serde_json::from_slice(&runtime.call(&["state", id]).stdout).expect("JSON");
    seen.push(format!("pid file {}", state["pid"].as_i64() == pid.trim().parse().ok()));
    let steps: [(&[&str], &str); 11] = [
        (&["create", "--bundle", bundle, id], "created"),
        (&["start", id], "running"),
        (&["start", id], "running"),
        (&["delete", id], "running"),
        (&["pause", id], "paused"),
        (&["resume", id], "running"),
        (&["kill", id, "TERM"], "stopped"),
        (&["kill", id, "KILL"], "stopped"),
        (&["delete", id], "none"),
        (&["delete", id], "none"),
        (&["delete", "--force", id], "none"),
    ];
    for (args, expected) in steps {
        let out = runtime.call(args);
        seen.push(format!("{} {} {}", args[0], out.status.success(), runtime.until(id, expected)));
    }
    let listed: Value = serde_json::from_slice(&runtime.call(&["list", "--format", "json"]).stdout).unwrap_or_default();
    seen.push(format!("list {}", listed.as_array().map_or(0, Vec::len)));
    seen.push(runtime.written(id));
    seen
}

#[test]
fn the_life_of_a_bundle_is_runcs() {
    let place = Place::new();
    let bundle = place.bundle("bundle", &place.config("trap 'exit 0' TERM; echo hello; while :; do /usr/bin/sleep 0.05; done"));
    let expected = life(&Runtime::runc(&place), &bundle, &place.text("pid"));
    assert_eq!(life(&Runtime::vkernel(&place), &bundle, &place.text("pid")), expected);
}

#[test]
fn hooks_are_run_in_their_order_and_a_failing_one_ends_the_create() {
    let place = Place::new();
    let runtime = Runtime::vkernel(&place);
    let mut config = place.config("echo program");
    let note = |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} $(grep -o '\"status\":\"[a-z]*\"' | cut -d: -f2) >> {}", place.text("notes"))]}]);
    config["hooks"] = json!({"prestart": note("prestart"), "createRuntime": note("createRuntime"), "createContainer": note("createContainer"), "poststart": note("poststart"), "poststop": note("poststop")});
    let bundle = place.bundle("hooked", &config);
    assert!(runtime.create(&bundle, "h1", &[]).status.success(), "{}", runtime.written("h1"));
    assert!(runtime.call(&["start", "h1"]).status.success());
    runtime.until("h1", "stopped");
    assert!(runtime.call(&["delete", "h1"]).status.success());
    let notes = std::fs::read_to_string(place.path("notes")).expect("hooks ran");
    let creating = ["prestart", "createRuntime", "createContainer"].map(|n| format!("{n} \"creating\"\n")).concat();
    assert_eq!(notes, format!("{creating}poststart \"running\"\npoststop \"stopped\"\n"));
    config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no such luck >&2; exit 1"]}]});
    let bundle = place.bundle("failing", &config);
    assert!(!runtime.create(&bundle, "h2", &[]).status.success() && runtime.written("h2").contains("no such luck"), "{}", runtime.written("h2"));
    config["hooks"] = json!({"startContainer": [{"path": "/usr/bin/true"}]});
    let bundle = place.bundle("inside", &config);
    assert!(!runtime.create(&bundle, "h3", &[]).status.success() && runtime.written("h3").contains("natively"));
    // What hooks made before the failure others take away, each of them; a failing one is a warning.
    config["hooks"] = json!({"createContainer": [{"path": "/bin/false"}], "poststop": [{"path": "/bin/false"}, note("taken away")[0]]});
    let bundle = place.bundle("undone", &config);
    assert!(!runtime.create(&bundle, "h4", &[]).status.success());
    assert!(std::fs::read_to_string(place.path("notes")).expect("a hook ran").ends_with("taken away \"stopped\"\n"));
    assert_eq!(runtime.call(&["list", "-q"]).stdout, b"", "nothing is left of those that failed");
}

/// As CVE-2024-21626: at that moment the runtime's own descriptors are directories of the host.
#[test]
fn a_working_directory_leads_nowhere_but_into_the_image() {
    let place = Place::new();
    let runtime = Runtime::vkernel(&place);
    for fd in 3..24 {
        let mut config = place.config("ls -a; cat ../../../../etc/hostname");
        config["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}"));
        let (id, bundle) = (format!("w{fd}"), place.bundle(&format!("w{fd}"), &config));
        assert!(!runtime.create(&bundle, &id, &[]).status.success(), "descriptor {fd}");
        assert!(runtime.written(&id).contains("working directory"), "{}", runtime.written(&id));
    }
    assert_eq!(runtime.call(&["list", "-q"]).stdout, b"");
}

#[test]
fn what_belongs_to_others_is_refused_and_untouched() {
    let place = Place::new();
    let runtime = Runtime::vkernel(&place);
    let refused = |id: &str, change: &dyn Fn(&mut Value), options: &[&str], why: &str| {
        let mut config = place.config("echo program");
        change(&mut config);
        let created = runtime.create(&place.bundle(id, &config), id, options);
        assert!(!created.status.success() && runtime.written(id).contains(why), "{id}: {}", runtime.written(id));
    };
    for (id, kind) in [("host-pid", "pid"), ("host-ipc", "ipc"), ("host-uts", "uts"), ("host-user", "user")] {
        let namespace = move |config: &mut Value| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
            list.retain(|n| n["type"] != kind);
            list.push(json!({"type": kind, "path": format!("/proc/{}/ns/{kind}", std::process::id())}));
        };
        refused(id, &namespace, &[], "is the host's");
    }
    refused("root-group", &|c| c["linux"]["cgroupsPath"] = json!("/"), &[], "below the root");
    refused("fds", &|_| {}, &["--preserve-fds", "2"], "is not open");
    // The group of a running container is not another's, and what becomes of that one does not touch the first.
    let mut config = place.config("while :; do /usr/bin/sleep 0.05; done");
    config["linux"]["cgroupsPath"] = json!("/vkernel/shared-group");
    let bundle = place.bundle("first", &config);
    assert!(runtime.create(&bundle, "web-db", &[]).status.success(), "{}", runtime.written("web-db"));
    assert!(runtime.call(&["start", "web-db"]).status.success());
    refused("second", &|c| c["linux"]["cgroupsPath"] = json!("/vkernel/shared-group"), &[], "web-db");
    assert_eq!(runtime.status("web-db"), "running");
    // Nor is a name that only begins another's.
    assert!(runtime.call(&["delete", "--force", "web"]).status.success());
    assert!(!runtime.call(&["state", "web"]).status.success());
    assert_eq!(runtime.status("web-db"), "running");
    assert!(runtime.call(&["delete", "--force", "web-db"]).status.success());
    assert_eq!(runtime.status("web-db"), "none");
}

#[test]
fn binds_are_the_bundles_and_the_kernels_files_are_read_only() {
    let place = Place::new();
    let runtime = Runtime::vkernel(&place);
    let mut config = place.config("cat /mnt/word; echo x > /srv/sys/kernel/core_pattern");
    let binds = [json!({"destination": "/mnt", "source": "words", "options": ["bind"]}), json!({"destination": "/srv", "source": "/proc", "options": ["rbind", "rw"]})];
    config["mounts"].as_array_mut().expect("a list").extend(binds);
    let bundle = place.bundle("binds", &config);
    std::fs::create_dir(Path::new(&bundle).join("words")).expect("ours");
    std::fs::write(Path::new(&bundle).join("words/word"), "of the bundle\n").expect("ours");
    assert!(runtime.create(&bundle, "b1", &[]).status.success(), "{}", runtime.written("b1"));
    assert!(runtime.call(&["start", "b1"]).status.success());
    runtime.until("b1", "stopped");
    let written = runtime.written("b1");
    assert!(written.starts_with("of the bundle\n") && written.contains("Read-only file system"), "{written}");
    assert!(runtime.call(&["delete", "b1"]).status.success());
}

#[test]
fn a_release_inside_the_image_is_found_and_the_guest_does_not_see_it() {
    let place = Place::new();
    let (layout, image) = (place.text("layout"), format!("{}:t", place.text("layout")));
    let umoci = |args: &[&str]| assert!(Command::new("umoci").args(args).status().expect("umoci runs").success(), "{args:?}");
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["config", "--image", &image, "--config.cmd", "/bin/bash", "--config.cmd=-c", "--config.cmd", "echo from umoci; ls -a /.vkernel; echo $HOME"]);
    umoci(&["unpack", "--image", &image, &place.text("unpacked")]);
    let rootfs = place.path("unpacked/rootfs");
    std::fs::remove_dir(&rootfs).expect("it is empty");
    copy(&place.path("rootfs"), &rootfs);
    copy(Setup::get().manifest.parent().expect("a directory"), &rootfs.join(".vkernel"));
    let config = place.path("unpacked/config.json");
    let quiet = std::fs::read_to_string(&config).expect("umoci writes it").replace("\"terminal\": true", "\"terminal\": false").replace("\"terminal\":true", "\"terminal\":false");
    std::fs::write(&config, quiet).expect("ours");
    let runtime = Runtime::vkernel(&place);
    assert!(runtime.create(&place.text("unpacked"), "u1", &[]).status.success(), "{}", runtime.written("u1"));
    assert!(runtime.call(&["start", "u1"]).status.success());
    runtime.until("u1", "stopped");
    assert_eq!(runtime.written("u1"), "from umoci\n.\n..\n/root\n");
    // One byte of the program changed: the same bundle is refused when it starts.
    let bash = rootfs.join("usr/bin/bash");
    let mut bytes = std::fs::read(&bash).expect("the program");
    bytes[4096] ^= 1;
    std::fs::remove_file(&bash).expect("a link of ours");
    std::fs::write(&bash, bytes).expect("written");
    std::fs::set_permissions(&bash, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    assert!(runtime.create(&place.text("unpacked"), "u2", &[]).status.success());
    assert!(runtime.call(&["start", "u2"]).status.success());
    runtime.until("u2", "stopped");
    assert!(runtime.written("u2").contains("refused"), "{}", runtime.written("u2"));
    for id in ["u1", "u2"] {
        runtime.call(&["delete", "--force", id]);
    }
}

#[test]
fn podman_runs_vkernel_as_its_runtime() {
    let place = Place::new();
    let run = place.podman_run(&["--rm", "--hostname", "pod", "--env", "A=b", "--user", "65534"], "echo $A $(cat /proc/sys/kernel/hostname); id -u; exit 4");
    assert_eq!((String::from_utf8_lossy(&run.stdout).into_owned(), run.status.code()), ("b pod\n65534\n".to_owned(), Some(4)), "{}", show(&run));
    let terminal = place.podman_run(&["--rm", "--tty"], "[ -t 0 ] && [ -t 1 ] && echo a terminal");
    assert_eq!(text(&terminal), "a terminal\r\n");
    let refused = place.podman_run(&["--rm"], "/etc/passwd; cp /usr/bin/true /tmp/t; echo x >> /tmp/t; /tmp/t; echo $?");
    assert!(String::from_utf8_lossy(&refused.stdout).ends_with("126\n"), "{}", show(&refused));
}

#[test]
fn podman_enters_pauses_and_stops_a_container_of_vkernel() {
    let place = Place::new();
    let id = text(&place.podman_run(&["--detach", "--name", "c1"], "trap 'echo stopping; exit 9' TERM; echo ready; while :; do /usr/bin/sleep 0.05; done"));
    assert_eq!(id.trim().len(), 64, "{id}");
    let limit = Instant::now() + Duration::from_secs(10);
    while !text(&place.podman(&["logs", "c1"])).contains("ready") && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(text(&place.podman(&["exec", "c1", "/bin/bash", "-c", "echo inside; kill -0 1 && echo same"])), "inside\nsame\n");
    assert_eq!(place.podman(&["exec", "c1", "/bin/bash", "-c", "exit 6"]).status.code(), Some(6));
    text(&place.podman(&["pause", "c1"]));
    assert_eq!(text(&place.podman(&["inspect", "--format", "{{.State.Status}}", "c1"])), "paused\n");
    text(&place.podman(&["unpause", "c1"]));
    text(&place.podman(&["stop", "--time", "5", "c1"]));
    assert!(text(&place.podman(&["logs", "c1"])).contains("stopping"));
    assert_eq!(text(&place.podman(&["inspect", "--format", "{{.State.ExitCode}}", "c1"])), "9\n");
    text(&place.podman(&["rm", "c1"]));
}
