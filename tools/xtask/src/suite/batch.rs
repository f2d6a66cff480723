//! Programs of a suite run one after another in one container by the guest's own shell, natively and lifted.
//!
//! Owns how a program's output and status are told apart from the next one's, and the time limit of each. What an output means is the suite's. The fact a newcomer gets wrong: only what is the same in two native runs is compared, so addresses and times need no filters.

use super::native;
use super::verdict::Results;
use crate::process::{self, output};
use crate::release::{self, Release};
use crate::setup::Binaries;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

/// Programs of the image the shell needs for a batch: part of every such release.
const TOOLS: &[&str] = &["/usr/bin/dash", "/usr/bin/timeout"];
/// Linked into programs, so that what was printed before a crash is seen.
pub(super) const LINE_BUFFERED: &str = "#include <stdio.h>\n__attribute__((constructor)) static void buffer_lines(void) { setvbuf(stdout, NULL, _IOLBF, 1 << 16); }\n";
/// No batch runs longer on one side.
const LIMIT_SECONDS: u32 = 1800;
const MARK: &str = "@@batch";

/// One program of a batch.
pub(super) struct Program {
    pub name: String,
    /// In the image.
    pub path: String,
    pub args: Vec<String>,
    pub seconds: u32,
}

/// How a program of a batch ended, and what it printed.
pub(super) struct Ended {
    pub stdout: String,
    /// As the shell says it: 128 and the signal, 124 when time ran out.
    pub status: i32,
}

/// All programs by name.
pub(super) type Outcomes = BTreeMap<String, Ended>;

/// A release of the programs, and of what a batch needs.
pub(super) fn build(binaries: &Binaries, name: &str, image: &Path, programs: &[Program]) -> anyhow::Result<Release> {
    let included: Vec<String> = programs.iter().map(|p| p.path.clone()).chain(TOOLS.iter().map(|t| (*t).to_owned())).collect();
    release::build(binaries, name, image, &included)
}

pub(super) fn natively(image: &Path, programs: &[Program]) -> anyhow::Result<Outcomes> {
    outcomes(&mut native::command(image, 0, LIMIT_SECONDS, false, native::ROOTS, ["/usr/bin/dash", "-c", &script(programs)])?).map(|(all, _)| all)
}

/// Also the lines the runtime itself printed, such as those that name a refused instruction.
pub(super) fn lifted(release: &Release, binaries: &Binaries, programs: &[Program]) -> anyhow::Result<(Outcomes, Vec<String>)> {
    let run = release.run(binaries, &[], &["/usr/bin/dash", "-c", &script(programs)]);
    let (all, errors) = outcomes(&mut process::bounded(LIMIT_SECONDS, &run))?;
    let mut named: Vec<String> = errors.lines().filter(|l| l.starts_with("vkernel: ")).map(str::to_owned).collect();
    named.sort();
    named.dedup();
    Ok((all, named))
}

fn script(programs: &[Program]) -> String {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let one = |p: &Program| {
        let words: Vec<String> = std::iter::once(&p.path).chain(&p.args).map(|w| quoted(w)).collect();
        format!("echo {}; timeout -s KILL {} {} </dev/null; status=$?; echo; echo {MARK} $status\n", quoted(&format!("{MARK} {}", p.name)), p.seconds, words.join(" "))
    };
    programs.iter().map(one).collect()
}

fn outcomes(command: &mut Command) -> anyhow::Result<(Outcomes, String)> {
    let out = output(command)?;
    let (stdout, errors) = (String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned());
    ensure!(out.status.success(), "{:?}: {}\n{errors}", command.get_program(), out.status);
    let mut all = Outcomes::new();
    let mark = format!("{MARK} ");
    let mut parts = stdout.split(&mark).skip(1);
    while let (Some(begin), Some(end)) = (parts.next(), parts.next()) {
        let (name, text) = begin.split_once('\n').context("a mark is a line")?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        all.insert(name.to_owned(), Ended { stdout: text.to_owned(), status: end.trim().parse().context("a status is a number")? });
    }
    Ok((all, errors))
}

/// Lines a program may print before groups of them are one case.
const LINES_AS_CASES: usize = 50_000;

/// A program's lines as cases, `PROGRAM/WORD-N` for the Nth line that begins with the word, `PROGRAM/WORD-more-N` for lines without one that follow it; and its exit status. Of very long outputs a thousand lines are a case.
pub(super) fn lines(outcomes: &Outcomes) -> Results {
    let mut results = Results::new();
    for (program, ended) in outcomes {
        results.insert(format!("{program}/exit"), format!("exit {}", ended.status));
        let lines: Vec<&str> = ended.stdout.lines().filter(|l| !l.trim().is_empty()).collect();
        if lines.len() > LINES_AS_CASES {
            results.extend(lines.chunks(1000).enumerate().map(|(n, group)| (format!("{program}/thousand-{n}"), format!("{:016x} {}", digest(group), group[0]))));
            continue;
        }
        let (mut seen, mut last) = (BTreeMap::<String, usize>::new(), "line".to_owned());
        for line in lines {
            let word = line.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if word.starts_with(|c: char| c.is_alphabetic()) {
                last = word.to_owned();
            }
            let word = if word == last { word.to_owned() } else { format!("{last}-more") };
            let count = seen.entry(word.clone()).or_default();
            *count += 1;
            results.insert(format!("{program}/{word}-{count}"), line.to_owned());
        }
    }
    results
}

/// Equal for equal values in one run of xtask: enough to compare, and short to print.
pub(super) fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
