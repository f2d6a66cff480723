//! The database that rpm calls ndb (SUSE's): a table of slots, each with the place of one package's header in the file.
//!
//! Owns bounds: no byte belongs to two headers, so a hostile file costs no more than its size. Refuses to own the checksums, at which rpm does not look either when it reads. The fact a newcomer gets wrong: all places are numbers of
//! blocks of 16 bytes from the file's beginning, and so are slots: the file's own header takes the place of the first two.

use super::RpmError;

pub(super) const MAGIC: &[u8] = b"RpmP";
const VERSION: u32 = 0;
/// Of a block, a slot, and what stands before a package's header.
const BLOCK_BYTES: usize = 16;
/// Of the table of slots.
const PAGE_BLOCKS: usize = 4096 / BLOCK_BYTES;
const HEADER_BLOCKS: usize = 2;
/// Checksum, length, magic: at the end of a package's blocks, with padding before it.
const TAIL_BYTES: usize = 12;

/// All packages' headers, by the packages' numbers.
pub(super) fn blobs(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, RpmError> {
    let wrong = |what| RpmError::Format { format: "ndb database", what };
    let [version, pages] = [4, 12].map(|at| word(bytes, at));
    if version.is_some_and(|v| v != VERSION) {
        return Err(wrong("its version is not known"));
    }
    let table = pages.map_or(0, |pages| pages as usize * PAGE_BLOCKS);
    let slots = blocks(bytes, HEADER_BLOCKS, table).ok_or(wrong("it is cut off before the end of its slots"))?;
    let mut used = Vec::new();
    for (slot, content) in (HEADER_BLOCKS..).zip(slots.chunks_exact(BLOCK_BYTES)) {
        let [package, first, count] = [4, 8, 12].map(|at| word(content, at).unwrap_or(0));
        if !content.starts_with(b"Slot") {
            return Err(RpmError::Slot { slot, what: "does not begin like one" });
        }
        if first != 0 {
            used.push((first as usize, count as usize, package, slot));
        }
    }
    used.sort_unstable();
    let (mut free, mut rows) = (table, Vec::new());
    for (first, count, package, slot) in used {
        let wrong = |what| RpmError::Slot { slot, what };
        if first < free {
            return Err(wrong("its blocks are part of something else, too"));
        }
        free = first + count;
        let content = blocks(bytes, first, free).ok_or(wrong("its blocks lie past the end: the file is cut off"))?;
        rows.push((u64::from(package), blob(content, package).ok_or(wrong("its blocks do not hold what it says"))?.to_vec()));
    }
    Ok(rows)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn blocks(bytes: &[u8], first: usize, end: usize) -> Option<&[u8]> {
    bytes.get(first.checked_mul(BLOCK_BYTES)?..end.checked_mul(BLOCK_BYTES)?)
}

/// The header in a package's blocks: both ends must say that it is this package's, and how long.
fn blob(content: &[u8], package: u32) -> Option<&[u8]> {
    let (middle, tail) = content.split_at_checked(content.len().checked_sub(TAIL_BYTES)?)?;
    let length = word(content, 12)?;
    let is_whole = content.starts_with(b"BlbS") && word(content, 4) == Some(package) && word(tail, 4) == Some(length) && tail.ends_with(b"BlbE");
    middle.get(BLOCK_BYTES..)?.get(..length as usize).filter(|_| is_whole)
}
