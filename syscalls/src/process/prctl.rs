//! prctl and arch_prctl. Unknown options are EINVAL: each option here has a typed meaning (07, S2).
//!
//! The fact a newcomer gets wrong: dumpable is the guest's view only; the host process never becomes dumpable (07, S5).

use super::credentials::is_tied;
use crate::errno::Errno;
use crate::pass::rows;
use crate::table::SysResult;
use crate::thread::Thread;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

rows! {
    157 "prctl" [Int Hex Hex Hex Hex] Translate "names, death signal, capabilities, subreaper, timer slack; no seccomp, no mm" prctl;
    158 "arch_prctl" [Int Hex] Emulate "FS and GS base" arch_prctl;
}

/// The guest's PR_SET_DUMPABLE; inherited by fork like the real one.
static DUMPABLE: AtomicBool = AtomicBool::new(true);

/// What execve does to credentials and to PR_SET_DUMPABLE.
pub(crate) fn exec_credentials() -> Result<(), Errno> {
    DUMPABLE.store(super::credentials::transform()?, Ordering::Relaxed);
    Ok(())
}

/// What a process that is tied to its supervisor thinks its death signal is: the real one is SIGKILL for good.
static INIT_DEATH_SIGNAL: AtomicI32 = AtomicI32::new(0);

fn prctl(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let option = a[0] as i32;
    match option {
        libc::PR_SET_NAME => set_name(t, a[1]),
        libc::PR_GET_NAME => {
            let mut name = [0u8; 16];
            t.host(libc::SYS_prctl, &[a[0], name.as_mut_ptr() as u64])?;
            t.window().copy_out(a[1], &name).map(|()| 0)
        }
        libc::PR_GET_DUMPABLE => Ok(u64::from(DUMPABLE.load(Ordering::Relaxed))),
        libc::PR_SET_DUMPABLE => {
            if a[1] > 1 {
                return Err(Errno::EINVAL);
            }
            DUMPABLE.store(a[1] == 1, Ordering::Relaxed);
            Ok(0)
        }
        libc::PR_SET_PDEATHSIG if is_tied() => match a[1] {
            0..=64 => {
                INIT_DEATH_SIGNAL.store(a[1] as i32, Ordering::Relaxed);
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        },
        libc::PR_GET_PDEATHSIG if is_tied() => t.window().write(a[1], &INIT_DEATH_SIGNAL.load(Ordering::Relaxed)).map(|()| 0),
        libc::PR_GET_PDEATHSIG | libc::PR_GET_CHILD_SUBREAPER => {
            let out = t.ptr(a[1], 4);
            t.host(libc::SYS_prctl, &[a[0], out, 0, 0, 0])
        }
        libc::PR_GET_TID_ADDRESS => t.window().write(a[1], &t.clear_child_tid).map(|()| 0),
        libc::PR_GET_SECCOMP | libc::PR_GET_TIMING => Ok(0),
        libc::PR_SET_PDEATHSIG
        | libc::PR_GET_KEEPCAPS
        | libc::PR_SET_KEEPCAPS
        | libc::PR_CAPBSET_READ
        | libc::PR_CAPBSET_DROP
        | libc::PR_GET_SECUREBITS
        | libc::PR_SET_SECUREBITS
        | libc::PR_GET_TIMERSLACK
        | libc::PR_SET_TIMERSLACK
        | libc::PR_SET_CHILD_SUBREAPER
        | libc::PR_GET_NO_NEW_PRIVS
        | libc::PR_SET_NO_NEW_PRIVS
        | libc::PR_GET_THP_DISABLE
        | libc::PR_SET_THP_DISABLE
        | libc::PR_CAP_AMBIENT => t.host(libc::SYS_prctl, &[a[0], a[1], a[2], a[3], a[4]]),
        libc::PR_SET_SECCOMP | libc::PR_SET_MM => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

/// The task name: at most 15 bytes, cut silently.
fn set_name(t: &mut Thread, at: u64) -> SysResult {
    let mut name = Vec::new();
    while name.len() < 15 {
        match t.window().read::<u8>(at + name.len() as u64)? {
            0 => break,
            byte => name.push(byte),
        }
    }
    let mut terminated = [0u8; 16];
    terminated[..name.len()].copy_from_slice(&name);
    t.host(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, terminated.as_ptr() as u64])?;
    // SAFETY: getpid has no preconditions.
    if t.tid == unsafe { libc::getpid() }
        && let Some(exe) = t.process.exe.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
    {
        exe.comm = name;
    }
    Ok(0)
}

fn arch_prctl(t: &mut Thread, [code, address, ..]: [u64; 6]) -> SysResult {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    /// TASK_SIZE_MAX on x86-64.
    const TASK_SIZE: u64 = (1 << 47) - 4096;
    match code {
        SET_FS | SET_GS if address >= TASK_SIZE => Err(Errno::EPERM),
        SET_FS => {
            t.cpu().fs_base = address;
            Ok(0)
        }
        SET_GS => {
            t.cpu().gs_base = address;
            Ok(0)
        }
        GET_FS => {
            let base = t.cpu().fs_base;
            t.window().write(address, &base).map(|()| 0)
        }
        GET_GS => {
            let base = t.cpu().gs_base;
            t.window().write(address, &base).map(|()| 0)
        }
        _ => Err(Errno::EINVAL),
    }
}
