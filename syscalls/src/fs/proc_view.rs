//! The guest's view of procfs files about itself (04, point 11; 07, S5).
//!
//! Owns which procfs objects show the runtime instead of the guest, and what is shown in their place. It does not own the rest of procfs: the
//! container's own instance answers. The fact a newcomer gets wrong: the decision is made on the *opened object* (its device, its inode, its
//! name in procfs), never on the path asked for: a symlink, a directory descriptor or /proc/self/fd reaches the same files.

use super::own::{self, Identity, identity_of};
use crate::errno::Errno;
use crate::pass::{at_mut, quick};
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a procfs file about a process is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The kernel's answer is right.
    Kernel,
    Maps,
    Auxv,
    Cmdline,
    Environ,
    /// Would show or open the host side: EACCES.
    Hidden,
}

/// What an open file is to the guest, by whatever name it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// The kernel's file is right.
    Kernel,
    /// The runtime's executable: the guest's program belongs in its place.
    Runtime,
    View(View),
    Hidden,
}

/// Of an O_PATH descriptor, too.
pub(super) fn judge(fd: u64) -> Judged {
    let (Ok(id), runtime) = (identity(fd), own::executable()) else { return Judged::Hidden };
    match runtime {
        Some(runtime) if runtime == id => Judged::Runtime,
        // This might be it.
        None => Judged::Hidden,
        Some(_) if !is_procfs(fd, id.0) => Judged::Kernel,
        Some(_) => match view_of(fd) {
            View::Kernel => Judged::Kernel,
            View::Hidden => Judged::Hidden,
            view => Judged::View(view),
        },
    }
}

/// Called after an open succeeded: gives back the descriptor, or puts the guest's view in its place under the same number, or refuses.
pub(super) fn opened(t: &mut Thread, fd: u64, flags: u64) -> SysResult {
    let by_name = flags & libc::O_PATH as u64 != 0;
    let replaced = match judge(fd) {
        Judged::Kernel => return Ok(fd),
        Judged::Runtime => program(t, fd, flags),
        // Nothing can be read through it, and who opens it again is judged again.
        Judged::View(_) if by_name => return Ok(fd),
        Judged::Hidden if by_name && own::executable().is_some() => return Ok(fd),
        Judged::Hidden => Err(Errno::EACCES),
        Judged::View(view) => text(t, view).and_then(|bytes| show(fd, flags, &bytes)),
    };
    replaced.inspect_err(|_| {
        let _ = quick(libc::SYS_close, &[fd]);
    })
}

/// Called after an open was denied. A worker is not dumpable, so the kernel gives its procfs files to root; a guest that is somebody else still may read what is about itself. `open` opens the same path
/// with the flags it is given.
pub(super) fn denied(t: &mut Thread, flags: u64, open: impl FnOnce(u64) -> SysResult) -> SysResult {
    let kept = libc::O_NOFOLLOW | libc::O_DIRECTORY;
    let reads = flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_PATH) as u64 == libc::O_RDONLY as u64;
    let Ok(fd) = (if reads { open(flags & kept as u64 | (libc::O_PATH | libc::O_CLOEXEC) as u64) } else { Err(Errno::EACCES) }) else { return Err(Errno::EACCES) };
    let shown = match identity(fd) {
        Ok(id) if is_procfs(fd, id.0) => match view_of(fd) {
            View::Kernel | View::Hidden => Err(Errno::EACCES),
            view => text(t, view).and_then(|bytes| show(fd, flags, &bytes)),
        },
        _ => Err(Errno::EACCES),
    };
    shown.inspect_err(|_| {
        let _ = quick(libc::SYS_close, &[fd]);
    })
}

