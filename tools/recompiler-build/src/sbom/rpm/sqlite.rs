//! As much of SQLite's file format (sqlite.org/fileformat2.html) as reading one table from its first row to its last takes.
//!
//! Owns bounds: every page is read at most once (`pages`) and no byte is part of two records, so a hostile file costs no more than its size. The fact a newcomer gets wrong: this is not SQLite because SQLite is C, and the process that reads an image's database may hold a signing key.

use super::RpmError;
use super::pages::Pages;

pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
const UTF8: u32 = 1;
const LEAF: u8 = 13;
const INTERIOR: u8 = 5;

struct File<'a> {
    pages: Pages<'a>,
    /// Of a page, without what is reserved at its end.
    usable: usize,
    /// Bytes of all records: cells that lie over each other would be more than the file has.
    taken: usize,
}

/// A column's value; numbers but integers are nothing to this reader.
enum Value<'a> {
    Other,
    Integer(i64),
    Bytes(&'a [u8]),
}

/// The second column of a table's rows, which holds bytes, by the rows' numbers.
pub(super) fn blobs(bytes: &[u8], table: &str) -> Result<Vec<(u64, Vec<u8>)>, RpmError> {
    let mut file = File::open(bytes)?;
    let schema = file.rows(1)?;
    let root = schema.iter().find_map(|(_, record)| match columns(record)?.get(..4)? {
        [Value::Bytes(b"table"), Value::Bytes(name), _, Value::Integer(root)] if *name == table.as_bytes() => u32::try_from(*root).ok(),
        _ => None,
    });
    let rows = file.rows(root.ok_or(wrong("it has no table Packages"))?)?;
    let blob = |(row, record): (u64, Vec<u8>)| match columns(&record).as_deref() {
        Some([_, Value::Bytes(blob), ..]) => Ok((row, blob.to_vec())),
        _ => Err(RpmError::Package { row, what: "its record is malformed" }),
    };
    rows.into_iter().map(blob).collect()
}

fn wrong(what: &'static str) -> RpmError {
    RpmError::Format { format: "SQLite database", what }
}

/// SQLite's variable-length integer, and its length.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, b) in bytes.iter().take(8).enumerate() {
        value = value << 7 | u64::from(b & 0x7f);
        if b & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

/// The columns of a record.
fn columns(record: &[u8]) -> Option<Vec<Value<'_>>> {
    let (header, mut at) = varint(record)?;
    let header = record.get(..usize::try_from(header).ok()?)?;
    let mut values = record.get(header.len()..)?;
    let mut columns = Vec::new();
    while at < header.len() {
        let (kind, n) = varint(&header[at..])?;
        at += n;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let (value, rest) = values.split_at_checked(usize::try_from(length).ok()?)?;
        values = rest;
        columns.push(match kind {
            1..=6 => Value::Integer(value.iter().fold(if value[0] & 0x80 == 0 { 0 } else { -1 }, |n, b| n << 8 | i64::from(*b))),
            8 | 9 => Value::Integer(kind as i64 - 8),
            12.. => Value::Bytes(value),
            _ => Value::Other,
        });
    }
    Some(columns)
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<File<'a>, RpmError> {
        let head = bytes.get(..HEADER_BYTES).filter(|h| h.starts_with(MAGIC)).ok_or(wrong("its header is cut off"))?;
        let page_bytes = match usize::from(u16::from_be_bytes([head[16], head[17]])) {
            1 => 65536,
            n => n,
        };
        let usable = page_bytes.saturating_sub(usize::from(head[20]));
        if !page_bytes.is_power_of_two() || page_bytes < 512 || usable < 480 {
            return Err(wrong("it has no valid page size"));
        }
        if u32::from_be_bytes([head[56], head[57], head[58], head[59]]) != UTF8 {
            return Err(wrong("its text is not UTF-8"));
        }
        Ok(File { pages: Pages::new(bytes, page_bytes, 1), usable, taken: 0 })
    }

    fn page(&mut self, page: u32) -> Result<&'a [u8], RpmError> {
        Ok(&self.pages.page(page)?[..self.usable])
    }

    /// All rows of the table whose tree begins at a page, with their numbers.
    fn rows(&mut self, root: u32) -> Result<Vec<(u64, Vec<u8>)>, RpmError> {
        let (mut rows, mut left) = (Vec::new(), vec![root]);
        while let Some(number) = left.pop() {
            let page = self.page(number)?;
            let cut = RpmError::Page { page: number, what: "a cell lies outside of it" };
            // The file's own header stands before that of the first page.
            let head = &page[if number == 1 { HEADER_BYTES } else { 0 }..];
            let cells = usize::from(u16::from_be_bytes([head[3], head[4]]));
            let first = match head[0] {
                LEAF => 8,
                INTERIOR => 12,
                _ => return Err(RpmError::Page { page: number, what: "is no page of a table" }),
            };
            let mut children = Vec::new();
            for i in 0..cells {
                let pointer = head.get(first + 2 * i..first + 2 * i + 2).ok_or_else(|| cut.clone())?;
                let cell = page.get(usize::from(u16::from_be_bytes([pointer[0], pointer[1]]))..).ok_or_else(|| cut.clone())?;
                if head[0] == LEAF {
                    rows.push(self.row(number, cell)?);
                } else {
                    children.push(child(cell).ok_or_else(|| cut.clone())?);
                }
            }
            if head[0] == INTERIOR {
                children.push(child(&head[8..]).ok_or(cut)?);
            }
            left.extend(children.into_iter().rev());
        }
        Ok(rows)
    }

    /// A cell of a leaf: what of its record does not fit lies in a chain of other pages.
    fn row(&mut self, page: u32, cell: &[u8]) -> Result<(u64, Vec<u8>), RpmError> {
        let cut = RpmError::Page { page, what: "a record lies outside of it" };
        let (length, a) = varint(cell).ok_or_else(|| cut.clone())?;
        let (row, b) = varint(&cell[a..]).ok_or_else(|| cut.clone())?;
        let taken = usize::try_from(length).ok().and_then(|n| n.checked_add(self.taken)).filter(|n| *n <= self.pages.bytes.len());
        self.taken = taken.ok_or(RpmError::Page { page, what: "with it, records are larger than the file" })?;
        let length = length as usize;
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = if length <= most { length } else { Some(least + (length - least) % (self.usable - 4)).filter(|k| *k <= most).unwrap_or(least) };
        let mut record = cell.get(a + b..a + b + here).ok_or_else(|| cut.clone())?.to_vec();
        let mut next = if here < length { child(&cell[a + b + here..]).ok_or(cut)? } else { 0 };
        while record.len() < length {
            let page = self.page(next)?;
            let wanted = (length - record.len()).min(self.usable - 4);
            record.extend_from_slice(&page[4..4 + wanted]);
            next = child(page).unwrap_or(0);
        }
        Ok((row, record))
    }
}

/// The page number at the beginning of a cell.
fn child(cell: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(cell.get(..4)?.try_into().ok()?))
}
