//! The worker's side of an intercepted exec: performs the real `execveat` of `protocol` and reads the answer. Owns the one call site.
//!
//! The fact a newcomer gets wrong: this call never executes anything. With a supervisor it is answered; without one it is ENOSYS; and were
//! there no filter at all, the mark in argv's place would make it EFAULT.

use crate::protocol::{EXEC_MARK, Grant};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Asks `mark` about the open file; `note` is the path as asked, for the log. An errno is the supervisor's refusal.
pub fn ask(file: BorrowedFd<'_>, mark: u64, note: Option<&CStr>) -> Result<Grant, i32> {
    request(file, mark, note, None)
}

/// Asks whether to become the open file with these arguments (`arguments::Rules::tell`).
pub fn ask_with(file: BorrowedFd<'_>, arguments: Option<&[u8]>) -> Result<Grant, i32> {
    request(file, EXEC_MARK, None, arguments)
}

fn request(file: BorrowedFd<'_>, mark: u64, note: Option<&CStr>, arguments: Option<&[u8]>) -> Result<Grant, i32> {
    let note = note.map_or(std::ptr::null(), CStr::as_ptr);
    let arguments = arguments.map_or(std::ptr::null(), <[u8]>::as_ptr);
    // SAFETY: the empty path is terminated; the kernel never reads argv (a non-canonical address) nor envp before the filter answers, and knows no sixth argument. All of it lives until the answer.
    let value = unsafe { libc::syscall(libc::SYS_execveat, file.as_raw_fd(), c"".as_ptr(), mark, note, libc::AT_EMPTY_PATH, arguments) };
    if value < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EACCES));
    }
    Grant::decode(value).ok_or(libc::EACCES)
}