/// What to say for a link that leads to a process's executable. `None`: the link is what the kernel says.
pub(super) fn link(t: &Thread, dirfd: u64, path: &CStr) -> Option<Result<Vec<u8>, Errno>> {
    if !path.is_empty() && !path.to_bytes().ends_with(b"exe") {
        return None;
    }
    // Only then look at the object: any symlink may be called so.
    let flags = (libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64;
    let fd = if path.is_empty() { dirfd } else { quick(libc::SYS_openat, &[dirfd, path.as_ptr() as u64, flags]).ok()? };
    let procfs = identity(fd).is_ok_and(|id| is_procfs(fd, id.0));
    let name = if procfs { own::name(fd as i32).ok() } else { None };
    if !path.is_empty() {
        let _ = quick(libc::SYS_close, &[fd]);
    }
    match name.as_deref().map(about_process) {
        None => procfs.then_some(Err(Errno::EACCES)),
        Some(Some((pid, b"exe"))) if pid == own_pid() => Some(program_path(t).map(|p| p.into_bytes())),
        Some(Some((_, b"exe"))) => Some(Err(Errno::EACCES)),
        Some(_) => None,
    }
}

/// Is what a path names, unfollowed, on procfs?
pub(super) fn is_link_of_procfs(dirfd: u64, path: &CStr) -> bool {
    let flags = (libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64;
    let Ok(fd) = (if path.is_empty() { Ok(dirfd) } else { quick(libc::SYS_openat, &[dirfd, path.as_ptr() as u64, flags]) }) else { return false };
    let procfs = identity(fd).is_ok_and(|id| is_procfs(fd, id.0));
    if !path.is_empty() {
        let _ = quick(libc::SYS_close, &[fd]);
    }
    procfs
}

/// The path to stat in the place of one that leads to the runtime's executable.
pub(super) fn stat_target(t: &Thread, dirfd: u64, path: &CStr) -> Option<CString> {
    if !path.to_bytes().ends_with(b"exe") {
        return None;
    }
    (identity_of(dirfd, path, 0).ok()? == own::executable()?).then(|| program_path(t).ok()).flatten()
}

fn own_pid() -> u64 {
    u64::from(std::process::id())
}

pub(super) fn program_path(t: &Thread) -> Result<CString, Errno> {
    let exe = t.process.exe.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    exe.as_ref().map(|e| e.path.clone()).ok_or(Errno::ENOENT)
}

/// Opens the guest's program as the guest asked to open /proc/self/exe.
fn program(t: &Thread, fd: u64, flags: u64) -> SysResult {
    if flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64 {
        return Err(Errno::ETXTBSY);
    }
    let path = program_path(t)?;
    let new = quick(libc::SYS_openat, &[libc::AT_FDCWD as u64, path.as_ptr() as u64, flags & !((libc::O_NOFOLLOW | libc::O_CREAT) as u64)])?;
    // The guest may have put anything there meanwhile, such as a link to /proc/self/mem.
    if flags & libc::O_PATH as u64 == 0 && judge(new) != Judged::Kernel {
        return quick(libc::SYS_close, &[new]).and(Err(Errno::EACCES));
    }
    take_place(fd, new, flags)
}

/// Puts `new` under the number `fd`.
fn take_place(fd: u64, new: u64, flags: u64) -> SysResult {
    let result = quick(libc::SYS_dup3, &[new, fd, flags & libc::O_CLOEXEC as u64]);
    let _ = quick(libc::SYS_close, &[new]);
    result
}

/// A read-only file with these bytes under the number `fd`.
fn show(fd: u64, flags: u64, bytes: &[u8]) -> SysResult {
    take_place(fd, filled(c"proc", bytes)?, flags)
}

/// A file that shows this, under a new number.
pub(super) fn show_new(t: &Thread, view: View, flags: u64) -> SysResult {
    let fd = filled(c"proc", &text(t, view)?)?;
    if flags & libc::O_CLOEXEC as u64 == 0 {
        quick(libc::SYS_fcntl, &[fd, libc::F_SETFD as u64, 0])?;
    }
    Ok(fd)
}

/// A read-only file with these bytes, which nobody can change: an anonymous one, or a pipe where the guest may not write so much into a file (RLIMIT_FSIZE), which would end it by SIGXFSZ.
pub(super) fn filled(name: &CStr, bytes: &[u8]) -> SysResult {
    const SEALS: i32 = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    let mut limit = [0u64; 2];
    quick(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_FSIZE), 0, at_mut(&mut limit)])?;
    if bytes.len() as u64 > limit[0] {
        return piped(bytes);
    }
    let file = quick(libc::SYS_memfd_create, &[name.as_ptr() as u64, u64::from(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)])?;
    let filled = write_all(file, bytes).and_then(|()| quick(libc::SYS_fcntl, &[file, libc::F_ADD_SEALS as u64, SEALS as u64])).and_then(|_| read_only(file));
    filled.inspect_err(|_| {
        let _ = quick(libc::SYS_close, &[file]);
    })
}

/// From its beginning, under the same number. Without procfs it stays open for writing, which its seals refuse.
fn read_only(file: u64) -> SysResult {
    let Ok(name) = own::descriptor(file as i32) else { return quick(libc::SYS_lseek, &[file, 0, libc::SEEK_SET as u64]).map(|_| file) };
    let new = quick(libc::SYS_openat, &[0, name.as_ptr() as u64, (libc::O_RDONLY | libc::O_CLOEXEC) as u64])?;
    take_place(file, new, libc::O_CLOEXEC as u64)
}

