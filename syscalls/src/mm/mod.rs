//! The guest's address space: which pages of the window hold what. Owns the layout, the ledger and every host call that changes window pages.
//! Refuses to own code: PROT_EXEC never reaches the host, executable pages are those of signed objects (`objects`).
//!
//! The fact a newcomer gets wrong: nothing in the window is ever unmapped. A guest munmap maps PROT_NONE over it (07 S1), or the runtime's own
//! allocations would land in guest memory.

pub mod ledger;
mod map;
mod objects;
mod remap;
mod rows;
mod segments;

use crate::errno::Errno;
use crate::guest::Window;
use crate::host::ObjectId;
use crate::process::Limits;
use ledger::{Area, Backing, Ledger};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) use objects::file_identity;

crate::pass::family! { rows::ROWS, segments::ROWS }

pub const PAGE: u64 = 4096;
/// Nothing is ever mapped below: a null pointer with an offset faults.
pub const LOWEST: u64 = 0x1_0000;
/// Nor above: small negative pointers fault.
pub const HIGHEST: u64 = 0xffff_0000;
/// Slots of signed objects; the kernel places nothing else there on its own.
pub const CODE: std::ops::Range<u64> = 0x0100_0000..0x4000_0000;
/// The heap (brk) grows up from here, mappings grow down towards it.
pub const HEAP_START: u64 = 0x4000_0000;
/// Unmapped pages kept below the main stack.
pub const STACK_GUARD: u64 = 1 << 20;
/// Room that is kept for a main stack whose limit is raised later.
pub const STACK_GROWN: u64 = 128 << 20;
/// Longest stack whatever RLIMIT_STACK says.
pub const STACK_MAX: u64 = 256 << 20;

/// Rounds up to a page; `None` past the end of the address space.
pub fn page_up(n: u64) -> Option<u64> {
    Some(n.checked_add(PAGE - 1)? & !(PAGE - 1))
}

/// The ledger and the marks of the current program.
pub struct Memory {
    pub window: Window,
    pub areas: Ledger,
    pub brk_start: u64,
    pub brk: u64,
    /// Lowest address of the main stack; mappings go below `stack_low - STACK_GUARD`.
    pub stack_low: u64,
    pub stack_high: u64,
    /// Bound objects with the device and inode of the file that was shown for them.
    pub loaded: BTreeMap<ObjectId, (u64, u64)>,
    /// What was handed out by its address in the window's alias: only there may MAP_FIXED name such an address, or it would replace what the program does not know to be the same memory.
    pub aliased: Ledger,
}

impl Memory {
    pub fn new(window: Window) -> Self {
        let (stack_low, stack_high) = (HIGHEST - (8 << 20), HIGHEST);
        Self { window, areas: Ledger::default(), brk_start: HEAP_START, brk: HEAP_START, stack_low, stack_high, loaded: BTreeMap::new(), aliased: Ledger::default() }
    }

    /// Empties the address space: the whole window becomes PROT_NONE. The caller unbinds the code.
    pub fn reset(&mut self) -> Result<(), Errno> {
        self.host_clear(0, crate::guest::WINDOW_BYTES)?;
        self.areas.clear();
        self.loaded.clear();
        self.aliased.clear();
        (self.brk_start, self.brk) = (HEAP_START, HEAP_START);
        Ok(())
    }

    /// Maps the main stack for RLIMIT_STACK = `limit`: reserved in full, committed as it is touched.
    pub fn map_stack(&mut self, limit: u64) -> Result<(), Errno> {
        let len = page_up(limit.clamp(128 << 10, STACK_MAX)).unwrap_or(STACK_MAX);
        self.stack_high = HIGHEST;
        self.stack_pages(HIGHEST - len, HIGHEST)
    }

