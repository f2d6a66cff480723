//! `fd_readdir`. Owns what a position in a directory means: the number of entries before it.
//!
//! The fact a newcomer gets wrong: Linux's positions are 64-bit words of the file system's own; WASI's callers count on those they were given, so the list is read as a whole, and again when it is read from its start.

use super::call::Call;
use super::errno::Code;
use super::functions::Answer;
use super::table::{Kind, Listed, right};

/// Bytes of entries taken from the kernel at a time.
const CHUNK: usize = 32 << 10;

/// `dirent` of WASI: next position, inode, length of the name, kind; the name follows.
const DIRENT_BYTES: usize = 24;

pub(super) fn readdir(c: &mut Call<'_>) -> Answer {
    let [number, buffer, length, cookie, ..] = c.a;
    c.program.memory.range(buffer, length)?;
    let d = c.program.table.directory(number, right::FD_READDIR)?;
    let (host, known) = (d.host as u64, !d.listing.is_empty());
    if cookie == 0 || !known {
        let listing = list(c, host)?;
        c.program.table.get(number, 0)?.listing = listing;
    }
    let listing = &c.program.table.get(number, 0)?.listing;
    let mut out = Vec::new();
    let first = usize::try_from(cookie).unwrap_or(usize::MAX).min(listing.len());
    for (entry, next) in listing[first..].iter().zip(first as u64 + 1..) {
        if out.len() as u64 >= length {
            break;
        }
        out.extend(next.to_le_bytes());
        out.extend(entry.inode.to_le_bytes());
        out.extend((entry.name.len() as u32).to_le_bytes());
        out.extend([entry.kind as u8, 0, 0, 0]);
        out.extend(&entry.name);
    }
    debug_assert!(out.is_empty() || out.len() >= DIRENT_BYTES);
    // The last entry is cut where the buffer ends: a full buffer says that there is more.
    out.truncate(length as usize);
    c.program.memory.put(buffer, &out)?;
    c.answer(c.a[4], out.len() as u32)
}

/// The whole directory, `.` and `..` first.
fn list(c: &mut Call<'_>, host: u64) -> Result<Vec<Listed>, Code> {
    c.row(libc::SYS_lseek, &[host, 0, libc::SEEK_SET as u64])?;
    let at = c.room(CHUNK)?;
    let (mut dots, mut others) = (Vec::new(), Vec::new());
    loop {
        let n = c.row(libc::SYS_getdents64, &[host, at, CHUNK as u64])? as usize;
        if n == 0 {
            break;
        }
        let bytes = c.peek_bytes(at, n.min(CHUNK))?;
        let mut rest = &bytes[..];
        while let Some((entry, after)) = one(rest) {
            let list = if matches!(&entry.name[..], b"." | b"..") { &mut dots } else { &mut others };
            list.push(entry);
            rest = after;
        }
    }
    dots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok([dots, others].concat())
}

/// The first `struct linux_dirent64`, and what follows it.
fn one(bytes: &[u8]) -> Option<(Listed, &[u8])> {
    let inode = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let length = usize::from(u16::from_le_bytes(bytes.get(16..18)?.try_into().ok()?));
    let name = bytes.get(19..length)?;
    let name = name[..name.iter().position(|b| *b == 0)?].to_vec();
    // DT_* is the format's bits of a mode.
    let kind = Kind::of_mode(u32::from(bytes[18]) << 12);
    Some((Listed { inode, kind, name }, &bytes[length..]))
}
