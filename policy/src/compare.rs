//! What one release may do that another may not.
//!
//! Owns the comparison and what calls mean in a sentence ("connect to other machines"). Refuses to own trust: it compares what two manifests say, signed or not. The fact a newcomer gets wrong:
//! programs are compared by path, because every rebuilt file has another digest.

use crate::decide;
use crate::digest::Digest;
use crate::manifest::{Binary, Inline, Manifest, Networking, Scripts};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a program can do with calls, for readers who do not know them by heart.
pub const ABILITIES: &[(&str, &[&str])] = &[
    ("connect to others", &["connect", "sendto", "sendmsg", "sendmmsg"]),
    ("be connected to", &["bind", "listen", "accept", "accept4"]),
    ("start programs", &["execve", "execveat"]),
    ("make processes", &["fork", "vfork", "clone", "clone3"]),
    ("send signals", &["kill", "tkill", "tgkill", "rt_sigqueueinfo", "pidfd_send_signal"]),
    ("change who it is", &["setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset"]),
    ("change owners and modes", &["chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "lchown", "setxattr", "lsetxattr", "fsetxattr"]),
    (
        "make and remove files",
        &["creat", "mkdir", "mkdirat", "mknod", "mknodat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "truncate"],
    ),
    ("read and write other processes", &["process_vm_readv", "process_vm_writev"]),
    ("pass memory between processes", &["shmget", "shmat", "memfd_create", "msgget", "semget"]),
];

/// The release of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    pub name: String,
    pub version: String,
    pub serial: u64,
}

/// A program that is in one release only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    pub path: String,
    pub digest: Digest,
    pub syscalls: BTreeSet<String>,
}

/// A program of both whose file or list changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub path: String,
    pub digest: Digest,
    /// The file is another one.
    pub rebuilt: bool,
    pub newly: BTreeSet<String>,
    pub no_longer: BTreeSet<String>,
    /// What becomes of program text it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inline: Option<Turn<Inline>>,
    /// Variables it does not get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip: Option<Turn<BTreeSet<String>>>,
    /// Rules depend on its command line, which is read in another way.
    pub read_otherwise: bool,
}

/// Before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn<T> {
    pub old: T,
    pub new: T,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    pub old: Named,
    pub new: Named,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking: Option<Turn<Networking>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forbid_permissive: Option<Turn<bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scripts: Option<Turn<Scripts>>,
    pub added: Vec<Program>,
    pub removed: Vec<Program>,
    pub changed: Vec<Change>,
    /// Libraries and scripts that are only in the new one, only in the old one, or other files at the same path.
    pub other_files: Files,
    /// What at least one program can do now although no program of the old release could.
    pub new_abilities: Vec<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    pub added: BTreeSet<String>,
    pub removed: BTreeSet<String>,
    pub rebuilt: BTreeSet<String>,
}

impl Comparison {
    pub fn of(old: &Manifest, new: &Manifest) -> Self {
        let (before, after) = (programs(old), programs(new));
        let only = |here: &BTreeMap<&str, (Digest, &Binary)>, there: &BTreeMap<&str, (Digest, &Binary)>, m: &Manifest| {
            let alone = here.iter().filter(|(path, _)| !there.contains_key(*path));
            alone.map(|(path, (digest, b))| Program { path: (*path).to_owned(), digest: *digest, syscalls: list(m, b) }).collect::<Vec<_>>()
        };
        let changed = after.iter().filter_map(|(path, (digest, b))| {
            let (was, former) = before.get(path)?;
            let (now, then) = (list(new, b), list(old, former));
            let change = Change {
                path: (*path).to_owned(),
                digest: *digest,
                rebuilt: was != digest,
                newly: now.difference(&then).cloned().collect(),
                no_longer: then.difference(&now).cloned().collect(),
                inline: turn(decide::inline_rule(old, former), decide::inline_rule(new, b)),
                strip: turn(former.overrides.strip.clone().unwrap_or_default(), b.overrides.strip.clone().unwrap_or_default()),
                read_otherwise: (old.judges_command(former) || new.judges_command(b))
                    && (&former.overrides.interpreter, &former.arguments) != (&b.overrides.interpreter, &b.arguments),
            };
            let is_other = change.rebuilt || now != then || change.inline.is_some() || change.strip.is_some() || change.read_otherwise;
            is_other.then_some(change)
        });
        let could = abilities(old);
        Self {
            old: named(old),
            new: named(new),
            networking: turn(old.global_policies.networking, new.global_policies.networking),
            forbid_permissive: turn(old.global_policies.forbid_permissive, new.global_policies.forbid_permissive),
            scripts: turn(old.global_policies.scripts, new.global_policies.scripts),
            added: only(&after, &before, new),
            removed: only(&before, &after, old),
            changed: changed.collect(),
            other_files: files(old, new),
            new_abilities: abilities(new).into_iter().filter(|a| !could.contains(a)).collect(),
        }
    }

    /// Whether the two releases allow and contain the same.
    pub fn is_empty(&self) -> bool {
        let same_files = self.other_files == Files::default() && self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty();
        same_files && self.networking.is_none() && self.forbid_permissive.is_none() && self.scripts.is_none()
    }
}

/// What these calls allow, in words.
pub fn abilities_of<'a>(calls: &'a BTreeSet<String>) -> impl Iterator<Item = &'static str> + 'a {
    ABILITIES.iter().filter(|(_, names)| names.iter().any(|n| calls.contains(*n))).map(|(ability, _)| *ability)
}

