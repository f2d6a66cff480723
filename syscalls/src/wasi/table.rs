//! The descriptors of a WASI program: its own numbers, each with a host descriptor, rights and what it was opened as. Owns the numbers and the rights.
//!
//! The fact a newcomer gets wrong: a number that is not in this table reaches nothing, whatever descriptors the process has: the host's numbers are not the module's.

use super::errno::Code;
use std::collections::BTreeMap;

/// Rights, by the bits of `rights` in `wasi_snapshot_preview1`.
pub(super) mod right {
    pub(crate) const FD_DATASYNC: u64 = 1;
    pub(crate) const FD_READ: u64 = 1 << 1;
    pub(crate) const FD_SEEK: u64 = 1 << 2;
    pub(crate) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub(crate) const FD_SYNC: u64 = 1 << 4;
    pub(crate) const FD_TELL: u64 = 1 << 5;
    pub(crate) const FD_WRITE: u64 = 1 << 6;
    pub(crate) const FD_ADVISE: u64 = 1 << 7;
    pub(crate) const FD_ALLOCATE: u64 = 1 << 8;
    pub(crate) const PATH_CREATE_DIRECTORY: u64 = 1 << 9;
    pub(crate) const PATH_CREATE_FILE: u64 = 1 << 10;
    pub(crate) const PATH_LINK_SOURCE: u64 = 1 << 11;
    pub(crate) const PATH_LINK_TARGET: u64 = 1 << 12;
    pub(crate) const PATH_OPEN: u64 = 1 << 13;
    pub(crate) const FD_READDIR: u64 = 1 << 14;
    pub(crate) const PATH_READLINK: u64 = 1 << 15;
    pub(crate) const PATH_RENAME_SOURCE: u64 = 1 << 16;
    pub(crate) const PATH_RENAME_TARGET: u64 = 1 << 17;
    pub(crate) const PATH_FILESTAT_GET: u64 = 1 << 18;
    pub(crate) const PATH_FILESTAT_SET_TIMES: u64 = 1 << 20;
    pub(crate) const FD_FILESTAT_GET: u64 = 1 << 21;
    pub(crate) const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub(crate) const FD_FILESTAT_SET_TIMES: u64 = 1 << 23;
    pub(crate) const PATH_SYMLINK: u64 = 1 << 24;
    pub(crate) const PATH_REMOVE_DIRECTORY: u64 = 1 << 25;
    pub(crate) const PATH_UNLINK_FILE: u64 = 1 << 26;
    pub(crate) const POLL_FD_READWRITE: u64 = 1 << 27;
    pub(crate) const SOCK_SHUTDOWN: u64 = 1 << 28;
    pub(crate) const SOCK_ACCEPT: u64 = 1 << 29;
    /// Every one of them.
    pub(crate) const ALL: u64 = (1 << 30) - 1;
    /// What a directory is good for.
    pub(crate) const DIRECTORY: u64 = PATH_CREATE_DIRECTORY
        | PATH_CREATE_FILE
        | PATH_LINK_SOURCE
        | PATH_LINK_TARGET
        | PATH_OPEN
        | FD_READDIR
        | PATH_READLINK
        | PATH_RENAME_SOURCE
        | PATH_RENAME_TARGET
        | PATH_FILESTAT_GET
        | PATH_FILESTAT_SET_TIMES
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_TIMES
        | PATH_SYMLINK
        | PATH_REMOVE_DIRECTORY
        | PATH_UNLINK_FILE;
    /// What a file or a stream is good for.
    pub(crate) const FILE: u64 = FD_DATASYNC
        | FD_READ
        | FD_SEEK
        | FD_FDSTAT_SET_FLAGS
        | FD_SYNC
        | FD_TELL
        | FD_WRITE
        | FD_ADVISE
        | FD_ALLOCATE
        | FD_FILESTAT_GET
        | FD_FILESTAT_SET_SIZE
        | FD_FILESTAT_SET_TIMES
        | POLL_FD_READWRITE;
    /// And a socket.
    pub(crate) const SOCKET: u64 = FILE | SOCK_SHUTDOWN | SOCK_ACCEPT;
}

/// `filetype` of `wasi_snapshot_preview1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SocketDgram = 5,
    SocketStream = 6,
    SymbolicLink = 7,
}

