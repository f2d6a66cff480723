//! Records of shard modules, little-endian: `vkernel.entries`, read from a custom section, and one row of `vkernel.blocks`, which `blocks` searches in place.
//!
//! Owns their record layout. Does not know what a slot is worth in a machine: slots here are relative to the
//! shard's slot base. The fact a newcomer gets wrong: entries are sorted by pc, which is checked at load.

use thiserror::Error;

/// One structured entry: the function at `pc` is element `slot` of the structured module's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub pc: u32,
    pub slot: u32,
}

/// One resumable block: the code at `pc` is block `block` of the function in `slot` of the resumable module's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    pub pc: u32,
    pub slot: u32,
    pub block: u32,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SectionError {
    #[error("section {name} has {bytes} bytes, not a multiple of {record}: rebuild the shard")]
    Length { name: &'static str, bytes: usize, record: usize },
    #[error("section {name} is not sorted by pc at record {index}: rebuild the shard")]
    Order { name: &'static str, index: usize },
}

/// The rows of a block table, as they stand in an artifact.
pub fn blocks(bytes: &[u8]) -> impl Iterator<Item = Block> {
    let word = |r: &[u8], i: usize| u32::from_le_bytes([r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]]);
    bytes.chunks_exact(size_of::<Block>()).map(move |r| Block { pc: word(r, 0), slot: word(r, 1), block: word(r, 2) })
}

/// Parses `vkernel.entries`.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry>, SectionError> {
    let words = records::<2>("vkernel.entries", bytes)?;
    Ok(words.into_iter().map(|[pc, slot]| Entry { pc, slot }).collect())
}

fn records<const N: usize>(name: &'static str, bytes: &[u8]) -> Result<Vec<[u32; N]>, SectionError> {
    if !bytes.len().is_multiple_of(4 * N) {
        return Err(SectionError::Length { name, bytes: bytes.len(), record: 4 * N });
    }
    let out: Vec<[u32; N]> = bytes.chunks_exact(4 * N).map(|r| std::array::from_fn(|i| u32::from_le_bytes([r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]]))).collect();
    match out.windows(2).position(|w| w[0][0] >= w[1][0]) {
        Some(i) => Err(SectionError::Order { name, index: i + 1 }),
        None => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn refuses_a_section_that_is_not_sorted() {
        assert_eq!(entries(&bytes(&[2, 0, 1, 1])), Err(SectionError::Order { name: "vkernel.entries", index: 1 }));
        assert!(entries(&bytes(&[1, 0, 2, 1])).is_ok());
    }

    #[test]
    fn refuses_a_section_that_ends_inside_a_record() {
        let b = bytes(&[1, 0, 2, 1]);
        assert!(matches!(entries(&b[..b.len() - 1]), Err(SectionError::Length { .. })));
    }
}
