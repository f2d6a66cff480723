//! The guest's view of procfs files about itself.
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::CStr;

pub(super) fn opened(_t: &mut Thread, fd: u64, _flags: u64) -> SysResult {
    Ok(fd)
}

pub(super) fn link(_t: &mut Thread, _dirfd: u64, _path: &CStr) -> Option<Vec<u8>> {
    None
}
