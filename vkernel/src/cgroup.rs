//! Control groups of a container on hosts with version 1, version 2, or both side by side (hybrid). Owns making, entering, freezing, counting kills, emptying and removing them.
//!
//! The fact a newcomer gets wrong: on a hybrid host limits live in version 1 hierarchies and `cgroup.kill` and `cgroup.freeze` in the version 2 one, so a container has a
//! directory in each. There is no device controller here: nodes work only where the runtime bound them, every other mount is nodev, and mknod is refused.

use crate::failure::Failure;
use crate::limits::{Version, writes};
use crate::mounts::{self, LOCKED, Mounted};
use crate::scope::{self, Scope};
use nix::mount::MsFlags;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Containers that nobody placed are below this.
pub const DEFAULT_PARENT: &str = "vkernel";
/// Counted for every container, whether limited or not.
const COUNTED: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];

/// Threads of a version 1 group; version 2 has none of that name.
const ONE_THREAD: &str = "tasks";

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    controllers: Vec<String>,
    at: PathBuf,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// What /proc/self/mountinfo lists; controllers of version 2 are asked from the hierarchy itself.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for Mounted { at, kind, options } in mounts::mounted(mountinfo) {
        let at = at.to_path_buf();
        let hierarchy = match kind {
            "cgroup" => Hierarchy { version: Version::V1, controllers: options.split(',').filter(|o| *o != "rw" && *o != "xattr").map(str::to_owned).collect(), at },
            "cgroup2" => {
                let controllers = fs::read_to_string(at.join("cgroup.controllers")).unwrap_or_default();
                Hierarchy { version: Version::V2, controllers: controllers.split_whitespace().map(str::to_owned).collect(), at }
            }
            _ => continue,
        };
        if !found.iter().any(|h| h.version == hierarchy.version && h.controllers == hierarchy.controllers) {
            found.push(hierarchy);
        }
    }
    found
}

/// Where the version 2 hierarchy is mounted.
pub fn version_2() -> Option<PathBuf> {
    of_host().into_iter().find(|h| h.version == Version::V2).map(|h| h.at)
}

