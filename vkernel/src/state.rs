//! What is known of containers on this host: one directory each, with a record that every command reads. Owns names, records, and telling a live process from another that got its
//! number. The fact a newcomer gets wrong: a record says what was last written, not what is; whether a container runs is asked of the kernel each time.

use crate::cgroup::Cgroup;
use crate::cni::Attachment;
use crate::failure::Failure;
use crate::release::Source;
use crate::sys;
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where records are unless `--root` says otherwise.
pub const DEFAULT: &str = "/run/vkernel/containers";

/// Characters of the ids that `vkernel run` makes.
pub const ID_LENGTH: usize = 12;
/// Where its network namespace is mounted, if it has one that plugins joined to others.
pub const NETWORK: &str = "network";
/// The file that the exit code is written to, in place: who waits has it open when the directory goes.
pub const EXIT: &str = "exit";
/// What directories are called while they are made or removed; the number of the process follows.
const HALF: &str = ".half-";

/// How far a container has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Ready, and nobody's yet (`zygote`).
    Reserved,
    #[default]
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reserved => "reserved",
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// A process of this host, by number and moment of its start: numbers are used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    since: u64,
}

impl Process {
    pub fn of(pid: Pid) -> Self {
        Self { pid: pid.as_raw(), since: Self::look(pid.as_raw()).map_or(0, |(_, since)| since) }
    }

    /// State letter and start time (proc(5)); the name before them may hold anything.
    fn look(pid: i32) -> Option<(u8, u64)> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let end = text.iter().rposition(|b| *b == b')')?;
        let rest = String::from_utf8_lossy(&text[end + 1..]).into_owned();
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        Some((state, fields.nth(18)?.parse().ok()?))
    }

    pub fn is_alive(&self) -> bool {
        self.pid > 0 && Self::look(self.pid).is_some_and(|(state, since)| since == self.since && !matches!(state, b'Z' | b'X'))
    }

    /// How long it has been running.
    pub fn age(&self) -> Option<std::time::Duration> {
        let up: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
        // SAFETY: a question about a constant.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
        self.is_alive().then(|| std::time::Duration::try_from_secs_f64(up - self.since as f64 / ticks).unwrap_or_default())
    }

    /// A descriptor of it, if it is still there: signals through it reach no other process.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = sys::pidfd_open(u32::try_from(self.pid).ok()?, 0).ok()?;
        self.is_alive().then_some(fd)
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    pub oom_killed: bool,
    pub at: String,
}

/// Everything a later command may need.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: Option<String>,
    pub bundle: PathBuf,
    pub created: String,
    pub status: Status,
    pub init: Process,
    pub supervisor: Process,
    pub spec: Spec,
    pub cgroup: Cgroup,
    pub release: Source,
    pub stop_signal: i32,
    /// What other programs made for its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// Socket of the daemon that answers its execs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<PathBuf>,
    /// The record goes when the container ends.
    pub forget: bool,
    pub exit: Option<Exit>,
}

/// A record and its directory.
#[derive(Clone, Debug)]
pub struct Entry {
    dir: PathBuf,
    pub record: Record,
}

fn failure(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let what = format!("{what} {}", path.display());
    move |e| Failure::new(&what, e, "choose another place with --root DIR")
}

/// As runc's: what is safe in a path.
fn is_id(id: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    !id.is_empty() && id.len() <= 255 && id.chars().all(safe) && !id.starts_with('.')
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("container {name}"), "does not exist", "see `vkernel ps --all`")
}

impl Entry {
    /// Makes the directory; an id or name that is taken is refused.
    pub fn create(root: &Path, record: Record) -> Result<Self, Failure> {
        for name in std::iter::once(&record.id).chain(&record.name) {
            if !is_id(name) {
                return Err(Failure::new(format!("container {name:?}"), "is no name", "use letters, digits, and _ + - ."));
            }
            if let Some(other) = all(root).iter().find(|e| e.record.id == *name || e.record.name.as_ref() == Some(name)) {
                return Err(Failure::new(format!("container {name}"), format!("exists ({})", other.status()), "remove it with `vkernel rm`, or choose another name"));
            }
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failure("make", root))?;
        // The directory appears with its record in it, so that a command that is killed here leaves no id that is taken by nothing.
        let (dir, new) = (root.join(&record.id), root.join(format!("{HALF}{}-{}", std::process::id(), record.id)));
        let mut entry = Self { dir: new, record };
        fs::DirBuilder::new().mode(0o700).create(&entry.dir).map_err(failure("make", &entry.dir))?;
        let made = fs::write(entry.path(EXIT), "").map_err(failure("write", &entry.dir)).and_then(|()| entry.save());
        made.and_then(|()| fs::rename(&entry.dir, &dir).map_err(failure("make", &dir))).inspect_err(|_| drop(fs::remove_dir_all(&entry.dir)))?;
        entry.dir = dir;
        Ok(entry)
    }