impl Kind {
    /// Of a mode as stat(2) gives it. Pipes have no number in WASI.
    pub(super) fn of_mode(mode: u32) -> Kind {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFREG => Kind::RegularFile,
            libc::S_IFLNK => Kind::SymbolicLink,
            libc::S_IFBLK => Kind::BlockDevice,
            libc::S_IFCHR => Kind::CharacterDevice,
            libc::S_IFSOCK => Kind::SocketStream,
            _ => Kind::Unknown,
        }
    }

    pub(super) fn is_socket(self) -> bool {
        matches!(self, Kind::SocketDgram | Kind::SocketStream)
    }

    pub(super) fn rights(self) -> u64 {
        match self {
            Kind::Directory => right::DIRECTORY,
            kind if kind.is_socket() => right::SOCKET,
            _ => right::FILE,
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub inode: u64,
    pub kind: Kind,
    pub name: Vec<u8>,
}

/// What a number stands for.
#[derive(Debug)]
pub(super) struct Descriptor {
    /// The descriptor the rows are given.
    pub host: i32,
    pub kind: Kind,
    /// What it was opened for: without one of these rights it is the wrong descriptor.
    pub opened: u64,
    /// What of it is left: a right that was given up is one that is missing.
    pub base: u64,
    pub inheriting: u64,
    /// The name it was opened in advance under.
    pub preopen: Option<Vec<u8>>,
    /// A directory as it was when it was last read from its start: positions in it stay what they are.
    pub listing: Vec<Listed>,
}

impl Descriptor {
    pub(super) fn new(host: i32, kind: Kind) -> Self {
        let inheriting = if kind == Kind::Directory { right::ALL } else { 0 };
        Self { host, kind, opened: kind.rights(), base: kind.rights(), inheriting, preopen: None, listing: Vec::new() }
    }
}

/// More than any program needs; the host's limit of open files is met long before.
const MOST: u32 = 1 << 20;

#[derive(Default)]
pub(super) struct Table {
    open: BTreeMap<u32, Descriptor>,
}

impl Table {
    /// Gives a descriptor the lowest free number.
    pub(super) fn add(&mut self, descriptor: Descriptor) -> Result<u32, Code> {
        self.add_from(0, descriptor)
    }

    /// The lowest free number that is not below `first`.
    pub(super) fn add_from(&mut self, first: u32, descriptor: Descriptor) -> Result<u32, Code> {
        let number = (first..MOST).find(|n| !self.open.contains_key(n)).ok_or(Code::MFILE)?;
        self.open.insert(number, descriptor);
        Ok(number)
    }

    /// A number as the module gives it, which must be good for `rights`.
    pub(super) fn get(&mut self, number: u64, rights: u64) -> Result<&mut Descriptor, Code> {
        let found = u32::try_from(number).ok().and_then(|n| self.open.get_mut(&n)).ok_or(Code::BADF)?;
        match rights {
            _ if found.opened & rights != rights => Err(Code::BADF),
            _ if found.base & rights != rights => Err(Code::NOTCAPABLE),
            _ => Ok(found),
        }
    }

    /// The same, of a directory.
    pub(super) fn directory(&mut self, number: u64, rights: u64) -> Result<&mut Descriptor, Code> {
        if self.get(number, 0)?.kind != Kind::Directory {
            return Err(Code::BADF);
        }
        self.get(number, rights)
    }

    pub(super) fn remove(&mut self, number: u64) -> Result<Descriptor, Code> {
        u32::try_from(number).ok().and_then(|n| self.open.remove(&n)).ok_or(Code::BADF)
    }

    /// Gives a descriptor a number that is free.
    pub(super) fn put(&mut self, number: u32, descriptor: Descriptor) {
        self.open.insert(number, descriptor);
    }

    /// Moves `from` to the number `to`, which must be open; what was there is returned.
    pub(super) fn renumber(&mut self, from: u64, to: u64) -> Result<Option<Descriptor>, Code> {
        self.get(from, 0)?;
        self.get(to, 0)?;
        if from == to {
            return Ok(None);
        }
        let moved = self.remove(from)?;
        let old = self.remove(to)?;
        self.open.insert(to as u32, moved);
        Ok(Some(old))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(host: i32) -> Descriptor {
        Descriptor::new(host, Kind::RegularFile)
    }

    #[test]
    fn numbers_are_the_modules_own_and_nothing_else_is_reached() {
        let mut table = Table::default();
        assert_eq!((table.add(file(70)), table.add(file(71))), (Ok(0), Ok(1)));
        assert_eq!(table.get(1, 0).unwrap().host, 71);
        for guess in [2, 70, 71, u64::from(u32::MAX), u64::MAX, 1 << 32] {
            assert_eq!(table.get(guess, 0).map(|d| d.host), Err(Code::BADF), "{guess}");
        }
        assert_eq!(table.renumber(0, 1).unwrap().unwrap().host, 71);
        assert_eq!((table.get(1, 0).unwrap().host, table.get(0, 0).err()), (70, Some(Code::BADF)));
        assert_eq!(table.renumber(1, 9).err(), Some(Code::BADF));
        assert_eq!(table.renumber(1, 1).unwrap().map(|d| d.host), None);
        assert_eq!(table.add(file(72)), Ok(0), "the lowest free number");
        assert_eq!((table.add_from(3, file(73)), table.add_from(3, file(74)), table.add(file(75))), (Ok(3), Ok(4), Ok(2)));
    }

    #[test]
    fn a_right_that_was_given_up_is_missing_and_the_others_stay() {
        let mut table = Table::default();
        table.add(file(5)).unwrap();
        assert!(table.get(0, right::FD_READ | right::FD_SEEK).is_ok());
        table.get(0, 0).unwrap().base &= !right::FD_SEEK;
        assert_eq!(table.get(0, right::FD_SEEK).map(|d| d.host), Err(Code::NOTCAPABLE));
        assert!(table.get(0, right::FD_READ).is_ok());
        assert_eq!(table.directory(0, right::PATH_OPEN).map(|d| d.host), Err(Code::BADF));
    }
}
