//! The linear memory of a WASI program: a range of the guest window that begins at its lowest page. Owns its length, its growth, and the way from a pointer of the module to a guest address.
//!
//! The fact a newcomer gets wrong: a module's address is not a guest address: it is `BASE` lower. So rows, which take guest addresses, read and write the module's own bytes without a copy, and an access beyond
//! the length meets a page that nobody has mapped, or the guard behind the window (ARCHITECTURE.md, "WASI programs").

use super::errno::Code;
use crate::errno::Errno;
use crate::guest::{Plain, Window};
use crate::mm::ledger::{Area, Backing};
use crate::mm::{LOWEST, STACK_GUARD};
use crate::process::Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Guest address of the module's address 0.
pub const BASE: u64 = LOWEST;
/// A page of WebAssembly.
pub const PAGE_BYTES: u64 = 1 << 16;

/// Shared by the loader, whose code makes it grow, and the functions, which check pointers against it.
pub struct LinearMemory {
    process: Arc<Process>,
    bytes: AtomicU64,
}

impl std::fmt::Debug for LinearMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinearMemory of {} bytes", self.bytes())
    }
}

impl LinearMemory {
    /// Without a page yet. The address space of the process must be that of a program that has just begun.
    pub fn new(process: Arc<Process>) -> Self {
        Self { process, bytes: AtomicU64::new(0) }
    }

    /// Host address of the module's address 0.
    pub fn host_base(&self) -> *mut u8 {
        self.process.window.base().wrapping_add(BASE as usize)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// More pages, zeroed. ENOMEM where the stack begins, at the guest's own limits, and at the host's.
    pub fn grow(&self, pages: u64) -> Result<(), Errno> {
        let more = pages.checked_mul(PAGE_BYTES).ok_or(Errno::ENOMEM)?;
        let limits = self.process.limits();
        let mut memory = self.process.memory();
        let start = BASE + self.bytes();
        let end = start.checked_add(more).filter(|end| *end <= memory.stack_low - STACK_GUARD).ok_or(Errno::ENOMEM)?;
        if more == 0 {
            return Ok(());
        }
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        memory.check_growth(&limits, prot, false, more)?;
        memory.host_map(start, more, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)?;
        memory.areas.insert(start, Area { end, prot, shared: false, offset: 0, backing: Backing::Anonymous });
        self.bytes.store(end - BASE, Ordering::Relaxed);
        Ok(())
    }

    /// Guest address of `len` bytes at a pointer of the module's, checked as 64-bit numbers before anything else (07, S2).
    pub(super) fn range(&self, pointer: u64, len: u64) -> Result<u64, Code> {
        match pointer.checked_add(len) {
            Some(end) if end <= self.bytes() => Ok(BASE + pointer),
            _ => Err(Code::FAULT),
        }
    }

    /// As `range`, of one value at its natural alignment.
    fn place<T>(&self, pointer: u64) -> Result<u64, Code> {
        if !pointer.is_multiple_of(align_of::<T>() as u64) {
            return Err(Code::INVAL);
        }
        self.range(pointer, size_of::<T>() as u64)
    }

    pub(super) fn load<T: Plain>(&self, pointer: u64) -> Result<T, Code> {
        Ok(self.window().read(self.place::<T>(pointer)?)?)
    }

    pub(super) fn store<T: Plain>(&self, pointer: u64, value: T) -> Result<(), Code> {
        Ok(self.window().write(self.place::<T>(pointer)?, &value)?)
    }

    /// A copy, made once (07, S6).
    pub(super) fn bytes_at(&self, pointer: u64, len: u64) -> Result<Vec<u8>, Code> {
        let at = self.range(pointer, len)?;
        let mut bytes = vec![0; len as usize];
        self.window().copy_in(at, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn put(&self, pointer: u64, bytes: &[u8]) -> Result<(), Code> {
        Ok(self.window().copy_out(self.range(pointer, bytes.len() as u64)?, bytes)?)
    }

    fn window(&self) -> Window {
        self.process.window
    }
}
