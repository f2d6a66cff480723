//! What files are: stat, access, modes, owners, times, file systems.
//!
//! Does not own xattrs (`xattr`) or names (`links`, `directory`). The fact a newcomer gets wrong: X_OK on the container's `noexec` mounts is
//! decided in `access`, because the host kernel would say EACCES for every program.

use super::access::access_at;
use super::{own, proc_view, scripts};
use crate::errno::Errno;
use crate::pass::{opt_at, passes, path_at, rows};
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct stat`, `struct statfs`, `struct statx` in bytes.
const STAT: u64 = size_of::<libc::stat>() as u64;
const STATFS: u64 = size_of::<libc::statfs>() as u64;
const STATX: u64 = 256;

const CWD: u64 = libc::AT_FDCWD as u64;

passes! {
    5 "fstat" [Fd Ptr] "" |t, a| [a[0], t.ptr(a[1], STAT)];
    91 "fchmod" [Fd Mode] "" |_, a| [a[0], a[1]];
    93 "fchown" [Fd Int Int] "" |_, a| [a[0], a[1], a[2]];
    95 "umask" [Mode] "" |_, a| [a[0]];
    138 "fstatfs" [Fd Ptr] "" |t, a| [a[0], t.ptr(a[1], STATFS)];
}

rows! {
    4 "stat" [Path Ptr] Pass "" |t, a| { let p = stat_path(t, CWD, a[0], 0)?; t.host(libc::SYS_stat, &[p.at(), t.ptr(a[1], STAT)]) };
    6 "lstat" [Path Ptr] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_lstat, &[p.as_ptr() as u64, t.ptr(a[1], STAT)]) };
    21 "access" [Path Mode] Translate "X_OK answered from mode bits on the container's noexec mounts" |t, a| access_at(t, CWD, a[0], a[1], 0);
    90 "chmod" [Path Mode] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_chmod, &[p.as_ptr() as u64, a[1]]) };
    92 "chown" [Path Int Int] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_chown, &[p.as_ptr() as u64, a[1], a[2]]) };
    94 "lchown" [Path Int Int] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_lchown, &[p.as_ptr() as u64, a[1], a[2]]) };
    132 "utime" [Path Ptr] Pass "" |t, a| times(t, libc::SYS_utime, 0, a[0], a[1], None);
    137 "statfs" [Path Ptr] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_statfs, &[p.as_ptr() as u64, t.ptr(a[1], STATFS)]) };
    235 "utimes" [Path Ptr] Pass "" |t, a| times(t, libc::SYS_utimes, 0, a[0], a[1], None);
    260 "fchownat" [DirFd Path Int Int Flags] Pass "" |t, a| { let p = t.path(a[1])?; t.host(libc::SYS_fchownat, &[a[0], p.as_ptr() as u64, a[2], a[3], a[4]]) };
    261 "futimesat" [DirFd Path Ptr] Pass "" |t, a| times(t, libc::SYS_futimesat, a[0], a[1], a[2], None);
    262 "newfstatat" [DirFd Path Ptr Flags] Pass "" |t, a| { let p = stat_path(t, a[0], a[1], a[3])?; t.host(libc::SYS_newfstatat, &[a[0], p.at(), t.ptr(a[2], STAT), a[3]]) };
    268 "fchmodat" [DirFd Path Mode] Pass "" |t, a| { let p = t.path(a[1])?; t.host(libc::SYS_fchmodat, &[a[0], p.as_ptr() as u64, a[2]]) };
    269 "faccessat" [DirFd Path Mode] Translate "X_OK answered from mode bits on the container's noexec mounts" |t, a| access_at(t, a[0], a[1], a[2], 0);
    280 "utimensat" [DirFd Path Ptr Flags] Pass "" |t, a| times(t, libc::SYS_utimensat, a[0], a[1], a[2], Some(a[3]));
    332 "statx" [DirFd Path Flags Flags Ptr] Pass "" |t, a| { let p = stat_path(t, a[0], a[1], a[2])?; t.host(libc::SYS_statx, &[a[0], p.at(), a[2], a[3], t.ptr(a[4], STATX)]) };
    439 "faccessat2" [DirFd Path Mode Flags] Translate "X_OK answered from mode bits on the container's noexec mounts" |t, a| access_at(t, a[0], a[1], a[2], a[3]);
    452 "fchmodat2" [DirFd Path Mode Flags] Pass "" |t, a| { let p = t.path(a[1])?; t.host(452, &[a[0], p.as_ptr() as u64, a[2], a[3]]) };
}

/// The path of a stat call, and what it leads through for the length of the call.
struct Target {
    path: Option<CString>,
    _held: Option<OwnedFd>,
}

impl Target {
    fn at(&self) -> u64 {
        path_at(self.path.as_ref())
    }
}

/// One that leads to the runtime's executable becomes the guest's program, one that means a script its file or copy.
fn stat_path(t: &Thread, dirfd: u64, path: u64, flags: u64) -> Result<Target, Errno> {
    let path = t.opt_path(path)?;
    let followed = path.as_deref().filter(|_| flags & libc::AT_SYMLINK_NOFOLLOW as u64 == 0);
    if let Some(script) = followed.and_then(|p| scripts::stand_in(t, dirfd, p)) {
        let script = script?;
        return Ok(Target { path: Some(own::descriptor(script.as_raw_fd())?), _held: Some(script) });
    }
    let shown = followed.and_then(|p| proc_view::stat_target(t, dirfd, p));
    Ok(Target { path: shown.or(path), _held: None })
}

/// The four calls that set times. `struct utimbuf` is 16 bytes, the others take two 16-byte times; a NULL path is allowed for futimesat and utimensat.
fn times(t: &mut Thread, nr: i64, dirfd: u64, path: u64, times: u64, flags: Option<u64>) -> SysResult {
    let path = t.opt_path(path)?;
    if nr == libc::SYS_utime {
        let times = t.opt_read::<[u64; 2]>(times)?;
        return t.host(nr, &[path_at(path.as_ref()), opt_at(times.as_ref())]);
    }
    let times = t.opt_read::<[u64; 4]>(times)?;
    match (nr, flags) {
        (libc::SYS_utimes, _) => t.host(nr, &[path_at(path.as_ref()), opt_at(times.as_ref())]),
        (_, None) => t.host(nr, &[dirfd, path_at(path.as_ref()), opt_at(times.as_ref())]),
        (_, Some(flags)) => t.host(nr, &[dirfd, path_at(path.as_ref()), opt_at(times.as_ref()), flags]),
    }
}
