//! The ledger: which page ranges of the window the guest has mapped, with what protection and backing. Pure data; makes no system call.
//!
//! The fact a newcomer gets wrong: `prot` is the *guest's* view (PROT_EXEC for object text); the host's protection never has PROT_EXEC.

use crate::host::ObjectId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a range holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    Anonymous,
    Heap,
    Stack,
    /// A file: device, inode, path as /proc/self/fd showed it.
    File {
        device: u64,
        inode: u64,
        path: Arc<str>,
    },
    /// A segment of a signed object.
    Object {
        id: ObjectId,
        path: Arc<str>,
    },
}

/// One mapped range; its start is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    pub end: u64,
    pub prot: i32,
    pub shared: bool,
    /// Offset of the start in the file.
    pub offset: u64,
    pub backing: Backing,
}

impl Area {
    /// What RLIMIT_DATA counts: private writable memory that is no stack.
    pub(super) fn is_data(&self) -> bool {
        self.prot & libc::PROT_WRITE != 0 && !self.shared && self.backing != Backing::Stack
    }

    fn has_offset(&self) -> bool {
        matches!(self.backing, Backing::File { .. } | Backing::Object { .. })
    }

    /// Whether `next`, which begins where this ends, continues it.
    fn continues(&self, start: u64, next: &Area) -> bool {
        self.prot == next.prot && self.shared == next.shared && self.backing == next.backing && (!self.has_offset() || self.offset + (self.end - start) == next.offset)
    }
}

/// The interval map: no overlaps, neighbours merged.
#[derive(Default)]
pub struct Ledger {
    areas: BTreeMap<u64, Area>,
    mapped: u64,
}

