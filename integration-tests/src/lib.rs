//! The twin harness: the same program natively in a chroot and under vkernel, compared byte for byte.
//!
//! Owns how the two sides are started and what is compared (stdout, stderr, exit status). Builds nothing: `cargo xtask test` does, and hands over the places in environment
//! variables. The fact a newcomer gets wrong: the native side runs twice, and a program whose own two runs differ is reported as unfit, not as passed.

pub mod adversary;
pub mod foreign;
pub mod host;
pub mod pty;
pub mod tiny;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What `cargo xtask test` made.
pub struct Setup {
    pub vkernel: PathBuf,
    pub recompiler: PathBuf,
    pub manifest: PathBuf,
    pub rootfs: PathBuf,
    pub key: PathBuf,
}

impl Setup {
    /// Panics with the command to use when the variables are missing: these tests are never skipped.
    pub fn get() -> Setup {
        let var = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test` as root")));
        Setup { vkernel: var("VKERNEL_BIN"), recompiler: var("RECOMPILER_BIN"), manifest: var("VKERNEL_MANIFEST"), rootfs: var("VKERNEL_ROOTFS"), key: var("VKERNEL_KEY") }
    }

    /// Only the builder, for tests that need no release.
    pub fn recompiler() -> PathBuf {
        std::env::var_os("RECOMPILER_BIN").map(PathBuf::from).expect("RECOMPILER_BIN is not set: run `cargo xtask test` as root")
    }

    /// `vkernel run` with extra options.
    pub fn vkernel_run(&self, options: &[&str], program: &[&str]) -> Command {
        let mut c = Command::new(&self.vkernel);
        c.arg("run").arg(&self.manifest).arg("--rootfs").arg(&self.rootfs).arg("--key").arg(&self.key);
        c.args(options).arg("--").args(program).stdin(Stdio::null());
        c
    }

    /// The native twin: the same rootfs in fresh namespaces with /proc and a tmpfs over what vkernel overlays, so that nothing it writes stays.
    pub fn native(&self, program: &[&str]) -> Command {
        let script = r#"set -e
root=/mnt
mount -t tmpfs none "$root"
mkdir "$root/upper" "$root/work" "$root/merged"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$root/upper,workdir=$root/work" "$root/merged"
mount -t proc proc "$root/merged/proc"
mount -t tmpfs tmpfs "$root/merged/dev"
for d in null zero full random urandom tty; do touch "$root/merged/dev/$d"; mount --bind "/dev/$d" "$root/merged/dev/$d"; done
mkdir "$root/merged/dev/pts" "$root/merged/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/merged/dev/pts"
mount -t tmpfs tmpfs "$root/merged/dev/shm"
ln -s pts/ptmx "$root/merged/dev/ptmx"
ln -s /proc/self/fd "$root/merged/dev/fd"
shift
exec chroot "$root/merged" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=xterm "$@"
"#;
        let mut c = Command::new("unshare");
        c.args(["--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child", "/bin/sh", "-c", script, "native"]).arg(&self.rootfs).args(program);
        c.stdin(Stdio::null());
        c
    }
}

/// Runs with a deadline, so that a hanging guest is a failed test.
pub fn finish(mut c: Command) -> Output {
    let name = format!("{c:?}");
    let seconds = "60";
    let mut timed = Command::new("timeout");
    timed.args(["--kill-after=5", seconds]).arg(c.get_program()).args(c.get_args()).stdin(Stdio::null());
    c.stdin(Stdio::null());
    let out = timed.output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_ne!(out.status.code(), Some(124), "{name} did not end within {seconds} s");
    out
}

/// Asserts that `program` behaves the same natively and under vkernel.
pub fn twin(program: &[&str]) {
    twin_with(&[], program);
}

/// The same, with options for `vkernel run`.
pub fn twin_with(options: &[&str], program: &[&str]) {
    let setup = Setup::get();
    let native = finish(setup.native(program));
    let again = finish(setup.native(program));
    assert_eq!(show(&native), show(&again), "{program:?} is not stable natively: unfit as a twin");
    let guest = finish(setup.vkernel_run(options, program));
    let (guest, native) = (show(&guest), show(&native));
    if guest != native {
        let first = guest.lines().zip(native.lines()).find(|(a, b)| a != b);
        let (a, b) = first.unwrap_or(("one output goes on", "where the other ends"));
        panic!("{program:?} differs first at\n  vkernel: {a}\n  native:  {b}\n--- vkernel\n{}\n--- native\n{}", short(&guest), short(&native));
    }
}

/// Enough of an output to see what happened.
fn short(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= 60 { text.to_owned() } else { format!("{}\n… {} lines more", lines[..60].join("\n"), lines.len() - 60) }
}

/// Copies a program or script to where it will be executed, by another process: a descriptor open for writing here would be inherited by what other tests start at that moment, and the kernel executes no file that somebody may write (ETXTBSY).
pub fn install(source: &Path, at: &Path) {
    let out = Command::new("install").arg("-m755").args([source, at]).output().expect("install starts");
    assert!(out.status.success(), "{}", show(&out));
}

/// A script `runtime` in this directory that podman and containerd can call: vkernel with these options, and with the test's key and others for `create`.
pub fn runtime(directory: &Path, options: &str, create: &str) -> PathBuf {
    let setup = Setup::get();
    let (key, vkernel) = (setup.key.display(), setup.vkernel.display());
    let script =
        format!("#!/bin/bash\nargs=()\nfor a in \"$@\"; do args+=(\"$a\"); [ \"$a\" = create ] && args+=(--key {key} {create}); done\nexec {vkernel} {options} \"${{args[@]}}\"\n");
    let (source, path) = (directory.join("runtime.bash"), directory.join("runtime"));
    std::fs::write(&source, script).expect("the test's own directory");
    install(&source, &path);
    path
}

/// podman as a hybrid host without systemd needs it; what it keeps lies in these directories.
pub fn podman(root: &Path, runroot: &Path) -> Command {
    let mut c = Command::new("podman");
    c.arg("--root").arg(root).arg("--runroot").arg(runroot).args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
    c
}

/// Waits until something is so, no longer than this many seconds.
pub fn within(seconds: u64, what: &str, mut is: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(seconds);
    while !is() {
        assert!(Instant::now() < limit, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The control groups of a container that are there.
pub fn groups(id: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|e| e.path());
    all.chain([PathBuf::from("/sys/fs/cgroup")]).map(|h| h.join("vkernel").join(id)).filter(|p| p.exists()).collect()
}

/// Everything that is compared, readable in a diff.
pub fn show(o: &Output) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    format!("status {:?}\n--- stdout\n{}--- stderr\n{}", o.status.code(), text(&o.stdout), text(&o.stderr))
}

/// A `vkernel run` in progress. Dropping it kills it.
pub struct Running {
    pub child: std::process::Child,
    out: std::io::BufReader<Box<dyn std::io::Read>>,
    seen: String,
}

impl Running {
    /// Starts `command` with pipes; `child.stderr` and `child.stdin` stay with the caller.
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let out: Box<dyn std::io::Read> = Box::new(child.stdout.take().expect("piped"));
        Running { child, out: std::io::BufReader::new(out), seen: String::new() }
    }

    /// Starts `command` with its output read from elsewhere, e.g. a terminal.
    pub fn with_output(mut command: Command, out: impl std::io::Read + 'static) -> Running {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Running { child, out: std::io::BufReader::new(Box::new(out)), seen: String::new() }
    }

    /// Reads output until it holds `text`, and forgets what was read. The deadline of a hanging guest is `watch`'s.
    pub fn expect(&mut self, text: &str) -> String {
        use std::io::Read;
        let _watch = Watch::over(self.child.id());
        let mut byte = [0];
        while !self.seen.contains(text) {
            match self.out.read(&mut byte) {
                Ok(1) => self.seen.push(byte[0] as char),
                _ => panic!("output ended without {text:?}: {:?}", self.seen),
            }
        }
        std::mem::take(&mut self.seen)
    }

    /// All output that is still to come.
    pub fn rest(&mut self) -> String {
        use std::io::Read;
        let mut bytes = Vec::new();
        let _ = self.out.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: plain numbers; the child is ours and not waited for yet.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Exit code, or 128 plus the signal that ended it.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let _watch = Watch::over(self.child.id());
        let status = self.child.wait().expect("our child");
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process that is still watched after 30 s, so that a hanging guest is a failed test.
struct Watch {
    _end: std::sync::mpsc::Sender<()>,
}

impl Watch {
    fn over(pid: u32) -> Watch {
        let (end, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            if ended.recv_timeout(std::time::Duration::from_secs(30)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                // SAFETY: plain numbers; the watcher outlives no wait for the process, so the number is still its.
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            }
        });
        Watch { _end: end }
    }
}
