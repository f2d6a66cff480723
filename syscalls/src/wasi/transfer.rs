//! Reading, writing and seeking: `fd_read`, `fd_write`, `fd_pread`, `fd_pwrite`, `fd_seek`, `fd_tell`. Owns how a module's vectors become a row's.

use super::call::Call;
use super::errno::Code;
use super::functions::Answer;
use super::memory::BASE;
use super::table::{Kind, right};
use crate::pass::IOV_MAX;

impl Call<'_> {
    /// Lays out the vector of `n` pairs (pointer, length) at `vector` as rows take it: its address and length. Every range is checked, also of those that Linux's limit leaves out.
    pub(super) fn vector(&mut self, vector: u64, n: u64) -> Result<[u64; 2], Code> {
        let mut words = Vec::new();
        for i in 0..n {
            let at = vector.checked_add(8 * i).ok_or(Code::FAULT)?;
            let (pointer, length) = (self.program.memory.load::<u32>(at)?, self.program.memory.load::<u32>(at + 4)?);
            self.program.memory.range(pointer.into(), length.into())?;
            // A longer vector is a shorter transfer, as any may be.
            if i < IOV_MAX {
                words.extend([BASE + u64::from(pointer), length.into()]);
            }
        }
        Ok([self.lay_words(&words)?, (words.len() / 2) as u64])
    }
}

pub(super) fn read(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_READ)?;
    let [vector, n] = c.vector(c.a[1], c.a[2])?;
    let done = c.row(libc::SYS_readv, &[host, vector, n])?;
    c.answer(c.a[3], done as u32)
}

pub(super) fn write(c: &mut Call<'_>) -> Answer {
    let host = c.host(c.a[0], right::FD_WRITE)?;
    let [vector, n] = c.vector(c.a[1], c.a[2])?;
    let done = c.row(libc::SYS_writev, &[host, vector, n])?;
    c.answer(c.a[3], done as u32)
}

pub(super) fn pread(c: &mut Call<'_>) -> Answer {
    positioned(c, libc::SYS_preadv, right::FD_READ)
}

pub(super) fn pwrite(c: &mut Call<'_>) -> Answer {
    positioned(c, libc::SYS_pwritev, right::FD_WRITE)
}

/// preadv and pwritev take the offset in two halves, of which x86-64 uses the low one.
fn positioned(c: &mut Call<'_>, nr: libc::c_long, rights: u64) -> Answer {
    let host = c.host(c.a[0], rights | right::FD_SEEK)?;
    let [vector, n] = c.vector(c.a[1], c.a[2])?;
    let done = c.row(nr, &[host, vector, n, c.a[3], 0])?;
    c.answer(c.a[4], done as u32)
}

/// WASI's `whence`: set, cur, end, as Linux's.
pub(super) fn seek(c: &mut Call<'_>) -> Answer {
    const END: u64 = libc::SEEK_END as u64;
    let (offset, whence) = (c.a[1], c.a[2]);
    if whence > END {
        return Err(Code::INVAL);
    }
    if is_terminal(c)? {
        return Err(Code::SPIPE);
    }
    let only_asks = offset == 0 && whence == libc::SEEK_CUR as u64;
    let host = c.host(c.a[0], if only_asks { right::FD_TELL } else { right::FD_SEEK | right::FD_TELL })?;
    let at = c.row(libc::SYS_lseek, &[host, offset, whence])?;
    c.answer(c.a[3], at)
}

/// A stream without places, whose missing rights say so.
fn is_terminal(c: &mut Call<'_>) -> Result<bool, Code> {
    let d = c.program.table.get(c.a[0], 0)?;
    Ok(d.kind == Kind::CharacterDevice && d.base & (right::FD_SEEK | right::FD_TELL) == 0)
}

pub(super) fn tell(c: &mut Call<'_>) -> Answer {
    if is_terminal(c)? {
        return Err(Code::SPIPE);
    }
    let host = c.host(c.a[0], right::FD_TELL)?;
    let at = c.row(libc::SYS_lseek, &[host, 0, libc::SEEK_CUR as u64])?;
    c.answer(c.a[1], at)
}
