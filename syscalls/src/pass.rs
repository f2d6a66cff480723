//! The way to the host kernel for rows that pass calls on: pointer translation, structure copies, the raw call.
//!
//! Owns how a guest argument becomes a host argument. It does not own the window (`guest`) nor what a blocking call does when a signal comes
//! (the core's `host_call`). The fact a newcomer gets wrong: a pointer outside the window is not an early EFAULT. It becomes `NEVER`, an address
//! the kernel refuses, so that EBADF, EINVAL and EFAULT come in the kernel's own order.

use crate::errno::Errno;
use crate::guest::{Plain, WINDOW_BYTES, low};
use crate::table::{Row, SysResult};
use crate::thread::Thread;
use std::ffi::{CString, c_long};

/// Not an address of any user memory on x86-64 (not canonical): every access by the kernel on behalf of the caller ends in EFAULT.
pub(crate) const NEVER: u64 = 1 << 63;

/// Linux's UIO_MAXIOV.
pub(crate) const IOV_MAX: u64 = 1024;

impl Thread {
    /// Host address of exactly `len` bytes; NULL stays NULL.
    pub(crate) fn ptr(&self, addr: u64, len: u64) -> u64 {
        if addr == 0 {
            return 0;
        }
        self.window().range(addr, len).map_or(NEVER, |p| p as u64)
    }

    /// Host address of `n` elements of `size` bytes; NULL stays NULL.
    pub(crate) fn array(&self, addr: u64, n: u64, size: u64) -> u64 {
        n.checked_mul(size).map_or(NEVER, |len| self.ptr(addr, len))
    }

    /// A byte buffer of which the kernel may use less than asked (read, write, getrandom …): cut at the end of the window, as Linux would
    /// stop at the first unmapped page.
    pub(crate) fn buffer(&self, addr: u64, len: u64) -> (u64, u64) {
        if addr == 0 {
            return (0, len);
        }
        let addr = low(addr);
        if addr >= WINDOW_BYTES || len > i64::MAX as u64 {
            return (NEVER, len);
        }
        let len = len.min(WINDOW_BYTES - addr);
        (self.ptr(addr, len), len)
    }

    /// A path, copied once (07, S6).
    pub(crate) fn path(&self, addr: u64) -> Result<CString, Errno> {
        self.window().read_path(addr)
    }

    /// A path that may be NULL.
    pub(crate) fn opt_path(&self, addr: u64) -> Result<Option<CString>, Errno> {
        if addr == 0 { Ok(None) } else { self.path(addr).map(Some) }
    }

    /// `n` elements in one copy.
    pub(crate) fn read_array<T: Plain>(&self, addr: u64, n: usize) -> Result<Vec<T>, Errno> {
        let mut out = Vec::<T>::with_capacity(n);
        // SAFETY: the slice covers the vector's own spare capacity; `copy_in` fills all of it or fails, and only then is the length set.
        // `Plain` has no invalid patterns.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), n * size_of::<T>());
            bytes.fill(0);
            self.window().copy_in(addr, bytes)?;
            out.set_len(n);
        }
        Ok(out)
    }

    /// A structure copied in, or `None` for NULL.
    pub(crate) fn opt_read<T: Plain>(&self, addr: u64) -> Result<Option<T>, Errno> {
        if addr == 0 { Ok(None) } else { self.window().read(addr).map(Some) }
    }

    /// The call itself, interruptible by a signal for the guest. `args` are host values: every pointer in them was made by the methods above or
    /// points to the caller's own copy. A row makes at most one such call: after it, only `quick` ones, because the row may be run again.
    pub(crate) fn host(&mut self, nr: c_long, args: &[u64]) -> SysResult {
        crate::host_call(nr, six(args))
    }

    /// An iovec array with translated pointers.
    pub(crate) fn iovec(&self, addr: u64, n: u64) -> Result<Vec<[u64; 2]>, Errno> {
        if n > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut vec = self.read_array::<[u64; 2]>(addr, n as usize)?;
        for v in &mut vec {
            if v[1] > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            let (p, len) = if v[1] == 0 { (0, 0) } else { self.buffer(v[0], v[1]) };
            *v = [p, len];
        }
        Ok(vec)
    }
}

