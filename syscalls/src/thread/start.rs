//! The start of a thread: clone with CLONE_THREAD.
//!
//! The fact a newcomer gets wrong: the new thread's registers are complete before its host thread exists; the parent waits until the child has
//! stored the tids, because CLONE_PARENT_SETTID must be visible when clone returns.

use super::{NewThread, Thread, reg};
use crate::errno::Errno;
use crate::table::SysResult;
use std::sync::mpsc;

/// The arguments of clone and clone3 alike.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CloneArgs {
    pub flags: u64,
    pub exit_signal: u64,
    /// Initial rsp; 0 = the parent's.
    pub stack: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    pub tls: u64,
    pub pidfd: u64,
}

impl CloneArgs {
    pub(crate) fn has(&self, flag: i32) -> bool {
        self.flags & u64::from(flag as u32) != 0
    }

    /// The address if the flag asks for it.
    pub(crate) fn address(&self, flag: i32, address: u64) -> u64 {
        if self.has(flag) { address } else { 0 }
    }
}

/// What glibc and musl ask for; threads that share less do not exist in practice.
const SHARED: i32 = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;

/// clone(CLONE_THREAD): the tid of the new thread.
pub(crate) fn new_thread(t: &mut Thread, c: &CloneArgs) -> SysResult {
    if c.flags & SHARED as u64 != SHARED as u64 || c.has(libc::CLONE_PIDFD) || c.has(libc::CLONE_VFORK) {
        return Err(Errno::EINVAL);
    }
    if t.process.threads().exec_by.is_some() {
        return Err(Errno::EAGAIN);
    }
    let mut state = Box::new(*t.cpu());
    state.gpr[reg::RAX] = 0;
    state.poll = 0;
    state.stop = 0;
    if c.stack != 0 {
        state.gpr[reg::RSP] = c.stack;
    }
    if c.has(libc::CLONE_SETTLS) {
        state.fs_base = c.tls;
    }
    let (ready, started) = mpsc::channel();
    let new = NewThread {
        process: t.process.clone(),
        state,
        mask: t.signals.mask,
        clear_child_tid: c.address(libc::CLONE_CHILD_CLEARTID, c.child_tid),
        set_child_tid: c.address(libc::CLONE_CHILD_SETTID, c.child_tid),
        set_parent_tid: c.address(libc::CLONE_PARENT_SETTID, c.parent_tid),
        ready,
    };
    // The host thread inherits a full mask and takes the guest's in `begin`.
    let old = crate::signal::host::block_all();
    let spawned = t.process.host.clone().spawn_thread(new);
    crate::signal::host::install_kick();
    let tid = spawned.and_then(|()| started.recv().map_err(|_| Errno::EAGAIN));
    crate::signal::host::restore_mask(old);
    tid.map(|tid| tid as u64)
}
