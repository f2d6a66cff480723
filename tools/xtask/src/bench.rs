//! `cargo xtask bench`: native and vkernel side by side, medians, one table and target/bench.json.
//!
//! Owns how figures are taken. Times of programs are taken by a bash *inside* the chroot or container (`time`), so that container start is not in them; `start` measures that.
//! The fact a newcomer gets wrong: runs of the two sides alternate, and a ratio is the median of the rounds' ratios, not of the medians: a noisy minute hits both sides of a round.

mod data;
mod host;
mod programs;

use crate::process::{self, output, root, say};
use crate::release::Release;
use crate::setup::Binaries;
use crate::{demo, release, rootfs, setup};
use anyhow::{Context, ensure};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

const KERNELS: &[&str] = &["fib", "sieve", "sha256", "matmul", "quicksort", "interpreter", "strings", "nbody", "hashmap", "tree", "printf"];
/// How the kernels are linked.
const FORMS: [&str; 2] = ["static", "dynamic"];
const PROGRAMS: &[(&str, &str)] = &[
    ("ls -lR of 20,000 files", "ls -lR /srv/tree"),
    ("sort of 1 M lines", "sort /srv/lines"),
    // Into a pipe: grep that writes to /dev/null stops at the first match.
    ("grep over 100 MB", "grep -c 99999 /srv/text | cat"),
    ("bash loop of 100,000", "bash -c 'for ((i=0;i<100000;i++)); do x=$((x+i)); done'"),
];
const SYSCALLS: &[&str] = &["getpid", "read4k", "write4k", "open+fstat+close", "fork+wait", "pipe ping-pong"];

#[derive(Serialize)]
struct Row {
    group: String,
    name: String,
    unit: &'static str,
    native: f64,
    vkernel: f64,
    ratio: f64,
    qemu: Option<f64>,
}

struct Bench {
    binaries: Binaries,
    release: Release,
    runs: usize,
    /// Of both sides, besides PATH.
    environment: Vec<&'static str>,
    rows: Vec<Row>,
}

/// A group with an image of its own: it is run alone.
type Group = fn(Binaries, usize) -> anyhow::Result<()>;

/// One figure of both sides per round.
#[derive(Default)]
struct Rounds {
    native: Vec<f64>,
    vkernel: Vec<f64>,
}

impl Rounds {
    fn one(native: f64, vkernel: f64) -> Self {
        Self { native: vec![native], vkernel: vec![vkernel] }
    }
}

pub(crate) fn run(groups: &[String], runs: usize) -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    // Images that take minutes to compile: only when asked for.
    let alone = |g: &String| programs::GROUPS.iter().find(|(name, _)| name == g);
    match groups {
        [group] if alone(group).is_some() => return alone(group).map_or(Ok(()), |(_, run)| run(binaries, runs)),
        _ => ensure!(
            groups.iter().all(|g| alone(g).is_none()),
            "{} have images of their own: run each alone",
            programs::GROUPS.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ")
        ),
    }
    let image = image(&rootfs::debian()?)?;
    let mut include = demo::programs();
    include.extend(["kernels-dynamic", "kernels-static", "syscalls"].map(|p| format!("/usr/local/bench/{p}")));
    say("building the bench release");
    let release = release::build(&binaries, "bench", &image, &include)?;
    let mut bench = Bench::new(binaries, release, runs);
    let wanted = |g: &str| groups.is_empty() || groups.iter().any(|x| x == g);
    heading();
    if wanted("compute") {
        for form in FORMS {
            for kernel in KERNELS {
                bench.compute(form, kernel)?;
            }
        }
    }
    if wanted("programs") {
        for (name, command) in PROGRAMS {
            bench.timed("programs", name, command, None)?;
        }
    }
    if wanted("syscalls") {
        for name in SYSCALLS {
            bench.inside("syscalls", name)?;
        }
    }
    if wanted("exec") {
        bench.inside("exec", "fork+exec+wait")?;
    }
    if wanted("start") {
        bench.start()?;
    }
    // Minutes of containers: only when asked for.
    if groups.iter().any(|g| g == "host") {
        host::host(&mut bench)?;
    }
    bench.finish()
}

fn heading() {
    println!("{:<11} {:<26} {:>11} {:>11} {:>6} {:>8}", "group", "name", "native", "vkernel", "ratio", "qemu");
}

/// What a program that measures itself printed.
fn figure(out: &Output) -> anyhow::Result<f64> {
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.trim().parse::<f64>().with_context(|| format!("no figure in {text:?}"))
}

impl Bench {
    fn new(binaries: Binaries, release: Release, runs: usize) -> Self {
        Self { binaries, release, runs, environment: Vec::new(), rows: Vec::new() }
    }

    fn compute(&mut self, form: &str, kernel: &str) -> anyhow::Result<()> {
        let program = format!("/usr/local/bench/kernels-{form}");
        let start = Instant::now();
        let host_path = self.release.rootfs.join(&program[1..]);
        let qemu = output(Command::new("qemu-x86_64").arg("-L").arg(&self.release.rootfs).arg(&host_path).arg(kernel))?;
        let qemu = qemu.status.success().then(|| start.elapsed().as_secs_f64() * 1e3);
        self.timed("compute", &format!("{kernel} {form}"), &format!("{program} {kernel}"), qemu)
    }

    /// A command timed by bash inside, in milliseconds.
    fn timed(&mut self, group: &str, name: &str, command: &str, qemu: Option<f64>) -> anyhow::Result<()> {
        let script = format!("TIMEFORMAT=%3R; time {command} > /dev/null");
        let rounds = self.alternate(&["/bin/bash", "-c", &script], |out| {
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            let line = text.lines().last().unwrap_or_default().to_owned();
            line.trim().parse::<f64>().map(|s| s * 1e3).with_context(|| format!("no time in {text:?}"))
        })?;
        self.row(group, name, "ms", rounds, qemu)
    }

