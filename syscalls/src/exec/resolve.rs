//! From a path to an approved object: open, permission, the supervisor's answer, `#!` scripts, the ELF interpreter.
//!
//! The fact a newcomer gets wrong: the file is opened with O_PATH, for a program may be executable without being readable; the supervisor reopens it.

use super::Prepared;
use crate::errno::Errno;
use crate::fs::apart;
use crate::fs::scripts::Script;
use crate::host::{Granted, Object, ObjectId, Text};
use crate::mm::file_identity;
use crate::pass::{at, at_mut, quick};
use crate::table::SysResult;
use crate::thread::Thread;
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Linux's MAX_ARG_STRLEN.
const MAX_STRING: usize = 32 * 4096;
/// Linux's cap on the argument block: three quarters of the default stack.
const MAX_BLOCK: u64 = 6 << 20;
/// Linux's BINPRM_BUF_SIZE: what of a `#!` line counts.
const SCRIPT_LINE: usize = 256;
/// Interpreters that are scripts themselves: fs/exec.c allows five rewrites.
const MAX_DEPTH: usize = 5;

/// argv and envp, copied once (07 S6).
pub(super) fn arguments(t: &Thread, argv: u64, envp: u64) -> Result<(Vec<CString>, Vec<CString>), Errno> {
    let limit = (t.process.limits().stack.0 / 4).clamp(MAX_STRING as u64, MAX_BLOCK);
    let mut used = 0;
    let mut argv = strings(t, argv, limit, &mut used)?;
    let envp = strings(t, envp, limit, &mut used)?;
    if argv.is_empty() {
        argv.push(CString::default());
    }
    Ok((argv, envp))
}

fn strings(t: &Thread, mut at: u64, limit: u64, used: &mut u64) -> Result<Vec<CString>, Errno> {
    let mut list = Vec::new();
    while at != 0 {
        let pointer: u64 = t.window().read(at)?;
        if pointer == 0 {
            break;
        }
        let s = t.window().read_cstr(pointer, MAX_STRING, Errno::E2BIG)?;
        *used += 8 + s.to_bytes_with_nul().len() as u64;
        if *used > limit {
            return Err(Errno::E2BIG);
        }
        list.push(s);
        at += 8;
    }
    Ok(list)
}

/// As `by_path`, where other threads could put another file under the number of the one that is being looked at: what was checked must be what is asked about, and both what is run.
pub(super) fn undisturbed(t: &Thread, dir: i32, path: &CStr, argv: Vec<CString>, envp: Vec<CString>, flags: i32) -> Result<Prepared, Errno> {
    if !apart::is_needed(&t.process) {
        return by_path(t, dir, path, argv, envp, flags);
    }
    /// The calling thread, lent to one that works in its place.
    struct Lent<'a>(&'a Thread);
    // SAFETY: the calling thread waits while the other one has it.
    unsafe impl Send for Lent<'_> {}
    let lent = Lent(t);
    let work = move || {
        let lent = lent;
        by_path(lent.0, dir, path, argv, envp, flags)
    };
    apart::apart(work, |_, prepared| Ok(prepared))
}

/// Asks for `path`, follows scripts, finds the ELF interpreter.
pub(super) fn by_path(t: &Thread, dir: i32, path: &CStr, mut argv: Vec<CString>, envp: Vec<CString>, flags: i32) -> Result<Prepared, Errno> {
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let room = Room::default();
    let mut file = open(t, &room, dir, path, flags)?;
    let shown = shown_path(dir, path);
    let mut name = shown.clone();
    let mut script: Option<(usize, Option<CString>)> = None;
    let mut scripts = Vec::new();
    for _ in 0..=MAX_DEPTH {
        check_mode(&file)?;
        let Granted { id, texts } = room.with(|| t.process.host.exec(file.as_fd(), &argv, &envp))?;
        let judged = texts.iter().filter_map(|text| judged_script(&room, &file, &name, text)).collect();
        // What was judged last is what the program is told.
        scripts = [judged, scripts].concat();
        if id != ObjectId::SCRIPT {
            let object = t.process.host.object(id);
            let interpreter = interpreter(t, &room, object)?;
            let identity = file_identity(file.as_raw_fd());
            // A WASI program has neither the caller's working directory nor its descriptors.
            if let (Some((at, Some(path))), true) = (script, object.wasi.is_some()) {
                scripts.iter_mut().filter(|script: &&mut Script| script.lies_there(&path)).for_each(|script| script.also(&path));
                argv[at] = path;
            }
            return Ok(Prepared { id, identity, path: shown, exe: absolute(&file, object), argv, envp, interpreter, scripts });
        }
        let line = match texts.first() {
            Some(text) => text.bytes[..text.bytes.len().min(SCRIPT_LINE)].to_vec(),
            None => script_line(&room, &file)?,
        };
        // A script shown by a descriptor that exec closes could not be opened by its interpreter.
        if dir != libc::AT_FDCWD && path.is_empty() && is_close_on_exec(dir) {
            return Err(Errno::ENOENT);
        }
        let (interpreter, argument) = parse_script(&line)?;
        let rest = argv.split_off(1.min(argv.len()));
        script = Some((1 + usize::from(argument.is_some()), where_it_lies(&file, &name)));
        argv = [Some(interpreter.clone()), argument, Some(name)].into_iter().flatten().chain(rest).collect();
        file = open(t, &room, libc::AT_FDCWD, &interpreter, 0)?;
        name = interpreter;
    }
    Err(Errno::ELOOP)
}

