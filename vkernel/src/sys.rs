//! Kernel interfaces that neither libc's wrappers nor nix or rustix offer: raw syscalls behind safe functions. Owns numbers and calling
//! conventions, no policy. The fact a newcomer gets wrong: `pidfd_getfd` returns a descriptor that shares the file offset with the original.

use std::ffi::{CStr, CString};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// `pidfd_open(2)`: the id may name a thread, Linux ≥ 6.9.
pub const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

/// `clone3(2)`; libc's constant does not hold the whole number.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

fn fd(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// Turns the C convention (-1 and errno) into a `Result`.
pub fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn pidfd_open(pid: u32, flags: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })
}

pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, target: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    fd(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), target, 0) })
}

pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo means "as kill(2) would".
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<u8>(), 0) }).map(drop)
}

/// `memfd_create(2)` with CLOEXEC; the name only shows in /proc.
pub fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    fd(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC) })
}

/// The same for a file that can be sealed.
pub fn sealable_memfd(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    fd(unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) })
}

/// A file in memory with these bytes, to be read from its beginning.
pub fn memory_file(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd(name)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Which file or directory lies there, by device and inode; `None`: none that can be seen.
pub fn identity(path: &std::path::Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// `openat2(2)` below `root` with the guest's idea of `/` and without following magic links.
pub fn open_in_root(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)
}

/// The same for a path on which no symbolic link may lie.
pub fn open_plain(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS)
}

fn open_resolved(root: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    // openat2 refuses flags that mean nothing with O_PATH, which opens nothing that could block.
    let safe = if flags & libc::O_PATH != 0 { libc::O_CLOEXEC } else { libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY };
    let how = OpenHow { flags: (flags | safe) as u64, mode: 0, resolve };
    // SAFETY: `how` is a valid open_how of the size given; `path` is NUL-terminated.
    fd(unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<OpenHow>()) })
}

/// A fresh open file description, read-only, of whatever `file` refers to (O_PATH included): its offset is ours alone.
pub fn reopen(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("digits hold no NUL");
    // SAFETY: `path` is NUL-terminated.
    fd(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC) }.into())
}

/// Where an open file lies, as seen from the root of its mount.
pub fn path_of(file: BorrowedFd<'_>) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    Some(link.to_string_lossy().into_owned())
}

pub fn fstat(file: BorrowedFd<'_>) -> io::Result<libc::stat> {
    let mut st = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `st` has room for a stat; it is read only when the call succeeded.
    check(unsafe { libc::fstat(file.as_raw_fd(), st.as_mut_ptr()) }.into()).map(|_| unsafe { st.assume_init() })
}

/// Copies at most `max` bytes from another process, stopping at a page that is not there; untrusted bytes.
pub fn read_memory(pid: u32, addr: u64, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; max];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: max };
    // Two remote pieces split at the page boundary: a partial read then ends at the boundary instead of failing.
    let first = (4096 - (addr & 4095) as usize).min(max);
    let remote = [libc::iovec { iov_base: addr as *mut _, iov_len: first }, libc::iovec { iov_base: addr.wrapping_add(first as u64) as *mut _, iov_len: max - first }];
    // SAFETY: the local vector is our own buffer; remote addresses are checked by the kernel.
    let n = check(unsafe { libc::process_vm_readv(pid as i32, &raw const local, 1, remote.as_ptr(), 2, 0) } as libc::c_long)?;
    bytes.truncate(n as usize);
    Ok(bytes)
}

/// `open_tree(2)`: a detached copy of the mount at `path` (with all mounts below it if `recursive`), that nobody sees until it is attached. Of a mount of this namespace: before Linux 6.15 not of another detached copy (EINVAL).
pub fn clone_tree(at: BorrowedFd<'_>, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32 | if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    // SAFETY: `path` is NUL-terminated.
    fd(unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), path.as_ptr(), flags) })
}

/// `mount_setattr(2)` on a detached tree and everything below it.
pub fn set_tree(tree: BorrowedFd<'_>, attributes: &libc::mount_attr) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the attributes have the size given; the path is an empty string.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, &raw const *attributes, size_of::<libc::mount_attr>()) }).map(drop)
}

/// Lets nothing be written through a detached tree and what is mounted below it.
pub fn make_read_only(tree: BorrowedFd<'_>) -> io::Result<()> {
    set_tree(tree, &libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 })
}

/// `move_mount(2)`: attaches a detached tree on the open place `to`.
pub fn attach(tree: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are empty strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), to.as_raw_fd(), c"".as_ptr(), flags) }).map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: callers own no descriptor objects that outlive this call (only made right before guest code runs).
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// As many descriptors as the administrator lets this process have; how many that were before, and at most.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok((soft, hard))
}

/// Unpredictable bits.
pub fn random() -> io::Result<u64> {
    let mut word = 0u64;
    // SAFETY: writes at most the eight bytes of `word`.
    let got = unsafe { libc::getrandom((&raw mut word).cast(), size_of::<u64>(), 0) };
    if got == size_of::<u64>() as isize { Ok(word) } else { Err(io::Error::last_os_error()) }
}

/// `prctl(2)` with up to two arguments.
pub fn prctl(option: i32, a: u64, b: u64) -> io::Result<i32> {
    // SAFETY: only options without pointer arguments are used in this crate.
    check(unsafe { libc::prctl(option, a, b, 0, 0) }.into()).map(|v| v as i32)
}

/// `fork(2)`, the child in a control group of version 2 from its first moment (`CLONE_INTO_CGROUP`); `None` in the child. To move it there later costs the host a grace period of RCU: 10 ms and more.
///
/// libc knows nothing of this child, so it is made as libc's own `fork` would leave it; where that cannot be done (other threads, a kernel that does not say where the thread's id is kept) it is an error.
pub fn fork_into(group: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    unsafe extern "C" {
        /// `<sys/single_threaded.h>`
        static __libc_single_threaded: libc::c_char;
    }
    // SAFETY: libc's variable is a byte that only it writes, at a thread's start.
    if unsafe { (&raw const __libc_single_threaded).read_volatile() } == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let (mut tid, mut robust, mut robust_size) = (0u64, 0u64, 0usize);
    // SAFETY: each call writes one word (the size: a size_t) to the place given.
    unsafe {
        check(libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut tid, 0, 0, 0).into())?;
        check(libc::syscall(libc::SYS_get_robust_list, 0, &raw mut robust, &raw mut robust_size))?;
    }
    // SAFETY: a structure of plain numbers, for which zero means "not asked for".
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as u64 | CLONE_INTO_CGROUP;
    how.child_tid = tid;
    how.exit_signal = libc::SIGCHLD as u64;
    how.cgroup = group.as_raw_fd() as u64;
    // SAFETY: without CLONE_VM the child is a copy of this process, its stack included. Nobody holds a lock of libc's: there is no other thread. The thread's id is written where libc keeps it.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const how, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        // SAFETY: the list this thread had in the parent; the kernel forgot it at the fork.
        unsafe { libc::syscall(libc::SYS_set_robust_list, robust, robust_size) };
        return Ok(None);
    }
    Ok(Some(pid as u32))
}