    /// A program that measures itself and prints nanoseconds.
    fn inside(&mut self, group: &str, name: &str) -> anyhow::Result<()> {
        let rounds = self.alternate(&["/usr/local/bench/syscalls", name], figure)?;
        self.row(group, name, "ns", rounds, None)
    }

    /// Cold command to exit; the native twin is `chroot … true` in fresh namespaces.
    fn start(&mut self) -> anyhow::Result<()> {
        let mut rounds = Rounds::default();
        for _ in 0..self.runs {
            let clock = Instant::now();
            let namespaces = ["--mount", "--pid", "--ipc", "--uts", "--net", "--fork", "chroot"];
            process::run(Command::new("unshare").args(namespaces).arg(&self.release.rootfs).arg("/usr/bin/true"))?;
            rounds.native.push(clock.elapsed().as_secs_f64() * 1e3);
            let clock = Instant::now();
            process::run(&mut self.release.run(&self.binaries, &[], &["/usr/bin/true"]))?;
            rounds.vkernel.push(clock.elapsed().as_secs_f64() * 1e3);
        }
        self.row("start", "run /usr/bin/true", "ms", rounds, None)
    }

    /// A program natively, and under vkernel.
    fn sides(&self, program: &[&str]) -> [Command; 2] {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut chroot = Command::new("chroot");
        chroot.arg(&self.release.rootfs).args(["/usr/bin/env", "-i", path]).args(&self.environment).args(program);
        let options: Vec<&str> = self.environment.iter().flat_map(|e| ["--env", e]).collect();
        [chroot, self.release.run(&self.binaries, &options, program)]
    }

    /// Runs both sides alternately; what `figure` reads from their output.
    fn alternate(&self, program: &[&str], figure: impl Fn(&Output) -> anyhow::Result<f64>) -> anyhow::Result<Rounds> {
        let mut rounds = Rounds::default();
        for _ in 0..self.runs {
            for (mut command, figures) in self.sides(program).into_iter().zip([&mut rounds.native, &mut rounds.vkernel]) {
                figures.push(figure(&process::successful(&mut command)?)?);
            }
        }
        Ok(rounds)
    }

    /// Refuses to measure what does something else than natively.
    fn same_output(&self, program: &[&str]) -> anyhow::Result<()> {
        let [native, vkernel] = self.sides(program).map(|mut side| process::successful(&mut side));
        ensure!(native?.stdout == vkernel?.stdout, "{program:?} prints something else than natively");
        Ok(())
    }

    fn row(&mut self, group: &str, name: &str, unit: &'static str, rounds: Rounds, qemu: Option<f64>) -> anyhow::Result<()> {
        ensure!(rounds.native.iter().all(|n| *n > 0.0), "{group} {name}: the native run is too short to measure");
        let ratio = median(rounds.vkernel.iter().zip(&rounds.native).map(|(v, n)| v / n).collect());
        let (native, vkernel) = (median(rounds.native), median(rounds.vkernel));
        let shown = qemu.map_or(String::new(), |q| format!("{q:.0}"));
        println!("{group:<11} {name:<26} {native:>8.1} {unit} {vkernel:>8.1} {unit} {ratio:>6.2} {shown:>8}");
        self.rows.push(Row { group: group.to_owned(), name: name.to_owned(), unit, native, vkernel, ratio, qemu });
        Ok(())
    }

    fn finish(&self) -> anyhow::Result<()> {
        let mut groups: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for r in &self.rows {
            let form = FORMS.iter().find(|f| r.group == "compute" && r.name.ends_with(**f)).map(|f| format!("compute {f}"));
            for group in [Some(r.group.clone()), form].into_iter().flatten() {
                groups.entry(group).or_default().push(r.ratio.ln());
            }
        }
        let geomean: BTreeMap<&String, f64> = groups.iter().map(|(g, v)| (g, (v.iter().sum::<f64>() / v.len() as f64).exp())).collect();
        println!();
        for (group, mean) in &geomean {
            println!("geomean {group:<16} {mean:.2}");
        }
        let dir = self.release.manifest.parent().context("a release has a directory")?;
        println!("container.wasm {} MB, native code {} MB", megabytes(&dir.join("container.wasm"))?, megabytes(&dir.join("aot"))?);
        let json = serde_json::json!({ "rows": self.rows, "geomean": geomean });
        let path = root().join("target/bench.json");
        fs::write(&path, serde_json::to_vec_pretty(&json)?)?;
        println!("written: target/bench.json");
        Ok(())
    }
}

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn megabytes(path: &Path) -> anyhow::Result<u64> {
    let out = output(Command::new("du").args(["--summarize", "--block-size=1M"]).arg(path))?;
    Ok(String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap_or("0").parse()?)
}

/// A copy of the root filesystem with kernels and data.
fn image(rootfs: &Path) -> anyhow::Result<PathBuf> {
    let image = rootfs::copy(rootfs, "bench-rootfs")?;
    let bench = image.join("usr/local/bench");
    if !image.join("srv/text").exists() {
        say("making the bench image's data");
        data::common(&image.join("srv"))?;
    }
    fs::create_dir_all(&bench)?;
    let sources = root().join("integration-tests/programs/bench");
    for (name, source, extra) in [("kernels-dynamic", "kernels.c", None), ("kernels-static", "kernels.c", Some("-static-pie")), ("syscalls", "syscalls.c", None)] {
        process::run(Command::new("gcc").args(["-O2", "-w"]).args(extra).arg("-o").arg(bench.join(name)).arg(sources.join(source)).arg("-lm"))?;
    }
    Ok(image)
}
