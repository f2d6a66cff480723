//! Names of files: rename, link, unlink, symlink, readlink.
//!
//! Does not own what a procfs link says (`proc_view`). The fact a newcomer gets wrong: a symlink's target is data, not a path argument: it may
//! be anything that fits.

use super::{own, proc_view, scripts};
use crate::errno::Errno;
use crate::pass::rows;
use crate::table::SysResult;
use crate::thread::Thread;

const CWD: u64 = libc::AT_FDCWD as u64;

rows! {
    82 "rename" [Path Path] Pass "" |t, a| two_paths(t, libc::SYS_rename, a);
    86 "link" [Path Path] Pass "" |t, a| two_paths(t, libc::SYS_link, a);
    87 "unlink" [Path] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_unlink, &[p.as_ptr() as u64]) };
    88 "symlink" [Path Path] Pass "" |t, a| two_paths(t, libc::SYS_symlink, a);
    89 "readlink" [Path BufOut Len] Translate "/proc/self/exe names the guest's program" |t, a| readlink(t, CWD, a[0], a[1], a[2]);
    263 "unlinkat" [DirFd Path Flags] Pass "" |t, a| { let p = t.path(a[1])?; t.host(libc::SYS_unlinkat, &[a[0], p.as_ptr() as u64, a[2]]) };
    264 "renameat" [DirFd Path DirFd Path] Pass "" |t, a| two_places(t, libc::SYS_renameat, a);
    265 "linkat" [DirFd Path DirFd Path Flags] Pass "" |t, a| two_places(t, libc::SYS_linkat, a);
    266 "symlinkat" [Path DirFd Path] Pass "" |t, a| {
        let (target, path) = (t.path(a[0])?, t.path(a[2])?);
        t.host(libc::SYS_symlinkat, &[target.as_ptr() as u64, a[1], path.as_ptr() as u64])
    };
    267 "readlinkat" [DirFd Path BufOut Len] Translate "/proc/self/exe names the guest's program" |t, a| readlink(t, a[0], a[1], a[2], a[3]);
    316 "renameat2" [DirFd Path DirFd Path Flags] Pass "" |t, a| two_places(t, libc::SYS_renameat2, a);
}

fn two_paths(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let (from, to) = (t.path(a[0])?, t.path(a[1])?);
    t.host(nr, &[from.as_ptr() as u64, to.as_ptr() as u64])
}

/// (dirfd, path, dirfd, path, flags)
fn two_places(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let (from, to) = (t.path(a[1])?, t.path(a[3])?);
    t.host(nr, &[a[0], from.as_ptr() as u64, a[2], to.as_ptr() as u64, a[4]])
}

fn readlink(t: &mut Thread, dirfd: u64, path: u64, out: u64, size: u64) -> SysResult {
    // The kernel takes `int bufsiz`.
    if (size as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = t.path(path)?;
    let target = own::link_text(dirfd, &path)?;
    let target = proc_view::link(t, dirfd, &path).unwrap_or_else(|| Ok(scripts::shown(dirfd, &path, target)))?;
    let n = target.len().min(size as usize);
    t.window().copy_out(out, &target[..n])?;
    Ok(n as u64)
}
