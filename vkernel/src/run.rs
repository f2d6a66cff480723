//! `vkernel run`: from a manifest's path to the guest's exit code, in the foreground or detached. Owns what belongs to the caller's terminal and the life of the record; how a process is
//! started and served is `launch`'s.
//!
//! The fact a newcomer gets wrong: a container in the foreground leaves no record when it ends, with or without `--rm`: its output and its exit code went to the caller.

use crate::audit::Audit;
use crate::cgroup::Cgroup;
use crate::cli::{NetworkChoice, Run};
use crate::cni::{Attachment, List};
use crate::container::{Place, Session};
use crate::detached::{self, Ready};
use crate::failure::Failure;
use crate::hooks::Subject;
use crate::keeper::Keeper;
use crate::launch::{self, Home, Launch, Manner};
use crate::namespaces::{self, Network};
use crate::release::{Release, Source};
use crate::rootfs::{self, Layout};
use crate::serve::{Kind, Running};
use crate::signals::Signals;
use crate::state::{self, Entry, Exit, Process, Record, Status};
use crate::streams::Diverted;
use crate::supervisor::Until;
use crate::terminal::{self, Foreground, Relay};
use crate::{audit, check, describe, fetch, log, sys};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Runs the container; the result is the guest's exit code, or 0 once a detached one runs.
pub fn run(options: &Run, root: &Path, socket: &Path) -> Result<i32, Failure> {
    check::require()?;
    let options = &fetch::fetched(options)?;
    state::sweep(root);
    let id = container_id()?;
    if !options.life.detach {
        return audited(options, root, &id, None, None);
    }
    // A supervisor in the background holds nothing of its caller's: no lock, no end of a pipe.
    sys::close_from(3).map_err(|e| Failure::new("close_range", e, "see `vkernel check`"))?;
    let daemon = Running::find(socket)?;
    detached::launch(|ready| audited(options, root, &id, Some(ready), daemon.map(|d| (d, socket))).map(drop))?;
    println!("{id}");
    Ok(0)
}

/// A daemon, and the socket it is behind.
type Found<'a> = Option<(Running, &'a Path)>;

fn audited(options: &Run, root: &Path, id: &str, ready: Option<Ready>, daemon: Found<'_>) -> Result<i32, Failure> {
    let source = Source::new(&options.release, &options.manifest)?;
    let mut audit = source.audit(id)?;
    let result = contained(options, root, id, source, &mut audit, ready, daemon);
    audit.write(launch::stopped(&result));
    result.map(|code| code.expect("the first process is our child"))
}

