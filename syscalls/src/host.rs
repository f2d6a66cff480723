//! What a guest process needs from outside this crate: the supervisor's answers, the signed image, host threads. Owns the
//! trait and the plain data that crosses it; the loader implements it.
//!
//! The fact a newcomer gets wrong: nothing here lets a guest *name* code. A file is shown (`exec`, `library`), the supervisor answers with the
//! number of a signed object, and that number's segments come from `vkernel.image`, never from the file that was shown.

use crate::errno::Errno;
use crate::thread::NewThread;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Number of a signed object (main program or library) as the supervisor answers it: positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

impl ObjectId {
    /// Answer to `Host::exec` for an approved script: the caller opens the `#!` interpreter and asks again.
    pub const SCRIPT: ObjectId = ObjectId(0x7fff_ffff);
}

/// A positive answer to `Host::exec`.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The object to become, or `ObjectId::SCRIPT`.
    pub id: ObjectId,
    /// The scripts that it depended on.
    pub texts: Vec<Text>,
}

/// A script as it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// As the command line names it; empty: the file that was shown.
    pub name: CString,
    /// Device and inode of the file that was read.
    pub identity: (u64, u64),
    pub bytes: Arc<[u8]>,
}

/// A PT_LOAD segment, page-aligned at both ends. Bytes come from `vkernel.image`; what lies beyond `image_len` is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest address, a multiple of 4096.
    pub start: u64,
    /// Length in guest memory, a multiple of 4096.
    pub mem_len: u64,
    /// Bytes present in the image from `start` on (the lead-in of the first page included); the rest of `mem_len` reads as zero.
    pub image_len: u64,
    /// Offset of `start`'s bytes in `vkernel.image`, a multiple of 4096.
    pub image_offset: u64,
    /// Offset of `start` in the original ELF file, a multiple of 4096.
    pub file_offset: u64,
    /// PROT_READ | PROT_WRITE | PROT_EXEC as the guest sees it. The host never sees PROT_EXEC.
    pub prot: i32,
}

/// A signed ELF object at its address slot. All addresses are guest addresses, the load bias already added.
#[derive(Clone, Debug)]
pub struct Object {
    /// Path in the image, for /proc/self/maps and messages.
    pub path: CString,
    /// Load bias: 0 for non-PIE executables.
    pub base: u64,
    /// First and one-past-last page of the slot: everything the segments cover.
    pub start: u64,
    pub end: u64,
    pub entry: u64,
    /// Address, entry size and count of the program headers in memory (AT_PHDR, AT_PHENT, AT_PHNUM).
    pub phdr: u64,
    pub phent: u64,
    pub phnum: u64,
    /// PT_INTERP.
    pub interpreter: Option<CString>,
    pub segments: Vec<Segment>,
    /// Syscalls this program may make; for libraries unused.
    pub allow: crate::process::AllowList,
    /// A WASI program instead of an ELF object, by its number among them: it has no addresses and no segments.
    pub wasi: Option<usize>,
    /// Directories that a WASI program is given by name, besides its root.
    pub directories: Vec<CString>,
}

/// An argument as a program is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Text(CString),
    /// The whole path of a file that the caller calls `name`, or `name` and one of the suffixes.
    File {
        name: CString,
        suffixes: Vec<CString>,
    },
}

/// A program that ends as soon as it begins, with a line on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub line: String,
    pub status: i32,
}

/// Something worth an audit record that originates in a worker.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The allow-list has no such syscall: EPERM.
    Refused { name: &'a str, nr: u64 },
    /// The allow-list has no such syscall, and it is made all the same (`Watch::permissive`); once per program and number.
    WouldRefuse { nr: u64 },
    /// A listed syscall is made (`Watch::recorded`); once per program and number.
    Used { nr: u64 },
    /// No row: ENOSYS; once per program and number.
    Unknown { nr: u64 },
    /// PROT_EXEC of something that is not a known library: EACCES.
    ExecutableMapping { path: &'a str },
    /// The guest stopped at an instruction without semantics.
    Gap { rip: u64 },
    /// A handler returned from a fault of structured code, whose registers are not known: the process ends.
    Irreparable { address: u64 },
    /// A WASI program trapped: the process ends.
    Trap,
}

/// What else is done about allow-lists besides keeping them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// A call that the list lacks is made, with a record, unless the table itself refuses it.
    pub permissive: bool,
    /// Listed calls are recorded, too.
    pub recorded: bool,
}

/// The outside world of a guest process.
pub trait Host: Send + Sync {
    /// Performs the real `execveat(fd, "", …, AT_EMPTY_PATH)` that the supervisor answers. EMFILE: nobody was asked yet.
    fn exec(&self, fd: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> Result<Granted, Errno>;

    /// The arguments that the program gets of those its caller gave. `on_terminal`: its standard input is one.
    fn arguments(&self, id: ObjectId, argv: Vec<CString>, on_terminal: bool) -> Result<Vec<Argument>, Refusal> {
        let _ = (id, on_terminal);
        Ok(argv.into_iter().map(Argument::Text).collect())
    }

    /// The environment that the program gets of the one its caller gave.
    fn environment(&self, id: ObjectId, envp: Vec<CString>) -> Vec<CString> {
        let _ = id;
        envp
    }

    /// Asks which known library this open file is. `None`: not a signed object.
    fn library(&self, fd: BorrowedFd<'_>) -> Result<Option<ObjectId>, Errno>;

    /// Facts of an object the supervisor named.
    fn object(&self, id: ObjectId) -> &Object;

    /// Maps `len` bytes of `vkernel.image` at `offset` privately at host address `at` (MAP_FIXED | MAP_PRIVATE), with host protection `prot`.
    fn map_image(&self, at: *mut u8, len: usize, offset: u64, prot: i32) -> Result<(), Errno>;

    /// Makes the object's code reachable: fills the code map.
    fn bind(&self, id: ObjectId);

    /// Takes the object's code out of the code map.
    fn unbind(&self, id: ObjectId);

    /// Takes every object out of the code map (exec).
    fn unbind_all(&self);

    /// Makes a host thread that calls `NewThread::begin` and runs the dispatcher. Need not wait for it.
    fn spawn_thread(&self, start: NewThread) -> Result<(), Errno>;

    /// How allow-lists are kept; the same for all of a process's life.
    fn watch(&self) -> Watch {
        Watch::default()
    }

    /// Called in the child after a fork, before any guest code runs; only the calling thread exists.
    fn forked(&self) {}

    /// An audit record.
    fn audit(&self, event: &Event<'_>);

    /// One line of `--strace`, with its newline.
    fn trace(&self, line: &str) {
        // SAFETY: writes from a live buffer. A failure has nowhere to be reported.
        unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
    }

    /// The path the guest asked to execute was approved: the process is about to become `id` (host `comm` and `cmdline` may follow).
    fn becoming(&self, id: ObjectId, path: &CStr, argv: &[CString]) {
        let _ = (id, path, argv);
    }
}