/// What the program is told by `text`'s name, or by `name` if that is the file that was shown.
fn judged_script(room: &Room, shown: &OwnedFd, name: &CStr, text: &Text) -> Option<Script> {
    if text.name.is_empty() {
        return Script::new(name, text, Some(shown.as_fd()));
    }
    let file = open_raw(room, libc::AT_FDCWD, &text.name, libc::O_PATH | libc::O_CLOEXEC);
    Script::new(&text.name, text, file.as_ref().ok().map(AsFd::as_fd))
}

/// The ELF interpreter of an object: opened in the guest's root, named by the supervisor.
pub(super) fn interpreter(t: &Thread, room: &Room, object: &Object) -> Result<Option<(ObjectId, (u64, u64))>, Errno> {
    let Some(path) = &object.interpreter else { return Ok(None) };
    // The guest may have put anything there: nobody is to read it.
    let file = open_raw(room, libc::AT_FDCWD, path, libc::O_PATH | libc::O_CLOEXEC)?;
    let id = t.process.host.library(file.as_fd())?.ok_or(Errno::EACCES)?;
    Ok(Some((id, file_identity(file.as_raw_fd()))))
}

fn open(t: &Thread, room: &Room, dir: i32, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        if flags & libc::AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        // SAFETY: duplicates the guest's descriptor; EBADF if it is not open.
        return room.descriptor(|| unsafe { libc::fcntl(dir, libc::F_DUPFD_CLOEXEC, 0) });
    }
    let own = own_exe(t, path);
    let path = own.as_deref().unwrap_or(path);
    let nofollow = if flags & libc::AT_SYMLINK_NOFOLLOW != 0 { libc::O_NOFOLLOW } else { 0 };
    let file = open_raw(room, dir, path, libc::O_PATH | libc::O_CLOEXEC | nofollow)?;
    if nofollow != 0 && mode(&file)? & libc::S_IFMT == libc::S_IFLNK {
        return Err(Errno::ELOOP);
    }
    Ok(file)
}

pub(super) fn open_raw(room: &Room, dir: i32, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: a terminated path and plain numbers.
    room.descriptor(|| unsafe { libc::openat(dir, path.as_ptr(), flags) })
}

/// Room for the descriptors of an exec, which in Linux takes none of the process's. Where the limit leaves none it is raised while this lives; `process::limits` keeps the host's own hard limit where it was.
#[derive(Default)]
pub(super) struct Room {
    raised: Cell<Option<[u64; 2]>>,
}

impl Room {
    fn descriptor(&self, make: impl Fn() -> i32) -> Result<OwnedFd, Errno> {
        self.with(|| match make() {
            fd if fd < 0 => Err(Errno::last()),
            // SAFETY: a descriptor just made.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        })
    }

    fn with<T>(&self, answer: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match answer() {
            Err(Errno::EMFILE) if self.raise().is_ok() => answer(),
            other => other,
        }
    }

    fn raise(&self) -> SysResult {
        let mut limit = [0u64; 2];
        quick(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), 0, at_mut(&mut limit)])?;
        let [soft, hard] = limit;
        let more = [soft.saturating_add(Self::DESCRIPTORS).min(hard), hard];
        quick(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), at(&more), 0])?;
        self.raised.set(self.raised.get().or(Some(limit)));
        Ok(0)
    }

    /// The most that an exec has open at a time, and some.
    const DESCRIPTORS: u64 = 8;
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(limit) = self.raised.get() {
            let _ = quick(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), at(&limit), 0]);
        }
    }
}

/// /proc/self/exe means the guest's program, not the runtime.
fn own_exe(t: &Thread, path: &CStr) -> Option<CString> {
    // SAFETY: getpid has no preconditions.
    let numbered = format!("/proc/{}/exe", unsafe { libc::getpid() });
    let own = [b"/proc/self/exe".as_slice(), b"/proc/thread-self/exe", numbered.as_bytes()];
    if !own.contains(&path.to_bytes()) {
        return None;
    }
    let exe = t.process.exe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    exe.as_ref().map(|e| e.path.clone())
}

