//! A release on this host: verified, newest, fitting, its files admitted to the store. Owns the order of these checks for every command that starts a process, and what the manifest
//! allows a container at most. The fact a newcomer gets wrong: a further process of a running container must come from the very manifest its first one came from; a newer one in the
//! same place is refused (07, S15).

use crate::audit::{Audit, Decision, Destination, Event, Record};
use crate::cli;
use crate::container::GuestMain;
use crate::failure::Failure;
use crate::filter::{self, AllowList};
use crate::namespaces::Network;
use crate::ring::Ring;
use crate::serial::{self, Passed};
use crate::store::Store;
use crate::worker::{self, Worker};
use crate::{code, keys, verify};
use policy::Verified;
use policy::manifest::Networking;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use syscalls::Watch;
use syscalls::table::{self, Support};

/// Where a release is and whom to believe about it: what a further process needs to find it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Source {
    pub manifest: PathBuf,
    pub keys: Vec<PathBuf>,
    pub threshold: usize,
    pub store: PathBuf,
    pub serials: PathBuf,
    pub audit: Option<Destination>,
    /// Of the manifest, once it was verified.
    pub digest: Option<String>,
    /// Lists of system calls are not enforced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub permissive: bool,
    /// Listed calls are recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub record_syscalls: bool,
}

impl Source {
    pub fn new(options: &cli::Release, manifest: &Path) -> Result<Self, Failure> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(|e| Failure::new(path.display().to_string(), e, "name an existing file"));
        Ok(Self {
            manifest: absolute(manifest)?,
            keys: options.trust.keys.iter().map(|k| absolute(k)).collect::<Result<_, _>>()?,
            threshold: options.trust.threshold,
            store: absolute(&options.store)?,
            serials: absolute(&options.serials)?,
            audit: options.audit.as_ref().map(Destination::absolute).transpose().map_err(|e| Failure::new("--audit", e, "name a writable file"))?,
            digest: None,
            permissive: options.permissive,
            record_syscalls: options.record_syscalls,
        })
    }

    pub fn audit(&self, id: &str) -> Result<Audit, Failure> {
        let failure = |e| Failure::new(format!("audit log {}", self.audit.as_ref().map(ToString::to_string).unwrap_or_default()), e, "name a writable file with --audit");
        Audit::open(id, self.audit.as_ref()).map_err(failure)
    }
}

/// A release that may run here.
pub struct Release {
    pub source: Source,
    pub verified: Arc<Verified>,
    store: Store,
    /// The megabinary, in the store, then the artifacts in manifest order, where they lie: they are read and checked when code is linked.
    files: Vec<PathBuf>,
}

impl Release {
    /// For a new container.
    pub fn open(source: Source, options: &cli::Release, audit: &mut Audit) -> Result<Self, Failure> {
        let (store, verified) = verified(&source, audit)?;
        newest(&source, options, &verified, audit)?;
        watched(&source, &verified, audit)?;
        Self::admitted(source, store, verified)
    }

    /// For a further process of a container that runs.
    pub fn again(source: Source, audit: &mut Audit) -> Result<Self, Failure> {
        let (store, verified) = verified(&source, audit)?;
        let digest = verified.digest().to_string();
        if source.digest.as_ref() != Some(&digest) {
            let why = format!("is {digest}, the container runs {}", source.digest.as_deref().unwrap_or("nothing"));
            return Err(Failure::new(format!("manifest {}", source.manifest.display()), why, "restart the container to run the other release"));
        }
        watched(&source, &verified, audit)?;
        Self::admitted(source, store, verified)
    }

    fn admitted(mut source: Source, store: Store, verified: Verified) -> Result<Self, Failure> {
        if let Some(misfit) = verify::misfits(&verified).into_iter().next() {
            return Err(misfit);
        }
        let items = verify::items(&verified, &source.manifest);
        let files = store.admit(&verified.digest(), &items)?;
        code::link_once(&verified, &files, &store);
        source.digest = Some(verified.digest().to_string());
        Ok(Self { source, verified: Arc::new(verified), store, files })
    }

    /// In a container's process: maps everything that is executable.
    pub fn load(&self, ring: Option<&'static Ring>) -> Result<Worker, Failure> {
        let kept = self.store.holds_still().then_some(&self.store);
        let mut worker = code::load(&self.verified, &self.files, kept, ring)?;
        worker.watch = Watch { permissive: self.source.permissive, recorded: self.source.record_syscalls };
        Ok(worker)
    }

    /// The container's kernel filter: every syscall any of its binaries may make (07, S9: per-binary lists hold against guests, not against a worker that was taken over).
    pub fn allow(&self) -> Result<AllowList, Failure> {
        self.allow_named(self.verified.manifest().syscalls_of_any())
    }

    /// That of a process which runs none of its binaries, under the default list; each binary may have a list of its own.
    pub fn allow_default(&self) -> Result<AllowList, Failure> {
        self.allow_named(self.verified.manifest().global_policies.default_syscalls.iter().map(String::as_str))
    }

