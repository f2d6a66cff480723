//! `cargo xtask bench host`: what containers cost a host, beside bwrap, runc and crun on the same root filesystem.
//!
//! Owns how starts, execs and idle containers are counted, and what must be left of them: nothing. The fact a newcomer gets wrong: all peers take turns, so that a noisy minute hits each of them, and crun, which refuses
//! hosts with both versions of control groups, is run where the version 2 mount is hidden.

use super::{Bench, Rounds, median};
use crate::process::{emptied, output, run, work};
use crate::setup::Binaries;
use anyhow::{Context, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts of each peer, and seconds of sustained execs, for each of `--runs`.
const STARTS: usize = 20;
const SUSTAINED_SECONDS: usize = 20;
const IDLE: usize = 500;
/// Starts and ends in a row, for each of `--runs`, after which nothing may be left.
const CYCLES: usize = 1000;
/// Between two starts that are timed.
const PAUSE: Duration = Duration::from_millis(50);
const TRUE: &str = "/usr/bin/true";

/// Somebody who starts containers.
struct Peer<'a> {
    name: &'static str,
    start: Box<dyn FnMut(usize) -> anyhow::Result<()> + 'a>,
    milliseconds: Vec<f64>,
}

impl<'a> Peer<'a> {
    fn new(name: &'static str, start: impl FnMut(usize) -> anyhow::Result<()> + 'a) -> Self {
        Self { name, start: Box::new(start), milliseconds: Vec::new() }
    }
}

pub(super) fn host(bench: &mut Bench) -> anyhow::Result<()> {
    let before = Traces::now()?;
    let place = work().join("bench-host");
    emptied(&place)?;
    let daemon = Daemon::start(bench, &place)?;
    starts(bench, &place, &daemon)?;
    cycles(bench, &daemon)?;
    execs(bench, &place)?;
    idle(bench, &daemon)?;
    drop(daemon);
    // Containers that waited end with the daemon, a moment later.
    let limit = Instant::now() + Duration::from_secs(10);
    let mut left = Traces::now()?.beyond(&before);
    while !left.is_empty() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(100));
        left = Traces::now()?.beyond(&before);
    }
    ensure!(left.is_empty(), "containers left behind: {left:?}");
    println!("left behind: no process, no mount, no control group, no network namespace");
    fs::remove_dir_all(&place).context("cannot remove what the bench made")
}

