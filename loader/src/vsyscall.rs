//! The vsyscall page: three functions at fixed addresses above all guest memory, which programs linked with an old C library call (glibc before 2.14, static ones for ever).
//!
//! Owns their addresses. The fact a newcomer gets wrong: a pc that comes out of lifted code has lost bit 63, the mark of tagged pcs.

use std::ffi::c_long;
use syscalls::abi::TAG;

const PAGE: u64 = 0xffff_ffff_ff60_0000;

/// The system call that the function at `pc` makes with its caller's arguments.
pub(crate) fn number(pc: u64) -> Option<c_long> {
    match (pc | TAG).wrapping_sub(PAGE) {
        0 => Some(libc::SYS_gettimeofday),
        0x400 => Some(libc::SYS_time),
        0x800 => Some(libc::SYS_getcpu),
        _ => None,
    }
}
