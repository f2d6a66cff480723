//! The content store: root-owned read-only copies of artifacts and megabinaries, each hashed after it was copied, and what is derived from them. Owns the directory and
//! the rule that only files from it are mapped (07, S3); mapping is `loader`'s.
//!
//! The fact a newcomer gets wrong: the store is not a shortcut around the digests. A source file whose identity, size or times differ from
//! those of the copy's day is hashed again, so an artifact changed after signing refuses to run even though a good copy of it lies here.

use crate::failure::Failure;
use policy::Digest;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
}

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

    /// Paths of verified copies, in the order of `items`. `manifest` names the set, so that an unchanged one costs one stat per file.
    pub fn admit(&self, manifest: &Digest, items: &[Item]) -> Result<Vec<PathBuf>, Failure> {
        let paths: Vec<PathBuf> = items.iter().map(|i| self.dir.join(i.digest.to_string().replace(':', "-"))).collect();
        let stamp_path = self.dir.join(format!("{}.seen", manifest.hex()));
        let stamp = stamp(items, &paths)?;
        if stamp.is_some() && fs::read_to_string(&stamp_path).ok() == stamp {
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
        if path.exists() {
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

    /// May code be mapped from the store's own files? Not if the file system lets another machine or process change them, nor if the store lies in a host tree that the guest gets to write (07, S3).
    pub fn holds_still(&self, written: &[PathBuf]) -> bool {
        let kind = nix::sys::statfs::statfs(&self.dir).map(|s| s.filesystem_type().0);
        let apart = |tree: &PathBuf| {
            let (store, tree) = (fs::canonicalize(&self.dir).ok()?, fs::canonicalize(tree).ok()?);
            // A part of the store in the guest's hands is as bad as all of it.
            Some(!store.starts_with(&tree) && !tree.starts_with(&store))
        };
        kind.is_ok_and(|kind| LOCAL.contains(&kind)) && written.iter().all(|tree| apart(tree) == Some(true))
    }

    /// A file made of what was admitted, the same for every run: opened if it is here, written by `fill` otherwise. `None` if it cannot be kept.
    pub fn derived(&self, name: &str, fill: impl FnOnce(&File) -> std::io::Result<()>) -> Option<File> {
        let path = self.dir.join(name);
        if !path.exists() {
            self.put(&path, |file| fill(file)).ok()?;
        }
        File::open(&path).ok()
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

fn missing(path: &Path, e: std::io::Error) -> Failure {
    Failure::new(format!("read {}", path.display()), e, "keep the files of a build together with their manifest")
}

/// Identities, sizes and times of sources and copies; `None` when a copy is missing.
fn stamp(items: &[Item], copies: &[PathBuf]) -> Result<Option<String>, Failure> {
    use std::fmt::Write;
    let mut text = String::new();
    for (item, copy) in items.iter().zip(copies) {
        let source = fs::metadata(&item.source).map_err(|e| missing(&item.source, e))?;
        let Ok(copy) = fs::metadata(copy) else { return Ok(None) };
        for m in [&source, &copy] {
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
        let item = Item { source: source.clone(), digest: Digest::blake3(b"code") };
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
    fn code_is_mapped_from_the_store_only_while_no_guest_can_write_it() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-still-{}", std::process::id()));
        fs::create_dir_all(dir.join("image")).unwrap();
        let beside = Store::open(&dir.join("store")).unwrap();
        let written = |trees: &[&str]| trees.iter().map(|t| dir.join(t)).collect::<Vec<_>>();
        assert!(beside.holds_still(&written(&["image"])) && beside.holds_still(&[]));
        assert!(!beside.holds_still(&written(&["image", ""])), "the store is part of the tree the guest writes");
        fs::create_dir_all(dir.join("store/part")).unwrap();
        assert!(!beside.holds_still(&written(&["store/part"])), "the guest writes a part of the store");
        assert!(!beside.holds_still(&written(&["gone"])), "a tree that cannot be looked at");
        let proc = Store { dir: "/proc/self".into() };
        assert!(!proc.holds_still(&[]), "no file system that holds still");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_derived_file_is_written_once() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-derived-{}", std::process::id()));
        let store = Store::open(&dir).unwrap();
        let text = |mut f: File| std::io::read_to_string(&mut f).unwrap();
        assert!(store.derived("d", |_| Err(std::io::ErrorKind::StorageFull.into())).is_none());
        assert_eq!(text(store.derived("d", |mut f| f.write_all(b"once")).unwrap()), "once");
        assert_eq!(text(store.derived("d", |mut f| f.write_all(b"twice")).unwrap()), "once");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn nothing_is_left_of_a_copy_with_the_wrong_digest() {
        let dir = std::env::temp_dir().join(format!("vkernel-store-bad-{}", std::process::id()));
        let store = Store::open(&dir.join("store")).unwrap();
        fs::write(dir.join("a.so"), b"other").unwrap();
        let item = Item { source: dir.join("a.so"), digest: Digest::blake3(b"code") };
        assert!(store.admit(&Digest::blake3(b"set"), &[item]).is_err());
        assert_eq!(fs::read_dir(dir.join("store")).unwrap().count(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }
}
