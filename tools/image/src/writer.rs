//! Layers of our own: a release's files, or a whole root directory, as a tar that is the same whoever makes it when.
//!
//! Owns the order (sorted), owners and times of entries, compression and both digests. The fact a newcomer gets wrong: the release layer has time 0 and owner 0 throughout, so two pushes of one release share the blob.

use crate::blob::Blob;
use crate::layer::{Hashed, INTERRUPTED};
use anyhow::{Context, ensure};
use flate2::write::GzEncoder;
use policy::Digest;
use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use tar::{Builder, EntryType, Header};

/// How a layer is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Every tool of the last ten years reads it.
    #[default]
    Gzip,
    /// Five times faster; Docker before 23 cannot read it.
    Zstd,
}

impl Compression {
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::Gzip => crate::document::LAYER_GZIP,
            Compression::Zstd => crate::document::LAYER_ZSTD,
        }
    }
}

/// A layer file that was written, and the digest of the tar in it.
pub struct Written {
    pub blob: Blob,
    pub diff_id: Digest,
}

/// Hashes what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a layer into `file`; `fill` appends its entries.
fn write(file: &Path, compression: Compression, fill: impl FnOnce(&mut Builder<&mut dyn Write>) -> anyhow::Result<()>) -> anyhow::Result<Written> {
    let out = BufWriter::with_capacity(1 << 20, File::create(file).with_context(|| format!("cannot write {}", file.display()))?);
    let failed = || format!("cannot write {}: free some space", file.display());
    let archive = |sink: &mut dyn Write| -> anyhow::Result<Digest> {
        let mut hashing = Hashing { inner: sink, hasher: Sha256::new() };
        {
            let mut builder = Builder::new(&mut hashing as &mut dyn Write);
            fill(&mut builder)?;
            builder.finish().with_context(failed)?;
        }
        Ok(Digest { algorithm: policy::Algorithm::Sha256, bytes: hashing.hasher.finalize().into() })
    };
    let (mut out, diff_id) = match compression {
        Compression::Gzip => {
            let mut gzip = GzEncoder::new(out, flate2::Compression::new(6));
            let diff_id = archive(&mut gzip)?;
            (gzip.finish().with_context(failed)?, diff_id)
        }
        Compression::Zstd => {
            let mut zstd = zstd::stream::write::Encoder::new(out, 3).with_context(failed)?;
            let diff_id = archive(&mut zstd)?;
            (zstd.finish().with_context(failed)?, diff_id)
        }
    };
    out.flush().with_context(failed)?;
    let mut hashed = Hashed::new(File::open(file)?);
    io::copy(&mut hashed, &mut io::sink())?;
    let blob = Blob::of_file(file, Some(hashed.digest()))?;
    Ok(Written { blob, diff_id })
}

/// The layer that puts a release under `prefix`: files by their names relative to it.
pub fn release(file: &Path, compression: Compression, prefix: &str, files: &BTreeMap<String, PathBuf>) -> anyhow::Result<Written> {
    write(file, compression, |builder| {
        let mut directories = BTreeSet::new();
        for name in files.keys().map(|n| format!("{prefix}/{n}")) {
            directories.extend(name.match_indices('/').map(|(at, _)| format!("{}/", &name[..at])));
        }
        for directory in &directories {
            let mut h = plain(EntryType::Directory, 0o755, 0);
            builder.append_data(&mut h, directory, io::empty())?;
        }
        for (name, path) in files {
            let input = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut h = plain(EntryType::Regular, 0o644, input.metadata()?.len());
            builder.append_data(&mut h, format!("{prefix}/{name}"), input).with_context(|| format!("cannot pack {}", path.display()))?;
        }
        Ok(())
    })
}

fn plain(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut h = Header::new_gnu();
    h.set_entry_type(kind);
    h.set_mode(mode);
    h.set_uid(0);
    h.set_gid(0);
    h.set_mtime(0);
    h.set_size(size);
    h
}

