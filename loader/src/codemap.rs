//! The code map: from a guest code address to the table slot of the function that starts there, as wasm memory 2.
//!
//! Owns the address range of the map and what is mapped into it. Does not own slot numbers. The fact a newcomer gets wrong: a part is built once, as a
//! sealed memfd, and stays mapped somewhere out of reach; binding an object duplicates that mapping (mremap with old size 0) at the object's
//! place. So binding needs no descriptor, and every process and thread shares the same pages.

use crate::reservation::Reservation;
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use syscalls::abi::CODE_LIMIT;

/// Bytes of map per byte of code.
const SCALE: usize = 4;
/// Guest addresses per page of the map.
const PAGE_CODE: u64 = 4096 / SCALE as u64;

/// The whole map. Unbound parts are anonymous zero pages: slot 0, the miss stub.
pub struct CodeMap {
    pub reservation: Arc<Reservation>,
}

/// The part of one object, mapped out of the guest's reach.
pub struct Part {
    source: *mut libc::c_void,
    offset: usize,
    len: usize,
}

// SAFETY: an immutable mapping that is never unmapped.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl CodeMap {
    pub fn new() -> io::Result<Self> {
        let reservation = Arc::new(Reservation::new()?);
        reservation.map_anonymous(0, CODE_LIMIT as usize * SCALE, libc::PROT_READ)?;
        Ok(Self { reservation })
    }

    /// Puts an object's part in its place.
    pub fn bind(&self, part: &Part) -> io::Result<()> {
        // SAFETY: duplicates a shared mapping of ours over pages of our reservation (old size 0, see mremap(2)).
        let p = unsafe { libc::mremap(part.source, 0, part.len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, self.reservation.base().add(part.offset).cast::<libc::c_void>()) };
        if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes it out again: every address of the object misses.
    pub fn unbind(&self, part: &Part) -> io::Result<()> {
        self.reservation.map_anonymous(part.offset, part.len, libc::PROT_READ)
    }

    /// Slot of the function that starts at `pc`; 0 = none.
    #[expect(clippy::cast_ptr_alignment, reason = "a reservation starts on a page")]
    pub fn slot(&self, pc: u64) -> u32 {
        if pc >= CODE_LIMIT {
            return 0;
        }
        // SAFETY: the whole map is readable and never written through this mapping.
        unsafe { self.reservation.base().cast::<u32>().add(pc as usize).read_volatile() }
    }
}

impl Part {
    /// `entries` are (pc, absolute slot), all inside `base .. base + text_len`.
    pub fn build(base: u32, text_len: u32, entries: impl Iterator<Item = (u32, u32)>) -> io::Result<Self> {
        let start = u64::from(base) / PAGE_CODE * PAGE_CODE;
        let end = (u64::from(base) + u64::from(text_len)).next_multiple_of(PAGE_CODE).max(start + PAGE_CODE);
        let len = (end - start) as usize * SCALE;
        let file = File::from(rustix::fs::memfd_create("vkernel-codemap", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(len as u64)?;
        let writable = map(&file, len, libc::PROT_READ | libc::PROT_WRITE)?;
        for (pc, slot) in entries {
            let at = (u64::from(pc) - start) as usize;
            assert!(at * SCALE < len, "entries were checked against the text range");
            // SAFETY: inside the mapping, which nobody else sees yet.
            unsafe { writable.cast::<u32>().add(at).write(slot) };
        }
        // SAFETY: ours, and the seal needs it gone.
        unsafe { libc::munmap(writable, len) };
        crate::artifact::seal(&file)?;
        Ok(Self { source: map(&file, len, libc::PROT_READ)?, offset: start as usize * SCALE, len })
    }
}

fn map(file: &File, len: usize, prot: i32) -> io::Result<*mut libc::c_void> {
    // SAFETY: a new shared mapping at an address of the kernel's choice.
    let p = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_part_answers_and_an_unbound_one_misses() {
        let map = CodeMap::new().unwrap();
        let part = Part::build(0x40_1000, 0x2001, [(0x40_1000, 7), (0x40_3000, 9)].into_iter()).unwrap();
        assert_eq!(map.slot(0x40_1000), 0);
        map.bind(&part).unwrap();
        assert_eq!((map.slot(0x40_1000), map.slot(0x40_1001), map.slot(0x40_3000)), (7, 0, 9));
        map.unbind(&part).unwrap();
        assert_eq!(map.slot(0x40_3000), 0);
        map.bind(&part).unwrap();
        assert_eq!(map.slot(0x40_3000), 9);
    }

    #[test]
    fn addresses_beyond_the_code_limit_miss_and_never_wrap() {
        let map = CodeMap::new().unwrap();
        assert_eq!(map.slot(CODE_LIMIT), 0);
        assert_eq!(map.slot(u64::MAX), 0);
    }
}
