//! One call of a WASI function: its arguments, the module's memory, and the way to the rows. Owns the room on the stack where arguments of rows are laid out, and that a row cut short by a signal is called again.
//!
//! The fact a newcomer gets wrong: a WASI program has no handlers, so a signal that does not end it is nothing to it: no function says INTR for one.

use super::Program;
use super::errno::Code;
use super::table::{Descriptor, Kind, right};
use crate::dispatch;
use crate::errno::Errno;
use crate::guest::Plain;
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::CStr;

/// Where C libraries begin to look.
const FIRST_DIRECTORY: u32 = 3;

pub(super) struct Call<'a> {
    pub thread: &'a mut Thread,
    pub program: &'a mut Program,
    /// The arguments: those of 32 bits are zero-extended.
    pub a: [u64; 9],
    /// Where the next thing is laid out on the stack, downwards.
    room: u64,
}

/// Length of the kernel's `struct stat`, and where its fields are.
const STAT_BYTES: usize = 144;

/// What of `struct stat` has a place in WASI's.
pub(super) struct Stat {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub links: u64,
    pub size: u64,
    /// Nanoseconds since 1970: access, modification, change.
    pub times: [u64; 3],
}

impl<'a> Call<'a> {
    pub(super) fn new(thread: &'a mut Thread, program: &'a mut Program, a: [u64; 9]) -> Self {
        let room = program.stack_top;
        Call { thread, program, a, room }
    }

    /// Calls a row, as the program's list, `--strace` and the audit log see it.
    pub(super) fn row(&mut self, nr: libc::c_long, args: &[u64]) -> Result<u64, Code> {
        Ok(self.linux(nr, nr, args)?)
    }

    /// The same, with the answer in Linux's words; `listed` is the call that the list must have.
    pub(super) fn linux(&mut self, nr: libc::c_long, listed: libc::c_long, args: &[u64]) -> SysResult {
        let mut six = [0; 6];
        six[..args.len()].copy_from_slice(args);
        loop {
            match dispatch::run_as(self.thread, nr as u64, listed as u64, six) {
                Err(Errno::RESTART | Errno::NOT_STARTED) => drop(crate::signal::poll(self.thread)),
                answer => return answer,
            }
        }
    }

    /// Guest address of `bytes` bytes of the stack, free until this call ends.
    pub(super) fn room(&mut self, bytes: usize) -> Result<u64, Code> {
        let low = self.thread.process.memory().stack_low;
        let at = self.room.checked_sub(bytes as u64).map(|at| at & !0xf).filter(|at| *at >= low).ok_or(Code::NOMEM)?;
        self.room = at;
        Ok(at)
    }

    /// Does what needs room that nobody needs afterwards.
    pub(super) fn briefly<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let room = self.room;
        let done = work(self);
        self.room = room;
        done
    }

    /// Lays bytes out on the stack.
    pub(super) fn lay(&mut self, bytes: &[u8]) -> Result<u64, Code> {
        let at = self.room(bytes.len())?;
        self.thread.window().copy_out(at, bytes)?;
        Ok(at)
    }

    /// Lays words out on the stack.
    pub(super) fn lay_words(&mut self, words: &[u64]) -> Result<u64, Code> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.lay(&bytes)
    }

    /// Reads back what a row wrote to the stack.
    pub(super) fn peek<T: Plain>(&self, at: u64) -> Result<T, Code> {
        Ok(self.thread.window().read(at)?)
    }

    pub(super) fn peek_bytes(&self, at: u64, len: usize) -> Result<Vec<u8>, Code> {
        let mut bytes = vec![0; len];
        self.thread.window().copy_in(at, &mut bytes)?;
        Ok(bytes)
    }

    /// The host descriptor of a number that is good for `rights`.
    pub(super) fn host(&mut self, number: u64, rights: u64) -> Result<u64, Code> {
        Ok(self.program.table.get(number, rights)?.host as u64)
    }

    /// Writes a result to where an argument points.
    pub(super) fn answer<T: Plain>(&self, pointer: u64, value: T) -> Result<(), Code> {
        self.program.memory.store(pointer, value)
    }

    pub(super) fn stat(&mut self, host: u64) -> Result<Stat, Code> {
        self.briefly(|call| call.stat_at(host))
    }

    fn stat_at(&mut self, host: u64) -> Result<Stat, Code> {
        let at = self.room(STAT_BYTES)?;
        self.row(libc::SYS_fstat, &[host, at])?;
        let word = |offset: u64| self.peek::<u64>(at + offset);
        let time = |offset: u64| Ok::<_, Code>(word(offset)?.wrapping_mul(1_000_000_000).wrapping_add(word(offset + 8)?));
        Ok(Stat { device: word(0)?, inode: word(8)?, links: word(16)?, mode: self.peek(at + 24)?, size: word(48)?, times: [time(72)?, time(88)?, time(104)?] })
    }

    /// What a host descriptor is. The answer is the runtime's own business, and takes no right.
    pub(super) fn kind_of(&mut self, host: i32) -> Result<Kind, Code> {
        let mut stat = [0u64; STAT_BYTES / 8];
        crate::pass::quick(libc::SYS_fstat, &[host as u64, crate::pass::at_mut(&mut stat)])?;
        let kind = Kind::of_mode(stat[3] as u32);
        if kind != Kind::SocketStream {
            return Ok(kind);
        }
        let (mut socket_type, mut length) = (0u32, 4u32);
        let option = [host as u64, libc::SOL_SOCKET as u64, libc::SO_TYPE as u64, crate::pass::at_mut(&mut socket_type), crate::pass::at_mut(&mut length)];
        let known = crate::pass::quick(libc::SYS_getsockopt, &option);
        Ok(if known.is_ok() && socket_type == libc::SOCK_DGRAM as u32 { Kind::SocketDgram } else { kind })
    }

    /// The standard streams that are open, under their numbers. A terminal has no place to seek to.
    pub(super) fn give_streams(&mut self) {
        for stream in 0..3 {
            let Ok(kind) = self.kind_of(stream) else { continue };
            let mut descriptor = Descriptor::new(stream, kind);
            if kind == Kind::CharacterDevice {
                // A C library takes what cannot be sought in for a terminal.
                descriptor.base &= !(right::FD_SEEK | right::FD_TELL);
            }
            self.program.table.put(stream as u32, descriptor);
        }
    }

    /// Opens a directory that the program is given at its start, under a name. One that may be searched and not read is good for all but listing.
    /// Numbers have no gap: C libraries look at them up to the first that is no directory given at the start.
    pub(super) fn give_directory(&mut self, path: &CStr, name: &[u8]) {
        let Ok(path) = self.lay(path.to_bytes_with_nul()) else { return };
        let open = |call: &mut Self, flags: i32| call.row(libc::SYS_openat, &[libc::AT_FDCWD as u64, path, (flags | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64, 0]);
        if let Ok(host) = open(self, libc::O_RDONLY).or_else(|_| open(self, libc::O_PATH)) {
            let descriptor = Descriptor { preopen: Some(name.to_vec()), ..Descriptor::new(host as i32, Kind::Directory) };
            self.program.table.add_from(FIRST_DIRECTORY, descriptor).expect("a manifest names at most 64, and nothing else is open");
        }
    }
}
