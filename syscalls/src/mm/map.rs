//! mmap, munmap, mprotect, brk: the calls that decide what a page of the window holds.
//!
//! The fact a newcomer gets wrong: a file is first mapped outside the window and then moved in with mremap: a failing mmap(MAP_FIXED) may have
//! unmapped the target before it failed, and that hole could be filled by the runtime's own allocations.

use super::ledger::{Area, Backing};
use super::{CODE, HIGHEST, LOWEST, Memory, PAGE, host_prot, page_up};
use crate::errno::Errno;
use crate::guest::WINDOW_BYTES;
use crate::host::{Event, Host};
use crate::process::Limits;
use std::os::fd::RawFd;

/// The arguments of mmap(2) after the first checks: whole pages.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub addr: u64,
    pub len: u64,
    pub prot: i32,
    pub flags: i32,
    pub fd: RawFd,
    pub offset: u64,
}

/// Flags handed to the host; MAP_DENYWRITE and MAP_EXECUTABLE mean nothing there, MAP_GROWSDOWN and MAP_HUGETLB are not offered.
const PASSED: i32 = libc::MAP_NORESERVE | libc::MAP_POPULATE | libc::MAP_NONBLOCK | libc::MAP_LOCKED | libc::MAP_STACK | libc::MAP_SYNC;
const TYPE_MASK: i32 = 0x0f;

impl Request {
    pub fn new(args: [u64; 6]) -> Result<Self, Errno> {
        let [addr, len, prot, flags, fd, offset] = args;
        let (prot, flags) = (prot as i32, flags as i32);
        if len == 0 || offset % PAGE != 0 {
            return Err(Errno::EINVAL);
        }
        if !matches!(flags & TYPE_MASK, libc::MAP_SHARED | libc::MAP_PRIVATE | libc::MAP_SHARED_VALIDATE) || flags & libc::MAP_HUGETLB != 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).filter(|n| *n <= WINDOW_BYTES).ok_or(Errno::ENOMEM)?;
        Ok(Self { addr, len, prot, flags, fd: fd as RawFd, offset })
    }

    pub fn is_fixed(&self) -> bool {
        self.flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) != 0
    }

    pub fn is_anonymous(&self) -> bool {
        self.flags & libc::MAP_ANONYMOUS != 0
    }

    pub fn is_shared(&self) -> bool {
        self.flags & TYPE_MASK != libc::MAP_PRIVATE
    }
}

/// An inclusive check that a fixed range may be mapped.
pub(super) fn check_fixed(addr: u64, len: u64) -> Result<u64, Errno> {
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
    if addr < LOWEST {
        return Err(Errno::EPERM);
    }
    if end > HIGHEST { Err(Errno::ENOMEM) } else { Ok(end) }
}

impl Memory {
    /// mmap(2).
    pub fn mmap(&mut self, host: &dyn Host, limits: &Limits, r: Request) -> Result<u64, Errno> {
        self.check_growth(limits, r.prot, r.is_shared(), r.len).or_else(|e| self.replaces(limits, &r).ok_or(e))?;
        if !r.is_anonymous()
            && let Some(answer) = self.map_object(host, &r)?
        {
            return Ok(answer);
        }
        if r.prot & libc::PROT_EXEC != 0 {
            let path = if r.is_anonymous() { "anonymous".into() } else { fd_path(r.fd) };
            host.audit(&Event::ExecutableMapping { path: &path });
            return Err(Errno::EACCES);
        }
        let start = self.choose(&r)?;
        let backing = if r.is_anonymous() { self.map_anonymous(start, &r)? } else { self.map_file(start, &r)? };
        self.forget(host, start, start + r.len);
        self.areas.insert(start, Area { end: start + r.len, prot: r.prot, shared: r.is_shared(), offset: r.offset, backing });
        Ok(start)
    }

    /// Whether a mapping that goes where others are stays within the limits, because those go.
    fn replaces(&self, limits: &Limits, r: &Request) -> Option<()> {
        let end = if r.flags & libc::MAP_FIXED != 0 { check_fixed(r.addr, r.len).ok()? } else { return None };
        let gone: u64 = self.areas.overlapping(r.addr, end).map(|(start, a)| a.end.min(end) - start.max(r.addr)).sum();
        self.check_growth(limits, r.prot, r.is_shared(), r.len - gone).ok()
    }

