//! Scopes: the units in which systemd leaves control groups to others. Owns asking systemd for one, on hosts that it runs.
//!
//! The fact a newcomer gets wrong: a directory that somebody makes in a slice without asking works until systemd tidies up. At every `daemon-reload`, and whenever a unit of the slice ends, it takes away the controllers that its own
//! units do not need, and with them the container's limits (seen with systemd 252). A scope with `Delegate=` is kept out of that, below its own directory, whose files stay systemd's; so the container has a group in it.

use crate::cgroup;
use crate::failure::Failure;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Speaks to systemd for us: one program less to trust, and no protocol of a bus in this one.
const SPEAKER: &str = "/usr/bin/systemd-run";
/// The container's group in its scope, called as crun calls it, because podman knows that name.
pub const INNER: &str = "container";
/// Where a scope's first process is, which keeps it alive while no other is in it.
const OUTER: &str = "beginning";

/// Which one a description's `slice:prefix:name` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    slice: String,
    name: String,
}

impl Scope {
    pub fn described(path: &str) -> Option<Self> {
        let [slice, prefix, name] = path.split(':').collect::<Vec<_>>()[..] else { return None };
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        Some(Self { slice: if slice.is_empty() { "system.slice" } else { slice }.to_owned(), name })
    }

    /// Where systemd has it below the root of a hierarchy.
    pub fn path(&self) -> PathBuf {
        slices(&self.slice).join(&self.name)
    }

    /// Asks systemd for it. Its unit ends with the last process in it, so there is one from the beginning.
    pub fn begin(&self) -> Result<Begun, Failure> {
        // The unit of a container of the same name may be about to end.
        let limit = Instant::now() + Duration::from_secs(5);
        loop {
            match self.asked() {
                Err(_) if Instant::now() < limit => std::thread::sleep(Duration::from_millis(50)),
                other => return other,
            }
        }
    }

    fn asked(&self) -> Result<Begun, Failure> {
        let failure = |why: &dyn std::fmt::Display| {
            Failure::new(format!("scope {} in {}", self.name, self.slice), why, "see `systemctl status`, or have the caller manage control groups itself")
        };
        let mut speaker = Command::new(SPEAKER);
        speaker.args(["--quiet", "--scope", "--collect", "--slice", &self.slice, "--unit", &self.name]);
        // Limits are kept by the container's own group. A shutdown ends containers through their managers, as with runc.
        for property in ["Delegate=yes", "DefaultDependencies=no", "TasksMax=infinity"] {
            speaker.args(["--property", property]);
        }
        speaker.args(["--", "/bin/cat"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut begun = Begun { first: speaker.spawn().map_err(|e| failure(&format!("{SPEAKER}: {e}")))?, at: None };
        // Its echo says that it is in the scope.
        let mut echo = [0];
        let said = begun.first.stdin.as_mut().map_or(Ok(()), |to| to.write_all(b"\n")).and_then(|()| begun.first.stdout.as_mut().map_or(Ok(()), |from| from.read_exact(&mut echo)));
        if said.is_err() {
            let mut why = String::new();
            let _ = begun.first.stderr.take().map(|mut from| from.read_to_string(&mut why));
            return Err(failure(&why.trim()));
        }
        begun.step_aside(&self.path()).map_err(|e| failure(&e))?;
        Ok(begun)
    }
}

/// Whether systemd runs this host (sd_booted(3)).
pub fn is_systemds() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Is it the group of a container in a scope?
pub fn is_inner(group: &Path) -> bool {
    group.ends_with(INNER) && group.parent().and_then(Path::extension).is_some_and(|e| e == "scope")
}

/// Where systemd keeps a slice: `a-b.slice` is below `a.slice`. What is no slice's name is taken as it stands.
fn slices(name: &str) -> PathBuf {
    let Some(parts) = name.strip_suffix(".slice").filter(|n| !n.split('-').any(str::is_empty)) else { return name.into() };
    let ends = parts.match_indices('-').map(|(at, _)| at).chain([parts.len()]);
    ends.map(|end| format!("{}.slice", &parts[..end])).collect()
}

/// A scope with nothing of the container in it yet. Dropped when there is, or when there will be nothing.
pub struct Begun {
    first: Child,
    at: Option<PathBuf>,
}

impl Begun {
    /// Out of the scope's own group: version 2 gives no controller to groups below one that has processes.
    fn step_aside(&mut self, expected: &Path) -> std::io::Result<()> {
        let Some(root) = cgroup::version_2() else { return Ok(()) };
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.first.id()))?;
        let own = groups.lines().find_map(|l| l.strip_prefix("0::/")).ok_or(std::io::ErrorKind::NotFound)?;
        if Path::new(own) != expected {
            // systemd writes what is no unit's name in another way.
            return Err(std::io::Error::other(format!("systemd has it at /{own}")));
        }
        let beside = root.join(own).join(OUTER);
        fs::create_dir(&beside)?;
        self.at = Some(beside.clone());
        fs::write(beside.join("cgroup.procs"), self.first.id().to_string())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
        let _ = self.at.take().map(fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_lie_where_systemd_has_them() {
        let path = |p: &str| Scope::described(p).unwrap().path().to_string_lossy().into_owned();
        assert_eq!(path("machine.slice:libpod:7f"), "machine.slice/libpod-7f.scope");
        assert_eq!(path(":libpod:7f"), "system.slice/libpod-7f.scope");
        assert_eq!(path("user.slice::7f"), "user.slice/7f.scope");
        assert_eq!(path("kubepods-burstable-pod7.slice:cri:7f"), "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7.slice/cri-7f.scope");
        assert_eq!(Scope::described("/libpod_parent/libpod-7f"), None);
    }

    #[test]
    fn what_cannot_be_begun_says_why() {
        if !is_systemds() {
            let told = Scope::described("machine.slice:libpod:7f").unwrap().asked().map(|_| ()).unwrap_err().to_string();
            assert!(told.starts_with("scope libpod-7f.scope in machine.slice: ") && told.len() > 90, "{told}");
        }
    }
}
