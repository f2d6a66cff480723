//! The content store: root-owned read-only copies of megabinaries, each hashed after it was copied, and what is derived from a release: its linked code, what is known of its manifest. Owns the directory, what goes when it was not used for long, and
//! the rule that only files from it are mapped (07, S3); mapping is `loader`'s.
//!
//! The fact a newcomer gets wrong: the store is not a shortcut around the digests. A source file whose identity, size or times differ from
//! those of its last check is hashed again, so an artifact changed after signing refuses to run even though code that was linked from the good one lies here.

use crate::failure::Failure;
use policy::Digest;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where it is unless `--store` says otherwise.
pub const DEFAULT: &str = "/var/lib/vkernel/store";

/// File systems whose files change through this kernel only, by their numbers in statfs(2): ext4, xfs, btrfs, f2fs, tmpfs, ramfs, overlay, zfs.
const LOCAL: [i64; 8] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x8584_58f6, 0x794c_7630, 0x2fc1_2fc1];

pub struct Store {
    dir: PathBuf,
}

/// A file of a build and what it must be.
#[derive(Clone, Debug)]
pub struct Item {
    pub source: PathBuf,
    pub digest: Digest,
    /// It is mapped as it is, so the store has a copy. Others are read when code is linked.
    pub mapped: bool,
}

/// What `prune` took away, or would.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    pub files: u64,
    pub bytes: u64,
}

/// Written a moment ago, a file may belong to a start that has not come to its stamp.
const YOUNG: Duration = Duration::from_secs(600);
const STAMP: &str = "seen";
const MEMORY: &str = "manifest";

fn failure(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let what = format!("{what} {}", path.display());
    move |e| Failure::new(&what, e, "check the disk, or choose another store with --store DIR")
}

impl Store {
    /// Makes the directory if need be; one that others than root could write to is refused.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failure("make store", dir))?;
        let meta = fs::metadata(dir).map_err(failure("read store", dir))?;
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            let why = format!("owner {} and mode {:o} let others than root change it", meta.uid(), meta.mode() & 0o7777);
            return Err(Failure::new(format!("store {}", dir.display()), why, "chown root and chmod 700 it"));
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Paths of verified files, in the order of `items`: the store's copies of those that are mapped, the sources of the others. `manifest` names the set, so that an unchanged one costs one stat per file.
    pub fn admit(&self, manifest: &Digest, items: &[Item]) -> Result<Vec<PathBuf>, Failure> {
        let path = |i: &Item| if i.mapped { self.dir.join(stored(&i.digest.to_string())) } else { i.source.clone() };
        let paths: Vec<PathBuf> = items.iter().map(path).collect();
        let stamp_path = self.of(manifest, STAMP);
        let stamp = stamp(items, &paths)?;
        if stamp.is_some() && fs::read_to_string(&stamp_path).ok() == stamp {
            // `prune` goes by this time.
            let _ = File::open(&stamp_path).and_then(|f| f.set_modified(SystemTime::now()));
            return Ok(paths);
        }
        for (item, path) in items.iter().zip(&paths) {
            self.admit_one(item, path)?;
        }
        if let Some(stamp) = self::stamp(items, &paths)? {
            self.put(&stamp_path, |file| file.write_all(stamp.as_bytes()))?;
        }
        Ok(paths)
    }

