//! `verify --start PROGRAM`: how long a release takes from the command to the end of a program, by itself and where a daemon keeps containers ready.
//!
//! Owns the measurement. The fact a newcomer gets wrong: the first starts copy the release into a store and let the daemon see what is started, and are not counted; store, memory of serials and daemon are temporary ones, so that verifying leaves no
//! trace on the host.

use crate::verifying::KEYS_DIRECTORY;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "vkernel";
/// The program that asks for a ready container, as a build tree calls it; installed, it is `vkernel`.
const FRONT: &str = "vkernel-front";
const INSTALLED: &str = "/usr/bin/vkernel";
/// Enough for a median that one slow start does not move.
const RUNS: usize = 9;
/// Before a start: in it the daemon makes the next container ready.
const PAUSE: Duration = Duration::from_millis(100);
const DAEMON_BEGINS: Duration = Duration::from_secs(20);

/// What to start, and whom to believe.
pub struct Start<'a> {
    pub manifest: &'a Path,
    pub rootfs: &'a Path,
    pub keys: &'a [PathBuf],
    pub threshold: usize,
    pub program: &'a str,
}

/// Medians in milliseconds.
pub struct Taken {
    /// Started by the command itself.
    pub alone: f64,
    /// Where a daemon keeps containers ready (`zygotes` in serve.toml).
    pub ready: f64,
}

/// The runtime: beside this program or where it is installed, never from PATH.
pub fn vkernel() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where this program is")?;
    let found = own.parent().map(|d| d.join(PROGRAM)).into_iter().chain([INSTALLED.into()]).find(|p| p.is_file());
    found.with_context(|| format!("{PROGRAM} is neither beside {} nor in /usr/bin: install it", own.display()))
}

pub fn measure(s: &Start<'_>) -> anyhow::Result<Taken> {
    let vkernel = vkernel()?;
    let front = Some(vkernel.with_file_name(FRONT)).filter(|f| f.is_file()).unwrap_or_else(|| vkernel.clone());
    let place = tempfile::tempdir().context("cannot make a temporary directory")?;
    let alone = median(s, &vkernel, place.path(), &place.path().join("nobody"))?;
    let daemon = Daemon::start(&vkernel, place.path(), s.keys)?;
    Ok(Taken { alone, ready: median(s, &front, place.path(), &daemon.socket)? })
}

/// From the command to the program's end.
fn median(s: &Start<'_>, vkernel: &Path, place: &Path, socket: &Path) -> anyhow::Result<f64> {
    let run = || -> anyhow::Result<f64> {
        let mut c = Command::new(vkernel);
        c.arg("--socket").arg(socket).arg("--root").arg(place.join("containers"));
        c.arg("run").arg(s.manifest).arg("--rootfs").arg(s.rootfs).arg("--store").arg(place.join("store")).arg("--serials").arg(place.join("serials"));
        s.keys.iter().for_each(|k| {
            c.arg("--key").arg(k);
        });
        c.arg("--threshold").arg(s.threshold.to_string());
        c.args(["--", s.program]).env_remove("RUST_MIN_STACK").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        std::thread::sleep(PAUSE);
        let clock = Instant::now();
        let out = c.output().with_context(|| format!("cannot start {}", vkernel.display()))?;
        let taken = clock.elapsed().as_secs_f64() * 1e3;
        ensure!(out.status.success(), "{} does not start: {}", s.program, String::from_utf8_lossy(&out.stderr).trim());
        Ok(taken)
    };
    run()?;
    run()?;
    let mut taken = (0..RUNS).map(|_| run()).collect::<anyhow::Result<Vec<f64>>>()?;
    taken.sort_by(f64::total_cmp);
    Ok(taken[RUNS / 2])
}

/// `vkernel serve` that ends with this process at the latest.
struct Daemon {
    process: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(vkernel: &Path, place: &Path, keys: &[PathBuf]) -> anyhow::Result<Self> {
        let (socket, config, log) = (place.join("daemon.sock"), place.join("config"), place.join("log"));
        fs::create_dir_all(&config)?;
        if keys.is_empty() {
            // As for the command: whom the host trusts.
            std::os::unix::fs::symlink(KEYS_DIRECTORY, config.join("keys"))?;
        } else {
            fs::create_dir(config.join("keys"))?;
        }
        for (n, key) in keys.iter().enumerate() {
            fs::copy(key, config.join(format!("keys/{n}.pub"))).with_context(|| format!("cannot read {}", key.display()))?;
        }
        fs::write(config.join("serve.toml"), "zygotes = 1\n")?;
        let mut c = Command::new("setpriv");
        c.args(["--pdeathsig", "TERM"]).arg(vkernel).arg("--socket").arg(&socket).arg("--root").arg(place.join("containers")).arg("serve").arg("--config").arg(&config);
        let process = c.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?).spawn().context("cannot start vkernel serve (by setpriv)")?;
        let mut daemon = Self { process, socket };
        let limit = Instant::now() + DAEMON_BEGINS;
        while !daemon.socket.exists() {
            let waits = Instant::now() < limit && daemon.process.try_wait()?.is_none();
            ensure!(waits, "vkernel serve does not begin: {}", fs::read_to_string(&log).unwrap_or_default().trim());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
