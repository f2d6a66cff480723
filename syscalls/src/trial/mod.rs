//! Test ground for rows: a guest process with a window of its own, and no code to run.
//!
//! Owns the window's layout in tests and the stand-in for the loader. The fact a newcomer gets wrong: directly behind the window lies a canary,
//! not a guard, so that a row which lets the kernel run past the end is caught.

mod fuzz;
mod numbers;
mod race;

use crate::abi::CpuState;
use crate::errno::Errno;
use crate::guest::{WINDOW_BYTES, Window};
use crate::host::{Event, Granted, Host, Object, ObjectId};
use crate::process::Process;
use crate::table::{self, SysResult};
use crate::thread::{NewThread, Thread};
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Readable and writable guest memory starts here …
pub(crate) const START: u64 = 0x10000;
/// … and is this long; as much again ends at the end of the window.
pub(crate) const LEN: u64 = 0x40000;
const CANARY: usize = 1 << 20;
const PATTERN: u8 = 0x5a;

struct NoLoader;

impl Host for NoLoader {
    fn exec(&self, _: BorrowedFd<'_>, _: &[CString], _: &[CString]) -> Result<Granted, Errno> {
        Err(Errno::EACCES)
    }
    fn library(&self, _: BorrowedFd<'_>) -> Result<Option<ObjectId>, Errno> {
        Ok(None)
    }
    fn object(&self, _: ObjectId) -> &Object {
        unreachable!("no object was named")
    }
    fn map_image(&self, _: *mut u8, _: usize, _: u64, _: i32) -> Result<(), Errno> {
        Err(Errno::ENODEV)
    }
    fn bind(&self, _: ObjectId) {}
    fn unbind(&self, _: ObjectId) {}
    fn unbind_all(&self) {}
    fn spawn_thread(&self, _: NewThread) -> Result<(), Errno> {
        Err(Errno::EAGAIN)
    }
    fn audit(&self, _: &Event<'_>) {}
}

/// A guest process under test.
pub(crate) struct Trial {
    pub(crate) thread: Thread,
    _cpu: Box<CpuState>,
    reservation: *mut u8,
    next: u64,
}

impl Drop for Trial {
    fn drop(&mut self) {
        // SAFETY: the reservation `new` made.
        unsafe { libc::munmap(self.reservation.cast(), WINDOW_BYTES as usize + 2 * CANARY) };
    }
}

fn map(at: *mut u8, len: usize, prot: i32, fixed: i32) -> *mut u8 {
    // SAFETY: a fresh reservation, or a part of one of ours (`fixed`).
    let p = unsafe { libc::mmap(at.cast(), len, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed, -1, 0) };
    assert_ne!(p, libc::MAP_FAILED);
    p.cast()
}

impl Trial {
    pub(crate) fn new() -> Self {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        let reservation = map(std::ptr::null_mut(), WINDOW_BYTES as usize + 2 * CANARY, libc::PROT_NONE, 0);
        let base = reservation.wrapping_add(CANARY);
        for canary in [reservation, base.wrapping_add(WINDOW_BYTES as usize)] {
            map(canary, CANARY, rw, libc::MAP_FIXED);
            // SAFETY: just mapped.
            unsafe { canary.write_bytes(PATTERN, CANARY) };
        }
        map(base.wrapping_add(START as usize), LEN as usize, rw, libc::MAP_FIXED);
        map(base.wrapping_add((WINDOW_BYTES - LEN) as usize), LEN as usize, rw, libc::MAP_FIXED);
        // SAFETY: reserved above, unmapped only when the trial ends.
        let window = unsafe { Window::new(base) };
        // SAFETY: zero bytes are a valid register state.
        let mut cpu: Box<CpuState> = unsafe { Box::new(std::mem::zeroed()) };
        // SAFETY: the state lives as long as the trial and is its alone.
        let thread = unsafe { Thread::start(Process::new(window, Arc::new(NoLoader)), &raw mut *cpu) };
        Self { thread, _cpu: cpu, reservation, next: START }
    }

    /// Runs a row by its name.
    pub(crate) fn call(&mut self, name: &str, args: &[u64]) -> SysResult {
        let mut six = [0; 6];
        six[..args.len()].copy_from_slice(args);
        (table::by_name(name).expect("a row").run)(&mut self.thread, six)
    }

    /// Fresh guest memory holding these bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.next;
        self.next += (bytes.len() as u64).next_multiple_of(16) + 16;
        assert!(self.next < START + LEN);
        self.thread.window().copy_out(at, bytes).unwrap();
        at
    }

    pub(crate) fn put_words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(&bytes)
    }

    pub(crate) fn put_str(&mut self, s: &str) -> u64 {
        let bytes = [s.as_bytes(), b"\0"].concat();
        self.put(&bytes)
    }

    pub(crate) fn room(&mut self, len: usize) -> u64 {
        self.put(&vec![0xa5; len])
    }

    pub(crate) fn get(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.thread.window().copy_in(addr, &mut out).unwrap();
        out
    }

    pub(crate) fn word(&self, addr: u64) -> u64 {
        self.thread.window().read(addr).unwrap()
    }

    /// Host addresses that no row may touch: before and behind the window.
    fn canaries(&self) -> [u64; 2] {
        [self.reservation as u64, self.reservation as u64 + CANARY as u64 + WINDOW_BYTES]
    }

    fn canaries_alive(&self) -> bool {
        self.canaries().iter().all(|c| {
            // SAFETY: mapped by `new` for the life of the trial.
            unsafe { std::slice::from_raw_parts(*c as *const u8, CANARY) }.iter().all(|b| *b == PATTERN)
        })
    }
}

/// The host's answer to the same call with host pointers.
pub(crate) fn native(nr: i64, args: &[u64]) -> SysResult {
    crate::pass::quick(nr, args)
}
