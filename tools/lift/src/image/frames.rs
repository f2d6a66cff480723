//! Call frame descriptions (.eh_frame) and the landing pads of their language-specific data (.gcc_except_table).
//!
//! Owns turning them into sorted, disjoint `Frame`s. Refuses to own unwinding. The fact a newcomer gets wrong: damage here is not an
//! error; what can be read is used, because frames are hints for discovery and never decide what code does.

use super::header::Header;
use super::{Frame, Image};
use gimli::{BaseAddresses, CfaRule, CieOrFde, EhFrame, EhFrameHdr, LittleEndian, Pointer, Reader, UnwindContext, UnwindSection};
use std::collections::HashMap;

const RSP: u16 = 7;
/// No compiler writes longer entries; evaluating them for every frame would let a hostile file take quadratic time.
const MAX_ENTRY: usize = 4096;
/// Call sites read in all.
const MAX_CALL_SITES: usize = 1 << 22;

pub(super) fn read(header: &Header, image: &Image) -> Vec<Frame> {
    let Some(start) = eh_frame_address(header, image) else { return Vec::new() };
    let section = EhFrame::new(image.rest(start), LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(start);
    let mut entries = section.entries(&bases);
    let mut cies = HashMap::new();
    let mut context = UnwindContext::new();
    let mut frames = Vec::new();
    let mut call_sites = MAX_CALL_SITES;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let parsed = partial.parse(|section, bases, offset| {
            if let Some(cie) = cies.get(&offset.0) {
                return Ok::<_, gimli::Error>(Clone::clone(cie));
            }
            let cie = section.cie_from_offset(bases, offset)?;
            cies.insert(offset.0, cie.clone());
            Ok(cie)
        });
        let Ok(fde) = parsed else { continue };
        // The frame of a signal trampoline begins one byte early, so that unwinders that look up pc - 1 find it.
        let early = u64::from(fde.is_signal_trampoline());
        let (from, to) = (fde.initial_address().wrapping_add(early), fde.end_address());
        if from >= to || !image.is_code(from) {
            continue;
        }
        let short = fde.entry_len() <= MAX_ENTRY && fde.cie().entry_len() <= MAX_ENTRY;
        let mid_frame = short
            && fde.rows(&section, &bases, &mut context).is_ok_and(|mut rows| {
                rows.next_row().is_ok_and(|row| row.is_some_and(|r| !matches!(r.cfa(), CfaRule::RegisterAndOffset { register, offset: 8 } if register.0 == RSP)))
            });
        let landing_pads = match fde.lsda() {
            Some(Pointer::Direct(lsda)) => landing_pads(image, lsda, from, &mut call_sites).unwrap_or_default(),
            _ => Vec::new(),
        };
        frames.push(Frame { start: from, end: to, mid_frame, catches: fde.lsda().is_some(), landing_pads });
    }
    disjoint(frames, image)
}

fn eh_frame_address(header: &Header, image: &Image) -> Option<u64> {
    if let Some(address) = header.eh_frame_header() {
        let bases = BaseAddresses::default().set_eh_frame_hdr(address);
        if let Ok(parsed) = EhFrameHdr::new(image.rest(address), LittleEndian).parse(&bases, 8)
            && let Pointer::Direct(start) = parsed.eh_frame_ptr()
        {
            return Some(start);
        }
    }
    header.eh_frame_section.map(|address| image.base.wrapping_add(address))
}

/// Sorts by address, cuts each frame where the next begins or its segment ends.
fn disjoint(mut frames: Vec<Frame>, image: &Image) -> Vec<Frame> {
    frames.sort_by_key(|f| (f.start, std::cmp::Reverse(f.end)));
    frames.dedup_by_key(|f| f.start);
    let starts: Vec<u64> = frames.iter().skip(1).map(|f| f.start).chain([u64::MAX]).collect();
    for (frame, next) in frames.iter_mut().zip(starts) {
        let segment_end = image.segment(frame.start).map_or(frame.start, |s| s.file_end());
        frame.end = frame.end.min(next).min(segment_end);
    }
    frames
}

/// The call-site table of an LSDA (Itanium C++ ABI, level 2): header, then {start, length, landing pad, action} in a stated encoding.
fn landing_pads(image: &Image, lsda: u64, function: u64, call_sites: &mut usize) -> Option<Vec<u64>> {
    let mut cursor = gimli::EndianSlice::new(image.rest(lsda), LittleEndian);
    let position = |c: &gimli::EndianSlice<'_, LittleEndian>| lsda + (image.rest(lsda).len() - c.len()) as u64;
    let base_encoding = cursor.read_u8().ok()?;
    let base = if base_encoding == 0xff {
        function
    } else {
        let at = position(&cursor);
        read_encoded(&mut cursor, base_encoding, at)?
    };
    if cursor.read_u8().ok()? != 0xff {
        cursor.read_uleb128().ok()?;
    }
    let encoding = cursor.read_u8().ok()?;
    let length = cursor.read_uleb128().ok()?;
    let mut table = cursor;
    table.truncate(usize::try_from(length).ok()?.min(cursor.len())).ok()?;
    let mut pads = Vec::new();
    while !table.is_empty() {
        *call_sites = call_sites.checked_sub(1)?;
        let mut fields = [0u64; 3];
        for field in &mut fields {
            let at = position(&table);
            *field = read_encoded(&mut table, encoding, at)?;
        }
        table.read_uleb128().ok()?;
        let pad = base.wrapping_add(fields[2]);
        if fields[2] != 0 && image.is_code(pad) {
            pads.push(pad);
        }
    }
    pads.sort_unstable();
    pads.dedup();
    Some(pads)
}

/// A DW_EH_PE value: format in the low four bits, pc-relative if bit 4 is set.
fn read_encoded(cursor: &mut gimli::EndianSlice<'_, LittleEndian>, encoding: u8, position: u64) -> Option<u64> {
    let value = match encoding & 15 {
        0 | 4 | 12 => cursor.read_u64().ok()?,
        1 => cursor.read_uleb128().ok()?,
        2 => cursor.read_u16().ok()?.into(),
        3 => cursor.read_u32().ok()?.into(),
        9 => cursor.read_sleb128().ok()? as u64,
        10 => cursor.read_i16().ok()? as u64,
        11 => cursor.read_i32().ok()? as u64,
        _ => return None,
    };
    match encoding & 0x70 {
        0x00 => Some(value),
        0x10 if value != 0 => Some(value.wrapping_add(position)),
        0x10 => Some(0),
        _ => None,
    }
}
