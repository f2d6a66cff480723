//! Libraries that an object names in its data, to open them while it runs: libc opens libgcc_s.so.1 for the first thread that ends by pthread_exit or is cancelled, and ends the program without it.
//!
//! Owns what counts as such a name. The fact a newcomer gets wrong: names that are put together while a program runs (plugins, name services) are not found here, and have to be included by hand. A name too many costs the
//! time to lift a library of the image, and lets programs map it.

use super::elf::Load;
use std::collections::BTreeSet;

/// Of a soname with a version: names without one are those that linkers use.
const MARK: &[u8] = b".so.";
const LONGEST: usize = 64;

/// Every text in a segment without code that reads as the name of a shared object: `libgcc_s.so.1`.
pub(super) fn names(bytes: &[u8], loads: &[Load]) -> BTreeSet<String> {
    let data = loads.iter().filter(|l| l.prot & 4 == 0).filter_map(|l| bytes.get(l.offset as usize..(l.offset + l.filesz) as usize));
    data.flat_map(|data| memchr::memmem::find_iter(data, MARK).filter_map(|at| name(data, at))).collect()
}

/// The text around a mark, from one NUL to the next.
fn name(data: &[u8], at: usize) -> Option<String> {
    let begin = at.saturating_sub(LONGEST);
    let start = data[begin..at].iter().rposition(|b| *b == 0).map_or(begin, |nul| begin + nul + 1);
    let length = data[at..].iter().take(LONGEST).position(|b| *b == 0)?;
    let text = data.get(start..at + length).filter(|t| t.len() <= LONGEST && t.starts_with(b"lib"))?;
    let (stem, version) = (&text[..at - start], &text[at - start + MARK.len()..]);
    let is_stem = stem.iter().all(|b| b.is_ascii_alphanumeric() || b"_-+.".contains(b));
    let is_version = version.first().is_some_and(u8::is_ascii_digit) && version.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    (is_stem && is_version).then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_text_of_data() {
        let bytes = b"\0libgcc_s.so.1\0libx.so\0libstdc++.so.6\0see liby.so.2\0/opt/libz.so.1\0libw.so.x\0libv.so.1.2\0libcut.so.1";
        let load = |prot| [Load { vaddr: 0, memsz: 200, filesz: bytes.len() as u64, offset: 0, prot }];
        assert_eq!(names(bytes, &load(1)).into_iter().collect::<Vec<_>>(), ["libgcc_s.so.1", "libstdc++.so.6", "libv.so.1.2"]);
        assert!(names(bytes, &load(5)).is_empty(), "code is no text");
        assert!(names(bytes, &[Load { vaddr: 0, memsz: 0, filesz: 1 << 40, offset: 0, prot: 1 }]).is_empty());
    }

    #[test]
    fn libc_names_the_unwinder() {
        let bytes = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        let facts = super::super::elf::facts("libc", &bytes).unwrap();
        assert!(names(&bytes, &facts.loads).contains("libgcc_s.so.1"), "{:?}", names(&bytes, &facts.loads));
    }
}
