//! `vkernel serve`: the daemon that answers the execs of containers for which no command waits, and the socket on which it is asked. Owns what there is one of: the socket, the store of
//! descriptors, the settings, the containers it serves, and the order of its beginning and end.
//!
//! The facts a newcomer gets wrong: the daemon is nobody's parent. Containers live on when it ends, and their execs wait for the next one, for a while (07, S19). And it starts no guest:
//! `run` requests execute the command line like anybody else.

mod adopt;
mod api;
mod calls;
mod connection;
mod events;
mod hands;
mod holder;
mod lines;
pub mod manual;
mod metrics;
mod parcel;
pub(crate) mod passing;
mod policies;
mod served;
mod settings;
mod store;
mod tally;
mod zygotes;

pub use adopt::{Daemon as Running, Kind};
pub(crate) use api::error;
pub use holder::hold;
pub use settings::DEFAULT as SETTINGS;

use crate::audit::{Audit, Decision, Event, Record};
use crate::cli::Serve;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::state::{self, Entry};
use crate::supervisor::Until;
use crate::{check, signals, sys};
use connection::Connection;
use events::Events;
use hands::Hands;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use parcel::Parcel;
use policies::Policies;
use sd_notify::NotifyState;
use served::Served;
use settings::Settings;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use store::Store;
use tally::Tally;
use zygotes::Zygotes;

/// What all threads share.
pub struct Daemon {
    socket: PathBuf,
    /// Where records are of which `ps` speaks.
    root: PathBuf,
    config: PathBuf,
    settings: RwLock<Arc<Settings>>,
    policies: Policies,
    store: Mutex<Store>,
    served: Mutex<BTreeMap<String, Arc<Served>>>,
    events: Arc<Events>,
    tally: Arc<Tally>,
    zygotes: Arc<Zygotes>,
    clients: AtomicUsize,
    hands: Hands,
    /// One reload at a time.
    reloading: Mutex<()>,
    /// How many descriptors a process had before this one took more, and the most.
    descriptors: (u64, u64),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(text: impl std::fmt::Display) {
    eprintln!("vkernel serve: {text}");
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

/// The daemon's life.
pub fn serve(options: &Serve, socket: &Path, root: &Path) -> Result<(), Failure> {
    check::require()?;
    let directory = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.map_err(|e| Failure::new(directory.display().to_string(), e, "choose another place with --socket PATH"))?;
    let _lock = only_one(&directory)?;
    let descriptors = sys::raise_descriptor_limit().map_err(|e| Failure::new("limit of descriptors", e, ""))?;
    let signals = signals::arriving(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])?;
    let passed = passed()?;
    let (sockets, passed): (Vec<_>, Vec<_>) = passed.into_iter().partition(|(name, _)| !Parcel::is_part(name));
    let given = sockets.into_iter().next();
    let own = given.is_none();
    let listener = given.map_or_else(|| bound(socket), |(_, fd)| Ok(UnixListener::from(fd)))?;
    let settings = Settings::read(&options.config)?;
    let policies = Policies::new(directory.join("manifests"))?;
    let (store, parcels) = Store::open(&directory, settings.file.takeover_seconds, passed)?;
    let daemon = Arc::new(Daemon {
        socket: std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned()),
        root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
        config: options.config.clone(),
        settings: RwLock::new(Arc::new(settings)),
        policies,
        store: Mutex::new(store),
        served: Mutex::default(),
        events: Arc::default(),
        tally: Arc::default(),
        zygotes: Arc::default(),
        clients: AtomicUsize::new(0),
        hands: Hands::default(),
        reloading: Mutex::default(),
        descriptors,
    });
    daemon.take_over(parcels);
    if let Some(at) = &daemon.settings().file.metrics {
        metrics::listen(&daemon, at)?;
    }
    daemon.note("started", format!("{}, taken over", daemon.status()));
    notify(&[NotifyState::Ready, NotifyState::Status(&daemon.status())]);
    let result = daemon.attend(&listener, &signals);
    notify(&[NotifyState::Stopping]);
    let left: Vec<_> = std::mem::take(&mut *locked(&daemon.served)).into_values().collect();
    left.iter().for_each(|served| served.leave());
    daemon.note("stopped", format!("{} containers left", left.len()));
    if own {
        let _ = std::fs::remove_file(socket);
    }
    daemon.store().end(left.is_empty());
    result
}

