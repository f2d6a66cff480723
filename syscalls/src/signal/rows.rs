//! The rows of the signal family.

use super::frame::{self, AltStack};
use super::host::{self, Info, host_mask};
use super::{Action, SIGNALS};
use crate::errno::Errno;
use crate::host::Event;
use crate::process::group;
use crate::table::{Arg, Row, Support, SysResult};
use crate::thread::{Thread, reg};

pub(super) const SS_AUTODISARM: u64 = 1 << 31;
const MINSIGSTKSZ: u64 = 2048;

macro_rules! row {
    ($name:ident, $nr:ident, [$($arg:ident),*], $support:ident, $note:expr) => {
        Row { nr: libc::$nr as u32, name: stringify!($name), args: &[$(Arg::$arg),*], support: Support::$support, note: $note, run: $name }
    };
}

pub const ROWS: &[Row] = &[
    row!(rt_sigaction, SYS_rt_sigaction, [Signal, Ptr, Ptr, Len], Emulate, ""),
    row!(rt_sigprocmask, SYS_rt_sigprocmask, [Int, Ptr, Ptr, Len], Emulate, ""),
    row!(rt_sigreturn, SYS_rt_sigreturn, [], Emulate, ""),
    row!(rt_sigpending, SYS_rt_sigpending, [Ptr, Len], Emulate, ""),
    row!(rt_sigtimedwait, SYS_rt_sigtimedwait, [Ptr, Ptr, Ptr, Len], Translate, ""),
    row!(rt_sigqueueinfo, SYS_rt_sigqueueinfo, [Pid, Signal, Ptr], Translate, ""),
    row!(rt_tgsigqueueinfo, SYS_rt_tgsigqueueinfo, [Pid, Pid, Signal, Ptr], Translate, ""),
    row!(pidfd_send_signal, SYS_pidfd_send_signal, [Fd, Signal, Ptr, Flags], Translate, ""),
    row!(rt_sigsuspend, SYS_rt_sigsuspend, [Ptr, Len], Emulate, ""),
    row!(pause, SYS_pause, [], Pass, ""),
    row!(sigaltstack, SYS_sigaltstack, [Ptr, Ptr], Emulate, ""),
    row!(kill, SYS_kill, [Pid, Signal], Pass, ""),
    row!(tkill, SYS_tkill, [Pid, Signal], Pass, ""),
    row!(tgkill, SYS_tgkill, [Pid, Pid, Signal], Pass, ""),
];

