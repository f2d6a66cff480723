//! Making and ending descriptors: open, close, dup, pipes, memfd.
//!
//! Does not own what an opened procfs file shows (`proc_view` replaces it here, after the open; where there are threads `shared` judges before it), nor what a script's name means (`scripts`). The fact a newcomer gets wrong: the runtime
//! holds no descriptor of its own while guest code runs (07, S7), so close_range and lowest-number rules are simply the kernel's.

use super::shared::{self, Wanted};
use super::{apart, proc_view, scripts};
use crate::errno::Errno;
use crate::pass::{at, passes, quick, refused, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    3 "close" [Fd] "" |_, a| [a[0]];
    22 "pipe" [Ptr] "" |t, a| [t.ptr(a[0], 8)];
    32 "dup" [Fd] "" |_, a| [a[0]];
    33 "dup2" [Fd Fd] "" |_, a| [a[0], a[1]];
    292 "dup3" [Fd Fd Flags] "" |_, a| [a[0], a[1], a[2]];
    293 "pipe2" [Ptr Flags] "" |t, a| [t.ptr(a[0], 8), a[1]];
}

rows! {
    2 "open" [Path Flags Mode] Translate PROC_NOTE |t, a| open(t, libc::AT_FDCWD as u64, a[0], a[1], a[2]);
    85 "creat" [Path Mode] Translate PROC_NOTE |t, a| open(t, libc::AT_FDCWD as u64, a[0], (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64, a[1]);
    257 "openat" [DirFd Path Flags Mode] Translate PROC_NOTE |t, a| open(t, a[0], a[1], a[2], a[3]);
    319 "memfd_create" [Path Flags] Pass "executable memfds are never run" |t, a| {
        // 249 bytes plus NUL is the kernel's limit; a longer name is EINVAL there.
        let name = t.window().read_cstr(a[0], 250, Errno::EINVAL)?;
        t.host(libc::SYS_memfd_create, &[name.as_ptr() as u64, a[1]])
    };
    436 "close_range" [Fd Fd Flags] Translate "no CLOSE_RANGE_UNSHARE for one of several threads: they share descriptors" close_range;
    437 "openat2" [DirFd Path Ptr Len] Translate PROC_NOTE openat2;
}

const PROC_NOTE: &str = "procfs files about the process itself show the guest (maps, auxv, cmdline, environ); mem is EACCES";

refused! {
    303 "name_to_handle_at" ENOTSUP "file handles bypass path checks";
    304 "open_by_handle_at" EPERM "file handles bypass path checks";
}

/// A thread with a descriptor table of its own would be none that clone can make here, and its siblings' /proc/self would show them another's descriptors. A thread that is alone shares its table with nobody.
fn close_range(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let mut flags = a[2] as u32;
    if flags & libc::CLOSE_RANGE_UNSHARE != 0 {
        if t.process.threads().tids.len() > 1 {
            return Err(Errno::EINVAL);
        }
        flags &= !libc::CLOSE_RANGE_UNSHARE;
    }
    t.host(libc::SYS_close_range, &[a[0], a[1], u64::from(flags)])
}

fn open(t: &mut Thread, dirfd: u64, path: u64, flags: u64, mode: u64) -> SysResult {
    let path = t.path(path)?;
    if let Some(script) = scripts::open(t, dirfd, &path, flags) {
        return script;
    }
    if apart::is_needed(&t.process) && !shared::is_harmless(flags) {
        return shared::open(t, Wanted { dirfd, path: &path, flags, mode, resolve: 0 });
    }
    match t.host(libc::SYS_openat, &[dirfd, path.as_ptr() as u64, flags, mode]) {
        Ok(fd) => proc_view::opened(t, fd, flags),
        Err(Errno::EACCES) => proc_view::denied(t, flags, |flags| quick(libc::SYS_openat, &[dirfd, path.as_ptr() as u64, flags])),
        Err(e) => Err(e),
    }
}

/// `struct open_how` is extensible: the copy keeps the guest's size so that the kernel answers E2BIG for fields it does not know.
fn openat2(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let path = t.path(a[1])?;
    if a[3] > 4096 {
        return Err(Errno::E2BIG);
    }
    let how = t.read_array::<u8>(a[2], a[3] as usize)?;
    let word = |n: usize| how.get(8 * n..8 * n + 8).map_or(0, |w| u64::from_le_bytes(w.try_into().expect("eight bytes")));
    let flags = word(0);
    // Of a size or with fields that the kernel refuses it says so itself.
    let known = how.len() >= 24 && how[24..].iter().all(|b| *b == 0);
    // With RESOLVE_IN_ROOT a path begins elsewhere than it says.
    if known
        && word(2) & libc::RESOLVE_IN_ROOT == 0
        && let Some(script) = scripts::open(t, a[0], &path, flags)
    {
        return script;
    }
    if known && apart::is_needed(&t.process) && !shared::is_harmless(flags) {
        return shared::open2(t, Wanted { dirfd: a[0], path: &path, flags, mode: word(1), resolve: word(2) });
    }
    match t.host(libc::SYS_openat2, &[a[0], path.as_ptr() as u64, at(how.as_slice()), a[3]]) {
        Ok(fd) => proc_view::opened(t, fd, flags),
        Err(Errno::EACCES) => proc_view::denied(t, flags, |flags| {
            let mut how = how;
            how[..8].copy_from_slice(&flags.to_le_bytes());
            quick(libc::SYS_openat2, &[a[0], path.as_ptr() as u64, at(how.as_slice()), a[3]])
        }),
        Err(e) => Err(e),
    }
}
