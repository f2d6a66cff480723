//! Debian's containerd with vkernel as the runtime of its runc v2 shim: what `ctr` says and does is the same with runc.

use integration_tests::{Setup, finish, groups, runtime, show, within};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// A containerd with a place of its own, and a copy of the test image beside the image, so that its libraries are on one file system.
struct Containerd {
    dir: tempfile::TempDir,
    process: Child,
}

impl Containerd {
    fn new() -> Self {
        let setup = Setup::get();
        let dir = tempfile::tempdir_in(setup.rootfs.parent().expect("the image has a parent")).expect("a directory can be made");
        let place = |name: &str| dir.path().join(name);
        // Plugins that would look for what a test machine has not.
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.devmapper\"]\n[grpc]\naddress = {:?}\n",
            place("root"),
            place("state"),
            place("socket")
        );
        std::fs::write(place("config.toml"), config).expect("written");
        runtime(dir.path(), "", "");
        // Not linked: what runs there may write.
        assert!(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&setup.rootfs).arg(place("rootfs")).status().expect("cp runs").success());
        let log = std::fs::File::create(place("log")).expect("made");
        let mut c = Command::new("setpriv");
        c.args(["--pdeathsig", "TERM", "containerd", "--config"]).arg(place("config.toml")).stdout(Stdio::null()).stderr(log);
        let process = c.spawn().expect("containerd starts");
        let containerd = Self { dir, process };
        within(20, "containerd answers", || containerd.ctr(&["version"]).status.success());
        containerd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let mut c = Command::new("ctr");
        c.arg("--address").arg(self.path("socket")).args(args).stdin(Stdio::null());
        finish(c)
    }

    fn told(&self, args: &[&str]) -> String {
        let out = self.ctr(args);
        assert!(out.status.success(), "{args:?}: {}", show(&out));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// `ctr run` of a shell's script on the image's directory; the runtime is called by its name. Its standard input never ends, whatever ctr's own does.
    fn run(&self, runtime: &str, options: &[&str], id: &str, script: &str) -> Output {
        let manifest = format!("io.vkernel.manifest={}", Setup::get().manifest.display());
        let runtime = if runtime == "vkernel" { self.path("runtime").to_string_lossy().into_owned() } else { runtime.to_owned() };
        let rootfs = self.path("rootfs").to_string_lossy().into_owned();
        let all = [&["run", "--runc-binary", &runtime, "--annotation", &manifest], options, &["--rootfs", &rootfs, id, "/bin/bash", "-c", script]].concat();
        self.ctr(&all)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in String::from_utf8_lossy(&self.ctr(&["task", "ls", "-q"]).stdout).lines() {
            let _ = self.ctr(&["task", "rm", "--force", id]);
        }
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        // The group above those of ctr's containers goes with the last of them.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join("default"));
        }
    }
}

#[test]
fn what_a_container_writes_and_how_it_ends_is_the_same_as_with_runc() {
    let containerd = Containerd::new();
    let script = "echo out; echo err >&2; id -u; pwd; echo $HOME; ls /; exit 7";
    for options in [&["--rm"][..], &["--rm", "--cwd", "/usr"], &["--rm", "--env", "HOME=/somewhere"], &["--rm", "--seccomp"], &["--rm", "--memory-limit", "268435456"]] {
        let (ours, theirs) = (containerd.run("vkernel", options, "twin", script), containerd.run("runc", options, "twin", script));
        assert_eq!(show(&ours), show(&theirs), "{options:?}");
        assert_eq!(ours.status.code(), Some(7), "{}", show(&ours));
    }
    assert_eq!(groups("twin"), Vec::<PathBuf>::new());
}

