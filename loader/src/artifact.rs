//! AOT artifacts: from a verified file to mapped code.
//!
//! Owns the sealed copies that code is mapped from (07 S3) and the knowledge of which host addresses are AOT code. Does not verify: the caller
//! hands over files whose digests the manifest vouches for, and what is mapped is a copy nobody can write any more. The fact a newcomer gets wrong: wasmer
//! keeps a descriptor of every ELF artifact for debug information, so `close_descriptors` closes it behind wasmer's back and modules are never dropped.

use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
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
    /// ELF artifacts come from LLVM, whose functions take the base of memory 0 as a hidden parameter.
    pub elf: bool,
}

/// Maps the artifact at `path` from a sealed copy.
pub fn load(engine: &Engine, path: &Path) -> Result<Artifact, ArtifactError> {
    let read = |source| ArtifactError::Read { path: path.into(), source };
    let seal = |source| ArtifactError::Seal { path: path.into(), source };
    let mut file = File::open(path).map_err(read)?;
    let mut magic = [0; 4];
    let elf = file.read_exact(&mut magic).is_ok() && &magic == b"\x7fELF";
    file.rewind().map_err(read)?;
    let module = if elf {
        let copy = sealed_copy(&mut file).map_err(seal)?;
        // SAFETY: the caller vouches for the content (see the module text); the copy cannot change after this point.
        unsafe { Module::deserialize_from_file(engine, format!("/proc/self/fd/{}", copy.as_raw_fd())) }
    } else {
        // wasmer copies the code of such an artifact into anonymous memory, which is as good as a sealed copy.
        // SAFETY: as above; the caller's file is one only root can write.
        unsafe { Module::deserialize_from_file_unchecked(engine, path) }
    };
    let module = module.map_err(|source| ArtifactError::Engine { path: path.into(), source })?;
    Ok(Artifact { module, elf })
}

/// A memfd with the file's content that nobody, root included, can change.
fn sealed_copy(file: &mut File) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(MEMFD_NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(fd);
    io::copy(file, &mut copy)?;
    seal(&copy)?;
    Ok(copy.into())
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

/// Closes every descriptor of an artifact copy that is still open in this process (07 S7). Call once, after the last `load`, and leak the modules.
pub fn close_descriptors() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        if !target.to_string_lossy().starts_with(&format!("/memfd:{MEMFD_NAME}")) {
            continue;
        }
        if let Some(fd) = entry.file_name().to_str().and_then(|s| s.parse::<i32>().ok()) {
            // SAFETY: the descriptor is of a memfd this module made; its owner (a wasmer module) is never used for I/O nor dropped.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

/// Host address ranges that hold AOT code: the executable parts of the sealed copies, and anonymous executable memory (where wasmer puts artifacts
/// that are not ELF files). Everything else that is executable belongs to the host.
pub fn code_ranges() -> Result<Vec<Range<usize>>, ArtifactError> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(ArtifactError::Maps)?;
    Ok(maps.lines().filter_map(code_range).collect())
}

fn code_range(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.as_bytes().get(2) == Some(&b'x');
    let name = fields.nth(3).unwrap_or("");
    let ours = name.is_empty() || name.starts_with(&format!("/memfd:{MEMFD_NAME}"));
    if !(executable && ours) {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_sealed_copy_cannot_be_written_or_resized() {
        let mut f = File::from(rustix::fs::memfd_create("t", MemfdFlags::CLOEXEC).unwrap());
        f.write_all(b"code").unwrap();
        f.rewind().unwrap();
        let mut copy = File::from(sealed_copy(&mut f).unwrap());
        assert_eq!(copy.metadata().unwrap().len(), 4);
        assert_eq!(copy.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(copy.set_len(1).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn only_artifact_copies_and_anonymous_code_count_as_aot_code() {
        assert_eq!(code_range("1000-2000 r-xp 00000000 00:01 7 /memfd:vkernel-aot (deleted)"), Some(0x1000..0x2000));
        assert_eq!(code_range("1000-2000 r-xp 00000000 00:00 0 "), Some(0x1000..0x2000));
        assert_eq!(code_range("1000-2000 r-xp 00000000 08:01 7 /usr/lib/libc.so.6"), None);
        assert_eq!(code_range("1000-2000 r-xp 00000000 00:00 0 [vdso]"), None);
        assert_eq!(code_range("1000-2000 rw-p 00000000 00:00 0 "), None);
    }
}
