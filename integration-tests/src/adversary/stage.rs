//! One run of one program: the directories it is given, the hostile surroundings it is started in, what is left of it.
//!
//! Owns what of the host is watched: the canary's mark, the runtime's file, the image, files that are given read-only or as a stream. The fact a newcomer gets wrong: whoever starts the container stands in a directory of
//! the host with descriptors of the host open, in every case, not only where that is the attack.

use super::cases::Case;
use super::mode::Mode;
use super::outside::{self, Outside};
use super::{Natively, Share, Side};
use crate::Setup;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(240);
/// Where a canary that runs on the host itself leaves its mark; the canary's source says the same.
const MARK_OF_THE_HOST: &str = "/var/tmp/vkernel-adversary-mark";
/// A file of the host that no container is given; `attack.h` says the same.
const HOSTS: &str = "adversary-secret-of-the-host";
/// Starts the container as nobody should: in a directory of the host, with some of it open. Arguments: the stage, then the command.
const CALLER: &str = r#"stage=$1; shift; cd "$stage/secret"; exec 5< . 6< / 7<> adversary-secret-of-the-host 8< "$stage"; exec "$@""#;

/// The same with the audit log on a disk of its own, which only the caller sees.
const CALLER_WITH_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=400k log "$1/log"; exec bash -c "$CALLER" caller "$@""#;

/// The same on a terminal, in the process group of a script of the host's (`vkernel run … > file` in a script).
const CALLER_ON_A_TERMINAL: &str =
    r#"export STAGE=$1; shift; cd "$STAGE/secret"; export COMMAND="${*@Q}"; exec script --quiet --return --command "bash '$STAGE/session'" /dev/null"#;
/// That script: a signal that it gets, or another priority, was none of the guest's to give.
const SESSION: &str = r#"before=$(nice)
trap 'echo won a process of the host got the signal >> "$STAGE/stdout"' USR1
eval "$COMMAND" >> "$STAGE/stdout" 2>> "$STAGE/stderr"
code=$?
[ "$(nice)" = "$before" ] || echo won a process of the host is $(nice) nice >> "$STAGE/stdout"
exit $code
"#;

pub struct Stage {
    dir: tempfile::TempDir,
    pub(super) manifest: PathBuf,
    /// The log's disk has room for some thousand records only.
    pub(super) small_log: bool,
    /// Whoever starts it sits at a terminal.
    pub(super) terminal: bool,
    /// It, held open: it goes with its last user.
    log_disk: RefCell<Option<fs::File>>,
}

/// What a run left.
#[derive(Debug, Default)]
pub struct Ended {
    pub(super) status: Option<i32>,
    pub(super) hung: bool,
    out: String,
    errors: String,
    /// Marks, and files of the host that changed.
    pub(super) traces: Vec<String>,
    /// The audit log, where there is one.
    pub(super) log: Option<String>,
    /// Execs beside those the program counts.
    pub(super) further_execs: u64,
}

impl Ended {
    pub(super) fn won(&self) -> impl Iterator<Item = &str> {
        self.out.lines().filter_map(|l| l.strip_prefix("won "))
    }

