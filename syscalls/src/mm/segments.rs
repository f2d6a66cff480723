//! System V shared memory: segments of the container's IPC namespace, attached inside the window.
//!
//! Owns the four calls. The segments, their permissions and counts are the kernel's. The fact a newcomer gets wrong: the host's shmdt would leave a hole in the window (07, S1), so a segment is detached by
//! mapping nothing over it, which the kernel counts the same; and a segment is attached outside the window and moved in, for only of what is attached is the size certain.

use super::ledger::{Area, Backing};
use super::map::{check_fixed, move_in};
use super::{Memory, PAGE, page_up};
use crate::errno::Errno;
use crate::host::{Event, Host};
use crate::pass::{at_mut, quick, rows};
use crate::process::Limits;
use crate::table::SysResult;
use crate::thread::Thread;

rows! {
    29 "shmget" [Int Len Flags] Pass "no SHM_HUGETLB" |t, a| {
        if a[2] as i32 & libc::SHM_HUGETLB != 0 { Err(Errno::EINVAL) } else { t.host(libc::SYS_shmget, &[a[0], a[1], a[2]]) }
    };
    30 "shmat" [Int Ptr Flags] Emulate "no SHM_EXEC" shmat;
    31 "shmctl" [Int Int Ptr] Translate "IPC_* and SHM_* of shmctl(2); others are EINVAL" shmctl;
    67 "shmdt" [Ptr] Emulate "" |t, a| t.process.memory().detach(&*t.process.host, a[0]).map(|()| 0);
}

const IPC_INFO: i32 = 3;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
/// See `info::ipc`.
const IPC_64: i32 = 0x100;
const SHMID_DS: u64 = 112;
const SHMINFO: u64 = 72;
const SHM_INFO_BYTES: u64 = 48;

fn shmctl(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let bytes = match a[1] as i32 & !IPC_64 {
        libc::IPC_STAT | libc::IPC_SET | SHM_STAT | SHM_STAT_ANY => SHMID_DS,
        IPC_INFO => SHMINFO,
        SHM_INFO => SHM_INFO_BYTES,
        libc::IPC_RMID | libc::SHM_LOCK | libc::SHM_UNLOCK => 0,
        _ => return Err(Errno::EINVAL),
    };
    let buffer = if bytes == 0 { 0 } else { t.ptr(a[2], bytes) };
    t.host(libc::SYS_shmctl, &[a[0], a[1], buffer])
}

fn shmat(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let flags = a[2] as i32;
    if flags & libc::SHM_EXEC != 0 {
        t.process.host.audit(&Event::ExecutableMapping { path: "shmat" });
        return Err(Errno::EACCES);
    }
    let segment = Segment::of(a[0])?;
    let limits = t.process.limits();
    t.process.memory().attach(&*t.process.host, &limits, &segment, a[1], flags)
}

struct Segment {
    id: u64,
    key: u32,
    len: u64,
}

impl Segment {
    /// What has this id now.
    fn of(id: u64) -> Result<Self, Errno> {
        let mut ds = [0_u64; SHMID_DS as usize / 8];
        quick(libc::SYS_shmctl, &[id, libc::IPC_STAT as u64, at_mut(&mut ds)])?;
        // The size follows the 48-byte permission.
        Ok(Self { id, key: ds[0] as u32, len: page_up(ds[6]).ok_or(Errno::EINVAL)? })
    }

    /// Attaches it outside the window. Between `of` and now the id may have become another, larger segment's; what is attached keeps its id even when it is removed, so its size can be asked for.
    fn map(&self, flags: i32) -> Result<*mut u8, Errno> {
        let outside = quick(libc::SYS_shmat, &[self.id, 0, (flags & libc::SHM_RDONLY) as u64])?;
        // A removed segment loses its key.
        if Self::of(self.id).is_ok_and(|now| now.len == self.len) {
            return Ok(outside as *mut u8);
        }
        let _ = quick(libc::SYS_shmdt, &[outside]);
        Err(Errno::EIDRM)
    }
}

impl Memory {
    fn attach(&mut self, host: &dyn Host, limits: &Limits, segment: &Segment, addr: u64, flags: i32) -> Result<u64, Errno> {
        let replace = flags & libc::SHM_REMAP != 0;
        let start = if addr == 0 {
            if replace {
                return Err(Errno::EINVAL);
            }
            self.place(segment.len, self.top())?
        } else {
            let start = if flags & libc::SHM_RND != 0 { addr & !(PAGE - 1) } else { addr };
            let end = check_fixed(start, segment.len).map_err(|_| Errno::EINVAL)?;
            if !replace && !self.areas.is_free(start, end) {
                return Err(Errno::EINVAL);
            }
            start
        };
        self.check_limit(limits, segment.len)?;
        let target = self.window.range(start, segment.len)?;
        move_in(segment.map(flags)?, target, segment.len)?;
        self.forget(host, start, start + segment.len);
        let prot = libc::PROT_READ | if flags & libc::SHM_RDONLY == 0 { libc::PROT_WRITE } else { 0 };
        // As /proc shows it: the id is the inode of a file on the kernel's own tmpfs.
        let backing = Backing::File { device: libc::makedev(0, 1), inode: segment.id, path: format!("{NAME}{:08x} (deleted)", segment.key).into() };
        self.areas.insert(start, Area { end: start + segment.len, prot, shared: true, offset: 0, backing });
        Ok(start)
    }

    /// shmdt(2): whatever is left of the segment that was attached at `addr`.
    fn detach(&mut self, host: &dyn Host, addr: u64) -> Result<(), Errno> {
        let attached = |at: u64, area: &Area| at >= addr && area.offset == at - addr && matches!(&area.backing, Backing::File { path, .. } if path.starts_with(NAME));
        let Some((_, first)) = self.areas.iter().find(|(at, area)| attached(*at, area)) else { return Err(Errno::EINVAL) };
        let parts: Vec<(u64, u64)> = self.areas.iter().filter(|(at, area)| attached(*at, area) && area.backing == first.backing).map(|(at, area)| (at, area.end)).collect();
        parts.into_iter().try_for_each(|(at, end)| self.munmap(host, at, end - at))
    }
}

/// What /proc/PID/maps calls a segment, before its key.
const NAME: &str = "/SYSV";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_is_not_the_one_looked_at_is_not_mapped() {
        let id = quick(libc::SYS_shmget, &[libc::IPC_PRIVATE as u64, 3 * PAGE, 0o600]).unwrap();
        let now = Segment::of(id).unwrap();
        let before = Segment { len: PAGE, ..now };
        assert_eq!(before.map(0).err(), Some(Errno::EIDRM));
        let attached = Segment::of(id).unwrap().map(libc::SHM_RDONLY).unwrap();
        quick(libc::SYS_shmctl, &[id, libc::IPC_RMID as u64, 0]).unwrap();
        assert_eq!(quick(libc::SYS_shmdt, &[attached as u64]), Ok(0));
        assert!(Segment::of(id).is_err(), "the refused attachment is gone too");
    }
}
