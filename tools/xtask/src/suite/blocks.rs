//! `cargo xtask suite blocks`: random basic blocks, natively and lifted in both forms; what differs is shrunk and shown as assembly.
//!
//! Owns the runs and the shrinking; the blocks are made by `tools/lift/examples/random_blocks`, and a block is a line of text here. Each is a function of its own, so that LLVM's time stays linear. The fact a newcomer gets wrong: without
//! `--fresh` the seeds are always the same ones, so that a run means the same on every day.

use super::verdict::{self, Verdict};
use crate::process::{self, output, root, say, work};
use crate::release::{self, Release};
use crate::rootfs;
use crate::setup::{self, Binaries};
use crate::test;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const IN_IMAGE: &str = "usr/local/lib/blocks";
const PER_PROGRAM: usize = 1000;
/// Blocks that once differed, run before the random ones.
const KEPT: &str = "integration-tests/suites/blocks-kept.txt";
const FORMS: [&str; 2] = ["structured", "resumable"];
/// Random states per block.
const STATES: &str = "100";
/// How many differing blocks are shrunk: mostly they differ for one reason.
const SHRUNK: usize = 3;

/// What to run.
#[derive(Clone, Copy)]
pub(crate) struct Seeds {
    pub count: u64,
    pub first: u64,
}

/// What `suite blocks` runs.
pub(crate) const USUAL: Seeds = Seeds { count: 4000, first: 1 };
/// What `--smoke` runs.
pub(crate) const SMOKE: Seeds = Seeds { count: 300, first: 1 };

impl Seeds {
    /// Seeds nobody ran before, from the clock.
    pub(crate) fn fresh(count: u64) -> anyhow::Result<Self> {
        Ok(Self { count, first: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() * 1000 })
    }
}

/// A block in one form is a case.
pub(crate) fn run(seeds: Seeds) -> anyhow::Result<Verdict> {
    let runner = Runner::new()?;
    let Seeds { count, first } = seeds;
    say(&format!("{count} random blocks: `suite blocks --first {first} --seeds {count}`"));
    let kept = fs::read_to_string(root().join(KEPT))?;
    let made = generator(&["generate", &first.to_string(), &count.to_string()])?;
    ensure!(made.lines().count() as u64 == count, "{} blocks were made", made.lines().count());
    let lines: Vec<&str> = kept.lines().filter(|l| !l.starts_with('#')).chain(made.lines()).collect();
    let differing = runner.differing(&lines)?;
    if !differing.is_empty() {
        println!("{} differ: {}", differing.len(), differing.iter().map(|(l, _)| name(l)).collect::<Vec<_>>().join(" "));
    }
    for (line, what) in differing.iter().take(SHRUNK) {
        let shrunk = runner.shrink(line)?;
        println!("DIFFERS {what}\n{}", runner.shown(&shrunk)?);
    }
    let cases = FORMS.len() * lines.len();
    let verdict = Verdict { suite: "blocks".to_owned(), cases, passing: cases, equal: cases - differing.len(), expected: 0, refused: 0, stale: Vec::new() };
    verdict::print(std::slice::from_ref(&verdict));
    Ok(verdict)
}

fn name(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(name, _)| name)
}

/// Runs `random_blocks`.
fn generator(words: &[&str]) -> anyhow::Result<String> {
    let out = output(Command::new(test::example_of_lift("random_blocks")?).args(words))?;
    ensure!(out.status.success(), "random_blocks {words:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?)
}

/// Checksums by block.
type Sums = BTreeMap<String, String>;

struct Runner {
    binaries: Binaries,
    image: PathBuf,
    sources: PathBuf,
}

impl Runner {
    fn new() -> anyhow::Result<Self> {
        let sources = work().join("blocks-sources");
        fs::create_dir_all(&sources)?;
        Ok(Self { binaries: setup::binaries()?, image: rootfs::copy(&rootfs::debian()?, "blocks-rootfs")?, sources })
    }

    /// The lines whose blocks do not end as natively, and in which form.
    fn differing(&self, lines: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let programs = self.compile(lines)?;
        let release = release::build(&self.binaries, "blocks", &self.image, &programs)?;
        let mut differing = Vec::new();
        for program in &programs {
            let native = sums(Command::new("chroot").arg(&self.image).args([program, STATES]))?;
            for form in FORMS {
                let lifted = self.lifted(&release, form, program)?;
                let different = |l: &&&str| native.get(name(l)).is_some_and(|n| lifted.get(name(l)) != Some(n));
                differing.extend(lines.iter().filter(different).map(|l| ((*l).to_owned(), format!("block {} differs in the {form} form", name(l)))));
            }
        }
        Ok(differing)
    }

    fn lifted(&self, release: &Release, form: &str, program: &str) -> anyhow::Result<Sums> {
        let options: &[&str] = if form == "resumable" { &["--form", "resumable"] } else { &[] };
        sums(&mut release.run(&self.binaries, options, &[program, STATES]))
    }

    /// Programs of a thousand blocks each; their paths in the image.
    fn compile(&self, lines: &[&str]) -> anyhow::Result<Vec<String>> {
        let into = self.image.join(IN_IMAGE);
        process::emptied(&into)?;
        let driver = root().join("integration-tests/programs/x86/driver.c");
        let mut programs = Vec::new();
        for (k, group) in lines.chunks(PER_PROGRAM).enumerate() {
            let (list, source) = (self.sources.join(format!("{k}.txt")), self.sources.join(format!("{k}.s")));
            fs::write(&list, group.iter().map(|l| format!("{l}\n")).collect::<String>())?;
            fs::write(&source, generator(&["assemble", &list.to_string_lossy()])?)?;
            process::run(Command::new("gcc").args(["-O2", "-no-pie", "-o"]).arg(into.join(format!("blocks-{k}"))).arg(&source).arg(&driver))?;
            programs.push(format!("/{IN_IMAGE}/blocks-{k}"));
        }
        Ok(programs)
    }

    /// Leaves out instructions as long as the block still differs. All blocks with one instruction less are one program.
    fn shrink(&self, line: &str) -> anyhow::Result<String> {
        let mut words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
        loop {
            let shorter = |k: usize| words.iter().enumerate().filter(move |(n, _)| *n != k).map(|(_, w)| w.as_str()).collect::<Vec<_>>().join(" ");
            let candidates: Vec<String> = (0..words.len()).map(|k| format!("{k} {}", shorter(k))).collect();
            let lines: Vec<&str> = candidates.iter().map(String::as_str).filter(|l| l.contains(' ') && !l.ends_with(' ')).collect();
            if lines.is_empty() {
                break;
            }
            let Some((still, _)) = self.differing(&lines)?.into_iter().next() else { break };
            words = still.split(' ').skip(1).map(str::to_owned).collect();
        }
        Ok(format!("{} {}", name(line), words.join(" ")))
    }

    fn shown(&self, line: &str) -> anyhow::Result<String> {
        let file = self.sources.join("shrunk.txt");
        fs::write(&file, line)?;
        generator(&["show", &file.to_string_lossy()])
    }
}

/// Runs a program of blocks.
fn sums(command: &mut Command) -> anyhow::Result<Sums> {
    let out = process::successful(command)?;
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines().map(|l| l.split_once(' ').map(|(n, s)| (n.to_owned(), s.to_owned())).with_context(|| format!("no checksum: {l}"))).collect()
}
