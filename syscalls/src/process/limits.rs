//! Resource limits. AS, DATA, STACK and CORE are the guest's own and emulated (07, S1), and so is the hard limit of NOFILE; all others are the host process's.
//!
//! The fact a newcomer gets wrong: RLIMIT_AS on the host process would hit the 4 GiB window and the AOT code, not the guest. RLIMIT_CORE is 0 on the host, for good, because a core file
//! would hold the runtime's memory; the guest may still set and read it. The host's hard limit of descriptors is not lowered, because an exec needs some where the guest may have none (`exec::resolve`).

use super::{Limits, Process};
use crate::errno::Errno;
use crate::pass::{at_mut, opt_at, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;
use std::sync::PoisonError;

rows! {
    97 "getrlimit" [Int Ptr] Emulate "" |t, a| { limit(t, 0, a[0] as u32, 0, a[1])?; if a[1] == 0 { Err(Errno::EFAULT) } else { Ok(0) } };
    160 "setrlimit" [Int Ptr] Emulate "" |t, a| { if a[1] == 0 { return Err(Errno::EFAULT) } limit(t, 0, a[0] as u32, a[1], 0) };
    302 "prlimit64" [Pid Int Ptr Ptr] Emulate "AS, DATA, STACK, CORE and the hard limit of NOFILE only of the calling process; no core file is ever written" |t, a| limit(t, a[0] as i32, a[1] as u32, a[2], a[3]);
}

impl Limits {
    fn of(&mut self, resource: u32) -> Option<&mut (u64, u64)> {
        match resource {
            libc::RLIMIT_AS => Some(&mut self.address_space),
            libc::RLIMIT_DATA => Some(&mut self.data),
            libc::RLIMIT_CORE => Some(&mut self.core),
            libc::RLIMIT_STACK => Some(&mut self.stack),
            _ => None,
        }
    }
}

fn limit(t: &mut Thread, pid: i32, resource: u32, new: u64, old: u64) -> SysResult {
    let wanted: Option<[u64; 2]> = t.opt_read(new)?;
    // SAFETY: getpid has no preconditions.
    let own = pid == 0 || pid == unsafe { libc::getpid() };
    let before = match emulated(&t.process, resource, if own { wanted } else { None })? {
        Some(before) if own => {
            if let (libc::RLIMIT_STACK, Some([soft, _])) = (resource, wanted) {
                t.process.memory().grow_stack(soft)?;
            }
            before
        }
        // Of another process: asked only whether there is one.
        Some(_) if pid < 0 => return Err(Errno::ESRCH),
        Some(_) => {
            quick(libc::SYS_kill, &[pid as u64, 0])?;
            return Err(Errno::EPERM);
        }
        None if own && resource == libc::RLIMIT_NOFILE => files(&t.process, wanted)?,
        None => {
            let mut before = [0u64; 2];
            t.host(libc::SYS_prlimit64, &[pid as u64, u64::from(resource), opt_at(wanted.as_ref()), at_mut(&mut before)])?;
            before
        }
    };
    if old != 0 {
        t.window().write(old, &before)?;
    }
    Ok(0)
}

/// RLIMIT_NOFILE: the soft limit is the host's, the hard one the guest's.
fn files(process: &Process, wanted: Option<[u64; 2]>) -> Result<[u64; 2], Errno> {
    let ask = |new: Option<&[u64; 2]>, old: &mut [u64; 2]| quick(libc::SYS_prlimit64, &[0, u64::from(libc::RLIMIT_NOFILE), opt_at(new), at_mut(old)]);
    let mut limits = process.limits.lock().unwrap_or_else(PoisonError::into_inner);
    let mut host = [0; 2];
    ask(None, &mut host)?;
    let hard = limits.files.min(host[1]);
    if let Some([soft, wanted]) = wanted {
        if soft > wanted {
            return Err(Errno::EINVAL);
        }
        // SAFETY: geteuid has no preconditions.
        if wanted > hard && wanted <= host[1] && unsafe { libc::geteuid() } != 0 {
            return Err(Errno::EPERM);
        }
        ask(Some(&[soft, wanted.max(host[1])]), &mut [0; 2])?;
        limits.files = wanted;
    }
    Ok([host[0], hard])
}

/// The old value of an emulated limit after setting it; `None` when the limit is the host's.
fn emulated(process: &Process, resource: u32, wanted: Option<[u64; 2]>) -> Result<Option<[u64; 2]>, Errno> {
    let mut limits = process.limits.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(limit) = limits.of(resource) else { return Ok(None) };
    let before = [limit.0, limit.1];
    if let Some([soft, hard]) = wanted {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        // SAFETY: geteuid has no preconditions.
        if hard > limit.1 && unsafe { libc::geteuid() } != 0 {
            return Err(Errno::EPERM);
        }
        *limit = (soft, hard);
    }
    Ok(Some(before))
}