/// Command to exit of a container with `true` in it.
fn starts(bench: &mut Bench, place: &Path, daemon: &Daemon) -> anyhow::Result<()> {
    let quiet = |mut c: Command| run(c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let rootfs = bench.release.rootfs.to_string_lossy().into_owned();
    let bundle = bundle(place, &rootfs)?;
    let release = &bench.release;
    // As it is installed: the small program that asks for a ready container is `vkernel` there.
    let installed = Binaries { vkernel: bench.binaries.vkernel.with_file_name("vkernel-front"), ..bench.binaries.clone() };
    let vkernel = |socket: &str| quiet(release.run(&installed, &["--socket", socket], &[TRUE]));
    let mut crun = Crun::new(&bundle)?;
    let mut peers = vec![
        Peer::new("vkernel", |_| vkernel("/nonexistent")),
        Peer::new("vkernel, ready containers", |_| vkernel(&daemon.socket)),
        Peer::new("bwrap", move |_| {
            let mut c = Command::new("bwrap");
            c.args(["--unshare-all", "--ro-bind", &rootfs, "/", "--proc", "/proc", "--dev", "/dev", TRUE]);
            quiet(c)
        }),
        Peer::new("crun", move |n| crun.start(n)),
        Peer::new("runc", move |n| {
            let mut c = Command::new("runc");
            c.args(["run", "--bundle", &bundle, &format!("bench-{n}")]);
            quiet(c)
        }),
    ];
    for n in 0..STARTS * bench.runs {
        for peer in &mut peers {
            // What a start leaves to be done afterwards is not the next one's, on the idle machine that this is about.
            std::thread::sleep(PAUSE);
            let clock = Instant::now();
            (peer.start)(n).with_context(|| peer.name)?;
            peer.milliseconds.push(clock.elapsed().as_secs_f64() * 1e3);
        }
    }
    peers.iter_mut().for_each(|peer| peer.milliseconds.sort_by(f64::total_cmp));
    let at = |peer: &Peer<'_>, percent: usize| peer.milliseconds[peer.milliseconds.len() * percent / 100];
    for peer in &peers {
        println!("start       {:<26} median {:>6.1} ms, 99th of 100 {:>6.1} ms", peer.name, at(peer, 50), at(peer, 99));
    }
    let served = at(&peers[1], 50);
    let others: Vec<(&str, f64)> = peers[2..].iter().map(|peer| (peer.name, at(peer, 50))).collect();
    drop(peers);
    others.into_iter().try_for_each(|(name, other)| bench.row("start", &format!("ready container / {name}"), "ms", Rounds::one(other, served), None))
}

/// A bundle with the same root filesystem, without a terminal.
fn bundle(place: &Path, rootfs: &str) -> anyhow::Result<String> {
    let bundle = place.join("bundle");
    fs::create_dir_all(&bundle)?;
    run(Command::new("runc").args(["spec", "--bundle"]).arg(&bundle))?;
    let file = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!([TRUE]);
    spec["root"] = serde_json::json!({"path": rootfs, "readonly": true});
    fs::write(&file, serde_json::to_vec(&spec)?)?;
    Ok(bundle.to_string_lossy().into_owned())
}

/// A shell in a mount namespace without version 2 control groups, which runs crun for every line it is given.
struct Crun {
    shell: Child,
    lines: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Crun {
    fn new(bundle: &str) -> anyhow::Result<Self> {
        let script = "umount /sys/fs/cgroup/unified 2> /dev/null; while read id; do crun run --bundle \"$0\" $id > /dev/null < /dev/null; echo $?; done";
        let mut c = Command::new("unshare");
        c.args(["--mount", "sh", "-c", script, bundle]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = c.spawn().context("cannot start unshare")?;
        let (lines, told) = (shell.stdin.take().context("no input")?, shell.stdout.take().context("no output")?);
        Ok(Self { shell, lines, told: BufReader::new(told) })
    }

    fn start(&mut self, n: usize) -> anyhow::Result<()> {
        writeln!(self.lines, "bench-{n}")?;
        let mut line = String::new();
        self.told.read_line(&mut line)?;
        ensure!(line.trim() == "0", "ended with {line:?}");
        Ok(())
    }
}

impl Drop for Crun {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// One after the other, by the caller and in ready containers in turn.
fn cycles(bench: &Bench, daemon: &Daemon) -> anyhow::Result<()> {
    let count = CYCLES * bench.runs;
    let clock = Instant::now();
    for n in 0..count {
        let socket = if n % 2 == 0 { "/nonexistent" } else { &daemon.socket };
        run(bench.release.run(&bench.binaries, &["--socket", socket, "--root", &daemon.root], &[TRUE]).stdin(Stdio::null()).stdout(Stdio::null()))?;
    }
    println!("cycles      {count} starts and ends in {:.0} s", clock.elapsed().as_secs_f64());
    Ok(())
}

/// What a guest's own execs cost: how many a second, and how long the supervisor thinks.
fn execs(bench: &mut Bench, place: &Path) -> anyhow::Result<()> {
    let seconds = SUSTAINED_SECONDS * bench.runs;
    let one = format!("n=0; end=$((SECONDS+{seconds})); while ((SECONDS<end)); do {TRUE}; n=$((n+1)); done; echo $n");
    let script = format!("({one}) & ({one}) & wait");
    let rate = |out: std::process::Output| -> anyhow::Result<f64> {
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let counts: Vec<f64> = String::from_utf8_lossy(&out.stdout).lines().filter_map(|l| l.trim().parse().ok()).collect();
        ensure!(counts.len() == 2, "two shells count, {} told", counts.len());
        Ok(counts.iter().sum::<f64>() / seconds as f64)
    };
    let native = rate(output(Command::new("chroot").arg(&bench.release.rootfs).args(["/bin/bash", "-c", &script]))?)?;
    let audit = place.join("audit");
    let audited = ["--audit", &audit.to_string_lossy()];
    let vkernel = rate(output(&mut bench.release.run(&bench.binaries, &audited, &["/bin/bash", "-c", &script]))?)?;
    println!("execs       two shells for {seconds} s: {native:.0} a second natively, {vkernel:.0} under vkernel");
    bench.row("execs", "one, in a shell's loop", "us", Rounds::one(1e6 / native, 1e6 / vkernel), None)?;
    let mut latencies = Vec::new();
    for line in fs::read_to_string(&audit)?.lines() {
        let record: serde_json::Value = serde_json::from_str(line)?;
        if record["event"] == "exec" && record["path"].as_str().is_some_and(|p| p.ends_with("true")) {
            latencies.extend(record["latency_us"].as_f64());
        }
    }
    ensure!(!latencies.is_empty(), "no exec stands in the audit log");
    println!("decision    median of {} with a cached verdict: {:.1} us", latencies.len(), median(latencies));
    Ok(())
}

/// Memory of many idle containers of one release.
fn idle(bench: &Bench, daemon: &Daemon) -> anyhow::Result<()> {
    let start = |n: usize| -> anyhow::Result<()> {
        let options = ["--socket", &daemon.socket, "--root", &daemon.root, "--detach", "--rm", "--name", &format!("bench-idle-{n}")];
        run(bench.release.run(&bench.binaries, &options, &["/usr/bin/sleep", "3600"]).stdout(Stdio::null()))
    };
    start(0)?;
    let one = daemon.memory()?;
    (1..IDLE).try_for_each(start)?;
    std::thread::sleep(Duration::from_secs(1));
    let all = daemon.memory()?;
    println!(
        "idle        {IDLE} containers: {} KiB of PSS in the daemon, keepers and guests; the first {} KiB, each further one {} KiB",
        all,
        one,
        (all - one) / (IDLE as u64 - 1)
    );
    let names: Vec<String> = (0..IDLE).map(|n| format!("bench-idle-{n}")).collect();
    let vkernel = &bench.binaries.vkernel;
    run(Command::new(vkernel).args(["--socket", &daemon.socket, "--root", &daemon.root, "rm", "--force"]).args(&names).stdout(Stdio::null()))
}

/// `vkernel serve` with a place of its own.
struct Daemon {
    process: Child,
    socket: String,
    root: String,
}

impl Daemon {
    fn start(bench: &Bench, place: &Path) -> anyhow::Result<Self> {
        let path = |name: &str| place.join(name).to_string_lossy().into_owned();
        let (socket, root, config) = (path("run/vkernel.sock"), path("containers"), path("config"));
        fs::create_dir_all(place.join("config/keys"))?;
        fs::copy(&bench.release.public_key, place.join("config/keys/bench.pub"))?;
        fs::write(place.join("config/serve.toml"), "zygotes = 1\n")?;
        let mut c = Command::new("setpriv");
        c.args(["--pdeathsig", "TERM"]).arg(&bench.binaries.vkernel).args(["serve", "--socket", &socket, "--root", &root, "--config", &config]);
        let process = c.stderr(fs::File::create(place.join("serve.log"))?).spawn().context("cannot start the daemon")?;
        let daemon = Self { process, socket, root };
        let limit = Instant::now() + Duration::from_secs(10);
        while !Path::new(&daemon.socket).exists() {
            ensure!(Instant::now() < limit, "the daemon does not listen: see {}", path("serve.log"));
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// KiB of PSS of every process that runs our program.
    fn memory(&self) -> anyhow::Result<u64> {
        let program = fs::read_link(format!("/proc/{}/exe", self.process.id()))?;
        let pss = |pid: PathBuf| {
            // A guest's program is on a mount of its own; the file is the same.
            let same = fs::read_link(pid.join("exe")).ok()?.file_name() == program.file_name();
            let text = fs::read_to_string(pid.join("smaps_rollup")).ok().filter(|_| same)?;
            text.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        };
        Ok(processes()?.filter_map(pss).sum())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // With containers gone, TERM ends the holder too.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn processes() -> anyhow::Result<impl Iterator<Item = PathBuf>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).map(|e| e.path()))
}

/// What containers could leave on a host.
struct Traces(BTreeSet<String>);

impl Traces {
    fn now() -> anyhow::Result<Self> {
        let mut found = BTreeSet::new();
        for process in processes()? {
            let Ok(exe) = fs::read_link(process.join("exe")) else { continue };
            if exe.file_name().is_some_and(|name| name == "vkernel") {
                found.insert(format!("process {}", process.display()));
            }
            found.extend(fs::read_link(process.join("ns/net")).map(|ns| format!("namespace {}", ns.display())));
        }
        found.extend(fs::read_to_string("/proc/self/mountinfo")?.lines().map(|l| format!("mount {l}")));
        for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
            let groups = fs::read_dir(hierarchy.path().join("vkernel")).into_iter().flatten().flatten();
            found.extend(groups.map(|g| format!("group {}", g.path().display())));
        }
        Ok(Self(found))
    }

    fn beyond(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}
