//! From a release and a description to a process that is served: the common way of `run`, `create` and `exec`. Owns putting the parts together; each step is another module's.
//!
//! The fact a newcomer gets wrong: everything that can fail for reasons of the release, the description or the host fails before the fork; what fails after it is reported through the
//! handshake, so there is always exactly one line of error.

use crate::audit::{Audit, Decision, Event, Record};
use crate::cgroup::Cgroup;
use crate::cli::CodeForm;
use crate::container::{Begun, Container, GuestMain, Place, Started, start_with};
use crate::decide::Decider;
use crate::failure::Failure;
use crate::hooks::{self, Moment, Subject};
use crate::journal::Journal;
use crate::listener::Listener;
use crate::namespaces::{self, Network};
use crate::release::{self, Release};
use crate::ring::Ring;
use crate::signals::Signals;
use crate::supervisor::{Served, Supervisor, Until};
use crate::worker::Program;
use crate::{lockdown, profile, reach, rootfs, supervisor};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use syscalls::table;

/// How a guest is run; not a matter of its container.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    pub form: CodeForm,
    pub strace: bool,
    /// Descriptors from 3 on that the guest inherits.
    pub preserved_fds: u32,
    /// It dies with the process that starts it.
    pub tied: bool,
    /// A daemon will answer its execs and read its workers' notes.
    pub handed: bool,
}

/// The container a process belongs to.
pub struct Home {
    pub subject: Subject,
    pub place: Place,
    pub cgroup: Cgroup,
}

/// A process about to start.
pub struct Launch {
    pub release: Release,
    pub container: Container,
    manner: Manner,
    ring: &'static Ring,
}

impl Launch {
    pub fn new(release: Release, spec: Spec, home: Home, signals: &Signals, manner: Manner) -> Result<Self, Failure> {
        let Home { subject, place, cgroup } = home;
        hooks::check(&spec)?;
        let network = match place {
            Place::New(ref layout) => {
                reach::refuse(&rootfs::written(&spec, layout), &release.source)?;
                release.network(network(&spec, &release))?
            }
            Place::Of(_) => Network::Host,
        };
        let profile = spec.linux().as_ref().and_then(|l| l.seccomp().as_ref()).map(profile::compile).transpose()?;
        let container = Container {
            subject,
            cgroup,
            profile,
            tied: manner.tied,
            preserved_fds: manner.preserved_fds,
            ..Container::new(spec, place, network, release.allow()?, signals.inherited)?
        };
        let ring = Box::leak(Box::new(Ring::new().map_err(|e| Failure::new("audit ring", e, ""))?));
        Ok(Self { release, container, manner, ring })
    }

    /// Forks the process; hooks of the host run while it waits.
    pub fn start(&self, audit: &Audit) -> Result<Started, Failure> {
        let program = program(&self.container.spec, self.manner.strace)?;
        self.start_as(audit, |ring| release::prepared(self.release.load(ring)?, self.manner.form, program))
    }

