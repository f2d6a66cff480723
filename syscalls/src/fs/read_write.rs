//! Moving bytes through descriptors: read and write in all shapes, splicing, sizes, syncing.
//!
//! Does not own sockets' own calls (`net`). The fact a newcomer gets wrong: `iovec` arrays hold guest addresses, so they are rebuilt; the
//! arrays the kernel sees are ours.

use crate::pass::{at, passes, refused, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    0 "read" [Fd BufOut Len] "" |t, a| { let (p, n) = t.buffer(a[1], a[2]); [a[0], p, n] };
    1 "write" [Fd BufIn Len] "" |t, a| { let (p, n) = t.buffer(a[1], a[2]); [a[0], p, n] };
    8 "lseek" [Fd Int Flags] "" |_, a| [a[0], a[1], a[2]];
    17 "pread64" [Fd BufOut Len Int] "" |t, a| { let (p, n) = t.buffer(a[1], a[2]); [a[0], p, n, a[3]] };
    18 "pwrite64" [Fd BufIn Len Int] "" |t, a| { let (p, n) = t.buffer(a[1], a[2]); [a[0], p, n, a[3]] };
    40 "sendfile" [Fd Fd Ptr Len] "" |t, a| [a[0], a[1], t.ptr(a[2], 8), a[3]];
    74 "fsync" [Fd] "" |_, a| [a[0]];
    75 "fdatasync" [Fd] "" |_, a| [a[0]];
    77 "ftruncate" [Fd Len] "" |_, a| [a[0], a[1]];
    162 "sync" [] "" |_, _| [];
    187 "readahead" [Fd Int Len] "" |_, a| [a[0], a[1], a[2]];
    221 "fadvise64" [Fd Int Len Int] "" |_, a| [a[0], a[1], a[2], a[3]];
    275 "splice" [Fd Ptr Fd Ptr Len Flags] "" |t, a| [a[0], t.ptr(a[1], 8), a[2], t.ptr(a[3], 8), a[4], a[5]];
    276 "tee" [Fd Fd Len Flags] "" |_, a| [a[0], a[1], a[2], a[3]];
    277 "sync_file_range" [Fd Int Len Flags] "" |_, a| [a[0], a[1], a[2], a[3]];
    285 "fallocate" [Fd Flags Int Len] "" |_, a| [a[0], a[1], a[2], a[3]];
    306 "syncfs" [Fd] "" |_, a| [a[0]];
    326 "copy_file_range" [Fd Ptr Fd Ptr Len Flags] "" |t, a| [a[0], t.ptr(a[1], 8), a[2], t.ptr(a[3], 8), a[4], a[5]];
    451 "cachestat" [Fd Ptr Ptr Flags] "" |t, a| [a[0], t.ptr(a[1], 16), t.ptr(a[2], 40), a[3]];
}

rows! {
    19 "readv" [Fd Ptr Int] Translate "" |t, a| vectored(t, libc::SYS_readv, a);
    20 "writev" [Fd Ptr Int] Translate "" |t, a| vectored(t, libc::SYS_writev, a);
    76 "truncate" [Path Len] Pass "" |t, a| { let p = t.path(a[0])?; t.host(libc::SYS_truncate, &[p.as_ptr() as u64, a[1]]) };
    295 "preadv" [Fd Ptr Int Int Int] Translate "" |t, a| vectored(t, libc::SYS_preadv, a);
    296 "pwritev" [Fd Ptr Int Int Int] Translate "" |t, a| vectored(t, libc::SYS_pwritev, a);
    327 "preadv2" [Fd Ptr Int Int Int Flags] Translate "" |t, a| vectored(t, libc::SYS_preadv2, a);
    328 "pwritev2" [Fd Ptr Int Int Int Flags] Translate "" |t, a| vectored(t, libc::SYS_pwritev2, a);
}

refused! {
    278 "vmsplice" ENOSYS "would pin guest pages in a pipe past the checks; programs write to the pipe instead";
}

/// The iovec array is the second argument, its length the third; the others are numbers.
fn vectored(t: &mut Thread, nr: i64, a: [u64; 6]) -> SysResult {
    let vec = match t.iovec(a[1], a[2]) {
        Ok(vec) => vec,
        // The descriptor is looked at first: with no vector at all the kernel answers EBADF or 0.
        Err(e) => return t.host(nr, &[a[0], 0, 0, a[3], a[4], a[5]]).and(Err(e)),
    };
    t.host(nr, &[a[0], at(vec.as_slice()), vec.len() as u64, a[3], a[4], a[5]])
}
