//! The two disks of the machine: Debian's system, and the payload (our package, a release, the cases).
//!
//! The fact a newcomer gets wrong: nothing is mounted to make them. `mke2fs -d` writes a directory into a file system, with its owners and modes.

use super::{CASES, sources};
use crate::process::{self, emptied};
use crate::release::Release;
use anyhow::Context;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The unit that runs the cases, when everything else has started.
const UNIT: &str =
    "[Unit]\nDescription=Cases of the suite\nRequiresMountsFor=/payload\n\n[Service]\nType=idle\nExecStart=/payload/cases/host.sh\n\n[Install]\nWantedBy=multi-user.target\n";
const MOUNTS: &str = "LABEL=system / ext4 rw 0 1\nLABEL=payload /payload ext4 rw 0 2\n";
/// What has nothing to do in a machine that lives for minutes.
const MASKED: [&str; 6] = ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer"];

/// What the machine starts from.
pub(super) struct System {
    pub disk: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// A directory for the disks, which go with it; the console's text stays.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new(dir: PathBuf) -> anyhow::Result<Self> {
        emptied(&dir)?;
        Ok(Self(dir))
    }

    pub(super) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// Of Debian's root filesystem with a kernel.
    pub(super) fn system(&self, rootfs: &Path) -> anyhow::Result<System> {
        let units = rootfs.join("etc/systemd/system");
        fs::create_dir_all(units.join("multi-user.target.wants"))?;
        fs::create_dir_all(rootfs.join("payload"))?;
        fs::write(units.join("boot-cases.service"), UNIT)?;
        fs::write(rootfs.join("etc/fstab"), MOUNTS)?;
        let links = MASKED.iter().map(|unit| (units.join(unit), "/dev/null")).chain([(units.join("multi-user.target.wants/boot-cases.service"), "../boot-cases.service")]);
        for (link, to) in links {
            if link.symlink_metadata().is_err() {
                symlink(to, link)?;
            }
        }
        let boot = |prefix: &str| {
            let mut found = fs::read_dir(rootfs.join("boot"))?.flatten().map(|e| e.path()).filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
            found.next().with_context(|| format!("no {prefix}* in {}/boot", rootfs.display()))
        };
        Ok(System { disk: self.disk("system", rootfs, 3000)?, kernel: boot("vmlinuz-")?, initrd: boot("initrd.img-")? })
    }

    /// What the cases want, as they find it below /payload.
    pub(super) fn payload(&self, release: &Release, packages: &[PathBuf], cases: &[String]) -> anyhow::Result<PathBuf> {
        let payload = self.0.join("payload");
        emptied(&payload.join("packages"))?;
        emptied(&payload.join("release"))?;
        for package in packages {
            copy(package, &payload.join("packages"))?;
        }
        let built = release.manifest.parent().context("a manifest lies in a directory")?;
        for name in ["manifest.json", "container.wasm", "aot"] {
            copy(&built.join(name), &payload.join("release"))?;
        }
        copy(&release.public_key, &payload.join("release/trusted.pub"))?;
        copy(&release.rootfs, &payload.join("rootfs"))?;
        copy(&sources(), &payload.join("cases"))?;
        fs::write(payload.join("cases/chosen"), cases.join("\n") + "\n").with_context(|| format!("a copy of {CASES}"))?;
        let disk = self.disk("payload", &payload, 1500)?;
        fs::remove_dir_all(&payload)?;
        Ok(disk)
    }

    fn disk(&self, label: &str, contents: &Path, megabytes: u32) -> anyhow::Result<PathBuf> {
        let disk = self.0.join(format!("{label}.img"));
        process::run(
            Command::new("mke2fs").args(["-q", "-t", "ext4", "-L", label, "-d"]).arg(contents).arg(&disk).arg(format!("{megabytes}M")).stderr(std::process::Stdio::null()),
        )?;
        Ok(disk)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for disk in ["system.img", "payload.img"] {
            let _ = fs::remove_file(self.0.join(disk));
        }
        let _ = fs::remove_dir_all(self.0.join("payload"));
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    process::run(Command::new("cp").args(["--archive", "-H"]).arg(from).arg(to))
}
