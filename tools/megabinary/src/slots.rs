//! Which guest address each ELF object gets.
//!
//! Owns the allocation: the preferred place comes from BLAKE3 of the object's path, collisions probe upwards in the order of the paths, so that one object's change rarely moves another (its
//! cached code holds absolute constants). Does not read ELF files. The fact a newcomer gets wrong: a slot is larger than its object, so that a rebuilt library stays where it was.

use std::collections::BTreeMap;
use std::ops::Range;
use thiserror::Error;

/// Guest addresses that slots may take: above where most non-PIE executables live, below the code limit.
pub const RANGE: Range<u64> = 0x0100_0000..0x3fff_0000;

/// Slots begin at multiples of this.
pub const GRANULE_BYTES: u64 = 64 << 10;

/// What allocation needs to know of an object.
#[derive(Clone, Debug)]
pub struct Object {
    pub path: String,
    /// From the first to past the last byte of its segments, as the file says.
    pub span: Range<u64>,
    /// Largest p_align; 0 or 1 when it does not matter.
    pub align: u64,
    /// Linked at fixed addresses: keeps them, base 0.
    pub non_pie: bool,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    #[error("{path}: {bytes} bytes do not fit between the other objects' addresses: include fewer programs")]
    Full { path: String, bytes: u64 },
    #[error("{path}: its fixed addresses {start:#x}..{end:#x} are outside 0x10000..0x3fff0000: relink it as PIE")]
    Fixed { path: String, start: u64, end: u64 },
    #[error("{path}: a segment alignment of {align:#x} is not a power of two up to 0x200000: relink it")]
    Align { path: String, align: u64 },
    #[error("{path}: its lowest address {start:#x} is too high for a position-independent object: relink it")]
    Prelinked { path: String, start: u64 },
}

/// The base of each object, in the order given: guest address = base + the file's address. Paths must be distinct.
pub fn allocate(objects: &[Object]) -> Result<Vec<u64>, SlotError> {
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by(|&a, &b| objects[a].path.cmp(&objects[b].path));
    let mut taken = fixed(objects)?;
    let mut bases = vec![0; objects.len()];
    for i in order {
        let object = &objects[i];
        if object.non_pie {
            continue;
        }
        let align = object.align.max(GRANULE_BYTES);
        if !align.is_power_of_two() || align > 2 << 20 {
            return Err(SlotError::Align { path: object.path.clone(), align });
        }
        let first = object.span.start / align * align;
        let bytes = with_room(object.span.end - first);
        let start = probe(&taken, preferred(&object.path, align), bytes, align).ok_or_else(|| SlotError::Full { path: object.path.clone(), bytes })?;
        taken.insert(start, start + bytes);
        bases[i] = start.checked_sub(first).ok_or_else(|| SlotError::Prelinked { path: object.path.clone(), start: first })?;
    }
    Ok(bases)
}

/// What the executables at fixed addresses take, start to end, disjoint. They may share addresses with each other, never with a library.
fn fixed(objects: &[Object]) -> Result<BTreeMap<u64, u64>, SlotError> {
    let mut spans: Vec<&Object> = objects.iter().filter(|o| o.non_pie).collect();
    spans.sort_by_key(|o| o.span.start);
    let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
    for Object { path, span, .. } in spans {
        if span.start < GRANULE_BYTES || span.end > RANGE.end {
            return Err(SlotError::Fixed { path: path.clone(), start: span.start, end: span.end });
        }
        match taken.last_entry() {
            Some(mut last) if span.start <= *last.get() => *last.get_mut() = span.end.max(*last.get()),
            _ => drop(taken.insert(span.start, span.end)),
        }
    }
    Ok(taken)
}

/// A quarter more, rounded up: security updates of a library seldom grow it beyond that.
fn with_room(bytes: u64) -> u64 {
    (bytes + bytes / 4).next_multiple_of(GRANULE_BYTES).max(GRANULE_BYTES)
}

fn preferred(path: &str, align: u64) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    let number = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
    let first = RANGE.start.next_multiple_of(align);
    first + number % ((RANGE.end - first) / align) * align
}

