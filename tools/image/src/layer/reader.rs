//! The members of a tar stream, one after the other, in bounded memory.
//!
//! Owns blocks, checksums, padding, extended headers and sparse maps; the `tar` crate reads the fields of a header. Its own iterator is not used because it holds long names of any size in memory and hides sparse maps.
//! The fact a newcomer gets wrong: links, directories and devices have no data whatever their size field says (as in Go's reader, which made most images); taking it seriously would let one archive mean two things.

use super::error::LayerError;
use super::limits::{Budget, MAX_EXTENDED_BYTES};
use super::member::{Extended, Extent, Kind, Member};
use std::io::Read;
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: usize = 512;

pub(super) struct Members<'b, R> {
    input: R,
    pub(super) budget: &'b mut Budget,
    offset: u64,
    /// Data of the current member not read yet, and the zeros that fill its last block.
    left: u64,
    padding: u64,
}

impl<'b, R: Read> Members<'b, R> {
    pub(super) fn new(input: R, budget: &'b mut Budget) -> Members<'b, R> {
        Members { input, budget, offset: 0, left: 0, padding: 0 }
    }

    /// The next member; its data is read with `read`, and what is not read is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Member>, LayerError> {
        self.skip()?;
        let mut extended = Extended::default();
        let mut pending = false;
        loop {
            let at = self.offset;
            let wrong = |reason: String| LayerError::Header { offset: at, reason };
            let mut block = [0; BLOCK];
            let whole = self.block(&mut block)?;
            if !whole || block == [0; BLOCK] {
                return if pending { Err(wrong("an extended header belongs to nothing".into())) } else { Ok(None) };
            }
            let header = Header::from_byte_slice(&block);
            checksum(header, &block).map_err(wrong)?;
            let kind = header.entry_type();
            pending = true;
            match kind {
                EntryType::XHeader => extended.records(&self.extended(header, at)?).map_err(wrong)?,
                EntryType::GNULongName => extended.path = Some(terminated(self.extended(header, at)?)),
                EntryType::GNULongLink => extended.link = Some(terminated(self.extended(header, at)?)),
                // Docker and Go ignore global records; obeying them would make this reader see other names than they do.
                EntryType::XGlobalHeader => {
                    self.extended(header, at)?;
                    pending = false;
                }
                _ => {
                    self.budget.entry()?;
                    let map_in_data = extended.sparse.map_in_data;
                    let mut member = Member::new(header, extended).map_err(wrong)?;
                    if kind == EntryType::GNUSparse {
                        self.more_extents(header, &mut member).map_err(|e| at_offset(e, at))?;
                    }
                    if member.kind != Kind::File {
                        member.stored = 0;
                    }
                    self.expect(member.stored);
                    if map_in_data && member.kind == Kind::File {
                        self.map_in_data(&mut member).map_err(|e| at_offset(e, at))?;
                    }
                    member.check_sparse()?;
                    return Ok(Some(member));
                }
            }
        }
    }

