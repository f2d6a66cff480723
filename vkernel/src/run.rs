//! `vkernel run`: from a manifest's path to the guest's exit code. Owns the order: verify, admit files to the store, fork, serve, report.
//!
//! The fact a newcomer gets wrong: everything that can fail for reasons of the release or the host fails before the fork; what fails after it is
//! reported through the handshake, so there is always exactly one line of error.

use crate::audit::{Audit, Decision, Event, Record};
use crate::cli::{CodeForm, NetworkChoice, Run};
use crate::container::{Container, Network, Session, start};
use crate::decide::Decider;
use crate::failure::Failure;
use crate::listener::Listener;
use crate::ring::Ring;
use crate::rootfs::Layout;
use crate::serial::{self, Passed};
use crate::signals::Signals;
use crate::store::Store;
use crate::supervisor::Supervisor;
use crate::terminal::{self, Foreground, Relay};
use crate::worker::{self, Image, Program, Worker};
use crate::{check, fetch, filter, keys, verify};
use loader::{Mapped, Megabinary, ShardInput};
use policy::manifest::{Elf, Form, Networking};
use policy::{Digest, Verified};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use syscalls::process::AllowList;
use syscalls::{Object, Segment, table};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the container; the result is the guest's exit code.
pub fn run(options: &Run) -> Result<i32, Failure> {
    check::require()?;
    let options = &fetch::fetched(options)?;
    let id = container_id()?;
    let mut audit = Audit::open(&id, options.audit.as_deref()).map_err(|e| {
        let path = options.audit.clone().unwrap_or_default();
        Failure::new(format!("audit log {}", path.display()), e, "name a writable file with --audit")
    })?;
    let result = run_audited(options, &id, &mut audit);
    let mut record = Record::new(Event::ContainerStop, Decision::Noted, if result.is_ok() { "exited" } else { "failed" });
    record.detail = Some(match &result {
        Ok(code) => format!("exit code {code}"),
        Err(failure) => failure.to_string(),
    });
    audit.write(record);
    result
}

fn run_audited(options: &Run, id: &str, audit: &mut Audit) -> Result<i32, Failure> {
    let verified = keys::manifest(&options.manifest, &options.trust.keys, options.trust.threshold).inspect_err(|failure| {
        let mut record = Record::new(Event::SignatureFailure, Decision::Denied, "not-verified");
        record.path = Some(options.manifest.display().to_string());
        record.detail = Some(failure.to_string());
        audit.write(record);
    })?;
    let mut record = Record::new(Event::PolicyLoad, Decision::Allowed, "verified");
    record.path = Some(options.manifest.display().to_string());
    record.hash = Some(verified.digest().to_string());
    record.detail = Some(format!("signed by {}", verified.signers().iter().cloned().collect::<Vec<_>>().join(", ")));
    audit.write(record);
    newest(options, &verified, audit)?;
    if let Some(misfit) = verify::misfits(&verified).into_iter().next() {
        return Err(misfit);
    }
    let items = verify::items(&verified, &options.manifest);
    let store = Store::open(&options.store)?;
    let files = store.admit(&verified.digest(), &items)?;

    let mut signals = Signals::take_over()?;
    let session = if options.tty { Session::Terminal } else { terminal::plan() };
    signals.terminal_is_shared = session == Session::Shared;
    let ring: &'static Ring = Box::leak(Box::new(Ring::new().map_err(|e| Failure::new("audit ring", e, ""))?));
    let container = container(options, id, &verified, session, &signals)?;
    let (program, form) = (program(options)?, options.form);
    let mut started = start(&container, |container| {
        let kept = store.holds_still(&container.layout).then_some(&store);
        let mut worker = load(&verified, &files, kept, audit.enabled().then_some(ring))?;
        worker.form = match form {
            CodeForm::Both => loader::Form::Both,
            CodeForm::Resumable => loader::Form::ResumableOnly,
        };
        worker::prepare(worker, program)
    })?;
    let mut record = Record::new(Event::ContainerStart, Decision::Noted, "started");
    record.pid = Some(started.pid.as_raw() as u32);
    record.hash = Some(verified.manifest().container_id.to_string());
    record.detail = Some(format!("{} serial {}", verified.manifest().name, verified.manifest().serial));
    audit.write(record);

    let _terminal = (session == Session::Foreground).then(|| Foreground::give(started.pid));
    let relay = started.terminal.take().map(Relay::new).transpose()?;
    signals.terminal = relay.as_ref().map(Relay::master).transpose()?;
    let (_, pidfd, listener, root) = started.go()?;
    let code = Supervisor {
        pidfd,
        listener: Listener::new(listener),
        decider: Decider::new(&verified, root),
        audit,
        signals: &signals,
        ring: Some(ring),
        syscall_name: &|nr| table::row(nr.into()).map(|r| r.name),
    }
    .serve()?;
    if let Some(relay) = relay {
        relay.finish();
    }
    Ok(code)
}