    /// By id or name, as callers of a runtime expect it: what they mean may be gone, and another's id may begin with it.
    pub fn named(root: &Path, name: &str) -> Result<Self, Failure> {
        let entry = Self::find(root, name)?;
        let exact = entry.record.id == name || entry.record.name.as_deref() == Some(name);
        exact.then_some(entry).ok_or_else(|| unknown(name))
    }

    /// By id, by name, or by the beginning of an id that `vkernel run` made.
    pub fn find(root: &Path, name: &str) -> Result<Self, Failure> {
        if is_id(name)
            && let Some(entry) = Self::read(&root.join(name))
        {
            return Ok(entry);
        }
        let entries = all(root);
        let mut found = entries.iter().filter(|e| e.record.name.as_deref() == Some(name));
        if let Some(entry) = found.next() {
            return Ok(entry.clone());
        }
        let made_here = |id: &str| id.len() == ID_LENGTH && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mut found = entries.into_iter().filter(|e| name.len() >= 3 && made_here(&e.record.id) && e.record.id.starts_with(name));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry),
            (Some(_), Some(_)) => Err(Failure::new(format!("container {name}"), "is the beginning of several ids", "write more of it")),
            _ => Err(unknown(name)),
        }
    }

    fn read(dir: &Path) -> Option<Self> {
        let bytes = fs::read(dir.join("record.json")).ok()?;
        let record = serde_json::from_slice(&bytes).ok()?;
        Some(Self { dir: dir.to_owned(), record })
    }

    /// The directory that holds all records.
    pub fn root(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// A file of the container's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What another command has written meanwhile.
    pub fn again(&self) -> Option<Self> {
        Self::read(&self.dir)
    }

    /// `save`, unless the container was deleted meanwhile, or is another one of the same id.
    pub fn save_if_there(&self) {
        if self.again().is_some_and(|e| e.record.created == self.record.created) {
            let _ = self.save();
        }
    }

    /// Replaces the record as a whole.
    pub fn save(&self) -> Result<(), Failure> {
        let new = self.dir.join(format!(".record-{}", std::process::id()));
        let bytes = serde_json::to_vec(&self.record).map_err(|e| Failure::new("container record", e, ""))?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, self.dir.join("record.json"))).map_err(failure("write", &self.dir))
    }

    /// At once: a supervisor that writes its last word meanwhile finds no directory.
    pub fn remove(&self) {
        let gone = self.dir.with_file_name(format!("{HALF}{}-{}", std::process::id(), self.record.id));
        if fs::rename(&self.dir, &gone).is_ok() {
            let _ = fs::remove_dir_all(&gone);
        }
    }

    /// What it is now.
    pub fn status(&self) -> Status {
        match self.record.status {
            Status::Creating | Status::Reserved if self.record.supervisor.is_alive() => self.record.status,
            Status::Created | Status::Running | Status::Paused if self.record.init.is_alive() => {
                if self.record.cgroup.is_frozen() {
                    return Status::Paused;
                }
                self.record.status
            }
            _ => Status::Stopped,
        }
    }

    /// Ends whatever is left of it: its first process, and with that everything in its pid namespace, its control group, and its place in a network, which is tried again as long as the record has it.
    pub fn destroy(&mut self) {
        if let Some(init) = self.record.init.open() {
            let _ = self.record.cgroup.is_frozen().then(|| self.record.cgroup.freeze(false));
            let _ = sys::pidfd_send_signal(std::os::fd::AsFd::as_fd(&init), libc::SIGKILL);
            let mut fds = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&init), nix::poll::PollFlags::POLLIN)];
            let _ = nix::poll::poll(&mut fds, 10_000u16);
        }
        self.record.cgroup.kill();
        self.record.cgroup.remove();
        let failures = self.record.attachment.as_ref().map(Attachment::detach).unwrap_or_default();
        failures.iter().for_each(|failure| eprintln!("vkernel: warning: {failure}"));
        if failures.is_empty() {
            self.record.attachment = None;
        }
    }
}

