//! The end of a thread: exit, and exec from a process with several threads.
//!
//! The fact a newcomer gets wrong: after execve the pid's *leader* runs the new program, whichever thread called it. The calling thread waits until
//! only it and the leader are left, hands the image over and ends.

use super::{Handover, Next, Thread};
use crate::exec::Prepared;
use crate::mm::ledger::Ledger;
use crate::process::Credentials;
use crate::table::SysResult;
use std::time::Duration;

/// How often waiting threads look again and kick the others.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
/// Linux's ROBUST_LIST_LIMIT.
const ROBUST_LIMIT: usize = 2048;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_WAITERS: u32 = 0x8000_0000;

/// exit(2): the dispatcher ends the thread at the next poll, which is now.
pub(crate) fn exit(t: &mut Thread, status: i32) -> SysResult {
    t.exit = Some(status & 0xff);
    t.replaced = true;
    t.request_poll();
    Ok(0)
}

/// For `signal::poll`: what a thread that has to end, or the leader at an exec, does.
pub(crate) fn ending(t: &mut Thread) -> Option<Next> {
    if let Some(status) = t.exit {
        finish(t);
        return Some(Next::ThreadExit(status));
    }
    let by = t.process.threads().exec_by?;
    if by == t.tid {
        return None;
    }
    // SAFETY: getpid has no preconditions.
    if t.tid != unsafe { libc::getpid() } {
        finish(t);
        return Some(Next::ThreadExit(0));
    }
    let Handover { prepared, mask, credentials } = await_handover(t, by)?;
    wait_for(t, &[t.tid]);
    t.process.threads().exec_by = None;
    t.signals.mask = mask;
    if credentials.take().is_err() {
        // Never the new program with more rights than its caller's.
        crate::signal::die(libc::SIGKILL);
    }
    enter(t, *prepared);
    None
}

/// The image from the thread that called execve; `None` when that exec was called off.
fn await_handover(t: &Thread, by: libc::pid_t) -> Option<Handover> {
    loop {
        let mut list = t.process.threads();
        if let Some(handed) = list.handover.take() {
            return Some(handed);
        }
        if list.exec_by != Some(by) {
            return None;
        }
        drop(list);
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// execve in a process of any number of threads. The image is complete: nothing can fail any more.
pub(crate) fn exec_alone(t: &mut Thread, prepared: Prepared) -> SysResult {
    let mut list = t.process.threads();
    if list.tids.iter().any(|tid| *tid != t.tid) {
        if list.exec_by.is_some() {
            // Another thread was faster: this one ends at the poll.
            t.replaced = true;
            drop(list);
            t.request_poll();
            return Ok(0);
        }
        list.exec_by = Some(t.tid);
        drop(list);
        // SAFETY: getpid has no preconditions.
        let leader = unsafe { libc::getpid() };
        if t.tid != leader && t.process.threads().tids.contains(&leader) {
            wait_for(t, &[t.tid, leader]);
            t.process.threads().handover = Some(Handover { prepared: Box::new(prepared), mask: t.signals.mask, credentials: Credentials::of_this_thread() });
            crate::signal::host::kick(leader);
            return exit(t, 0);
        }
        wait_for(t, &[t.tid]);
        t.process.threads().exec_by = None;
    } else {
        drop(list);
    }
    enter(t, prepared);
    Ok(0)
}

fn enter(t: &mut Thread, prepared: Prepared) {
    if crate::exec::become_program(t, prepared).is_err() {
        // As Linux past the point of no return.
        crate::signal::die(libc::SIGKILL);
    }
}

/// Waits until only the threads in `stay` are left, interrupting all others.
fn wait_for(t: &Thread, stay: &[libc::pid_t]) {
    loop {
        let others: Vec<_> = t.process.threads().tids.iter().copied().filter(|tid| *tid != t.tid).collect();
        others.iter().for_each(|tid| crate::signal::host::kick(*tid));
        if others.iter().all(|tid| stay.contains(tid)) {
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What Linux does for a dying task: robust list, clear_child_tid. Afterwards the guest may free the thread's stack.
fn finish(t: &mut Thread) {
    // What touches guest memory comes first: a fault would be the process's end where its signal is blocked.
    crate::process::vfork_done(t);
    walk_robust_list(t);
    if t.clear_child_tid != 0 && t.window().write(t.clear_child_tid, &0u32).is_ok() {
        wake(t, t.clear_child_tid);
    }
    t.clear_child_tid = 0;
    t.signals.detach();
    t.signals.pass_on();
    t.process.threads().tids.retain(|tid| *tid != t.tid);
}

fn wake(t: &Thread, futex: u64) {
    if let Ok(at) = t.window().range(futex, 4) {
        let _ = crate::pass::quick(libc::SYS_futex, &[at as u64, libc::FUTEX_WAKE as u64, 1, 0, 0, 0]);
    }
}

/// Marks the robust mutexes this thread still holds as abandoned (kernel/futex/core.c, exit_robust_list).
pub(crate) fn walk_robust_list(t: &mut Thread) {
    let head = std::mem::take(&mut t.robust_list);
    if head == 0 {
        return;
    }
    let window = t.window();
    let (Ok(first), Ok(offset), Ok(pending)) = (window.read::<u64>(head), window.read::<u64>(head + 8), window.read::<u64>(head + 16)) else { return };
    let process = t.process.clone();
    let memory = process.memory();
    let mut entry = first;
    for _ in 0..ROBUST_LIMIT {
        if entry & !1 == head || entry & !1 == 0 {
            break;
        }
        let next = window.read::<u64>(entry & !1);
        if entry & !1 != pending & !1 {
            abandon(t, &memory.areas, (entry & !1).wrapping_add(offset), false);
        }
        let Ok(n) = next else { break };
        entry = n;
    }
    if pending & !1 != 0 {
        abandon(t, &memory.areas, (pending & !1).wrapping_add(offset), true);
    }
}

fn abandon(t: &Thread, areas: &Ledger, futex: u64, pending: bool) {
    let writable = futex.is_multiple_of(4) && matches!(areas.at(futex), Some((_, a)) if a.prot & libc::PROT_WRITE != 0);
    if !writable {
        return;
    }
    // What is mapped may have nothing behind it: a file that was cut.
    let Ok(mut value) = t.window().read::<u32>(futex) else { return };
    loop {
        let owner = value & FUTEX_TID_MASK;
        if pending && owner == 0 {
            wake(t, futex);
            return;
        }
        if owner != t.tid as u32 {
            return;
        }
        match t.window().compare_exchange(futex, value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED) {
            Ok(was) if was == value => break,
            Ok(now) => value = now,
            Err(_) => return,
        }
    }
    if value & FUTEX_WAITERS != 0 {
        wake(t, futex);
    }
}
