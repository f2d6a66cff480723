//! Linux error numbers as values of the guest's world. Owns the type; the numbers are the kernel's (libc).

/// A positive errno.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errnos { ($($n:ident)*) => {
    #[allow(missing_docs, reason = "the names are errno(3)'s")]
    impl Errno { $(pub const $n: Errno = Errno(libc::$n);)* }
    const NAMES: &[(i32, &str)] = &[$((libc::$n, stringify!($n))),*];
} }
errnos! { EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL
ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA ETIME EOVERFLOW ENOTSUP
ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ECONNREFUSED ETIMEDOUT EALREADY EINPROGRESS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOTCONN EISCONN ENOBUFS ECONNRESET EIDRM }

impl Errno {
    /// The calling thread's errno.
    pub fn last() -> Self {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// `ENOENT` etc.; the number for names this table lacks.
    pub fn name(self) -> String {
        NAMES.iter().find(|(n, _)| *n == self.0).map_or_else(|| format!("E{}", self.0), |(_, s)| (*s).to_owned())
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}
