//! What changed since an earlier release.
//!
//! Owns the comparison: files by path, and what programs of the same path can do now and could not before. The fact a newcomer gets wrong: a call counts as gained when code reaches it *and* the release allows it, so both a new
//! library and a wider allow-list show up; a program that was not there before gained everything it can.

use super::facts::{Can, Facts, File, POWERS};
use super::release::RULES;
use policy::Digest;
use policy::manifest::Networking;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Changes {
    /// The earlier release's name, version and serial.
    pub previous: String,
    pub added: Vec<(String, Digest)>,
    pub removed: Vec<(String, Digest)>,
    pub changed: Vec<Changed>,
    pub powers: Vec<Power>,
    pub calls: Vec<Calls>,
    /// Words for what else is different: network, order of serials.
    pub notes: Vec<String>,
}

pub(super) struct Changed {
    pub path: String,
    pub before: Digest,
    pub after: Digest,
}

/// Programs that can do something now.
pub(super) struct Power {
    pub power: &'static str,
    pub programs: Vec<(String, Can)>,
}

/// Of one program.
pub(super) struct Calls {
    pub path: String,
    pub new: bool,
    pub gained: Vec<String>,
    pub lost: Vec<String>,
    /// Places whose call could not be bounded: before and now.
    pub unknown: (u64, u64),
}

pub(super) fn compare(old: Facts, new: &Facts) -> Changes {
    let before = by_path(&old);
    let after = by_path(new);
    let digests =
        |here: &BTreeMap<&str, &File>, there: &BTreeMap<&str, &File>| here.iter().filter(|(p, _)| !there.contains_key(*p)).map(|(p, f)| ((*p).to_owned(), f.digest)).collect();
    let changed = after.iter().filter_map(|(path, f)| {
        let old = before.get(path).filter(|old| old.digest != f.digest)?;
        Some(Changed { path: (*path).to_owned(), before: old.digest, after: f.digest })
    });
    let word = |facts: &Facts, name: &str| facts.identity.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    Changes {
        previous: format!("{} {}, serial {}", old.title, word(&old, "Version"), word(&old, "Serial")),
        added: digests(&after, &before),
        removed: digests(&before, &after),
        changed: changed.collect(),
        powers: POWERS.iter().map(|(power, calls)| gained(power, calls, &before, new)).filter(|p| !p.programs.is_empty()).collect(),
        calls: new.programs().filter_map(|f| calls(f, before.get(f.path.as_str()).copied())).collect(),
        notes: notes(&old, new, word(&old, "Serial"), word(new, "Serial")),
    }
}

fn by_path(facts: &Facts) -> BTreeMap<&str, &File> {
    facts.files.iter().map(|f| (f.path.as_str(), f)).collect()
}

fn gained(power: &'static str, calls: &[&str], before: &BTreeMap<&str, &File>, new: &Facts) -> Power {
    let could = |f: &File| before.get(f.path.as_str()).map_or(Can::No, |old| old.can(calls));
    let programs = new.programs().filter(|f| f.can(calls) > could(f)).map(|f| (f.path.clone(), f.can(calls)));
    Power { power, programs: programs.collect() }
}

fn calls(f: &File, old: Option<&File>) -> Option<Calls> {
    let (now, before) = (f.effective(), old.map(File::effective).unwrap_or_default());
    let names = |set: BTreeSet<&&str>| set.into_iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let (gained, lost) = (names(now.difference(&before).collect()), names(before.difference(&now).collect()));
    let unknown = (old.map_or(0, File::unknown_sites), f.unknown_sites());
    let same = gained.is_empty() && lost.is_empty() && unknown.0 == unknown.1;
    (!same).then(|| Calls { path: f.path.clone(), new: old.is_none(), gained, lost, unknown })
}

fn notes(old: &Facts, new: &Facts, before: String, after: String) -> Vec<String> {
    let mut notes = Vec::new();
    if let (Some(before), Some(now)) = (old.networking, new.networking)
        && before != now
    {
        notes.push(format!("Network: {} before, {} now.", network(before), network(now)));
    }
    let rules = |f: &Facts| f.identity.iter().find(|(name, _)| *name == RULES).map(|(_, text)| text.clone());
    if let (Some(before), Some(now)) = (rules(old), rules(new))
        && before != now
    {
        notes.push(format!("Scripts before: {before}. Now: {now}."));
    }
    if old.title != new.title && new.networking.is_some() {
        notes.push(format!("The earlier release has another name: {}.", old.title));
    }
    if let (Ok(before), Ok(after)) = (before.parse::<u64>(), after.parse::<u64>())
        && before >= after
    {
        notes.push(format!("The serial did not grow ({before} before, {after} now): hosts that ran the earlier release refuse this one."));
    }
    notes
}

/// As the manifest spells it.
pub(super) fn network(n: Networking) -> &'static str {
    match n {
        Networking::None => "none",
        Networking::Loopback => "loopback",
        Networking::Restricted => "restricted",
        Networking::Host => "host",
    }
}
