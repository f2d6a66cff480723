//! From recorded runs to the lists of system calls that a release should have had.
//!
//! Owns which lines of an audit log count, and the arithmetic of lists. Decides nothing: what comes out is an unsigned manifest for a person to look at, because records of workers are as
//! trustworthy as the container they come from. The fact a newcomer gets wrong: a call that a log does not name may have been made all the same, unless the container recorded its listed calls
//! too; so lists are tightened only where every start of the program was recorded.

use crate::digest::Digest;
use crate::manifest::Manifest;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Reason code of a call that the list lacks and that was made all the same.
pub const WOULD_REFUSE: &str = "would-refuse";
/// Reason code of a listed call.
pub const USED: &str = "used";
/// Reason code that a container's lists are not enforced.
pub const PERMISSIVE: &str = "permissive";
/// Reason code that a container's listed calls are recorded.
pub const RECORDED: &str = "syscalls-recorded";

#[derive(Debug, Error, PartialEq, Eq)]
pub enum LearnError {
    #[error("the logs hold no container whose listed calls were recorded: run it with --record-syscalls")]
    NothingRecorded,
    #[error("{0} records are missing from the logs: what they lack may have been used; record again, with fewer programs at a time")]
    Incomplete(u64),
}

/// What of an audit record matters here; the rest of its members is none of ours.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    container: String,
    event: String,
    #[serde(default)]
    decision: String,
    reason: String,
    hash: Option<String>,
    detail: Option<String>,
}

/// What logs say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Per program: what its list lacked, and what of it was used.
    lacked: BTreeMap<Digest, BTreeSet<String>>,
    used: BTreeMap<Digest, BTreeSet<String>>,
    /// Per program: the containers in which it was started.
    started: BTreeMap<Digest, BTreeSet<String>>,
    permissive: BTreeSet<String>,
    recorded: BTreeSet<String>,
    /// Records that the log itself says are not in it.
    pub lost: u64,
    /// Lines that are no audit records.
    pub unreadable: u64,
}

impl Recording {
    /// One line of an audit log.
    pub fn add(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            self.unreadable += u64::from(!line.iter().all(u8::is_ascii_whitespace));
            return;
        };
        let hash = line.hash.as_deref().and_then(|h| h.parse::<Digest>().ok());
        match (line.event.as_str(), line.reason.as_str(), hash, line.detail) {
            ("syscall", WOULD_REFUSE, Some(program), Some(name)) => drop(self.lacked.entry(program).or_default().insert(name)),
            ("syscall", USED, Some(program), Some(name)) => drop(self.used.entry(program).or_default().insert(name)),
            ("exec", _, Some(program), _) if line.decision == "allowed" => drop(self.started.entry(program).or_default().insert(line.container)),
            ("policy-load", PERMISSIVE, ..) => drop(self.permissive.insert(line.container)),
            ("policy-load", RECORDED, ..) => drop(self.recorded.insert(line.container)),
            ("dropped", _, _, detail) => self.lost += detail.and_then(|n| n.parse().ok()).unwrap_or(1),
            _ => {}
        }
    }

    /// How many containers ran without enforcement.
    pub fn permissive_containers(&self) -> usize {
        self.permissive.len()
    }

    /// Whether nothing that this program used can be missing.
    fn tells_all_of(&self, program: &Digest) -> bool {
        self.started.get(program).is_some_and(|containers| !containers.is_empty() && containers.is_subset(&self.recorded))
    }
}

/// A release's lists after a lesson.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Unsigned, the next serial. Its container id stays: it names the code, which is the same.
    pub manifest: Manifest,
    /// Programs of the logs that the manifest does not list.
    pub foreign: BTreeSet<Digest>,
    /// Names that no list can grant.
    pub not_grantable: BTreeSet<String>,
    /// With `tighten`: paths of programs of which the logs do not tell everything; their lists lost nothing.
    pub untold: BTreeSet<String>,
}