    /// Maps `low..end` as the lowest part of the main stack.
    fn stack_pages(&mut self, low: u64, end: u64) -> Result<(), Errno> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        self.host_map(low, end - low, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)?;
        self.areas.insert(low, Area { end, prot, shared: false, offset: 0, backing: Backing::Stack });
        self.stack_low = low;
        Ok(())
    }

    /// Ceiling of the mmap area: below what the stack may yet grow to.
    pub fn top(&self) -> u64 {
        self.stack_low.min(self.stack_high - STACK_GROWN) - STACK_GUARD
    }

    /// RLIMIT_STACK was raised while the program runs (gcc's cc1 does): the stack gets its room at once, as far as nothing is in the way.
    pub fn grow_stack(&mut self, limit: u64) -> Result<(), Errno> {
        let low = self.stack_high - page_up(limit.min(STACK_GROWN)).unwrap_or(STACK_GROWN);
        if low >= self.stack_low || !self.areas.is_free(low - STACK_GUARD, self.stack_low) {
            return Ok(());
        }
        self.stack_pages(low, self.stack_low)
    }

    /// A place for `len` bytes, from the top down.
    pub fn place(&self, len: u64, ceiling: u64) -> Result<u64, Errno> {
        let low = page_up(self.brk).unwrap_or(HIGHEST).max(HEAP_START);
        self.areas.find_free(len, low, ceiling).ok_or(Errno::ENOMEM)
    }

    /// RLIMIT_AS for `more` bytes.
    pub fn check_limit(&self, limits: &Limits, more: u64) -> Result<(), Errno> {
        let soft = limits.address_space.0;
        if soft != libc::RLIM_INFINITY && self.areas.mapped().saturating_add(more) > soft { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// RLIMIT_AS and RLIMIT_DATA for `more` bytes with this protection (mm/mmap.c, `may_expand_vm`). `apart`: shared memory or a stack, which are no data.
    pub fn check_growth(&self, limits: &Limits, prot: i32, apart: bool, more: u64) -> Result<(), Errno> {
        self.check_limit(limits, more)?;
        if prot & libc::PROT_WRITE == 0 || apart { Ok(()) } else { self.check_data(limits, more) }
    }

    /// RLIMIT_DATA for `more` bytes of data.
    pub(crate) fn check_data(&self, limits: &Limits, more: u64) -> Result<(), Errno> {
        let (soft, hard) = limits.data;
        if soft == libc::RLIM_INFINITY {
            return Ok(());
        }
        let data: u64 = self.areas.iter().filter(|(_, a)| a.is_data()).map(|(start, a)| a.end - start).sum();
        let wanted = data.saturating_add(more);
        // Valgrind sets 0 and goes on (as in Linux).
        if wanted <= soft || (soft == 0 && wanted <= hard) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Host mmap of anonymous pages over `start..start+len`. `prot` loses PROT_EXEC here, whatever the caller meant.
    pub(crate) fn host_map(&self, start: u64, len: u64, prot: i32, flags: i32) -> Result<(), Errno> {
        let at = self.window.range(start, len)?;
        // SAFETY: the range lies inside the window, whose pages belong to the guest; MAP_FIXED replaces guest pages only.
        let p = unsafe { libc::mmap(at.cast(), len as usize, host_prot(prot), flags | libc::MAP_FIXED, -1, 0) };
        if p != libc::MAP_FAILED {
            return Ok(());
        }
        let errno = Errno::last();
        // Older kernels unmap before they fail: close the hole at once.
        self.host_clear(start, len)?;
        Err(errno)
    }

    /// Makes `start..start+len` a reserved nothing: what Linux calls unmapped. What lies below `LOWEST` is nothing already: the window begins at address zero, where the host
    /// maps nothing (vm.mmap_min_addr).
    pub(crate) fn host_clear(&self, start: u64, len: u64) -> Result<(), Errno> {
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        let start = start.max(LOWEST);
        let Some(len) = end.checked_sub(start).filter(|n| *n > 0) else { return Ok(()) };
        let at = self.window.range(start, len)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: as in `host_map`.
        let p = unsafe { libc::mmap(at.cast(), len as usize, libc::PROT_NONE, flags, -1, 0) };
        if p == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(()) }
    }

    /// The text of /proc/self/maps, in the kernel's format.
    pub fn render_maps(&self) -> String {
        let mut text = String::new();
        for (start, area) in self.areas.iter() {
            let bit = |p: i32, c: char| if area.prot & p != 0 { c } else { '-' };
            let (r, w, x) = (bit(libc::PROT_READ, 'r'), bit(libc::PROT_WRITE, 'w'), bit(libc::PROT_EXEC, 'x'));
            let share = if area.shared { 's' } else { 'p' };
            let (device, inode, name): (u64, u64, &str) = match &area.backing {
                Backing::Anonymous => (0, 0, ""),
                Backing::Heap => (0, 0, "[heap]"),
                Backing::Stack => (0, 0, "[stack]"),
                Backing::File { device, inode, path } => (*device, *inode, path),
                Backing::Object { id, path } => {
                    let (device, inode) = self.loaded.get(id).copied().unwrap_or((0, 0));
                    (device, inode, path)
                }
            };
            let (major, minor) = (libc::major(device), libc::minor(device));
            let mut line = format!("{start:08x}-{:08x} {r}{w}{x}{share} {:08x} {major:02x}:{minor:02x} {inode} ", area.end, area.offset);
            if !name.is_empty() {
                while line.len() < 73 {
                    line.push(' ');
                }
                line.push_str(name);
            }
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The host's protection for a guest's: never executable; x86 pages that can be executed can be read.
pub(crate) fn host_prot(prot: i32) -> i32 {
    let readable = if prot & libc::PROT_EXEC != 0 { libc::PROT_READ } else { 0 };
    (prot & (libc::PROT_READ | libc::PROT_WRITE)) | readable
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod holes;
