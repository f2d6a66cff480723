//! The code map: from a guest code address to the table slot of the function that starts there, as wasm memory 2.
//!
//! Owns the address range of the map and what is mapped into it. Does not own slot numbers. The fact a newcomer gets wrong: all parts lie in one file, written once per
//! release, and stay mapped somewhere out of reach; binding an object duplicates that mapping (mremap with old size 0) at the object's
//! place. So binding needs no descriptor, and every process and thread of every run shares the same pages.

use crate::reservation::Reservation;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use syscalls::abi::CODE_LIMIT;

/// Bytes of map per byte of code.
const SCALE: usize = 4;
/// Guest addresses per page of the map.
const PAGE_CODE: u64 = 4096 / SCALE as u64;

/// The whole map. Unbound parts are anonymous zero pages: slot 0, the miss stub.
pub struct CodeMap {
    pub reservation: Reservation,
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
        let reservation = Reservation::new()?;
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

/// Where the part of one object lies: in the map and in the file of all parts.
#[derive(Clone, Copy, Debug)]
pub struct PartLayout {
    /// Guest address of the first row.
    start: u64,
    len: usize,
    file_offset: usize,
}

impl PartLayout {
    pub fn new(base: u32, text_len: u32, file_offset: usize) -> Self {
        let start = u64::from(base) / PAGE_CODE * PAGE_CODE;
        let end = (u64::from(base) + u64::from(text_len)).next_multiple_of(PAGE_CODE).max(start + PAGE_CODE);
        Self { start, len: (end - start) as usize * SCALE, file_offset }
    }

    /// Where the next part may begin in the file.
    pub fn end(&self) -> usize {
        self.file_offset + self.len
    }

    pub fn bytes(&self) -> usize {
        self.len
    }

    /// The part, mapped at `source`.
    pub fn at(&self, source: *mut libc::c_void) -> Part {
        Part { source, offset: self.start as usize * SCALE, len: self.len }
    }

    /// Fills the part's zeros. `entries` are (pc, absolute slot), all inside the object's text.
    pub fn write(&self, file: &File, entries: impl Iterator<Item = (u32, u32)>) -> io::Result<()> {
        let mut rows = vec![0; self.len];
        for (pc, slot) in entries {
            let at = (u64::from(pc) - self.start) as usize * SCALE;
            rows[at..at + SCALE].copy_from_slice(&slot.to_le_bytes());
        }
        file.write_all_at(&rows, self.file_offset as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_bound_part_answers_and_an_unbound_one_misses() {
        let map = CodeMap::new().unwrap();
        let layouts = [PartLayout::new(0x10_0000, 16, 0), PartLayout::new(0x40_1000, 0x2001, PartLayout::new(0x10_0000, 16, 0).end())];
        let file = crate::artifact::sealed("t", |file| {
            file.set_len(layouts[1].end() as u64)?;
            layouts[1].write(file, [(0x40_1000, 7), (0x40_3000, 9)].into_iter())
        })
        .unwrap();
        // SAFETY: a new shared mapping of the part.
        let source = unsafe { libc::mmap(std::ptr::null_mut(), layouts[1].bytes(), libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), layouts[0].end() as i64) };
        assert_ne!(source, libc::MAP_FAILED);
        let part = layouts[1].at(source);
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
