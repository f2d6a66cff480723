//! Address space for wasm memories: reserved once, at a fixed place, never grown.
//!
//! Owns the three kinds of memory code imports (guest window, CPU state, code map) as raw reservations, and the dress as a wasmer memory that linking needs. The window begins at address zero, so that a guest address *is* the host's and costs lifted code neither a register nor an addition. Does not own what is mapped inside the window: that is `syscalls::mm`. The fact a newcomer gets wrong: wasmer never allocates
//! or protects any of these pages, and knows of none in a process that runs guests.

use crate::owned::Owned;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use wasmer::{MemoryType, Pages};
use wasmer_vm::{LinearMemory, MemoryError, MemoryStyle, VMMemoryDefinition};

/// 4 GiB of wasm32 address space plus the guard generated code relies on instead of bounds checks (4 GiB and one wasm page; 07 S2 asks for 2 GiB).
pub const RESERVED_BYTES: usize = (1 << 32) + GUARD_BYTES;
const GUARD_BYTES: usize = (1 << 32) + 0x1_0000;

/// Where the window's mapping begins: the host maps nothing below (vm.mmap_min_addr), and neither do guests (`syscalls::mm::LOWEST`).
const WINDOW_START: usize = 0x1_0000;

/// `RESERVED_BYTES` of inaccessible address space; unmapped on drop.
#[derive(Debug)]
pub struct Reservation {
    base: *mut u8,
    /// What of it is a mapping.
    mapped: Range<usize>,
    /// It is one thread's.
    owned: Option<Owned>,
}

// SAFETY: an address range; what happens inside it is up to its users, as with all guest memory.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Somewhere.
    pub fn new() -> std::io::Result<Self> {
        Self::map(std::ptr::null_mut(), RESERVED_BYTES, 0).map(|p| Self { base: p, mapped: p as usize..p as usize + RESERVED_BYTES, owned: None })
    }

    /// Somewhere, for the calling thread alone.
    pub(crate) fn of_thread() -> std::io::Result<Self> {
        let mut new = Self::new()?;
        new.owned = Some(Owned::new(new.mapped.clone()));
        Ok(new)
    }

    /// The guest window: from address zero. EEXIST if this process has one already, or anything else that low.
    pub fn window() -> std::io::Result<Self> {
        let start = std::ptr::without_provenance_mut(WINDOW_START);
        Self::map(start, RESERVED_BYTES - WINDOW_START, libc::MAP_FIXED_NOREPLACE)?;
        Ok(Self { base: std::ptr::null_mut(), mapped: WINDOW_START..RESERVED_BYTES, owned: None })
    }

    fn map(at: *mut u8, len: usize, flags: i32) -> std::io::Result<*mut u8> {
        // SAFETY: a new private mapping that replaces nothing.
        let p = unsafe { libc::mmap(at.cast(), len, libc::PROT_NONE, flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0) };
        if p == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(p.cast()) }
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Replaces a part by anonymous pages with protection `prot`.
    pub fn map_anonymous(&self, offset: usize, len: usize, prot: i32) -> std::io::Result<()> {
        assert!(offset + len <= RESERVED_BYTES, "inside the reservation");
        // SAFETY: MAP_FIXED over pages of this reservation only.
        let p = unsafe { libc::mmap(self.base().wrapping_add(offset).cast(), len, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE, -1, 0) };
        if p == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.owned = None;
        // SAFETY: the range is ours; the memories that point at it hold an `Arc` of it, so none is left.
        unsafe { libc::munmap(std::ptr::without_provenance_mut(self.mapped.start), self.mapped.len()) };
    }
}

/// A wasm memory of fixed size over a reservation.
#[derive(Debug)]
pub struct FixedMemory {
    reservation: Arc<Reservation>,
    definition: Box<VMMemoryDefinition>,
    ty: MemoryType,
}

// SAFETY: the definition is never written after construction.
unsafe impl Send for FixedMemory {}
// SAFETY: as above.
unsafe impl Sync for FixedMemory {}

impl FixedMemory {
    /// `pages` wasm pages, which are minimum and maximum.
    pub fn new(reservation: Arc<Reservation>, pages: u32, shared: bool) -> Self {
        let definition = Box::new(VMMemoryDefinition { base: reservation.base(), current_length: (pages as usize) << 16 });
        Self { reservation, definition, ty: MemoryType::new(pages, Some(pages), shared) }
    }
}

impl LinearMemory for FixedMemory {
    fn ty(&self) -> MemoryType {
        self.ty
    }
    fn size(&self) -> Pages {
        self.ty.minimum
    }
    fn style(&self) -> MemoryStyle {
        MemoryStyle::Static
    }
    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        Err(MemoryError::CouldNotGrow { current: self.ty.minimum, attempted_delta: delta })
    }
    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        NonNull::from(self.definition.as_ref())
    }
    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Ok(Box::new(Self::new(self.reservation.clone(), self.ty.minimum.0, self.ty.shared)))
    }
    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        Err(MemoryError::UnsupportedOperation { message: "guest memory is copied by fork only".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_after_the_window_is_at_least_two_gibibytes() {
        const { assert!(GUARD_BYTES >= 2 << 30) };
        assert!(MemoryStyle::static_offset_guard_size() as usize <= GUARD_BYTES);
    }
}
