//! What this host remembers of releases: the highest serial of each name (07, S21). Owns the files and their locking; the decision is `policy`'s.
//!
//! An old release stays validly signed for ever, with all its flaws; only a host that remembers can refuse it. The fact a newcomer gets wrong: an override does not lower what is remembered, it lets one run through.

use crate::failure::Failure;
use policy::{Digest, Pin, Reason, Verified, decide_pin, decide_serial};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Where it is unless `--serials` says otherwise.
pub const DEFAULT: &str = "/var/lib/vkernel/serials";

/// Why a release is not started, and the audit log's word for it.
#[derive(Debug)]
pub struct Refusal {
    pub reason: &'static str,
    pub failure: Failure,
}

/// How a release was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Newest,
    /// Older than what ran here; the caller insisted.
    Rollback {
        highest: u64,
    },
}

/// Checks pins and serial, and remembers the serial.
pub fn admit(verified: &Verified, pins: &[Pin], directory: &Path, allow_rollback: bool) -> Result<Passed, Refusal> {
    let m = verified.manifest();
    let release = || format!("release {} serial {}", m.name, m.serial);
    if pins.iter().any(|p| decide_pin(verified, p).is_err()) {
        let why = format!("it is not what --pin names (manifest {}, container {})", verified.digest(), m.container_id);
        return Err(Refusal { reason: Reason::NotPinned.code(), failure: Failure::new(release(), why, "name another manifest, or change the pin") });
    }
    let failed = |failure| Refusal { reason: "serial-memory", failure };
    let memory = Memory::open(directory, &m.name).map_err(failed)?;
    let highest = memory.highest(&m.name).map_err(failed)?;
    match decide_serial(verified, highest) {
        Ok(()) => {
            if highest != Some(m.serial) {
                memory.remember(&m.name, m.serial).map_err(failed)?;
            }
            Ok(Passed::Newest)
        }
        Err(_) if allow_rollback => Ok(Passed::Rollback { highest: highest.unwrap_or_default() }),
        Err(reason) => {
            let why = format!("this host has run serial {} of it", highest.unwrap_or_default());
            Err(Refusal { reason: reason.code(), failure: Failure::new(release(), why, "get the newest release, or insist with --allow-rollback") })
        }
    }
}

/// One name's file, locked as long as this lives: two starts at once must not both be the newest.
struct Memory<'a> {
    directory: &'a Path,
    file: std::path::PathBuf,
    _lock: File,
}

fn failure(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let what = format!("{what} {}", path.display());
    move |e| Failure::new(&what, e, "check the disk, or choose another place with --serials DIR")
}

impl Memory<'_> {
    fn open<'a>(directory: &'a Path, name: &str) -> Result<Memory<'a>, Failure> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failure("make", directory))?;
        let meta = fs::metadata(directory).map_err(failure("read", directory))?;
        if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            return Err(Failure::new(format!("serials {}", directory.display()), "others than root can change it", "chown root and chmod 700 it"));
        }
        // Names are the signer's words and may hold anything; their hash is a file name.
        let file = directory.join(Digest::blake3(name.as_bytes()).hex());
        let path = directory.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failure("open", &path))?;
        lock.lock().map_err(failure("lock", &path))?;
        Ok(Memory { directory, file, _lock: lock })
    }

    fn highest(&self, name: &str) -> Result<Option<u64>, Failure> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failure("read", &self.file)(e)),
        };
        let parsed = text.split_once(' ').filter(|(_, rest)| rest.strip_suffix('\n') == Some(name)).and_then(|(serial, _)| serial.parse().ok());
        parsed.map(Some).ok_or_else(|| {
            Failure::new(format!("serial memory {}", self.file.display()), "is damaged", "restore it, or write \"SERIAL NAME\" into it: nothing of this name runs without it")
        })
    }

    fn remember(&self, name: &str, serial: u64) -> Result<(), Failure> {
        let temporary = self.directory.join(".new");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(format!("{serial} {name}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.file)
        };
        write().map_err(failure("write", &self.file))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use policy::{PrivateKey, Revocations, TrustedKeys, canonical, signature, verify};

    /// The policy's smallest manifest, signed: a program with entry 1, a library with entry 2.
    pub(crate) fn release(name: &str, serial: u64) -> Verified {
        let mut value = canonical::parse(include_bytes!("../../policy/tests/manifests/accept/minimal.json")).unwrap();
        value["name"] = name.into();
        value["serial"] = serial.into();
        let key = PrivateKey::from_seed([1; 32]);
        signature::sign(&mut value, &key, "k");
        verify(&canonical::to_bytes(&value), &TrustedKeys::of([key.public("k")]), 1, &Revocations::default(), env!("CARGO_PKG_VERSION")).unwrap()
    }

    #[test]
    fn an_older_release_is_refused_until_somebody_insists_and_then_once() {
        let dir = std::env::temp_dir().join(format!("vkernel-serials-{}", std::process::id()));
        let start = |name: &str, serial, insist| admit(&release(name, serial), &[], &dir, insist);
        assert_eq!(start("shop", 4, false).unwrap(), Passed::Newest);
        assert_eq!(start("shop", 5, false).unwrap(), Passed::Newest);
        assert_eq!(start("shop", 5, false).unwrap(), Passed::Newest);
        let refused = start("shop", 4, false).unwrap_err();
        assert!(refused.reason == "replayed" && refused.failure.to_string().contains("has run serial 5"), "{}", refused.failure);
        assert_eq!(start("shop", 4, true).unwrap(), Passed::Rollback { highest: 5 });
        assert_eq!(start("shop", 4, false).unwrap_err().reason, "replayed");
        assert_eq!(start("../../odd\nname", 1, false).unwrap(), Passed::Newest, "another name has its own serials");
        // A damaged memory refuses: forgetting would be a way back.
        let file = dir.join(Digest::blake3(b"shop").hex());
        for bad in ["", "5", "x shop\n", "5 other\n", "5 shop"] {
            fs::write(&file, bad).unwrap();
            assert!(start("shop", 9, false).unwrap_err().failure.to_string().contains("damaged"), "{bad}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_pin_refuses_before_anything_is_remembered() {
        let dir = std::env::temp_dir().join(format!("vkernel-pins-{}", std::process::id()));
        let r = release("shop", 7);
        assert_eq!(admit(&r, &["other".parse().unwrap()], &dir, true).unwrap_err().reason, "not-pinned");
        assert!(!dir.exists());
        let both = ["shop".parse().unwrap(), r.digest().to_string().parse().unwrap()];
        assert_eq!(admit(&r, &both, &dir, false).unwrap(), Passed::Newest);
        fs::remove_dir_all(&dir).unwrap();
    }
}
