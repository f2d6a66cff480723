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
    pub(super) bytes: [u8; STORAGE],
    pub(super) len: u32,
    /// Where the guest wants it; 0 = it does not.
    addr: u64,
    len_addr: u64,
    room: usize,
}

impl Returned {
    /// Reads the guest's `socklen_t`, once. Without an address the length is not looked at.
    pub(super) fn new(t: &Thread, addr: u64, len_addr: u64) -> Result<Self, Errno> {
        let mut room = 0;
        if addr != 0 {
            let given = t.window().read::<i32>(len_addr)?;
            room = usize::try_from(given).map_err(|_| Errno::EINVAL)?;
        }
        Ok(Self { bytes: [0; STORAGE], len: STORAGE as u32, addr, len_addr, room })
    }

    /// Host addresses of the buffer and its length, NULL when the guest gave none.
    pub(super) fn host(&mut self) -> [u64; 2] {
        if self.addr == 0 { [0, 0] } else { [self.bytes.as_mut_ptr() as u64, crate::pass::at_mut(&mut self.len)] }
    }

    /// As move_addr_to_user: what fits, and the true length.
    pub(super) fn store(&self, t: &Thread) -> Result<(), Errno> {
        if self.addr == 0 {
            return Ok(());
        }
        let n = (self.len as usize).min(self.room).min(STORAGE);
        t.window().copy_out(self.addr, &self.bytes[..n])?;
        t.window().write(self.len_addr, &self.len)
    }
}
