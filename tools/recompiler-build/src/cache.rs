//! The content-addressed cache of shards and native code.
//!
//! Owns entry files: `<kind>/<key>`, contents followed by their BLAKE3. Refuses to own keys: the caller hashes everything a result depends on. The fact a newcomer gets wrong: a damaged or unreadable entry is a miss, never
//! an error, and a cache that cannot be written only makes the next build slower.

use crate::output;
use blake3::Hasher;
use std::path::{Path, PathBuf};

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
    /// `--cache`, else `$XDG_CACHE_HOME/vkernel`, else `~/.cache/vkernel`.
    pub fn open(given: Option<&Path>) -> Result<Cache, output::OutputError> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let directory = given.map(Path::to_path_buf);
        let directory = directory.or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("vkernel")));
        let directory = directory.or_else(|| from("HOME").map(|d| d.join(".cache/vkernel"))).unwrap_or_else(|| ".vkernel-cache".into());
        output::directory(&directory)?;
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
        let written = output::directory(&self.directory.join(kind)).and_then(|()| output::replace(&path, &whole));
        if let Err(e) = written {
            eprintln!("recompiler-build: warning: not cached: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_entry_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        cache.put("k", "a", b"value");
        assert_eq!(cache.get("k", "a").as_deref(), Some(&b"value"[..]));
        let path = dir.path().join("k/a");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.get("k", "a"), None);
        assert_eq!(cache.get("k", "b"), None);
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let key = |a: &str, b: &str| Key::new("k").part(a.as_bytes()).part(b.as_bytes()).hex();
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
