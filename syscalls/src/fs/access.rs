//! access(2) and its relatives where the container's `noexec` mounts would make the kernel's X_OK answer wrong (04, point 8; 07, S26).
//!
//! Owns the execute-permission decision from mode bits, for access and for execve (`may_execute`). It does not decide whether a program runs:
//! the supervisor does. The fact a newcomer gets wrong: root may execute a file when *any* x bit is set, and an ACL's mask limits the group.

use crate::errno::Errno;
use crate::pass::{at_mut, path_at, quick};
use crate::table::SysResult;
use crate::thread::Thread;
use std::ffi::CString;
use std::mem::MaybeUninit;

/// File systems that are mounted noexec in every container, natively too: the kernel's answer stands.
const NOEXEC_NATIVELY: [i64; 7] = [
    libc::PROC_SUPER_MAGIC,
    0x6265_6572, /* sysfs */
    0x1cd1,      /* devpts */
    0x1980_0202, /* mqueue */
    0x0027_e0eb, /* cgroup */
    0x6367_7270, /* cgroup2 */
    0x7363_6673, /* securityfs */
];

pub(super) fn access_at(t: &mut Thread, dirfd: u64, path: u64, mode: u64, flags: u64) -> SysResult {
    let path = t.opt_path(path)?;
    let p = path_at(path.as_ref());
    let call = |mode: u64| {
        if flags == 0 { quick(libc::SYS_faccessat, &[dirfd, p, mode]) } else { quick(libc::SYS_faccessat2, &[dirfd, p, mode, flags]) }
    };
    match call(mode) {
        Err(Errno::EACCES) if mode & libc::X_OK as u64 != 0 => {}
        answer => return answer,
    }
    // The other bits, and search permission on the way, are still the kernel's business.
    call(mode & !(libc::X_OK as u64))?;
    let file = Opened::path(dirfd, path.as_ref(), flags)?;
    if !file.noexec_by_container()? {
        return Err(Errno::EACCES);
    }
    let effective = flags & libc::AT_EACCESS as u64 != 0;
    file.may_execute(effective)
}

/// Execute permission of an open (also O_PATH) file for the calling thread's effective ids: EACCES or 0. The mount's `noexec` is not looked at.
pub fn may_execute(fd: i32) -> SysResult {
    Opened { fd, own: false }.may_execute(true)
}

/// A file held by an O_PATH descriptor for the length of one call.
struct Opened {
    fd: i32,
    own: bool,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.own {
            // SAFETY: closes the descriptor this value opened.
            unsafe { libc::close(self.fd) };
        }
    }
}

impl Opened {
    fn path(dirfd: u64, path: Option<&CString>, flags: u64) -> Result<Self, Errno> {
        if path.is_none_or(|p| p.is_empty()) && flags & libc::AT_EMPTY_PATH as u64 != 0 {
            return Ok(Self { fd: dirfd as i32, own: false });
        }
        let nofollow = if flags & libc::AT_SYMLINK_NOFOLLOW as u64 != 0 { libc::O_NOFOLLOW } else { 0 };
        let how = (libc::O_PATH | libc::O_CLOEXEC | nofollow) as u64;
        let fd = quick(libc::SYS_openat, &[dirfd, path_at(path), how])?;
        Ok(Self { fd: fd as i32, own: true })
    }

    /// Is the mount noexec, and only because the container's are?
    fn noexec_by_container(&self) -> Result<bool, Errno> {
        // `struct statfs` as words: f_type is the first, f_flags the eleventh.
        let mut fs = [0i64; 15];
        quick(libc::SYS_fstatfs, &[self.fd as u64, at_mut(&mut fs)])?;
        Ok(fs[10] as u64 & libc::ST_NOEXEC != 0 && !NOEXEC_NATIVELY.contains(&fs[0]))
    }

    fn may_execute(&self, effective: bool) -> SysResult {
        let mut stat = MaybeUninit::<libc::stat>::zeroed();
        quick(libc::SYS_fstat, &[self.fd as u64, at_mut(&mut stat)])?;
        // SAFETY: zeroed is a valid `stat`, and the kernel filled it.
        let stat = unsafe { stat.assume_init() };
        let who = Caller::now(effective);
        let acl = self.acl();
        if who.may_execute(stat.st_uid, stat.st_gid, stat.st_mode, acl.as_deref()) { Ok(0) } else { Err(Errno::EACCES) }
    }

    /// The POSIX ACL, if there is one. An O_PATH descriptor has no xattrs of its own: its name in procfs is asked.
    fn acl(&self) -> Option<Vec<u8>> {
        let name = super::own::descriptor(self.fd).ok()?;
        let mut out = vec![0u8; 4096];
        // SAFETY: both names are NUL-terminated, the buffer is ours and its length is given.
        let n = unsafe { libc::getxattr(name.as_ptr(), c"system.posix_acl_access".as_ptr(), out.as_mut_ptr().cast(), out.len()) };
        out.truncate(usize::try_from(n).ok()?);
        Some(out)
    }
}

/// The ids a permission check uses.
struct Caller {
    uid: u32,
    groups: Vec<u32>,
}

impl Caller {
    fn now(effective: bool) -> Self {
        let mut groups = crate::process::supplementary_groups();
        // SAFETY: plain queries.
        unsafe {
            groups.push(if effective { libc::getegid() } else { libc::getgid() });
            Self { uid: if effective { libc::geteuid() } else { libc::getuid() }, groups }
        }
    }