    fn admit_one(&self, item: &Item, path: &Path) -> Result<(), Failure> {
        let mut source = File::open(&item.source).map_err(|e| missing(&item.source, e))?;
        if source.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(missing(&item.source, std::io::Error::from_raw_os_error(libc::EISDIR)));
        }
        let check = |digest: Digest| {
            if digest == item.digest {
                return Ok(());
            }
            let what = format!("verify {}", item.source.display());
            Err(Failure::new(what, format!("its digest is {digest}, the manifest says {}", item.digest), "rebuild, or fetch the release again"))
        };
        let hash = |file: &mut File| Digest::of_reader(item.digest.algorithm, file).map_err(failure("read", &item.source));
        if !item.mapped || path.exists() {
            return check(hash(&mut source)?);
        }
        let mut verdict = Ok(());
        self.put(path, |copy| {
            std::io::copy(&mut source, copy)?;
            copy.rewind()?;
            // What is hashed is the copy, which nobody else can open for writing.
            verdict = Digest::of_reader(item.digest.algorithm, copy).map(&check)?;
            if verdict.is_err() { Err(std::io::ErrorKind::InvalidData.into()) } else { Ok(()) }
        })
        .map_err(|e| verdict.err().unwrap_or(e))
    }

    /// May what lies here be believed, and code be mapped from it? Not if the file system lets another machine or process change it (07, S3).
    pub fn holds_still(&self) -> bool {
        let kind = nix::sys::statfs::statfs(&self.dir).map(|s| s.filesystem_type().0);
        kind.is_ok_and(|kind| LOCAL.contains(&kind))
    }

    /// A file made of an admitted release, the same for every run: opened if it is here, written by `fill` otherwise. `None` if it cannot be kept.
    pub fn derived(&self, manifest: &Digest, name: &str, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Option<File> {
        let path = self.of(manifest, name);
        if !path.exists() {
            self.put(&path, fill).ok()?;
        }
        File::open(&path).ok()
    }

    /// What `remember` kept of a manifest with this digest.
    pub fn recall(&self, manifest: &Digest) -> Option<Vec<u8>> {
        if self.holds_still() { fs::read(self.of(manifest, MEMORY)).ok() } else { None }
    }

    /// Keeps what is known of a verified manifest, in the place of what was known before. Nothing but time is lost if it cannot be kept.
    pub fn remember(&self, manifest: &Digest, memory: &[u8]) {
        if self.holds_still() {
            let _ = self.put(&self.of(manifest, MEMORY), |file| file.write_all(memory));
        }
    }

    /// Where something of a release is.
    fn of(&self, manifest: &Digest, name: &str) -> PathBuf {
        self.dir.join(format!("{}.{name}", manifest.hex()))
    }

    /// Removes what belongs to no release that was started within `unused`. What is mapped stays in memory, and a release that is started again is checked and linked again.
    pub fn prune(&self, unused: Duration, really: bool) -> Result<Pruned, Failure> {
        let entries = fs::read_dir(&self.dir).map_err(failure("read store", &self.dir))?;
        let names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
        let age = |name: &String| fs::metadata(self.dir.join(name)).ok()?.modified().ok()?.elapsed().ok();
        let (mut prefixes, mut kept) = (Vec::new(), BTreeSet::new());
        for name in &names {
            let Some(prefix) = name.strip_suffix(STAMP).filter(|n| n.ends_with('.')) else { continue };
            if age(name).is_none_or(|age| age < unused) {
                prefixes.push(prefix);
                let stamp = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
                kept.extend(stamp.lines().filter_map(|line| line.split(' ').next_back()).map(stored));
            }
        }
        let mut pruned = Pruned::default();
        for name in names.iter().filter(|n| !kept.contains(*n) && !prefixes.iter().any(|p| n.starts_with(p))) {
            let path = self.dir.join(name);
            if age(name).is_none_or(|age| age < YOUNG.min(unused)) {
                continue;
            }
            let bytes = fs::metadata(&path).map_or(0, |m| m.blocks() * 512);
            if really {
                fs::remove_file(&path).map_err(failure("remove", &path))?;
            }
            pruned = Pruned { files: pruned.files + 1, bytes: pruned.bytes + bytes };
        }
        Ok(pruned)
    }

    /// Writes a file under a temporary name and renames it: a full disk or a crash leaves nothing half-written under the final name.
    fn put(&self, path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), Failure> {
        // A container's init is pid 1, as all others are: the time tells concurrent writers apart.
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_nanos());
        let temporary = self.dir.join(format!(".new-{}-{now}-{}", std::process::id(), path.file_name().unwrap_or_default().to_string_lossy()));
        let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o400).open(&temporary);
        let done = open().and_then(|mut file| fill(&mut file)).and_then(|()| fs::rename(&temporary, path));
        done.map_err(|e| {
            let _ = fs::remove_file(&temporary);
            failure("write", path)(e)
        })
    }
}

/// Name of the copy of a file with this digest.
fn stored(digest: &str) -> String {
    digest.replace(':', "-")
}

fn missing(path: &Path, e: std::io::Error) -> Failure {
    Failure::new(format!("read {}", path.display()), e, "keep the files of a build together with their manifest")
}

