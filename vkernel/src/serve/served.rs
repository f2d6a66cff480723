//! One container that the daemon serves: a thread with its supervisor, and what others may tell it. Owns the orders and the thread's life.
//!
//! The facts a newcomer gets wrong: a request that a dead daemon left is refused before anything else is done; and a container whose release is believed no more is still served, with
//! refusals, because an exec that nobody answers would hang.

use super::Daemon;
use super::parcel::{CHANNEL, Parcel};
use crate::audit::Record;
use crate::decide::Decider;
use crate::failure::Failure;
use crate::handshake::{Channel, Kind};
use crate::journal::Journal;
use crate::launch;
use crate::listener::Listener;
use crate::ring::Ring;
use crate::state::{Entry, Process, Status};
use crate::supervisor::{Attention, Served as Outcome, Supervisor, Until};
use nix::unistd::Pid;
use policy::Verified;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use syscalls::table;

/// What a supervisor's thread is told.
enum Order {
    /// The rules have changed.
    Judge(Option<Arc<Verified>>),
    /// The daemon ends, the container does not.
    Leave,
}

/// Orders that were not carried out yet, and a descriptor that wakes the thread.
struct Orders {
    pending: Mutex<Vec<Order>>,
    reader: PipeReader,
    writer: PipeWriter,
    tally: Arc<super::tally::Tally>,
}

impl Orders {
    fn give(&self, order: Order) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // One byte per order, written and read under the lock: the pipe never fills and never blocks.
        if (&self.writer).write_all(&[0]).is_ok() {
            pending.push(order);
        }
    }
}

impl Attention for Orders {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.reader.as_fd()]
    }

    fn attend(&self, _: BorrowedFd<'_>, decider: &mut Decider) -> bool {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = (&self.reader).read_exact(&mut vec![0; pending.len()]);
        for order in pending.drain(..) {
            match order {
                Order::Judge(verified) => decider.judge_by(verified),
                Order::Leave => return false,
            }
        }
        true
    }

    fn decided(&self, record: &Record, hit: bool) {
        self.tally.count(record, hit);
    }
}

pub(super) struct Served {
    pub(super) id: String,
    /// Directory of its record.
    pub(super) root: PathBuf,
    /// Of the first process, or of a further one.
    pub(super) until: Until,
    parcel: Parcel,
    orders: Orders,
    policy: Mutex<Option<Arc<Verified>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn failure(id: &str, e: impl std::fmt::Display) -> Failure {
    Failure::new(format!("serve container {id}"), e, "its programs can start nothing; remove it with `vkernel rm --force`")
}

impl Served {
    /// From the parcel of a container whose record exists; its execs are answered when this returns.
    pub(super) fn begin(daemon: &Arc<Daemon>, parcel: Parcel) -> Result<Arc<Self>, Failure> {
        let journal = parcel.journal().and_then(Journal::of).map_err(|e| failure("?", e))?;
        let (root, id) = journal.container().ok_or_else(|| failure("?", "its journal names none"))?;
        let mut entry = Entry::named(&root, &id)?;
        if !entry.record.supervisor.is_alive() {
            // It was the last daemon's.
            entry.record.supervisor = Process::of(Pid::this());
            entry.save_if_there();
        }
        let policy = daemon.policies.judge(&entry.record.release, &daemon.settings(), None);
        let (reader, writer) = std::io::pipe().map_err(|e| failure(&id, e))?;
        let orders = Orders { pending: Mutex::default(), reader, writer, tally: daemon.tally.clone() };
        let served = Arc::new(Self { id, root, until: journal.until(), parcel, orders, policy: Mutex::new(policy), thread: Mutex::default() });
        let (mine, daemon) = (served.clone(), daemon.clone());
        let work = move || {
            let ended = std::panic::catch_unwind(AssertUnwindSafe(|| mine.serve(&daemon, &journal, entry)));
            let trouble = match ended {
                Ok(Ok(Outcome::Left)) => return,
                Ok(Ok(Outcome::Ended(_))) => None,
                Ok(Err(trouble)) => Some(trouble.to_string()),
                Err(_) => Some(failure(&mine.id, "its supervisor panicked").to_string()),
            };
            // Whatever happened, nobody holds its listener any more: what still runs there fails closed.
            daemon.over(&mine, trouble);
        };
        let thread = std::thread::Builder::new().name("container".into()).stack_size(512 << 10).spawn(work).map_err(|e| failure(&served.id, e))?;
        *served.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(served)
    }

    fn serve(&self, daemon: &Daemon, journal: &Journal, mut entry: Entry) -> Result<Outcome, Failure> {
        let here = |e: std::io::Error| failure(&self.id, e);
        let mut audit = daemon.audit_of(&entry)?;
        let listener = Listener::new(self.parcel.listener().map_err(here)?);
        journal.settle(Some(&listener), &mut audit);
        let mut decider = Decider::new(self.policy(), self.parcel.root().map_err(here)?, journal.begun());
        let ring = Ring::of(self.parcel.ring().map_err(here)?, journal.ring()).map_err(here)?;
        let supervisor = Supervisor {
            pidfd: self.parcel.pid().map_err(here)?,
            listener,
            decider: &mut decider,
            audit: &mut audit,
            attention: &self.orders,
            journal,
            ring: Some(&ring),
            cgroup: &entry.record.cgroup,
            until: self.until,
            syscall_name: &|nr| table::row(nr.into()).map(|r| r.name),
        };
        let served = supervisor.serve();
        // One of `run` has a parent that knows more: it writes the record and the log.
        entry = entry.again().unwrap_or(entry);
        if self.until == Until::End && entry.record.supervisor == Process::of(Pid::this()) && !matches!(served, Ok(Outcome::Left)) {
            audit.write(launch::stopped(&served.clone().map(|_| None)));
            entry.record.status = Status::Stopped;
            entry.record.supervisor = Process::default();
            entry.save_if_there();
        }
        served
    }

    pub(super) fn policy(&self) -> Option<Arc<Verified>> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The guest's `/`.
    pub(super) fn root_directory(&self) -> std::io::Result<OwnedFd> {
        self.parcel.root()
    }

    /// New rules, from the next request on.
    pub(super) fn judge_by(&self, policy: Option<Arc<Verified>>) {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&policy);
        self.orders.give(Order::Judge(policy));
    }

    /// Lets a container that waits begin.
    pub(super) fn go(&self, daemon: &Daemon) -> Result<(), Failure> {
        let mut entry = Entry::named(&self.root, &self.id)?;
        let waits = entry.status() == Status::Created;
        let channel = self
            .parcel
            .channel()
            .filter(|_| waits)
            .ok_or_else(|| Failure::new(format!("start {}", self.id), format!("the container is {}", entry.status()), "only a created one can be started"))?;
        Channel::of(channel).send(Kind::Go, &[], &[])?;
        entry.record.status = Status::Running;
        entry.save_if_there();
        daemon.store().let_go_of(&self.parcel.name(CHANNEL));
        Ok(())
    }

    /// Ends the thread, not the container; whoever has the descriptors next goes on.
    pub(super) fn leave(&self) {
        self.orders.give(Order::Leave);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    pub(super) fn parcel(&self) -> &Parcel {
        &self.parcel
    }
}