    /// Where the current member's data begins, until some of it is read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Data of the current member; 0 at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.some(&mut buffer[..want])?;
        if n == 0 {
            return Err(LayerError::Truncated("it ends within a file's data"));
        }
        self.left -= n as u64;
        Ok(n)
    }

    /// Everything after the archive's end, so that a digest over the whole stream covers it.
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        let mut sink = vec![0; 64 << 10];
        while self.some(&mut sink)? != 0 {}
        Ok(())
    }

    fn expect(&mut self, stored: u64) {
        self.left = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<(), LayerError> {
        let mut sink = vec![0; 16 << 10];
        while self.read(&mut sink)? != 0 {}
        let padding = std::mem::take(&mut self.padding) as usize;
        // The last padding is missing from archives of some old tools.
        self.exactly(&mut sink[..padding]).map(drop)
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            match self.input.read(buffer) {
                Ok(n) => {
                    self.offset += n as u64;
                    self.budget.bytes(n as u64)?;
                    return Ok(n);
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => self.budget.bytes(0)?,
                Err(e) => return Err(LayerError::Io(e)),
            }
        }
    }

    /// How much of the buffer was filled before the end.
    fn exactly(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.some(&mut buffer[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// A header block; `false` at the end.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, LayerError> {
        match self.exactly(block)? {
            0 => Ok(false),
            BLOCK => Ok(true),
            _ => Err(LayerError::Truncated("it ends within a header")),
        }
    }

    /// The data of an extended header.
    fn extended(&mut self, header: &Header, at: u64) -> Result<Vec<u8>, LayerError> {
        let wrong = |reason: &str| LayerError::Header { offset: at, reason: reason.into() };
        let size = header.entry_size().map_err(|_| wrong("an extended header's size is malformed"))?;
        if size > MAX_EXTENDED_BYTES {
            return Err(wrong("an extended header is larger than 1 MiB"));
        }
        let mut data = vec![0; size as usize];
        if self.exactly(&mut data)? != data.len() {
            return Err(LayerError::Truncated("it ends within an extended header"));
        }
        self.expect(size);
        self.left = 0;
        self.skip()?;
        Ok(data)
    }

    /// The blocks of a GNU sparse map that do not fit the header.
    fn more_extents(&mut self, header: &Header, member: &mut Member) -> Result<(), LayerError> {
        let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        let extents = member.sparse.get_or_insert_default();
        while more {
            if extents.len() as u64 > MAX_EXTENDED_BYTES / 24 {
                return Err(LayerError::Truncated("a sparse map has too many pieces"));
            }
            let mut block = GnuExtSparseHeader::new();
            if self.exactly(block.as_mut_bytes())? != BLOCK {
                return Err(LayerError::Truncated("it ends within a sparse map"));
            }
            for s in block.sparse().iter().filter(|s| !s.is_empty()) {
                match (s.offset(), s.length()) {
                    (Ok(offset), Ok(bytes)) => extents.push(Extent { offset, bytes }),
                    _ => return Err(LayerError::Truncated("a sparse map is malformed")),
                }
            }
            more = block.is_extended();
        }
        Ok(())
    }

    /// Version 1.0 of PAX sparse files: decimal lines in whole blocks before the data.
    fn map_in_data(&mut self, member: &mut Member) -> Result<(), LayerError> {
        let malformed = || LayerError::Truncated("a sparse map is malformed");
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        loop {
            let mut block = [0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read(&mut block[filled..])? {
                    0 => return Err(malformed()),
                    n => filled += n,
                }
            }
            member.stored = member.stored.checked_sub(BLOCK as u64).ok_or_else(malformed)?;
            text.extend_from_slice(&block);
            if text.len() as u64 > MAX_EXTENDED_BYTES {
                return Err(malformed());
            }
            while let Some(end) = text.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                numbers.push(std::str::from_utf8(&line[..end]).ok().and_then(|t| t.parse().ok()).ok_or_else(malformed)?);
                if numbers.len() as u64 == numbers[0].checked_mul(2).and_then(|n| n.checked_add(1)).ok_or_else(malformed)? {
                    member.sparse = Some(numbers[1..].chunks_exact(2).map(|p| Extent { offset: p[0], bytes: p[1] }).collect());
                    return Ok(());
                }
            }
        }
    }
}

fn at_offset(error: LayerError, offset: u64) -> LayerError {
    match error {
        LayerError::Truncated(reason) if reason.starts_with("a sparse") => LayerError::Header { offset, reason: reason.into() },
        other => other,
    }
}

fn terminated(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
    name
}

/// The sum of all bytes with the checksum's own taken as spaces.
fn checksum(header: &Header, block: &[u8; BLOCK]) -> Result<(), String> {
    let sum = block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum::<u32>();
    match header.cksum() {
        Ok(listed) if listed == sum => Ok(()),
        _ => Err("its checksum is wrong".into()),
    }
}