/// The release must be the one that is wanted, and no step back.
fn newest(options: &Run, verified: &Verified, audit: &mut Audit) -> Result<(), Failure> {
    let mut note = |decision, reason: &str, detail: String| {
        let mut record = Record::new(Event::PolicyLoad, decision, reason);
        record.path = Some(options.manifest.display().to_string());
        record.hash = Some(verified.digest().to_string());
        record.detail = Some(detail);
        audit.write(record);
    };
    match serial::admit(verified, &options.pin, &options.serials, options.allow_rollback) {
        Ok(Passed::Newest) => Ok(()),
        Ok(Passed::Rollback { highest }) => {
            note(Decision::Allowed, "rollback", format!("serial {} although {highest} has run: --allow-rollback", verified.manifest().serial));
            Ok(())
        }
        Err(refusal) => {
            note(Decision::Denied, refusal.reason, refusal.failure.to_string());
            Err(refusal.failure)
        }
    }
}

fn container_id() -> Result<String, Failure> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|e| Failure::new("container id", e, "mount /proc"))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).take(12).collect())
}

fn container(options: &Run, id: &str, verified: &Verified, session: Session, signals: &Signals) -> Result<Container, Failure> {
    let root = options.rootfs.clone().unwrap_or_else(|| options.manifest.parent().unwrap_or(std::path::Path::new("")).join("rootfs"));
    let root = std::path::absolute(&root).map_err(|e| Failure::new(format!("image root {}", root.display()), e, "name it with --rootfs DIR"))?;
    Ok(Container {
        layout: Layout { root, writable: options.writable, bare: options.bare },
        hostname: options.hostname.clone().unwrap_or_else(|| id.to_owned()),
        network: network(verified.manifest().global_policies.networking, options.network)?,
        session,
        cwd: options.workdir.clone(),
        user: options.user.clone(),
        notify: filter::notify_program()?,
        allow: filter::allow_program(&union(verified))?,
        signal_mask: signals.inherited,
    })
}

/// The caller may tighten what the manifest allows, never widen it. CIDR lists are not supported yet, so `restricted` gets no network.
fn network(allowed: Networking, asked: Option<NetworkChoice>) -> Result<Network, Failure> {
    let ceiling = match allowed {
        Networking::None | Networking::Restricted => NetworkChoice::None,
        Networking::Loopback => NetworkChoice::Loopback,
        Networking::Host => NetworkChoice::Host,
    };
    let chosen = asked.unwrap_or(ceiling);
    if chosen > ceiling {
        return Err(Failure::new(format!("--network {chosen:?}").to_lowercase(), format!("the manifest allows {ceiling:?}").to_lowercase(), "sign a manifest that allows it"));
    }
    Ok(match chosen {
        NetworkChoice::None => Network::None,
        NetworkChoice::Loopback => Network::Loopback,
        NetworkChoice::Host => Network::Host,
    })
}

/// Every syscall any binary of the container may make: the kernel's limit (07, S9: per-binary lists hold against guests, not against a worker that was taken over).
fn union(verified: &Verified) -> BTreeSet<i64> {
    let m = verified.manifest();
    let overrides = m.binaries.values().flat_map(|b| &b.overrides.syscalls);
    let names = m.global_policies.default_syscalls.iter().chain(overrides);
    names.filter_map(|n| table::by_name(n)).map(|row| i64::from(row.nr)).collect()
}

