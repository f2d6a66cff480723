//! Work on descriptors that no other thread of the guest can see or change: a thread for one call with a descriptor table of its own.
//!
//! Owns making and ending it. It does not own what is done there. Two facts a newcomer gets wrong: a number in a shared table is nobody's, because another thread may put anything else under it between two calls; and what
//! is open in such a thread can be opened from all others, by its name in /proc.

use crate::errno::Errno;
use crate::pass::quick;
use crate::process::Process;
use crate::signal::host::{block_all, restore_mask};
use std::sync::mpsc;

/// Room for one call; nothing of the guest's runs there.
const STACK_BYTES: usize = 256 << 10;

/// Are there threads that share the calling one's descriptors? Processes never do.
pub(crate) fn is_needed(process: &Process) -> bool {
    process.threads().tids.len() > 1
}

/// Does `work` in a thread of its own that begins with a copy of the caller's table, and then, while that table is still there, `then` with the thread's number in the calling one. ENOMEM when there can be no such thread.
pub(crate) fn apart<T: Send, R>(work: impl FnOnce() -> Result<T, Errno> + Send, then: impl FnOnce(i32, T) -> Result<R, Errno>) -> Result<R, Errno> {
    let (tell, told) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        // It must be given no signal of the guest's.
        let old = block_all();
        let spawned = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
            // SAFETY: gettid has no preconditions.
            let tid = unsafe { libc::gettid() };
            let _ = tell.send(own_table().and_then(|()| work()).map(|done| (tid, done)));
            let _ = gone.recv();
        });
        restore_mask(old);
        spawned.map_err(|_| Errno::ENOMEM)?;
        let (tid, done) = told.recv().map_err(|_| Errno::ENOMEM)??;
        let answer = then(tid, done);
        drop(go);
        answer
    })
}

/// Closes nothing: no table reaches so far.
fn own_table() -> Result<(), Errno> {
    let last = u64::from(u32::MAX);
    quick(libc::SYS_close_range, &[last, last, u64::from(libc::CLOSE_RANGE_UNSHARE)]).map(drop)
}

/// Keeps only this descriptor of the calling thread's table: a pipe whose last end a sibling closes must end.
pub(crate) fn keep_only(fd: u64) {
    let _ = fd.checked_sub(1).map(|last| quick(libc::SYS_close_range, &[0, last, 0]));
    let _ = quick(libc::SYS_close_range, &[fd + 1, u64::from(u32::MAX), 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_there_is_seen_by_its_name_only() {
        let mine = std::fs::File::open("/etc/passwd").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&mine) as u64;
        let look = |tid: i32, there: u64| {
            // Not in this table, or as another file.
            let link = std::fs::read_link(format!("/proc/self/task/{tid}/fd/{there}")).unwrap();
            assert_eq!(link.to_str(), Some("/etc/hostname"));
            assert_ne!(std::fs::read_link(format!("/proc/thread-self/fd/{there}")).ok(), Some(link));
            // The other table has lost ours; this one has not.
            assert!(std::fs::read_link(format!("/proc/self/task/{tid}/fd/{number}")).is_err());
            Ok(())
        };
        let work = || {
            let fd = quick(libc::SYS_openat, &[0, c"/etc/hostname".as_ptr() as u64, (libc::O_PATH | libc::O_CLOEXEC) as u64])?;
            keep_only(fd);
            Ok(fd)
        };
        assert_eq!(apart(work, look), Ok(()));
        assert_eq!(apart(|| Err::<(), _>(Errno::EPERM), |_, ()| Ok(())), Err(Errno::EPERM));
        assert!(mine.metadata().is_ok());
    }
}
