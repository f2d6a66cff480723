//! What a well-formed manifest must also satisfy before it means anything.
//!
//! Owns the checks between fields that types cannot express. Runs after the signature: a signed but senseless manifest is refused with the JSON path of the first
//! broken rule. The fact a newcomer gets wrong: address ranges of two libraries must not touch, but two non-PIE executables may: they never coexist.

use crate::arguments::{Arguments, JSON, Known, VALUE, Value};
use crate::digest::{Algorithm, Digest};
use crate::interpreter::{Interpreter, begins};
use crate::manifest::{Binary, Coverage, Elf, Form, Library, Manifest, Overrides, ProgramSyscalls, Segment, SyscallEvidence};
use crate::unread::Unread;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use thiserror::Error;

/// Bytes of a page; segments are held as whole pages.
pub const PAGE_BYTES: u64 = 4096;

/// Every address of an ELF object lies below this: the guest window is 4 GiB, and code must lie in its first quarter (ARCHITECTURE.md, "Addresses").
const ADDRESS_LIMIT: u64 = 1 << 30;

/// Below is the null page, which must fault.
const ADDRESS_FLOOR: u64 = 64 << 10;

/// A WASI program has a descriptor of each that is there.
const MAX_DIRECTORIES: usize = 64;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("{path}: {reason}")]
pub struct RuleError {
    /// JSON path, like `binaries["blake3:…"].entry`.
    pub path: String,
    pub reason: String,
}

pub type Checked = Result<(), RuleError>;

/// `path` is spelled out only here: nearly all is well nearly always.
fn broken(path: impl Display, reason: impl Into<String>) -> Checked {
    Err(RuleError { path: path.to_string(), reason: reason.into() })
}

/// Checks every rule.
pub fn check(m: &Manifest) -> Checked {
    check_acted_upon(m)?;
    let covered = m.binaries.iter().map(|(d, b)| ("binaries", d, &b.coverage)).chain(m.libraries.iter().map(|(d, l)| ("libraries", d, &l.coverage)));
    for (table, digest, stated) in covered {
        let at = format_args!("{table}[\"{digest}\"].coverage");
        stated.iter().try_for_each(|c| coverage(&at, &read(&at, c)?))?;
    }
    for (digest, b) in &m.binaries {
        let at = format_args!("binaries[\"{digest}\"].syscalls");
        b.syscalls.iter().try_for_each(|s| program_syscalls(&at, &read(&at, s)?))?;
    }
    Ok(())
}

fn read<T: Serialize + DeserializeOwned>(at: &dyn Display, unread: &Unread<T>) -> Result<T, RuleError> {
    unread.read().map_err(|e| RuleError { path: at.to_string(), reason: e.to_string() })
}

/// The rules of all that a host acts upon.
pub fn check_acted_upon(m: &Manifest) -> Checked {
    names(m)?;
    entries(m)?;
    artifacts(m)?;
    let shards = Shards::of(m);
    for (digest, b) in &m.binaries {
        binary(&format_args!("binaries[\"{digest}\"]"), b, &shards)?;
    }
    for (digest, l) in &m.libraries {
        let at = format_args!("libraries[\"{digest}\"]");
        guest_path(&format_args!("{at}.path"), &l.path)?;
        elf(&format_args!("{at}.elf"), &l.elf, l.size)?;
        shards.have(&format_args!("{at}.shard"), &l.shard)?;
        if l.elf.non_pie {
            broken(format_args!("{at}.elf.non_pie"), "a library cannot be linked at fixed addresses")?;
        }
    }
    for (digest, s) in &m.scripts {
        let at = format_args!("scripts[\"{digest}\"]");
        guest_path(&format_args!("{at}.path"), &s.path)?;
        if s.interpreter_digest.is_some_and(|d| !m.binaries.contains_key(&d) && !m.scripts.contains_key(&d)) {
            broken(format_args!("{at}.interpreter_digest"), "is neither a binary's nor a script's")?;
        }
    }
    sha256(m)?;
    both_roles_agree(m)?;
    algorithms_agree(m)?;
    slots_are_disjoint(m)
}

