//! File rows against the host: the same call with guest pointers and with host pointers gives the same answer and the same bytes.

use crate::errno::Errno;
use crate::guest::WINDOW_BYTES;
use crate::pass::{at, at_mut};
use crate::trial::{Trial, native};
use std::ffi::CString;
use std::os::fd::AsRawFd;

const CWD: u64 = libc::AT_FDCWD as u64;
/// No guest address: beyond the window.
const WILD: u64 = WINDOW_BYTES + 4096;

fn file() -> std::fs::File {
    let (file, path) = tempfile();
    std::fs::remove_file(path).unwrap();
    file
}

/// A fresh file and its path.
fn tempfile() -> (std::fs::File, String) {
    static N: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = N.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("vkernel-fs-{}-{n}", std::process::id()));
    let file = std::fs::File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    (file, path.to_str().unwrap().to_owned())
}

/// Removes the file at the end of a test.
struct Gone(String);
impl Drop for Gone {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn stat_calls_equal_the_hosts_byte_for_byte() {
    let mut t = Trial::new();
    for path in ["/etc/passwd", "/etc", "/dev/null", "/nonexistent", "", "/etc/passwd/x"] {
        let (guest_path, out) = (t.put_str(path), t.room(144));
        let host_path = CString::new(path).unwrap();
        for (name, nr) in [("stat", libc::SYS_stat), ("lstat", libc::SYS_lstat)] {
            let mut want = [0xa5u8; 144];
            let expected = native(nr, &[host_path.as_ptr() as u64, at_mut(&mut want)]);
            assert_eq!(t.call(name, &[guest_path, out]), expected, "{name} {path}");
            if expected.is_ok() {
                assert_eq!(t.get(out, 144), want, "{name} {path}");
            }
        }
        let mut want = [0xa5u8; 144];
        let expected = native(libc::SYS_newfstatat, &[CWD, host_path.as_ptr() as u64, at_mut(&mut want), 0]);
        assert_eq!(t.call("newfstatat", &[CWD, guest_path, out, 0]), expected);
    }
}

#[test]
fn statx_and_statfs_fill_exactly_their_structures() {
    let mut t = Trial::new();
    let (path, out) = (t.put_str("/etc/passwd"), t.room(512));
    assert_eq!(t.call("statx", &[CWD, path, 0, 0x7ff, out]), Ok(0));
    assert_eq!(t.get(out + 256, 8), [0xa5; 8]);
    let (dir, out) = (t.put_str("/"), t.room(256));
    assert_eq!(t.call("statfs", &[dir, out]), Ok(0));
    assert_eq!(t.get(out + 120, 8), [0xa5; 8]);
}

#[test]
fn a_bad_descriptor_is_ebadf_before_a_bad_pointer_is_efault() {
    let mut t = Trial::new();
    let f = file();
    for name in ["read", "write", "readv", "writev", "fstat", "getdents64", "pread64"] {
        assert_eq!(t.call(name, &[9999, WILD, 1]), Err(Errno::EBADF), "{name}");
    }
    for name in ["write", "fstat", "writev"] {
        assert_eq!(t.call(name, &[f.as_raw_fd() as u64, WILD, 1]), Err(Errno::EFAULT), "{name}");
    }
}

#[test]
fn a_write_running_past_the_end_of_the_window_writes_what_is_there() {
    let mut t = Trial::new();
    let f = file();
    let fd = f.as_raw_fd() as u64;
    assert_eq!(t.call("write", &[fd, WINDOW_BYTES - 10, 4096]), Ok(10));
    assert_eq!(f.metadata().unwrap().len(), 10);
    assert_eq!(t.call("write", &[fd, WINDOW_BYTES - 10, u64::MAX]), Err(Errno::EFAULT));
    assert_eq!(t.call("pread64", &[fd, WINDOW_BYTES - 5, 4096, 0]), Ok(5));
}

#[test]
fn vectors_are_rebuilt_and_checked() {
    let mut t = Trial::new();
    let f = file();
    let fd = f.as_raw_fd() as u64;
    let (a, b) = (t.put(b"hello "), t.put(b"world"));
    let vec = t.put_words(&[a, 6, 0, 0, b, 5]);
    assert_eq!(t.call("writev", &[fd, vec, 3]), Ok(11));
    let out = t.room(16);
    let vec = t.put_words(&[out, 4, out + 4, 12]);
    assert_eq!(t.call("preadv", &[fd, vec, 2, 0, 0]), Ok(11));
    assert_eq!(t.get(out, 11), b"hello world");
    assert_eq!(t.call("writev", &[fd, vec, 1025]), Err(Errno::EINVAL));
    let negative = t.put_words(&[a, u64::MAX]);
    assert_eq!(t.call("writev", &[fd, negative, 1]), Err(Errno::EINVAL));
    let host = at(&b) - 4096;
    let outside = t.put_words(&[host, 8]);
    assert_eq!(t.call("writev", &[fd, outside, 1]), Err(Errno::EFAULT));
}

#[test]
fn unknown_ioctls_and_fcntls_are_refused_after_the_descriptor_was_looked_at() {
    let mut t = Trial::new();
    let f = file();
    let fd = f.as_raw_fd() as u64;
    // SIOCETHTOOL holds a nested pointer.
    assert_eq!(t.call("ioctl", &[fd, 0x8946, 0]), Err(Errno::ENOTTY));
    assert_eq!(t.call("ioctl", &[9999, 0x8946, 0]), Err(Errno::EBADF));
    assert_eq!(t.call("ioctl", &[fd, 0x5412, 0]), Err(Errno::EPERM));
    assert_eq!(t.call("ioctl", &[fd, 0x4004_9409, 0]), Err(Errno::ENOTSUP));
    assert_eq!(t.call("ioctl", &[fd, 0x5401, 0]), Err(Errno::ENOTTY));
    assert_eq!(t.call("fcntl", &[fd, 4242, 0]), Err(Errno::EINVAL));
    assert_eq!(t.call("fcntl", &[9999, 4242, 0]), Err(Errno::EBADF));
    assert_eq!(t.call("fcntl", &[fd, libc::F_GETFD as u64, 0]), Ok(1));
}

#[test]
fn a_descriptor_that_is_only_a_path_is_no_file_to_ioctl_and_fcntl() {
    let mut t = Trial::new();
    let path = t.put_str("/etc/passwd");
    let fd = t.call("open", &[path, libc::O_PATH as u64]).unwrap();
    for request in [0x8946, 0x5412, 0x5401] {
        assert_eq!(t.call("ioctl", &[fd, request, 0]), Err(Errno::EBADF));
    }
    assert_eq!(t.call("fcntl", &[fd, 4242, 0]), Err(Errno::EBADF));
    assert_eq!(t.call("fcntl", &[fd, libc::F_GETOWN as u64, 0]), Err(Errno::EBADF));
    assert!(t.call("fcntl", &[fd, libc::F_GETFL as u64, 0]).is_ok_and(|flags| flags & libc::O_PATH as u64 != 0));
    assert_eq!(t.call("close", &[fd]), Ok(0));
}

#[test]
fn an_owner_that_is_a_group_is_a_negative_number() {
    let mut t = Trial::new();
    let f = file();
    let fd = f.as_raw_fd() as u64;
    // SAFETY: getpgrp has no preconditions.
    let (pid, group) = (u64::from(std::process::id()), i64::from(unsafe { libc::getpgrp() }));
    assert_eq!(t.call("fcntl", &[fd, libc::F_GETOWN as u64, 0]), Ok(0));
    assert_eq!(t.call("fcntl", &[fd, libc::F_SETOWN as u64, pid]), Ok(0));
    assert_eq!(t.call("fcntl", &[fd, libc::F_GETOWN as u64, 0]), Ok(pid));
    assert_eq!(t.call("fcntl", &[fd, libc::F_SETOWN as u64, -group as u64]), Ok(0));
    assert_eq!(t.call("fcntl", &[fd, libc::F_GETOWN as u64, 0]), Ok(-group as u64));
}

#[test]
fn a_table_of_descriptors_of_its_own_is_for_a_thread_that_is_alone() {
    let mut t = Trial::new();
    let (from, unshare) = (1_000_000, u64::from(libc::CLOSE_RANGE_UNSHARE));
    assert_eq!(t.call("close_range", &[from, u64::MAX, unshare]), Ok(0));
    t.thread.process.threads().tids.push(0);
    assert_eq!(t.call("close_range", &[from, u64::MAX, unshare]), Err(Errno::EINVAL));
    assert_eq!(t.call("close_range", &[from, u64::MAX, 0]), Ok(0));
    assert_eq!(t.call("close_range", &[from, u64::MAX, 64]), Err(Errno::EINVAL));
}

/// The runtime's own write into the file it shows ended the reader by SIGXFSZ.
#[test]
fn a_limit_on_the_length_of_files_does_not_keep_a_process_from_reading_its_maps() {
    crate::testing::in_child(|| {
        let (mut t, _) = crate::testing::guest();
        let maps = t.process.memory().render_maps();
        let at = t.cpu().gpr[crate::thread::reg::RSP];
        t.window().copy_out(at, b"/proc/self/maps\0").unwrap();
        for (limit, kind) in [(maps.len() as u64, libc::S_IFREG), (1, libc::S_IFIFO), (0, libc::S_IFIFO)] {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: a live structure.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
            let fd = crate::testing::call(&mut t, libc::SYS_open, &[at, 0]).unwrap() as i32;
            // SAFETY: a descriptor just made, owned by the file from here on.
            let mut file = unsafe { <std::fs::File as std::os::fd::FromRawFd>::from_raw_fd(fd) };
            use std::os::unix::fs::MetadataExt;
            assert_eq!(file.metadata().unwrap().mode() & libc::S_IFMT, kind);
            assert_eq!(std::io::read_to_string(&mut file).unwrap(), maps);
        }
    });
}

#[test]
fn a_terminal_answers_its_ioctls() {
    let mut t = Trial::new();
    let master = t.put_str("/dev/ptmx");
    let Ok(fd) = t.call("open", &[master, (libc::O_RDWR | libc::O_NOCTTY) as u64]) else { return };
    let out = t.room(64);
    assert_eq!(t.call("ioctl", &[fd, 0x5401, out]), Ok(0));
    assert_eq!(t.get(out + 36, 4), [0xa5; 4]);
    let size = t.put(&[24, 0, 80, 0, 0, 0, 0, 0]);
    assert_eq!(t.call("ioctl", &[fd, libc::TIOCSWINSZ, size]), Ok(0));
    assert_eq!(t.call("ioctl", &[fd, libc::TIOCGWINSZ, out]), Ok(0));
    assert_eq!(t.get(out, 4), [24, 0, 80, 0]);
    assert_eq!(t.call("ioctl", &[fd, 0x8004_5430, out]), Ok(0));
    assert_eq!(t.call("close", &[fd]), Ok(0));
}

#[test]
fn locks_pass_their_structure_through() {
    let mut t = Trial::new();
    let f = file();
    let fd = f.as_raw_fd() as u64;
    // struct flock: type, whence, start, len, pid
    let lock = t.put_words(&[libc::F_WRLCK as u64, 0, 0, 0]);
    assert_eq!(t.call("fcntl", &[fd, libc::F_OFD_SETLK as u64, lock]), Ok(0));
    assert_eq!(t.call("fcntl", &[fd, libc::F_SETLK as u64, WILD]), Err(Errno::EFAULT));
    assert_eq!(t.call("fcntl", &[fd, 16, lock]), Ok(0));
}

#[test]
fn names_can_be_made_read_and_removed() {
    let mut t = Trial::new();
    let (f, path) = tempfile();
    drop(f);
    let _gone = (Gone(path.clone()), Gone(format!("{path}.l")), Gone(format!("{path}.h")));
    let (p, l, h) = (t.put_str(&path), t.put_str(&format!("{path}.l")), t.put_str(&format!("{path}.h")));
    assert_eq!(t.call("symlink", &[p, l]), Ok(0));
    assert_eq!(t.call("symlink", &[p, l]), Err(Errno::EEXIST));
    let out = t.room(256);
    assert_eq!(t.call("readlink", &[l, out, 256]), Ok(path.len() as u64));
    assert_eq!(t.get(out, path.len()), path.as_bytes());
    assert_eq!(t.call("readlink", &[l, out, 3]), Ok(3));
    assert_eq!(t.call("readlink", &[l, out, 0]), Err(Errno::EINVAL));
    assert_eq!(t.call("readlink", &[p, out, 9]), Err(Errno::EINVAL));
    assert_eq!(t.call("link", &[p, h]), Ok(0));
    assert_eq!(t.call("renameat2", &[CWD, h, CWD, p, 1]), Err(Errno::EEXIST));
    assert_eq!(t.call("unlinkat", &[CWD, h, 0]), Ok(0));
    assert_eq!(t.call("unlink", &[h]), Err(Errno::ENOENT));
    let times = t.put_words(&[1, 2, 3, 4]);
    assert_eq!(t.call("utimensat", &[CWD, p, times, 0]), Ok(0));
    let stat = t.room(144);
    assert_eq!(t.call("stat", &[p, stat]), Ok(0));
    assert_eq!([72, 80, 88, 96].map(|o| t.word(stat + o)), [1, 2, 3, 4]);
}

#[test]
fn a_path_longer_than_path_max_is_refused_and_one_without_end_faults() {
    let mut t = Trial::new();
    let long = t.put_str(&"a/".repeat(2048));
    assert_eq!(t.call("open", &[long, 0]), Err(Errno::ENAMETOOLONG));
    let tail = WINDOW_BYTES - 3;
    t.thread.window().copy_out(tail, b"abc").unwrap();
    assert_eq!(t.call("open", &[tail, 0]), Err(Errno::EFAULT));
    assert_eq!(t.call("open", &[WILD, 0]), Err(Errno::EFAULT));
    assert_eq!(t.call("open", &[0, 0]), Err(Errno::EFAULT));
}

#[test]
fn openat2_keeps_the_extensible_size() {
    let mut t = Trial::new();
    let path = t.put_str("/etc/passwd");
    let how = t.put_words(&[0, 0, 0, 0]);
    let fd = t.call("openat2", &[CWD, path, how, 24]).unwrap();
    assert_eq!(t.call("openat2", &[CWD, path, how, 8]), Err(Errno::EINVAL));
    assert!(t.call("openat2", &[CWD, path, how, 32]).is_ok_and(|fd| t.call("close", &[fd]) == Ok(0)));
    let longer = t.put_words(&[0, 0, 0, 1]);
    assert_eq!(t.call("openat2", &[CWD, path, longer, 32]), Err(Errno::E2BIG));
    assert_eq!(t.call("close", &[fd]), Ok(0));
}

#[test]
fn access_asks_the_kernel_first() {
    let mut t = Trial::new();
    let (_f, path) = tempfile();
    let _gone = Gone(path.clone());
    let p = t.put_str(&path);
    assert_eq!(t.call("access", &[p, libc::R_OK as u64]), Ok(0));
    assert_eq!(t.call("access", &[p, libc::X_OK as u64]), Err(Errno::EACCES));
    assert_eq!(t.call("faccessat2", &[CWD, p, libc::X_OK as u64, libc::AT_EACCESS as u64]), Err(Errno::EACCES));
    assert_eq!(t.call("access", &[p, 64]), Err(Errno::EINVAL));
    // procfs is noexec everywhere: the kernel's refusal stands.
    let proc_file = t.put_str("/proc/self/attr/current");
    let _ = t.call("access", &[proc_file, libc::X_OK as u64]).unwrap_err();
}

#[test]
fn extended_attributes_with_size_zero_ask_for_the_length() {
    let mut t = Trial::new();
    let (_f, path) = tempfile();
    let _gone = Gone(path.clone());
    let (p, name) = (t.put_str(&path), t.put_str("user.vkernel"));
    let (value, out) = (t.put(b"value"), t.room(64));
    match t.call("setxattr", &[p, name, value, 5, 0]) {
        Ok(_) => {
            assert_eq!(t.call("getxattr", &[p, name, WILD, 0]), Ok(5));
            assert_eq!(t.call("getxattr", &[p, name, out, 64]), Ok(5));
            assert_eq!(t.get(out, 6), b"value\xa5");
            assert_eq!(t.call("getxattr", &[p, name, out, 2]), Err(Errno::ERANGE));
        }
        Err(e) => assert_eq!(e, Errno::ENOTSUP),
    }
    let long = t.put_str(&"x".repeat(300));
    assert_eq!(t.call("lgetxattr", &[p, long, out, 8]), Err(Errno::ERANGE));
}

/// Reads a procfs file as the guest.
fn read_all(t: &mut Trial, path: &str) -> Result<Vec<u8>, Errno> {
    let (p, out) = (t.put_str(path), t.room(4096));
    let fd = t.call("openat", &[CWD, p, libc::O_CLOEXEC as u64])?;
    let n = t.call("read", &[fd, out, 4096]);
    assert_eq!(t.call("fcntl", &[fd, libc::F_GETFD as u64]), Ok(1));
    t.call("close", &[fd]).unwrap();
    Ok(t.get(out, n? as usize))
}

#[test]
fn procfs_about_the_process_shows_the_guest() {
    let mut t = Trial::new();
    let args = t.put(b"ls\0-l\0");
    let env = t.put(b"A=1\0");
    *t.thread.process.exe.lock().unwrap() = Some(crate::process::Exe {
        id: crate::host::ObjectId(1),
        path: c"/etc/passwd".into(),
        argv: vec![],
        comm: b"ls".to_vec(),
        auxv: vec![[6, 4096], [0, 0]],
        args: (args, args + 6),
        env: (env, env + 4),
        scripts: vec![],
    });
    let pid = std::process::id();
    assert_eq!(read_all(&mut t, "/proc/self/cmdline").unwrap(), b"ls\0-l\0");
    assert_eq!(read_all(&mut t, &format!("/proc/{pid}/environ")).unwrap(), b"A=1\0");
    assert_eq!(read_all(&mut t, "/proc/thread-self/auxv").unwrap()[..16], [[6, 0, 0, 0, 0, 0, 0, 0], [0, 16, 0, 0, 0, 0, 0, 0]].concat());
    let maps = t.thread.process.memory.lock().unwrap().render_maps();
    assert_eq!(read_all(&mut t, "/proc/self/maps").unwrap(), maps.into_bytes());
    for hidden in ["mem", "smaps", "pagemap", "syscall"] {
        assert_eq!(read_all(&mut t, &format!("/proc/self/{hidden}")), Err(Errno::EACCES), "{hidden}");
    }
    assert_eq!(read_all(&mut t, "/proc/1/maps").err(), Some(Errno::EACCES));
    assert!(read_all(&mut t, "/proc/self/status").is_ok());
}

#[test]
fn proc_self_exe_is_the_guests_program_however_it_is_reached() {
    let mut t = Trial::new();
    let exe = |path: &std::ffi::CStr| crate::process::Exe {
        id: crate::host::ObjectId(1),
        path: path.into(),
        argv: vec![],
        comm: vec![],
        auxv: vec![],
        args: (0, 0),
        env: (0, 0),
        scripts: vec![],
    };
    *t.thread.process.exe.lock().unwrap() = Some(exe(c"/etc/passwd"));
    let link = std::env::temp_dir().join(format!("vkernel-exe-{}", std::process::id()));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("/proc/self/exe", &link).unwrap();
    let _gone = Gone(link.to_str().unwrap().to_owned());
    let passwd = std::fs::read("/etc/passwd").unwrap();
    let out = t.room(256);
    for path in ["/proc/self/exe", &format!("/proc/{}/exe", std::process::id()), "/proc/thread-self/exe"] {
        let p = t.put_str(path);
        assert_eq!(t.call("readlink", &[p, out, 256]), Ok(11), "{path}");
        assert_eq!(t.get(out, 11), b"/etc/passwd");
    }
    for path in ["/proc/self/exe", link.to_str().unwrap()] {
        assert_eq!(read_all(&mut t, path).unwrap(), passwd[..passwd.len().min(4096)], "{path}");
        let p = t.put_str(path);
        assert_eq!(t.call("open", &[p, libc::O_RDWR as u64]).err(), Some(Errno::ETXTBSY));
    }
    let (p, stat, want) = (t.put_str("/proc/self/exe"), t.room(144), t.room(144));
    let passwd_path = t.put_str("/etc/passwd");
    assert_eq!((t.call("stat", &[p, stat]), t.call("stat", &[passwd_path, want])), (Ok(0), Ok(0)));
    assert_eq!(t.get(stat, 16), t.get(want, 16));
}
