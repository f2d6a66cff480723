//! The block table of a resumable artifact: from a guest pc to the block that starts there, searched where it is mapped.
//!
//! Owns finding the table and searching it; the code map's file holds the rows that are searched. Trusts their order: the builder checks it, and the file is as signed as the code it leads to. The fact a newcomer gets wrong: the table is found through a
//! program header of its own, not through a section.

use crate::section::Block;
use std::fs::File;
use std::io;
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

/// A block table where the artifact has it.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub functions: u32,
    offset: u64,
    count: usize,
}

impl Table {
    /// Finds the table of an artifact.
    pub fn of(file: &File) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it has no block table: rebuild it");
        let (offset, bytes) = segment(file)?.ok_or_else(wrong)?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, offset).map_err(|_| wrong())?;
        let word = |i: usize| u32::from_le_bytes(header[4 * i..4 * i + 4].try_into().expect("four bytes"));
        let end = offset.checked_add(bytes as u64).ok_or_else(wrong)?;
        if word(0) != BLOCK_TABLE_MAGIC || HEADER_BYTES + word(2) as usize * size_of::<Block>() != bytes || end > file.metadata()?.len() {
            return Err(wrong());
        }
        Ok(Self { functions: word(1), offset: offset + HEADER_BYTES as u64, count: word(2) as usize })
    }

    /// Length of the rows.
    pub fn bytes(&self) -> usize {
        self.count * size_of::<Block>()
    }

    /// The rows, as they stand in the file.
    pub fn read(&self, file: &File) -> io::Result<Vec<u8>> {
        let mut rows = vec![0; self.bytes()];
        file.read_exact_at(&mut rows, self.offset)?;
        Ok(rows)
    }
}

impl Blocks {
    /// The rows of `table`, mapped at `rows`.
    ///
    /// # Safety
    /// `table.bytes()` bytes at `rows`, aligned to words, stay mapped and unchanged for good.
    #[expect(clippy::cast_ptr_alignment, reason = "checked")]
    pub unsafe fn at(table: Table, rows: *const u8) -> Self {
        let rows = rows.cast::<Block>();
        assert!(rows.is_aligned(), "a segment starts on a page");
        // SAFETY: as the caller promises; rows are plain words.
        Self { functions: table.functions, blocks: unsafe { std::slice::from_raw_parts(rows, table.count) } }
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

    fn blocks(table: &[u32]) -> Blocks {
        let f = file(table, 4 * table.len() as u64);
        let found = Table::of(&f).unwrap();
        let rows = found.read(&f).unwrap().leak();
        // SAFETY: leaked, and allocations are aligned to words.
        unsafe { Blocks::at(found, rows.as_ptr()) }
    }

    #[test]
    fn finds_a_block_by_its_pc_and_nothing_between() {
        let blocks = blocks(&[BLOCK_TABLE_MAGIC, 2, 3, 0, 0x1000, 0, 0, 0x1010, 0, 1, 0x2000, 1, 0]);
        assert_eq!(blocks.find(0x1010), Some(Block { pc: 0x1010, slot: 0, block: 1 }));
        assert_eq!(blocks.find(0x1011), None);
    }

    #[test]
    fn refuses_a_table_that_is_longer_than_its_file_or_miscounts() {
        let table = [BLOCK_TABLE_MAGIC, 1, 1, 0, 0x1000, 0, 0];
        assert!(Table::of(&file(&table, 28)).is_ok());
        assert!(Table::of(&file(&[BLOCK_TABLE_MAGIC, 1, 2, 0, 0x1000, 0, 0], 40)).is_err());
        assert!(Table::of(&file(&[BLOCK_TABLE_MAGIC, 1, 2, 0, 0x1000, 0, 0], 28)).is_err());
        assert!(Table::of(&file(&[1, 1, 1, 0, 0x1000, 0, 0], 28)).is_err());
    }

    #[test]
    fn a_row_whose_slot_belongs_to_another_shard_is_no_block() {
        assert_eq!(blocks(&[BLOCK_TABLE_MAGIC, 1, 1, 0, 0x1000, 7, 0]).find(0x1000), None);
    }
}
