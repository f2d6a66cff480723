//! fork, vfork, clone, clone3. A guest process is a host process: fork is the host's fork.
//!
//! The fact a newcomer gets wrong: the host fork copies *this host thread's* whole native stack, with the wasm frames on it, so the child simply
//! returns from the syscall too. Only state that names threads, tids or signals has to be put right.

use super::pidfd::Pidfd;
use super::vfork::Mailbox;
use crate::errno::Errno;
use crate::guest::Plain;
use crate::signal::host::{block_all, restore_mask};
use crate::table::SysResult;
use crate::thread::{CloneArgs, Thread, new_thread, reg};
use std::sync::PoisonError;

/// New namespaces, cgroups, pid choice: a container's guests have no business there (07, S24).
const REFUSED: u64 = (libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET) as u32
    as u64
    | CLONE_NEWTIME
    | CLONE_INTO_CGROUP;
const CLONE_NEWTIME: u64 = 0x80;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

pub(super) fn fork(t: &mut Thread, _: [u64; 6]) -> SysResult {
    new_process(t, &CloneArgs { exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() })
}

pub(super) fn vfork(t: &mut Thread, _: [u64; 6]) -> SysResult {
    let flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    new_process(t, &CloneArgs { flags, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() })
}

/// clone(flags, stack, parent_tid, child_tid, tls).
pub(super) fn clone(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let flags = a[0] & 0xffff_ffff;
    let c = CloneArgs { flags: flags & !0xff, exit_signal: flags & 0xff, stack: a[1], parent_tid: a[2], child_tid: a[3], tls: a[4], pidfd: a[2] };
    if c.has(libc::CLONE_PIDFD) && c.has(libc::CLONE_PARENT_SETTID) {
        return Err(Errno::EINVAL);
    }
    run(t, &c)
}

/// `struct clone_args` up to version 2.
#[repr(C)]
#[derive(Clone, Copy)]
struct Clone3Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

// SAFETY: integers only.
unsafe impl Plain for Clone3Args {}
const CLONE_ARGS_SIZE_VER0: usize = 64;

pub(super) fn clone3(t: &mut Thread, [args, size, ..]: [u64; 6]) -> SysResult {
    let size = size as usize;
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    if size > size_of::<Clone3Args>() {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0u8; size_of::<Clone3Args>()];
    t.window().copy_in(args, &mut bytes[..size])?;
    // SAFETY: `Clone3Args` is plain integers of exactly this size.
    let a: Clone3Args = unsafe { std::mem::transmute(bytes) };
    if a.set_tid_size != 0 {
        return Err(Errno::EPERM);
    }
    if a.exit_signal > 64 || (a.stack == 0) != (a.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    let stack = if a.stack == 0 { 0 } else { a.stack.checked_add(a.stack_size).ok_or(Errno::EINVAL)? };
    let c = CloneArgs { flags: a.flags, exit_signal: a.exit_signal, stack, parent_tid: a.parent_tid, child_tid: a.child_tid, tls: a.tls, pidfd: a.pidfd };
    run(t, &c)
}

fn run(t: &mut Thread, c: &CloneArgs) -> SysResult {
    if c.flags & REFUSED != 0 {
        return Err(Errno::EPERM);
    }
    if c.has(libc::CLONE_THREAD) { new_thread(t, c) } else { new_process(t, c) }
}

/// A child process: a copy of memory, with or without a parent that waits.
fn new_process(t: &mut Thread, c: &CloneArgs) -> SysResult {
    let waits = c.has(libc::CLONE_VFORK);
    // Sharing memory (without vfork), descriptors, directory or handlers with a child has no place in this design.
    let shared = libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_PARENT;
    if (c.has(libc::CLONE_VM) && !waits) || c.flags & shared as u64 != 0 || c.exit_signal != libc::SIGCHLD as u64 {
        return Err(Errno::EINVAL);
    }
    let rsp = t.cpu().gpr[reg::RSP];
    let mailbox = if waits { Some(Mailbox::new(&t.process, rsp)?) } else { None };
    let pidfd = if c.has(libc::CLONE_PIDFD) { Some(Pidfd::reserve(t.window(), c.pidfd)?) } else { None };
    let old = block_all();
    let process = t.process.clone();
    let locks = (
        process.memory(),
        process.actions(),
        process.exe.lock().unwrap_or_else(PoisonError::into_inner),
        process.limits.lock().unwrap_or_else(PoisonError::into_inner),
        process.threads(),
    );
    // SAFETY: glibc's fork keeps its own allocator consistent; our locks are held, so the child finds them free and the data whole.
    let pid = unsafe { libc::fork() };
    let failed = if pid < 0 { Some(Errno::last()) } else { None };
    drop(locks);
    if let Some(errno) = failed {
        restore_mask(old);
        return Err(errno);
    }
    if pid == 0 {
        if let Some(pidfd) = pidfd {
            pidfd.wait();
        }
        child(t, c, mailbox);
        return Ok(0);
    }
    restore_mask(old);
    if let Some(pidfd) = pidfd {
        pidfd.open(t.window(), pid)?;
    }
    let parent_tid = c.address(libc::CLONE_PARENT_SETTID, c.parent_tid);
    if parent_tid != 0 {
        let _ = t.window().write(parent_tid, &pid);
    }
    if let Some(mailbox) = mailbox {
        mailbox.wait(&t.process, t.tid, pid);
    }
    Ok(pid as u64)
}

fn child(t: &mut Thread, c: &CloneArgs, mailbox: Option<Mailbox>) {
    t.signals.allow_faults();
    // A mailbox of an outer vfork belongs to this process's parent, which alone tells of its end.
    if let Some(outer) = t.vfork.take() {
        outer.leave();
    }
    t.vfork = mailbox;
    if let Some(mailbox) = &mut t.vfork {
        mailbox.join();
    }
    // SAFETY: gettid has no preconditions.
    t.tid = unsafe { libc::gettid() };
    {
        let mut threads = t.process.threads();
        threads.tids = vec![t.tid];
        threads.exec_by = None;
        threads.handover = None;
    }
    t.robust_list = 0;
    t.clear_child_tid = c.address(libc::CLONE_CHILD_CLEARTID, c.child_tid);
    let set = c.address(libc::CLONE_CHILD_SETTID, c.child_tid);
    if set != 0 {
        let _ = t.window().write(set, &t.tid);
    }
    if c.stack != 0 {
        t.cpu().gpr[reg::RSP] = c.stack;
    }
    if c.has(libc::CLONE_SETTLS) {
        t.cpu().fs_base = c.tls;
    }
    if c.flags & CLONE_CLEAR_SIGHAND != 0 {
        t.process.actions().clear();
    }
    super::credentials::untie();
    t.process.host.clone().forked();
    t.signals.forked();
    if c.stack != 0 || c.has(libc::CLONE_SETTLS) {
        // Structured code keeps rsp in its own locals: leave it, the dispatcher goes on with the new one.
        t.request_poll();
    }
}
