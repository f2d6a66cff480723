//! Looking files up inside an image's root directory, as a process whose root it is would.
//!
//! Owns the boundary: the kernel resolves every path with RESOLVE_IN_ROOT, so no symlink of a hostile image leads out. The fact a newcomer gets wrong: a file's path in the manifest is the one
//! *after* all symlinks (`/usr/lib/…/libc.so.6` for `/lib/…`), because that is the one name every user of the file shares.

use policy::{Algorithm, Digest};
use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What tells a program or a script from data.
pub const MAGIC_BYTES: usize = 4;

/// Larger files are no programs, or hostile ones.
const MAX_FILE_BYTES: u64 = 1 << 30;

#[derive(Debug, Error)]
pub enum RootfsError {
    #[error("{path}: {source}: name the image's root directory with --rootfs DIR")]
    Root { path: PathBuf, source: io::Error },
    #[error("{path} (inside the image): {source}")]
    Open { path: String, source: io::Error },
    #[error("{path} (inside the image) is not a regular file: include files or directories only")]
    NotAFile { path: String },
    #[error("{path} (inside the image) has {bytes} bytes, more than the 1 GiB a program may have")]
    TooLarge { path: String, bytes: u64 },
}

/// A directory that is `/` for every path given.
pub struct Rootfs {
    fd: OwnedFd,
    host: PathBuf,
}

/// A regular file of the image, read whole.
pub struct Content {
    /// Absolute, without symlinks.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// What can be known of a regular file without reading it whole.
pub struct Head {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// It carries file capabilities.
    pub capabilities: bool,
}

/// What a path is.
pub enum Kind {
    File,
    Directory,
}

impl Rootfs {
    pub fn open(host: &Path) -> Result<Rootfs, RootfsError> {
        let root = |source| RootfsError::Root { path: host.into(), source };
        let fd = fs::open(host, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| root(e.into()))?;
        let host = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(root)?;
        Ok(Rootfs { fd, host })
    }

