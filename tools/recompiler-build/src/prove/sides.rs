//! The two sides of a proof: a command natively in a chroot, and under vkernel.
//!
//! Owns that both find the same world: the image with what they write thrown away, /proc, a small /dev, no network, the same environment. The fact a newcomer gets wrong: this program never runs guest code in its own process, but the native
//! side does run the image's code, as root in namespaces of its own: prove images that you would start.

use crate::starting;
use anyhow::Context;
use proof::{Came, Guest, ProofError};
use std::path::{Path, PathBuf};
use std::process::Command;

const ENVIRONMENT: [&str; 3] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"];

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

pub(super) struct Sides {
    rootfs: PathBuf,
    place: tempfile::TempDir,
    pub guest: Guest,
}

impl Sides {
    pub(super) fn new(manifest: &Path, rootfs: &Path, keys: &[PathBuf]) -> anyhow::Result<Sides> {
        let rootfs = std::fs::canonicalize(rootfs).with_context(|| format!("cannot use {}", rootfs.display()))?;
        let place = tempfile::tempdir().context("cannot make a temporary directory")?;
        let guest = Guest::new(starting::vkernel()?, manifest, &rootfs, keys, 1)?;
        Ok(Sides { rootfs, place, guest })
    }

    pub(super) fn native(&self, command: &[String], stdin: &[u8]) -> Result<Came, ProofError> {
        let mut c = Command::new("unshare");
        c.args(["--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "--kill-child", "/bin/sh", "-c", NATIVE, "native"]).arg(&self.rootfs).arg(self.place.path()).args(command);
        c.envs((1..).map(|i| format!("ENVIRONMENT_{i}")).zip(ENVIRONMENT)).env_remove("RUST_MIN_STACK");
        proof::run(c, stdin)
    }
}