fn stat(file: &OwnedFd) -> Result<libc::stat, Errno> {
    let mut stat = std::mem::MaybeUninit::zeroed();
    // SAFETY: fstat writes one structure.
    if unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return Err(Errno::last());
    }
    // SAFETY: filled by fstat.
    Ok(unsafe { stat.assume_init() })
}

pub(super) fn mode(file: &OwnedFd) -> Result<u32, Errno> {
    stat(file).map(|s| s.st_mode)
}

/// Execute permission from the mode bits (the mounts are noexec, so the kernel's own answer is always no; 04, 8).
fn check_mode(file: &OwnedFd) -> Result<(), Errno> {
    let s = stat(file)?;
    if s.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Errno::EACCES);
    }
    crate::fs::may_execute(file.as_raw_fd()).map(drop)
}

fn is_close_on_exec(fd: i32) -> bool {
    // SAFETY: a query on a plain number.
    unsafe { libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

/// The name a program sees for itself: the path, or /dev/fd/N(/path) as execveat(2) says.
fn shown_path(dir: i32, path: &CStr) -> CString {
    if dir == libc::AT_FDCWD || path.to_bytes().starts_with(b"/") {
        return path.to_owned();
    }
    let mut text = format!("/dev/fd/{dir}").into_bytes();
    if !path.is_empty() {
        text.push(b'/');
        text.extend_from_slice(path.to_bytes());
    }
    CString::new(text).expect("a C string has no inner NUL")
}

/// The path of a script whose name means something to its caller only.
fn where_it_lies(file: &OwnedFd, name: &CStr) -> Option<CString> {
    let is_absolute = name.to_bytes().starts_with(b"/") && !name.to_bytes().starts_with(b"/dev/fd/");
    let path = if is_absolute { None } else { crate::fs::own::name(file.as_raw_fd()).ok() };
    path.filter(|p| p.starts_with(b"/")).and_then(|p| CString::new(p).ok())
}

/// Where the file lies, for /proc/self/exe; the object's own path when /proc is not there.
fn absolute(file: &OwnedFd, object: &Object) -> CString {
    let link = crate::fs::own::name(file.as_raw_fd()).ok();
    link.filter(|b| b.starts_with(b"/")).and_then(|b| CString::new(b).ok()).unwrap_or_else(|| object.path.clone())
}

/// The first bytes of an approved script.
fn script_line(room: &Room, file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let path = crate::fs::own::descriptor(file.as_raw_fd())?;
    let readable = open_raw(room, libc::AT_FDCWD, &path, libc::O_RDONLY | libc::O_CLOEXEC)?;
    let mut line = vec![0; SCRIPT_LINE];
    // SAFETY: reads at most the buffer's length.
    let n = unsafe { libc::pread(readable.as_raw_fd(), line.as_mut_ptr().cast(), line.len(), 0) };
    line.truncate(usize::try_from(n).map_err(|_| Errno::last())?);
    Ok(line)
}

/// `#! interpreter [one argument]`, by the rules of fs/binfmt_script.c.
fn parse_script(head: &[u8]) -> Result<(CString, Option<CString>), Errno> {
    let body = head.strip_prefix(b"#!").ok_or(Errno::ENOEXEC)?;
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let line = match body.iter().position(|b| matches!(b, b'\n' | 0)) {
        Some(end) => &body[..end],
        // A line cut by the buffer is good only if the interpreter's name is whole.
        None if head.len() < SCRIPT_LINE => body,
        None => {
            let text = &body[body.iter().position(|b| !blank(b)).ok_or(Errno::ENOEXEC)?..];
            if !text.iter().any(blank) {
                return Err(Errno::ENOEXEC);
            }
            body
        }
    };
    let line = line.trim_ascii();
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (name, rest) = (&line[..end], line[end..].trim_ascii());
    if name.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    let c = |b: &[u8]| CString::new(b).map_err(|_| Errno::ENOEXEC);
    Ok((c(name)?, if rest.is_empty() { None } else { Some(c(rest)?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_line_has_an_interpreter_and_at_most_one_argument() {
        let (i, a) = parse_script(b"#! /bin/sh -e -x \nrest").unwrap();
        assert_eq!((i.to_str().unwrap(), a.unwrap().to_str().unwrap()), ("/bin/sh", "-e -x"));
        let (i, a) = parse_script(b"#!/usr/bin/env").unwrap();
        assert_eq!((i.to_str().unwrap(), a), ("/usr/bin/env", None));
        assert_eq!(parse_script(b"#!   \n").unwrap_err(), Errno::ENOEXEC);
        assert_eq!(parse_script(b"\x7fELF").unwrap_err(), Errno::ENOEXEC);
    }

    #[test]
    fn an_interpreter_name_cut_by_the_buffer_is_refused() {
        let mut head = b"#!/".to_vec();
        head.resize(SCRIPT_LINE, b'a');
        assert_eq!(parse_script(&head).unwrap_err(), Errno::ENOEXEC);
    }
}