/// Address of a host copy, for `Thread::host`.
pub(crate) fn at<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

/// Address of a host copy the kernel writes to.
pub(crate) fn at_mut<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<u8>() as u64
}

/// Address of an optional host copy: NULL for none.
pub(crate) fn opt_at<T>(value: Option<&T>) -> u64 {
    value.map_or(0, at)
}

/// Address of an optional path.
pub(crate) fn path_at(path: Option<&CString>) -> u64 {
    path.map_or(0, |p| p.as_ptr() as u64)
}

fn six(args: &[u64]) -> [u64; 6] {
    let mut six = [0u64; 6];
    six[..args.len()].copy_from_slice(args);
    six
}

/// A host call that does not wait (queries, closing what a row opened). Never interrupted, so it may come before or after a row's main call.
pub(crate) fn quick(nr: c_long, args: &[u64]) -> SysResult {
    let a = six(args);
    let r: i64;
    // SAFETY: the kernel's calling convention; pointers among the arguments were checked or made by the caller, as for `Thread::host`.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") nr => r, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    if (-4095..0).contains(&r) { Err(Errno(-r as i32)) } else { Ok(r as u64) }
}

/// What `passes!` rows run: translate, call.
pub(crate) fn forward<const N: usize>(t: &mut Thread, a: [u64; 6], nr: c_long, translate: impl FnOnce(&Thread, [u64; 6]) -> [u64; N]) -> SysResult {
    let args = translate(t, a);
    t.host(nr, &args)
}

/// Rows of several files as one array.
pub(crate) const fn concat<const N: usize>(parts: &[&[Row]]) -> [Row; N] {
    let mut all = [parts[0][0]; N];
    let (mut part, mut n) = (0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            all[n] = parts[part][i];
            n += 1;
            i += 1;
        }
        part += 1;
    }
    assert!(n == N);
    all
}

/// The family's `ROWS`, gathered from its files.
macro_rules! family {
    ($($part:expr),* $(,)?) => {
        /// The rows of this family.
        pub const ROWS: &[$crate::table::Row] = &$crate::pass::concat::<{ 0 $(+ $part.len())* }>(&[$($part),*]);
    };
}

/// `passes! { nr "name" [Args] "note" |t, a| [host arguments]; … }` makes `PASSED`: rows whose pointers are translated and nothing else.
macro_rules! passes {
    ($($nr:literal $name:literal [$($arg:ident)*] $note:literal $translate:expr;)*) => {
        pub(crate) const PASSED: &[$crate::table::Row] = &[$($crate::table::Row {
            nr: $nr,
            name: $name,
            args: &[$($crate::table::Arg::$arg),*],
            support: $crate::table::Support::Pass,
            note: $note,
            run: |t, a| $crate::pass::forward(t, a, $nr, $translate),
        }),*];
    };
}

/// `rows! { nr "name" [Args] Support "note" function; … }` makes `ROWS`.
macro_rules! rows {
    ($($nr:literal $name:literal [$($arg:ident)*] $support:ident $note:tt $run:expr;)*) => {
        pub(crate) const ROWS: &[$crate::table::Row] = &[$($crate::table::Row {
            nr: $nr,
            name: $name,
            args: &[$($crate::table::Arg::$arg),*],
            support: $crate::table::Support::$support,
            note: $note,
            run: $run,
        }),*];
    };
}

/// `refused! { nr "name" ERRNO "note"; … }` makes `REFUSED`: rows that always answer the errno.
macro_rules! refused {
    ($($nr:literal $name:literal $errno:ident $note:literal;)*) => {
        pub(crate) const REFUSED: &[$crate::table::Row] = &[$($crate::table::Row {
            nr: $nr,
            name: $name,
            args: &[],
            support: $crate::table::Support::Refuse,
            note: $note,
            run: |_, _| Err($crate::errno::Errno::$errno),
        }),*];
    };
}
pub(crate) use {family, passes, refused, rows};
