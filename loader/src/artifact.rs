//! AOT artifacts as wasmer sees them, while a release is linked.
//!
//! Owns handing bytes to wasmer, and finding out where it has mapped them from. Does not verify: the caller hands over bytes whose digest the manifest vouches for. The fact a newcomer gets wrong: nothing mapped here runs;
//! code runs where `linked` maps it.

use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
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
}