fn check_size(size: u64) -> Result<(), Errno> {
    if size == 8 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn rt_sigaction(t: &mut Thread, [signal, new, old, size, ..]: [u64; 6]) -> SysResult {
    check_size(size)?;
    let signal = signal as i32;
    if !(1..=SIGNALS).contains(&signal) || (new != 0 && matches!(signal, libc::SIGKILL | libc::SIGSTOP)) {
        return Err(Errno::EINVAL);
    }
    let action = if new == 0 { None } else { Some(t.window().read::<Action>(new)?) };
    let mut actions = t.process.actions();
    let before = actions.get(signal);
    if let Some(action) = action {
        let mask = action.mask & !(host::bit(libc::SIGKILL) | host::bit(libc::SIGSTOP));
        actions.set(signal, Action { mask, ..action })?;
        if action.handler == super::SIG_IGN {
            // Setting a signal to be ignored discards one that is pending.
            t.signals.record.take_sent(host::bit(signal));
        }
    }
    drop(actions);
    if old != 0 {
        t.window().write(old, &before)?;
    }
    Ok(0)
}

fn rt_sigprocmask(t: &mut Thread, [how, set, old, size, ..]: [u64; 6]) -> SysResult {
    check_size(size)?;
    let before = t.signals.mask;
    if set != 0 {
        let set: u64 = t.window().read(set)?;
        let mask = match how as i32 {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        t.signals.set_mask(mask);
        t.signals.apply_mask();
        t.signals.wake();
    }
    if old != 0 {
        t.window().write(old, &before)?;
    }
    Ok(0)
}

fn rt_sigreturn(t: &mut Thread, _: [u64; 6]) -> SysResult {
    let window = t.window();
    match frame::pop(window, t.cpu()) {
        Ok(frame::Restored { inexact: Some(address), .. }) => {
            t.process.host.audit(&Event::Irreparable { address });
            super::die(libc::SIGSEGV)
        }
        Ok(restored) => {
            t.signals.set_mask(restored.mask);
            // As the kernel, a bad stack in the frame is ignored.
            let _ = set_altstack(t, restored.altstack);
            t.signals.apply_mask();
        }
        Err(_) => super::force_segv(t, frame::Cause::ELSEWHERE, u64::MAX),
    }
    t.replaced = true;
    t.request_poll();
    Ok(0)
}

fn rt_sigpending(t: &mut Thread, [set, size, ..]: [u64; 6]) -> SysResult {
    if size > 8 {
        return Err(Errno::EINVAL);
    }
    let mut pending = 0u64;
    crate::pass::quick(libc::SYS_rt_sigpending, &[(&raw mut pending) as u64, 8, 0, 0, 0, 0])?;
    let pending = pending | t.signals.record.sent();
    t.window().copy_out(set, &(pending & t.signals.mask).to_le_bytes()[..size as usize])?;
    Ok(0)
}

fn rt_sigtimedwait(t: &mut Thread, [set, info, timeout, size, ..]: [u64; 6]) -> SysResult {
    check_size(size)?;
    let wanted: u64 = t.window().read(set)?;
    let timeout: Option<[u64; 2]> = if timeout == 0 { None } else { Some(t.window().read(timeout)?) };
    let timeout = timeout.as_ref().map_or(0, |v| std::ptr::from_ref(v) as u64);
    let set = host_mask(wanted);
    let mut out: Info = [0; 128];
    let args = [(&raw const set) as u64, out.as_mut_ptr() as u64, timeout, 8, 0, 0];
    // Those that the host does not keep pending wait in the record; one that comes meanwhile ends the host's call.
    let sent = |t: &Thread, out: &mut Info| t.signals.record.take_sent(wanted).map(|(signal, info)| (*out = info, signal as u64).1);
    let signal = match sent(t, &mut out) {
        Some(signal) => signal,
        None => match crate::host_call(libc::SYS_rt_sigtimedwait, args) {
            Err(Errno::EINTR) => sent(t, &mut out).ok_or(Errno::EINTR)?,
            answer => answer?,
        },
    };
    if info != 0 {
        t.window().copy_out(info, &out)?;
    }
    Ok(signal)
}

fn read_info(t: &Thread, at: u64) -> Result<Info, Errno> {
    let mut info: Info = [0; 128];
    t.window().copy_in(at, &mut info)?;
    Ok(info)
}

/// What the guest says of a signal to itself. A fault signal with a code that only the kernel gives would be a fault of the runtime's to the host's handler, so the code is marked until it is recorded.
fn read_info_to(t: &Thread, to_self: bool, signal: u64, at: u64) -> Result<Info, Errno> {
    let mut info = read_info(t, at)?;
    if to_self && host::is_synchronous(signal as i32) {
        host::mark_sent(&mut info);
    }
    Ok(info)
}

fn rt_sigqueueinfo(t: &mut Thread, [pid, signal, info, ..]: [u64; 6]) -> SysResult {
    let info = read_info_to(t, pid as i32 == t.tid, signal, info)?;
    crate::host_call(libc::SYS_rt_sigqueueinfo, [pid, signal, info.as_ptr() as u64, 0, 0, 0])
}

fn rt_tgsigqueueinfo(t: &mut Thread, [pid, tid, signal, info, ..]: [u64; 6]) -> SysResult {
    let info = read_info_to(t, pid as i32 == t.tid, signal, info)?;
    crate::host_call(libc::SYS_rt_tgsigqueueinfo, [pid, tid, signal, info.as_ptr() as u64, 0, 0])
}

fn pidfd_send_signal(t: &mut Thread, [fd, signal, info, flags, ..]: [u64; 6]) -> SysResult {
    // PIDFD_SIGNAL_PROCESS_GROUP (Linux ≥ 6.9): a group may reach beyond the container (`process::group`).
    if flags & 4 != 0 {
        return Err(Errno::EINVAL);
    }
    let mut info = if info == 0 { None } else { Some(read_info(t, info)?) };
    if let Some(info) = info.as_mut().filter(|_| host::is_synchronous(signal as i32)) {
        // Whether it is one's own is what the kernel says of no signal at all with the same code.
        let mut none = *info;
        none[..4].fill(0);
        if crate::pass::quick(libc::SYS_pidfd_send_signal, &[fd, 0, none.as_ptr() as u64, flags]).is_ok() {
            host::mark_sent(info);
        }
    }
    let at = info.as_ref().map_or(0, |i| i.as_ptr() as u64);
    crate::host_call(libc::SYS_pidfd_send_signal, [fd, signal, at, flags, 0, 0])
}

fn rt_sigsuspend(t: &mut Thread, [set, size, ..]: [u64; 6]) -> SysResult {
    check_size(size)?;
    let set: u64 = t.window().read(set)?;
    let mask = host_mask(set);
    let result = match t.signals.ends_wait(set) {
        true => Err(Errno::EINTR),
        false => t.signals.waited(set, crate::host_call(libc::SYS_rt_sigsuspend, [(&raw const mask) as u64, 8, 0, 0, 0, 0])),
    };
    if result == Err(Errno::EINTR) {
        t.signals.suspended = Some(set & !(host::bit(libc::SIGKILL) | host::bit(libc::SIGSTOP)));
    }
    result
}

fn pause(t: &mut Thread, _: [u64; 6]) -> SysResult {
    t.signals.waited(t.signals.mask, crate::host_call(libc::SYS_pause, [0; 6]))
}

fn sigaltstack(t: &mut Thread, [new, old, ..]: [u64; 6]) -> SysResult {
    let rsp = t.cpu().gpr[reg::RSP];
    let mut before = t.signals.altstack;
    if before.contains(rsp) {
        before.flags |= libc::SS_ONSTACK as u64;
    }
    if new != 0 {
        let stack: AltStack = t.window().read(new)?;
        if t.signals.altstack.contains(rsp) && t.signals.altstack.flags & SS_AUTODISARM == 0 {
            return Err(Errno::EPERM);
        }
        set_altstack(t, stack)?;
    }
    if old != 0 {
        t.window().write(old, &before)?;
    }
    Ok(0)
}

fn set_altstack(t: &mut Thread, stack: AltStack) -> Result<(), Errno> {
    let flags = stack.flags & 0xffff_ffff;
    let disable = libc::SS_DISABLE as u64;
    match flags & !SS_AUTODISARM {
        f if f == disable => t.signals.altstack = AltStack { sp: 0, flags: disable, size: 0 },
        // SS_ONSTACK is accepted and means nothing, as in Linux.
        0 | 1 => {
            if stack.size < MINSIGSTKSZ {
                return Err(Errno::ENOMEM);
            }
            t.signals.altstack = AltStack { flags: flags & SS_AUTODISARM, ..stack };
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

fn kill(_: &mut Thread, [pid, signal, ..]: [u64; 6]) -> SysResult {
    if pid as i32 == 0 && group::is_foreign() {
        return group::signal(signal);
    }
    crate::host_call(libc::SYS_kill, [pid, signal, 0, 0, 0, 0])
}

fn tkill(_: &mut Thread, [tid, signal, ..]: [u64; 6]) -> SysResult {
    crate::host_call(libc::SYS_tkill, [tid, signal, 0, 0, 0, 0])
}

fn tgkill(_: &mut Thread, [pid, tid, signal, ..]: [u64; 6]) -> SysResult {
    crate::host_call(libc::SYS_tgkill, [pid, tid, signal, 0, 0, 0])
}
