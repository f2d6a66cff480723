//! Opening for a guest with threads: they share descriptors, so what one opens, another could use before it is judged (`proc_view`).
//!
//! Owns the order "judge, then open". Most opens need no judging: their way cannot lead into a procfs nor to the runtime's file, and the kernel is told to refuse if it does. All others are looked at by a thread with a table
//! of its own (`apart`), and what was found there is opened by its name in that table. The fact a newcomer gets wrong: a path or a descriptor that was looked at before says nothing, because a sibling may have changed it.

use super::apart::{apart, keep_only};
use super::own;
use super::proc_view::{self, Judged};
use crate::errno::Errno;
use crate::pass::{at, quick};
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::{CStr, CString};
use std::sync::OnceLock;

/// The arguments of openat2, in host terms.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub dirfd: u64,
    pub path: &'a CStr,
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

/// Nothing that could be read comes of it, or nothing that was there before.
pub(super) fn is_harmless(flags: u64) -> bool {
    let has = |all: i32| flags & all as u64 == all as u64;
    has(libc::O_PATH) || has(libc::O_CREAT | libc::O_EXCL) || has(libc::O_TMPFILE)
}

pub(super) fn open(t: &mut Thread, wanted: Wanted<'_>) -> SysResult {
    plainly(t, wanted).unwrap_or_else(|| judged(t, wanted, true))
}

