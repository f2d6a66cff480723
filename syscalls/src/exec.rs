//! Becoming a program: the exec image (stack, auxiliary vector, main object, interpreter) and the reset rules of execve(2).
//! Refuses to decide what may run: that is `Host::exec`'s answer.
//!
//! The fact a newcomer gets wrong: no ELF file is read here. Addresses, segments and program headers come from the signed object.

use crate::errno::Errno;
use crate::host::ObjectId;
use crate::table::Row;
use crate::thread::Thread;
use std::ffi::{CStr, CString};

/// The first program of a process: builds the image for an object the supervisor already approved. `path` is what the guest sees as AT_EXECFN.
pub fn start(_thread: &mut Thread, _id: ObjectId, _path: &CStr, _argv: &[CString], _envp: &[CString]) -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

pub const ROWS: &[Row] = &[];
