//! As much of Berkeley DB's files (the structures in its `db_page.h`) as reading a hash table from its first bucket to its last takes: rpm's database before SQLite, on RHEL up to 8.
//!
//! Owns bounds: every page is read at most once (`pages`), so a hostile file costs no more than its size. Refuses to own trees: rpm had only its indices in them. The fact a newcomer gets wrong: a bucket's page is not found by its number alone.
//! Each time the table doubled, its new half was put behind the pages of values that lay there by then, and `spares` says by how many.

use super::RpmError;
use super::pages::Pages;

/// At byte 12, in the byte order of the machine that made the file.
const MAGIC: u32 = 0x0006_1561;
const METADATA_BYTES: usize = 512;
/// Since Berkeley DB 4.1, which had other metadata before.
const VERSIONS: std::ops::RangeInclusive<u32> = 8..=10;
/// Numbers of `spares`, one for each doubling.
const DOUBLINGS: usize = 32;
/// What every page begins with.
const HEADER_BYTES: usize = 26;

/// Kinds of pages.
mod page {
    /// Of a bucket into which nothing was ever put.
    pub(super) const UNUSED: u8 = 0;
    pub(super) const HASH_UNSORTED: u8 = 2;
    pub(super) const OVERFLOW: u8 = 7;
    pub(super) const HASH_METADATA: u8 = 8;
    pub(super) const HASH: u8 = 13;
}

/// Kinds of keys and values on a page of a bucket; rpm's have no duplicates.
const HERE: u8 = 1;
const ON_OTHER_PAGES: u8 = 3;

struct File<'a> {
    pages: Pages<'a>,
    is_big: bool,
}

/// Whether a file begins like a hash table, and in which byte order: big-endian?
fn order(bytes: &[u8]) -> Option<bool> {
    [false, true].into_iter().find(|is_big| long(bytes, 12, *is_big) == Some(MAGIC))
}

pub(super) fn is_hash(bytes: &[u8]) -> bool {
    order(bytes).is_some()
}

/// All packages' headers, by the packages' numbers.
pub(super) fn blobs(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, RpmError> {
    let mut file = File::open(bytes)?;
    let mut rows = Vec::new();
    for bucket in 0..=file.long(bytes, 72) {
        let mut next = file.first_page(bucket);
        loop {
            let page = file.page(next, &[page::HASH, page::HASH_UNSORTED, page::UNUSED])?;
            file.rows(next, page, &mut rows)?;
            next = file.long(page, 16);
            if next == 0 {
                break;
            }
        }
    }
    Ok(rows)
}

fn long(bytes: &[u8], at: usize, is_big: bool) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<File<'a>, RpmError> {
        let wrong = |what| RpmError::Format { format: "hash file of Berkeley DB", what };
        let is_big = order(bytes).ok_or(wrong("it does not begin like one"))?;
        let mut file = File { pages: Pages::new(bytes, METADATA_BYTES, 0), is_big };
        let head = bytes.get(..METADATA_BYTES).ok_or(wrong("its metadata are cut off"))?;
        if !VERSIONS.contains(&file.long(head, 16)) || head[25] != page::HASH_METADATA {
            return Err(wrong("its version is not known"));
        }
        let page_bytes = file.long(head, 20) as usize;
        if !page_bytes.is_power_of_two() || !(512..=65536).contains(&page_bytes) {
            return Err(wrong("it has no valid page size"));
        }
        // Headers of its pages would be longer.
        if head[24] != 0 || head[26] & 1 != 0 {
            return Err(wrong("it is encrypted or has checksums"));
        }
        file.pages.page_bytes = page_bytes;
        // Page 0 is what was read here.
        file.pages.take(0);
        Ok(file)
    }

    /// The number at a place that is there: of the metadata, or in a page's header.
    fn long(&self, page: &[u8], at: usize) -> u32 {
        long(page, at, self.is_big).unwrap_or(0)
    }

    fn short(&self, page: &[u8], at: usize) -> Option<usize> {
        let bytes = page.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }))
    }

    /// Page 0, which is no bucket's, where there is none.
    fn first_page(&self, bucket: u32) -> u32 {
        let doublings = (u32::BITS - bucket.leading_zeros()) as usize;
        if doublings < DOUBLINGS { bucket.checked_add(self.long(self.pages.bytes, 96 + 4 * doublings)).unwrap_or(0) } else { 0 }
    }

    /// A page of one of these kinds.
    fn page(&mut self, number: u32, kinds: &[u8]) -> Result<&'a [u8], RpmError> {
        let wrong = |what| RpmError::Page { page: number, what };
        let page = self.pages.page(number)?;
        // Where nothing was ever written, not even a page's own number is.
        let is_its_own = self.long(page, 8) == number || page[25] == page::UNUSED;
        if kinds.contains(&page[25]) && is_its_own { Ok(page) } else { Err(wrong("is not of the kind that belongs there")) }
    }

    /// Keys and values take turns; keys are packages' numbers.
    fn rows(&mut self, number: u32, page: &'a [u8], rows: &mut Vec<(u64, Vec<u8>)>) -> Result<(), RpmError> {
        let wrong = |what| RpmError::Page { page: number, what };
        let entries = self.short(page, 20).unwrap_or(0);
        if !entries.is_multiple_of(2) {
            return Err(wrong("has a key without a value"));
        }
        for i in (0..entries).step_by(2) {
            let [key, value] = [i, i + 1].map(|i| self.item(page, i).and_then(<[u8]>::split_first));
            let (Some((&HERE, key)), Some((kind, value))) = (key, value) else { return Err(wrong("a key or a value lies outside of it")) };
            let package = long(key, 0, self.is_big).filter(|_| key.len() == 4).ok_or(wrong("a key is no package's number"))?;
            let value = match (*kind, value.len()) {
                (HERE, _) => value.to_vec(),
                (ON_OTHER_PAGES, 11) => self.overflow(number, value)?,
                _ => return Err(wrong("a value is of a kind that rpm does not write")),
            };
            // Under 0 there is only what number the next package gets.
            if package != 0 {
                rows.push((package.into(), value));
            }
        }
        Ok(())
    }

    /// A key or value: they are put on a page from its end, so each ends where the one before begins.
    fn item(&self, page: &'a [u8], i: usize) -> Option<&'a [u8]> {
        let end = if i == 0 { self.pages.page_bytes } else { self.short(page, HEADER_BYTES + 2 * (i - 1))? };
        page.get(self.short(page, HEADER_BYTES + 2 * i)?..end)
    }

    /// A value that lies in a chain of other pages. What stands for it is three bytes of nothing, the number of the first page, and the length.
    fn overflow(&mut self, from: u32, item: &[u8]) -> Result<Vec<u8>, RpmError> {
        let (mut next, length) = (self.long(item, 3), self.long(item, 7) as usize);
        let mut value = Vec::new();
        while next != 0 {
            let page = self.page(next, &[page::OVERFLOW])?;
            let here = self.short(page, 22).and_then(|n| page.get(HEADER_BYTES..HEADER_BYTES + n));
            value.extend_from_slice(here.ok_or(RpmError::Page { page: next, what: "has more bytes of a value than bytes" })?);
            next = self.long(page, 16);
        }
        if value.len() == length { Ok(value) } else { Err(RpmError::Page { page: from, what: "a value is not as long as it says" }) }
    }
}