fn contained(options: &Run, root: &Path, id: &str, source: Source, audit: &mut Audit, ready: Option<Ready>, daemon: Found<'_>) -> Result<Option<i32>, Failure> {
    let release = Release::open(source, &options.release, audit)?;
    let layout = Layout { root: image(options)?, writable: options.shape.writable };
    let attachment = attachment(options, root, id, &release)?;
    let spec = describe(options, &layout.root, id, &release, attachment.as_ref())?;
    let mut signals = Signals::take_over()?;
    let detached = ready.is_some();
    let session = if options.life.tty { Session::Terminal } else { terminal::plan() };
    let session = if detached { Session::Own } else { session };
    signals.terminal_is_shared = session == Session::Shared;

    let mut ending = Ending(Entry::create(root, Record { attachment, ..record(options, id, &spec, &layout, &release)? })?);
    if let Some(attachment) = &mut ending.0.record.attachment {
        // Once the record is there, so that of two at once at least one sees the other.
        must_be_alone(attachment, root, id)?;
        let attached = attachment.attach(namespaces::may_bind_every_port(&spec));
        // What the first plugins said is needed to undo what they did.
        ending.0.save()?;
        attached?;
    }
    let cgroup = Cgroup::make(&Cgroup::path(None, id), spec.linux().as_ref().and_then(|l| l.resources().as_ref()))?;
    ending.0.record.cgroup = cgroup.clone();
    ending.0.save()?;
    let subject = Subject { id: id.to_owned(), bundle: ending.0.record.bundle.clone() };
    let home = Home { subject, place: Place::New(layout), cgroup };
    let manner = Manner { form: options.form, strace: options.strace, preserved_fds: 0, tied: true, handed: daemon.is_some() };
    let mut launch = Launch::new(release, spec, home, &signals, manner)?;
    launch.container.session = session;

    let files = if detached { Diverted::default() } else { Diverted::divert(&launch.container.spec)? };
    let output = detached.then(|| log::Output::open(&ending.0.path(log::FILE))).transpose()?;
    let mut started = launch.start(audit)?;
    let journal = if daemon.is_none() { Some(launch.journal(root, Until::End)?) } else { None };
    let keeper = Keeper::fork(&ending.0, journal.as_ref())?;
    let pid = started.pid;
    ending.0.record.init = Process::of(pid);
    ending.0.record.status = Status::Running;
    ending.0.save()?;
    if let Some(file) = &options.life.pid_file {
        std::fs::write(file, pid.to_string()).map_err(|e| Failure::new(format!("--pid-file {}", file.display()), e, "name a file that can be written"))?;
    }
    audit.write(launch.release.started(pid.as_raw() as u32));
    if let Some((mut daemon, socket)) = daemon {
        daemon.adopt(root, id, &started, launch.ring(), Kind::First)?;
        ending.0.record.daemon = Some(socket.to_owned());
        ending.0.save()?;
    }

    let files = files.pump()?;
    let _terminal = (session == Session::Foreground).then(|| Foreground::give(pid));
    let relay = started.terminal.take().map(Relay::new).transpose()?;
    signals.terminal = relay.as_ref().map(Relay::master).transpose()?;
    let begun = started.go()?;
    let pump = output.map(log::Output::pump).transpose()?;
    if let Some(ready) = ready {
        ready.say();
    }
    let code = match &journal {
        Some(journal) => launch.serve(begun, journal, audit, &signals)?,
        None => {
            // A listener of ours would hide from the guest that nobody answers.
            drop(begun.listener);
            launch::attend(begun.pidfd.as_fd(), &signals)?
        }
    };
    if let Some(relay) = relay {
        relay.finish();
    }
    if let Some(pump) = pump {
        pump.finish();
    }
    files.finish();
    ending.ended(code.unwrap_or(255));
    drop(ending);
    keeper.dismiss();
    // The process ends: to take a release apart first would copy the memory that it shares with its children.
    std::mem::forget(launch);
    Ok(code)
}

/// Whatever happens, nothing of a container stays but the record of one that is to be remembered.
pub(crate) struct Ending(pub(crate) Entry);

impl Ending {
    pub(crate) fn ended(&mut self, code: i32) {
        let oom_killed = self.0.record.cgroup.oom_kills() > 0;
        self.0.record.exit = Some(Exit { code, oom_killed, at: audit::timestamp(std::time::SystemTime::now()) });
        let _ = std::fs::write(self.0.path(state::EXIT), code.to_string());
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.destroy();
        // One that never ran is nothing to remember.
        let never = self.0.record.exit.is_none();
        if (self.0.record.forget || never) && self.0.record.attachment.is_none() {
            return self.0.remove();
        }
        self.0.record.forget |= never;
        self.0.record.status = Status::Stopped;
        let _ = self.0.save();
    }
}

pub(crate) fn record(options: &Run, id: &str, spec: &Spec, layout: &Layout, release: &Release) -> Result<Record, Failure> {
    Ok(Record {
        id: id.to_owned(),
        name: options.life.name.clone(),
        bundle: layout.root.parent().unwrap_or(&layout.root).to_owned(),
        created: audit::timestamp(std::time::SystemTime::now()),
        status: Status::Creating,
        supervisor: Process::of(Pid::this()),
        spec: spec.clone(),
        release: release.source.clone(),
        stop_signal: describe::signal(&options.life.stop_signal)?,
        forget: options.life.rm || !options.life.detach,
        ..Record::default()
    })
}

