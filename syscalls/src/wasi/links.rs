//! What makes or reads a second name: `path_link`, `path_symlink`, `path_readlink`, `path_rename`.
//!
//! The fact a newcomer gets wrong: a link to an absolute path is neither made nor read: it means nothing below a directory that may be anywhere.

use super::call::Call;
use super::errno::Code;
use super::functions::Answer;
use super::path::follows;
use super::table::right;
use crate::guest::PATH_MAX;

pub(super) fn link(c: &mut Call<'_>) -> Answer {
    let [from, lookupflags, old, old_length, to, new, new_length, ..] = c.a;
    let source = c.program.table.directory(from, right::PATH_LINK_SOURCE)?.host as u64;
    let target = c.program.table.directory(to, right::PATH_LINK_TARGET)?.host as u64;
    if follows(lookupflags)? {
        return Err(Code::INVAL);
    }
    let (old, new) = (c.path(old, old_length)?, c.path(new, new_length)?);
    let (old, new) = (c.place(source, &old)?, c.place(target, &new)?);
    c.row(libc::SYS_linkat, &[old.directory, old.name, new.directory, new.name, 0]).map(drop)
}

pub(super) fn rename(c: &mut Call<'_>) -> Answer {
    let [from, old, old_length, to, new, new_length, ..] = c.a;
    let source = c.program.table.directory(from, right::PATH_RENAME_SOURCE)?.host as u64;
    let target = c.program.table.directory(to, right::PATH_RENAME_TARGET)?.host as u64;
    let (old, new) = (c.path(old, old_length)?, c.path(new, new_length)?);
    let (old, new) = (c.place(source, &old)?, c.place(target, &new)?);
    c.row(libc::SYS_renameat, &[old.directory, old.name, new.directory, new.name]).map(drop)
}

pub(super) fn symlink(c: &mut Call<'_>) -> Answer {
    let [text, text_length, number, path, length, ..] = c.a;
    let directory = c.program.table.directory(number, right::PATH_SYMLINK)?.host as u64;
    let (text, path) = (c.path(text, text_length)?, c.path(path, length)?);
    if text.starts_with(b"/") {
        return Err(Code::PERM);
    }
    let place = c.place(directory, &path)?;
    let text = c.lay(&[&text[..], b"\0"].concat())?;
    c.row(libc::SYS_symlinkat, &[text, place.directory, place.name]).map(drop)
}

pub(super) fn readlink(c: &mut Call<'_>) -> Answer {
    let [number, path, length, buffer, room, out, ..] = c.a;
    let directory = c.program.table.directory(number, right::PATH_READLINK)?.host as u64;
    let path = c.path(path, length)?;
    let place = c.place(directory, &path)?;
    let at = c.room(PATH_MAX)?;
    let n = c.row(libc::SYS_readlinkat, &[place.directory, place.name, at, PATH_MAX as u64])?;
    let text = c.peek_bytes(at, n as usize)?;
    if text.starts_with(b"/") {
        return Err(Code::PERM);
    }
    let shown = &text[..text.len().min(room as usize)];
    c.program.memory.put(buffer, shown)?;
    c.answer(out, shown.len() as u32)
}
