//! What is done to an open descriptor besides reading and writing: flags, rights, times, sizes, closing, renumbering, and the names of those opened in advance.

use super::call::{Call, Stat};
use super::errno::Code;
use super::functions::Answer;
use super::table::{Kind, right};

/// `fdflags`, and Linux's name for each.
const FLAGS: [(u16, i32); 5] = [(1, libc::O_APPEND), (2, libc::O_DSYNC), (4, libc::O_NONBLOCK), (8, libc::O_RSYNC), (16, libc::O_SYNC)];

/// Linux's flags for WASI's; INVAL for bits that mean nothing.
pub(super) fn open_flags(fdflags: u64) -> Result<i32, Code> {
    if fdflags >> FLAGS.len() != 0 {
        return Err(Code::INVAL);
    }
    Ok(FLAGS.iter().filter(|(wasi, _)| fdflags & u64::from(*wasi) != 0).fold(0, |all, (_, linux)| all | linux))
}

pub(super) fn advise(c: &mut Call<'_>) -> Answer {
    /// Linux's number of each of WASI's pieces of advice: normal, sequential, random, willneed, dontneed, noreuse.
    const ADVICE: [i32; 6] =
        [libc::POSIX_FADV_NORMAL, libc::POSIX_FADV_SEQUENTIAL, libc::POSIX_FADV_RANDOM, libc::POSIX_FADV_WILLNEED, libc::POSIX_FADV_DONTNEED, libc::POSIX_FADV_NOREUSE];
    let host = c.host(c.a[0], right::FD_ADVISE)?;
    let advice = usize::try_from(c.a[3]).ok().and_then(|i| ADVICE.get(i)).ok_or(Code::INVAL)?;
    if c.a[1].max(c.a[2]) > i64::MAX as u64 {
        return Err(Code::INVAL);
    }
    c.row(libc::SYS_fadvise64, &[host, c.a[1], c.a[2], *advice as u64]).map(drop)
}

pub(super) fn allocate(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_ALLOCATE)?;
    c.row(libc::SYS_fallocate, &[host, 0, c.a[1], c.a[2]]).map(drop)
}

pub(super) fn close(c: &mut Call<'_>) -> Answer {
    let closed = c.program.table.remove(c.a[0])?;
    c.row(libc::SYS_close, &[closed.host as u64]).map(drop)
}

pub(super) fn renumber(c: &mut Call<'_>) -> Answer {
    match c.program.table.renumber(c.a[0], c.a[1])? {
        Some(old) => c.row(libc::SYS_close, &[old.host as u64]).map(drop),
        None => Ok(()),
    }
}

pub(super) fn datasync(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_DATASYNC)?;
    c.row(libc::SYS_fdatasync, &[host]).map(drop)
}

pub(super) fn sync(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_SYNC)?;
    c.row(libc::SYS_fsync, &[host]).map(drop)
}

/// `fdstat`: kind, flags, rights, rights of what is opened through it.
pub(super) fn fdstat_get(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], 0)?;
    let linux = c.row(libc::SYS_fcntl, &[host, libc::F_GETFL as u64, 0])? as i32;
    let flags = FLAGS.iter().filter(|(_, bits)| linux & bits == *bits).fold(0u16, |all, (wasi, _)| all | wasi);
    let d = c.program.table.get(c.a[0], 0)?;
    let mut out = [0u8; 24];
    out[0] = d.kind as u8;
    out[2..4].copy_from_slice(&flags.to_le_bytes());
    out[8..16].copy_from_slice(&d.base.to_le_bytes());
    out[16..24].copy_from_slice(&d.inheriting.to_le_bytes());
    if !c.a[1].is_multiple_of(8) {
        return Err(Code::INVAL);
    }
    c.program.memory.put(c.a[1], &out)
}

