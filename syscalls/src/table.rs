//! The syscall table: one row per syscall, gathered from the family files. Owns the row type and the lookup; the rows live with their functions.
//!
//! From the rows come dispatch, `--strace`, the allow-list vocabulary, `vkernel syscalls` and the man page. A number without a row is ENOSYS, logged once per program.

use crate::errno::Errno;
use crate::thread::Thread;

/// How an argument prints in `--strace`, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    Fd,
    DirFd,
    Path,
    Int,
    Hex,
    Len,
    Flags,
    Mode,
    Ptr,
    /// Buffer the kernel reads; its length is the next argument.
    BufIn,
    /// Buffer the kernel writes; its length is the next argument.
    BufOut,
    Signal,
    Pid,
}

/// What the row does with the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Pointers translated, the host kernel does the rest.
    Pass,
    /// Structures holding pointers are rebuilt.
    Translate,
    /// Done by vkernel.
    Emulate,
    /// Always this errno.
    Refuse,
}

/// A guest mistake is a value: errno for the guest.
pub type SysResult = Result<u64, Errno>;
pub type Handler = fn(&mut Thread, [u64; 6]) -> SysResult;

/// One syscall.
#[derive(Clone, Copy)]
pub struct Row {
    pub nr: u32,
    pub name: &'static str,
    pub args: &'static [Arg],
    pub support: Support,
    /// What a user should know: limits, deviations. Empty when there are none.
    pub note: &'static str,
    pub run: Handler,
}

/// All families, in the order of the man page.
pub const FAMILIES: &[(&str, &[Row])] = &[
    ("files", crate::fs::ROWS),
    ("memory", crate::mm::ROWS),
    ("processes", crate::process::ROWS),
    ("threads", crate::thread::ROWS),
    ("signals", crate::signal::ROWS),
    ("time", crate::time::ROWS),
    ("polling", crate::poll::ROWS),
    ("sockets", crate::net::ROWS),
    ("system information", crate::info::ROWS),
];

/// What every program may call whatever its list says: without these it could not even end.
pub const BASE: &[u32] = &[libc::SYS_exit as u32, libc::SYS_exit_group as u32, libc::SYS_rt_sigreturn as u32, libc::SYS_futex as u32, libc::SYS_restart_syscall as u32];

/// Every row, in family order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    FAMILIES.iter().flat_map(|(_, rows)| rows.iter())
}

/// Highest syscall number with room in allow-list bitmaps.
pub const MAX_NR: usize = 512;

/// The row of a number; constant time.
pub fn row(nr: u64) -> Option<&'static Row> {
    static INDEX: std::sync::LazyLock<[Option<&'static Row>; MAX_NR]> = std::sync::LazyLock::new(|| {
        let mut index = [None; MAX_NR];
        for r in rows() {
            index[r.nr as usize] = Some(r);
        }
        index
    });
    usize::try_from(nr).ok().and_then(|n| INDEX.get(n).copied().flatten())
}

/// The row of a name; constant time, because every program's list is looked up at every start.
pub fn by_name(name: &str) -> Option<&'static Row> {
    static INDEX: std::sync::LazyLock<std::collections::HashMap<&str, &Row>> = std::sync::LazyLock::new(|| rows().map(|r| (r.name, r)).collect());
    INDEX.get(name).copied()
}
