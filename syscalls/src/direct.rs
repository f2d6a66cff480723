//! A guest process that runs no program: whoever owns it makes calls through the table, one after another, with arguments that it lays out in the guest's memory.
//!
//! Owns that memory, which is nothing but a stack, and that a row cut short by a signal is called again. The fact a newcomer gets wrong: this is no way around a rule. The list, the refusals and the audit are those of
//! every program; what there is none of is code.

use crate::abi::CpuState;
use crate::dispatch;
use crate::errno::Errno;
use crate::guest::{WINDOW_BYTES, Window};
use crate::host::Host;
use crate::process::{AllowList, Process};
use crate::signal;
use crate::thread::{Next, Thread};
use std::sync::Arc;

/// Room for arguments.
const STACK_BYTES: u64 = 8 << 20;
/// Between two pieces of it: what a row writes beyond the room it was given spoils no other.
const APART: u64 = 4096;

/// An address space for `Direct::start`, anywhere: no code believes that it begins at zero. It is never given back.
pub fn window() -> std::io::Result<Window> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new reservation, at an address the kernel chooses.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), 2 * WINDOW_BYTES as usize, libc::PROT_NONE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the window and as much again behind it, mapped for the life of the process.
    Ok(unsafe { Window::new(base.cast()) })
}

/// How a call came out that was not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    Errno(Errno),
    /// The guest process ends, with this status.
    Ended(i32),
}

/// The process, on the calling host thread.
pub struct Direct {
    thread: Thread,
    /// Where the next piece is laid out, downwards.
    room: u64,
}

impl Direct {
    /// Begins it, with a list of what it may call. ENOMEM if there is no memory for arguments.
    pub fn start(window: Window, host: Arc<dyn Host>, allow: &AllowList) -> Result<Self, Errno> {
        let process = Process::new(window, host);
        process.set_allow(allow);
        process.memory().map_stack(STACK_BYTES)?;
        let room = process.memory().stack_high;
        // SAFETY: integers only; all-zero is valid.
        let cpu: *mut CpuState = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
        // SAFETY: leaked, so it stays; nobody else has it.
        let thread = unsafe { Thread::start(process, cpu) };
        Ok(Self { thread, room })
    }

    /// Guest address of `bytes` bytes that read as zero. ENOMEM where there are no more.
    pub fn room(&mut self, bytes: usize) -> Result<u64, Errno> {
        let low = self.thread.process.memory().stack_low;
        let taken = (bytes as u64).checked_add(APART).ok_or(Errno::ENOMEM)?;
        let at = self.room.checked_sub(taken).map(|at| at & !0xf).filter(|at| *at >= low).ok_or(Errno::ENOMEM)?;
        self.room = at;
        Ok(at)
    }

    /// Lays bytes out; their guest address.
    pub fn lay(&mut self, bytes: &[u8]) -> Result<u64, Errno> {
        let at = self.room(bytes.len())?;
        self.thread.window().copy_out(at, bytes)?;
        Ok(at)
    }

    /// What stands in the guest's memory.
    pub fn read(&self, at: u64, bytes: usize) -> Result<Vec<u8>, Errno> {
        let mut found = vec![0; bytes];
        self.thread.window().copy_in(at, &mut found)?;
        Ok(found)
    }

    /// Makes a call.
    pub fn call(&mut self, nr: u32, args: [u64; 6]) -> Result<u64, Unanswered> {
        loop {
            match dispatch::run(&mut self.thread, nr.into(), args) {
                Ok(value) => return Ok(value),
                // There are no handlers: what did not end the process is nothing to it.
                Err(Errno::RESTART | Errno::NOT_STARTED) => {
                    if let Next::ThreadExit(status) = signal::poll(&mut self.thread) {
                        return Err(Unanswered::Ended(status));
                    }
                }
                Err(errno) => return Err(Unanswered::Errno(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;
    use crate::testing::{guest, in_child};

    fn direct(names: &[&str]) -> Direct {
        let (thread, host) = guest();
        drop(thread);
        let mut allow = AllowList::NONE;
        names.iter().for_each(|name| allow.insert(table::by_name(name).unwrap().nr));
        Direct::start(window().unwrap(), host, &allow).unwrap()
    }

    fn nr(name: &str) -> u32 {
        table::by_name(name).unwrap().nr
    }

    #[test]
    fn calls_are_made_with_arguments_from_the_guests_memory_and_the_list_counts() {
        in_child(|| {
            let mut d = direct(&["openat", "read"]);
            let path = d.lay(b"/etc/passwd\0").unwrap();
            let file = d.call(nr("openat"), [libc::AT_FDCWD as u64, path, 0, 0, 0, 0]).unwrap();
            let room = d.room(64).unwrap();
            let n = d.call(nr("read"), [file, room, 64, 0, 0, 0]).unwrap();
            assert_eq!(d.read(room, n as usize).unwrap(), std::fs::read("/etc/passwd").unwrap()[..n as usize]);
            assert_eq!(d.call(nr("close"), [file, 0, 0, 0, 0, 0]), Err(Unanswered::Errno(Errno::EPERM)));
            assert_eq!(d.call(nr("ptrace"), [0; 6]), Err(Unanswered::Errno(Errno::EPERM)));
            assert_eq!(d.call(nr("read"), [file, 1 << 40, 1, 0, 0, 0]), Err(Unanswered::Errno(Errno::EFAULT)));
        });
    }

    #[test]
    fn room_is_apart_and_bounded() {
        in_child(|| {
            let mut d = direct(&[]);
            let (first, second) = (d.room(10).unwrap(), d.lay(b"x").unwrap());
            assert!(second + 1 + APART <= first && first % 16 == 0);
            assert_eq!(d.read(first, 10).unwrap(), [0; 10]);
            assert_eq!((d.room(STACK_BYTES as usize), d.room(usize::MAX)), (Err(Errno::ENOMEM), Err(Errno::ENOMEM)));
            assert!((0..1000).filter_map(|_| d.room(8000).ok()).count() > 600);
        });
    }
}