    /// Where the mapping goes.
    fn choose(&self, r: &Request) -> Result<u64, Errno> {
        if r.is_fixed() {
            let end = check_fixed(r.addr, r.len)?;
            if r.flags & libc::MAP_FIXED_NOREPLACE != 0 && !self.areas.is_free(r.addr, end) {
                return Err(Errno::EEXIST);
            }
            return Ok(r.addr);
        }
        let hint = r.addr & !(PAGE - 1);
        if hint != 0
            && let Ok(end) = check_fixed(hint, r.len)
            && (hint >= CODE.end || end <= CODE.start)
            && end <= self.top()
            && self.areas.is_free(hint, end)
        {
            return Ok(hint);
        }
        let ceiling = if r.flags & libc::MAP_32BIT != 0 { 1 << 31 } else { self.top() };
        self.place(r.len, ceiling)
    }

    fn map_anonymous(&self, start: u64, r: &Request) -> Result<Backing, Errno> {
        let kind = if r.is_shared() { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        self.host_map(start, r.len, r.prot, kind | libc::MAP_ANONYMOUS | (r.flags & PASSED & !libc::MAP_SYNC))?;
        Ok(Backing::Anonymous)
    }

    fn map_file(&self, start: u64, r: &Request) -> Result<Backing, Errno> {
        let target = self.window.range(start, r.len)?;
        let flags = (r.flags & (TYPE_MASK | PASSED)) & !libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address the kernel chooses; nothing existing is touched.
        let outside = unsafe { libc::mmap(std::ptr::null_mut(), r.len as usize, host_prot(r.prot), flags, r.fd, r.offset as libc::off_t) };
        if outside == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        move_in(outside.cast(), target, r.len)?;
        let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
        // SAFETY: fstat writes one stat structure; zeroed is a valid value if it fails.
        let stat = unsafe {
            libc::fstat(r.fd, stat.as_mut_ptr());
            stat.assume_init()
        };
        Ok(Backing::File { device: stat.st_dev, inode: stat.st_ino, path: fd_path(r.fd).into() })
    }

    /// munmap(2).
    pub fn munmap(&mut self, host: &dyn Host, addr: u64, len: u64) -> Result<(), Errno> {
        let len = page_up(len).ok_or(Errno::EINVAL)?;
        let end = addr.checked_add(len).filter(|e| *e <= WINDOW_BYTES).ok_or(Errno::EINVAL)?;
        if !addr.is_multiple_of(PAGE) || len == 0 {
            return Err(Errno::EINVAL);
        }
        if !self.areas.is_free(addr, end) {
            self.host_clear(addr, len)?;
            self.forget(host, addr, end);
        }
        Ok(())
    }

    /// Takes a range out of the ledger and unbinds objects whose last page went with it.
    pub(super) fn forget(&mut self, host: &dyn Host, start: u64, end: u64) {
        for (_, area) in self.areas.remove(start, end) {
            let Backing::Object { id, .. } = area.backing else { continue };
            let object = host.object(id);
            let still = self.areas.overlapping(object.start, object.end).any(|(_, a)| matches!(&a.backing, Backing::Object { id: i, .. } if *i == id));
            if !still && self.loaded.remove(&id).is_some() {
                host.unbind(id);
            }
        }
    }

    /// mprotect(2). PROT_EXEC only where a signed object's text lies.
    pub fn mprotect(&mut self, host: &dyn Host, limits: &Limits, addr: u64, len: u64, prot: i32) -> Result<(), Errno> {
        let growing = prot & (libc::PROT_GROWSDOWN | libc::PROT_GROWSUP) != 0;
        let prot = prot & !(libc::PROT_GROWSDOWN | libc::PROT_GROWSUP);
        if !addr.is_multiple_of(PAGE) || prot & !7 != 0 || (growing && !matches!(self.areas.at(addr), Some((_, a)) if a.backing == Backing::Stack)) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let end = addr.checked_add(len).filter(|e| *e <= WINDOW_BYTES).ok_or(Errno::ENOMEM)?;
        // As Linux: the pages before a hole change, then it is ENOMEM.
        let mapped_end = self.areas.covered_until(addr, end);
        if mapped_end < end {
            if mapped_end > addr {
                self.mprotect(host, limits, addr, mapped_end - addr, prot)?;
            }
            return Err(Errno::ENOMEM);
        }
        if prot & libc::PROT_EXEC != 0 && !self.is_text(host, addr, end) {
            host.audit(&Event::ExecutableMapping { path: "mprotect" });
            return Err(Errno::EACCES);
        }
        if prot & libc::PROT_WRITE != 0 {
            self.check_data(limits, self.becomes_data(addr, end))?;
        }
        if let Err(errno) = self.host_protect(addr, len, prot) {
            // Pages of the image cannot be written: the guest gets a copy of its own.
            if errno != Errno::EACCES || prot & libc::PROT_WRITE == 0 {
                return Err(errno);
            }
            self.own_object_pages(addr, end)?;
            self.host_protect(addr, len, prot)?;
        }
        self.areas.protect(addr, end, prot);
        Ok(())
    }

    fn host_protect(&self, addr: u64, len: u64, prot: i32) -> Result<(), Errno> {
        let at = self.window.range(addr, len)?;
        // SAFETY: guest pages only; protection of guest pages is the guest's business and a fault there becomes its signal.
        if unsafe { libc::mprotect(at.cast(), len as usize, host_prot(prot)) } != 0 { Err(Errno::last()) } else { Ok(()) }
    }

    /// Bytes of `start..end` that count for RLIMIT_DATA once they can be written.
    fn becomes_data(&self, start: u64, end: u64) -> u64 {
        let written = |a: &Area| !a.shared && a.backing != Backing::Stack && !a.is_data();
        self.areas.overlapping(start, end).filter(|(_, a)| written(a)).map(|(s, a)| a.end.min(end) - s.max(start)).sum()
    }

    /// brk(2): the new break, or the old one when it cannot move.
    pub fn set_brk(&mut self, host: &dyn Host, limits: &Limits, wanted: u64) -> u64 {
        if wanted < self.brk_start || wanted > HIGHEST {
            return self.brk;
        }
        let (old, new) = ((self.brk + PAGE - 1) & !(PAGE - 1), (wanted + PAGE - 1) & !(PAGE - 1));
        let data = limits.data.0;
        let grown = if new > old {
            let fits = (data == libc::RLIM_INFINITY || new - self.brk_start <= data) && self.check_growth(limits, libc::PROT_WRITE, false, new - old).is_ok();
            // As Linux keeps a page between the heap and what lies above.
            if !fits || !self.areas.is_free(old, new + PAGE) || new + PAGE > self.top() {
                return self.brk;
            }
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            self.host_map(old, new - old, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)
                .map(|()| self.areas.insert(old, Area { end: new, prot, shared: false, offset: 0, backing: Backing::Heap }))
        } else if new < old {
            self.munmap(host, new, old - new)
        } else {
            Ok(())
        };
        if grown.is_ok() {
            self.brk = wanted;
        }
        self.brk
    }
}

/// Moves a mapping into the window; the target is never a hole.
pub(super) fn move_in(outside: *mut u8, target: *mut u8, len: u64) -> Result<(), Errno> {
    let len = len as usize;
    // SAFETY: `outside` is a mapping the caller just made and knows alone; the target is guest memory.
    let p = unsafe { libc::mremap(outside.cast(), len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, target) };
    if p != libc::MAP_FAILED {
        return Ok(());
    }
    let errno = Errno::last();
    // SAFETY: as above; the temporary mapping goes away.
    unsafe { libc::munmap(outside.cast(), len) };
    Err(errno)
}

/// The path of an open file as /proc shows it; empty when it cannot be told.
pub(super) fn fd_path(fd: RawFd) -> String {
    crate::fs::own::name(fd).map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default()
}