fn names(m: &Manifest) -> Checked {
    if m.name.is_empty() {
        broken("name", "is empty")?;
    }
    relative_file(&"megabinary", &m.megabinary)?;
    let lists = m.binaries.iter().map(|(d, b)| (format!("binaries[\"{d}\"].overrides.syscalls"), &b.overrides.syscalls));
    for (path, list) in lists.chain([("global_policies.default_syscalls".into(), &m.global_policies.default_syscalls)]) {
        call_names(path, list)?;
    }
    version(&m.vkernel_version).map(drop).map_or_else(|| broken("vkernel_version", "write >=MAJOR.MINOR.PATCH"), |()| Ok(()))
}

fn call_names(path: impl Display, list: &BTreeSet<String>) -> Checked {
    let wrong = |n: &&String| n.is_empty() || !n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    list.iter().find(wrong).map_or(Ok(()), |bad| broken(path, format!("{bad:?} is not a system call's name")))
}

fn coverage(at: &dyn Display, c: &Coverage) -> Checked {
    if c.lifted_bytes > c.code_bytes {
        broken(format_args!("{at}.lifted_bytes"), "is more than there is code")?;
    }
    evidence(&format_args!("{at}.syscalls"), &c.syscalls)
}

fn program_syscalls(at: &dyn Display, s: &ProgramSyscalls) -> Checked {
    evidence(&format_args!("{at}.linked"), &s.linked)?;
    evidence(&format_args!("{at}.reachable"), &s.reachable)?;
    let linked: BTreeSet<&String> = s.linked.proved.union(&s.linked.possible).collect();
    let more = s.reachable.proved.union(&s.reachable.possible).find(|name| !linked.contains(name));
    more.map_or(Ok(()), |name| broken(format_args!("{at}.reachable"), format!("{name:?} is not among the linked calls")))
}

fn evidence(at: &dyn Display, e: &SyscallEvidence) -> Checked {
    call_names(format_args!("{at}.proved"), &e.proved)?;
    call_names(format_args!("{at}.possible"), &e.possible)?;
    let both = e.proved.intersection(&e.possible).next();
    both.map_or(Ok(()), |name| broken(format_args!("{at}.possible"), format!("{name:?} is proved already")))
}

/// Whether a runtime of `running` (`MAJOR.MINOR.PATCH`) satisfies a manifest's `vkernel_version`.
pub fn version_satisfied(required: &str, running: &str) -> bool {
    match (version(required), version(&format!(">={running}"))) {
        (Some(required), Some(running)) => running >= required,
        _ => false,
    }
}

