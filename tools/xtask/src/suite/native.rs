//! The native side's container: what `vkernel run` gives a guest, made of namespaces and mounts.
//!
//! Owns the script that makes it. Knows no suite. The fact a newcomer gets wrong: the root is an overlay that is dropped at the end, as the guest's is, so the image is the same at every run, and the same for both sides.

use crate::process::{self, work};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Arguments: image, stage, loopback interface up or down, user, then the program. Runs in mount, pid, net, ipc and uts namespaces of its own, without descriptors that the caller left open.
const CONTAINER: &str = r#"
set -e
for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
image=$1 stage=$2 loopback=$3 user=$4; shift 4
ip link set lo "$loopback"
mount --make-rprivate /
mount -t tmpfs stage "$stage"
cd "$stage"
mkdir root upper work
mount -t overlay -o "lowerdir=$image,upperdir=upper,workdir=work" overlay root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755,size=64k dev dev
for node in null zero full random urandom tty; do : > dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,size=64m shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
exec chroot . /usr/bin/setpriv --no-new-privs --reuid "$user" --regid "$user" --clear-groups "$@"
"#;
/// What the guest's root finds in its environment.
pub(super) const ROOTS: &[&str] = &["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"];

/// `program` as `user` on the image, with a loopback interface or without, for no longer than `seconds`; it ends when xtask does.
pub(super) fn command<'a>(
    image: &Path,
    user: u32,
    seconds: u32,
    loopback: bool,
    environment: &[impl AsRef<str>],
    program: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<Command> {
    // A mount over this directory is seen in its own namespace only.
    let stage = work().join("stage");
    fs::create_dir_all(&stage)?;
    let mut c = Command::new("unshare");
    c.args(["--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "bash", "-c", CONTAINER, "native"]);
    c.arg(image).arg(&stage).arg(if loopback { "up" } else { "down" }).arg(user.to_string()).args(["/usr/bin/env", "-i"]).args(environment.iter().map(AsRef::as_ref)).args(program);
    Ok(process::bounded(seconds, &c))
}
