//! The seccomp user-notification listener, supervisor side. Owns receiving, validating and answering requests; decides nothing.
//!
//! The fact a newcomer gets wrong: RECV says ENOENT both when the one target died and when no filtered task is left; only POLLHUP tells
//! them apart. There is no way in this module to let the kernel go on with the call: an answer is an errno or a positive number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const RECV: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const ID_VALID: libc::c_ulong = 0x4008_2102;
const ADD_FD: libc::c_ulong = 0x4018_2103;
/// At the number given, in the place of what is there (SECCOMP_ADDFD_FLAG_SETFD).
const SET_FD: u32 = 1;
const SET_FLAGS: libc::c_ulong = 0x4008_2104;
/// Wake the waiter on this CPU: the answer is a synchronous hand-over (Linux ≥ 6.6).
const SYNC_WAKE_UP: libc::c_ulong = 1;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub id: u64,
    /// Thread id in the supervisor's pid namespace; 0 when it is not visible there.
    pub pid: u32,
    pub flags: u32,
    pub nr: i32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}
const _: () = assert!(size_of::<Request>() == 80);

impl Request {
    /// RECV refuses a request structure that is not zeroed.
    pub const EMPTY: Self = Self { id: 0, pid: 0, flags: 0, nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
}

#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct Added {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}
const _: () = assert!(size_of::<Added>() == 24);

/// What the blocked call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A positive result, which execve never gives natively.
    Value(std::num::NonZeroU64),
    /// A positive errno.
    Errno(i32),
}

/// One container's listener.
pub struct Listener(OwnedFd);

impl Listener {
    pub fn new(fd: OwnedFd) -> Self {
        // Optional: older kernels answer EINVAL and wake the waiter elsewhere.
        // SAFETY: this ioctl takes its argument by value.
        let _ = unsafe { libc::ioctl(fd.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
        Self(fd)
    }

    /// Has the kernel write the next request, into memory that holds `Request::EMPTY`; `false` when its sender died meanwhile.
    pub fn receive_into(&self, request: &mut Request) -> io::Result<bool> {
        // SAFETY: `request` is a seccomp_notif of the size encoded in RECV.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), RECV, &raw mut *request) } == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(false),
            e => Err(e),
        }
    }

    /// Whether the request's sender still waits: to be asked after every access by pid.
    pub fn still_waits(&self, request: &Request) -> bool {
        let id = request.id;
        // SAFETY: ID_VALID reads one u64.
        unsafe { libc::ioctl(self.0.as_raw_fd(), ID_VALID, &raw const id) == 0 }
    }

    /// Gives the sender a file, close-on-exec, in the place of what it has under `number`: the thread that waits installs it, in its own table. A request that was interrupted and is made again gets it again.
    pub fn give(&self, request: &Request, file: BorrowedFd<'_>, number: u32) -> io::Result<()> {
        let added = Added { id: request.id, flags: SET_FD, source: file.as_raw_fd() as u32, number, number_flags: libc::O_CLOEXEC as u32 };
        loop {
            // SAFETY: `added` is a seccomp_notif_addfd of the size encoded in ADD_FD.
            if unsafe { libc::ioctl(self.0.as_raw_fd(), ADD_FD, &raw const added) } >= 0 {
                return Ok(());
            }
            match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            }
        }
    }

    /// Sends the answer; `false` when the sender died meanwhile.
    pub fn answer(&self, request: &Request, answer: Answer) -> bool {
        let (val, error) = match answer {
            Answer::Value(v) => (i64::try_from(v.get()).expect("entry numbers are below 2^36"), 0),
            Answer::Errno(e) => (0, -e),
        };
        let response = Response { id: request.id, val, error, flags: 0 };
        // SAFETY: `response` is a seccomp_notif_resp of the size encoded in SEND.
        unsafe { libc::ioctl(self.0.as_raw_fd(), SEND, &raw const response) == 0 }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
