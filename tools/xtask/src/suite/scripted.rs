//! Suites whose cases are run by a script inside one container: the guest's own shell starts them, one after another, natively and lifted.
//!
//! Owns the container on the native side, which has the mounts, user and environment of `vkernel run`'s, and the two logs. Knows no suite. The fact a newcomer gets wrong: both sides work on an
//! overlay that is dropped at the end, so the image is the same at every run, and the same for both.

use super::verdict::{self, Results, Verdict};
use crate::process::{output, say, work};
use crate::release::{self, Release};
use crate::setup::{self, Binaries};
use crate::sources;
use anyhow::{Context, ensure};
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a suite's files lie in its image: the guest's home, which it may write.
pub(super) const HOME: &str = "home/suite";
/// Who the guest is. Most suites skip what root would have to do, and leave out what root may do anyway.
const USER: u32 = 1000;
/// No suite runs longer on one side.
const LIMIT_SECONDS: u32 = 5400;
/// Prints `CASE RESULT` on standard output and what the case itself printed on standard error.
const PRELUDE: &str = r#"
result() { # CASE RESULT OUTPUT-FILE
    echo "$1 $2"
    { echo "--- $1 $2"; cat "$3"; } >&2
}
"#;
/// Arguments: image, stage, user, then the program. Runs in mount, pid, net, ipc and uts namespaces of its own, without descriptors that the caller left open.
const NATIVE: &str = r#"
set -e
for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
image=$1 stage=$2 user=$3; shift 3
ip link set lo "$LOOPBACK"
mount --make-rprivate /
mount -t tmpfs stage "$stage"
cd "$stage"
mkdir root upper work
mount -t overlay -o "lowerdir=$image,upperdir=upper,workdir=work" overlay root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755,size=64k dev dev
for node in null zero full random urandom tty; do : > dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,size=64m shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
exec chroot . /usr/bin/setpriv --no-new-privs --reuid "$user" --regid "$user" --clear-groups "$@"
"#;

/// A suite ready to run.
pub(super) struct Scripted {
    name: &'static str,
    image: PathBuf,
    binaries: Binaries,
    release: Release,
    environment: Vec<String>,
    /// Is there a loopback interface?
    loopback: bool,
}

impl Scripted {
    /// Writes the driver script into the image and builds a release of it, with every script that the programs can run.
    pub(super) fn build(name: &'static str, image: &Path, programs: &[String], driver: &str) -> anyhow::Result<Self> {
        Self::build_with(name, image, programs, driver, &[])
    }

    /// The same with more options of `recompiler-build`.
    pub(super) fn build_with(name: &'static str, image: &Path, programs: &[String], driver: &str, options: &[&str]) -> anyhow::Result<Self> {
        let binaries = setup::binaries()?;
        let home = image.join(HOME);
        fs::write(home.join("driver"), format!("{PRELUDE}{driver}exit 0\n"))?;
        give(&home)?;
        name_user(image)?;
        let release = release::make(&binaries, &format!("suite-{name}"), image, programs, &[&["--scripts", "all"], options].concat())?;
        let environment = ["PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/home/suite", "TMPDIR=/tmp", "LC_ALL=C", "SHELL=/bin/sh", "TZ=UTC0"].map(str::to_owned).to_vec();
        Ok(Self { name, image: image.to_path_buf(), binaries, release, environment, loopback: false })
    }

    pub(super) fn with_loopback(self) -> Self {
        Self { loopback: true, ..self }
    }

    /// Runs the driver twice natively, once lifted; `cases` are its arguments. Cases that do not give the same result natively twice are left out.
    pub(super) fn compare(&self, cases: &[String], passes: impl Fn(&str) -> bool) -> anyhow::Result<Verdict> {
        say(&format!("{}: natively, twice", self.name));
        let mut native = self.results(self.natively(cases)?, "native")?;
        let again = self.results(self.natively(cases)?, "native-again")?;
        let unstable: Vec<String> = native.iter().filter(|(n, r)| again.get(*n) != Some(*r)).map(|(n, _)| n.clone()).collect();
        native.retain(|n, _| !unstable.contains(n));
        say(&format!("{}: lifted", self.name));
        let lifted = self.results(self.lifted(cases), "lifted")?;
        println!("{} cases left out, because they differ from run to run natively: {}", unstable.len(), unstable.join(" "));
        println!("what each case printed: {}", self.logs().display());
        verdict::judge(self.name, &native, &lifted, passes)
    }