    /// acl(5), "access check algorithm", for the x bit.
    fn may_execute(&self, uid: u32, gid: u32, mode: u32, acl: Option<&[u8]>) -> bool {
        if self.uid == 0 {
            return mode & 0o111 != 0;
        }
        if self.uid == uid {
            return mode & 0o100 != 0;
        }
        match acl.and_then(entries) {
            Some(acl) => self.acl_allows(gid, &acl),
            None if self.groups.contains(&gid) => mode & 0o010 != 0,
            None => mode & 0o001 != 0,
        }
    }

    fn acl_allows(&self, gid: u32, acl: &[Entry]) -> bool {
        let mask = acl.iter().find(|e| e.tag == MASK).is_none_or(|e| e.execute);
        if let Some(e) = acl.iter().find(|e| e.tag == USER && e.id == self.uid) {
            return e.execute && mask;
        }
        let mut member = acl.iter().filter(|e| (e.tag == GROUP_OBJ && self.groups.contains(&gid)) || (e.tag == GROUP && self.groups.contains(&e.id))).peekable();
        if member.peek().is_some() {
            return mask && member.any(|e| e.execute);
        }
        acl.iter().any(|e| e.tag == OTHER && e.execute)
    }
}

const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

struct Entry {
    tag: u16,
    execute: bool,
    id: u32,
}

/// The xattr's form: u32 version 2, then {u16 tag, u16 perm, u32 id} each.
fn entries(acl: &[u8]) -> Option<Vec<Entry>> {
    let (version, rest) = acl.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*version) == 2).then_some(())?;
    Some(
        rest.as_chunks::<8>().0.iter().map(|e| Entry { tag: u16::from_le_bytes([e[0], e[1]]), execute: e[2] & 1 != 0, id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]) }).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, groups: &[u32]) -> Caller {
        Caller { uid, groups: groups.to_vec() }
    }

    #[test]
    fn root_executes_with_any_x_bit_and_never_without() {
        assert!(caller(0, &[0]).may_execute(5, 5, 0o001, None));
        assert!(!caller(0, &[0]).may_execute(0, 0, 0o666, None));
    }

    #[test]
    fn the_first_matching_class_decides() {
        assert!(!caller(5, &[6]).may_execute(5, 6, 0o011, None));
        assert!(!caller(7, &[6]).may_execute(5, 6, 0o101, None));
        assert!(caller(7, &[6]).may_execute(5, 6, 0o010, None));
        assert!(caller(7, &[8]).may_execute(5, 6, 0o001, None));
    }

    #[test]
    fn an_acl_mask_limits_named_users() {
        let acl = |mask: u8| {
            let mut v = vec![2, 0, 0, 0];
            for (tag, perm, id) in [(1u8, 7u8, u32::MAX), (2, 7, 9), (4, 0, u32::MAX), (0x10, mask, u32::MAX), (0x20, 0, u32::MAX)] {
                v.extend([tag, 0, perm, 0]);
                v.extend(id.to_le_bytes());
            }
            v
        };
        assert!(caller(9, &[9]).may_execute(5, 6, 0o770, Some(&acl(7))));
        assert!(!caller(9, &[9]).may_execute(5, 6, 0o760, Some(&acl(6))));
        assert!(!caller(10, &[9]).may_execute(5, 6, 0o770, Some(&acl(7))));
    }

    /// Runs `check` in a child with a noexec tmpfs of its own at `/mnt`; `None` where the machine allows no mount namespace.
    fn on_a_noexec_mount(check: impl FnOnce() -> bool) -> Option<bool> {
        // SAFETY: the child changes only itself and its own namespace, and leaves with _exit.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let own =
                    libc::unshare(libc::CLONE_NEWNS) == 0 && libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()) == 0;
                let mounted = own && libc::mount(c"none".as_ptr(), c"/mnt".as_ptr(), c"tmpfs".as_ptr(), libc::MS_NOEXEC, std::ptr::null()) == 0;
                let passed = mounted && std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(false);
                libc::_exit(if !mounted { 2 } else { i32::from(!passed) });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            match libc::WEXITSTATUS(status) {
                2 => None,
                code => Some(libc::WIFEXITED(status) && code == 0),
            }
        }
    }

    #[test]
    fn x_ok_on_a_noexec_mount_comes_from_the_mode_bits() {
        use std::os::unix::fs::PermissionsExt;
        let answer = on_a_noexec_mount(|| {
            let mut t = crate::trial::Trial::new();
            for (name, mode) in [("/mnt/program", 0o755), ("/mnt/plain", 0o644)] {
                std::fs::write(name, "x").unwrap();
                std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            let (program, plain, missing) = (t.put_str("/mnt/program"), t.put_str("/mnt/plain"), t.put_str("/mnt/none"));
            let x = libc::X_OK as u64;
            let native = quick(libc::SYS_faccessat, &[libc::AT_FDCWD as u64, c"/mnt/program".as_ptr() as u64, x]);
            native == Err(Errno::EACCES)
                && t.call("access", &[program, x]) == Ok(0)
                && t.call("access", &[program, x | 4]) == Ok(0)
                && t.call("faccessat2", &[libc::AT_FDCWD as u64, program, x, libc::AT_EACCESS as u64]) == Ok(0)
                && t.call("access", &[plain, x]) == Err(Errno::EACCES)
                && t.call("access", &[missing, x]) == Err(Errno::ENOENT)
        });
        match answer {
            Some(passed) => assert!(passed),
            None => eprintln!("SKIPPED: this machine allows no mount namespace; run as root"),
        }
    }
}
