//! How a container is started, by each way that operators have; and how none is.
//!
//! Owns the commands. The fact a newcomer gets wrong: every mode has a user namespace, also podman's default for root, because vkernel makes one whatever the description says; what differs is whose ids stand behind the guest's.

use crate::Setup;
use crate::adversary::stage::Stage;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Debug)]
pub enum Mode {
    /// `vkernel run`: guest root is the host's root by number.
    Identity,
    /// `vkernel run --uidmap`: guest root is nobody on the host.
    Mapped,
    /// podman's default for root, with vkernel as its runtime, on this copy of the image.
    Podman { rootfs: PathBuf },
    /// `vkernel run` by a user who is not root.
    Rootless,
    /// No vkernel: the program itself in plain namespaces.
    Unprotected,
}

/// A copy of the image, because podman and its guests write into it: by links, but for what attackers change in place. Removed when dropped.
pub struct PodmansImage(tempfile::TempDir);

impl PodmansImage {
    pub fn new() -> Self {
        let image = Setup::get().rootfs;
        let dir = tempfile::tempdir_in(image.parent().expect("the image has a parent")).expect("a directory can be made");
        let script = r#"set -e; cp --archive --link "$1" "$2"; home=usr/local/lib/adversary; rm -r "$2/$home"; cp --archive "$1/$home" "$2/$home""#;
        let copied = Command::new("bash").args(["-c", script, "copy"]).arg(&image).arg(dir.path().join("rootfs")).status();
        assert!(copied.expect("bash runs").success());
        Self(dir)
    }

    pub fn mode(&self) -> Mode {
        Mode::Podman { rootfs: self.0.path().join("rootfs") }
    }
}

/// Parents of control groups, which podman leaves; not empty if somebody else uses them, or for a moment more, until conmon has ended.
impl Drop for PodmansImage {
    fn drop(&mut self) {
        for parent in ["libpod_parent/conmon", "libpod_parent"] {
            for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                let parent = hierarchy.path().join(parent);
                let tried = (0..50).take_while(|_| parent.exists() && std::fs::remove_dir(&parent).is_err());
                tried.for_each(|_| std::thread::sleep(std::time::Duration::from_millis(20)));
            }
        }
    }
}

impl Default for PodmansImage {
    fn default() -> Self {
        Self::new()
    }
}

impl Mode {
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Identity => "identity",
            Mode::Mapped => "mapped",
            Mode::Podman { .. } => "podman",
            Mode::Rootless => "rootless",
            Mode::Unprotected => "unprotected",
        }
    }

    /// Why the product cannot be run so, or not on this host, in its own words; `None` if it can.
    pub fn refusal(&self) -> Option<String> {
        if !matches!(self, Mode::Rootless | Mode::Mapped) {
            return None;
        }
        let out = self.command(&Stage::new(), &[], &["/usr/bin/true"]).output().expect("the command starts");
        (!out.status.success()).then(|| String::from_utf8_lossy(&out.stderr).trim().to_owned())
    }

    /// Every run begins with the same image.
    pub(super) fn tidy(&self) {
        if let Mode::Podman { rootfs } = self {
            let _ = std::fs::remove_file(rootfs.join("etc/ld.so.preload"));
            for entry in std::fs::read_dir(rootfs.join("tmp")).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir_all(entry.path()).or_else(|_| std::fs::remove_file(entry.path()));
            }
        }
    }

    /// The program in a container of this mode.
    pub(super) fn command(&self, stage: &Stage, options: &[&str], program: &[&str]) -> Command {
        match self {
            Mode::Unprotected => unprotected(stage, program),
            Mode::Podman { rootfs } => {
                let mut c = podman(stage);
                let manifest = format!("io.vkernel.manifest={}", Setup::get().manifest.display());
                c.args(["run", "--rm", "--interactive", "--network", "none", "--ulimit", "nproc=4096:4096", "--annotation", &manifest]);
                if !options.contains(&"--ulimit") {
                    c.args(["--ulimit", "nofile=1024:1024"]);
                }
                shared(&mut c, stage, options, "--pidfile");
                c.arg("--rootfs").arg(rootfs).args(program);
                c
            }
            Mode::Rootless => {
                let mut c = Command::new("setpriv");
                c.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(Setup::get().vkernel);
                vkernel(c, stage, options, program)
            }
            Mode::Mapped => vkernel(Command::new(Setup::get().vkernel), stage, &[&["--uidmap", "0:200000:65536"], options].concat(), program),
            Mode::Identity => vkernel(Command::new(Setup::get().vkernel), stage, options, program),
        }
    }

    /// A further program in the running container.
    pub(super) fn enter(&self, stage: &Stage, program: &str) -> Option<Command> {
        match self {
            Mode::Unprotected => None,
            Mode::Podman { .. } => {
                let mut c = podman(stage);
                c.args(["exec", Stage::NAME, program]);
                Some(c)
            }
            _ => {
                let mut c = Command::new(Setup::get().vkernel);
                c.arg("--root").arg(stage.path("containers")).args(["exec", Stage::NAME, program]);
                Some(c)
            }
        }
    }

    /// Whatever a run that did not end has left.
    pub(super) fn clear(&self, stage: &Stage) {
        if let Mode::Podman { .. } = self {
            let _ = podman(stage).args(["rm", "--all", "--force", "--time", "0"]).output();
        }
    }
}

/// The options that both know.
fn shared(c: &mut Command, stage: &Stage, options: &[&str], pid_file: &str) {
    c.args(["--name", Stage::NAME]).arg(pid_file).arg(stage.path("pid"));
    c.arg("--volume").arg(format!("{}:/out", stage.path("out").display())).arg("--volume").arg(format!("{}:/precious:ro", stage.path("precious").display()));
    c.args(options);
}

fn vkernel(mut c: Command, stage: &Stage, options: &[&str], program: &[&str]) -> Command {
    let setup = Setup::get();
    c.arg("--root").arg(stage.path("containers")).arg("run").arg(&stage.manifest).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(&setup.key).arg("--audit").arg(stage.log());
    shared(&mut c, stage, options, "--pid-file");
    c.arg("--").args(program);
    c
}

/// podman with vkernel as its runtime, as a hybrid host without systemd needs it; everything it keeps lies on the stage.
fn podman(stage: &Stage) -> Command {
    let mut c = crate::podman(&stage.path("storage"), &stage.path("run"));
    c.arg("--runtime").arg(runtime(stage));
    c
}

/// A script that podman can call: vkernel with this stage's places.
fn runtime(stage: &Stage) -> PathBuf {
    let path = stage.path("runtime");
    if path.exists() {
        return path;
    }
    crate::runtime(&stage.path(""), &format!("--root {}", stage.path("containers").display()), &format!("--audit {}", stage.log().display()))
}

/// Arguments: image, out, precious, then the program. Its root may be written and is dropped at the end; nothing is noexec.
const NAMESPACES: &str = r#"
set -e
image=$1 out=$2 precious=$3; shift 3
mount -t tmpfs stage /mnt
mkdir /mnt/root /mnt/upper /mnt/work
mount -t overlay -o "lowerdir=$image,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do : > dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm out precious
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
mount --bind "$out" out
mount --bind "$precious" precious
exec /usr/sbin/chroot . "$@"
"#;

fn unprotected(stage: &Stage, program: &[&str]) -> Command {
    let mut c = Command::new("unshare");
    c.args(["--user", "--map-root-user", "--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child", "bash", "-c", NAMESPACES, "unprotected"]);
    c.arg(Path::new(&Setup::get().rootfs)).arg(stage.path("out")).arg(stage.path("precious")).args(program);
    c
}