fn version(required: &str) -> Option<[u32; 3]> {
    let parts: Vec<u32> = required.strip_prefix(">=")?.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn entries(m: &Manifest) -> Checked {
    for (digest, number) in m.entry_order().into_iter().zip(1..) {
        let rows = [
            ("binaries", m.binaries.get(&digest).map(|r| r.entry)),
            ("libraries", m.libraries.get(&digest).map(|r| r.entry)),
            ("scripts", m.scripts.get(&digest).map(|r| r.entry)),
        ];
        for (table, entry) in rows {
            if entry.is_some_and(|e| e != number) {
                broken(format_args!("{table}[\"{digest}\"].entry"), format!("is not {number}, the digest's position"))?;
            }
        }
        if rows[2].1.is_some() && (rows[0].1.is_some() || rows[1].1.is_some()) {
            broken(format_args!("scripts[\"{digest}\"]"), "is also an ELF object")?;
        }
    }
    Ok(())
}

fn artifacts(m: &Manifest) -> Checked {
    let mut seen = BTreeSet::new();
    for (i, a) in m.artifacts.iter().enumerate() {
        relative_file(&format_args!("artifacts[{i}].file"), &a.file)?;
        if !seen.insert((a.shard, a.form, &a.target, &a.cpu_features, &a.engine)) {
            broken(format_args!("artifacts[{i}]"), "stands twice")?;
        }
    }
    Ok(())
}

fn binary(at: &dyn Display, b: &Binary, shards: &Shards) -> Checked {
    guest_path(&format_args!("{at}.path"), &b.path)?;
    if b.directories.len() > MAX_DIRECTORIES {
        broken(format_args!("{at}.directories"), format!("are more than {MAX_DIRECTORIES}"))?;
    }
    b.directories.iter().enumerate().try_for_each(|(i, d)| guest_path(&format_args!("{at}.directories[{i}]"), d))?;
    overrides(&format_args!("{at}.overrides"), &b.overrides)?;
    arguments(&format_args!("{at}.arguments"), &b.arguments)?;
    if b.elf.is_some() && !b.arguments.is_empty() {
        broken(format_args!("{at}.arguments"), "are changed for WASI programs only")?;
    }
    match (&b.shard, &b.elf, &b.polyfill) {
        (Some(shard), Some(e), None) => {
            elf(&format_args!("{at}.elf"), e, b.size)?;
            shards.have(&format_args!("{at}.shard"), shard)
        }
        (Some(shard), None, _) => shards.have_wasi(&format_args!("{at}.shard"), shard),
        (None, None, Some(_)) => Ok(()),
        _ => broken(at, "needs shard and elf, or the shard of a WASI program, or polyfill"),
    }
}

/// What a program's own rules must satisfy, in a manifest and in a policy file; names of system calls are checked elsewhere.
pub fn overrides(at: &dyn Display, o: &Overrides) -> Checked {
    o.interpreter.iter().try_for_each(|i| interpreter(&format_args!("{at}.interpreter"), i))?;
    o.strip.iter().try_for_each(|patterns| variables(&format_args!("{at}.strip"), patterns))
}

fn interpreter(at: &dyn Display, i: &Interpreter) -> Checked {
    if let Some(multicall) = &i.multicall {
        if *i != (Interpreter { multicall: i.multicall.clone(), ..Interpreter::default() }) {
            broken(at, "is several programs: what else it says is never looked at")?;
        }
        if multicall.name.is_empty() {
            broken(format_args!("{at}.multicall.name"), "is empty: every name begins so")?;
        }
        return multicall.applets.iter().try_for_each(|(name, applet)| {
            let at = format_args!("{at}.multicall.applets[\"{name}\"]");
            if applet.multicall.is_some() { broken(at, "is several programs again") } else { interpreter(&at, applet) }
        });
    }
    if !i.flags.bytes().all(|b| b.is_ascii_graphic() && !b"-+=".contains(&b)) {
        broken(format_args!("{at}.flags"), "are letters")?;
    }
    let lists = [("words", &i.words), ("values", &i.values), ("files", &i.files), ("ends", &i.ends)];
    for (name, word) in lists.iter().flat_map(|(name, list)| list.iter().map(move |word| (name, word))) {
        let option = word.split_once(' ').map_or(word.as_str(), |(option, _)| option);
        let is_option = option.starts_with('-') && option.bytes().all(|b| b.is_ascii_graphic());
        let pair_elsewhere = option != word && *name != "words";
        if !is_option || pair_elsewhere || word.contains('\0') {
            broken(format_args!("{at}.{name}"), format!("{word:?} is no option: write it with -"))?;
        }
        let start = word.strip_suffix('*').unwrap_or(word);
        if start.contains('*') || (start != word && (*name != "words" || option != word || !word.starts_with("--") || word == "--*")) {
            broken(format_args!("{at}.{name}"), format!("{word:?} is no option: a * stands behind the beginning of one of the words that begin with --"))?;
        }
        // What an option means must not depend on the order in which lists are asked.
        let letter = option.strip_prefix('-').filter(|l| l.len() == 1).is_some_and(|l| *l != *"-" && i.flags.contains(l));
        if letter
            || lists
                .iter()
                .any(|(other, list)| other != name && (list.contains(option) || list.iter().any(|o| begins(word, o.as_bytes()) || begins(word, format!("{o}=").as_bytes()))))
        {
            broken(format_args!("{at}.{name}"), format!("{option:?} is also something else"))?;
        }
    }
    Ok(())
}

/// What rules about arguments must satisfy, in a manifest and in the catalogue of polyfills.
pub fn arguments(at: &dyn Display, a: &Arguments) -> Checked {
    let lists = [("first", &a.first), ("suffixes", &a.suffixes), ("stdin", &a.stdin)];
    for (name, list) in lists {
        without_nul(&format_args!("{at}.{name}"), list)?;
    }
    for (i, option) in a.options.iter().enumerate() {
        known(&format_args!("{at}.options[{i}]"), option, a.letters)?;
    }
    if a.refused.as_ref().is_some_and(|r| r.status == 0) {
        broken(format_args!("{at}.refused.status"), "says that all went well")?;
    }
    Ok(())
}

fn known(at: &dyn Display, option: &Known, letters: bool) -> Checked {
    without_nul(&format_args!("{at}.becomes"), option.becomes.as_deref().unwrap_or_default())?;
    let is_option = |part: &str| part.starts_with('-') && !matches!(part, "-" | "--" | "-*" | "--*");
    let is_name = |name: &String| match name.split_once(' ') {
        Some((first, second)) => is_option(first) && !second.is_empty() && !second.contains(' ') && !name.contains('*'),
        None => is_option(name) && !name.trim_end_matches('*').contains('*') && !name.ends_with("**"),
    };
    if let Some(wrong) = option.names.iter().find(|name| !is_name(name) || name.contains('\0')) {
        broken(format_args!("{at}.names"), format!("{wrong:?} is neither an option, nor one and another word, nor the beginning of one followed by *"))?;
    }
    let words = option.becomes.as_deref().unwrap_or_default();
    let values = |word: &String| word.matches(VALUE).count() + word.matches(JSON).count();
    if words.iter().any(|word| values(word) > usize::from(option.value.is_some())) {
        broken(format_args!("{at}.becomes"), "a word has one value at most, and none where there is none")?;
    }
    if option.value == Some(Value::File) && (option.becomes.is_none() || words.iter().any(|word| values(word) > 0 && word != VALUE)) {
        broken(format_args!("{at}.becomes"), "a file's path stands alone, as {value}")?;
    }
    // Its letter may share a word with others.
    if letters && option.becomes.is_some() {
        broken(format_args!("{at}.becomes"), "where letters share words, options stay as they are")?;
    }
    Ok(())
}

fn without_nul(at: &dyn Display, words: &[String]) -> Checked {
    if words.iter().any(|word| word.contains('\0')) { broken(at, "has a NUL") } else { Ok(()) }
}

fn variables(at: &dyn Display, patterns: &BTreeSet<String>) -> Checked {
    let wrong = |p: &&String| {
        let name = p.strip_suffix('*').unwrap_or(p);
        name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && !b"=*".contains(&b))
    };
    patterns.iter().find(wrong).map_or(Ok(()), |bad| broken(at, format!("{bad:?} is no variable's name, nor a beginning followed by *")))
}