/// This program again, with nothing of this service's: its environment, its limit of descriptors (`before`: what that was), its umask. `also` runs last before it is executed, and makes system calls only.
fn again(before: (u64, u64), also: impl Fn() -> std::io::Result<()> + Send + Sync + 'static) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("vkernel").current_dir("/").env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let (soft, hard) = before;
    // SAFETY: between fork and exec, system calls and no allocation.
    unsafe {
        command.pre_exec(move || {
            libc::umask(0o022);
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard)?;
            also()
        });
    }
    command
}

/// Two daemons would answer the same execs.
fn only_one(directory: &Path) -> Result<Flock<File>, Failure> {
    let path = directory.join("serve.lock");
    let failure = |e: std::io::Error| Failure::new(path.display().to_string(), e, "choose another place with --socket PATH");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failure)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| Failure::new("vkernel serve", "runs already", "stop the other one, or choose another place with --socket PATH"))
}

/// What a service manager opened for us, with its names.
fn passed() -> Result<Vec<(String, OwnedFd)>, Failure> {
    let fds = sd_notify::listen_fds_with_names().map_err(|e| Failure::new("socket activation", e, "see LISTEN_FDS in sd_listen_fds(3)"))?;
    // SAFETY: the service manager says that these numbers are ours, and nothing else here has taken them.
    Ok(fds.map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) })).collect())
}

fn bound(socket: &Path) -> Result<UnixListener, Failure> {
    // The lock says that no daemon listens there.
    let _ = std::fs::remove_file(socket);
    let failure = |e: std::io::Error| Failure::new(format!("socket {}", socket.display()), e, "choose another place with --socket PATH");
    // Its mode counts from the first moment on.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(socket).map_err(failure);
    nix::sys::stat::umask(mask);
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).map_err(failure)?;
    listener
}

impl Daemon {
    fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    fn status(&self) -> String {
        status(&locked(&self.served))
    }

    /// Clients, signals, the watchdog, and the loss of the holder, until it is told to end.
    fn attend(self: &Arc<Self>, listener: &UnixListener, signals: &SignalFd) -> Result<(), Failure> {
        let failure = |e: &dyn std::fmt::Display| Failure::new("vkernel serve", e, "");
        listener.set_nonblocking(true).map_err(|e| failure(&e))?;
        let watchdog = sd_notify::watchdog_enabled().map(|period| period / 2);
        let timeout = watchdog.map_or(PollTimeout::NONE, |period| PollTimeout::try_from(period).unwrap_or(PollTimeout::MAX));
        loop {
            // A duplicate, because the store may get another holder while we wait.
            let lost = self.store().lost().and_then(|fd| fd.try_clone_to_owned().ok());
            let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(lost.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(failure(&e.desc())),
            }
            let ready = |i: usize| fds.get(i).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
            if ready(2) {
                self.keep_again();
            }
            while let (true, Ok(Some(info))) = (ready(1), signals.read_signal()) {
                if info.ssi_signo != Signal::SIGHUP as u32 {
                    return Ok(());
                }
                // The reload says itself what was wrong.
                let _ = self.reload();
            }
            while let (true, Ok((stream, _))) = (ready(0), listener.accept()) {
                self.welcome(stream);
            }
            if watchdog.is_some() {
                // A thread that died with this lock, or one that waits for ever, must not look well.
                drop(locked(&self.served));
                notify(&[NotifyState::Watchdog]);
            }
        }
    }

