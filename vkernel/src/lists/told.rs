//! Differences and findings in words. Owns the layout; the facts are the `policy` crate's. The fact a newcomer gets wrong: programs with the same change stand in one paragraph, because a
//! change of the default list is one of every program.

use policy::compare::{Change, Comparison, Files, abilities_of};
use policy::lint::{Finding, Level};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Paths that are named one by one.
const NAMED: usize = 8;

fn paths<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = all.len();
    let shown: Vec<&str> = all.take(NAMED).collect();
    let rest = count.saturating_sub(NAMED);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

fn names(calls: &BTreeSet<String>) -> String {
    calls.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Adds a line in words where calls mean more than their names.
fn with_meaning(out: &mut String, sign: char, calls: &BTreeSet<String>) {
    if calls.is_empty() {
        return;
    }
    let meaning: Vec<&str> = abilities_of(calls).collect();
    let meaning = if meaning.is_empty() { String::new() } else { format!("   ({})", meaning.join("; ")) };
    let _ = writeln!(out, "  {sign} {}{meaning}", names(calls));
}

pub(super) fn difference(d: &Comparison) -> String {
    let mut out = format!("{} {} (serial {}) -> {} {} (serial {})\n", d.old.name, d.old.version, d.old.serial, d.new.name, d.new.version, d.new.serial);
    if d.is_empty() {
        return out + "no difference\n";
    }
    if !d.new_abilities.is_empty() {
        let _ = writeln!(out, "{} newly can: {}", if d.old.version == d.new.version { "it" } else { &d.new.version }, d.new_abilities.join("; "));
    }
    if let Some(turn) = &d.networking {
        let _ = writeln!(out, "network: {:?} -> {:?}", turn.old, turn.new);
    }
    if let Some(turn) = &d.forbid_permissive {
        let _ = writeln!(out, "--permissive: {}", if turn.new { "forbidden now" } else { "no longer forbidden" });
    }
    if let Some(turn) = &d.scripts {
        let _ = writeln!(out, "scripts that run: {:?} -> {:?}", turn.old, turn.new);
    }
    for program in &d.added {
        let _ = writeln!(out, "new program {}  {}", program.path, program.digest);
        with_meaning(&mut out, '+', &program.syscalls);
    }
    for program in &d.removed {
        let _ = writeln!(out, "gone: {}  {}", program.path, program.digest);
    }
    changes(&mut out, &d.changed);
    d.changed.iter().for_each(|change| rules(&mut out, change));
    files(&mut out, &d.other_files);
    out
}

fn changes(out: &mut String, changed: &[Change]) {
    let mut groups: BTreeMap<(&BTreeSet<String>, &BTreeSet<String>), Vec<&Change>> = BTreeMap::new();
    for change in changed {
        groups.entry((&change.newly, &change.no_longer)).or_default().push(change);
    }
    for ((newly, no_longer), group) in groups {
        let rebuilt = group.iter().filter(|c| c.rebuilt).count();
        let rebuilt = if rebuilt == 0 { String::new() } else { format!("  ({rebuilt} rebuilt)") };
        let _ = writeln!(out, "{}{rebuilt}", paths(group.iter().map(|c| c.path.as_str())));
        with_meaning(out, '+', newly);
        with_meaning(out, '-', no_longer);
    }
}

/// What is ruled about a program besides its calls.
fn rules(out: &mut String, change: &Change) {
    if let Some(turn) = &change.inline {
        let _ = writeln!(out, "{}: program text: {:?} -> {:?}", change.path, turn.old, turn.new);
    }
    if let Some(turn) = &change.strip {
        let words = |names: &BTreeSet<String>| if names.is_empty() { "none".to_owned() } else { self::names(names) };
        let _ = writeln!(out, "{}: variables it does not get: {} -> {}", change.path, words(&turn.old), words(&turn.new));
    }
    if change.read_otherwise {
        let _ = writeln!(out, "{}: its command line is read in another way", change.path);
    }
}

fn files(out: &mut String, f: &Files) {
    for (what, all) in [("new", &f.added), ("gone", &f.removed), ("rebuilt", &f.rebuilt)] {
        if !all.is_empty() {
            let _ = writeln!(out, "libraries and scripts, {what}: {}", paths(all.iter().map(String::as_str)));
        }
    }
}

/// One paragraph per kind of finding.
pub(super) fn findings(all: &[Finding]) -> String {
    let mut out = String::new();
    let mut groups: BTreeMap<(bool, &str, &str), Vec<&str>> = BTreeMap::new();
    for f in all {
        groups.entry((f.level == Level::Note, f.code, &f.text)).or_default().push(&f.at);
    }
    for ((is_note, code, text), at) in groups {
        let _ = writeln!(out, "{} {code}: {}: {text}", if is_note { "note" } else { "warning" }, paths(at.into_iter()));
    }
    let warnings = all.iter().filter(|f| f.level == Level::Warning).count();
    let _ = writeln!(out, "warnings: {warnings}, notes: {}", all.len() - warnings);
    out
}
