//! Source packages of Debian, for other people's test suites. Fetched with apt from the machine's own mirror, through a private sources list; kept in `target/vkernel/sources`.

use crate::process::{self, output, say, work};
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory with the downloaded files of source package `name`.
pub(crate) fn fetch(name: &str) -> anyhow::Result<PathBuf> {
    let dir = work().join("sources");
    let dsc = || kept(&dir, name, ".dsc").is_some();
    if dsc() {
        return Ok(dir);
    }
    say(&format!("fetching the source of {name}"));
    let lists = dir.join("lists");
    fs::create_dir_all(lists.join("partial"))?;
    let mirror = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]))?;
    let mirror = String::from_utf8(mirror.stdout)?.lines().next().context("apt knows no mirror of Debian 12: is this one?")?.to_owned();
    let list = dir.join("sources.list");
    fs::write(&list, format!("deb-src {mirror} bookworm main\n"))?;
    for words in [&["update", "-q"][..], &["source", "--download-only", "-q", name]] {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&dir).arg("-o").arg(format!("Dir::Etc::sourcelist={}", list.display())).args(["-o", "Dir::Etc::sourceparts=-", "-o"]);
        process::run(apt.arg(format!("Dir::State::lists={}", lists.display())).args(words))?;
    }
    ensure!(dsc(), "apt fetched no source of {name}");
    Ok(dir)
}

/// The one downloaded file of package `name` that ends so.
pub(crate) fn file(name: &str, end: &str) -> anyhow::Result<PathBuf> {
    kept(&fetch(name)?, name, end).with_context(|| format!("{name} has no file {end}"))
}

/// The file of package `name` in a directory of downloads that ends so: `NAME_VERSION…END`.
pub(crate) fn kept(dir: &Path, name: &str, end: &str) -> Option<PathBuf> {
    let wanted = |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('_') && rest.ends_with(end));
    fs::read_dir(dir).ok()?.filter_map(Result::ok).find(|e| wanted(&e.file_name().to_string_lossy())).map(|e| e.path())
}

/// `target/vkernel/sources/NAME`, unpacked once: `script` fills the directory `$2` from the archive `$1`.
pub(crate) fn unpacked(archive: &Path, name: &str, script: &str) -> anyhow::Result<PathBuf> {
    let dir = work().join("sources").join(name);
    if !dir.exists() {
        say(&format!("unpacking {name}"));
        let partial = dir.with_extension("partial");
        process::emptied(&partial)?;
        process::run(Command::new("bash").args(["-c", &format!("set -eo pipefail; {script}"), "unpack"]).arg(archive).arg(&partial))?;
        fs::rename(&partial, &dir)?;
    }
    Ok(dir)
}
