//! AOT artifacts: from a verified file to mapped code.
//!
//! Owns what code is mapped from (07 S3) and the knowledge of which host addresses are AOT code. A file that only host root could change is mapped as it is, so that every run shares its page cache; any
//! other is copied into a sealed memfd first. Does not verify: the caller hands over files whose digests the manifest vouches for. The fact a newcomer gets wrong: wasmer
//! keeps a descriptor of every artifact for debug information, so `load` closes it behind wasmer's back and modules are never dropped.

use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;
use wasmer::{Engine, Module};

#[derive(Debug, Error)]
pub enum ArtifactError {
    #[error("cannot read artifact {path}: check that the build is complete and readable")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot make a sealed copy of artifact {path}: is memfd_create allowed?")]
    Seal { path: PathBuf, source: io::Error },
    #[error("artifact {path} does not fit this engine or CPU: rebuild it for this host")]
    Engine { path: PathBuf, source: wasmer::DeserializeError },
    #[error("cannot read /proc/self/maps: is /proc mounted?")]
    Maps(#[source] io::Error),
}

/// Name of the memfds, as /proc/self/maps shows it.
const MEMFD_NAME: &str = "vkernel-aot";

/// Code of one form of one shard.
pub struct Artifact {
    pub module: Module,
    /// What code was mapped from: the file itself or its sealed copy.
    pub file: File,
}

/// Maps the artifact at `path`. `in_place`: the caller knows that the file lies where no guest can reach it; it must also look so itself.
pub fn load(engine: &Engine, path: &Path, in_place: bool) -> Result<Artifact, ArtifactError> {
    let read = |source| ArtifactError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(read)?;
    if !(in_place && only_root_can_change(&file.metadata().map_err(read)?)) {
        file = sealed_copy(&mut file).map_err(|source| ArtifactError::Seal { path: path.into(), source })?;
    }
    let open = descriptors_of(&file).map_err(read)?;
    // By descriptor, so that what was checked is what is mapped.
    // SAFETY: the caller vouches for the content, which nobody but host root can change after this point.
    let module = unsafe { Module::deserialize_from_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd())) };
    let module = module.map_err(|source| ArtifactError::Engine { path: path.into(), source })?;
    close_others(&file, &open).map_err(read)?;
    Ok(Artifact { module, file })
}

/// Root's, without a write bit and without a second name.
fn only_root_can_change(meta: &Metadata) -> bool {
    meta.is_file() && meta.uid() == 0 && meta.mode() & 0o222 == 0 && meta.nlink() == 1
}

/// A memfd with the file's content that nobody, root included, can change.
fn sealed_copy(file: &mut File) -> io::Result<File> {
    let fd = rustix::fs::memfd_create(MEMFD_NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(fd);
    io::copy(file, &mut copy)?;
    seal(&copy)?;
    Ok(copy)
}

/// Seals a memfd for good. The kernel answers EBUSY while anything holds one of the pages for a moment (a full machine copying or compacting memory): it is asked again.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..20 {
        match rustix::fs::fcntl_add_seals(file, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(20)),
            other => return Ok(other?),
        }
    }
    Ok(rustix::fs::fcntl_add_seals(file, seals)?)
}

/// Descriptors of this file close to `file`'s: new ones get the lowest free numbers.
fn descriptors_of(file: &File) -> io::Result<Vec<i32>> {
    const AROUND: i32 = 8;
    let (own, ours) = (file.as_raw_fd(), file.metadata()?);
    let is_ours = |fd: &i32| {
        // SAFETY: only looked at; a number that is not open gives an error.
        let stat = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(*fd) });
        stat.is_ok_and(|s| (s.st_dev, s.st_ino) == (ours.dev(), ours.ino()))
    };
    Ok((own - AROUND..own + AROUND).filter(|fd| *fd > 2).filter(is_ours).collect())
}

/// Closes the descriptors wasmer keeps of the file it has just mapped (07 S7): all but those that were `open` before. Shards with the same code share a file, whose descriptors their artifacts hold.
fn close_others(file: &File, open: &[i32]) -> io::Result<()> {
    for fd in descriptors_of(file)?.into_iter().filter(|fd| !open.contains(fd)) {
        // SAFETY: a descriptor of the file just mapped, which this thread alone works on; its owner (a wasmer module) is never used for I/O nor dropped.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// The descriptor's path as /proc/self/maps shows it.
pub(crate) fn name_of(file: &File) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Host address ranges that hold AOT code: the executable mappings of files with these names. Everything else that is executable belongs to the host.
pub fn code_ranges(names: &BTreeSet<PathBuf>) -> Result<Vec<Range<usize>>, ArtifactError> {
    let maps = std::fs::read("/proc/self/maps").map_err(ArtifactError::Maps)?;
    Ok(maps.split(|b| *b == b'\n').filter_map(|line| code_range(line, names)).collect())
}

fn code_range(line: &[u8], names: &BTreeSet<PathBuf>) -> Option<Range<usize>> {
    let name = line.iter().position(|b| *b == b'/')?;
    let mut fields = std::str::from_utf8(&line[..name]).ok()?.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
    if !(executable && names.contains(Path::new(OsStr::from_bytes(&line[name..])))) {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_sealed_copy_cannot_be_written_or_resized() {
        let mut f = File::from(rustix::fs::memfd_create("t", MemfdFlags::CLOEXEC).unwrap());
        f.write_all(b"code").unwrap();
        f.rewind().unwrap();
        let mut copy = sealed_copy(&mut f).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), 4);
        assert_eq!(copy.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(copy.set_len(1).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn only_a_read_only_file_of_root_with_one_name_is_mapped_in_place() {
        let dir = std::env::temp_dir().join(format!("vkernel-in-place-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a");
        let file = File::create(&path).unwrap();
        let in_place = || only_root_can_change(&file.metadata().unwrap());
        let root = file.metadata().unwrap().uid() == 0;
        file.set_permissions(std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(in_place(), root, "only root's files qualify");
        file.set_permissions(std::fs::Permissions::from_mode(0o420)).unwrap();
        assert!(!in_place(), "the group could write it");
        file.set_permissions(std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::hard_link(&path, dir.join("b")).unwrap();
        assert!(!in_place(), "the second name may be in reach of a guest");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn only_executable_mappings_of_artifacts_count_as_aot_code() {
        let names = BTreeSet::from(["/memfd:vkernel-aot (deleted)".into(), "/a store/blake3-1".into()]);
        let range = |line: &str| code_range(line.as_bytes(), &names);
        assert_eq!(range("1000-2000 r-xp 00000000 00:01 7                  /memfd:vkernel-aot (deleted)"), Some(0x1000..0x2000));
        assert_eq!(range("1000-2000 r-xp 00000000 08:01 7                  /a store/blake3-1"), Some(0x1000..0x2000));
        assert_eq!(range("1000-2000 r--p 00000000 08:01 7                  /a store/blake3-1"), None);
        assert_eq!(range("1000-2000 r-xp 00000000 08:01 7                  /a store/blake3-12"), None);
        assert_eq!(range("1000-2000 r-xp 00000000 08:01 7                  /usr/lib/libc.so.6"), None);
        assert_eq!(range("1000-2000 r-xp 00000000 00:00 0                  [vdso]"), None);
        assert_eq!(range("1000-2000 r-xp 00000000 00:00 0 "), None);
    }
}
