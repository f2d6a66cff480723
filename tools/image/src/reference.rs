//! Where an image is: the words people type after `--image`.
//!
//! Owns the spelling, which is skopeo's (`docker://`, `oci:`, `oci-archive:`, `docker-archive:`, `dir:`). The fact a newcomer gets wrong: a plain word is a registry reference, a plain path (`/`, `./`, `../`) a directory; nothing
//! is guessed from what exists on disk but whether such a directory is an OCI layout.

use anyhow::{Context, bail};
use oci_client::Reference as Remote;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A root directory as it is.
    Directory(PathBuf),
    Layout {
        directory: PathBuf,
        wanted: Wanted,
    },
    OciArchive {
        file: PathBuf,
        wanted: Wanted,
    },
    DockerArchive {
        file: PathBuf,
        wanted: Wanted,
    },
    Registry(Remote),
}

/// Which image of a layout or archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The only one.
    Only,
    Tag(String),
    Digest(String),
}

const HELP: &str = "write docker://HOST/NAME[:TAG][@sha256:…], oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG] or dir:DIR";

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Reference> {
        if let Some(rest) = text.strip_prefix("docker://") {
            return remote(rest);
        }
        let split = |rest: &str| -> anyhow::Result<(PathBuf, Wanted)> {
            let (path, wanted) = wanted(rest);
            if path.is_empty() {
                bail!("image {text:?} names no file: {HELP}");
            }
            Ok((path.into(), wanted))
        };
        Ok(match text.split_once(':') {
            Some(("oci", rest)) => split(rest).map(|(directory, wanted)| Reference::Layout { directory, wanted })?,
            Some(("oci-archive", rest)) => split(rest).map(|(file, wanted)| Reference::OciArchive { file, wanted })?,
            Some(("docker-archive", rest)) => split(rest).map(|(file, wanted)| Reference::DockerArchive { file, wanted })?,
            Some(("dir", rest)) if !rest.is_empty() => Reference::Directory(rest.into()),
            _ if is_path(text) && Path::new(text).join("oci-layout").is_file() => Reference::Layout { directory: text.into(), wanted: Wanted::Only },
            _ if is_path(text) && Path::new(text).is_dir() => Reference::Directory(text.into()),
            _ if is_path(text) => bail!("{text} is no directory: {HELP}"),
            _ => return remote(text),
        })
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("./") || text.starts_with("../") || text == "." || text == ".."
}

fn remote(text: &str) -> anyhow::Result<Reference> {
    Ok(Reference::Registry(text.parse().with_context(|| format!("image {text:?} is no reference: {HELP}"))?))
}

/// `PATH`, `PATH:TAG` or `PATH@sha256:…`. A tag holds no slash, but one of docker-archive may be a whole name: `FILE:NAME:TAG`.
fn wanted(text: &str) -> (&str, Wanted) {
    if let Some((path, digest)) = text.split_once('@') {
        return (path, Wanted::Digest(digest.into()));
    }
    match text.split_once(':') {
        Some((path, tag)) if !tag.is_empty() => (path, Wanted::Tag(tag.into())),
        Some((path, _)) => (path, Wanted::Only),
        None => (text, Wanted::Only),
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Only => Ok(()),
            Wanted::Tag(t) => write!(f, ":{t}"),
            Wanted::Digest(d) => write!(f, "@{d}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Directory(d) => write!(f, "dir:{}", d.display()),
            Reference::Layout { directory, wanted } => write!(f, "oci:{}{wanted}", directory.display()),
            Reference::OciArchive { file, wanted } => write!(f, "oci-archive:{}{wanted}", file.display()),
            Reference::DockerArchive { file, wanted } => write!(f, "docker-archive:{}{wanted}", file.display()),
            Reference::Registry(r) => write!(f, "docker://{}", r.whole()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_comes_back_as_it_is_shown() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, shown) in [
            ("docker://127.0.0.1:5000/a/b:1", "docker://127.0.0.1:5000/a/b:1".to_owned()),
            (&format!("localhost:5000/a@{digest}"), format!("docker://localhost:5000/a@{digest}")),
            ("oci:/x/y:tag", "oci:/x/y:tag".into()),
            ("oci:rel", "oci:rel".into()),
            ("docker-archive:/x.tar:shop/front:1.0", "docker-archive:/x.tar:shop/front:1.0".into()),
            ("dir:root", "dir:root".into()),
            ("/", "dir:/".into()),
        ] {
            let parsed: Reference = text.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse::<Reference>().unwrap(), parsed);
        }
        assert!("debian".parse::<Reference>().unwrap().to_string().ends_with("/library/debian:latest"));
        for bad in ["", "oci:", "host/UPPER", "/nonexistent/dir", "docker://", "a b"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
