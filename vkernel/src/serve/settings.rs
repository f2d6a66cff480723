//! What the administrator decides: DIR/serve.toml, DIR/keys/*.pub and DIR/revoked.json, read together. Owns the file's members and defaults.
//!
//! The fact a newcomer gets wrong: everything is read and checked before anything of it counts. A file with a mistake changes nothing.

use crate::audit::Destination;
use crate::failure::Failure;
use crate::keys::Trust;
use serde::Deserialize;
use std::path::Path;

/// Where it is unless `--config` says otherwise.
pub const DEFAULT: &str = "/etc/vkernel";

/// Containers of one kind that wait.
const MOST_READY: usize = 64;

/// What happens to running containers whose release is no longer signed by anybody who is trusted, or was revoked as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Revoked {
    /// They start nothing any more.
    #[default]
    Refuse,
    /// They go on under the rules they began with.
    Keep,
}

/// serve.toml.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) revoked_releases: Revoked,
    /// How long listeners are held while no daemon runs; only at the start, and not under systemd.
    pub(super) takeover_seconds: u64,
    /// How many connections there are at most.
    pub(super) clients: usize,
    /// Records about the daemon itself go here, and about containers that name no log of their own: a file, or "journald".
    pub(super) audit: Option<Destination>,
    /// Whether clients may have system calls made in containers (`syscall`).
    pub(super) syscall_requests: bool,
    /// Where metrics can be fetched: HOST:PORT, or the path of a socket; only at the start.
    pub(super) metrics: Option<String>,
    /// For how many kinds of container some are kept ready; 0: for none.
    pub(super) zygotes: usize,
    /// How many of each.
    pub(super) zygote_containers: usize,
    /// A kind that nobody asked for so long is given up.
    pub(super) zygote_idle_seconds: u64,
}

impl Default for File {
    fn default() -> Self {
        Self {
            revoked_releases: Revoked::Refuse,
            takeover_seconds: 30,
            clients: 1024,
            audit: None,
            syscall_requests: false,
            metrics: None,
            zygotes: 0,
            zygote_containers: 2,
            zygote_idle_seconds: 600,
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) file: File,
    pub(super) trust: Trust,
    /// How many there were before, since the daemon began.
    pub(super) generation: u64,
}

impl Settings {
    pub(super) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("serve.toml");
        let what = || path.display().to_string();
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|e| Failure::new(what(), e.to_string().trim_end().replace('\n', "; "), "see vkernel-serve(8)"))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => File::default(),
            Err(e) => return Err(Failure::new(what(), e, "make it readable, or remove it")),
        };
        if !(1..=MOST_READY).contains(&file.zygote_containers) {
            return Err(Failure::new(what(), format!("zygote_containers = {}", file.zygote_containers), format!("choose 1 to {MOST_READY}")));
        }
        Ok(Self { file, trust: Trust::read(directory)?, generation: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_in_any_file_is_named_and_nothing_is_taken() {
        let dir = std::env::temp_dir().join(format!("vkernel-settings-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("keys")).unwrap();
        assert_eq!(Settings::read(&dir).unwrap().file, File::default());
        let put = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        put("serve.toml", "takeover_seconds = 5\nrevoked_releases = \"keep\"\naudit = \"journald:/run/j\"\n");
        let read = Settings::read(&dir).unwrap();
        assert_eq!((read.file.takeover_seconds, read.file.revoked_releases), (5, Revoked::Keep));
        assert_eq!(read.file.audit, Some(Destination::Journald("/run/j".into())));
        for (name, bad, good) in [
            ("serve.toml", "zygote_containers = 0\n", ""),
            ("serve.toml", "takeover = 5\n", ""),
            ("serve.toml", "clients = \"x\"", ""),
            ("revoked.json", "{\"file\": []}", "{}"),
            ("keys/a.pub", "no key", ""),
        ] {
            put(name, bad);
            let failure = Settings::read(&dir).unwrap_err().to_string();
            assert!(failure.contains(name.rsplit('/').next().unwrap()), "{failure}");
            if good.is_empty() {
                std::fs::remove_file(dir.join(name)).unwrap()
            } else {
                put(name, good)
            }
            Settings::read(&dir).unwrap();
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
