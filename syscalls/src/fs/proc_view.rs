//! The guest's view of procfs files about itself (04, point 11; 07, S5).
//!
//! Owns which procfs objects show the runtime instead of the guest, and what is shown in their place. It does not own the rest of procfs: the
//! container's own instance answers. The fact a newcomer gets wrong: the decision is made on the *opened object* (its device, its inode, its
//! name in procfs), never on the path asked for: a symlink, a directory descriptor or /proc/self/fd reaches the same files.

use crate::errno::Errno;
use crate::pass::{at_mut, quick};
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What a procfs file about a process is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// The kernel's answer is right.
    Kernel,
    Maps,
    Auxv,
    Cmdline,
    Environ,
    /// Would show or open the host side: EACCES.
    Hidden,
}

/// Device and inode.
type Identity = (u64, u64);

/// The executable of the runtime, which /proc/self/exe leads to on the host side. Looked up once; no lock, because a fork may happen meanwhile.
fn runtime() -> Identity {
    static DEVICE: AtomicU64 = AtomicU64::new(0);
    static INODE: AtomicU64 = AtomicU64::new(0);
    match (DEVICE.load(Ordering::Acquire), INODE.load(Ordering::Relaxed)) {
        (0, _) => {
            let (device, inode) = identity_of(libc::AT_FDCWD as u64, c"/proc/self/exe", 0).unwrap_or((0, 0));
            INODE.store(inode, Ordering::Relaxed);
            DEVICE.store(device, Ordering::Release);
            (device, inode)
        }
        known => known,
    }
}

/// What the kernel says for /proc/self/exe; empty when it says nothing.
fn runtime_link() -> &'static [u8] {
    static LINK: AtomicPtr<Vec<u8>> = AtomicPtr::new(std::ptr::null_mut());
    // SAFETY: the pointer is null or comes from `Box::leak` below.
    if let Some(known) = unsafe { LINK.load(Ordering::Acquire).as_ref() } {
        return known;
    }
    let text: &'static mut Vec<u8> = Box::leak(Box::new(link_text(libc::AT_FDCWD as u64, c"/proc/self/exe").unwrap_or_default()));
    LINK.store(text, Ordering::Release);
    text
}

/// Called after an open succeeded: gives back the descriptor, or puts the guest's view in its place under the same number, or refuses.
pub(super) fn opened(t: &mut Thread, fd: u64, flags: u64) -> SysResult {
    let Ok(id) = identity(fd) else { return Ok(fd) };
    let replaced = if id == runtime() {
        program(t, fd, flags)
    } else if flags & libc::O_PATH as u64 == 0 && is_procfs(fd, id.0) {
        match view_of(fd) {
            View::Kernel => return Ok(fd),
            View::Hidden => Err(Errno::EACCES),
            view => text(t, view).and_then(|bytes| show(fd, flags, &bytes)),
        }
    } else {
        return Ok(fd);
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

/// The target of a link that names the runtime's executable: the guest's program. `None`: the link is what the kernel says.
pub(super) fn link(t: &Thread, dirfd: u64, path: &CStr, target: &[u8]) -> Option<Result<Vec<u8>, Errno>> {
    if target.is_empty() || target != runtime_link() {
        return None;
    }
    // Only then look at the object: an ordinary symlink may hold the same text.
    let flags = (libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64;
    let fd = if path.is_empty() { dirfd } else { quick(libc::SYS_openat, &[dirfd, path.as_ptr() as u64, flags]).ok()? };
    let procfs = identity(fd).is_ok_and(|id| is_procfs(fd, id.0));
    let name = if procfs { name_of(fd) } else { None };
    if !path.is_empty() {
        let _ = quick(libc::SYS_close, &[fd]);
    }
    procfs.then(|| match name.as_deref().and_then(about_process) {
        Some((pid, _)) if pid != own_pid() => Err(Errno::EACCES),
        _ => program_path(t).map(|p| p.into_bytes()),
    })
}

/// The path to stat in the place of one that leads to the runtime's executable.
pub(super) fn stat_target(t: &Thread, dirfd: u64, path: &CStr) -> Option<CString> {
    if !path.to_bytes().ends_with(b"exe") {
        return None;
    }
    (identity_of(dirfd, path, 0).ok()? == runtime()).then(|| program_path(t).ok()).flatten()
}

fn own_pid() -> u64 {
    u64::from(std::process::id())
}

fn program_path(t: &Thread) -> Result<CString, Errno> {
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
    let writable = quick(libc::SYS_memfd_create, &[c"proc".as_ptr() as u64, u64::from(libc::MFD_CLOEXEC)])?;
    let mut done = 0;
    let mut result = Ok(0);
    while done < bytes.len() && result.is_ok() {
        result = quick(libc::SYS_write, &[writable, bytes[done..].as_ptr() as u64, (bytes.len() - done) as u64]);
        done += result.unwrap_or(0) as usize;
    }
    let name = fd_name(writable);
    let read_only = result.and_then(|_| quick(libc::SYS_openat, &[0, name.as_ptr() as u64, (libc::O_RDONLY | libc::O_CLOEXEC) as u64]));
    let _ = quick(libc::SYS_close, &[writable]);
    take_place(fd, read_only?, flags)
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
    // A procfs object whose name cannot be told (no /proc below a chroot) is not shown.
    let Some(name) = name_of(fd) else { return View::Hidden };
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

/// Splits `…/PID/FILE` or `…/PID/task/TID/FILE` into the process id and the file.
fn about_process(name: &[u8]) -> Option<(u64, &[u8])> {
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u64>().ok();
    let mut parts = name.rsplit(|b| *b == b'/');
    let (file, id) = (parts.next()?, number(parts.next()?)?);
    match (parts.next(), parts.next().and_then(number)) {
        (Some(b"task"), Some(pid)) => Some((pid, file)),
        _ => Some((id, file)),
    }
}

fn fd_name(fd: u64) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).expect("a number has no NUL")
}

/// The kernel's name for an open file.
fn name_of(fd: u64) -> Option<Vec<u8>> {
    link_text(libc::AT_FDCWD as u64, &fd_name(fd)).ok()
}

/// readlinkat into a buffer of ours.
pub(super) fn link_text(dirfd: u64, path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut out = vec![0u8; crate::guest::PATH_MAX];
    let n = quick(libc::SYS_readlinkat, &[dirfd, path.as_ptr() as u64, out.as_mut_ptr() as u64, out.len() as u64])?;
    out.truncate(n as usize);
    Ok(out)
}

fn identity(fd: u64) -> Result<Identity, Errno> {
    identity_of(fd, c"", libc::AT_EMPTY_PATH)
}

fn identity_of(dirfd: u64, path: &CStr, flags: i32) -> Result<Identity, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    quick(libc::SYS_newfstatat, &[dirfd, path.as_ptr() as u64, at_mut(&mut stat), flags as u64])?;
    // SAFETY: zero bytes are a valid `stat`, and the kernel filled it.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_dev, stat.st_ino))
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
    let mut fs = [0i64; 15];
    let Ok(_) = quick(libc::SYS_fstatfs, &[fd, at_mut(&mut fs)]) else { return true };
    let procfs = fs[0] == libc::PROC_SUPER_MAGIC;
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
