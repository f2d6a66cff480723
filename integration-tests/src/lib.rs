//! The twin harness: the same program natively in a chroot and under vkernel, compared byte for byte.
//!
//! Owns how the two sides are started and what is compared (stdout, stderr, exit status). Builds nothing: `cargo xtask test` does, and hands over the places in environment
//! variables. The fact a newcomer gets wrong: the native side runs twice, and a program whose own two runs differ is reported as unfit, not as passed.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

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
root=$(mktemp -d)
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
    let setup = Setup::get();
    let native = finish(setup.native(program));
    let again = finish(setup.native(program));
    assert_eq!(show(&native), show(&again), "{program:?} is not stable natively: unfit as a twin");
    let guest = finish(setup.vkernel_run(&[], program));
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

/// Everything that is compared, readable in a diff.
pub fn show(o: &Output) -> String {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    format!("status {:?}\n--- stdout\n{}--- stderr\n{}", o.status.code(), text(&o.stdout), text(&o.stderr))
}