fn abilities(m: &Manifest) -> Vec<&'static str> {
    let all: BTreeSet<String> = m.binaries.values().flat_map(|b| list(m, b)).collect();
    abilities_of(&all).collect()
}

fn turn<T: PartialEq>(old: T, new: T) -> Option<Turn<T>> {
    (old != new).then_some(Turn { old, new })
}

fn named(m: &Manifest) -> Named {
    Named { name: m.name.clone(), version: m.version.clone(), serial: m.serial }
}

fn list(m: &Manifest, b: &Binary) -> BTreeSet<String> {
    m.allowed_syscalls(b).into_iter().map(str::to_owned).collect()
}

/// By path; of two rows of one file (two algorithms) the first.
fn programs(m: &Manifest) -> BTreeMap<&str, (Digest, &Binary)> {
    m.binaries.iter().rev().map(|(digest, b)| (b.path.as_str(), (*digest, b))).collect()
}

fn files(old: &Manifest, new: &Manifest) -> Files {
    fn of(m: &Manifest) -> BTreeMap<&str, BTreeSet<&Digest>> {
        let mut all: BTreeMap<&str, BTreeSet<&Digest>> = BTreeMap::new();
        let libraries = m.libraries.iter().map(|(d, l)| (l.path.as_str(), d));
        for (path, digest) in libraries.chain(m.scripts.iter().map(|(d, s)| (s.path.as_str(), d))) {
            all.entry(path).or_default().insert(digest);
        }
        all
    }
    let (before, after) = (of(old), of(new));
    let own = |paths: Vec<&&str>| paths.into_iter().map(|p| (*p).to_owned()).collect();
    Files {
        added: own(after.keys().filter(|p| !before.contains_key(*p)).collect()),
        removed: own(before.keys().filter(|p| !after.contains_key(*p)).collect()),
        rebuilt: own(after.iter().filter(|(p, digests)| before.get(*p).is_some_and(|b| b != *digests)).map(|(p, _)| p).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/accept/minimal.json")).unwrap();
        crate::verify::typed(crate::canonical::parse(&bytes).unwrap()).unwrap()
    }

    #[test]
    fn a_release_equals_itself_and_every_difference_is_named() {
        let old = manifest();
        assert!(Comparison::of(&old, &old).is_empty());
        let mut new = old.clone();
        new.serial += 1;
        assert!(Comparison::of(&old, &new).is_empty(), "a number alone changes nothing");
        let (digest, mut binary) = new.binaries.pop_first().unwrap();
        binary.overrides.syscalls.insert("connect".into());
        binary.overrides.syscalls.remove("getdents64");
        let other = Digest::blake3(b"rebuilt");
        assert_ne!(digest, other);
        new.binaries.insert(other, binary);
        new.global_policies.networking = Networking::Host;
        new.libraries.clear();
        let told = Comparison::of(&old, &new);
        assert_eq!(told.networking, Some(Turn { old: Networking::None, new: Networking::Host }));
        assert_eq!(told.new_abilities, ["connect to others"]);
        let [change] = &told.changed[..] else { panic!("{told:?}") };
        assert!(change.rebuilt && change.newly == BTreeSet::from(["connect".into()]) && change.no_longer == BTreeSet::from(["getdents64".into()]));
        assert_eq!(told.other_files.removed.len(), old.libraries.values().map(|l| &l.path).collect::<BTreeSet<_>>().len());
        let mut ruled = old.clone();
        let digest = *ruled.binaries.keys().next().unwrap();
        ruled.global_policies.scripts = Scripts::Listed;
        ruled.binaries.get_mut(&digest).unwrap().overrides.interpreter = Some(Default::default());
        let told = Comparison::of(&old, &ruled);
        assert_eq!(told.scripts, Some(Turn { old: Scripts::Any, new: Scripts::Listed }));
        let [change] = &told.changed[..] else { panic!("{told:?}") };
        assert!(change.read_otherwise && change.inline.is_none() && change.strip.is_none());
        let mut called = ruled.clone();
        called.binaries.get_mut(&digest).unwrap().arguments.file = true;
        assert!(Comparison::of(&ruled, &called).changed.iter().all(|c| c.read_otherwise && !c.rebuilt), "what becomes of arguments decides about what runs");
        assert!(!Comparison::of(&ruled, &called).is_empty());
        let mut looser = ruled.clone();
        ruled.global_policies.inline = Inline::Deny;
        looser.binaries.get_mut(&digest).unwrap().overrides.strip = Some(BTreeSet::from(["ENV".into()]));
        let told = Comparison::of(&ruled, &looser);
        let [change] = &told.changed[..] else { panic!("{told:?}") };
        assert_eq!(change.inline, Some(Turn { old: Inline::Deny, new: Inline::Allow }));
        assert!(change.strip.as_ref().is_some_and(|s| s.old.is_empty() && s.new.len() == 1) && !change.read_otherwise);
        new.binaries.clear();
        assert_eq!(Comparison::of(&old, &new).removed.len(), 2);
        let added = Comparison::of(&new, &old).added;
        assert_eq!(added.iter().map(|p| (p.path.as_str(), p.syscalls.len())).collect::<Vec<_>>(), [("/lib64/ld.so", 3), ("/usr/bin/ls", 4)]);
    }
}
