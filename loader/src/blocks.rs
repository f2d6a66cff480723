//! The block table of a resumable artifact: from a guest pc to the block that starts there, searched where it lies in the file.
//!
//! Owns finding and mapping the table. Trusts its order: the builder checks it, and the file is as signed as the code it leads to. The fact a newcomer gets wrong: the table is found through a
//! program header of its own, not through a section.

use crate::section::Block;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use syscalls::abi::section::{BLOCK_TABLE_MAGIC, BLOCK_TABLE_SEGMENT};

/// The blocks of one shard, sorted by pc.
#[derive(Clone, Copy)]
pub struct Blocks {
    /// How many functions the shard has at least.
    pub functions: u32,
    blocks: &'static [Block],
}

const HEADER_BYTES: usize = 16;
/// More program headers than any image of ours has.
const PROGRAM_HEADERS: usize = 16;

impl Blocks {
    /// Maps the table of an artifact, for good.
    pub fn map(file: &File) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it has no block table: rebuild it");
        let (offset, bytes) = segment(file)?.ok_or_else(wrong)?;
        let inside = offset.checked_add(bytes as u64).is_some_and(|end| file.metadata().is_ok_and(|m| end <= m.len()));
        if bytes < HEADER_BYTES || !offset.is_multiple_of(4096) || !inside {
            return Err(wrong());
        }
        // SAFETY: a new shared mapping at an address of the kernel's choice; the file does not shrink (see `artifact`).
        let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), offset as libc::off_t) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the header lies inside the mapping, which is page-aligned and never unmapped.
        let [magic, functions, count, _] = unsafe { *base.cast::<[u32; 4]>() };
        if magic != BLOCK_TABLE_MAGIC || count as usize != (bytes - HEADER_BYTES) / size_of::<Block>() {
            return Err(wrong());
        }
        // SAFETY: `count` records follow the header; they are plain words.
        let blocks = unsafe { std::slice::from_raw_parts(base.add(HEADER_BYTES).cast::<Block>(), count as usize) };
        Ok(Self { functions, blocks })
    }

    /// First and last pc.
    pub fn span(&self) -> Option<(u32, u32)> {
        Some((self.blocks.first()?.pc, self.blocks.last()?.pc))
    }

    /// The block that starts at `pc`.
    pub fn find(&self, pc: u32) -> Option<Block> {
        self.blocks.binary_search_by_key(&pc, |b| b.pc).ok().map(|i| self.blocks[i]).filter(|b| b.slot < self.functions)
    }
}

/// Offset and length of the segment that holds the table.
fn segment(file: &File) -> io::Result<Option<(u64, usize)>> {
    let mut head = [0; 64 + 56 * PROGRAM_HEADERS];
    let there = file.read_at(&mut head, 0)?;
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let headers = head[64..there.max(64)].chunks_exact(56).take(u16::from_le_bytes([head[56], head[57]]) as usize);
    let kinds = headers.enumerate().map(|(i, h)| (64 + 56 * i, u32::from_le_bytes([h[0], h[1], h[2], h[3]])));
    Ok(kinds.filter(|(_, kind)| *kind == BLOCK_TABLE_SEGMENT).map(|(at, _)| (word(at + 8), word(at + 32) as usize)).next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::MemfdFlags;
    use std::io::Write;

    /// A file that is nothing but headers and a table at 4096.
    fn file(table: &[u32], claimed: u64) -> File {
        let mut bytes = vec![0; 4096];
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&BLOCK_TABLE_SEGMENT.to_le_bytes());
        bytes[72..80].copy_from_slice(&4096u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&claimed.to_le_bytes());
        bytes.extend(table.iter().flat_map(|w| w.to_le_bytes()));
        let mut f = File::from(rustix::fs::memfd_create("t", MemfdFlags::CLOEXEC).unwrap());
        f.write_all(&bytes).unwrap();
        f
    }

    #[test]
    fn finds_a_block_by_its_pc_and_nothing_between() {
        let table = [BLOCK_TABLE_MAGIC, 2, 3, 0, 0x1000, 0, 0, 0x1010, 0, 1, 0x2000, 1, 0];
        let blocks = Blocks::map(&file(&table, 52)).unwrap();
        assert_eq!(blocks.find(0x1010), Some(Block { pc: 0x1010, slot: 0, block: 1 }));
        assert_eq!(blocks.find(0x1011), None);
        assert_eq!(blocks.span(), Some((0x1000, 0x2000)));
    }

    #[test]
    fn refuses_a_table_that_is_longer_than_its_file_or_miscounts() {
        let table = [BLOCK_TABLE_MAGIC, 1, 1, 0, 0x1000, 0, 0];
        assert!(Blocks::map(&file(&table, 28)).is_ok());
        assert!(Blocks::map(&file(&table, 40)).is_err());
        assert!(Blocks::map(&file(&[BLOCK_TABLE_MAGIC, 1, 2, 0, 0x1000, 0, 0], 28)).is_err());
        assert!(Blocks::map(&file(&[1, 1, 1, 0, 0x1000, 0, 0], 28)).is_err());
    }

    #[test]
    fn a_row_whose_slot_belongs_to_another_shard_is_no_block() {
        let table = [BLOCK_TABLE_MAGIC, 1, 1, 0, 0x1000, 7, 0];
        assert_eq!(Blocks::map(&file(&table, 28)).unwrap().find(0x1000), None);
    }
}