/// All containers, oldest first, but those that are nobody's yet.
pub fn all(root: &Path) -> Vec<Entry> {
    let mut found = entries(root);
    found.retain(|e| e.record.status != Status::Reserved);
    found
}

/// Odd files are nobody's.
fn entries(root: &Path) -> Vec<Entry> {
    let whole = |e: &fs::DirEntry| !e.file_name().to_string_lossy().starts_with('.');
    let mut found: Vec<Entry> = fs::read_dir(root).into_iter().flatten().flatten().filter(whole).filter_map(|e| Entry::read(&e.path())).collect();
    found.sort_by(|a, b| a.record.created.cmp(&b.record.created));
    found
}

/// Removes what supervisors, keepers and commands that were killed left behind: records that were to be forgotten and whose processes are gone, and directories half made or half removed.
pub fn sweep(root: &Path) {
    for half in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = half.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(HALF).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse().ok());
        if maker.is_some_and(|pid| Process::look(pid).is_none()) {
            let _ = fs::remove_dir_all(half.path());
        }
    }
    for mut entry in entries(root) {
        let r = &entry.record;
        let (forget, attached) = (r.forget, r.attachment.is_some());
        if (forget || attached) && !r.supervisor.is_alive() && !r.init.is_alive() && r.supervisor != Process::default() {
            entry.destroy();
            match (forget, entry.record.attachment.is_some()) {
                (true, false) => entry.remove(),
                (false, false) => entry.save_if_there(),
                (_, true) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, name: Option<&str>) -> Record {
        Record { id: id.into(), name: name.map(str::to_owned), ..Record::default() }
    }

    #[test]
    fn containers_are_found_by_id_name_and_beginning_and_names_are_taken_once() {
        let root = std::env::temp_dir().join(format!("vkernel-state-{}", std::process::id()));
        let (first, second) = ("abcdef123456", "abc123123456");
        let a = Entry::create(&root, record(first, Some("web"))).unwrap();
        Entry::create(&root, record(second, None)).unwrap();
        Entry::create(&root, record("abc-of-a-runtimes-caller", None)).unwrap().remove();
        let id = |name: &str| Entry::find(&root, name).map(|e| e.record.id);
        assert_eq!((id(first).unwrap(), id("web").unwrap(), id("abcd").unwrap()), (first.into(), first.into(), first.into()));
        let named = |name: &str| Entry::named(&root, name).map(|e| e.record.id);
        assert_eq!((named(first).unwrap(), named("web").unwrap()), (first.into(), first.into()));
        assert!(named("abcd").unwrap_err().to_string().contains("does not exist"));
        assert!(id("abc").unwrap_err().to_string().contains("several") && id("zzz").is_err() && id("../x").is_err());
        for (taken, name) in [(first, None), ("new", Some("web")), ("web", None)] {
            assert!(Entry::create(&root, record(taken, name)).unwrap_err().to_string().contains("exists"), "{taken}");
        }
        assert!(Entry::create(&root, record("../up", None)).unwrap_err().to_string().contains("no name"));
        a.remove();
        a.save_if_there();
        assert_eq!(all(&root).len(), 1);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn only_ids_made_here_are_shortened_and_what_was_half_made_goes() {
        let root = std::env::temp_dir().join(format!("vkernel-half-{}", std::process::id()));
        Entry::create(&root, record("web-db", None)).unwrap();
        assert!(Entry::find(&root, "web").unwrap_err().to_string().contains("does not exist"));
        fs::create_dir(root.join(format!("{HALF}{}-x", i32::MAX))).unwrap();
        fs::create_dir(root.join(format!("{HALF}{}-y", std::process::id()))).unwrap();
        fs::create_dir(root.join("killed")).unwrap();
        sweep(&root);
        let mut left: Vec<_> = fs::read_dir(&root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [format!("{HALF}{}-y", std::process::id()), "killed".into(), "web-db".into()]);
        // An empty directory is no container.
        Entry::create(&root, record("killed", None)).unwrap();
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_process_is_not_taken_for_another_with_its_number() {
        let me = Process::of(Pid::this());
        assert!(me.is_alive() && me.open().is_some());
        let other = Process { since: me.since + 1, ..me };
        assert!(!other.is_alive() && other.open().is_none() && !Process::default().is_alive());
    }
}
