//! The OCI runtime command line (runtime-spec 1.x), as runc's callers use it: `create start state kill delete exec list features pause resume`. Owns the order of steps and what is
//! printed; containers are the same as `vkernel run`'s, and so are their records.
//!
//! The fact a newcomer gets wrong: the container's init must be its caller's orphaned descendant, because conmon and containerd's shim wait for it (07, S23). So `create` forks init,
//! then a supervisor beside it, and ends; neither is the other's parent, and the exit code is the caller's business.

mod bundle;
mod create;
mod exec;
mod log;
mod report;

pub use create::{create, start};
pub use exec::exec;
pub(crate) use exec::process;
pub use log::Log;
pub use report::{features, list, state};

use crate::failure::Failure;
use crate::hooks::{self, Moment, Subject};
use crate::state::{Entry, Status};
use crate::sys;
use std::os::fd::AsFd;

/// `kill`: to init, or to everything in the container.
pub fn kill(entry: &Entry, signal: i32, all: bool) -> Result<(), Failure> {
    // containerd looks for these words, which are runc's.
    let stopped = || Failure::new(format!("kill {}", entry.record.id), "container not running", "");
    if entry.status() == Status::Stopped && !all {
        return Err(stopped());
    }
    if all {
        for pid in entry.record.cgroup.members() {
            // SAFETY: plain numbers; the kernel lists only processes of the container's own group.
            unsafe { libc::kill(pid, signal) };
        }
        return Ok(());
    }
    let init = entry.record.init.open().ok_or_else(stopped)?;
    sys::pidfd_send_signal(init.as_fd(), signal).map_err(|e| Failure::new(format!("kill {}", entry.record.id), e, ""))
}

/// `delete`: what runs is only deleted with `force`; its `poststop` hooks run then.
pub fn delete(mut entry: Entry, force: bool, log: &Log) -> Result<(), Failure> {
    let status = entry.status();
    // As runc: one that was created and never started can be deleted.
    if !matches!(status, Status::Stopped | Status::Created) && !force {
        return Err(Failure::new(format!("delete {}", entry.record.id), format!("the container is {status}"), "stop it first, or use --force"));
    }
    entry.destroy();
    entry.remove();
    let subject = Subject { id: entry.record.id.clone(), bundle: entry.record.bundle.clone() };
    hooks::run_warning(&entry.record.spec, &subject, Moment::PostStop, None, log);
    Ok(())
}

/// `pause` and `resume`.
pub fn freeze(entry: &Entry, frozen: bool) -> Result<(), Failure> {
    let (wanted, verb) = if frozen { (Status::Running, "pause") } else { (Status::Paused, "resume") };
    match entry.status() {
        status if status == wanted || (frozen && status == Status::Created) => entry.record.cgroup.freeze(frozen),
        status => Err(Failure::new(format!("{verb} {}", entry.record.id), format!("the container is {status}"), "")),
    }
}
