//! Mapping signed objects: what happens when the guest's ld.so maps a library, and when exec maps a program.
//!
//! The fact a newcomer gets wrong: ld.so maps a library first with one PROT_READ mapping of its whole length, exactly like a tool that reads ELF
//! files would. MAP_DENYWRITE together with the length tells them apart (02, 11). From then on every MAP_FIXED mapping of the same file inside the
//! slot is satisfied from `vkernel.image`.

use super::ledger::{Area, Backing};
use super::map::{Request, check_fixed, move_in};
use super::{Memory, PAGE, host_prot};
use crate::errno::Errno;
use crate::host::{Host, Object, ObjectId, Segment};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

impl Memory {
    /// The object's part in a file mapping: `Some(address)` when it is satisfied from the image, `None` when the file is just a file.
    pub(super) fn map_object(&mut self, host: &dyn Host, r: &Request) -> Result<Option<u64>, Errno> {
        if r.is_shared() {
            return Ok(None);
        }
        if r.is_fixed()
            && let Some(id) = self.loaded_slot(host, r)
        {
            return self.remap_segment(host, id, r);
        }
        let as_loader = r.flags & libc::MAP_DENYWRITE != 0 || r.prot & libc::PROT_EXEC != 0;
        if !as_loader || r.offset != 0 {
            return Ok(None);
        }
        if r.fd < 0 {
            return Err(Errno::EBADF);
        }
        // SAFETY: the guest's descriptor; if it is not open the query fails with EBADF.
        let Some(id) = host.library(unsafe { BorrowedFd::borrow_raw(r.fd) })? else { return Ok(None) };
        let object = host.object(id);
        if r.len != object.end - object.start || (r.is_fixed() && r.addr != object.start) {
            return Ok(None);
        }
        if !self.areas.is_free(object.start, object.end) && !r.is_fixed() {
            return Err(Errno::ENOMEM);
        }
        // What is mapped to be read alone is not copied before it is mapped to be written, segment by segment.
        let allowed = if r.prot & libc::PROT_WRITE == 0 { r.prot } else { !0 };
        self.place_allowed(host, id, file_identity(r.fd), allowed)?;
        self.fill_gaps(object, id);
        Ok(Some(object.start))
    }

    /// Maps all segments of an object at its slot and binds its code.
    pub fn place_object(&mut self, host: &dyn Host, id: ObjectId, identity: (u64, u64)) -> Result<(), Errno> {
        self.place_allowed(host, id, identity, !0)
    }

    /// `allowed`: what of the segments' protection they get for now.
    fn place_allowed(&mut self, host: &dyn Host, id: ObjectId, identity: (u64, u64), allowed: i32) -> Result<(), Errno> {
        let object = host.object(id);
        check_fixed(object.start, object.end - object.start)?;
        self.host_clear(object.start, object.end - object.start)?;
        self.forget(host, object.start, object.end);
        let path: Arc<str> = object.path.to_string_lossy().into();
        for segment in &object.segments {
            let prot = segment.prot & allowed;
            self.place_segment(host, segment, prot)?;
            let backing = Backing::Object { id, path: path.clone() };
            let area = Area { end: segment.start + segment.mem_len, prot, shared: false, offset: segment.file_offset, backing };
            self.areas.insert(segment.start, area);
        }
        self.loaded.insert(id, identity);
        host.bind(id);
        Ok(())
    }

    /// ld.so takes holes between segments for mapped (the first mapping has the whole length) and protects them.
    fn fill_gaps(&mut self, object: &Object, id: ObjectId) {
        let path: Arc<str> = object.path.to_string_lossy().into();
        let mut at = object.start;
        let mut gaps = Vec::new();
        for (start, area) in self.areas.overlapping(object.start, object.end) {
            if start > at {
                gaps.push((at, start));
            }
            at = area.end;
        }
        for (start, end) in gaps {
            let backing = Backing::Object { id, path: path.clone() };
            self.areas.insert(start, Area { end, prot: libc::PROT_NONE, shared: false, offset: start - object.start, backing });
        }
    }