    pub(super) fn has(&self, line: &str) -> bool {
        self.out.lines().any(|l| l == line)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.out.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    pub(super) fn text(&self) -> String {
        format!("{}{}", self.out, self.errors)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// The container's name.
    pub(super) const NAME: &'static str = "adversary";

    pub fn new() -> Self {
        let setup = Setup::get();
        let beside = setup.rootfs.parent().expect("the image has a parent");
        let stage =
            Self { dir: tempfile::tempdir_in(beside).expect("a directory can be made"), manifest: setup.manifest, small_log: false, terminal: false, log_disk: RefCell::new(None) };
        for dir in ["out", "precious", "secret", "log", "containers"] {
            fs::create_dir(stage.path(dir)).expect("the stage is ours");
        }
        let mode = |path: &str, mode| fs::set_permissions(stage.path(path), fs::Permissions::from_mode(mode)).expect("the stage is ours");
        for (file, text) in
            [("precious/file", "precious\n"), ("stream", "of the host\n"), ("stdout", ""), ("stderr", ""), ("session", SESSION), (&format!("secret/{HOSTS}"), "secret\n")]
        {
            fs::write(stage.path(file), text).expect("the stage is ours");
        }
        mode("", 0o755);
        mode("out", 0o777);
        mode("stdout", 0o666);
        stage
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path("log/audit.jsonl")
    }

    pub(super) fn out(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap_or_default()
    }

    /// Runs one side of a case to its end.
    pub(super) fn run(mut self, case: &Case, mode: &Mode, side: Side, share: Share) -> Ended {
        mode.tidy();
        let before = self.watched();
        let program = format!("/usr/local/lib/adversary/{}", case.name);
        let tries = share.of(case.tries).to_string();
        let words = [program.as_str(), if side == Side::Attack { "attack" } else { "twin" }, &tries];
        let (mut ended, mut further) = (Ended::default(), Vec::new());
        outside::prepare(&mut self, case);
        let mut child = self.start(mode.command(&self, case.options, &words));
        let begun = Instant::now();
        if let Some(outside) = case.outside {
            if self.until(&mut child, begun, |s| s.out().contains("ready\n")) {
                let mut outsider = Outside { stage: &self, mode, child: child.id(), share, further_execs: 0 };
                match outside(&mut outsider, side) {
                    Ok(won) => further = won,
                    Err(e) => ended.errors = format!("outside: {e}\n"),
                }
                ended.further_execs = outsider.further_execs;
            }
            fs::write(self.path("out/done"), "").expect("the stage is ours");
        }
        ended.hung = !self.until(&mut child, begun, |_| false);
        ended.status = child.try_wait().ok().flatten().and_then(|s| s.code());
        if ended.hung {
            let _ = child.kill();
            let _ = child.wait();
        }
        mode.clear(&self);
        ended.out = self.out();
        further.iter().for_each(|w| ended.out += &format!("won {w}\n"));
        ended.errors += &fs::read_to_string(self.path("stderr")).unwrap_or_default();
        ended.traces = self.traces(before);
        let logged = !matches!(mode, Mode::Unprotected);
        let log = self.log_disk.borrow().as_ref().map_or_else(|| self.log(), |disk| self.log_on(&held(disk)));
        ended.log = logged.then(|| fs::read_to_string(log).unwrap_or_default());
        ended
    }

    /// Output goes to files of the host, input comes from one: as streams of a container often do.
    fn start(&self, command: Command) -> Child {
        let open = |name: &str| fs::OpenOptions::new().append(true).create(true).open(self.path(name)).expect("the stage is ours");
        let mut c = self.started_carelessly(&command);
        c.stdin(fs::File::open(self.path("stream")).map_or_else(|_| Stdio::null(), Stdio::from)).stdout(open("stdout")).stderr(open("stderr"));
        c.spawn().expect("setpriv starts")
    }

    /// The command, started by somebody who does not look after what he has open.
    pub(super) fn started_carelessly(&self, command: &Command) -> Command {
        let mut c = Command::new("setpriv");
        c.args(["--pdeathsig", "KILL"]).env("CALLER", CALLER);
        if self.small_log {
            c.args(["unshare", "--mount", "--propagation", "private"]);
        }
        let script = match () {
            () if self.small_log => CALLER_WITH_A_SMALL_DISK,
            () if self.terminal => CALLER_ON_A_TERMINAL,
            () => CALLER,
        };
        c.args(["bash", "-c", script, "caller"]);
        c.arg(self.dir.path()).arg(command.get_program()).args(command.get_args());
        c
    }

    /// The directory of the log as whoever started the container sees it.
    pub(super) fn disk_of_the_log(&self, caller: u32) -> Result<PathBuf, String> {
        let seen = format!("/proc/{caller}/root{}", self.path("log").display());
        let disk = fs::File::open(&seen).map_err(|e| format!("{seen}: {e}"))?;
        let path = held(&disk);
        self.log_disk.replace(Some(disk));
        Ok(path)
    }

    pub(super) fn log_on(&self, disk: &Path) -> PathBuf {
        disk.join(self.log().file_name().expect("it is named"))
    }

    /// Waits for the child's end, or for something on the stage; false when time is over, or when it ended without that.
    fn until(&self, child: &mut Child, begun: Instant, is: impl Fn(&Stage) -> bool) -> bool {
        while begun.elapsed() < LIMIT {
            if is(self) {
                return true;
            }
            if matches!(child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Everything of the host that must be as before, with what tells that it changed.
    fn watched(&self) -> BTreeMap<PathBuf, String> {
        let setup = Setup::get();
        let mut all = BTreeMap::new();
        // Written by everybody, but whose they are and what may be done with them is the host's.
        for output in ["stdout", "stderr"] {
            let m = fs::metadata(self.path(output)).expect("the stage is ours");
            all.insert(self.path(output), format!("{:o} {}:{}", m.mode(), m.uid(), m.gid()));
        }
        let mut look = |path: &Path| {
            let Ok(m) = fs::symlink_metadata(path) else { return };
            let content = if m.is_file() && path.starts_with(self.dir.path()) { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
            all.insert(path.to_owned(), format!("{:o} {}:{} {} bytes {}.{} {content:?}", m.mode(), m.uid(), m.gid(), m.size(), m.mtime(), m.mtime_nsec()));
        };
        [self.path("precious/file"), self.path("stream"), self.path(&format!("secret/{HOSTS}")), setup.vkernel, setup.manifest].iter().for_each(|p| look(p));
        let mut work = vec![setup.rootfs];
        while let Some(dir) = work.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                look(&entry.path());
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    work.push(entry.path());
                }
            }
        }
        all
    }

    fn traces(&self, before: BTreeMap<PathBuf, String>) -> Vec<String> {
        let after = self.watched();
        let gone = before.iter().filter(|(p, was)| after.get(*p) != Some(was)).map(|(p, was)| (p, was, after.get(p).map_or("gone", String::as_str)));
        let mut traces: Vec<String> = gone.map(|(p, was, is)| format!("{} was {was}, is {is}", p.display())).collect();
        traces.extend(after.keys().filter(|p| !before.contains_key(*p)).map(|p| format!("{} is new", p.display())));
        for mark in [self.path("out/mark"), MARK_OF_THE_HOST.into()] {
            if let Ok(text) = fs::read_to_string(&mark) {
                traces.push(format!("natively executed: {}", text.lines().collect::<Vec<_>>().join(", ")));
                let _ = fs::remove_file(mark);
            }
        }
        traces
    }
}

/// A path that leads to an open directory.
fn held(directory: &fs::File) -> PathBuf {
    format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(directory)).into()
}

impl Case {
    /// Whether the unprotected run proves something.
    pub fn wins_natively(&self) -> bool {
        matches!(self.natively, Natively::Wins)
    }
}