    fn logs(&self) -> PathBuf {
        work().join(format!("suite-{}", self.name))
    }

    /// A session of its own, so that no case finds the caller's terminal; below a shell, because process 1 is given orphans, which `setsid` would take for its child.
    fn words(cases: &[String]) -> impl Iterator<Item = &str> {
        ["/bin/sh", "-c", "setsid --fork --wait sh /home/suite/driver \"$@\"; exit $?", "sh"].into_iter().chain(cases.iter().map(String::as_str))
    }

    fn natively(&self, cases: &[String]) -> anyhow::Result<Command> {
        let stage = self.logs().join("stage");
        fs::create_dir_all(&stage)?;
        let mut c = limited();
        c.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "bash", "-c", NATIVE, "native"]);
        c.env("LOOPBACK", if self.loopback { "up" } else { "down" });
        c.arg(&self.image).arg(&stage).arg(USER.to_string()).args(["/usr/bin/env", "-i"]).args(&self.environment).args(Self::words(cases));
        Ok(c)
    }

    fn lifted(&self, cases: &[String]) -> Command {
        let user = format!("{USER}:{USER}");
        let mut options = vec!["--user", &user, "--network", if self.loopback { "loopback" } else { "none" }];
        self.environment.iter().for_each(|e| options.extend(["--env", e]));
        let words: Vec<&str> = Self::words(cases).collect();
        let run = self.release.run(&self.binaries, &options, &words);
        let mut c = limited();
        c.arg(run.get_program()).args(run.get_args());
        c
    }

    fn results(&self, mut command: Command, log: &str) -> anyhow::Result<Results> {
        let log = self.logs().join(format!("{log}.log"));
        command.stderr(File::create(&log)?).stdin(std::process::Stdio::null());
        let out = output(&mut command)?;
        ensure!(out.status.success(), "{command:?}: {}; see {}", out.status, log.display());
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let results: Results = text.lines().filter_map(|l| l.split_once(' ')).map(|(n, r)| (n.to_owned(), r.to_owned())).collect();
        ensure!(!results.is_empty(), "{command:?} printed no result; see {}", log.display());
        Ok(results)
    }
}

fn limited() -> Command {
    let mut c = Command::new("timeout");
    c.args(["--kill-after=10", &LIMIT_SECONDS.to_string()]);
    c
}

/// Programs ask for the user's name.
fn name_user(image: &Path) -> anyhow::Result<()> {
    for (file, line) in [("etc/passwd", format!("suite:x:{USER}:{USER}::/{HOME}:/bin/sh\n")), ("etc/group", format!("suite:x:{USER}:\n"))] {
        let path = image.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !text.contains(&line) {
            fs::write(&path, text + &line)?;
        }
    }
    Ok(())
}

/// Makes the guest the owner of everything below `path`.
fn give(path: &Path) -> anyhow::Result<()> {
    lchown(path, Some(USER), Some(USER)).with_context(|| format!("cannot give away {}", path.display()))?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

/// Paths of programs in the image, by name.
pub(super) fn named(names: &str) -> Vec<String> {
    names.split_whitespace().map(|n| format!("/usr/bin/{n}")).collect()
}

/// The ELF programs that a Debian package installed in the image has in directories of PATH.
pub(super) fn of_package(image: &Path, package: &str) -> anyhow::Result<Vec<String>> {
    let list = image.join(format!("var/lib/dpkg/info/{package}.list"));
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    Ok(text.lines().filter(|p| is_program(image, p)).map(str::to_owned).collect())
}

fn is_program(image: &Path, path: &str) -> bool {
    let in_path = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"].iter().any(|d| path.starts_with(d));
    let file = image.join(path.trim_start_matches('/'));
    let executable = || fs::symlink_metadata(&file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    in_path && executable() && fs::read(&file).is_ok_and(|b| b.starts_with(b"\x7fELF"))
}

/// Unpacks the archive of source package `name` once; the directory with its files.
pub(super) fn source(name: &str, end: &str) -> anyhow::Result<PathBuf> {
    let archive = sources::file(name, end)?;
    sources::unpacked(&archive, &format!("{name}{}-unpacked", end.replace('.', "-")), r#"tar --extract --no-same-owner --strip-components=1 --file "$1" --directory "$2""#)
}