/// The shards that artifacts are of, and whether any of them is lifted code.
struct Shards(BTreeMap<Digest, bool>);

impl Shards {
    fn of(m: &Manifest) -> Self {
        let mut all = BTreeMap::new();
        m.artifacts.iter().for_each(|a| *all.entry(a.shard).or_default() |= a.form != Form::Wasi);
        Self(all)
    }

    fn have(&self, at: &dyn Display, shard: &Digest) -> Checked {
        if self.0.contains_key(shard) { Ok(()) } else { broken(at, format!("no artifact is of shard {shard}")) }
    }

    /// What has no ELF object must not run as one.
    fn have_wasi(&self, at: &dyn Display, shard: &Digest) -> Checked {
        self.have(at, shard)?;
        if self.0[shard] { broken(at, "is no WASI program, and there is no elf") } else { Ok(()) }
    }
}

fn elf(at: &dyn Display, e: &Elf, size: u64) -> Checked {
    if e.non_pie && e.base != 0 {
        broken(format_args!("{at}.base"), "must be 0 for an executable linked at fixed addresses")?;
    }
    if !e.base.is_multiple_of(PAGE_BYTES) {
        broken(format_args!("{at}.base"), "is not page-aligned")?;
    }
    if e.segments.is_empty() {
        broken(format_args!("{at}.segments"), "is empty")?;
    }
    let mut end = 0;
    for (i, s) in e.segments.iter().enumerate() {
        let at = format_args!("{at}.segments[{i}]");
        segment(&at, s, e.base, size)?;
        if s.vaddr < end {
            broken(at, "overlaps the one before or is out of order")?;
        }
        end = s.vaddr + s.memsz;
    }
    Ok(())
}

fn segment(at: &dyn Display, s: &Segment, base: u64, size: u64) -> Checked {
    // Manifest integers are at most 2^53: sums of three cannot overflow.
    if s.filesz > s.memsz {
        broken(format_args!("{at}.filesz"), "is larger than memsz")?;
    }
    if s.file_offset + s.filesz > size {
        broken(format_args!("{at}.filesz"), "reaches past the end of the file")?;
    }
    if !s.image_offset.is_multiple_of(PAGE_BYTES) {
        broken(format_args!("{at}.image_offset"), "is not page-aligned")?;
    }
    if s.vaddr % PAGE_BYTES != s.file_offset % PAGE_BYTES {
        broken(format_args!("{at}.vaddr"), "differs from file_offset modulo the page size")?;
    }
    if base + s.vaddr < ADDRESS_FLOOR || base + s.vaddr + s.memsz > ADDRESS_LIMIT {
        broken(format_args!("{at}.vaddr"), "lies outside the guest's range for objects")?;
    }
    Ok(())
}

