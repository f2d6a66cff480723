//! Debian root filesystems, made once and kept.

use crate::process::{output, run, say, work};
use crate::sources;
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A minimal Debian 12 (mmdebstrap's minbase variant: coreutils, bash, grep, sed and what they need).
pub(crate) fn debian() -> anyhow::Result<PathBuf> {
    let dir = work().join("rootfs");
    if dir.join("usr/bin/ls").exists() {
        return Ok(dir);
    }
    say("making a minimal Debian 12 root filesystem (kept in target/vkernel/rootfs)");
    fs::create_dir_all(work())?;
    let partial = work().join("rootfs.partial");
    let _ = fs::remove_dir_all(&partial);
    let path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let packages = "--include=coreutils,bash,grep,sed,libstdc++6";
    run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", packages, "bookworm"]).arg(&partial).env("PATH", path))?;
    fs::rename(&partial, &dir)?;
    Ok(dir)
}

/// A copy of a root filesystem, made once and kept as `target/vkernel/NAME`.
pub(crate) fn copy(rootfs: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let copy = work().join(name);
    if !copy.join("usr/bin/ls").exists() {
        let partial = work().join(format!("{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        run(Command::new("cp").args(["--archive", "-H"]).arg(rootfs).arg(&partial))?;
        fs::rename(&partial, &copy)?;
    }
    Ok(copy)
}

/// Unpacks a Debian package into a root filesystem, without its dependencies and scripts. Packages are kept in `target/vkernel/packages`.
pub(crate) fn add_package(rootfs: &Path, name: &str) -> anyhow::Result<()> {
    let dir = work().join("packages");
    fs::create_dir_all(&dir)?;
    let file = || sources::kept(&dir, name, ".deb");
    if file().is_none() {
        say(&format!("fetching package {name}"));
        // As root apt would hand the download to a user who may not write here.
        let download = || output(Command::new("apt-get").current_dir(&dir).args(["-o", "APT::Sandbox::User=root", "download", "-q", name]));
        if !download()?.status.success() {
            run(Command::new("apt-get").args(["update", "-q"]))?;
            download()?;
        }
    }
    let package = file().with_context(|| format!("apt-get found no package {name}"))?;
    // `dpkg-deb --extract` would put a directory in the place of the link /bin.
    let script = r#"set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --directory "$2""#;
    run(Command::new("bash").args(["-c", script, "unpack"]).arg(package).arg(rootfs))
}