/// openat2(2), which refuses what open(2) overlooks.
pub(super) fn open2(t: &mut Thread, wanted: Wanted<'_>) -> SysResult {
    let makes = wanted.flags & (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64 != 0;
    if wanted.flags & !KNOWN != 0 || wanted.mode & !0o7777 != 0 || (wanted.mode != 0 && !makes) {
        return Err(Errno::EINVAL);
    }
    open(t, wanted)
}

/// `None`: it must be judged.
fn plainly(t: &mut Thread, w: Wanted<'_>) -> Option<SysResult> {
    if w.resolve != 0 {
        return None;
    }
    let whole = absolute(w.dirfd, w.path)?;
    let is_relative = !w.path.to_bytes().starts_with(b"/");
    for resolve in [libc::RESOLVE_NO_XDEV, libc::RESOLVE_NO_SYMLINKS] {
        // Without links a path leads where its words say.
        if resolve == libc::RESOLVE_NO_SYMLINKS && !is_outside_of_procfs(&whole) {
            return None;
        }
        match call(t, &whole, w, resolve) {
            Err(Errno::EXDEV | Errno::ELOOP) => {}
            Err(Errno::EINVAL) => return None,
            Err(Errno::ENOENT | Errno::EACCES | Errno::ENOTDIR | Errno::ENAMETOOLONG) if is_relative => return missing(w),
            answer => return Some(answer),
        }
    }
    None
}

/// The other name said that nothing is there; what the guest's own says counts.
fn missing(w: Wanted<'_>) -> Option<SysResult> {
    let found = quick(libc::SYS_faccessat, &[w.dirfd, w.path.as_ptr() as u64, libc::F_OK as u64]);
    (found == Err(Errno::ENOENT) && w.flags & libc::O_CREAT as u64 == 0).then_some(Err(Errno::ENOENT))
}

fn call(t: &mut Thread, path: &CStr, w: Wanted<'_>, resolve: u64) -> SysResult {
    // open(2) overlooks what openat2(2) refuses: flags that mean nothing, and a mode without a file to be made.
    let makes = w.flags & (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64 != 0;
    let how = [w.flags & KNOWN, if makes { w.mode & 0o7777 } else { 0 }, resolve];
    t.host(libc::SYS_openat2, &[libc::AT_FDCWD as u64, path.as_ptr() as u64, at(&how), size_of_val(&how) as u64])
}

/// VALID_OPEN_FLAGS of <linux/fcntl.h>; O_LARGEFILE is a bit of its own for the kernel.
const KNOWN: u64 = (libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | 0o100_000
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | libc::O_TMPFILE) as u64;

/// The path from the root, at this moment.
fn absolute(dirfd: u64, path: &CStr) -> Option<CString> {
    if path.to_bytes().starts_with(b"/") {
        return Some(path.to_owned());
    }
    let base = if dirfd as i32 == libc::AT_FDCWD { own::directory().ok()? } else { own::name(dirfd as i32).ok()? };
    let starts = base.starts_with(b"/") && !path.is_empty();
    starts.then(|| CString::new([&base, b"/".as_slice(), path.to_bytes()].concat()).ok()).flatten()
}

/// Whether the words of a path lead past every procfs. Its place below the root nobody can rename; one that is mounted elsewhere could be moved with the directory it lies in, so with such a one nothing is outside.
fn is_outside_of_procfs(path: &CStr) -> bool {
    static ONLY_AT_PROC: OnceLock<bool> = OnceLock::new();
    let only = || own::mounts().is_some_and(|text| text.lines().filter_map(procfs_place).all(|place| place == "/proc" || place.starts_with("/proc/")));
    let mut words = path.to_bytes().split(|b| *b == b'/').filter(|w| !w.is_empty() && *w != b".");
    words.next() != Some(b"proc") && !words.any(|w| w == b"..") && *ONLY_AT_PROC.get_or_init(only)
}

/// Where a line of mountinfo mounts a procfs.
fn procfs_place(line: &str) -> Option<&str> {
    let (head, tail) = line.split_once(" - ")?;
    (tail.split(' ').next() == Some("proc")).then(|| head.split(' ').nth(4)).flatten()
}

/// What a thread with its own table found.
struct Found {
    fd: u64,
    judged: Judged,
    is_link: bool,
}

fn look(w: Wanted<'_>) -> Result<Found, Errno> {
    let call = |flags: u64, mode: u64| {
        let how = [flags | libc::O_CLOEXEC as u64, mode, w.resolve];
        quick(libc::SYS_openat2, &[w.dirfd, w.path.as_ptr() as u64, at(&how), size_of_val(&how) as u64])
    };
    let named = call(w.flags & (libc::O_NOFOLLOW | libc::O_DIRECTORY) as u64 | libc::O_PATH as u64, 0);
    let fd = match named {
        // A link to what is to be made.
        Err(Errno::ENOENT) if w.flags & libc::O_CREAT as u64 != 0 => call(w.flags & KNOWN | libc::O_NONBLOCK as u64, w.mode & 0o7777)?,
        other => other?,
    };
    keep_only(fd);
    Ok(Found { fd, judged: proc_view::judge(fd), is_link: own::is_link(fd)? })
}

/// `again`: the guest's program may stand in the place of the runtime's.
fn judged(t: &mut Thread, w: Wanted<'_>, again: bool) -> SysResult {
    let reads = w.flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64 == libc::O_RDONLY as u64;
    let program = apart(
        || look(w),
        |tid, found| match found.judged {
            Judged::Runtime => Ok(None),
            Judged::Hidden => Err(Errno::EACCES),
            Judged::View(view) if reads => proc_view::show_new(t, view, w.flags).map(Some),
            Judged::Kernel | Judged::View(_) if found.is_link => Err(Errno::ELOOP),
            Judged::Kernel | Judged::View(_) => {
                let name = own::descriptor_of(tid, found.fd as i32)?;
                let flags = w.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW) as u64;
                t.host(libc::SYS_openat, &[libc::AT_FDCWD as u64, name.as_ptr() as u64, flags]).map(Some)
            }
        },
    )?;
    match program {
        Some(fd) => Ok(fd),
        None if !again => Err(Errno::EACCES),
        None if w.flags & libc::O_ACCMODE as u64 != libc::O_RDONLY as u64 => Err(Errno::ETXTBSY),
        None => {
            let path = proc_view::program_path(t)?;
            let flags = w.flags & !(libc::O_NOFOLLOW | libc::O_CREAT) as u64;
            judged(t, Wanted { dirfd: libc::AT_FDCWD as u64, path: &path, flags, mode: 0, resolve: 0 }, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_without_links_are_outside_of_procfs_by_their_words() {
        for (path, outside) in
            [(c"/etc/passwd", true), (c"/dev/null", true), (c"/process", true), (c"/proc", false), (c"//./proc/self/mem", false), (c"/tmp/../proc/self/mem", false)]
        {
            assert_eq!(is_outside_of_procfs(path), outside, "{path:?}");
        }
    }

    #[test]
    fn procfs_is_found_in_mountinfo() {
        assert_eq!(procfs_place("25 1 0:24 / /proc rw,nosuid shared:5 - proc proc rw"), Some("/proc"));
        assert_eq!(procfs_place("26 1 0:25 / /sys rw - sysfs sysfs rw"), None);
    }
}