fn of_host() -> Vec<Hierarchy> {
    hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Directories of one container, one per hierarchy; none on a host that has no control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Where a description's `cgroupsPath` lies in every hierarchy. The systemd form `slice:prefix:name` is a group in that scope, or, where systemd does not run, its path.
    pub fn path(described: Option<&Path>, id: &str) -> PathBuf {
        let Some(described) = described.map(|p| p.to_string_lossy().into_owned()).filter(|p| !p.is_empty()) else {
            return Path::new(DEFAULT_PARENT).join(id);
        };
        if let Some(scope) = Scope::described(&described) {
            return if scope::is_systemds() { scope.path().join(scope::INNER) } else { scope.path() };
        }
        Path::new(&described).components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect()
    }

    /// Makes the directories and writes the limits. A host without control groups is a failure only if there are limits to keep.
    pub fn make(path: &Path, resources: Option<&LinuxResources>) -> Result<Self, Failure> {
        let failure = |why: &str| Failure::new(format!("control group {}", path.display()), why, "name a group of the container's own");
        if path.as_os_str().is_empty() || !path.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
            return Err(failure("is no group below the root"));
        }
        let hosts = of_host();
        // Whoever is in it would end with the container.
        if hosts.iter().any(|h| is_populated(&h.at.join(path))) {
            return Err(failure("has processes already"));
        }
        let wanted = resources.map(|r| (writes(r, Version::V1), writes(r, Version::V2))).unwrap_or_default();
        let limited = |h: &Hierarchy| wanted.0.iter().any(|w| h.has(w.controller));
        let mut made = Self::default();
        for h in &hosts {
            let counted = h.version == Version::V2 || COUNTED.iter().any(|c| h.has(c)) || limited(h);
            if counted
                && let Err(e) = h.make(path, &mut made.0)
                && limited(h)
            {
                made.remove();
                return Err(Failure::new(format!("control group {}", h.at.join(path).display()), e, "mount /sys/fs/cgroup writable, or ask for no limits"));
            }
        }
        for w in wanted.0.iter().map(|w| (w, Version::V1)).chain(wanted.1.iter().map(|w| (w, Version::V2))) {
            made.limit(&hosts, path, w.0, w.1).inspect_err(|_| made.remove())?;
        }
        // Every controller a limit needs must have been found in one of the two versions.
        for w in &wanted.0 {
            if !hosts.iter().any(|h| h.has(w.controller)) {
                made.remove();
                return Err(Failure::new(format!("limit {}", w.file), format!("this host has no {} controller", w.controller), "mount it, or leave the limit out"));
            }
        }
        for (key, value) in resources.and_then(|r| r.unified().clone()).unwrap_or_default() {
            let at = hosts.iter().find(|h| h.version == Version::V2).map(|h| h.at.join(path).join(&key)).filter(|_| !key.contains('/'));
            let written = at.ok_or_else(|| std::io::ErrorKind::NotFound.into()).and_then(|at| fs::write(at, value));
            written.map_err(|e| Failure::new(format!("limit {key}"), e, "name a file of a version 2 control group")).inspect_err(|_| made.remove())?;
        }
        Ok(made)
    }

    fn limit(&self, hosts: &[Hierarchy], path: &Path, w: &crate::limits::Write, version: Version) -> Result<(), Failure> {
        let Some(h) = hosts.iter().find(|h| h.version == version && h.has(w.controller)) else { return Ok(()) };
        let file = h.at.join(path).join(w.file);
        match fs::write(&file, &w.value) {
            // Swap accounting is off on many hosts; without swap there is nothing to limit.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && (w.file.contains("memsw") || w.file.contains("swap.max")) => Ok(()),
            other => other.map_err(|e| Failure::new(format!("limit {} = {}", file.display(), w.value), e, "choose a value that the parent group allows")),
        }
    }

    /// Is it the group of this path below a hierarchy's root?
    pub fn is_at(&self, path: &Path) -> bool {
        self.0.iter().any(|dir| dir.ends_with(path))
    }

    /// The version 2 group, in which a process can be born.
    pub fn birthplace(&self) -> Option<fs::File> {
        let dir = self.0.iter().find(|dir| !dir.join(ONE_THREAD).exists())?;
        fs::File::open(dir).ok()
    }

    /// Moves the calling process, which has one thread; namespaces made afterwards have this group as their root. `born`: it is in the version 2 group already.
    pub fn enter(&self, born: bool) -> Result<(), Failure> {
        for dir in &self.0 {
            // The one thread that writes is moved without the lock that keeps all forks of the host off, and its grace period of RCU.
            let one = dir.join(ONE_THREAD);
            let file = match one.exists() {
                true => one,
                false if born => continue,
                false => dir.join("cgroup.procs"),
            };
            fs::write(file, "0").map_err(|e| Failure::new(format!("enter control group {}", dir.display()), e, "see whether it was removed"))?;
        }
        Ok(())
    }

    fn find(&self, file: &str) -> Option<PathBuf> {
        self.0.iter().map(|d| d.join(file)).find(|p| p.exists())
    }

    /// Processes in it.
    pub fn members(&self) -> Vec<i32> {
        let text = self.find("cgroup.procs").and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).collect()
    }

    /// How many processes the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = self.find("memory.oom_control").or_else(|| self.find("memory.events"));
        let text = file.and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default();
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok()).unwrap_or(0)
    }

    /// What it uses now; what this host does not count is left out.
    pub fn usage(&self) -> serde_json::Value {
        let read = |files: &[&str]| files.iter().find_map(|f| self.find(f)).and_then(|p| fs::read_to_string(p).ok());
        let number = |files: &[&str]| read(files).and_then(|t| t.trim().parse::<u64>().ok());
        let cpu = read(&["cpu.stat"]).and_then(|t| t.lines().find_map(|l| l.strip_prefix("usage_usec ")?.parse().ok())).or_else(|| number(&["cpuacct.usage"]).map(|ns| ns / 1000));
        // Version 2 only: version 1 counts in a hierarchy that containers are not put into.
        let blocks = read(&["io.stat"]);
        let block = |key: &str| blocks.as_ref().map(|t| t.split_whitespace().filter_map(|w| w.strip_prefix(key)?.parse::<u64>().ok()).sum::<u64>());
        serde_json::json!({
            "block_read_bytes": block("rbytes="),
            "block_written_bytes": block("wbytes="),
            "memory_bytes": number(&["memory.current", "memory.usage_in_bytes"]),
            "memory_limit_bytes": number(&["memory.max", "memory.limit_in_bytes"]),
            "memory_peak_bytes": number(&["memory.peak", "memory.max_usage_in_bytes"]),
            "processes": number(&["pids.current"]),
            "processes_limit": number(&["pids.max"]),
            "cpu_us": cpu,
            "out_of_memory_kills": self.oom_kills(),
        })
    }

    /// Stops or continues every process, and waits until it is so.
    pub fn freeze(&self, frozen: bool) -> Result<(), Failure> {
        let failure = |e: std::io::Error| Failure::new("freeze control group", e, "the host needs the freezer or version 2");
        let (file, value) = match self.find("cgroup.freeze") {
            Some(file) => (file, if frozen { "1" } else { "0" }),
            None => (self.find("freezer.state").ok_or_else(|| failure(std::io::ErrorKind::NotFound.into()))?, if frozen { "FROZEN" } else { "THAWED" }),
        };
        fs::write(&file, value).map_err(failure)?;
        let limit = Instant::now() + Duration::from_secs(5);
        while self.is_frozen() != frozen {
            if Instant::now() > limit {
                return Err(failure(std::io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub fn is_frozen(&self) -> bool {
        if let Some(events) = self.find("cgroup.freeze").map(|p| p.with_file_name("cgroup.events")) {
            return fs::read_to_string(events).is_ok_and(|t| t.contains("frozen 1"));
        }
        self.find("freezer.state").is_some_and(|p| fs::read_to_string(p).is_ok_and(|t| t.trim() == "FROZEN"))
    }

    /// Ends every process in it; a frozen one must run to die.
    pub fn kill(&self) {
        if self.find("cgroup.kill").is_some_and(|p| fs::write(p, "1").is_ok()) {
            return;
        }
        let _ = self.freeze(false);
        for pid in self.members() {
            // SAFETY: plain numbers. The kernel lists only processes of this group, which is the container's alone.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }

    /// Removes the directories, waiting for the last process to be gone; the parent of default groups goes with the last of them, a scope with its container.
    pub fn remove(&self) {
        let limit = Instant::now() + Duration::from_secs(2);
        for dir in &self.0 {
            while let Err(e) = fs::remove_dir(dir) {
                if e.raw_os_error() != Some(libc::EBUSY) || Instant::now() > limit {
                    break;
                }
                self.kill();
                std::thread::sleep(Duration::from_millis(1));
            }
            // A scope goes with its last process anyway, but a moment later.
            if let Some(parent) = dir.parent().filter(|p| p.ends_with(DEFAULT_PARENT) || scope::is_inner(dir)) {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}

fn is_populated(group: &Path) -> bool {
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    !read("cgroup.procs").is_empty() || read("cgroup.events").contains("populated 1")
}

impl Hierarchy {
    fn make(&self, path: &Path, made: &mut Vec<PathBuf>) -> std::io::Result<()> {
        let dir = self.at.join(path);
        // The last container's end may remove the common parent between two steps.
        let mut made_it = fs::create_dir_all(&dir);
        for _ in 0..3 {
            if made_it.is_ok() {
                break;
            }
            made_it = fs::create_dir_all(&dir);
        }
        made_it?;
        made.push(dir);
        let mut here = self.at.clone();
        for part in path {
            if self.version == Version::V2 {
                for controller in ["memory", "pids", "cpu", "cpuset"].iter().filter(|c| self.has(c)) {
                    let _ = fs::write(here.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
            let below = here.join(part);
            if self.version == Version::V1 && self.has("cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    let empty = fs::read_to_string(below.join(file)).is_ok_and(|t| t.trim().is_empty());
                    let _ = empty.then(|| fs::read(here.join(file)).and_then(|v| fs::write(below.join(file), v)));
                }
            }
            here = below;
        }
        Ok(())
    }
}

/// A read-only view of the container's own groups, in its cgroup namespace.
pub fn show(root: BorrowedFd<'_>, to: BorrowedFd<'_>, shown: &Path) -> Result<(), Failure> {
    let hosts = of_host();
    let flags = LOCKED | MsFlags::MS_RDONLY;
    if let [Hierarchy { version: Version::V2, .. }] = hosts[..] {
        return mounts::file_system("cgroup2", to, "cgroup", flags, "", shown);
    }
    mounts::file_system("tmpfs", to, "cgroup", LOCKED, "mode=755,size=64k", shown)?;
    for h in hosts {
        let Some(name) = h.at.file_name() else { continue };
        let place = mounts::place(root, &shown.join(name), mounts::Kind::Directory)?;
        match h.version {
            Version::V2 => mounts::file_system("cgroup2", place.as_fd(), "cgroup", flags, "", shown)?,
            Version::V1 => {
                let named = h.controllers.iter().any(|c| c.starts_with("name="));
                let data = if named { format!("none,{}", h.controllers.join(",")) } else { h.controllers.join(",") };
                mounts::file_system("cgroup", place.as_fd(), "cgroup", flags, &data, shown)?;
            }
        }
    }
    let again = mounts::place(root, shown, mounts::Kind::Directory)?;
    let remount = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    nix::mount::mount(None::<&str>, mounts::path_of(&again).as_str(), None::<&str>, remount, None::<&str>)
        .map_err(|e| Failure::new(format!("read-only {}", shown.display()), e.desc(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_are_read_from_their_mounts() {
        let text = "24 22 0:5 / /dev rw - devtmpfs devtmpfs rw\n\
                    30 23 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                    31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                    32 23 0:28 / /sys/fs/cgroup/unified-that-is-not-there rw - cgroup2 cgroup2 rw\n\
                    33 23 0:26 / /elsewhere/memory rw - cgroup cgroup rw,memory\n";
        let found = hierarchies(text);
        assert_eq!(found.len(), 3, "the second mount of the same hierarchy is not another one");
        assert!(found[0].has("memory") && found[1].has("cpu") && found[1].has("cpuacct") && found[2].version == Version::V2);
        assert_eq!(found[1].at, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
    }

    #[test]
    fn paths_of_descriptions_stay_inside_the_hierarchy() {
        let path = |p: &str| Cgroup::path(Some(Path::new(p)), "id").to_string_lossy().into_owned();
        assert_eq!(path("/libpod_parent/libpod-1"), "libpod_parent/libpod-1");
        assert_eq!(path("../../x"), "x");
        assert!(path("machine.slice:libpod:7f").starts_with("machine.slice/libpod-7f.scope"));
        assert_eq!(Cgroup::path(None, "id"), Path::new("vkernel/id"));
    }

    #[test]
    fn groups_of_others_are_not_taken() {
        for path in ["/", "..", "../..", "/tmp:a:b", "../x:a:b"] {
            let told = Cgroup::make(&Cgroup::path(Some(Path::new(path)), "id"), None).unwrap_err().to_string();
            assert!(told.contains("below the root"), "{path}: {told}");
        }
        let path = Path::new(DEFAULT_PARENT).join(format!("taken-{}", std::process::id()));
        let group = Cgroup::make(&path, None).unwrap();
        let mut inside = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        for dir in &group.0 {
            fs::write(dir.join("cgroup.procs"), inside.id().to_string()).unwrap();
        }
        let again = Cgroup::make(&path, None);
        let alive = inside.try_wait().unwrap().is_none();
        inside.kill().unwrap();
        inside.wait().unwrap();
        group.remove();
        assert!(alive && again.unwrap_err().to_string().contains("processes"));
    }

    #[test]
    fn a_group_is_made_with_its_limits_counts_its_members_and_is_removed() {
        let path = Path::new(DEFAULT_PARENT).join(format!("test-{}", std::process::id()));
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({"pids": {"limit": 5}, "memory": {"limit": 64 << 20}})).unwrap();
        let group = Cgroup::make(&path, Some(&resources)).unwrap();
        assert_eq!(fs::read_to_string(group.find("pids.max").unwrap()).unwrap().trim(), "5");
        assert_eq!((group.members(), group.oom_kills()), (vec![], 0));
        assert!(!group.is_frozen());
        group.remove();
        assert!(group.0.iter().all(|d| !d.exists()), "{group:?}");
    }
}