#[test]
fn a_task_is_entered_listed_measured_paused_resumed_and_killed() {
    let containerd = Containerd::new();
    let started = containerd.run("vkernel", &["--detach"], "task", "trap 'exit 3' TERM; while :; do sleep 0.1; done");
    assert!(started.status.success(), "{}", show(&started));
    let status = || containerd.told(&["task", "ls"]).lines().find(|l| l.starts_with("task ")).and_then(|l| l.split_whitespace().nth(2).map(str::to_owned));
    assert_eq!(status().as_deref(), Some("RUNNING"));
    let inside = containerd.ctr(&["task", "exec", "--exec-id", "e", "task", "/bin/bash", "-c", "echo inside; exit 5"]);
    assert_eq!((inside.status.code(), String::from_utf8_lossy(&inside.stdout).into_owned()), (Some(5), "inside\n".into()), "{}", show(&inside));
    let init = containerd.told(&["task", "ls"]).lines().find(|l| l.starts_with("task ")).and_then(|l| l.split_whitespace().nth(1).map(str::to_owned)).expect("a number");
    let processes = containerd.told(&["task", "ps", "task"]);
    assert!(processes.lines().any(|l| l.split_whitespace().next() == Some(&init)), "{init} in {processes}");
    let metrics = containerd.told(&["task", "metrics", "task"]);
    let pids = metrics.lines().find_map(|l| l.strip_prefix("pids.current")).and_then(|n| n.trim().parse::<u32>().ok());
    assert!(pids.is_some_and(|n| n >= 1), "{metrics}");
    containerd.told(&["task", "pause", "task"]);
    assert_eq!(status().as_deref(), Some("PAUSED"));
    containerd.told(&["task", "resume", "task"]);
    assert_eq!(status().as_deref(), Some("RUNNING"));
    containerd.told(&["task", "kill", "--signal", "TERM", "task"]);
    within(10, "it ends", || status().as_deref() == Some("STOPPED"));
    let deleted = containerd.ctr(&["task", "delete", "task"]);
    assert!(show(&deleted).contains("exit with non-zero exit code 3"), "{}", show(&deleted));
    containerd.told(&["container", "delete", "task"]);
    assert_eq!(groups("task"), Vec::<PathBuf>::new());
}

#[test]
fn the_shipped_configuration_is_one() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/examples/containerd.toml");
    let out = finish({
        let mut c = Command::new("containerd");
        c.args(["--config", example, "config", "dump"]);
        c
    });
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let runtime = text.split("[plugins.").find(|part| part.contains("containerd.runtimes.vkernel.options]")).unwrap_or_default();
    assert!(out.status.success() && runtime.contains("BinaryName = \"/usr/bin/vkernel\""), "{}", show(&out));
}

#[test]
fn a_program_that_nobody_signed_is_refused_and_the_error_reaches_the_caller() {
    let containerd = Containerd::new();
    let out = containerd.run("vkernel", &["--rm"], "unsigned", "cp /bin/bash /tmp/copy && echo >> /tmp/copy; /tmp/copy -c 'echo it ran'; echo $?");
    assert!(String::from_utf8_lossy(&out.stdout).ends_with("126\n") && !show(&out).contains("it ran"), "{}", show(&out));
    let manifest = containerd.ctr(&[
        "run",
        "--rm",
        "--runc-binary",
        &containerd.path("runtime").to_string_lossy(),
        "--rootfs",
        &containerd.path("rootfs").to_string_lossy(),
        "none",
        "/bin/bash",
    ]);
    assert!(!manifest.status.success() && show(&manifest).contains("io.vkernel.manifest"), "{}", show(&manifest));
}

#[test]
fn an_image_is_unpacked_by_a_snapshotter_and_run() {
    let containerd = Containerd::new();
    let place = |name: &str| containerd.path(name).to_string_lossy().into_owned();
    let (layout, image) = (place("layout"), format!("{}:t", place("layout")));
    let umoci = |args: &[&str]| assert!(Command::new("umoci").args(args).stdout(Stdio::null()).status().expect("umoci runs").success(), "{args:?}");
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["unpack", "--image", &image, &place("unpacked")]);
    let copied = Command::new("cp").arg("-a").arg(format!("{}/.", place("rootfs"))).arg(containerd.path("unpacked/rootfs")).status().expect("cp runs");
    assert!(copied.success());
    umoci(&["repack", "--image", &image, &place("unpacked")]);
    umoci(&["config", "--image", &image, "--config.cmd", "/bin/bash", "--config.cmd=-c", "--config.cmd", "echo from an image; > /made && ls /made"]);
    let packed = Command::new("tar").args(["-C", &layout, "-cf", &place("image.tar"), "."]).status().expect("tar runs");
    assert!(packed.success());
    containerd.told(&["images", "import", "--snapshotter", "native", "--base-name", "example.invalid/image", &place("image.tar")]);
    let manifest = format!("io.vkernel.manifest={}", Setup::get().manifest.display());
    let run = ["run", "--rm", "--snapshotter", "native", "--runc-binary", &place("runtime"), "--annotation", &manifest, "example.invalid/image:t", "image"];
    assert_eq!(containerd.told(&run), "from an image\n/made\n");
}
