//! Debian root filesystems, made once and kept.

use crate::process::{output, run, say, work};
use crate::sources;
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A minimal Debian 12 (mmdebstrap's minbase variant: coreutils, bash, grep, sed and what they need).
pub(crate) fn debian() -> anyhow::Result<PathBuf> {
    made("rootfs", "a minimal Debian 12 root filesystem", BASE)
}

/// What every root filesystem has besides mmdebstrap's minbase variant.
const BASE: &[&str] = &["coreutils", "bash", "grep", "sed", "libstdc++6"];

/// Packages that are covered, run and measured besides the base system (issue 3), with everything they need.
const PROGRAMS: &[&str] = &[
    "python3.11",
    "perl",
    "git",
    "sqlite3",
    "curl",
    "openssl",
    "vim-tiny",
    "gawk",
    "findutils",
    "tar",
    "gzip",
    "xz-utils",
    "zstd",
    "make",
    "gcc",
    "libc6-dev",
    "nginx",
    "redis-server",
    "jq",
    "ripgrep",
    "busybox-static",
    "gocryptfs",
    "rclone",
    "age",
    "unison",
    "shellcheck",
];

/// Debian 12 with the packages of `PROGRAMS`: some 800 MB.
pub(crate) fn programs() -> anyhow::Result<PathBuf> {
    made("programs-rootfs", "a Debian 12 root filesystem with many programs", &[BASE, PROGRAMS].concat())
}

/// Debian 12 with what our own packages depend on.
pub(crate) fn for_packages() -> anyhow::Result<PathBuf> {
    made("packages-rootfs", "a Debian 12 root filesystem to install packages in", &[BASE, DEPENDED_UPON].concat())
}

/// Debian 12 as a host of its own: its kernel, booted by its systemd, with the callers of OCI runtimes that it ships.
pub(crate) fn bootable() -> anyhow::Result<PathBuf> {
    made("boot-rootfs", "a Debian 12 that boots", &[BASE, BOOTS, DEPENDED_UPON].concat())
}

/// The kernel for virtual machines is the same as the other one, with fewer drivers.
const BOOTS: &[&str] =
    &["linux-image-cloud-amd64", "initramfs-tools", "zstd", "systemd-sysv", "dbus", "podman", "conmon", "crun", "containerd", "runc", "socat", "jq", "procps", "iproute2"];

/// What our own packages depend on.
const DEPENDED_UPON: &[&str] = &["libseccomp2", "libffi8", "zlib1g", "libzstd1"];

fn made(name: &str, what: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let dir = work().join(name);
    if dir.join("usr/bin/ls").exists() {
        return Ok(dir);
    }
    say(&format!("making {what} (kept in target/vkernel/{name})"));
    fs::create_dir_all(work())?;
    let partial = work().join(format!("{name}.partial"));
    let _ = fs::remove_dir_all(&partial);
    let path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let include = format!("--include={}", packages.join(","));
    run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", &include, "bookworm"]).arg(&partial).env("PATH", path))?;
    fs::rename(&partial, &dir)?;
    Ok(dir)
}

/// The ELF files that a Debian package installed in the root filesystem.
pub(crate) fn elf_files(rootfs: &Path, package: &str) -> anyhow::Result<Vec<String>> {
    let info = rootfs.join("var/lib/dpkg/info");
    let list = [package.to_owned(), format!("{package}:amd64")].map(|name| info.join(format!("{name}.list"))).into_iter().find(|l| l.exists());
    let text = fs::read_to_string(list.with_context(|| format!("{package} is not installed in {}", rootfs.display()))?)?;
    Ok(text.lines().filter(|path| is_elf(&rootfs.join(path.trim_start_matches('/')))).map(str::to_owned).collect())
}

/// A file, not a link to one, with ELF's magic number.
fn is_elf(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|m| m.is_file()) && fs::read(file).is_ok_and(|b| b.starts_with(b"\x7fELF"))
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
