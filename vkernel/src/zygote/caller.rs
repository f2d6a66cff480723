//! What a container would have inherited from the process that asked for it, had that started it: limits, niceness, processors, umask, blocked signals, and the variables that options name. Owns taking it there and putting it in place here.
//!
//! The fact a newcomer gets wrong: a ready container's namespaces but its own, and its place among control groups that nobody described, are the daemon's.

use super::Taken;
use crate::cli::Run;
use crate::streams::JOURNAL;
use crate::sys;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::io;

/// Limits of the host process; those of memory and of core files are none (07, S1), see `lockdown::limits`.
const LIMITS: [libc::__rlimit_resource_t; 12] = [
    libc::RLIMIT_RSS,
    libc::RLIMIT_CPU,
    libc::RLIMIT_FSIZE,
    libc::RLIMIT_NPROC,
    libc::RLIMIT_NOFILE,
    libc::RLIMIT_MEMLOCK,
    libc::RLIMIT_LOCKS,
    libc::RLIMIT_SIGPENDING,
    libc::RLIMIT_MSGQUEUE,
    libc::RLIMIT_NICE,
    libc::RLIMIT_RTPRIO,
    libc::RLIMIT_RTTIME,
];

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Caller {
    /// Of each of `LIMITS`.
    limits: Vec<(u64, u64)>,
    nice: i32,
    /// Numbers of processors it may use.
    processors: Vec<usize>,
    umask: u32,
    blocked: Vec<i32>,
    /// Values, if there are any, of variables that the options pass on, and of those that descriptions and streams look at.
    variables: Vec<(String, Option<String>)>,
    /// Its bounding set of capabilities, and whether a filter of system calls holds for it.
    bounding: u64,
    filtered: bool,
}

impl Caller {
    /// This process, without variables: which are wanted is not known to it.
    pub fn here() -> Self {
        let limit = |resource: &libc::__rlimit_resource_t| {
            let mut value = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: `value` has room for an rlimit.
            unsafe { libc::getrlimit(*resource, &raw mut value) };
            (value.rlim_cur, value.rlim_max)
        };
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        nix::sys::stat::umask(mask);
        let blocked = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
        let (bounding, filtered) = confinement();
        Self {
            limits: LIMITS.iter().map(limit).collect(),
            // SAFETY: a question about this process; -1 is an answer too.
            nice: unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) },
            processors: processors(),
            umask: mask.bits(),
            blocked: Signal::iterator().filter(|s| blocked.contains(*s)).map(|s| s as i32).collect(),
            variables: Vec::new(),
            bounding,
            filtered,
        }
    }

    /// Names of those that matter.
    pub(super) fn variables_of(options: &Run) -> Vec<String> {
        let named = options.shape.env.iter().filter(|entry| !entry.contains('=')).map(String::as_str);
        let listed = options.shape.env_file.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect::<Vec<_>>();
        let in_files = listed.iter().flat_map(|text| text.lines().map(str::trim).filter(|line| !line.contains('=')));
        ["TERM", JOURNAL].into_iter().chain(named).chain(in_files).map(str::to_owned).collect()
    }

    pub(super) fn know(&mut self, variables: Vec<(String, Option<String>)>) {
        self.variables = variables;
    }

    /// What a caller could not have given its container, a ready one must not have either.
    pub(super) fn may_all_that_this_process_may(&self) -> bool {
        confinement().0 & !self.bounding == 0 && !self.filtered
    }

    /// In the supervisor, while it has one thread: what descriptions are made from.
    pub(super) fn set_variables(&self) {
        for (name, value) in self.variables.iter().filter(|(name, _)| !name.is_empty() && !name.contains(['=', '\0'])) {
            // SAFETY: nobody else reads or writes the environment: there is one thread.
            unsafe {
                match value {
                    Some(value) if !value.contains('\0') => std::env::set_var(name, value),
                    _ => std::env::remove_var(name),
                }
            }
        }
    }

    /// What a process that waits is to have of it.
    pub(super) fn apply(&self, to: Pid, spec: &Spec) -> io::Result<()> {
        let described = |resource| spec.process().iter().filter_map(|p| p.rlimits().as_ref()).flatten().any(|l| crate::lockdown::resource(l.typ()) == Some(resource));
        for (resource, (soft, hard)) in LIMITS.into_iter().zip(&self.limits).filter(|(resource, _)| !described(*resource)) {
            let value = libc::rlimit { rlim_cur: *soft, rlim_max: *hard };
            // SAFETY: `value` is a valid rlimit; nothing is asked for.
            sys::check(unsafe { libc::prlimit(to.as_raw(), resource, &raw const value, std::ptr::null_mut()) }.into())?;
        }
        // SAFETY: no pointers.
        sys::check(unsafe { libc::setpriority(libc::PRIO_PROCESS, to.as_raw() as u32, self.nice) }.into())?;
        if self.processors != processors() {
            let mut set = nix::sched::CpuSet::new();
            self.processors.iter().try_for_each(|cpu| set.set(*cpu))?;
            nix::sched::sched_setaffinity(to, &set)?;
        }
        Ok(())
    }

    pub(super) fn taken(&self, spec: &Spec) -> Taken {
        let process = spec.process().as_ref();
        Taken {
            args: process.and_then(|p| p.args().clone()).unwrap_or_default(),
            env: process.and_then(|p| p.env().clone()).unwrap_or_default(),
            umask: process.is_none_or(|p| p.user().umask().is_none()).then_some(self.umask),
            blocked: self.blocked.clone(),
        }
    }
}

/// The bounding set, and whether system calls are filtered.
fn confinement() -> (u64, bool) {
    let holds = |capability: u64| sys::prctl(libc::PR_CAPBSET_READ, capability, 0);
    let bounding = (0..64).map_while(|c| holds(c).ok().map(|held| (held as u64) << c)).sum();
    (bounding, sys::prctl(libc::PR_GET_SECCOMP, 0, 0).ok() != Some(0))
}

fn processors() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}
