//! Pages of a file, each of which is read at most once: in a file that is whole, no page is reached twice, and a hostile one costs no more than its size.

use super::RpmError;
use std::collections::BTreeSet;

pub(super) struct Pages<'a> {
    pub bytes: &'a [u8],
    pub page_bytes: usize,
    /// Number of the page at the file's beginning.
    first: u32,
    read: BTreeSet<u32>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(bytes: &'a [u8], page_bytes: usize, first: u32) -> Pages<'a> {
        Pages { bytes, page_bytes, first, read: BTreeSet::new() }
    }

    /// Marks a page as read; whether it was not before.
    pub(super) fn take(&mut self, page: u32) -> bool {
        self.read.insert(page)
    }

    pub(super) fn page(&mut self, page: u32) -> Result<&'a [u8], RpmError> {
        let wrong = |what| RpmError::Page { page, what };
        let begin = page.checked_sub(self.first).and_then(|n| (n as usize).checked_mul(self.page_bytes)).ok_or(wrong("there is no such page"))?;
        let bytes = begin.checked_add(self.page_bytes).and_then(|end| self.bytes.get(begin..end)).ok_or(wrong("lies past the end: the file is cut off"))?;
        if self.take(page) { Ok(bytes) } else { Err(wrong("is part of two things at once")) }
    }
}
