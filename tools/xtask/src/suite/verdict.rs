//! What a suite found: every case natively and lifted, and whether that is what its list says.
//!
//! Owns the strict list of expected differences, `integration-tests/suites/SUITE.txt`: a line is `CASE: reason` or `BEGIN*: reason`. A difference that is not listed fails, and so does a listed case that ran and is equal.

use crate::process;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs;

/// Results of cases by name, in the suite's own words: `exit 0`, a checksum, `PASS`.
pub(crate) type Results = BTreeMap<String, String>;

/// One suite's figures, for the summary.
pub(crate) struct Verdict {
    pub suite: String,
    /// Cases run natively.
    pub cases: usize,
    /// Of these, those that pass natively: only they count.
    pub passing: usize,
    /// Of these, those whose lifted result is the native one.
    pub equal: usize,
    /// Differences that are listed with a reason.
    pub expected: usize,
    /// Cases apart from all these, which vkernel refuses by design, as they were.
    pub refused: usize,
    /// Listed cases that passed natively and are equal.
    pub stale: Vec<String>,
}

impl Verdict {
    fn unexpected(&self) -> usize {
        self.passing - self.equal - self.expected
    }

    fn row(&self) -> String {
        let refused = if self.refused > 0 { format!(" ({} more are refused by design)", self.refused) } else { String::new() };
        let (expected, unexpected) = (self.expected, self.unexpected());
        format!("{:<12} {:>8} {:>16} {:>13} {expected:>18} {unexpected:>11}{refused}", self.suite, self.cases, self.passing, self.equal)
    }

    /// Strict: nothing differs unlisted, and nothing is listed in vain.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let unexpected = self.unexpected();
        ensure!(unexpected == 0, "{}: {unexpected} cases differ and are not listed", self.suite);
        ensure!(self.stale.is_empty(), "{}: listed, but equal: {}", self.suite, self.stale.join(", "));
        Ok(())
    }
}

/// How many cases are named where all may be thousands.
const NAMED: usize = 20;

/// Results without those that the manuals leave open and makers of processors do differently, and says which those are.
pub(crate) fn settled(mut native: Results, open: &str, is_open: impl Fn(&str, &str) -> bool) -> Results {
    let all = native.len();
    native.retain(|name, result| !is_open(name, result));
    println!("{} of {all} native results are the maker's choice and are left out: {open}", all - native.len());
    native
}

/// What two native runs agree on: addresses, times and races need no filters.
pub(crate) fn stable(first: Results, second: &Results) -> Results {
    let all = first.len();
    let (kept, unstable): (Results, Results) = first.into_iter().partition(|(name, result)| second.get(name) == Some(result));
    if !unstable.is_empty() {
        let names: Vec<&str> = unstable.keys().take(NAMED).map(String::as_str).collect();
        let more = if unstable.len() > NAMED { " …" } else { "" };
        println!("{} of {all} native results differ from run to run and are left out: {}{more}", unstable.len(), names.join(" "));
    }
    kept
}

/// One row for each suite.
pub(crate) fn print(verdicts: &[Verdict]) {
    println!("{:<12} {:>8} {:>16} {:>13} {:>18} {:>11}", "suite", "cases", "pass natively", "equal lifted", "expected failures", "unexpected");
    verdicts.iter().for_each(|v| println!("{}", v.row()));
}

/// Compares what passes natively (as `passes` says) case by case, and holds the differences against the list of `suite`.
pub(crate) fn judge(suite: &str, native: &Results, lifted: &Results, passes: impl Fn(&str) -> bool) -> anyhow::Result<Verdict> {
    let passing: BTreeMap<&String, &String> = native.iter().filter(|(_, r)| passes(r)).collect();
    let differ: BTreeMap<&str, &str> = passing
        .iter()
        .filter(|(name, result)| lifted.get(**name) != Some(**result))
        .map(|(name, _)| (name.as_str(), lifted.get(*name).map_or("no result", String::as_str)))
        .collect();
    let text = list(suite)?;
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let listed: BTreeMap<&str, &str> = lines.map(|l| l.split_once(": ").with_context(|| format!("no reason: {l}"))).collect::<anyhow::Result<_>>()?;
    let new: Vec<_> = differ.iter().filter(|(n, _)| !listed.keys().any(|l| stands_for(l, n))).collect();
    for (name, result) in &new {
        println!("DIFFERS {name}: natively {}, lifted {result}", native[**name]);
    }
    let stale = listed.keys().filter(|l| passing.keys().any(|n| stands_for(l, n)) && !differ.keys().any(|n| stands_for(l, n))).map(|l| (*l).to_owned()).collect();
    let verdict = Verdict {
        suite: suite.to_owned(),
        cases: native.len(),
        passing: passing.len(),
        equal: passing.len() - differ.len(),
        expected: differ.len() - new.len(),
        refused: 0,
        stale,
    };
    print(std::slice::from_ref(&verdict));
    Ok(verdict)
}

/// A listed name, or with a `*` at its end all names that begin so (lines of one program that differ for one reason).
fn stands_for(listed: &str, name: &str) -> bool {
    listed.strip_suffix('*').map_or(listed == name, |begin| name.starts_with(begin))
}

/// The list of a suite; a suite without one has no expected differences.
fn list(suite: &str) -> anyhow::Result<String> {
    let path = process::root().join(format!("integration-tests/suites/{suite}.txt"));
    match fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("cannot read {}", path.display())),
    }
}
