//! Debian root filesystems, made once and kept.

use crate::process::{run, say, work};
use std::fs;
use std::path::PathBuf;
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