    /// The same for a process that becomes what `prepare` makes of it, in the place of the description's program.
    pub fn start_as(&self, audit: &Audit, prepare: impl FnOnce(Option<&'static Ring>) -> Result<GuestMain, Failure>) -> Result<Started, Failure> {
        let ring = (audit.enabled() || self.manner.handed).then_some(self.ring);
        let load = |_: &Container| prepare(ring);
        let between = |pid: Pid| match self.container.place {
            Place::New(_) => hooks::run(&self.container.spec, &self.container.subject, Moment::CreateRuntime, Some(pid)),
            Place::Of(_) => Ok(()),
        };
        // What reading the manifest left behind in the allocator would be copied, and copied again by every fork of the guest.
        // SAFETY: a request to the allocator, which every thread may make at any time.
        unsafe { libc::malloc_trim(0) };
        start_with(&self.container, load, between)
    }

    /// Only once the process exists: it must not inherit the memory.
    pub fn journal(&self, root: &Path, until: Until) -> Result<Journal, Failure> {
        Journal::new(root, &self.container.subject.id, until).map_err(|e| Failure::new("journal", e, ""))
    }

    /// Shared with the process's descendants.
    pub fn ring(&self) -> &Ring {
        self.ring
    }

    /// Who decides about its execs.
    pub fn decider(&self, root: OwnedFd, journal: &Journal) -> Decider {
        Decider::new(self.release.verified.clone(), root, journal.begun())
    }

    /// Answers its execs until the end; the exit code is known only to the process's parent.
    pub fn serve(&self, begun: Begun, journal: &Journal, audit: &mut Audit, signals: &Signals) -> Result<Option<i32>, Failure> {
        let Begun { pidfd, listener, root, .. } = begun;
        self.serve_by(pidfd, listener, &mut self.decider(root, journal), journal, audit, signals)
    }

    /// The same with who decides at hand, obeying others than the signals of this process.
    pub fn serve_by(
        &self,
        pidfd: OwnedFd,
        listener: OwnedFd,
        decider: &mut Decider,
        journal: &Journal,
        audit: &mut Audit,
        attention: &dyn supervisor::Attention,
    ) -> Result<Option<i32>, Failure> {
        let supervisor = Supervisor {
            pidfd,
            listener: Listener::new(listener),
            decider,
            audit,
            attention,
            journal,
            ring: Some(self.ring),
            cgroup: &self.container.cgroup,
            until: journal.until(),
            syscall_name: &|nr| table::row(nr.into()).map(|r| r.name),
        };
        match supervisor.serve()? {
            Served::Ended(code) => Ok(code),
            Served::Left => Ok(None),
        }
    }
}

/// The life of a process whose execs a daemon answers: signals are passed on until its end.
pub fn attend(pidfd: BorrowedFd<'_>, signals: &Signals) -> Result<Option<i32>, Failure> {
    loop {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(Failure::new("wait for container", e.desc(), "")),
        }
        let ready = |i: usize| fds[i].revents().is_some_and(|r| !r.is_empty());
        if ready(0) {
            signals.forward(pidfd);
        }
        if ready(1) {
            return supervisor::exit_code(pidfd);
        }
    }
}

/// The network a description asks for. One of its own has loopback up wherever the manifest allows that, as runc's have.
fn network(spec: &Spec, release: &Release) -> Network {
    match namespaces::described(spec, LinuxNamespaceType::Network) {
        None => Network::Host,
        // So Docker says "the host's".
        Some(Some(path)) if namespaces::is_own(&path, "net") => Network::Host,
        Some(Some(path)) => Network::Path(path),
        Some(None) if release.widest_network() == Network::None || spec.annotations().as_ref().is_some_and(|a| a.contains_key(NO_LOOPBACK)) => Network::None,
        Some(None) => Network::Loopback,
    }
}

/// Annotation of a container whose loopback stays down.
pub const NO_LOOPBACK: &str = "io.vkernel.no-loopback";

fn program(spec: &Spec, strace: bool) -> Result<Program, Failure> {
    let process = spec.process().as_ref().ok_or_else(|| Failure::new("description", "names no process", "add \"process\" to config.json"))?;
    let c = |text: &String| CString::new(text.as_str()).map_err(|_| Failure::new("command line", "holds a NUL byte", "leave it out"));
    let argv = process.args().iter().flatten().map(c).collect::<Result<Vec<_>, _>>()?;
    if argv.is_empty() {
        return Err(Failure::new("description", "names no program", "add \"args\" to its process"));
    }
    Ok(Program { argv, env: process.env().iter().flatten().map(c).collect::<Result<_, _>>()?, strace, limits: lockdown::emulated_limits(spec) })
}

/// The end of a container, for the audit log.
pub fn stopped(result: &Result<Option<i32>, Failure>) -> Record {
    let mut record = Record::new(Event::ContainerStop, Decision::Noted, if result.is_ok() { "exited" } else { "failed" });
    record.detail = match result {
        Ok(code) => code.map(|code| format!("exit code {code}")),
        Err(failure) => Some(failure.to_string()),
    };
    record
}
