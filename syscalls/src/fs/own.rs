//! The runtime's own names in procfs: of its open descriptors and of its executable.
//!
//! Owns what the runtime believes of /proc. Two facts a newcomer gets wrong: /proc/self is the *leader's*, which may have ended or have other descriptors than the calling thread, so only /proc/thread-self is ours; and the
//! /proc of the guest's root may be of the guest's own making, so nothing there is believed before it is known to be the root of a procfs.

use crate::errno::Errno;
use crate::pass::{at_mut, quick};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// The inode of a procfs's root directory (<linux/proc_fs.h>, PROC_ROOT_INO): a bind of something inside a procfs has another.
const ROOT: u64 = 1;

/// Whether the guest's /proc is a procfs. Remembered once it is: the guest can neither mount, nor unmount, nor change its root.
fn is_there() -> bool {
    static SEEN: AtomicBool = AtomicBool::new(false);
    let look = || {
        let how = (libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC) as u64;
        let fd = quick(libc::SYS_openat, &[libc::AT_FDCWD as u64, c"/proc".as_ptr() as u64, how])?;
        let found = is_procfs_root(fd);
        let _ = quick(libc::SYS_close, &[fd]);
        found
    };
    if !SEEN.load(Ordering::Relaxed) && look() == Ok(true) {
        SEEN.store(true, Ordering::Relaxed);
    }
    SEEN.load(Ordering::Relaxed)
}

/// Is this open directory the root of a procfs, or a bind of one?
pub fn is_procfs_root(fd: u64) -> Result<bool, Errno> {
    Ok(kind(fd)? == libc::PROC_SUPER_MAGIC && identity_of(fd, c"", libc::AT_EMPTY_PATH)?.1 == ROOT)
}

/// The magic number of an open file's file system.
pub(super) fn kind(fd: u64) -> Result<i64, Errno> {
    let mut fs = [0i64; 15];
    quick(libc::SYS_fstatfs, &[fd, at_mut(&mut fs)])?;
    Ok(fs[0])
}

/// A path by which the kernel reaches exactly this open file of the calling thread. ENOENT where no procfs is.
pub(crate) fn descriptor(fd: i32) -> Result<CString, Errno> {
    if is_there() { Ok(CString::new(format!("/proc/thread-self/fd/{fd}")).expect("a number has no NUL")) } else { Err(Errno::ENOENT) }
}

/// As `descriptor`, of another thread of this process.
pub(super) fn descriptor_of(tid: i32, fd: i32) -> Result<CString, Errno> {
    if is_there() { Ok(CString::new(format!("/proc/{}/task/{tid}/fd/{fd}", std::process::id())).expect("numbers have no NUL")) } else { Err(Errno::ENOENT) }
}

/// The kernel's name for the working directory.
pub(super) fn directory() -> Result<Vec<u8>, Errno> {
    if is_there() { link_text(libc::AT_FDCWD as u64, c"/proc/thread-self/cwd") } else { Err(Errno::ENOENT) }
}

/// The mounts of the calling thread's namespace (proc(5), mountinfo).
pub(super) fn mounts() -> Option<String> {
    if is_there() { std::fs::read_to_string("/proc/thread-self/mountinfo").ok() } else { None }
}

/// The kernel's name for an open file of the calling thread.
pub(crate) fn name(fd: i32) -> Result<Vec<u8>, Errno> {
    link_text(libc::AT_FDCWD as u64, &descriptor(fd)?)
}

/// The directory of the calling thread's descriptors.
pub(crate) fn descriptors() -> Option<&'static str> {
    is_there().then_some("/proc/thread-self/fd")
}

/// What the kernel says of the calling thread (proc(5), stat).
pub(crate) fn stat() -> Option<&'static str> {
    is_there().then_some("/proc/thread-self/stat")
}

/// The processes that this pid namespace shows.
pub(crate) fn processes() -> Option<impl Iterator<Item = u64>> {
    let all = if is_there() { std::fs::read_dir("/proc").ok()? } else { return None };
    Some(all.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()))
}

/// Is the calling thread the only one of its process?
pub(crate) fn alone() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The directory of the process's threads: `.`, `..` and one entry each.
    is_there() && std::fs::metadata("/proc/thread-self/..").is_ok_and(|m| m.nlink() == 3)
}

/// Device and inode of the runtime's executable; 0: not known. No lock, because a fork may happen meanwhile.
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);