/// Adds what was lacked. With `tighten`, leaves only what was used in the lists of programs of which the recording tells everything; names of `always` are never taken away.
pub fn learn(manifest: &Manifest, recording: &Recording, tighten: bool, always: &[&str], grantable: impl Fn(&str) -> bool) -> Result<Learned, LearnError> {
    if tighten && recording.recorded.is_empty() {
        return Err(LearnError::NothingRecorded);
    }
    if tighten && recording.lost > 0 {
        return Err(LearnError::Incomplete(recording.lost));
    }
    let named = recording.lacked.keys().filter(|d| !manifest.binaries.contains_key(d)).copied().collect();
    let mut learned = Learned { manifest: manifest.clone(), foreign: named, not_grantable: BTreeSet::new(), untold: BTreeSet::new() };
    let mut needs: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for (digest, binary) in &manifest.binaries {
        let mut need: BTreeSet<String> = manifest.allowed_syscalls(binary).into_iter().map(str::to_owned).collect();
        if tighten && recording.tells_all_of(digest) {
            let used = recording.used.get(digest);
            need.retain(|name| always.contains(&name.as_str()) || used.is_some_and(|u| u.contains(name)));
        } else if tighten {
            learned.untold.insert(binary.path.clone());
        }
        for name in recording.lacked.get(digest).into_iter().flatten() {
            let into = if grantable(name) { &mut need } else { &mut learned.not_grantable };
            into.insert(name.clone());
        }
        needs.insert(*digest, need);
    }
    let default = &mut learned.manifest.global_policies.default_syscalls;
    // What is for every program stays so only if every program needs it; those with a list of their own have no say.
    let takes_default = |digest: &Digest| !manifest.binaries[digest].overrides.without_default;
    default.retain(|name| needs.iter().filter(|(digest, _)| takes_default(digest)).all(|(_, need)| need.contains(name)));
    for (digest, binary) in &mut learned.manifest.binaries {
        let need = &needs[digest];
        binary.overrides.syscalls = if takes_default(digest) { need.difference(default).cloned().collect() } else { need.clone() };
    }
    learned.manifest.serial += 1;
    learned.manifest.signatures = None;
    Ok(learned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/accept/minimal.json")).unwrap();
        crate::verify::typed(crate::canonical::parse(&bytes).unwrap()).unwrap()
    }

    fn recording(lines: &[String]) -> Recording {
        let mut recording = Recording::default();
        lines.iter().for_each(|l| recording.add(l.as_bytes()));
        recording
    }

    fn line(container: &str, event: &str, decision: &str, reason: &str, hash: &Digest, detail: &str) -> String {
        format!(r#"{{"time":"t","container":"{container}","event":"{event}","decision":"{decision}","reason":"{reason}","hash":"{hash}","detail":"{detail}"}}"#)
    }

    fn lists(m: &Manifest, of: &Digest) -> Vec<String> {
        m.allowed_syscalls(&m.binaries[of]).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn what_a_program_lacked_is_added_to_its_list_and_to_no_other() {
        let m = manifest();
        let [a, b] = m.binaries.keys().copied().collect::<Vec<_>>()[..] else { panic!("two programs") };
        let stranger = Digest::blake3(b"stranger");
        let r = recording(&[
            line("c", "syscall", "allowed", WOULD_REFUSE, &a, "uname"),
            line("c", "syscall", "denied", "syscall-not-listed", &a, "mount"),
            line("c", "syscall", "allowed", WOULD_REFUSE, &a, "not_a_call"),
            line("c", "syscall", "allowed", WOULD_REFUSE, &stranger, "uname"),
            "no record".into(),
            "  ".into(),
        ]);
        let learned = learn(&m, &r, false, &[], |n| n != "not_a_call").unwrap();
        let mut expected = lists(&m, &a);
        expected.push("uname".into());
        expected.sort();
        assert_eq!((lists(&learned.manifest, &a), lists(&learned.manifest, &b)), (expected, lists(&m, &b)));
        assert_eq!((learned.foreign, learned.not_grantable), (BTreeSet::from([stranger]), BTreeSet::from(["not_a_call".into()])));
        assert_eq!((learned.manifest.serial, r.unreadable), (m.serial + 1, 1));
        crate::rules::check(&learned.manifest).unwrap();
    }

    #[test]
    fn a_list_is_tightened_only_if_every_start_was_recorded() {
        let m = manifest();
        let [a, b] = m.binaries.keys().copied().collect::<Vec<_>>()[..] else { panic!("two programs") };
        let mut lines = vec![
            line("c", "policy-load", "allowed", RECORDED, &a, ""),
            line("c", "exec", "allowed", "listed", &a, ""),
            line("c", "syscall", "allowed", USED, &a, "read"),
            line("d", "exec", "allowed", "listed", &b, ""),
        ];
        let learned = learn(&m, &recording(&lines), true, &["write"], |_| true).unwrap();
        assert_eq!((lists(&learned.manifest, &a), lists(&learned.manifest, &b)), (vec!["read".to_owned(), "write".into()], lists(&m, &b)));
        assert_eq!(learned.untold, BTreeSet::from([m.binaries[&b].path.clone()]));
        crate::rules::check(&learned.manifest).unwrap();
        lines.push(line("d", "exec", "allowed", "listed", &a, ""));
        assert_eq!(lists(&learn(&m, &recording(&lines), true, &[], |_| true).unwrap().manifest, &a), lists(&m, &a));
    }

    #[test]
    fn a_program_with_a_list_of_its_own_learns_into_that_and_takes_nothing_from_the_default_list() {
        let mut m = manifest();
        let [a, b] = m.binaries.keys().copied().collect::<Vec<_>>()[..] else { panic!("two programs") };
        let own = &mut m.binaries.get_mut(&a).unwrap().overrides;
        (own.without_default, own.syscalls) = (true, BTreeSet::from(["exit".into()]));
        let learned = learn(&m, &recording(&[line("c", "syscall", "allowed", WOULD_REFUSE, &a, "uname")]), false, &[], |_| true).unwrap();
        assert_eq!(lists(&learned.manifest, &a), ["exit", "uname"]);
        assert_eq!((lists(&learned.manifest, &b), &learned.manifest.global_policies), (lists(&m, &b), &m.global_policies));
        crate::rules::check(&learned.manifest).unwrap();
    }

    #[test]
    fn nothing_is_taken_away_by_what_may_be_missing() {
        let m = manifest();
        let a = *m.binaries.keys().next().unwrap();
        let recorded = line("c", "policy-load", "allowed", RECORDED, &a, "");
        assert_eq!(learn(&m, &recording(&[]), true, &[], |_| true), Err(LearnError::NothingRecorded));
        let lost = recording(&[recorded.clone(), line("c", "dropped", "noted", "ring-full", &a, "7")]);
        assert_eq!(learn(&m, &lost, true, &[], |_| true), Err(LearnError::Incomplete(7)));
        assert!(learn(&m, &recording(&[recorded]), true, &[], |_| true).is_ok());
    }
}
