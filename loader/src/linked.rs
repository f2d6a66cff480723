//! The code file of a release: everything executable, linked once for one address, with the tables that lead into it.
//!
//! Owns its layout and its mapping; `link` writes it. One file, because fork pays for every mapping, and shared mappings, because fork copies no page tables of these, and the kernel refuses to write
//! them even through /proc/self/mem. The fact a newcomer gets wrong: the file holds absolute addresses, so it is mapped at the address it says or not at all. That address is chosen at random when it is
//! linked: per release and host, not per process, as with a process that forks all others.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

pub(crate) const PAGE: usize = 4096;
const MAGIC: [u8; 8] = *b"vkcode\0\x02";

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub magic: [u8; 8],
    /// Of the whole file.
    pub bytes: u64,
    /// Where the text stands in the file, how long it is, and the address it is linked for.
    pub text_offset: u64,
    pub text_bytes: u64,
    pub text_address: u64,
    /// Addresses of code by slot, eight bytes each.
    pub addresses_offset: u64,
    pub slots: u32,
    pub shards: u32,
}

/// One shard. Rows follow the header, sorted by `base`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// Guest address of the text and its length.
    pub base: u32,
    pub text_len: u32,
    /// First slots of both forms, each with as many as there are functions.
    pub structured_base: u32,
    pub functions: u32,
    pub part_offset: u64,
    pub blocks_offset: u64,
    pub blocks: u32,
    pub block_functions: u32,
    /// Which one of `link`'s inputs it was.
    pub position: u32,
    pub padding: u32,
}

impl Header {
    pub(crate) fn new() -> Self {
        Self { magic: MAGIC, ..Self::default() }
    }

    fn fits(&self, bytes: u64) -> bool {
        let inside = |offset: u64, len: u64| offset.checked_add(len).is_some_and(|end| end <= bytes);
        self.magic == MAGIC
            && self.bytes == bytes
            && inside(self.text_offset, self.text_bytes)
            && [self.text_offset, self.text_address].iter().all(|at| at.is_multiple_of(PAGE as u64))
            && self.addresses_offset.is_multiple_of(8)
            && inside(self.addresses_offset, u64::from(self.slots) * 8)
            && inside(size_of::<Self>() as u64, u64::from(self.shards) * size_of::<Row>() as u64)
    }
}

/// As bytes.
pub(crate) fn bytes_of<T: Copy>(rows: &[T]) -> &[u8] {
    // SAFETY: headers, rows and addresses are integers without padding.
    unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), size_of_val(rows)) }
}

/// A code file in its place, for good.
pub(crate) struct Linked {
    /// The whole file, readable.
    all: *mut libc::c_void,
    pub(crate) header: Header,
}

// SAFETY: immutable mappings that are never unmapped.
unsafe impl Send for Linked {}
// SAFETY: as above.
unsafe impl Sync for Linked {}

impl Linked {
    /// Maps it. `file`: as `link` wrote it, and out of reach of all but host root; opened for reading only, because older kernels refuse shared mappings of a sealed file otherwise.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it is no code file of this version, or was cut");
        let mut head = [0; size_of::<Header>()];
        file.read_exact_at(&mut head, 0).map_err(|_| wrong())?;
        // SAFETY: integers, of exactly this size.
        let header: Header = unsafe { std::mem::transmute(head) };
        if !header.fits(file.metadata()?.len()) {
            return Err(wrong());
        }
        let map = |at: u64, len: u64, prot, flags, offset: u64| {
            // SAFETY: a new shared mapping that replaces nothing.
            let p = unsafe { libc::mmap(std::ptr::without_provenance_mut(at as usize), len as usize, prot, flags | libc::MAP_SHARED, file.as_raw_fd(), offset as i64) };
            if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p) }
        };
        let all = map(0, header.bytes, libc::PROT_READ, 0, 0)?;
        let text = map(header.text_address, header.text_bytes, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_FIXED_NOREPLACE, header.text_offset)?;
        // A wish: what is read from the disk is then read in huge pages.
        // SAFETY: changes no content of the mapping just made.
        let _ = unsafe { libc::madvise(text, header.text_bytes as usize, libc::MADV_HUGEPAGE) };
        Ok(Self { all, header })
    }

    /// Host addresses of all code.
    pub(crate) fn text(&self) -> Range<usize> {
        let start = self.header.text_address as usize;
        start..start + self.header.text_bytes as usize
    }

    pub(crate) fn rows(&self) -> &'static [Row] {
        self.slice(size_of::<Header>() as u64, self.header.shards as usize)
    }

    /// Addresses by slot.
    pub(crate) fn addresses(&self) -> &'static [usize] {
        self.slice(self.header.addresses_offset, self.header.slots as usize)
    }

    /// `count` records at an offset of the file.
    pub(crate) fn slice<T: Copy>(&self, offset: u64, count: usize) -> &'static [T] {
        let at = self.at(offset, count * size_of::<T>()).cast::<T>();
        assert!(at.is_aligned(), "tables stand at whole words");
        // SAFETY: inside a mapping that stays, of a file that does not change; records are integers.
        unsafe { std::slice::from_raw_parts(at, count) }
    }

    /// Address of `len` bytes at an offset of the file.
    pub(crate) fn at(&self, offset: u64, len: usize) -> *mut libc::c_void {
        assert!(offset.checked_add(len as u64).is_some_and(|end| end <= self.header.bytes), "inside the file");
        // SAFETY: inside the mapping.
        unsafe { self.all.byte_add(offset as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(header: Header, bytes: usize) -> File {
        let mut f = File::from(rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        let mut all = vec![0xcc; bytes];
        all[..size_of::<Header>()].copy_from_slice(bytes_of(&[header]));
        f.write_all(&all).unwrap();
        f
    }

    fn small(address: u64) -> Header {
        let bytes = 2 * PAGE as u64;
        Header { bytes, text_offset: PAGE as u64, text_bytes: PAGE as u64, text_address: address, addresses_offset: 64, slots: 1, ..Header::new() }
    }

    #[test]
    fn code_is_mapped_where_the_file_says_and_never_over_something_else() {
        let address = 0x1234_5600_0000;
        let f = file(small(address), 2 * PAGE);
        let linked = Linked::map(&f).unwrap();
        // SAFETY: just mapped, readable.
        assert_eq!(unsafe { *(linked.text().start as *const u8) }, 0xcc);
        assert_eq!(Linked::map(&f).err().and_then(|e| e.raw_os_error()), Some(libc::EEXIST));
    }

    #[test]
    fn a_file_that_was_cut_or_is_of_another_version_is_not_mapped() {
        let good = small(0x1234_5700_0000);
        assert!(Linked::map(&file(good, 2 * PAGE - 1)).is_err());
        assert!(Linked::map(&file(Header { magic: *b"vkcode\0\x01", ..good }, 2 * PAGE)).is_err());
        assert!(Linked::map(&file(Header { slots: 1 << 20, ..good }, 2 * PAGE)).is_err());
        assert!(Linked::map(&file(Header { shards: 1 << 20, ..good }, 2 * PAGE)).is_err());
        assert!(Linked::map(&file(good, 2 * PAGE)).is_ok());
    }
}