/// Identities, sizes and times of sources and copies, each line ending in the digest; `None` when a copy is missing.
fn stamp(items: &[Item], paths: &[PathBuf]) -> Result<Option<String>, Failure> {
    use std::fmt::Write;
    let mut text = String::new();
    for (item, path) in items.iter().zip(paths) {
        let source = fs::metadata(&item.source).map_err(|e| missing(&item.source, e))?;
        let copy = if item.mapped { fs::metadata(path).map(Some) } else { Ok(None) };
        let Ok(copy) = copy else { return Ok(None) };
        for m in std::iter::once(&source).chain(&copy) {
            let _ = write!(text, "{} {} {} {}.{} {}.{} ", m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
        }
        let _ = writeln!(text, "{}", item.digest);
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_changed_after_it_was_admitted_is_refused() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-{}", std::process::id()));
        let store = Store::open(&dir.join("store")).unwrap();
        let source = dir.join("a.so");
        fs::write(&source, b"code").unwrap();
        let item = Item { source: source.clone(), digest: Digest::blake3(b"code"), mapped: true };
        let set = Digest::blake3(b"set");
        let paths = store.admit(&set, std::slice::from_ref(&item)).unwrap();
        assert_eq!(fs::read(&paths[0]).unwrap(), b"code");
        assert_eq!(store.admit(&set, std::slice::from_ref(&item)).unwrap(), paths);
        fs::write(&source, b"c0de").unwrap();
        let refused = store.admit(&set, std::slice::from_ref(&item)).unwrap_err();
        assert!(refused.to_string().contains("its digest is"), "{refused}");
        fs::write(&source, b"code").unwrap();
        store.admit(&set, &[item]).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_remembered_is_replaced_and_not_believed_where_others_could_write_it() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-memory-{}", std::process::id()));
        let store = Store::open(&dir).unwrap();
        let set = Digest::blake3(b"set");
        assert_eq!(store.recall(&set), None);
        for text in [b"first", b"other"] {
            store.remember(&set, text);
            assert_eq!(store.recall(&set).as_deref(), Some(text.as_slice()));
        }
        assert!(store.holds_still() && !Store { dir: "/proc/self".into() }.holds_still());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_derived_file_is_written_once() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-derived-{}", std::process::id()));
        let store = Store::open(&dir).unwrap();
        let text = |mut f: File| std::io::read_to_string(&mut f).unwrap();
        let set = Digest::blake3(b"set");
        assert!(store.derived(&set, "d", |_| Err(std::io::ErrorKind::StorageFull.into())).is_none());
        assert_eq!(text(store.derived(&set, "d", |f| f.write_all(b"once")).unwrap()), "once");
        assert_eq!(text(store.derived(&set, "d", |f| f.write_all(b"twice")).unwrap()), "once");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_not_mapped_is_checked_and_not_copied() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-linked-{}", std::process::id()));
        let store = Store::open(&dir.join("store")).unwrap();
        let source = dir.join("a.so");
        fs::write(&source, b"code").unwrap();
        let item = Item { source: source.clone(), digest: Digest::blake3(b"code"), mapped: false };
        let set = Digest::blake3(b"set");
        assert_eq!(store.admit(&set, std::slice::from_ref(&item)).unwrap(), std::slice::from_ref(&source));
        assert_eq!(fs::read_dir(dir.join("store")).unwrap().count(), 1, "the stamp alone");
        fs::write(&source, b"c0de").unwrap();
        assert!(store.admit(&set, &[item]).unwrap_err().to_string().contains("its digest is"));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn prune_removes_what_no_release_has_used_lately_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-prune-{}", std::process::id()));
        let store = Store::open(&dir.join("store")).unwrap();
        let day = Duration::from_secs(86400);
        let aged = |name: &str, days: u32| File::open(dir.join("store").join(name)).unwrap().set_modified(SystemTime::now() - days * day).unwrap();
        for (set, text, days) in [(b"old", "one", 40), (b"new", "two", 1)] {
            let (set, source) = (Digest::blake3(set), dir.join(text));
            fs::write(&source, text).unwrap();
            let item = Item { source, digest: Digest::blake3(text.as_bytes()), mapped: true };
            let copy = store.admit(&set, &[item]).unwrap().remove(0);
            store.derived(&set, "x", |f| f.write_all(b"linked")).unwrap();
            store.remember(&set, b"known");
            aged(copy.file_name().unwrap().to_str().unwrap(), days);
            [STAMP, "x", MEMORY].iter().for_each(|name| aged(&format!("{}.{name}", set.hex()), days));
        }
        fs::write(dir.join("store/.new-1"), b"left by a crash").unwrap();
        aged(".new-1", 40);
        let left = || fs::read_dir(dir.join("store")).unwrap().count();
        let files = |p: Pruned| p.files;
        assert_eq!((files(store.prune(30 * day, false).unwrap()), left()), (5, 9), "only looked at");
        assert_eq!((files(store.prune(30 * day, true).unwrap()), left()), (5, 4));
        assert_eq!((files(store.prune(30 * day, true).unwrap()), left()), (0, 4), "the release that was used stays whole");
        assert_eq!((files(store.prune(Duration::ZERO, true).unwrap()), left()), (4, 0));
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nothing_is_left_of_a_copy_with_the_wrong_digest() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-bad-{}", std::process::id()));
        let store = Store::open(&dir.join("store")).unwrap();
        fs::write(dir.join("a.so"), b"other").unwrap();
        let item = Item { source: dir.join("a.so"), digest: Digest::blake3(b"code"), mapped: true };
        assert!(store.admit(&Digest::blake3(b"set"), &[item]).is_err());
        assert_eq!(fs::read_dir(dir.join("store")).unwrap().count(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }
}