/// Only what can change on an open descriptor: append and nonblock; the others are INVAL where they would.
pub(super) fn fdstat_set_flags(c: &mut Call<'_>) -> Answer {
    const CHANGEABLE: i32 = libc::O_APPEND | libc::O_NONBLOCK;
    let wanted = open_flags(c.a[1])?;
    let host = c.host(c.a[0], right::FD_FDSTAT_SET_FLAGS)?;
    if wanted & !CHANGEABLE != 0 {
        return Err(Code::INVAL);
    }
    let now = c.row(libc::SYS_fcntl, &[host, libc::F_GETFL as u64, 0])? as i32;
    c.row(libc::SYS_fcntl, &[host, libc::F_SETFL as u64, (now & !CHANGEABLE | wanted) as u64]).map(drop)
}

/// Rights can be given up, never won.
pub(super) fn fdstat_set_rights(c: &mut Call<'_>) -> Answer {
    let (base, inheriting) = (c.a[1], c.a[2]);
    let d = c.program.table.get(c.a[0], 0)?;
    if base & !d.base != 0 || inheriting & !d.inheriting != 0 {
        return Err(Code::NOTCAPABLE);
    }
    (d.base, d.inheriting) = (base, inheriting);
    Ok(())
}

pub(super) fn filestat_get(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_FILESTAT_GET)?;
    let stat = c.stat(host)?;
    let kind = c.program.table.get(c.a[0], 0)?.kind;
    answer_filestat(c, c.a[1], &stat, kind)
}

/// `filestat`: device, inode, kind, links, size, times.
pub(super) fn answer_filestat(c: &Call<'_>, pointer: u64, stat: &Stat, kind: Kind) -> Answer {
    let words = [stat.device, stat.inode, kind as u64, stat.links, stat.size, stat.times[0], stat.times[1], stat.times[2]];
    if !pointer.is_multiple_of(8) {
        return Err(Code::INVAL);
    }
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    c.program.memory.put(pointer, &bytes)
}

pub(super) fn filestat_set_size(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_FILESTAT_SET_SIZE)?;
    c.row(libc::SYS_ftruncate, &[host, c.a[1]]).map(drop)
}

pub(super) fn filestat_set_times(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_FILESTAT_SET_TIMES)?;
    let times = lay_times(c, c.a[1], c.a[2], c.a[3])?;
    c.row(libc::SYS_utimensat, &[host, 0, times, 0]).map(drop)
}

/// Two `struct timespec` for utimensat. `fstflags`: 1 and 4 set access and modification time, 2 and 8 set them to now.
pub(super) fn lay_times(c: &mut Call<'_>, access: u64, modification: u64, fstflags: u64) -> Result<u64, Code> {
    const SECOND: u64 = 1_000_000_000;
    let time = |nanoseconds: u64, flags: u64| match flags & 3 {
        0 => Ok([0, libc::UTIME_OMIT as u64]),
        1 => Ok([nanoseconds / SECOND, nanoseconds % SECOND]),
        2 => Ok([0, libc::UTIME_NOW as u64]),
        _ => Err(Code::INVAL),
    };
    if fstflags >> 4 != 0 {
        return Err(Code::INVAL);
    }
    let times = [time(access, fstflags)?, time(modification, fstflags >> 2)?];
    c.lay_words(&times.concat())
}

/// `prestat`: a directory, and the length of its name.
pub(super) fn prestat_get(c: &mut Call<'_>) -> Answer {
    let name = c.program.table.get(c.a[0], 0)?.preopen.as_ref().ok_or(Code::BADF)?;
    let length = name.len() as u32;
    c.answer(c.a[1], [0u32, length])
}

pub(super) fn prestat_dir_name(c: &mut Call<'_>) -> Answer {
    let name = c.program.table.get(c.a[0], 0)?.preopen.clone().ok_or(Code::NOTDIR)?;
    if (name.len() as u64) > c.a[2] {
        return Err(Code::NAMETOOLONG);
    }
    c.program.memory.put(c.a[1], &name)
}
