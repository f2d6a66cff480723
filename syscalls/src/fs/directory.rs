//! Directories as places: listing, current directory, making and removing, device nodes.
//!
//! Does not own renames and links (`links`). The fact a newcomer gets wrong: the guest's root is the host process's root, so chdir and
//! getcwd are the kernel's own.

use super::scripts;
use crate::pass::{passes, rows};
use crate::table::SysResult;
use crate::thread::Thread;
use std::sync::atomic::Ordering;

passes! {
    78 "getdents" [Fd BufOut Len] "" |t, a| { let (p, n) = t.buffer(a[1], u64::from(a[2] as u32)); [a[0], p, n] };
    81 "fchdir" [Fd] "" |_, a| [a[0]];
    217 "getdents64" [Fd BufOut Len] "" |t, a| { let (p, n) = t.buffer(a[1], u64::from(a[2] as u32)); [a[0], p, n] };
}

rows! {
    79 "getcwd" [BufOut Len] Pass "" getcwd;
    80 "chdir" [Path] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_chdir, &[p.as_ptr() as u64]) };
    83 "mkdir" [Path Mode] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_mkdir, &[p.as_ptr() as u64, a[1]]) };
    84 "rmdir" [Path] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_rmdir, &[p.as_ptr() as u64]) };
    133 "mknod" [Path Mode Int] Pass "device nodes need a capability workers do not have" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_mknod, &[p.as_ptr() as u64, a[1], a[2]]) };
    258 "mkdirat" [DirFd Path Mode] Pass "" |t, a| { let p = t.path(a[1])?; t.host(libc::SYS_mkdirat, &[a[0], p.as_ptr() as u64, a[2]]) };
    259 "mknodat" [DirFd Path Mode Int] Pass "device nodes need a capability workers do not have" |t, a| { let p = t.path(a[1])?; t.host(libc::SYS_mknodat, &[a[0], p.as_ptr() as u64, a[2], a[3]]) };
}

fn getcwd(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let (p, n) = t.buffer(a[0], a[1]);
    let length = t.host(libc::SYS_getcwd, &[p, n])?;
    if t.process.has_scripts.load(Ordering::Relaxed)
        && let Ok(text) = t.read_array::<u8>(a[0], (length as usize).saturating_sub(1))
    {
        scripts::told_directory(t, &text);
    }
    Ok(length)
}
