//! The two sides of a proof: a command natively in a chroot, and under vkernel.
//!
//! Owns that both find the same world: the image with what they write thrown away, /proc, a small /dev, no network, the same environment. The fact a newcomer gets wrong: this program never runs guest code in its own process, but the native
//! side does run the image's code, as root in namespaces of its own: prove images that you would start.

use crate::starting;
use anyhow::{Context, ensure};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ENVIRONMENT: [&str; 3] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"];
/// A command that takes longer is a failed one.
const SECONDS: &str = "60";

/// The image in an overlay of its own, as vkernel sees it.
const NATIVE: &str = r#"set -e
root=$2
mount -t tmpfs none "$root"
mkdir "$root/upper" "$root/work" "$root/merged"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$root/upper,workdir=$root/work" "$root/merged"
mkdir -p "$root/merged/proc" "$root/merged/dev"
mount -t proc proc "$root/merged/proc"
mount -t tmpfs tmpfs "$root/merged/dev"
for d in null zero full random urandom; do touch "$root/merged/dev/$d"; mount --bind "/dev/$d" "$root/merged/dev/$d"; done
ln -s /proc/self/fd "$root/merged/dev/fd"
cd /
shift 2
exec env -i "$ENVIRONMENT_1" "$ENVIRONMENT_2" "$ENVIRONMENT_3" chroot "$root/merged" "$@"
"#;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub status: u32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Came {
    /// In words, what differs from another.
    pub(super) fn difference(&self, other: &Came) -> String {
        if self.status != other.status {
            return format!("status {}, not {}", self.status, other.status);
        }
        let (stream, a, b) = if self.stdout == other.stdout { ("stderr", &self.stderr, &other.stderr) } else { ("stdout", &self.stdout, &other.stdout) };
        let first = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
        format!("{stream} from byte {first}, {} and {} bytes", a.len(), b.len())
    }
}

pub(super) struct Sides<'a> {
    vkernel: PathBuf,
    manifest: &'a Path,
    rootfs: PathBuf,
    keys: &'a [PathBuf],
    place: tempfile::TempDir,
}

impl<'a> Sides<'a> {
    pub(super) fn new(manifest: &'a Path, rootfs: &Path, keys: &'a [PathBuf]) -> anyhow::Result<Sides<'a>> {
        let rootfs = std::fs::canonicalize(rootfs).with_context(|| format!("cannot use {}", rootfs.display()))?;
        let place = tempfile::tempdir().context("cannot make a temporary directory")?;
        std::fs::create_dir(place.path().join("native")).context("cannot make a temporary directory")?;
        Ok(Sides { vkernel: starting::vkernel()?, manifest, rootfs, keys, place })
    }

    pub(super) fn native(&self, command: &[String], stdin: &[u8]) -> anyhow::Result<Came> {
        let mut c = bounded("unshare");
        c.args(["--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child", "/bin/sh", "-c", NATIVE, "native"])
            .arg(&self.rootfs)
            .arg(self.place.path().join("native"))
            .args(command);
        c.envs((1..).map(|i| format!("ENVIRONMENT_{i}")).zip(ENVIRONMENT));
        came(c, stdin)
    }

    pub(super) fn vkernel(&self, command: &[String], stdin: &[u8]) -> anyhow::Result<Came> {
        let mut c = bounded(&self.vkernel.display().to_string());
        c.arg("run").arg(self.manifest).arg("--rootfs").arg(&self.rootfs);
        c.arg("--store").arg(self.place.path().join("store")).arg("--serials").arg(self.place.path().join("serials"));
        for key in self.keys {
            c.arg("--key").arg(key);
        }
        c.args(["--network", "none"]).arg("--").args(command);
        came(c, stdin)
    }
}

fn bounded(program: &str) -> Command {
    let mut c = Command::new("timeout");
    c.args(["--kill-after=5", SECONDS, program]).env_remove("RUST_MIN_STACK");
    c
}

fn came(mut c: Command, stdin: &[u8]) -> anyhow::Result<Came> {
    let mut input = tempfile::tempfile().context("cannot make a temporary file")?;
    input.write_all(stdin).and_then(|()| input.rewind()).context("cannot write a temporary file")?;
    let out = c.stdin::<File>(input).output().with_context(|| format!("cannot start {:?}", c.get_program()))?;
    let status = out.status.code().unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0));
    ensure!(status != 124 && status != 137, "did not end within {SECONDS} s");
    ensure!(status != 125, "could not be run: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(Came { status: status.unsigned_abs(), stdout: out.stdout, stderr: out.stderr })
}
