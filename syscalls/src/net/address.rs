//! Socket addresses crossing the boundary.
//!
//! Owns the copy in and the copy out with Linux's truncation rule. Later the network policy decides on the copies made here. The fact a newcomer
//! gets wrong: the length returned is the address's true length, which may be more than was copied.

use crate::errno::Errno;
use crate::thread::Thread;

/// `struct sockaddr_storage`.
pub(super) const STORAGE: usize = size_of::<libc::sockaddr_storage>();

/// An address the guest gives: at most 128 bytes, more is EINVAL.
pub(super) fn given(t: &Thread, addr: u64, len: u64) -> Result<Vec<u8>, Errno> {
    // The kernel takes `int addrlen`.
    let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
    if len > STORAGE {
        return Err(Errno::EINVAL);
    }
    t.read_array::<u8>(addr, len)
}

/// Room for an address the kernel returns.
pub(super) struct Returned {
    bytes: [u8; STORAGE],
    len: u32,
}

impl Returned {
    pub(super) fn new() -> Self {
        Self { bytes: [0; STORAGE], len: STORAGE as u32 }
    }

    /// Host addresses of the buffer and its length.
    pub(super) fn host(&mut self) -> [u64; 2] {
        [self.bytes.as_mut_ptr() as u64, crate::pass::at_mut(&mut self.len)]
    }

    /// As the kernel's move_addr_to_user, also in its order: the guest's room is read after the call, once; what fits is stored, and the true length.
    pub(super) fn store(&self, t: &Thread, addr: u64, len_addr: u64) -> Result<(), Errno> {
        let room = t.window().read::<i32>(len_addr)?;
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        let n = (self.len as usize).min(room).min(STORAGE);
        t.window().copy_out(addr, &self.bytes[..n])?;
        t.window().write(len_addr, &self.len)
    }
}
