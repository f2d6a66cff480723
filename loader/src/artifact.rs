//! AOT artifacts as wasmer sees them: of lifted code while a release is linked, of WASI programs for good.
//!
//! Owns handing them to wasmer, and finding out what it has mapped where. Does not verify: the caller hands over what the manifest vouches for. The fact a newcomer gets wrong: of lifted code nothing that is mapped here runs;
//! it runs where `linked` maps it. And wasmer keeps a descriptor of every artifact for debug information, so `map` closes it behind wasmer's back and such modules are never dropped.

use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Write};
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
    #[error("cannot make a copy of artifact {path}: is memfd_create allowed?")]
    Copy { path: PathBuf, source: io::Error },
    #[error("artifact {path} does not fit this engine or CPU: rebuild it for this host")]
    Engine { path: PathBuf, source: wasmer::DeserializeError },
    #[error("cannot read /proc/self/maps: is /proc mounted?")]
    Maps(#[source] io::Error),
}

/// The module of an artifact that was read from `path`.
pub(crate) fn load(engine: &Engine, path: &Path, bytes: &[u8]) -> Result<Module, ArtifactError> {
    let copy = || -> io::Result<File> {
        let mut file = File::from(rustix::fs::memfd_create("vkernel-aot", MemfdFlags::CLOEXEC)?);
        file.write_all(bytes)?;
        Ok(file)
    };
    let file = copy().map_err(|source| ArtifactError::Copy { path: path.into(), source })?;
    // From a copy, so that what was verified is what wasmer looks at.
    // SAFETY: the caller vouches for the content, and nobody else has this file.
    let module = unsafe { Module::deserialize_from_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd())) };
    module.map_err(|source| ArtifactError::Engine { path: path.into(), source })
}

/// Seals a memfd for good. The kernel answers EBUSY while anything holds one of the pages for a moment (a full machine copying or compacting memory): it is asked again.
fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    for _ in 0..20 {
        match rustix::fs::fcntl_add_seals(file, seals) {
            Err(rustix::io::Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(20)),
            other => return Ok(other?),
        }
    }
    Ok(rustix::fs::fcntl_add_seals(file, seals)?)
}

/// A memfd with what `fill` writes, which nobody, root included, can change. Opened for reading.
pub fn sealed<E: From<io::Error>>(name: &str, fill: impl FnOnce(&File) -> Result<(), E>) -> Result<File, E> {
    let file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(io::Error::from)?);
    fill(&file)?;
    seal(&file)?;
    // Through a descriptor that could write, kernels before 6.7 make no shared mapping of a sealed file.
    Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
}

/// A WASI program, mapped to be run.
pub(crate) struct Artifact {
    pub(crate) module: Module,
    /// What code was mapped from: the file itself or its sealed copy.
    pub(crate) file: File,
}

/// Maps the artifact at `path`. `in_place`: the caller knows that the file lies where no guest can reach it; it must also look so itself.
pub(crate) fn map(engine: &Engine, path: &Path, in_place: bool) -> Result<Artifact, ArtifactError> {
    let read = |source| ArtifactError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(read)?;
    if !(in_place && only_root_can_change(&file.metadata().map_err(read)?)) {
        let copied = sealed("vkernel-aot", |mut copy| io::copy(&mut file, &mut copy).map(drop));
        file = copied.map_err(|source| ArtifactError::Copy { path: path.into(), source })?;
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
pub(crate) fn code_ranges(names: &BTreeSet<PathBuf>) -> Result<Vec<Range<usize>>, ArtifactError> {
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

/// What this process has mapped from files: address range and offset of its first byte.
#[derive(Default)]
pub(crate) struct Mappings(Vec<(Range<usize>, u64)>);

impl Mappings {
    /// Which byte of its file is mapped at `address`.
    pub(crate) fn offset(&mut self, address: usize) -> io::Result<u64> {
        if self.find(address).is_none() {
            let text = std::fs::read_to_string("/proc/self/maps")?;
            self.0 = text.lines().filter_map(mapping).collect();
        }
        self.find(address).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{address:#x} is not mapped")))
    }

    fn find(&self, address: usize) -> Option<u64> {
        self.0.iter().find(|(range, _)| range.contains(&address)).map(|(range, offset)| offset + (address - range.start) as u64)
    }
}

fn mapping(line: &str) -> Option<(Range<usize>, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let hex = |text| usize::from_str_radix(text, 16).ok();
    Some((hex(start)?..hex(end)?, hex(offset)? as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_sealed_file_cannot_be_written_or_resized() {
        let mut sealed = sealed("t", |mut file| file.write_all(b"code")).unwrap();
        let mut text = String::new();
        sealed.read_to_string(&mut text).unwrap();
        assert_eq!(text, "code");
        let writable = File::options().write(true).open(format!("/proc/self/fd/{}", sealed.as_raw_fd())).unwrap();
        assert_eq!((&writable).write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(writable.set_len(1).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn finds_the_byte_of_a_file_behind_an_address() {
        assert_eq!(mapping("1000-3000 r-xp 00002000 08:01 7                  /a file"), Some((0x1000..0x3000, 0x2000)));
        let mut known = Mappings(vec![(0x1000..0x3000, 0x2000)]);
        assert_eq!(known.offset(0x1010).unwrap(), 0x2010);
        assert!(Mappings::default().offset(1).is_err());
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
