//! What serving one container takes, as descriptors: they come from the command that made it, are held for the next daemon, and come back from there. Owns their names and order.
//!
//! The fact a newcomer gets wrong: a parcel says nothing about the container. Which one it is stands in its journal, which only supervisors have.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// As they come with `adopt`; the last one only for a container that waits for `start`.
const HANDED: [&str; 5] = ["pid", "listener", "root", "ring", "channel"];
const JOURNAL: &str = "journal";
/// The one that is let go of at the start.
pub(super) const CHANNEL: &str = "channel";

/// Held by somebody for somebody.
pub(super) struct Parcel {
    /// Names it among the held ones.
    pub(super) key: String,
    parts: BTreeMap<&'static str, OwnedFd>,
}

impl Parcel {
    /// What a command handed over, with a journal of the daemon's.
    pub(super) fn handed(key: String, fds: Vec<OwnedFd>, waits: bool, journal: OwnedFd) -> Option<Self> {
        if fds.len() != HANDED.len() - usize::from(!waits) {
            return None;
        }
        let parts = HANDED.into_iter().zip(fds).chain([(JOURNAL, journal)]).collect();
        Some(Self { key, parts })
    }

    /// Whole parcels out of what was held, each part called KEY.PART; parts of others are closed.
    pub(super) fn of_held(held: impl IntoIterator<Item = (String, OwnedFd)>) -> Vec<Self> {
        let mut parcels: BTreeMap<String, Self> = BTreeMap::new();
        for (name, fd) in held {
            let Some((key, part)) = Self::split(&name) else { continue };
            let parcel = parcels.entry(key.to_owned()).or_insert_with(|| Self { key: key.to_owned(), parts: BTreeMap::new() });
            parcel.parts.insert(part, fd);
        }
        let needed = |p: &Self| HANDED.iter().chain([&JOURNAL]).all(|part| *part == CHANNEL || p.parts.contains_key(part));
        parcels.into_values().filter(needed).collect()
    }

    fn split(name: &str) -> Option<(&str, &'static str)> {
        let (key, part) = name.split_once('.')?;
        let part = HANDED.into_iter().chain([JOURNAL]).find(|p| *p == part)?;
        Some((key, part))
    }

    /// Whether a held descriptor of this name is part of a parcel.
    pub(super) fn is_part(name: &str) -> bool {
        Self::split(name).is_some()
    }

    pub(super) fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.key)
    }

    /// Every part with the name it is held under.
    pub(super) fn parts(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.parts.iter().map(|(part, fd)| (self.name(part), fd.as_fd()))
    }

    fn part(&self, name: &str) -> std::io::Result<OwnedFd> {
        self.parts.get(name).ok_or(std::io::ErrorKind::NotFound)?.try_clone()
    }

    /// The guest's first process.
    pub(super) fn pid(&self) -> std::io::Result<OwnedFd> {
        self.part("pid")
    }

    pub(super) fn listener(&self) -> std::io::Result<OwnedFd> {
        self.part("listener")
    }

    /// The guest's `/`.
    pub(super) fn root(&self) -> std::io::Result<OwnedFd> {
        self.part("root")
    }

    /// Notes of the workers.
    pub(super) fn ring(&self) -> std::io::Result<OwnedFd> {
        self.part("ring")
    }

    pub(super) fn journal(&self) -> std::io::Result<OwnedFd> {
        self.part(JOURNAL)
    }

    /// To a process that waits for its start.
    pub(super) fn channel(&self) -> Option<OwnedFd> {
        self.part(CHANNEL).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fds(n: usize) -> Vec<OwnedFd> {
        (0..n).map(|_| OwnedFd::from(std::fs::File::open("/dev/null").unwrap())).collect()
    }

    #[test]
    fn parcels_come_back_whole_or_not_at_all() {
        let journal = || fds(1).remove(0);
        assert!(Parcel::handed("a".into(), fds(4), true, journal()).is_none() && Parcel::handed("a".into(), fds(5), false, journal()).is_none());
        let held = |p: &Parcel| p.parts().map(|(name, fd)| (name, fd.try_clone_to_owned().unwrap())).collect::<Vec<_>>();
        let waiting = held(&Parcel::handed("a".into(), fds(5), true, journal()).unwrap());
        let running = held(&Parcel::handed("b".into(), fds(4), false, journal()).unwrap());
        let half = held(&Parcel::handed("c".into(), fds(4), false, journal()).unwrap()).into_iter().filter(|(name, _)| name != "c.listener");
        let odd = [("vkernel.socket".to_owned(), journal())];
        let back = Parcel::of_held(waiting.into_iter().chain(running).chain(half).chain(odd));
        assert_eq!(back.iter().map(|p| (p.key.as_str(), p.channel().is_some())).collect::<Vec<_>>(), [("a", true), ("b", false)]);
        assert!(Parcel::is_part("0f.ring") && !Parcel::is_part("vkernel.socket") && !Parcel::is_part("ring"));
    }
}
