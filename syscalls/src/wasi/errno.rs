//! WASI's error numbers, and which of them each of Linux's is. Owns the table only.
//!
//! The fact a newcomer gets wrong: `openat2` says EXDEV where a path leads out of its directory; WASI's word for that is PERM, and only a rename across file systems is XDEV (`path` tells them apart).

use crate::errno::Errno;

/// An `errno` of `wasi_snapshot_preview1`; never 0, which is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u16);

macro_rules! codes { ($($name:ident $n:literal $($linux:ident)?;)*) => {
    #[allow(missing_docs, dead_code, reason = "the names are WASI's")]
    impl Code { $(pub const $name: Code = Code($n);)* }

    /// Linux's number and WASI's.
    const KNOWN: &[(i32, Code)] = &[$($((libc::$linux, Code::$name),)?)*];
} }
codes! {
    TOO_BIG 1 E2BIG; ACCES 2 EACCES; ADDRINUSE 3 EADDRINUSE; ADDRNOTAVAIL 4 EADDRNOTAVAIL; AFNOSUPPORT 5 EAFNOSUPPORT; AGAIN 6 EAGAIN; ALREADY 7 EALREADY; BADF 8 EBADF;
    BADMSG 9 EBADMSG; BUSY 10 EBUSY; CANCELED 11 ECANCELED; CHILD 12 ECHILD; CONNABORTED 13 ECONNABORTED; CONNREFUSED 14 ECONNREFUSED; CONNRESET 15 ECONNRESET; DEADLK 16 EDEADLK;
    DESTADDRREQ 17 EDESTADDRREQ; DOM 18 EDOM; DQUOT 19 EDQUOT; EXIST 20 EEXIST; FAULT 21 EFAULT; FBIG 22 EFBIG; HOSTUNREACH 23 EHOSTUNREACH; IDRM 24 EIDRM; ILSEQ 25 EILSEQ;
    INPROGRESS 26 EINPROGRESS; INTR 27 EINTR; INVAL 28 EINVAL; IO 29 EIO; ISCONN 30 EISCONN; ISDIR 31 EISDIR; LOOP 32 ELOOP; MFILE 33 EMFILE; MLINK 34 EMLINK; MSGSIZE 35 EMSGSIZE;
    MULTIHOP 36 EMULTIHOP; NAMETOOLONG 37 ENAMETOOLONG; NETDOWN 38 ENETDOWN; NETRESET 39 ENETRESET; NETUNREACH 40 ENETUNREACH; NFILE 41 ENFILE; NOBUFS 42 ENOBUFS; NODEV 43 ENODEV;
    NOENT 44 ENOENT; NOEXEC 45 ENOEXEC; NOLCK 46 ENOLCK; NOLINK 47 ENOLINK; NOMEM 48 ENOMEM; NOMSG 49 ENOMSG; NOPROTOOPT 50 ENOPROTOOPT; NOSPC 51 ENOSPC; NOSYS 52 ENOSYS;
    NOTCONN 53 ENOTCONN; NOTDIR 54 ENOTDIR; NOTEMPTY 55 ENOTEMPTY; NOTRECOVERABLE 56 ENOTRECOVERABLE; NOTSOCK 57 ENOTSOCK; NOTSUP 58 ENOTSUP; NOTTY 59 ENOTTY; NXIO 60 ENXIO;
    OVERFLOW 61 EOVERFLOW; OWNERDEAD 62 EOWNERDEAD; PERM 63 EPERM; PIPE 64 EPIPE; PROTO 65 EPROTO; PROTONOSUPPORT 66 EPROTONOSUPPORT; PROTOTYPE 67 EPROTOTYPE; RANGE 68 ERANGE;
    ROFS 69 EROFS; SPIPE 70 ESPIPE; SRCH 71 ESRCH; STALE 72 ESTALE; TIMEDOUT 73 ETIMEDOUT; TXTBSY 74 ETXTBSY; XDEV 75 EXDEV; NOTCAPABLE 76;
}

impl From<Errno> for Code {
    /// What WASI has no number for is IO.
    fn from(errno: Errno) -> Code {
        KNOWN.iter().find(|(linux, _)| *linux == errno.0).map_or(Code::IO, |(_, code)| *code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_linux_that_wasi_knows_has_one_of_its_own() {
        let mut codes: Vec<u16> = KNOWN.iter().map(|(_, c)| c.0).collect();
        codes.dedup();
        assert_eq!(codes, (1..=75).collect::<Vec<u16>>());
        assert_eq!((Code::from(Errno::ENOENT), Code::from(Errno::EXDEV)), (Code(44), Code(75)));
        assert_eq!(Code::from(Errno(libc::EREMOTEIO)), Code::IO);
    }
}