impl Ledger {
    /// Ranges in address order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Area)> {
        self.areas.iter().map(|(s, a)| (*s, a))
    }

    /// Bytes mapped.
    pub fn mapped(&self) -> u64 {
        self.mapped
    }

    pub fn clear(&mut self) {
        self.areas.clear();
        self.mapped = 0;
    }

    /// The range that holds `addr`.
    pub fn at(&self, addr: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.areas.range(..=addr).next_back()?;
        (area.end > addr).then_some((*start, area))
    }

    /// Ranges that intersect `start..end`; none if that is empty or the wrong way round.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &Area)> {
        let first = if start < end { self.at(start).map_or(start, |(s, _)| s) } else { end };
        self.areas.range(first..end).map(|(s, a)| (*s, a))
    }

    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// Every page of `start..end` is mapped.
    pub fn is_covered(&self, start: u64, end: u64) -> bool {
        self.covered_until(start, end) >= end
    }

    /// End of the mapped pages that begin at `start`, at most `end`.
    pub fn covered_until(&self, start: u64, end: u64) -> u64 {
        let mut at = start;
        for (s, area) in self.overlapping(start, end) {
            if s > at {
                return at;
            }
            at = area.end;
        }
        at.min(end)
    }

    /// Cuts the range that contains `at` in two.
    fn split(&mut self, at: u64) {
        let Some((start, area)) = self.at(at) else { return };
        if start == at {
            return;
        }
        let mut tail = area.clone();
        if tail.has_offset() {
            tail.offset += at - start;
        }
        self.areas.get_mut(&start).expect("just found").end = at;
        self.areas.insert(at, tail);
    }

    /// Forgets `start..end`; returns what was there.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<(u64, Area)> {
        self.split(start);
        self.split(end);
        let keys: Vec<u64> = self.areas.range(start..end).map(|(s, _)| *s).collect();
        let gone: Vec<_> = keys.into_iter().map(|s| (s, self.areas.remove(&s).expect("listed above"))).collect();
        self.mapped -= gone.iter().map(|(s, a)| a.end - s).sum::<u64>();
        gone
    }

    /// Records a range, replacing what was there.
    pub fn insert(&mut self, start: u64, area: Area) {
        let end = area.end;
        self.remove(start, end);
        self.mapped += end - start;
        self.areas.insert(start, area);
        self.merge_at(end);
        self.merge_at(start);
    }

    /// Changes the protection of mapped pages in `start..end`.
    pub fn protect(&mut self, start: u64, end: u64, prot: i32) {
        self.split(start);
        self.split(end);
        for (_, area) in self.areas.range_mut(start..end) {
            area.prot = prot;
        }
        let edges: Vec<u64> = self.areas.range(start..=end).map(|(s, _)| *s).collect();
        for at in edges.into_iter().rev() {
            self.merge_at(at);
        }
    }

    /// Joins the range that begins at `at` to the one that ends there.
    fn merge_at(&mut self, at: u64) {
        let Some(next) = self.areas.get(&at) else { return };
        let Some((start, before)) = self.areas.range(..at).next_back() else { return };
        if before.end == at && before.continues(*start, next) {
            let (start, end) = (*start, next.end);
            self.areas.remove(&at);
            self.areas.get_mut(&start).expect("found above").end = end;
        }
    }

    /// Highest free range of `len` bytes inside `low..high`.
    pub fn find_free(&self, len: u64, low: u64, high: u64) -> Option<u64> {
        let mut ceiling = high;
        for (start, area) in self.areas.range(..high).rev() {
            if area.end < ceiling && ceiling - area.end >= len && ceiling - len >= low {
                return Some(ceiling - len);
            }
            ceiling = ceiling.min(*start);
            if ceiling < low + len {
                return None;
            }
        }
        (ceiling >= low + len).then(|| ceiling - len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(end: u64, prot: i32) -> Area {
        Area { end, prot, shared: false, offset: 0, backing: Backing::Anonymous }
    }

    #[test]
    fn protecting_the_middle_splits_and_restoring_it_merges_again() {
        let mut l = Ledger::default();
        l.insert(0x1000, anonymous(0x5000, 3));
        l.protect(0x2000, 0x3000, 1);
        assert_eq!(l.iter().count(), 3);
        assert!(l.is_covered(0x1000, 0x5000));
        l.protect(0x2000, 0x3000, 3);
        assert_eq!(l.iter().count(), 1);
        assert_eq!(l.mapped(), 0x4000);
    }

    #[test]
    fn removing_the_middle_of_a_file_keeps_offsets_exact() {
        let mut l = Ledger::default();
        let backing = Backing::File { device: 1, inode: 2, path: "/x".into() };
        l.insert(0x1000, Area { end: 0x5000, prot: 1, shared: false, offset: 0x8000, backing });
        let gone = l.remove(0x2000, 0x3000);
        assert_eq!(gone.len(), 1);
        assert_eq!(l.at(0x3000).map(|(s, a)| (s, a.offset)), Some((0x3000, 0xa000)));
        assert!(l.is_free(0x2000, 0x3000));
        assert_eq!(l.mapped(), 0x3000);
    }

    #[test]
    fn free_space_is_found_from_the_top_down() {
        let mut l = Ledger::default();
        assert_eq!(l.find_free(0x1000, 0x1000, 0x9000), Some(0x8000));
        l.insert(0x8000, anonymous(0x9000, 3));
        l.insert(0x5000, anonymous(0x6000, 3));
        assert_eq!(l.find_free(0x1000, 0x1000, 0x9000), Some(0x7000));
        assert_eq!(l.find_free(0x3000, 0x1000, 0x9000), Some(0x2000));
        assert_eq!(l.find_free(0x5000, 0x1000, 0x9000), None);
    }

    #[test]
    fn a_range_that_is_the_wrong_way_round_holds_nothing() {
        let mut l = Ledger::default();
        l.insert(0x1000, anonymous(0x5000, 3));
        assert!(l.is_free(0x4000, 0x2000) && l.is_free(0x9000, 0x2000) && l.is_free(0x2000, 0x2000));
        assert!(!l.is_free(0x4fff, 0x5000));
    }
}
