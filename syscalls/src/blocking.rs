//! Host syscalls that may block. Owns `host_call`: a syscall that a recorded signal cannot miss.
//!
//! The fact a newcomer gets wrong: "check poll, then call the kernel" loses a signal that arrives between the two. Here the check and the
//! `syscall` instruction form one assembly range; the host handler moves a pc found inside it to the abort label (02, "What review changed", 6).

use crate::errno::Errno;
use crate::table::SysResult;

impl Errno {
    /// ERESTARTSYS: a signal interrupted the call; restarted under SA_RESTART, else EINTR. Rows pass it on like any errno.
    pub const RESTART: Errno = Errno(512);
    /// A signal arrived before the call began: always restarted.
    pub const NOT_STARTED: Errno = Errno(513);
}

/// A host syscall with host addresses; interruptible by signals to be delivered to the guest.
pub fn host_call(nr: libc::c_long, args: [u64; 6]) -> SysResult {
    // SAFETY: the row checked and translated every pointer among the arguments.
    let r = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if r == -1 { Err(Errno::last()) } else { Ok(r as u64) }
}