fn program(options: &Run) -> Result<Program, Failure> {
    let c = |bytes: &[u8]| CString::new(bytes).map_err(|_| Failure::new("command line", "holds a NUL byte", "leave it out"));
    let argv = options.command.iter().map(|a| c(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let mut env = vec![PATH.to_owned(), format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "xterm".into()))];
    for e in &options.env {
        let (name, entry) = match e.split_once('=') {
            Some((name, _)) => (name, e.clone()),
            // As podman: `-e NAME` passes the caller's value.
            None => match std::env::var(e) {
                Ok(value) => (e.as_str(), format!("{e}={value}")),
                Err(_) => continue,
            },
        };
        env.retain(|old| old.split_once('=').is_none_or(|(n, _)| n != name));
        env.push(entry);
    }
    let env = env.iter().map(|e| c(e.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    Ok(Program { argv, env, strace: options.strace })
}

/// Maps everything (in init, before lock-down). `files`: the megabinary, then the artifacts in manifest order. Without a `store` that holds still, code is mapped from copies.
fn load(verified: &Verified, files: &[PathBuf], store: Option<&Store>, ring: Option<&'static Ring>) -> Result<Worker, Failure> {
    let failure = |e: loader::LoadError| Failure::new("load container", worker::chain(&e), "rebuild it, or see `vkernel verify`");
    let path_of = |shard: &Digest, form: Form| {
        let mut artifacts = verify::artifacts(verified).zip(&files[1..]);
        artifacts.find(|(a, _)| a.shard == *shard && a.form == form).map(|(_, path)| path.clone()).expect("misfits() found an artifact for every shard")
    };
    let entries = entries(verified);
    let inputs = entries.iter().map(|e| {
        let text = e.elf.segments.iter().filter(|s| s.prot.execute);
        let base = text.clone().map(|s| e.elf.base + s.vaddr).min().unwrap_or(e.elf.base);
        let end = text.map(|s| e.elf.base + s.vaddr + s.memsz).max().unwrap_or(base);
        ShardInput {
            name: e.digest.to_string(),
            // The manifest's rules keep objects below 2^30.
            base: base as u32,
            text_len: (end - base) as u32,
            structured: path_of(&e.shard, Form::Structured),
            resumable: path_of(&e.shard, Form::Resumable),
        }
    });
    let mapped = Mapped::new(inputs.collect(), store.is_some()).map_err(failure)?;
    let index = store.and_then(|store| {
        let made_of = [verified.digest().hex().as_bytes(), &mapped.index_layout()].concat();
        store.derived(&format!("index-{}", Digest::blake3(&made_of).hex()), |file| mapped.write_index(file))
    });
    let megabinary: &'static Megabinary = Box::leak(Box::new(mapped.finish(index).map_err(failure)?));
    let shards = entries.iter().map(|e| megabinary.by_name(&e.digest.to_string()).expect("just loaded under this name")).collect();
    let image = Image::map(&files[0]).map_err(|e| Failure::new("map megabinary", e, "check memory limits"))?;
    Ok(Worker::new(entries.iter().map(|e| e.object()).collect(), shards, megabinary, image, ring))
}

/// What an entry number stands for, in order. Scripts have entry numbers too, but the supervisor never grants them: they become nothing.
struct Entry<'a> {
    digest: Digest,
    path: &'a str,
    elf: &'a Elf,
    shard: Digest,
    allow: AllowList,
}

fn entries(verified: &Verified) -> Vec<Entry<'_>> {
    let m = verified.manifest();
    let entry = |digest: Digest| {
        let binary = m.binaries.get(&digest).filter(|b| b.elf.is_some());
        let library = m.libraries.get(&digest);
        let path = binary.map(|b| &b.path).or(library.map(|l| &l.path))?;
        let elf = binary.and_then(|b| b.elf.as_ref()).or(library.map(|l| &l.elf))?;
        let shard = binary.and_then(|b| b.shard).or(library.map(|l| l.shard))?;
        let mut allow = AllowList::NONE;
        for name in binary.map(|b| m.allowed_syscalls(b)).unwrap_or_default() {
            if let Some(row) = table::by_name(name) {
                allow.insert(row.nr);
            }
        }
        Some(Entry { digest, path, elf, shard, allow })
    };
    m.entry_order().into_iter().filter_map(entry).collect()
}

const PAGE: u64 = 4096;

impl Entry<'_> {
    /// Facts for exec and mmap: page-rounded, the load bias added.
    fn object(&self) -> Object {
        let base = self.elf.base;
        let down = |a: u64| a / PAGE * PAGE;
        let up = |a: u64| a.next_multiple_of(PAGE);
        let segment = |s: &policy::manifest::Segment| {
            let start = down(base + s.vaddr);
            Segment {
                start,
                mem_len: up(base + s.vaddr + s.memsz) - start,
                image_len: if s.filesz == 0 { 0 } else { base + s.vaddr - start + s.filesz },
                image_offset: s.image_offset,
                file_offset: down(s.file_offset),
                prot: s.prot.bits() as i32,
            }
        };
        let segments: Vec<Segment> = self.elf.segments.iter().map(segment).collect();
        let c = |text: &str| CString::new(text.replace('\0', "")).expect("NULs were removed");
        Object {
            path: c(self.path),
            base,
            start: segments.first().map_or(base, |s| s.start),
            end: segments.last().map_or(base, |s| s.start + s.mem_len),
            entry: base + self.elf.entry,
            phdr: base + self.elf.phdr,
            phent: 56,
            phnum: u64::from(self.elf.phnum),
            interpreter: self.elf.interpreter.as_deref().map(c),
            segments,
            allow: self.allow,
        }
    }
}
