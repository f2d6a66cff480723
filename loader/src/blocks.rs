//! The block table of a resumable artifact: from a guest pc to the block that starts there, searched where it is mapped.
//!
//! Owns finding the table and searching its rows, which the code file holds. Trusts their order: the builder checks it, and the file is as signed as the code it leads to. The fact a newcomer gets wrong: the table is found through a
//! program header of its own, not through a section.

use crate::section::Block;
use std::io;
use syscalls::abi::section::{BLOCK_TABLE_MAGIC, BLOCK_TABLE_SEGMENT};

/// The blocks of one shard, sorted by pc.
#[derive(Clone, Copy)]
pub struct Blocks {
    /// How many functions the shard has at least.
    functions: u32,
    blocks: &'static [Block],
}

const HEADER_BYTES: usize = 16;
/// More program headers than any image of ours has.
const PROGRAM_HEADERS: usize = 16;

/// A block table where the artifact has it.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub functions: u32,
    offset: usize,
    count: usize,
}

impl Table {
    /// Finds the table of an artifact.
    pub fn of(artifact: &[u8]) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it has no block table");
        let (offset, bytes) = segment(artifact).ok_or_else(wrong)?;
        let table = offset.checked_add(bytes).and_then(|end| artifact.get(offset..end)).filter(|t| t.len() >= HEADER_BYTES).ok_or_else(wrong)?;
        let word = |i: usize| u32::from_le_bytes(table[4 * i..4 * i + 4].try_into().expect("four bytes"));
        if word(0) != BLOCK_TABLE_MAGIC || HEADER_BYTES + word(2) as usize * size_of::<Block>() != bytes {
            return Err(wrong());
        }
        Ok(Self { functions: word(1), offset: offset + HEADER_BYTES, count: word(2) as usize })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// The rows, in the artifact the table was found in.
    pub fn rows<'a>(&self, artifact: &'a [u8]) -> &'a [u8] {
        &artifact[self.offset..self.offset + self.count * size_of::<Block>()]
    }
}

impl Blocks {
    /// Rows in order of their addresses, of a shard with `functions` functions.
    pub fn new(functions: u32, blocks: &'static [Block]) -> Self {
        Self { functions, blocks }
    }

    /// The block that starts at `pc`.
    pub fn find(&self, pc: u32) -> Option<Block> {
        self.blocks.binary_search_by_key(&pc, |b| b.pc).ok().map(|i| self.blocks[i]).filter(|b| b.slot < self.functions)
    }
}

/// Offset and length of the segment that holds the table.
fn segment(artifact: &[u8]) -> Option<(usize, usize)> {
    let word = |h: &[u8], at: usize| u64::from_le_bytes(h[at..at + 8].try_into().expect("eight bytes")) as usize;
    let count = u16::from_le_bytes(artifact.get(56..58)?.try_into().expect("two bytes")) as usize;
    let headers = artifact.get(64..)?.chunks_exact(56).take(count.min(PROGRAM_HEADERS));
    headers.filter(|h| h[..4] == BLOCK_TABLE_SEGMENT.to_le_bytes()).map(|h| (word(h, 8), word(h, 32))).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An artifact that is nothing but headers and a table at 4096.
    fn artifact(table: &[u32], claimed: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&BLOCK_TABLE_SEGMENT.to_le_bytes());
        bytes[72..80].copy_from_slice(&4096u64.to_le_bytes());
        bytes[96..104].copy_from_slice(&claimed.to_le_bytes());
        bytes.extend(table.iter().flat_map(|w| w.to_le_bytes()));
        bytes
    }

    fn blocks(table: &[u32]) -> Blocks {
        let artifact = artifact(table, 4 * table.len() as u64);
        let found = Table::of(&artifact).unwrap();
        let rows: Vec<Block> = crate::section::blocks(found.rows(&artifact)).collect();
        assert_eq!(rows.len(), found.count());
        Blocks::new(found.functions, rows.leak())
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
        assert!(Table::of(&artifact(&table, 28)).is_ok());
        assert!(Table::of(&artifact(&[BLOCK_TABLE_MAGIC, 1, 2, 0, 0x1000, 0, 0], 40)).is_err());
        assert!(Table::of(&artifact(&[BLOCK_TABLE_MAGIC, 1, 2, 0, 0x1000, 0, 0], 28)).is_err());
        assert!(Table::of(&artifact(&[1, 1, 1, 0, 0x1000, 0, 0], 28)).is_err());
        assert!(Table::of(&artifact(&table, 28)[..4097]).is_err());
        assert!(Table::of(&[]).is_err());
    }

    #[test]
    fn a_row_whose_slot_belongs_to_another_shard_is_no_block() {
        assert_eq!(blocks(&[BLOCK_TABLE_MAGIC, 1, 1, 0, 0x1000, 7, 0]).find(0x1000), None);
    }
}