    /// A permissive container's lets through what the table can answer at all, as that of a release without lists does.
    fn allow_named<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<AllowList, Failure> {
        if self.source.permissive {
            return filter::allow_list(&table::rows().filter(|row| row.support != Support::Refuse).map(|row| i64::from(row.nr)).collect());
        }
        filter::allow_list(&names.into_iter().filter_map(table::by_name).map(|row| i64::from(row.nr)).collect())
    }

    /// The widest network the manifest allows. CIDR lists are not supported yet, so `restricted` gets no network.
    pub fn widest_network(&self) -> Network {
        match self.verified.manifest().global_policies.networking {
            Networking::None | Networking::Restricted => Network::None,
            Networking::Loopback => Network::Loopback,
            Networking::Host => Network::Host,
        }
    }

    /// The caller may tighten what the manifest allows, never widen it.
    pub fn network(&self, asked: Network) -> Result<Network, Failure> {
        let rank = |n: &Network| match n {
            Network::None => 0,
            Network::Loopback => 1,
            Network::Host | Network::Path(_) => 2,
        };
        let widest = self.widest_network();
        if rank(&asked) > rank(&widest) {
            let name = |n: &Network| if let Network::Path(p) = n { format!("netns:{}", p.display()) } else { format!("{n:?}").to_lowercase() };
            return Err(Failure::new(format!("--network {}", name(&asked)), format!("the manifest allows {}", name(&widest)), "sign a manifest that allows it"));
        }
        Ok(asked)
    }

    /// It was verified, for the log of a container that was made before anybody asked for it.
    pub fn believed(&self) -> Record {
        believed(&self.source, &self.verified)
    }

    pub fn started(&self, pid: u32) -> Record {
        let mut record = Record::new(Event::ContainerStart, Decision::Noted, "started");
        record.pid = Some(pid);
        record.hash = Some(self.verified.manifest().container_id.to_string());
        let permissive = if self.source.permissive { ", permissive" } else { "" };
        record.detail = Some(format!("{} serial {}{permissive}", self.verified.manifest().name, self.verified.manifest().serial));
        record
    }
}

/// The code form and the first thread's machine.
pub fn prepared(mut worker: Worker, form: cli::CodeForm, program: worker::Program) -> Result<GuestMain, Failure> {
    worker.form = match form {
        cli::CodeForm::Both => loader::Form::Both,
        cli::CodeForm::Resumable => loader::Form::ResumableOnly,
    };
    worker::prepare(worker, program)
}

fn verified(source: &Source, audit: &mut Audit) -> Result<(Store, Verified), Failure> {
    let path = Some(source.manifest.display().to_string());
    let store = Store::open(&source.store)?;
    let verified = keys::manifest(&source.manifest, &source.keys, source.threshold, Some(&store)).inspect_err(|failure| {
        let mut record = Record::new(Event::SignatureFailure, Decision::Denied, "not-verified");
        record.path.clone_from(&path);
        record.detail = Some(failure.to_string());
        audit.write(record);
    })?;
    audit.write(believed(source, &verified));
    Ok((store, verified))
}

fn believed(source: &Source, verified: &Verified) -> Record {
    let mut record = Record::new(Event::PolicyLoad, Decision::Allowed, "verified");
    record.path = Some(source.manifest.display().to_string());
    record.hash = Some(verified.digest().to_string());
    record.detail = Some(format!("signed by {}", verified.signers().iter().cloned().collect::<Vec<_>>().join(", ")));
    record
}

/// The release must be the one that is wanted, and no step back.
fn newest(source: &Source, options: &cli::Release, verified: &Verified, audit: &mut Audit) -> Result<(), Failure> {
    let mut note = |decision, reason: &str, detail: String| {
        let mut record = Record::new(Event::PolicyLoad, decision, reason);
        record.path = Some(source.manifest.display().to_string());
        record.hash = Some(verified.digest().to_string());
        record.detail = Some(detail);
        audit.write(record);
    };
    match serial::admit(verified, &options.pin, &source.serials, options.allow_rollback) {
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

/// What else than enforcement was asked for: said aloud, and refused where the signer wants it enforced.
fn watched(source: &Source, verified: &Verified, audit: &mut Audit) -> Result<(), Failure> {
    let mut note = |decision, reason: &str, detail: &str| {
        let mut record = Record::new(Event::PolicyLoad, decision, reason);
        record.path = Some(source.manifest.display().to_string());
        record.hash = Some(verified.digest().to_string());
        record.detail = Some(detail.to_owned());
        audit.write(record);
    };
    if source.permissive {
        if let Err(reason) = policy::decide_permissive(verified) {
            note(Decision::Denied, reason.code(), "the manifest forbids --permissive");
            return Err(Failure::new("--permissive", "the manifest forbids it", "run without it, or sign a release that allows it"));
        }
        note(Decision::Allowed, policy::learn::PERMISSIVE, "lists of system calls are not enforced: --permissive");
        eprintln!("vkernel: warning: --permissive: lists of system calls are not enforced in this container");
    }
    if source.record_syscalls {
        note(Decision::Allowed, policy::learn::RECORDED, "listed system calls are recorded: --record-syscalls");
    }
    Ok(())
}
