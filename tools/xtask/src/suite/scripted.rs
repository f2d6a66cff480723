//! Suites whose cases are run by a script inside one container: the guest's own shell starts them, one after another, natively and lifted.
//!
//! Owns the driver script's surroundings and the logs of both sides. Knows no suite. The fact a newcomer gets wrong: both sides work on an overlay that is dropped at the end, so what a case leaves behind is
//! seen by later cases of the same run only.

use super::native;
use super::verdict::{self, Results, Verdict};
use crate::process::{self, output, say, work};
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
check() { # CASE COMMAND...: its status and the checksum of what it printed
    local name="$1"
    shift
    timeout --kill-after=5 120 "$@" > /tmp/printed 2>&1 < /dev/null
    result $name "exit $? $(sha256sum < /tmp/printed | cut -c 1-16)" /tmp/printed
}
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
        let native = verdict::stable(self.results(self.natively(cases)?, "native")?, &self.results(self.natively(cases)?, "native-again")?);
        say(&format!("{}: lifted", self.name));
        let lifted = self.results(self.lifted(cases), "lifted")?;
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
        native::command(&self.image, USER, LIMIT_SECONDS, self.loopback, &self.environment, Self::words(cases))
    }

    fn lifted(&self, cases: &[String]) -> Command {
        let user = format!("{USER}:{USER}");
        let mut options = vec!["--user", &user, "--network", if self.loopback { "loopback" } else { "none" }];
        self.environment.iter().for_each(|e| options.extend(["--env", e]));
        let words: Vec<&str> = Self::words(cases).collect();
        process::bounded(LIMIT_SECONDS, &self.release.run(&self.binaries, &options, &words))
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

/// A suite's directory in its image, filled once.
pub(super) fn tree(image: &Path, name: &str, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let tree = image.join(HOME).join(name);
    if !tree.exists() {
        let partial = tree.with_extension("partial");
        process::emptied(&partial)?;
        fill(&partial)?;
        fs::rename(&partial, &tree)?;
    }
    Ok(tree)
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

/// The sources of package `name` after `script`, a native build of what its tests need; made once.
pub(super) fn built(name: &str, end: &str, script: &str) -> anyhow::Result<PathBuf> {
    let unpacked = source(name, end)?;
    let script = format!(r#"cp --archive "$1/." "$2"; cd "$2"; export FORCE_UNSAFE_CONFIGURE=1; {script}"#);
    sources::unpacked(&unpacked, &format!("{name}-built"), &script)
}