/// Finds out which file the runtime's executable is. To be called while /proc is still the host's: what is not known then could be the guest's word later.
pub fn know_executable() -> Result<(), Errno> {
    let (device, inode) = identity_of(libc::AT_FDCWD as u64, c"/proc/thread-self/exe", 0)?;
    INODE.store(inode, Ordering::Relaxed);
    DEVICE.store(device, Ordering::Release);
    Ok(())
}

/// The runtime's executable, which /proc/self/exe leads to on the host side; `None` when it cannot be told (then nothing is to be believed), which is not remembered.
pub(super) fn executable() -> Option<Identity> {
    let known = || Some((DEVICE.load(Ordering::Acquire), INODE.load(Ordering::Relaxed))).filter(|known| known.0 != 0);
    known().or_else(|| if is_there() { know_executable().ok().and_then(|()| known()) } else { None })
}

/// readlinkat into a buffer of ours.
pub(super) fn link_text(dirfd: u64, path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut out = vec![0u8; crate::guest::PATH_MAX];
    let n = quick(libc::SYS_readlinkat, &[dirfd, path.as_ptr() as u64, out.as_mut_ptr() as u64, out.len() as u64])?;
    out.truncate(n as usize);
    Ok(out)
}

pub(super) fn identity_of(dirfd: u64, path: &CStr, flags: i32) -> Result<Identity, Errno> {
    stat_of(dirfd, path, flags).map(|s| (s.st_dev, s.st_ino))
}

/// Is this open O_PATH descriptor a symbolic link itself?
pub(super) fn is_link(fd: u64) -> Result<bool, Errno> {
    stat_of(fd, c"", libc::AT_EMPTY_PATH).map(|s| s.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

pub(super) fn is_regular(fd: u64) -> bool {
    stat_of(fd, c"", libc::AT_EMPTY_PATH).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFREG)
}

fn stat_of(dirfd: u64, path: &CStr, flags: i32) -> Result<libc::stat, Errno> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    quick(libc::SYS_newfstatat, &[dirfd, path.as_ptr() as u64, at_mut(&mut stat), flags as u64])?;
    // SAFETY: zero bytes are a valid `stat`, and the kernel filled it.
    Ok(unsafe { stat.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::in_child;

    /// Hides /proc of a child with a mount namespace of its own behind a directory that the "guest" fills.
    fn behind_a_proc_of_the_guests_making(check: fn()) {
        // SAFETY: the child changes its own namespace only.
        let own = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) == 0
                && libc::mount(c"none".as_ptr(), c"/proc".as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) == 0
        };
        if !own {
            return eprintln!("SKIPPED: this machine allows no mount namespace; run as root");
        }
        std::fs::create_dir_all("/proc/thread-self/fd").unwrap();
        check();
    }

    #[test]
    fn a_proc_that_is_no_procfs_is_not_believed() {
        in_child(|| {
            behind_a_proc_of_the_guests_making(|| {
                let fd = std::os::fd::IntoRawFd::into_raw_fd(std::fs::File::open("/etc/passwd").unwrap());
                std::os::unix::fs::symlink("/proc/cpuinfo", format!("/proc/thread-self/fd/{fd}")).unwrap();
                std::os::unix::fs::symlink("/etc/passwd", "/proc/thread-self/exe").unwrap();
                assert_eq!((name(fd), descriptors(), executable()), (Err(Errno::ENOENT), None, None));
            });
        });
    }

    #[test]
    fn a_failure_to_tell_the_executable_is_not_remembered() {
        in_child(|| {
            behind_a_proc_of_the_guests_making(|| {
                assert_eq!(executable(), None);
                // SAFETY: uncovers the procfs again.
                assert_eq!(unsafe { libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) }, 0);
                assert_eq!(executable(), identity_of(libc::AT_FDCWD as u64, c"/proc/self/exe", 0).ok());
            });
        });
    }

    #[test]
    fn names_are_those_of_the_calling_threads_own_descriptors() {
        let told = std::thread::spawn(|| {
            // SAFETY: this thread's own table.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            let fd = std::os::fd::IntoRawFd::into_raw_fd(std::fs::File::open("/etc/passwd").unwrap());
            // A number that the leader has not, or has for another file.
            // SAFETY: plain numbers, in this thread's table.
            assert_eq!(unsafe { libc::dup2(fd, 777) }, 777);
            name(777)
        });
        assert_eq!(told.join().unwrap().unwrap(), b"/etc/passwd");
    }
}