pub(crate) fn image(options: &Run) -> Result<PathBuf, Failure> {
    let root = options.shape.rootfs.clone().unwrap_or_else(|| rootfs::beside(&options.manifest));
    std::path::absolute(&root).map_err(|e| Failure::new(format!("image root {}", root.display()), e, "name it with --rootfs DIR"))
}

/// Its place in a network that plugins are to make.
fn attachment(options: &Run, root: &Path, id: &str, release: &Release) -> Result<Option<Attachment>, Failure> {
    let (network, ports) = (&options.shape.network, &options.shape.publish);
    let Some(bridge @ NetworkChoice::Bridge(file)) = network.as_ref().or((!ports.is_empty()).then_some(&NetworkChoice::Bridge(None))) else {
        let other = network.as_ref().filter(|_| !ports.is_empty());
        return other.map_or(Ok(None), |network| Err(Failure::new("--publish", format!("has no meaning with --network {network}"), "use --network bridge")));
    };
    allowed(release, bridge)?;
    let namespace = std::path::absolute(root).map_err(|e| Failure::new(format!("--root {}", root.display()), e, ""))?.join(id).join(state::NETWORK);
    Attachment::plan(id, namespace, List::read(file.as_deref())?, ports.clone()).map(Some)
}

/// No other container has its ports.
fn must_be_alone(attachment: &Attachment, root: &Path, id: &str) -> Result<(), Failure> {
    for other in state::all(root).iter().filter(|e| e.record.id != id) {
        let theirs = || other.record.attachment.iter().flat_map(|a| &a.ports);
        if let Some(port) = attachment.ports.iter().find(|port| theirs().any(|theirs| port.collides(theirs))) {
            return Err(Failure::new(format!("--publish {port}"), format!("container {} has this port", other.record.id), "choose another port, or remove that container"));
        }
    }
    Ok(())
}

fn allowed(release: &Release, network: &NetworkChoice) -> Result<(), Failure> {
    let asked = match network {
        NetworkChoice::None => Network::None,
        NetworkChoice::Loopback => Network::Loopback,
        // What it reaches is what the host reaches.
        NetworkChoice::Host | NetworkChoice::Bridge(_) => Network::Host,
        NetworkChoice::Namespace(path) => Network::Path(path.clone()),
    };
    release.network(asked).map(drop).map_err(|failure| Failure { what: format!("--network {network}"), ..failure })
}

/// The description, with the network that was asked for or else the widest one that the manifest allows.
pub(crate) fn describe(options: &Run, root: &Path, id: &str, release: &Release, attachment: Option<&Attachment>) -> Result<Spec, Failure> {
    describe::spec(&decided(options, release, attachment)?, root, id, attachment.map(|a| a.namespace.as_path()))
}

/// The options with the network that the container gets.
pub(crate) fn decided(options: &Run, release: &Release, attachment: Option<&Attachment>) -> Result<Run, Failure> {
    let mut options = options.clone();
    let network = options.shape.network.take().unwrap_or(match release.widest_network() {
        _ if attachment.is_some() => NetworkChoice::Bridge(None),
        Network::Host | Network::Path(_) => NetworkChoice::Host,
        Network::Loopback => NetworkChoice::Loopback,
        Network::None => NetworkChoice::None,
    });
    allowed(release, &network)?;
    if network == NetworkChoice::None {
        options.shape.annotation.push(format!("{}=1", launch::NO_LOOPBACK));
    }
    options.shape.network = Some(network);
    Ok(options)
}

pub(crate) fn container_id() -> Result<String, Failure> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|e| Failure::new("container id", e, "mount /proc"))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).take(state::ID_LENGTH).collect())
}
