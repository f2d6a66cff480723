//! A package header as rpm's database keeps it (rpm's manual, "Header Structure"): entries of a tag each, and one store of all values.
//!
//! Owns bounds. The fact a newcomer gets wrong: in the database a header begins with its two counts; the magic number and the lead belong to package files.

/// Tags of a package's header.
pub(super) mod tag {
    pub(crate) const NAME: u32 = 1000;
    pub(crate) const VERSION: u32 = 1001;
    pub(crate) const RELEASE: u32 = 1002;
    pub(crate) const EPOCH: u32 = 1003;
    pub(crate) const VENDOR: u32 = 1011;
    pub(crate) const LICENCE: u32 = 1014;
    pub(crate) const PACKAGER: u32 = 1015;
    pub(crate) const URL: u32 = 1020;
    pub(crate) const ARCH: u32 = 1022;
    pub(crate) const SOURCE_RPM: u32 = 1044;
    pub(crate) const DIRECTORY_NUMBERS: u32 = 1116;
    pub(crate) const BASE_NAMES: u32 = 1117;
    pub(crate) const DIRECTORY_NAMES: u32 = 1118;
}

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
/// With translations, the first of which is the untranslated text.
const I18N_STRING: u32 = 9;
const ENTRY_BYTES: usize = 16;

pub(super) struct Header<'a> {
    entries: &'a [u8],
    store: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl<'a> Header<'a> {
    pub(super) fn parse(blob: &'a [u8]) -> Result<Header<'a>, &'static str> {
        let short = "is cut off";
        let (entries, store) = (word(blob, 0).ok_or(short)? as usize, word(blob, 4).ok_or(short)? as usize);
        let rest = &blob[8..];
        let middle = entries.checked_mul(ENTRY_BYTES).filter(|m| *m <= rest.len()).ok_or("has more entries than bytes")?;
        let (entries, rest) = rest.split_at(middle);
        Ok(Header { entries, store: rest.get(..store).ok_or("has more bytes of values than bytes")? })
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.len() + self.store.len()
    }

    /// Type, place of the values and their number, of the first entry with this tag.
    fn find(&self, tag: u32) -> Result<Option<(u32, &'a [u8], usize)>, &'static str> {
        let Some(e) = self.entries.chunks_exact(ENTRY_BYTES).find(|e| word(e, 0) == Some(tag)) else { return Ok(None) };
        let [kind, offset, count] = [4, 8, 12].map(|at| word(e, at).unwrap_or(0));
        let values = self.store.get(offset as usize..).ok_or("has a value past its end")?;
        Ok(Some((kind, values, count as usize)))
    }

    /// Empty where the tag is not there.
    pub(super) fn strings(&self, tag: u32) -> Result<Vec<String>, &'static str> {
        let Some((kind, mut values, count)) = self.find(tag)? else { return Ok(Vec::new()) };
        if !matches!(kind, STRING | STRING_ARRAY | I18N_STRING) {
            return Err("has a number where a text should be");
        }
        let mut found = Vec::new();
        for _ in 0..count {
            let end = values.iter().position(|b| *b == 0).ok_or("has a text without an end")?;
            found.push(String::from_utf8_lossy(&values[..end]).into_owned());
            values = &values[end + 1..];
        }
        Ok(found)
    }

    /// Empty where the tag is not there.
    pub(super) fn numbers(&self, tag: u32) -> Result<Vec<u32>, &'static str> {
        let Some((kind, values, count)) = self.find(tag)? else { return Ok(Vec::new()) };
        if kind != INT32 {
            return Err("has a text where a number should be");
        }
        let bytes = count.checked_mul(4).and_then(|n| values.get(..n)).ok_or("has a value past its end")?;
        Ok(bytes.chunks_exact(4).filter_map(|b| word(b, 0)).collect())
    }
}
