//! Extended attributes. Owns the twelve calls; names and values are the kernel's.
//!
//! The fact a newcomer gets wrong: `size` 0 asks for the length and the buffer may then be any pointer.

use crate::errno::Errno;
use crate::pass::rows;
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::CString;

rows! {
    188 "setxattr" [Path Path BufIn Len Flags] Pass "" |t, a| set(t, libc::SYS_setxattr, a);
    189 "lsetxattr" [Path Path BufIn Len Flags] Pass "" |t, a| set(t, libc::SYS_lsetxattr, a);
    190 "fsetxattr" [Fd Path BufIn Len Flags] Pass "" |t, a| { let (name, (v, n)) = (name(t, a[1])?, value(t, a[2], a[3])); t.host(libc::SYS_fsetxattr, &[a[0], name.as_ptr() as u64, v, n, a[4]]) };
    191 "getxattr" [Path Path BufOut Len] Pass "" |t, a| get(t, libc::SYS_getxattr, a);
    192 "lgetxattr" [Path Path BufOut Len] Pass "" |t, a| get(t, libc::SYS_lgetxattr, a);
    193 "fgetxattr" [Fd Path BufOut Len] Pass "" |t, a| { let (name, (v, n)) = (name(t, a[1])?, value(t, a[2], a[3])); t.host(libc::SYS_fgetxattr, &[a[0], name.as_ptr() as u64, v, n]) };
    194 "listxattr" [Path BufOut Len] Pass "" |t, a| list(t, libc::SYS_listxattr, a);
    195 "llistxattr" [Path BufOut Len] Pass "" |t, a| list(t, libc::SYS_llistxattr, a);
    196 "flistxattr" [Fd BufOut Len] Pass "" |t, a| { let (v, n) = value(t, a[1], a[2]); t.host(libc::SYS_flistxattr, &[a[0], v, n]) };
    197 "removexattr" [Path Path] Pass "" |t, a| remove(t, libc::SYS_removexattr, a);
    198 "lremovexattr" [Path Path] Pass "" |t, a| remove(t, libc::SYS_lremovexattr, a);
    199 "fremovexattr" [Fd Path] Pass "" |t, a| { let name = name(t, a[1])?; t.host(libc::SYS_fremovexattr, &[a[0], name.as_ptr() as u64]) };
}

/// XATTR_NAME_MAX is 255; longer is ERANGE.
fn name(t: &Thread, addr: u64) -> Result<CString, Errno> {
    t.window().read_cstr(addr, 256, Errno::ERANGE)
}

/// With size 0 no byte is touched, whatever the pointer.
fn value(t: &Thread, addr: u64, size: u64) -> (u64, u64) {
    if size == 0 { (0, 0) } else { t.buffer(addr, size) }
}

fn set(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let (path, name, (v, n)) = (t.path(a[0])?, name(t, a[1])?, value(t, a[2], a[3]));
    t.host(nr, &[path.as_ptr() as u64, name.as_ptr() as u64, v, n, a[4]])
}

fn get(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let (path, name, (v, n)) = (t.path(a[0])?, name(t, a[1])?, value(t, a[2], a[3]));
    t.host(nr, &[path.as_ptr() as u64, name.as_ptr() as u64, v, n])
}

fn list(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let (path, (v, n)) = (t.path(a[0])?, value(t, a[1], a[2]));
    t.host(nr, &[path.as_ptr() as u64, v, n])
}

fn remove(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let (path, name) = (t.path(a[0])?, name(t, a[1])?);
    t.host(nr, &[path.as_ptr() as u64, name.as_ptr() as u64])
}
