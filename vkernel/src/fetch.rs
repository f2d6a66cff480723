//! `vkernel run IMAGE`: from an image's name to a manifest on this host.
//!
//! Owns telling names of images from paths, and starting `vkernel-image`, which pulls and unpacks. Registries, TLS and archives are that program's: this one, which is root and verifies, never parses them. The fact a newcomer gets
//! wrong: nothing that arrives is believed because of where it came from; the manifest is verified like any other.

use crate::cli::{RegistryArgs, Run};
use crate::failure::Failure;
use crate::own_file;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where pulled images and blobs are unless `--images` says otherwise.
pub const DEFAULT: &str = "/var/lib/vkernel";
const PROGRAM: &str = "vkernel-image";
const INSTALLED: &str = "/usr/libexec/vkernel";

/// The options of a run whose manifest is a file.
pub fn fetched(options: &Run) -> Result<Run, Failure> {
    let mut options = options.clone();
    options.manifest = manifest(&options.manifest, &options.registry)?;
    Ok(options)
}

/// The manifest of what was named: a file, or an image, which is pulled.
pub fn manifest(named: &Path, registry: &RegistryArgs) -> Result<PathBuf, Failure> {
    match named.to_str().filter(|t| is_image(t) && !named.exists()) {
        Some(image) => Ok(pull(image, registry)?.join("manifest.json")),
        None => Ok(named.to_path_buf()),
    }
}

/// A scheme of `vkernel-image`, or a registry's host before the first slash. Everything else is a path: a mistyped one must not become a question to a registry.
fn is_image(text: &str) -> bool {
    if ["docker://", "oci:", "oci-archive:"].iter().any(|s| text.starts_with(s)) {
        return true;
    }
    let host = text.split_once('/').map_or("", |(host, _)| host);
    let looks_like_host = host == "localhost" || host.contains(':') || (host.contains('.') && !host.starts_with('.'));
    looks_like_host && !text.ends_with(".json")
}

fn program() -> Result<PathBuf, Failure> {
    let beside = own_file::directory().ok_or_else(|| Failure::new("find this program", "it has no path", "mount /proc"))?;
    let found = [beside.clone(), INSTALLED.into()].into_iter().map(|d| d.join(PROGRAM)).find(|p| p.is_file());
    found.ok_or_else(|| Failure::new(PROGRAM, format!("is neither in {} nor in {INSTALLED}", beside.display()), "install it, or name a manifest on this host"))
}

/// The directory that holds the release and its rootfs.
fn pull(image: &str, registry: &RegistryArgs) -> Result<PathBuf, Failure> {
    let what = || format!("image {image}");
    let mut command = Command::new(program()?);
    command.arg("--cache").arg(&registry.images);
    for authority in &registry.registry_ca {
        command.arg("--registry-ca").arg(authority);
    }
    for host in &registry.plain_http {
        command.args(["--plain-http", host]);
    }
    command.args(["pull", "--pull", &registry.pull, "--", image]).stdin(Stdio::null());
    let out = command.output().map_err(|e| Failure::new(what(), e, format!("see whether {PROGRAM} can be started")))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        let line = text.lines().last().unwrap_or_default();
        return Err(Failure::new(what(), line.strip_prefix("vkernel-image: ").unwrap_or(line), ""));
    }
    let line = out.stdout.strip_suffix(b"\n").unwrap_or(&out.stdout);
    Ok(OsStr::from_bytes(line).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_becomes_a_question_to_a_registry() {
        for image in ["docker://x/y", "oci:dir", "oci-archive:f.tar:t", "registry.example/shop", "127.0.0.1:5000/a:1", "localhost/a"] {
            assert!(is_image(image), "{image}");
        }
        for path in ["manifest.json", "out/manifest.json", "./m", "../x/y", "/a.b/c", "out.d/manifest.json", "out/m", ".x/y"] {
            assert!(!is_image(path), "{path}");
        }
    }
}
