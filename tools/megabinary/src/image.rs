//! `vkernel.image`: the original segments' bytes, as whole pages at page-aligned offsets of the file.
//!
//! Owns the layout of the last section. The fact a newcomer gets wrong: a page holds what the *file* has around a segment, not zeros, because a native mapping shows that too (ld.so itself clears .bss).

use std::ops::Range;

pub const PAGE_BYTES: u64 = 4096;

const NAME: &[u8] = b"vkernel.image";

/// One PT_LOAD segment with file contents: the file's pages that hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSegment {
    pub file_offset: u64,
    pub filesz: u64,
}

impl ImageSegment {
    /// The file's bytes from the first to the last page, cut at the end of the file.
    fn pages(&self, file_bytes: u64) -> Range<usize> {
        let start = self.file_offset / PAGE_BYTES * PAGE_BYTES;
        let end = (self.file_offset + self.filesz).next_multiple_of(PAGE_BYTES).min(file_bytes);
        start.min(end) as usize..end as usize
    }
}

/// Appends the section to a module and returns, per file and segment, the offset of its first page.
pub(crate) fn append(module: &mut Vec<u8>, files: &[(&[u8], &[ImageSegment])]) -> Vec<Vec<u64>> {
    // Section id, size in five bytes so that its length is known beforehand, name.
    let header = 1 + 5 + 1 + NAME.len();
    let first = (module.len() + header).next_multiple_of(PAGE_BYTES as usize);
    let mut body = Vec::new();
    let mut offsets = Vec::new();
    for (file, segments) in files {
        offsets.push(segments.iter().map(|s| place(&mut body, first as u64, file, s)).collect());
    }
    let padding = first - module.len() - header;
    let size = 1 + NAME.len() + padding + body.len();
    module.push(0);
    module.extend((0..5).map(|i| (size >> (7 * i)) as u8 & 0x7f | if i < 4 { 0x80 } else { 0 }));
    module.push(NAME.len() as u8);
    module.extend(NAME);
    module.resize(first, 0);
    module.append(&mut body);
    offsets
}

fn place(body: &mut Vec<u8>, first: u64, file: &[u8], segment: &ImageSegment) -> u64 {
    let at = first + body.len() as u64;
    body.extend(&file[segment.pages(file.len() as u64)]);
    body.resize(body.len().next_multiple_of(PAGE_BYTES as usize), 0);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_lies_on_a_page_of_the_file_with_its_neighbours_bytes() {
        let file: Vec<u8> = (0..10000u32).map(|i| (i % 251) as u8).collect();
        let segments = [ImageSegment { file_offset: 0, filesz: 100 }, ImageSegment { file_offset: 4100, filesz: 5900 }];
        let mut module = wasm_encoder::Module::new().finish();
        let offsets = append(&mut module, &[(&file, &segments)]);
        wasmparser::validate(&module).unwrap();
        assert!(offsets[0].iter().all(|o| o % PAGE_BYTES == 0));
        let at = |i: usize| offsets[0][i] as usize;
        assert_eq!(module[at(0)..at(0) + 4096], file[..4096]);
        assert_eq!(module[at(1)..at(1) + 5904], file[4096..]);
        assert_eq!(module[at(1) + 5904..], vec![0; 8192 - 5904]);
    }
}