    fn open_at(&self, path: impl rustix::path::Arg, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// The path after all symlinks, and whether it is a file or a directory.
    pub fn resolve(&self, path: &str) -> Result<(String, Kind), RootfsError> {
        let open = |source: io::Error| RootfsError::Open { path: path.into(), source };
        let fd = self.open_at(path, OFlags::PATH).map_err(open)?;
        let kind = match FileType::from_raw_mode(fs::fstat(&fd).map_err(|e| open(e.into()))?.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            _ => return Err(RootfsError::NotAFile { path: path.into() }),
        };
        Ok((self.inside(&fd).map_err(open)?, kind))
    }

    fn inside(&self, fd: &OwnedFd) -> io::Result<String> {
        let host = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        let inside = host.strip_prefix(&self.host).map_err(|_| io::Error::other("moved while it was read"))?;
        let text = inside.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
        Ok(format!("/{text}"))
    }

    /// Reads a regular file.
    pub fn read(&self, path: &str) -> Result<Content, RootfsError> {
        let open = |source: io::Error| RootfsError::Open { path: path.into(), source };
        // O_NONBLOCK: a FIFO of that name must not hang the build.
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(open)?;
        let stat = fs::fstat(&fd).map_err(|e| open(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(RootfsError::NotAFile { path: path.into() });
        }
        let size = stat.st_size as u64;
        if size > MAX_FILE_BYTES {
            return Err(RootfsError::TooLarge { path: path.into(), bytes: size });
        }
        let inside = self.inside(&fd).map_err(open)?;
        let mut bytes = Vec::with_capacity(size as usize);
        File::from(fd).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(open)?;
        Ok(Content { path: inside, bytes })
    }

    /// The first bytes of a regular file that is no symlink, and what its inode says.
    pub fn head(&self, path: &str, bytes: usize) -> Result<Head, RootfsError> {
        let open = |source: io::Error| RootfsError::Open { path: path.into(), source };
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW).map_err(open)?;
        let stat = fs::fstat(&fd).map_err(|e| open(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(RootfsError::NotAFile { path: path.into() });
        }
        let capabilities = fs::fgetxattr(&fd, "security.capability", &mut [0_u8; 64][..]).is_ok();
        let mut head = Vec::new();
        File::from(fd).take(bytes as u64).read_to_end(&mut head).map_err(open)?;
        Ok(Head { bytes: head, size: stat.st_size as u64, mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, capabilities })
    }

    /// Digest of a regular file of any size.
    pub fn digest(&self, algorithm: Algorithm, path: &str) -> Result<Digest, RootfsError> {
        let open = |source: io::Error| RootfsError::Open { path: path.into(), source };
        let fd = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW).map_err(open)?;
        Digest::of_reader(algorithm, &mut File::from(fd)).map_err(open)
    }

    /// Where a program is found by its name, as `execvp` does: a name with a slash as it is.
    pub fn in_path(&self, name: &str) -> Option<String> {
        if name.contains('/') {
            return self.has_file(name).then(|| name.to_owned());
        }
        super::shebang::PATH.iter().map(|d| format!("{d}/{name}")).find(|p| self.has_file(p))
    }

    /// Whether a regular file is there.
    pub fn has_file(&self, path: &str) -> bool {
        matches!(self.resolve(path), Ok((_, Kind::File)))
    }

    /// Paths of everything in a directory, sorted; symlinks are not followed further down.
    pub fn list(&self, directory: &str) -> Result<Vec<(String, FileType)>, RootfsError> {
        let open = |source: io::Error| RootfsError::Open { path: directory.into(), source };
        let fd = self.open_at(directory, OFlags::RDONLY | OFlags::DIRECTORY).map_err(open)?;
        let mut entries = Vec::new();
        for entry in fs::Dir::new(fd).map_err(|e| open(e.into()))? {
            let entry = entry.map_err(|e| open(e.into()))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." {
                entries.push((format!("{}/{name}", directory.trim_end_matches('/')), entry.file_type()));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// What `list` leaves out, since no manifest can name it: the regular files of a directory whose names are not UTF-8, and those below directories with such names;
    /// of these, the ones that begin as wanted. Their paths are spelled with escapes.
    pub fn not_utf8(&self, directory: &str, wanted: fn(&[u8]) -> bool) -> Result<Vec<(String, Digest)>, RootfsError> {
        let mut found = Vec::new();
        let mut directories = vec![directory.trim_end_matches('/').as_bytes().to_vec()];
        while let Some(directory) = directories.pop() {
            let open = |source: io::Error| RootfsError::Open { path: directory.escape_ascii().to_string(), source };
            let fd = self.open_at([&directory[..], b"/"].concat(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(open)?;
            for entry in fs::Dir::new(fd).map_err(|e| open(e.into()))? {
                let entry = entry.map_err(|e| open(e.into()))?;
                let name = entry.file_name().to_bytes();
                let path = [&directory[..], b"/", name].concat();
                if name == b"." || name == b".." || std::str::from_utf8(&path).is_ok() {
                    continue;
                }
                match entry.file_type() {
                    FileType::Directory => directories.push(path),
                    FileType::RegularFile => {
                        let mut file = File::from(self.open_at(&path[..], OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW).map_err(open)?);
                        let mut head = Vec::new();
                        (&file).take(MAGIC_BYTES as u64).read_to_end(&mut head).map_err(open)?;
                        if wanted(&head) {
                            let digest = file.rewind().and_then(|()| Digest::of_reader(Algorithm::Blake3, &mut file)).map_err(open)?;
                            found.push((path.escape_ascii().to_string(), digest));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn symlinks_stay_inside_the_image() {
        let root = tempfile::tempdir().unwrap();
        let r = Rootfs::open(root.path()).unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        std::fs::write(root.path().join("usr/lib/f"), b"x").unwrap();
        symlink("usr/lib", root.path().join("lib")).unwrap();
        symlink("/usr/lib/f", root.path().join("absolute")).unwrap();
        symlink("../../../../usr/lib/f", root.path().join("usr/up")).unwrap();
        symlink("/etc/passwd", root.path().join("out")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        for path in ["/lib/f", "/absolute", "/usr/up", "/usr/../usr/lib/f", "/../../usr/lib/f"] {
            assert_eq!(r.read(path).unwrap().path, "/usr/lib/f", "{path}");
        }
        assert!(r.read("/out").is_err() && r.read("/loop").is_err() && r.read("/usr").is_err());
        assert_eq!(r.list("/usr").unwrap().iter().map(|e| e.0.as_str()).collect::<Vec<_>>(), ["/usr/lib", "/usr/up"]);
    }
}