/// The first free place at or above `from`, else the first free place at all.
fn probe(taken: &BTreeMap<u64, u64>, from: u64, bytes: u64, align: u64) -> Option<u64> {
    let from_up = |mut at: u64| {
        while at + bytes <= RANGE.end {
            match taken.range(..at + bytes).next_back() {
                Some((_, &end)) if end > at => at = end.next_multiple_of(align),
                _ => return Some(at),
            }
        }
        None
    };
    from_up(from).or_else(|| from_up(RANGE.start.next_multiple_of(align)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str, bytes: u64) -> Object {
        Object { path: path.into(), span: 0..bytes, align: 4096, non_pie: false }
    }

    #[test]
    fn slots_are_disjoint_in_range_and_aligned() {
        let objects: Vec<_> = (0..300).map(|i| object(&format!("/lib/{i}"), 1 + i * 9973)).collect();
        let bases = allocate(&objects).unwrap();
        let mut ranges: Vec<_> = bases.iter().zip(&objects).map(|(b, o)| *b..*b + o.span.end).collect();
        ranges.sort_by_key(|r| r.start);
        assert!(ranges.windows(2).all(|w| w[0].end <= w[1].start));
        assert!(ranges.iter().all(|r| r.start >= RANGE.start && r.end <= RANGE.end && r.start % GRANULE_BYTES == 0));
    }

    #[test]
    fn an_object_stays_where_it_was_when_others_come_go_or_grow() {
        let a = allocate(&[object("/lib/a", 9 << 16), object("/lib/b", 1 << 16)]).unwrap();
        let b = allocate(&[object("/lib/c", 5), object("/lib/a", 10 << 16)]).unwrap();
        assert_eq!(a[0], b[1]);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let mut objects: Vec<_> = (0..60).map(|i| object(&format!("/bin/{i}"), 8 << 20)).collect();
        let forward = allocate(&objects).unwrap();
        objects.reverse();
        let mut backward = allocate(&objects).unwrap();
        backward.reverse();
        assert_eq!(forward, backward);
    }

    #[test]
    fn fixed_executables_keep_their_addresses_and_may_share_them() {
        let fixed = |path: &str| Object { path: path.into(), span: 0x400000..0x500000, align: 4096, non_pie: true };
        assert_eq!(allocate(&[fixed("/a"), fixed("/b")]).unwrap(), [0, 0]);
        let high = Object { span: 0x400000..0x4000_0000, ..fixed("/c") };
        assert!(matches!(allocate(&[high]), Err(SlotError::Fixed { .. })));
    }

    #[test]
    fn libraries_keep_off_large_executables_at_fixed_addresses() {
        let fixed = |path: &str, span: Range<u64>| Object { path: path.into(), span, align: 4096, non_pie: true };
        let mut objects: Vec<_> = (0..300).map(|i| object(&format!("/lib/{i}"), 1 << 20)).collect();
        let before = allocate(&objects).unwrap();
        objects.extend([fixed("/cc1", 0x400000..0x256_cd20), fixed("/a", 0x400000..0x500000), fixed("/high", 0x2000_0000..0x2100_0000)]);
        let bases = allocate(&objects).unwrap();
        let clear = |b: u64| b >= 0x256_cd20 && (b + (1 << 20) <= 0x2000_0000 || b >= 0x2100_0000);
        assert!(bases[..300].iter().all(|b| clear(*b)));
        assert_eq!(bases[300..], [0, 0, 0]);
        // Who was out of the way stays where it was, but for what now probes before it.
        let stayed = before.iter().zip(&bases).filter(|(a, b)| a == b).count();
        assert!(stayed > 250, "{stayed}");
    }

    #[test]
    fn says_which_object_no_longer_fits() {
        let objects: Vec<_> = (0..9).map(|i| object(&format!("/lib/{i}"), 128 << 20)).collect();
        assert!(matches!(allocate(&objects), Err(SlotError::Full { .. })));
    }
}