fn piped(bytes: &[u8]) -> SysResult {
    let mut ends = [0i32; 2];
    quick(libc::SYS_pipe2, &[at_mut(&mut ends), libc::O_CLOEXEC as u64])?;
    let [read, write] = ends.map(|fd| fd as u64);
    // What does not fit would block, for nobody reads yet.
    let room = quick(libc::SYS_fcntl, &[write, libc::F_GETPIPE_SZ as u64])
        .and_then(|room| if bytes.len() as u64 <= room { Ok(room) } else { quick(libc::SYS_fcntl, &[write, libc::F_SETPIPE_SZ as u64, bytes.len() as u64]) });
    let filled = room.and_then(|_| write_all(write, bytes));
    let _ = quick(libc::SYS_close, &[write]);
    filled.map(|()| read).inspect_err(|_| {
        let _ = quick(libc::SYS_close, &[read]);
    })
}

fn write_all(file: u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let n = quick(libc::SYS_write, &[file, bytes.as_ptr() as u64, bytes.len() as u64])?;
        bytes = &bytes[n as usize..];
    }
    Ok(())
}

fn text(t: &Thread, view: View) -> Result<Vec<u8>, Errno> {
    if view == View::Maps {
        return Ok(t.process.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner).render_maps().into_bytes());
    }
    let exe = t.process.exe.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone().ok_or(Errno::ESRCH)?;
    let strings = |(start, end): (u64, u64)| t.read_array::<u8>(start, end.saturating_sub(start) as usize).or(Ok(Vec::new()));
    match view {
        View::Auxv => Ok(exe.auxv.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()),
        View::Cmdline => strings(exe.args),
        View::Environ => strings(exe.env),
        View::Maps | View::Kernel | View::Hidden => Err(Errno::EACCES),
    }
}

fn view_of(fd: u64) -> View {
    // A procfs object whose name cannot be told (no procfs at /proc) is not shown.
    let Ok(name) = own::name(fd as i32) else { return View::Hidden };
    let Some((pid, file)) = about_process(&name) else { return View::Kernel };
    view(file, pid == own_pid())
}

fn view(file: &[u8], own: bool) -> View {
    match file {
        b"mem" | b"pagemap" | b"syscall" | b"stack" | b"smaps" | b"smaps_rollup" | b"numa_maps" | b"map_files" => View::Hidden,
        b"maps" | b"auxv" | b"environ" if !own => View::Hidden,
        b"maps" => View::Maps,
        b"auxv" => View::Auxv,
        b"environ" => View::Environ,
        b"cmdline" if own => View::Cmdline,
        _ => View::Kernel,
    }
}

/// Splits `…/PID/FILE` or `…/PID/task/TID/FILE` into the process id and the file. What was opened while its thread ended may be called deleted, and still opens the memory of the whole process.
fn about_process(name: &[u8]) -> Option<(u64, &[u8])> {
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u64>().ok();
    let mut parts = name.rsplit(|b| *b == b'/');
    let (file, id) = (parts.next()?, number(parts.next()?)?);
    match (parts.next(), parts.next().and_then(number)) {
        (Some(b"task"), Some(pid)) => Some((pid, file)),
        _ => Some((id, file)),
    }
}

fn identity(fd: u64) -> Result<Identity, Errno> {
    identity_of(fd, c"", libc::AT_EMPTY_PATH)
}

/// Is the open file on procfs? Devices already seen are remembered: a container's mounts do not change under a running program.
fn is_procfs(fd: u64, device: u64) -> bool {
    static SEEN: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
    // Device numbers are far below 2^62; bit 0 is the answer, bit 1 marks a used slot.
    let slot = &SEEN[(device ^ device >> 8) as usize % SEEN.len()];
    let seen = slot.load(Ordering::Relaxed);
    if seen >> 2 == device && seen & 2 != 0 {
        return seen & 1 == 1;
    }
    let Ok(kind) = own::kind(fd) else { return true };
    let procfs = kind == libc::PROC_SUPER_MAGIC;
    slot.store(device << 2 | 2 | u64::from(procfs), Ordering::Relaxed);
    procfs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_procfs_objects_tell_process_and_file() {
        assert_eq!(about_process(b"/proc/12/maps"), Some((12, b"maps".as_slice())));
        assert_eq!(about_process(b"/mnt/proc/12/task/13/mem"), Some((12, b"mem".as_slice())));
        assert_eq!(about_process(b"/proc/12/task/13/mem (deleted)"), Some((12, b"mem".as_slice())));
        assert_eq!(about_process(b"/proc/cpuinfo"), None);
        assert_eq!(about_process(b"/proc/sys/kernel/pid_max"), None);
    }

    #[test]
    fn memory_of_any_process_is_hidden_and_maps_of_others_too() {
        assert_eq!(view(b"mem", true), View::Hidden);
        assert_eq!(view(b"maps", false), View::Hidden);
        assert_eq!(view(b"maps", true), View::Maps);
        assert_eq!(view(b"stat", false), View::Kernel);
    }
}
