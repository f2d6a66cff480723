//! Images through `vkernel-image`, the program that parses what comes from outside.
//!
//! Owns finding that program and its command line. The fact a newcomer gets wrong: it is looked for beside this program, never in PATH: a build that signs must not run whatever somebody put there.

use crate::cli::SourceArgs;
use anyhow::{Context, ensure};
use policy::Digest;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use thiserror::Error;

const PROGRAM: &str = "vkernel-image";
const INSTALLED: &str = "/usr/libexec/vkernel";

/// `vkernel-image` has printed what was wrong, on this program's standard error, where its progress is shown too: nothing is left to say.
#[derive(Debug, Error)]
#[error("{PROGRAM} has said why")]
pub struct Told;

fn program() -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let beside = own.parent().map(Path::to_path_buf);
    let found = beside.into_iter().chain([INSTALLED.into()]).map(|d| d.join(PROGRAM)).find(|p| p.is_file());
    let mut command = Command::new(
        found.with_context(|| format!("{PROGRAM} is neither beside {} nor in {INSTALLED}: install it, or build it with cargo build --release -p image", own.display()))?,
    );
    // Meant for LLVM's threads, see `main`.
    command.env_remove("RUST_MIN_STACK");
    Ok(command)
}

/// The root directory of the image, fetched and unpacked if need be.
pub fn rootfs(source: &SourceArgs, cache: Option<&Path>) -> anyhow::Result<PathBuf> {
    let image = match (&source.rootfs, &source.image) {
        (Some(rootfs), _) => return Ok(rootfs.clone()),
        (None, image) => image.as_deref().context("name the image with --rootfs DIR or --image IMAGE")?,
    };
    fetched(&["unpack"], image, source, cache)
}

/// Whether something is named as an image is, and no file: by its scheme, so that a mistyped path never becomes a question to a registry.
pub fn is_image(text: &str) -> bool {
    ["docker://", "oci:", "oci-archive:"].iter().any(|scheme| text.starts_with(scheme))
}

/// The manifest of the release that an image carries, or that refers to it: as it is now, whatever was pulled before.
pub fn release(image: &str, source: &SourceArgs, cache: Option<&Path>) -> anyhow::Result<PathBuf> {
    Ok(fetched(&["pull", "--pull", "always"], image, source, cache)?.join("manifest.json"))
}

/// The directory that a command of `vkernel-image` made.
fn fetched(how: &[&str], image: &str, source: &SourceArgs, cache: Option<&Path>) -> anyhow::Result<PathBuf> {
    let mut command = program()?;
    command.args(access(source, cache)).args(how).arg("--").arg(image);
    let out = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {PROGRAM}"))?;
    ensure!(out.status.code().is_some(), "{PROGRAM} was ended ({}) while it fetched {image}", out.status);
    ensure!(out.status.success(), Told);
    let line = out.stdout.strip_suffix(b"\n").unwrap_or(&out.stdout);
    Ok(OsString::from_vec(line.to_vec()).into())
}

/// The digest by which an unpacked image's directory is called.
pub fn image_digest(rootfs: &Path) -> Option<Digest> {
    let name = rootfs.parent()?.file_name()?.to_str()?;
    format!("sha256:{}", name.strip_prefix("rootfs-")?).parse().ok()
}

/// Options that say how registries are reached.
pub fn access(source: &SourceArgs, cache: Option<&Path>) -> Vec<OsString> {
    let option = |name: &str, value: &OsStr| [OsString::from(name), value.to_owned()];
    let mut options = Vec::new();
    options.extend(source.registry_ca.iter().flat_map(|f| option("--registry-ca", f.as_os_str())));
    options.extend(source.plain_http.iter().flat_map(|h| option("--plain-http", OsStr::new(h))));
    options.extend(source.max_bytes.iter().flat_map(|n| option("--max-bytes", OsStr::new(&n.to_string()))));
    options.extend(cache.iter().flat_map(|c| option("--cache", c.as_os_str())));
    options
}

/// Runs a command of `vkernel-image`; the error is its own line.
pub fn image_tool<const N: usize>(access: &[OsString], arguments: [&OsStr; N]) -> anyhow::Result<()> {
    let out = program()?.args(access).args(arguments).stdin(Stdio::null()).output().with_context(|| format!("cannot start {PROGRAM}"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    let line = text.lines().last().unwrap_or_default();
    ensure!(out.status.success(), "{}", line.strip_prefix("vkernel-image: ").unwrap_or(line));
    Ok(())
}

/// Becomes `vkernel-image COMMAND …`; returns only if that cannot be.
pub fn forward(command: &str, arguments: &[OsString]) -> anyhow::Error {
    match program() {
        Ok(mut program) => anyhow::Error::from(program.arg(command).args(arguments).exec()).context(format!("cannot start {PROGRAM}")),
        Err(e) => e,
    }
}
