//! The zygotes of this daemon, by what their containers have in common. Owns which there are: made when the first client asks, gone when nobody asked for long, when too many others are wanted, when the settings were read again, and when
//! anything changed that their release was verified by.
//!
//! The fact a newcomer gets wrong: the daemon hands a client over and hears no more of it; a container that was taken lives on without zygote and daemon.

use super::lines::Line;
use super::settings::Settings;
use super::{again, locked, say};
use crate::failure::Failure;
use crate::keys::Basis;
use crate::zygote::{self, Asked, Lines, Understood, Wish};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Zygotes(Mutex<Kept>, Lines);

#[derive(Default)]
struct Kept {
    by_kind: BTreeMap<String, Zygote>,
    /// Of the settings that they were made under.
    generation: u64,
    /// How many clients were handed over.
    handed: u64,
}

struct Zygote {
    /// As long as it is open, the zygote lives.
    orders: OwnedFd,
    process: u32,
    basis: Basis,
    /// What its containers were made from.
    same: Vec<(PathBuf, Option<(u64, u64)>)>,
    asked: Instant,
}

impl Zygote {
    /// Does not wait: where so many orders lie already, the client is quicker by itself.
    fn send(&self, wish: &Wish, client: BorrowedFd<'_>, streams: &[OwnedFd; 3]) -> std::io::Result<()> {
        zygote::send(self.orders.as_fd(), &wish.beginning(), client, streams)
    }
}

fn failure(why: impl std::fmt::Display) -> Failure {
    Failure::new("ready container", why, "`vkernel run` starts one itself")
}

impl Zygotes {
    /// What is wished for, if it can be had here and is what the client means.
    pub(super) fn understood(&self, settings: &Settings, wish: Value) -> Result<Understood, Failure> {
        if settings.file.zygotes == 0 {
            return Err(failure("serve.toml asks for no zygotes"));
        }
        let asked: Asked = serde_json::from_value(wish).map_err(failure)?;
        asked.understood(&self.1).map_err(failure)
    }

    /// What the client means by it, which said so in a line.
    pub(super) fn meant(understood: Understood, line: Option<Line>) -> Result<Wish, Failure> {
        let Some(Line::Whole(line)) = line else { return Err(failure("the client does not say what it means")) };
        serde_json::from_slice(&line).map_err(std::io::Error::other).and_then(|told| understood.meant(told)).map_err(failure)
    }

    /// Hands a client over to a container that is ready, or as soon as one is.
    pub(super) fn take(self: &Arc<Self>, settings: &Settings, limit: (u64, u64), wish: &Wish, client: BorrowedFd<'_>, streams: Vec<OwnedFd>) -> Result<(), Failure> {
        let file = &settings.file;
        let streams: [OwnedFd; 3] = streams.try_into().map_err(|_| failure("three streams belong to it"))?;
        let kind = wish.kind().map_err(failure)?;
        let basis = Basis::of(&wish.run.manifest, &wish.run.release.trust.keys);
        let mut kept = locked(&self.0);
        if kept.generation != settings.generation {
            return Err(failure("the settings are being read again"));
        }
        let all = &mut kept.by_kind;
        all.retain(|name, zygote| *name != kind || (zygote.basis == basis && zygote.same == wish.same));
        let sent = all.get_mut(&kind).map(|zygote| {
            zygote.asked = Instant::now();
            zygote.send(wish, client, &streams)
        });
        match sent {
            Some(Ok(())) => {
                kept.handed += 1;
                return Ok(());
            }
            Some(Err(e)) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(failure("too many wait for one")),
            // It may have ended a moment ago.
            _ => drop(all.remove(&kind)),
        }
        while all.len() >= file.zygotes {
            let oldest = all.iter().min_by_key(|(_, zygote)| zygote.asked).map(|(kind, _)| kind.clone());
            oldest.map(|kind| all.remove(&kind));
        }
        let (orders, theirs) = zygote::pair().map_err(failure)?;
        fcntl(&orders, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failure)?;
        let child = start(wish, &kind, file.zygote_containers, limit, theirs).map_err(failure)?;
        let zygote = Zygote { orders, process: child.id(), basis, same: wish.same.clone(), asked: Instant::now() };
        self.watch(kind.clone(), child, Duration::from_secs(file.zygote_idle_seconds));
        zygote.send(wish, client, &streams).map_err(failure)?;
        all.insert(kind, zygote);
        kept.handed += 1;
        Ok(())
    }

    /// All that wait end; what was taken goes on.
    pub(super) fn clear(&self, generation: u64) {
        let mut kept = locked(&self.0);
        kept.by_kind.clear();
        kept.generation = generation;
    }

    /// For `status`: how many there are, and how many clients were handed over.
    pub(super) fn status(&self) -> Value {
        let kept = locked(&self.0);
        serde_json::json!({"kinds": kept.by_kind.len(), "handed": kept.handed})
    }

    /// Waits for a zygote's end, and brings it about when nobody asked for long.
    fn watch(self: &Arc<Self>, kind: String, mut child: Child, idle: Duration) {
        let all = self.clone();
        let work = move || {
            let process = child.id();
            let ended = crate::sys::pidfd_open(process, 0);
            while let Ok(ended) = &ended {
                let mut fds = [nix::poll::PollFd::new(ended.as_fd(), nix::poll::PollFlags::POLLIN)];
                let quiet = nix::poll::PollTimeout::try_from(idle + Duration::from_secs(1)).unwrap_or(nix::poll::PollTimeout::MAX);
                if nix::poll::poll(&mut fds, quiet) != Ok(0) {
                    break;
                }
                locked(&all.0).by_kind.retain(|name, zygote| *name != kind || zygote.asked.elapsed() < idle);
            }
            let _ = child.wait();
            // Another one may have taken its place.
            locked(&all.0).by_kind.retain(|_, zygote| zygote.process != process);
        };
        if let Err(e) = std::thread::Builder::new().name("zygote".into()).stack_size(64 << 10).spawn(work) {
            say(format_args!("no thread for a zygote: {e}"));
        }
    }
}

/// Nothing of this service's goes there but the socket and where errors are written.
fn start(wish: &Wish, kind: &str, containers: usize, before: (u64, u64), orders: OwnedFd) -> std::io::Result<Child> {
    let (run, _): (Value, Value) = serde_json::from_str(kind)?;
    let mut command = again(before, || Ok(()));
    command.arg("--root").arg(&wish.root).arg("zygote").args(["--size", &containers.to_string(), &run.to_string()]).stdin(orders).stdout(Stdio::null());
    command.spawn()
}
