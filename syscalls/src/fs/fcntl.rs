//! fcntl(2) and flock(2). Owns the list of commands and the size each third argument has.
//!
//! The fact a newcomer gets wrong: the third argument is a number or a pointer depending on the command, so an unknown command cannot be
//! passed on: it is EINVAL here (07, S2), also when the host kernel knows it.

use crate::errno::Errno;
use crate::pass::{at_mut, passes, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    73 "flock" [Fd Flags] "" |_, a| [a[0], a[1]];
}

rows! {
    72 "fcntl" [Fd Int Hex] Translate "typed list of commands; others are EINVAL" fcntl;
}

enum Third {
    Number,
    Pointer(u64),
}

/// Not in libc: values from <linux/fcntl.h>.
const F_DUPFD_QUERY: i32 = 1027;
const F_CREATED_QUERY: i32 = 1028;
const F_GETOWNER_UIDS: i32 = 17;
const F_GET_RW_HINT: i32 = 1035;
const F_SET_RW_HINT: i32 = 1036;
const F_GET_FILE_RW_HINT: i32 = 1037;
const F_SET_FILE_RW_HINT: i32 = 1038;
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;

fn third(cmd: i32) -> Option<Third> {
    use libc::{
        F_ADD_SEALS, F_DUPFD, F_DUPFD_CLOEXEC, F_GET_SEALS, F_GETFD, F_GETFL, F_GETLEASE, F_GETLK, F_GETPIPE_SZ, F_NOTIFY, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_SETFD,
        F_SETFL, F_SETLEASE, F_SETLK, F_SETLKW, F_SETOWN, F_SETPIPE_SZ,
    };
    const FLOCK: u64 = size_of::<libc::flock>() as u64;
    Some(match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC | F_GETFD | F_SETFD | F_GETFL | F_SETFL | F_SETOWN | F_SETSIG | F_GETSIG => Third::Number,
        F_SETPIPE_SZ | F_GETPIPE_SZ | F_ADD_SEALS | F_GET_SEALS | F_SETLEASE | F_GETLEASE | F_NOTIFY | F_DUPFD_QUERY | F_CREATED_QUERY => Third::Number,
        F_GETLK | F_SETLK | F_SETLKW | F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW => Third::Pointer(FLOCK),
        F_SETOWN_EX | F_GETOWN_EX | F_GETOWNER_UIDS => Third::Pointer(8),
        F_GET_RW_HINT | F_SET_RW_HINT | F_GET_FILE_RW_HINT | F_SET_FILE_RW_HINT => Third::Pointer(8),
        _ => return None,
    })
}

/// EBADF comes before what is asked; also for an O_PATH descriptor, of which a few questions only can be asked, and not this one.
pub(super) fn open_fd(fd: u64) -> SysResult {
    quick(libc::SYS_fcntl, &[fd, F_GETSIG as u64])
}

/// A process group as the negative number it is, also one whose number looks like an errno.
fn owner(fd: u64) -> SysResult {
    const F_OWNER_PGRP: i32 = 2;
    let mut owner = [0i32; 2];
    quick(libc::SYS_fcntl, &[fd, F_GETOWN_EX as u64, at_mut(&mut owner)])?;
    let [kind, pid] = owner;
    Ok(i64::from(if kind == F_OWNER_PGRP { -pid } else { pid }) as u64)
}

fn fcntl(t: &mut Thread, a: [u64; 6]) -> SysResult {
    if a[1] as i32 == libc::F_GETOWN {
        return owner(a[0]);
    }
    match third(a[1] as i32) {
        Some(Third::Number) => t.host(libc::SYS_fcntl, &[a[0], a[1], a[2]]),
        Some(Third::Pointer(len)) => t.host(libc::SYS_fcntl, &[a[0], a[1], t.ptr(a[2], len)]),
        None => {
            open_fd(a[0])?;
            Err(Errno::EINVAL)
        }
    }
}