    /// A thread per client: what it asks may take as long as the container lives.
    fn welcome(self: &Arc<Self>, stream: UnixStream) {
        let _ = stream.set_nonblocking(false);
        let mut connection = Connection::new(stream);
        if self.clients.fetch_add(1, Ordering::Relaxed) >= self.settings().file.clients {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            let _ = connection.answer(None, api::error(&Failure::new("connection", "too many clients", "close some, or set clients in serve.toml")));
            return;
        }
        let daemon = self.clone();
        let work = move || {
            // A panic is one client's; the others go on.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match connection.is_roots() {
                true => api::talk(&daemon, &mut connection),
                false => connection.refuse(api::error(&Failure::new("connection", "only root may ask", "run as root"))),
            }));
            daemon.clients.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(e) = self.hands.give(Box::new(work)) {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            say(format_args!("no thread for a client: {e}"));
        }
    }

    /// The holder was killed: a new one gets everything again.
    fn keep_again(&self) {
        let all = locked(&self.served);
        if let Err(failure) = self.store().renew() {
            say(format_args!("{failure}; containers would not survive this daemon"));
        }
        for served in all.values() {
            if let Err(e) = self.store().keep(served.parcel()) {
                say(format_args!("container {} is not held: {e}", served.id));
            }
        }
        drop(all);
        self.note("holder-replaced", "the holder of listeners was gone".into());
    }

    /// What the last daemon left. One that cannot be served is let go of: it fails closed.
    fn take_over(self: &Arc<Self>, parcels: Vec<Parcel>) {
        for parcel in parcels {
            let key = parcel.key.clone();
            let names: Vec<String> = parcel.parts().map(|(name, _)| name).collect();
            let journal = parcel.journal();
            match Served::begin(self, parcel) {
                Ok(served) => {
                    locked(&self.served).insert(key, served);
                }
                Err(failure) => {
                    say(&failure);
                    // What its guests asked last is recorded, if the container is still known.
                    if let Some(journal) = journal.ok().and_then(|j| Journal::of(j).ok())
                        && let Some(mut audit) = journal.container().and_then(|(root, id)| Entry::named(&root, &id).ok()).and_then(|e| self.audit_of(&e).ok())
                    {
                        journal.settle(None, &mut audit);
                    }
                    names.iter().for_each(|name| self.store().let_go_of(name));
                }
            }
        }
        self.sweep(&locked(&self.served));
    }

    /// Under the lock of those that are served, so that nothing goes that one of them needs.
    fn sweep(&self, all: &BTreeMap<String, Arc<Served>>) {
        let needed = all.values().filter_map(|s| Entry::named(&s.root, &s.id).ok()?.record.release.digest).collect();
        self.policies.sweep(&needed);
    }

    /// A container that a command has made.
    fn adopt(self: &Arc<Self>, root: &Path, id: &str, fds: Vec<OwnedFd>, waits: bool, further: bool) -> Result<(), Failure> {
        let failure = |e: &dyn std::fmt::Display| Failure::new(format!("adopt container {id}"), e, "");
        let mut all = locked(&self.served);
        let entry = Entry::named(root, id)?;
        // A release that is not believed now is not begun here.
        self.policies.get(&entry.record.release, &self.settings())?;
        let until = if further { Until::Nobody } else { Until::End };
        let journal = Journal::new(root, id, until).and_then(|j| j.as_fd().try_clone_to_owned()).map_err(|e| failure(&e))?;
        let parcel = Parcel::handed(key().map_err(|e| failure(&e))?, fds, waits, journal).ok_or_else(|| failure(&"the descriptors of a started process did not come with it"))?;
        let (key, names) = (parcel.key.clone(), parcel.parts().map(|(name, _)| name).collect::<Vec<_>>());
        let kept = self.store().keep(&parcel).map_err(|e| failure(&format!("it cannot be held: {e}")));
        let served = kept.and_then(|()| Served::begin(self, parcel)).inspect_err(|_| names.iter().for_each(|name| self.store().let_go_of(name)))?;
        all.insert(key, served);
        notify(&[NotifyState::Status(&status(&all))]);
        Ok(())
    }

    /// A container's thread has nothing more to do.
    fn over(&self, served: &Served, trouble: Option<String>) {
        if let Some(trouble) = trouble {
            say(&trouble);
        }
        let mut all = locked(&self.served);
        self.store().let_go(served.parcel());
        all.remove(&served.parcel().key);
        notify(&[NotifyState::Status(&status(&all))]);
        self.sweep(&all);
    }

    /// The first process of the container that has this record.
    fn find(&self, entry: &Entry) -> Option<Arc<Served>> {
        locked(&self.served).values().find(|s| s.until == Until::End && s.id == entry.record.id && s.root == entry.root()).cloned()
    }

    /// Reads everything again; on failure nothing has changed.
    fn reload(&self) -> Result<String, Failure> {
        let _one = locked(&self.reloading);
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let generation = self.settings().generation + 1;
        let result = Settings::read(&self.config).map(|settings| Settings { generation, ..settings });
        let told = match &result {
            Ok(settings) => {
                *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings.clone());
                self.zygotes.clear(generation);
                self.policies.forget_verdicts(settings);
                self.judge_all(settings)
            }
            Err(failure) => format!("nothing was changed: {failure}"),
        };
        say(format_args!("reload: {told}"));
        let mut record =
            Record::new(Event::PolicyLoad, if result.is_ok() { Decision::Allowed } else { Decision::Denied }, if result.is_ok() { "reloaded" } else { "not-reloaded" });
        record.detail = Some(told.clone());
        self.record(record);
        notify(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
        result.map(|_| told).map_err(|f| Failure { advice: format!("the old settings stay in force; {}", f.advice).trim_end_matches("; ").to_owned(), ..f })
    }

    fn judge_all(&self, settings: &Settings) -> String {
        let all: Vec<_> = locked(&self.served).values().cloned().collect();
        let mut refused = 0;
        for served in &all {
            let entry = Entry::named(&served.root, &served.id);
            let policy = entry.ok().and_then(|e| self.policies.judge(&e.record.release, settings, served.policy().as_ref()));
            refused += usize::from(policy.is_none());
            served.judge_by(policy);
        }
        format!(
            "{} keys, {} revoked files, {} revoked keys; {} containers, of which {refused} may start nothing any more",
            settings.trust.keys.iter().count(),
            settings.trust.revoked.files.len(),
            settings.trust.revoked.keys.len(),
            all.len()
        )
    }

    /// A container's own log, or the daemon's.
    fn audit_of(&self, entry: &Entry) -> Result<Audit, Failure> {
        let source = &entry.record.release;
        let audit = match source.audit {
            Some(_) => source.audit(&entry.record.id)?,
            None => self.own_audit(&entry.record.id)?,
        };
        Ok(audit.tapped(self.events.clone()))
    }

    fn own_audit(&self, id: &str) -> Result<Audit, Failure> {
        let log = self.settings().file.audit.clone();
        let failure = |e| Failure::new(format!("audit log {}", log.as_ref().map(ToString::to_string).unwrap_or_default()), e, "name a writable file in serve.toml");
        Audit::open(id, log.as_ref()).map_err(failure)
    }

    /// Something about the daemon itself.
    fn record(&self, record: Record) {
        match self.own_audit("") {
            Ok(audit) => audit.tapped(self.events.clone()).write(record),
            Err(failure) => say(failure),
        }
    }

    fn note(&self, reason: &str, detail: String) {
        say(format_args!("{reason}: {detail}"));
        let mut record = Record::new(Event::Daemon, Decision::Noted, reason);
        record.pid = Some(std::process::id());
        record.detail = Some(detail);
        self.record(record);
    }
}

fn status(all: &BTreeMap<String, Arc<Served>>) -> String {
    format!("serving {} containers", all.values().filter(|s| s.until == Until::End).count())
}

/// A name that nothing held has.
fn key() -> std::io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text.chars().filter(char::is_ascii_hexdigit).take(state::ID_LENGTH * 2).collect())
}

/// How often somebody who streams looks whether its client is still there.
const GLANCE: Duration = Duration::from_millis(500);