/// A layer that makes a whole root directory, for images that begin as one.
pub fn directory(file: &Path, compression: Compression, root: &Path) -> anyhow::Result<Written> {
    write(file, compression, |builder| {
        let mut seen = BTreeMap::new();
        below(builder, root, Path::new(""), &mut seen)
    })
}

/// First names of files with several links.
type Seen = BTreeMap<(u64, u64), PathBuf>;

fn below(builder: &mut Builder<&mut dyn Write>, root: &Path, inside: &Path, seen: &mut Seen) -> anyhow::Result<()> {
    let host = root.join(inside);
    let failed = || format!("cannot read {}", host.display());
    let mut names = fs::read_dir(&host).with_context(failed)?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>().with_context(failed)?;
    names.sort();
    for name in names {
        let path = inside.join(name);
        let meta = fs::symlink_metadata(root.join(&path)).with_context(|| format!("cannot read {}", root.join(&path).display()))?;
        entry(builder, root, &path, &meta, seen).with_context(|| format!("cannot pack /{}", path.display()))?;
        if meta.is_dir() {
            below(builder, root, &path, seen)?;
        }
    }
    Ok(())
}

fn entry(builder: &mut Builder<&mut dyn Write>, root: &Path, path: &Path, meta: &Metadata, seen: &mut Seen) -> anyhow::Result<()> {
    let host = root.join(path);
    let kind = meta.file_type();
    // A socket is a running program's, not an image's.
    if kind.is_socket() {
        return Ok(());
    }
    ensure!(!path.file_name().is_some_and(|n| n.as_bytes().starts_with(b".wh.")), "a layer cannot hold a file of this name, it would mean a removal");
    let mut h = plain(EntryType::Regular, meta.mode() & 0o7777, 0);
    h.set_uid(meta.uid().into());
    h.set_gid(meta.gid().into());
    h.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    if !meta.is_dir() && meta.nlink() > 1 {
        if let Some(first) = seen.get(&(meta.dev(), meta.ino())) {
            h.set_entry_type(EntryType::Link);
            return Ok(builder.append_link(&mut h, path, first)?);
        }
        seen.insert((meta.dev(), meta.ino()), path.into());
    }
    let attributes = attributes(&host)?;
    builder.append_pax_extensions(attributes.iter().map(|(k, v)| (k.as_str(), &v[..])))?;
    if kind.is_symlink() {
        h.set_entry_type(EntryType::Symlink);
        return Ok(builder.append_link(&mut h, path, fs::read_link(&host)?)?);
    }
    let device = |h: &mut Header, kind| -> io::Result<()> {
        h.set_entry_type(kind);
        h.set_device_major(rustix::fs::major(meta.rdev()))?;
        h.set_device_minor(rustix::fs::minor(meta.rdev()))
    };
    if meta.is_dir() {
        h.set_entry_type(EntryType::Directory);
    } else if kind.is_char_device() {
        device(&mut h, EntryType::Char)?;
    } else if kind.is_block_device() {
        device(&mut h, EntryType::Block)?;
    } else if kind.is_fifo() {
        device(&mut h, EntryType::Fifo)?;
    } else {
        h.set_size(meta.len());
        return Ok(builder.append_data(&mut h, path, File::open(&host)?)?);
    }
    Ok(builder.append_data(&mut h, path, io::empty())?)
}

/// Extended attributes that images carry, as PAX records.
fn attributes(host: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 64 << 10];
    let n = match llistxattr(host, &mut names[..]) {
        Ok(n) => n,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let wanted = |n: &&[u8]| n.starts_with(b"user.") || *n == b"security.capability" || n.starts_with(b"system.posix_acl_");
    let mut found = Vec::new();
    for name in names[..n].split(|b| *b == 0).filter(wanted) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let mut value = vec![0; 64 << 10];
        let n = lgetxattr(host, text, &mut value[..])?;
        value.truncate(n);
        found.push((format!("SCHILY.xattr.{text}"), value));
    }
    found.sort();
    Ok(found)
}
