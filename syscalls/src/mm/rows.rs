//! The rows of the memory family.

use super::ledger::{Area, Backing};
use super::map::Request;
use super::{Memory, PAGE, page_up};
use crate::errno::Errno;
use crate::guest::{ALIAS, WINDOW_BYTES, is_alias, low};
use crate::process::Process;
use crate::table::{Arg, Row, Support, SysResult};
use crate::thread::Thread;
use std::sync::{MutexGuard, PoisonError};

macro_rules! row {
    ($name:ident, $nr:ident, [$($arg:ident),*], $support:ident, $note:expr) => {
        Row { nr: libc::$nr as u32, name: stringify!($name), args: &[$(Arg::$arg),*], support: Support::$support, note: $note, run: $name }
    };
}

pub(super) const ROWS: &[Row] = &[
    row!(
        mmap,
        SYS_mmap,
        [Ptr, Len, Flags, Flags, Fd, Hex],
        Emulate,
        "PROT_EXEC only of signed libraries; no MAP_HUGETLB; 4 GiB in all, which are also seen from 8 GiB on by who asks for that"
    ),
    row!(munmap, SYS_munmap, [Ptr, Len], Emulate, ""),
    row!(mprotect, SYS_mprotect, [Ptr, Len, Flags], Emulate, "PROT_EXEC only on the text of signed objects"),
    row!(mremap, SYS_mremap, [Ptr, Len, Len, Flags, Ptr], Emulate, "no duplication with old_size 0; not on code"),
    row!(brk, SYS_brk, [Ptr], Emulate, ""),
    row!(madvise, SYS_madvise, [Ptr, Len, Int], Translate, "no MADV_DONTFORK, MADV_HWPOISON"),
    row!(msync, SYS_msync, [Ptr, Len, Flags], Pass, ""),
    row!(mincore, SYS_mincore, [Ptr, Len, Ptr], Pass, ""),
    row!(mlock, SYS_mlock, [Ptr, Len], Pass, ""),
    row!(mlock2, SYS_mlock2, [Ptr, Len, Flags], Pass, ""),
    row!(munlock, SYS_munlock, [Ptr, Len], Pass, ""),
    row!(mlockall, SYS_mlockall, [Flags], Refuse, "EPERM: it would lock the runtime too"),
    row!(munlockall, SYS_munlockall, [], Emulate, "does nothing"),
];

impl Process {
    /// The memory map; a poisoned lock is a panic elsewhere, the ledger itself is consistent at every unlock.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn limits(&self) -> crate::process::Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mmap(t: &mut Thread, mut args: [u64; 6]) -> SysResult {
    let hint = args[0];
    args[0] = low(hint);
    let request = Request::new(args)?;
    let limits = t.process.limits();
    let mut memory = t.process.memory();
    // A reservation far up is a heap that has to be there, wherever it is.
    let reserves = request.prot == libc::PROT_NONE && request.flags & libc::MAP_NORESERVE != 0 && !request.is_fixed();
    if !(is_alias(hint) || reserves && hint > ALIAS) {
        return memory.mmap(&*t.process.host, &limits, request);
    }
    // Who reserves takes what can be had, less and less until it can: something must be left for all others.
    let too_much = reserves && request.len > WINDOW_BYTES / 2;
    let unknown = request.flags & libc::MAP_FIXED != 0 && !memory.is_handed_out_aliased(request.addr, request.len);
    if too_much || unknown {
        return Err(Errno::ENOMEM);
    }
    let start = memory.mmap(&*t.process.host, &limits, request)?;
    Ok(memory.hand_out_aliased(start, request.len))
}

impl Memory {
    fn hand_out_aliased(&mut self, start: u64, len: u64) -> u64 {
        self.aliased.insert(start, Area { end: start + len, prot: 0, shared: false, offset: 0, backing: Backing::Anonymous });
        start + ALIAS
    }

    fn is_handed_out_aliased(&self, start: u64, len: u64) -> bool {
        start.checked_add(len).is_some_and(|end| self.aliased.is_covered(start, end))
    }
}

fn munmap(t: &mut Thread, [addr, len, ..]: [u64; 6]) -> SysResult {
    let mut memory = t.process.memory();
    memory.munmap(&*t.process.host, low(addr), len)?;
    if is_alias(addr) {
        let end = page_up(low(addr) + len).unwrap_or(WINDOW_BYTES);
        memory.aliased.remove(low(addr), end);
    }
    Ok(0)
}

fn mprotect(t: &mut Thread, [addr, len, prot, ..]: [u64; 6]) -> SysResult {
    let limits = t.process.limits();
    t.process.memory().mprotect(&*t.process.host, &limits, low(addr), len, prot as i32).map(|()| 0)
}

