//! A container that is ready, and its supervisor: a child of the zygote's, from its beginning to the container's end. Owns the order: make everything, wait for an order, look once more at what may have changed, begin.
//!
//! The fact a newcomer gets wrong: the client hears `begun` before the first guest instruction and nothing before that, so whatever fails until then leaves the client free to start a container itself.

use super::{Order, Orders, tell};
use crate::audit::{self, Audit};
use crate::cgroup::Cgroup;
use crate::cli::Run;
use crate::container::{Place, Session};
use crate::decide::Decider;
use crate::failure::Failure;
use crate::hooks::Subject;
use crate::keeper::{self, Keeper};
use crate::launch::{self, Home, Launch, Manner};
use crate::release::{Release, Source};
use crate::rootfs::Layout;
use crate::run::{self, Ending};
use crate::signals::Signals;
use crate::state::{self, Entry, Process, Record, Status};
use crate::streams::{self, Diverted};
use crate::supervisor::{Attention, Until};
use crate::{describe, namespaces, serial, serve, sys};
use nix::sys::socket::{MsgFlags, recv};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs::File;
use std::io::{PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use vkernel_client::Reply;

/// Of more files the zygote does not hear; so many are written at once or not at all (pipe(7)).
const MOST_TOLD: usize = 64;

/// The process's whole life. `told` hears its number when it is taken, and in the end what it asked about; `known`: what others have asked about.
pub(super) fn live(options: &Run, root: &Path, known: &[u32], orders: Orders, told: PipeWriter) -> Result<(), Failure> {
    // From an order on the streams are its client's, who starts a container itself and is told by that what is wrong.
    let mut log = File::from(std::io::stderr().as_fd().try_clone_to_owned().map_err(|e| Failure::new("standard error", e, ""))?);
    let lived = wait(options, root, known, orders, told);
    if let Err(failure) = &lived {
        let _ = writeln!(log, "vkernel zygote: {failure}");
        keeper::quiet();
    }
    lived
}

fn wait(options: &Run, root: &Path, known: &[u32], orders: Orders, mut told: PipeWriter) -> Result<(), Failure> {
    state::sweep(root);
    let id = run::container_id()?;
    let source = Source::new(&options.release, &options.manifest)?;
    // A release that is not believed is recorded by the client's own start.
    let release = Release::open(source, &options.release, &mut Audit::open(&id, None).map_err(|e| Failure::new("audit log", e, ""))?)?;
    let audit = release.source.audit(&id)?;
    let layout = Layout { root: run::image(options)?, writable: options.shape.writable };
    let spec = run::describe(options, &layout.root, &id, &release, None)?;
    let signals = Signals::take_over()?;
    let record = Record { status: Status::Reserved, forget: true, ..run::record(options, &id, &spec, &layout, &release)? };
    let mut ending = Ending(Entry::create(root, record)?);
    let cgroup = Cgroup::make(&Cgroup::path(None, &id), spec.linux().as_ref().and_then(|l| l.resources().as_ref()))?;
    ending.0.record.cgroup = cgroup.clone();
    ending.0.save()?;
    let home = Home { subject: Subject { id, bundle: ending.0.record.bundle.clone() }, place: Place::New(layout), cgroup };
    let manner = Manner { form: options.form, tied: true, ..Manner::default() };
    let mut launch = Launch::new(release, spec, home, &signals, manner)?;
    launch.container.session = Session::Own;
    launch.container.reserved = true;
    let started = launch.start(&audit)?;
    // By the time that somebody comes it may have been put away.
    drop(audit);
    let journal = launch.journal(root, Until::End)?;
    let keeper = Keeper::fork(&ending.0, Some(&journal))?;
    ending.0.record.init = Process::of(started.pid);
    ending.0.save()?;
    let mut decider = launch.decider(started.root.try_clone().map_err(|e| Failure::new("the container's root", e, ""))?, &journal);
    decider.look_ahead(known);
    // The kernel takes its mounts apart with the last process that has them, which whoever waits for that process's end need not wait for.
    let mounts = namespaces::open(format!("/proc/{}/ns/mnt", started.pid).as_ref())?;
    let made = text(options, &launch, &ending)?;
    let mut spec = launch.container.spec.clone();

    let order = orders.next().map_err(|e| Failure::new("order", e, ""))?;
    let _ = told.write_all(&std::process::id().to_ne_bytes());
    // Whoever runs reads no orders: where nobody does, the daemon is to see it.
    drop(orders);
    let Some(Order { beginning, client, streams: given }) = order else { return Ok(()) };
    let mut audit = launch.release.source.audit(&ending.0.record.id)?;
    let client = UnixStream::from(client);
    let lost = |e: std::io::Error| Failure::new("the client", e, "");
    // Another of its name may have run since.
    serial::admit(&launch.release.verified, &options.release.pin, &launch.release.source.serials, false).map_err(|refusal| refusal.failure)?;
    beginning.caller.set_variables();
    begin(&mut spec, made, text(&beginning.of(options), &launch, &ending)?)?;
    for (number, stream) in given.iter().enumerate() {
        // SAFETY: plain numbers; the streams are nobody's objects.
        sys::check(unsafe { libc::dup2(stream.as_raw_fd(), number as i32) }.into()).map_err(lost)?;
    }
    drop(given);
    let taken = beginning.caller.taken(&spec);
    let r = &mut ending.0.record;
    (r.spec, r.status, r.created) = (spec, Status::Running, audit::timestamp(std::time::SystemTime::now()));
    let files = Diverted::divert(&ending.0.record.spec)?;
    let held = streams::guard()?;
    beginning.caller.apply(started.pid, &ending.0.record.spec).map_err(|e| Failure::new("limits of the caller", e, ""))?;
    started.take(&taken, streams::all())?;
    let files = files.pump()?;

    tell(&client, Reply::Event { event: json!({"begun": ending.0.record.id}) }).map_err(lost)?;
    audit.write(launch.release.believed());
    audit.write(launch.release.started(started.pid.as_raw() as u32));
    let begun = started.go()?;
    // The guest begins meanwhile; until it is there, the record says that somebody has it whose processes end with this one.
    let saved = ending.0.save();
    let attention = Standing { client: &client, gone: Cell::new(false), signals: &signals, cgroup: &launch.container.cgroup };
    let result = saved.and_then(|()| launch.serve_by(begun.pidfd, begun.listener, &mut decider, &journal, &mut audit, &attention));
    files.finish();
    let reply = match &result {
        Ok(code) => Reply::Ok { entry_point: None, result: json!({"exit_code": code}) },
        Err(failure) => serve::error(failure),
    };
    audit.write(launch::stopped(&result));
    // Everything is over for the client; what is left to do is nobody's to wait for.
    keeper::quiet();
    let _ = tell(&client, reply);
    drop((client, held, mounts));
    ending.ended(result.as_ref().ok().copied().flatten().unwrap_or(255));
    drop(ending);
    keeper.dismiss();
    let granted: Vec<u8> = decider.granted().iter().take(MOST_TOLD).flat_map(|entry| (-(*entry as i32)).to_ne_bytes()).collect();
    let _ = told.write_all(&granted);
    std::mem::forget(launch);
    Ok(())
}

/// The description of what these options ask for, as text.
fn text(options: &Run, launch: &Launch, ending: &Ending) -> Result<Value, Failure> {
    let Place::New(layout) = &launch.container.place else { unreachable!("a new container was made") };
    describe::text(&run::decided(options, &launch.release, None)?, &layout.root, &ending.0.record.id, None)
}

/// Takes what is to be run from the description that was made again. Whatever else it says now was meant when the container was made, or it is not this container that is wanted.
fn begin(spec: &mut Spec, mut made: Value, mut wanted: Value) -> Result<(), Failure> {
    let words = |value: Value| serde_json::from_value::<Vec<String>>(value).map_err(|e| Failure::new("describe container", e, "report this as a bug"));
    let [_, args] = [&mut made, &mut wanted].map(|text| text["process"]["args"].take());
    let [_, env] = [&mut made, &mut wanted].map(|text| text["process"]["env"].take());
    if made != wanted {
        return Err(Failure::new("container", "is described otherwise now", ""));
    }
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(words(args)?));
        process.set_env(Some(words(env)?));
    }
    Ok(())
}

/// Obeys the client, who passes on what it was sent, and with whom the container ends; and the signals of this process.
struct Standing<'a> {
    client: &'a UnixStream,
    gone: Cell<bool>,
    signals: &'a Signals,
    cgroup: &'a Cgroup,
}

impl Attention for Standing<'_> {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let client = (!self.gone.get()).then(|| self.client.as_fd());
        std::iter::once(self.signals.as_fd()).chain(client).collect()
    }

    fn attend(&self, init: BorrowedFd<'_>, _: &mut Decider) -> bool {
        self.signals.forward(init);
        let mut sent = [0; 16];
        while !self.gone.get() {
            match recv(self.client.as_raw_fd(), &mut sent, MsgFlags::MSG_DONTWAIT) {
                Ok(count @ 1..) => sent[..count].iter().for_each(|signal| drop(sys::pidfd_send_signal(init, i32::from(*signal)))),
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => {}
                Ok(0) | Err(_) => {
                    self.gone.set(true);
                    let _ = sys::pidfd_send_signal(init, libc::SIGKILL);
                    // A frozen process does not die.
                    let _ = self.cgroup.is_frozen().then(|| self.cgroup.freeze(false));
                }
            }
        }
        true
    }
}