/// The second digest of a row is what its name says, and that of the row itself if this is one, too.
fn sha256(m: &Manifest) -> Checked {
    let binaries = m.binaries.iter().map(|(d, b)| ("binaries", d, b.sha256));
    let libraries = m.libraries.iter().map(|(d, l)| ("libraries", d, l.sha256));
    let scripts = m.scripts.iter().map(|(d, s)| ("scripts", d, s.sha256));
    for (table, digest, second) in binaries.chain(libraries).chain(scripts) {
        let at = || format!("{table}[\"{digest}\"].sha256");
        match second {
            Some(second) if second.algorithm != Algorithm::Sha256 => broken(at(), "is not a sha256 digest")?,
            Some(second) if digest.algorithm == Algorithm::Sha256 && second != *digest => broken(at(), "differs from the row's own digest")?,
            _ => {}
        }
    }
    Ok(())
}

/// A file that is a program and a library (the dynamic linker) has one image.
fn both_roles_agree(m: &Manifest) -> Checked {
    for (digest, l) in &m.libraries {
        if let Some(b) = m.binaries.get(digest)
            && (b.elf.as_ref() != Some(&l.elf) || b.size != l.size || b.sha256 != l.sha256 || b.shard != Some(l.shard))
        {
            broken(format_args!("libraries[\"{digest}\"]"), "differs from the binaries row of the same digest")?;
        }
    }
    Ok(())
}

/// A file listed under both algorithms (same path) has two rows that agree (07 S22).
fn algorithms_agree(m: &Manifest) -> Checked {
    agree("binaries", &m.binaries, |b| &b.path, |a, b| Binary { entry: b.entry, ..a.clone() } == *b)?;
    agree("libraries", &m.libraries, |l| &l.path, |a, b| Library { entry: b.entry, ..a.clone() } == *b)
}

fn agree<R>(table: &str, rows: &BTreeMap<Digest, R>, path: impl Fn(&R) -> &String, alike: impl Fn(&R, &R) -> bool) -> Checked {
    let mut seen: BTreeMap<&String, &R> = BTreeMap::new();
    for (digest, row) in rows {
        if seen.insert(path(row), row).is_some_and(|other| !alike(other, row)) {
            broken(format_args!("{table}[\"{digest}\"]"), format!("another row of {} disagrees", path(row)))?;
        }
    }
    Ok(())
}

/// No two objects that can be in one guest overlap.
fn slots_are_disjoint(m: &Manifest) -> Checked {
    let mut slots: BTreeMap<u64, (Range<u64>, &str)> = BTreeMap::new();
    let libraries = m.libraries.values().map(|l| (&l.elf, l.path.as_str()));
    let programs = m.binaries.values().filter_map(|b| Some((b.elf.as_ref()?, b.path.as_str())));
    for (e, path) in libraries.chain(programs).filter(|(e, _)| !e.non_pie) {
        let range = span(e);
        match slots.range(..range.end).next_back() {
            Some((_, (other, name))) if other.end > range.start && *name != path => {
                broken(path, format!("its addresses overlap those of {name}"))?;
            }
            _ => drop(slots.insert(range.start, (range, path))),
        }
    }
    Ok(())
}

/// Guest addresses from the first to the last byte of an object.
fn span(e: &Elf) -> Range<u64> {
    let start = e.segments.first().map_or(0, |s| s.vaddr);
    let end = e.segments.last().map_or(0, |s| s.vaddr + s.memsz);
    e.base + start..e.base + end
}

fn guest_path(at: &dyn Display, path: &str) -> Checked {
    let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
    match path.strip_prefix('/') {
        Some(rest) if !rest.split('/').any(bad) => Ok(()),
        _ => broken(at, format!("{path:?} is not an absolute, normal path")),
    }
}

fn relative_file(at: &dyn Display, path: &str) -> Checked {
    let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(['\0', '\\']);
    if path.split('/').any(bad) { broken(at, format!("{path:?} is not a file below the manifest's directory")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_satisfies_requirements_up_to_its_own_version() {
        assert!(version_satisfied(">=0.2.0", "0.10.0"));
        assert!(version_satisfied(">=0.2.0", "0.2.0"));
        assert!(!version_satisfied(">=0.2.1", "0.2.0"));
        assert!(!version_satisfied("0.2.0", "0.2.0"));
    }
}