fn mremap(t: &mut Thread, [old, old_len, new_len, flags, new, _]: [u64; 6]) -> SysResult {
    let limits = t.process.limits();
    let fixed = flags as i32 & libc::MREMAP_FIXED != 0;
    let aliased = is_alias(if fixed { new } else { old });
    let mut memory = t.process.memory();
    if fixed && aliased && !memory.is_handed_out_aliased(low(new), new_len) {
        return Err(Errno::ENOMEM);
    }
    let start = memory.mremap(&*t.process.host, &limits, [low(old), old_len, new_len, flags, low(new)])?;
    // What moved away is handed out no more.
    if is_alias(old) && flags as i32 & libc::MREMAP_DONTUNMAP == 0 {
        memory.aliased.remove(low(old), page_up(low(old) + old_len).unwrap_or(WINDOW_BYTES));
    }
    Ok(if aliased { memory.hand_out_aliased(start, page_up(new_len).unwrap_or(new_len)) } else { start })
}

fn brk(t: &mut Thread, [addr, ..]: [u64; 6]) -> SysResult {
    let limits = t.process.limits();
    Ok(t.process.memory().set_brk(&*t.process.host, &limits, addr))
}

/// A page range for calls that act on existing mappings: its host address; ENOMEM when part of it is unmapped.
fn mapped_range(t: &Thread, addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    let addr = low(addr);
    if !addr.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(len).filter(|e| *e <= WINDOW_BYTES).ok_or(Errno::ENOMEM)?;
    if !t.process.memory().areas.is_covered(addr, end) {
        return Err(Errno::ENOMEM);
    }
    Ok((t.window().range(addr, len)? as u64, len))
}

fn madvise(t: &mut Thread, [addr, len, advice, ..]: [u64; 6]) -> SysResult {
    let addr = low(addr);
    // MADV_DONTFORK would leave a hole in the child's window (07 S1); MADV_HWPOISON and the unknown are nobody's business.
    const ALLOWED: &[i32] = &[0, 1, 2, 3, 4, 8, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 102, 103];
    if !ALLOWED.contains(&(advice as i32)) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return if addr.is_multiple_of(PAGE) { Ok(0) } else { Err(Errno::EINVAL) };
    }
    match mapped_range(t, addr, len) {
        // Over holes Linux advises what is mapped, and then says that there were holes.
        Err(Errno::ENOMEM) => {
            let end = page_up(len).and_then(|len| addr.checked_add(len)).unwrap_or(u64::MAX).min(WINDOW_BYTES);
            let parts: Vec<(u64, u64)> = t.process.memory().areas.overlapping(addr, end).map(|(start, area)| (start.max(addr), area.end.min(end))).collect();
            for (start, end) in parts {
                let at = t.window().range(start, end - start)? as u64;
                crate::host_call(libc::SYS_madvise, [at, end - start, advice, 0, 0, 0])?;
            }
            Err(Errno::ENOMEM)
        }
        range => range.and_then(|(at, len)| crate::host_call(libc::SYS_madvise, [at, len, advice, 0, 0, 0])),
    }
}

fn msync(t: &mut Thread, [addr, len, flags, ..]: [u64; 6]) -> SysResult {
    let (at, len) = mapped_range(t, addr, len)?;
    crate::host_call(libc::SYS_msync, [at, len, flags, 0, 0, 0])
}

fn mincore(t: &mut Thread, [addr, len, vec, ..]: [u64; 6]) -> SysResult {
    let (at, len) = mapped_range(t, addr, len)?;
    let out = t.window().range(vec, len / PAGE)? as u64;
    crate::host_call(libc::SYS_mincore, [at, len, out, 0, 0, 0])
}

/// mlock and its kin take any address and round it down.
fn lock_range(t: &Thread, addr: u64, len: u64) -> Result<(u64, u64), Errno> {
    let start = addr & !(PAGE - 1);
    let len = len.checked_add(addr - start).ok_or(Errno::EINVAL)?;
    mapped_range(t, start, len)
}

fn mlock(t: &mut Thread, [addr, len, ..]: [u64; 6]) -> SysResult {
    let (at, len) = lock_range(t, addr, len)?;
    crate::host_call(libc::SYS_mlock, [at, len, 0, 0, 0, 0])
}

fn mlock2(t: &mut Thread, [addr, len, flags, ..]: [u64; 6]) -> SysResult {
    let (at, len) = lock_range(t, addr, len)?;
    crate::host_call(libc::SYS_mlock2, [at, len, flags, 0, 0, 0])
}

fn munlock(t: &mut Thread, [addr, len, ..]: [u64; 6]) -> SysResult {
    let (at, len) = lock_range(t, addr, len)?;
    crate::host_call(libc::SYS_munlock, [at, len, 0, 0, 0, 0])
}

fn mlockall(_: &mut Thread, _: [u64; 6]) -> SysResult {
    Err(Errno::EPERM)
}

fn munlockall(_: &mut Thread, _: [u64; 6]) -> SysResult {
    Ok(0)
}