    /// Image pages, then zero pages.
    fn place_segment(&self, host: &dyn Host, s: &Segment, prot: i32) -> Result<(), Errno> {
        let file_pages = ((s.image_len + PAGE - 1) & !(PAGE - 1)).min(s.mem_len);
        if file_pages > 0 {
            self.place_image(host, s, s.start, file_pages, prot)?;
        }
        if s.mem_len > file_pages {
            self.host_map(s.start + file_pages, s.mem_len - file_pages, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
        }
        Ok(())
    }

    /// `len` bytes of the image at guest address `start` inside segment `s`; what the image does not have of the last page reads as zero.
    fn place_image(&self, host: &dyn Host, s: &Segment, start: u64, len: u64, prot: i32) -> Result<(), Errno> {
        let at = self.window.range(start, len)?;
        host.map_image(at, len as usize, s.image_offset + (start - s.start), host_prot(prot))?;
        let tail = s.start + s.image_len;
        if prot & libc::PROT_WRITE != 0 && tail > start && tail < start + len {
            let zeros = vec![0; (start + len - tail) as usize];
            self.window.copy_out(tail, &zeros)?;
        }
        Ok(())
    }

    /// The loaded object whose slot holds this fixed mapping of the same file.
    fn loaded_slot(&self, host: &dyn Host, r: &Request) -> Option<ObjectId> {
        let end = r.addr.checked_add(r.len)?;
        let inside = |id: &ObjectId| {
            let o = host.object(*id);
            o.start <= r.addr && end <= o.end
        };
        let (id, identity) = self.loaded.iter().find(|(id, _)| inside(id))?;
        (*identity == file_identity(r.fd) && *identity != NOBODY).then_some(*id)
    }

    /// A later MAP_FIXED mapping of the library's file inside its slot.
    fn remap_segment(&mut self, host: &dyn Host, id: ObjectId, r: &Request) -> Result<Option<u64>, Errno> {
        let object = host.object(id);
        let Some(s) = segment_at(object, r.addr, r.offset) else { return Ok(None) };
        if r.prot & libc::PROT_EXEC != 0 && s.prot & libc::PROT_EXEC == 0 {
            return Ok(None);
        }
        let have = ((s.image_len + PAGE - 1) & !(PAGE - 1)).min(s.mem_len).saturating_sub(r.addr - s.start);
        let len = r.len.min(have);
        if len > 0 {
            self.place_image(host, s, r.addr, len, r.prot)?;
        }
        if r.len > len {
            self.host_map(r.addr + len, r.len - len, r.prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)?;
        }
        let backing = Backing::Object { id, path: object.path.to_string_lossy().into() };
        self.areas.insert(r.addr, Area { end: r.addr + r.len, prot: r.prot, shared: false, offset: r.offset, backing });
        Ok(Some(r.addr))
    }

    /// Puts private copies in the place of the pages of objects in `start..end` that the guest cannot write now, with what they hold: some are the image's own, others were relocated before they were protected. Nobody writes
    /// them meanwhile.
    pub(super) fn own_object_pages(&self, start: u64, end: u64) -> Result<(), Errno> {
        let parts = self.areas.overlapping(start, end).filter(|(_, a)| matches!(a.backing, Backing::Object { .. }) && a.prot & libc::PROT_WRITE == 0);
        for (from, area) in parts {
            let (from, to) = (from.max(start), area.end.min(end));
            let (target, len) = (self.window.range(from, to - from)?, (to - from) as usize);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: the pages are the guest's and stay mapped: they are made readable, and copied to a new mapping that nobody knows. All of an object's pages have bytes behind them.
            let copy = unsafe {
                if libc::mprotect(target.cast(), len, libc::PROT_READ) != 0 {
                    return Err(Errno::last());
                }
                let copy = libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
                if copy == libc::MAP_FAILED {
                    return Err(Errno::last());
                }
                std::ptr::copy_nonoverlapping(target, copy.cast::<u8>(), len);
                libc::mprotect(copy, len, host_prot(area.prot));
                copy
            };
            move_in(copy.cast(), target, to - from)?;
        }
        Ok(())
    }

    /// Whether `start..end` is all text of signed objects.
    pub(super) fn is_text(&self, host: &dyn Host, start: u64, end: u64) -> bool {
        self.areas.overlapping(start, end).all(|(s, area)| match &area.backing {
            Backing::Object { id, .. } => {
                let (from, to) = (s.max(start), area.end.min(end));
                let text = |g: &&Segment| g.prot & libc::PROT_EXEC != 0 && g.start <= from && to <= g.start + g.mem_len;
                host.object(*id).segments.iter().any(|g| text(&g))
            }
            _ => false,
        })
    }
}

/// The segment a mapping of `offset` at `addr` belongs to.
fn segment_at(object: &Object, addr: u64, offset: u64) -> Option<&Segment> {
    object.segments.iter().find(|s| s.start <= addr && addr < s.start + s.mem_len && s.file_offset + (addr - s.start) == offset)
}

/// The identity of no file.
const NOBODY: (u64, u64) = (0, 0);

/// Device and inode of an open file, or `NOBODY`.
pub(crate) fn file_identity(fd: std::os::fd::RawFd) -> (u64, u64) {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fstat writes one stat structure; zeroed is a valid value if it fails.
    unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            return NOBODY;
        }
        let stat = stat.assume_init();
        (stat.st_dev, stat.st_ino)
    }
}
