//! The content-addressed cache of shards and native code.
//!
//! Owns entry files: `<kind>/<key>`, contents followed by their BLAKE3, and that nobody else writes them: they end in a release that our key signs (07, S20). Refuses to own keys: the caller hashes everything a result depends on. The fact a newcomer
//! gets wrong: a damaged or unreadable entry is a miss, never an error, and a cache that cannot be written only makes the next build slower.

use crate::{compile, lifting, output};
use anyhow::{Context, ensure};
use blake3::Hasher;
use rustix::process::geteuid;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Directories of entries.
const KINDS: [&str; 3] = [lifting::KIND, lifting::CERTIFICATE, compile::KIND];

pub struct Cache {
    directory: PathBuf,
}

/// A key under construction. Each part is length-prefixed, so parts cannot run into each other.
pub struct Key(Hasher);

impl Key {
    pub fn new(kind: &str) -> Key {
        let mut key = Key(Hasher::new());
        key.part(kind.as_bytes());
        key
    }

    pub fn part(&mut self, bytes: &[u8]) -> &mut Key {
        self.0.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    pub fn hex(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

impl Cache {
    /// `--cache`, else `$XDG_CACHE_HOME/vkernel`, else `~/.cache/vkernel`; made if need be, and refused if others than this user and root could write it.
    pub fn open(given: Option<&Path>) -> anyhow::Result<Cache> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let directory = given.map(Path::to_path_buf);
        let directory = directory.or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("vkernel")));
        let directory =
            directory.or_else(|| from("HOME").map(|d| d.join(".cache/vkernel"))).context("neither HOME nor XDG_CACHE_HOME is set: name a directory with --cache DIR")?;
        owned(&directory)?;
        // What others left in a directory that was theirs is as bad.
        KINDS.iter().map(|kind| directory.join(kind)).filter(|kind| kind.exists()).try_for_each(|kind| owned(&kind))?;
        Ok(Cache { directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, kind: &str, key: &str) -> PathBuf {
        self.directory.join(kind).join(key)
    }

    pub fn get(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(self.path(kind, key)).ok()?;
        let at = bytes.len().checked_sub(32)?;
        let intact = blake3::hash(&bytes[..at]).as_bytes()[..] == bytes[at..];
        bytes.truncate(at);
        intact.then_some(bytes)
    }

    pub fn put(&self, kind: &str, key: &str, bytes: &[u8]) {
        let path = self.path(kind, key);
        let whole = [bytes, blake3::hash(bytes).as_bytes()].concat();
        let written = owned(&self.directory.join(kind)).and_then(|()| Ok(output::replace(&path, &whole)?));
        if let Err(e) = written {
            eprintln!("recompiler-build: warning: not cached: {e:#}");
        }
    }
}

/// Makes a directory that only this user writes.
fn owned(directory: &Path) -> anyhow::Result<()> {
    output::directory(directory.parent().unwrap_or(Path::new("")))?;
    let made = DirBuilder::new().mode(0o755).create(directory);
    made.or_else(|e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) }).with_context(|| format!("cannot make the cache {}", directory.display()))?;
    let meta = fs::metadata(directory).with_context(|| format!("cannot use the cache {}", directory.display()))?;
    let ours = [0, geteuid().as_raw()].contains(&meta.uid()) && meta.mode() & 0o022 == 0;
    ensure!(
        ours,
        "the cache {} belongs to user {} with mode {:o}, so others could change what is built: chmod go-w it, or choose another with --cache",
        directory.display(),
        meta.uid(),
        meta.mode() & 0o7777
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_entry_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        cache.put("aot", "a", b"value");
        assert_eq!(cache.get("aot", "a").as_deref(), Some(&b"value"[..]));
        let path = dir.path().join("aot/a");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.get("aot", "a"), None);
        assert_eq!(cache.get("aot", "b"), None);
    }

    #[test]
    fn what_others_could_write_is_no_cache() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Cache::open(Some(dir.path())).unwrap().put("aot", "a", b"value");
        for (path, mode) in [("", 0o777), ("", 0o770), ("aot", 0o777)] {
            let path = dir.path().join(path);
            let before = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Cache::open(Some(dir.path())).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains("chmod go-w"), "{}: {error:?}", path.display());
            fs::set_permissions(&path, before).unwrap();
        }
        Cache::open(Some(dir.path())).unwrap();
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let key = |a: &str, b: &str| Key::new("k").part(a.as_bytes()).part(b.as_bytes()).hex();
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
