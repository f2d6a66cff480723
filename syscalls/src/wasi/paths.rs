//! `path_open`, and what is done to one path: directories, removal, `filestat`.

use super::call::Call;
use super::errno::Code;
use super::files::{answer_filestat, lay_times, open_flags};
use super::functions::Answer;
use super::path::{Held, follows};
use super::table::{Descriptor, Kind, right};

/// `oflags`.
mod oflag {
    pub(super) const CREAT: u64 = 1;
    pub(super) const DIRECTORY: u64 = 2;
    pub(super) const EXCL: u64 = 4;
    pub(super) const TRUNC: u64 = 8;
    pub(super) const ALL: u64 = 15;
}

/// Bits of a new file's mode, before the umask.
const FILE_MODE: u64 = 0o666;
const DIRECTORY_MODE: u64 = 0o777;

pub(super) fn open(c: &mut Call<'_>) -> Answer {
    let [number, lookupflags, pointer, length, oflags, base, _, fdflags, out] = c.a;
    let follow = follows(lookupflags)?;
    let made = |flag: u64, rights: u64| if oflags & flag == 0 { 0 } else { rights };
    if c.program.table.get(number, 0)?.kind == Kind::RegularFile {
        return Err(Code::NOTDIR);
    }
    let d = c.program.table.directory(number, right::PATH_OPEN | made(oflag::CREAT, right::PATH_CREATE_FILE))?;
    let (directory, inherited) = (d.host as u64, d.inheriting);
    let passed_on = made(oflag::TRUNC, right::FD_FILESTAT_SET_SIZE);
    if inherited & passed_on != passed_on {
        return Err(Code::NOTCAPABLE);
    }
    if oflags & !oflag::ALL != 0 {
        return Err(Code::INVAL);
    }
    let path = c.path(pointer, length)?;
    // Before there is anything to close again.
    c.program.memory.load::<u32>(out)?;
    let flags = access(oflags, base)? | open_flags(fdflags)? | if follow { 0 } else { libc::O_NOFOLLOW };
    // The mode is only for files that may be made: openat2(2) refuses it otherwise.
    let fd = c.beneath(directory, &path, flags, if oflags & oflag::CREAT == 0 { 0 } else { FILE_MODE })?;
    let held = Held(fd);
    let kind = c.kind_of(fd as i32)?;
    let mut descriptor = Descriptor::new(fd as i32, kind);
    descriptor.opened &= !missing(base, kind);
    descriptor.base &= inherited & descriptor.opened;
    descriptor.inheriting &= inherited;
    let number = c.program.table.add(descriptor)?;
    std::mem::forget(held);
    c.answer(out, number)
}

/// Linux's flags for `oflags` and the rights asked for.
fn access(oflags: u64, base: u64) -> Result<i32, Code> {
    let one = |flag: u64, linux: i32| if oflags & flag == 0 { 0 } else { linux };
    if oflags & oflag::DIRECTORY != 0 {
        // A directory is neither made nor emptied by opening it.
        return if oflags & (oflag::CREAT | oflag::EXCL | oflag::TRUNC) == 0 { Ok(libc::O_RDONLY | libc::O_DIRECTORY) } else { Err(Code::INVAL) };
    }
    let writes = base & right::FD_WRITE != 0 || oflags & oflag::TRUNC != 0;
    let mode = match (base & right::FD_READ != 0, writes) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    Ok(mode | one(oflag::CREAT, libc::O_CREAT) | one(oflag::EXCL, libc::O_EXCL) | one(oflag::TRUNC, libc::O_TRUNC))
}

/// Rights that a file was not opened for.
fn missing(base: u64, kind: Kind) -> u64 {
    if kind == Kind::Directory { 0 } else { !base & (right::FD_READ | right::FD_WRITE) }
}

pub(super) fn create_directory(c: &mut Call<'_>) -> Answer {
    let directory = c.program.table.directory(c.a[0], right::PATH_CREATE_DIRECTORY)?.host as u64;
    let path = c.path(c.a[1], c.a[2])?;
    let place = c.place(directory, &path)?;
    c.row(libc::SYS_mkdirat, &[place.directory, place.name, DIRECTORY_MODE]).map(drop)
}

pub(super) fn remove_directory(c: &mut Call<'_>) -> Answer {
    remove(c, right::PATH_REMOVE_DIRECTORY, libc::AT_REMOVEDIR)
}

pub(super) fn unlink_file(c: &mut Call<'_>) -> Answer {
    remove(c, right::PATH_UNLINK_FILE, 0)
}

fn remove(c: &mut Call<'_>, rights: u64, flags: i32) -> Answer {
    let directory = c.program.table.directory(c.a[0], rights)?.host as u64;
    let path = c.path(c.a[1], c.a[2])?;
    let place = c.place(directory, &path)?;
    c.row(libc::SYS_unlinkat, &[place.directory, place.name, flags as u64]).map(drop)
}

/// The thing itself, opened for nothing but to be spoken of.
fn object(c: &mut Call<'_>, number: u64, lookupflags: u64, [pointer, length]: [u64; 2], rights: u64) -> Result<Held, Code> {
    let follow = follows(lookupflags)?;
    let directory = c.program.table.directory(number, rights)?.host as u64;
    let path = c.path(pointer, length)?;
    c.beneath(directory, &path, libc::O_PATH | if follow { 0 } else { libc::O_NOFOLLOW }, 0).map(Held)
}

pub(super) fn filestat_get(c: &mut Call<'_>) -> Answer {
    let [number, lookupflags, pointer, length, out, ..] = c.a;
    let object = object(c, number, lookupflags, [pointer, length], right::PATH_FILESTAT_GET)?;
    let stat = c.stat(object.0)?;
    answer_filestat(c, out, &stat, Kind::of_mode(stat.mode))
}

pub(super) fn filestat_set_times(c: &mut Call<'_>) -> Answer {
    let [number, lookupflags, pointer, length, access, modification, fstflags, ..] = c.a;
    let object = object(c, number, lookupflags, [pointer, length], right::PATH_FILESTAT_SET_TIMES)?;
    let times = lay_times(c, access, modification, fstflags)?;
    let empty = c.lay(b"\0")?;
    c.row(libc::SYS_utimensat, &[object.0, empty, times, libc::AT_EMPTY_PATH as u64]).map(drop)
}
