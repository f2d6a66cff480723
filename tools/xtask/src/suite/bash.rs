//! `cargo xtask suite bash`: the tests of Debian's source package bash, on Debian's bash.
//!
//! Owns what a case is: one `run-*` script; its result is its exit status and the checksum of what it printed, which is a diff against the expected output. The fact a newcomer gets wrong: a diff that is
//! not empty (another user, no terminal) is no reason to leave a case out, because lifted it must be the same diff.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::path::Path;
use std::process::Command;

/// What the tests execute natively.
const PROGRAMS: &str = "bash dash awk cat chgrp chmod cmp cp cut date diff echo env expr false grep id ln locale ls mkdir mkfifo mktemp mv od printf rm rmdir sed setsid sha256sum sleep sort \
                        tee timeout touch tr true uname wc";
/// Programs that the tests call, from the source's `support` directory.
const HELPERS: [&str; 4] = ["recho", "zecho", "printenv", "xcase"];
const DRIVER: &str = r#"
cd /home/suite/tests
export PATH="/home/suite/tests:$PATH" THIS_SH=/bin/bash BUILD_DIR=/home/suite
export BASH_TSTOUT=/tmp/bash-output
# An input that never ends: a timeout of 10 microseconds would race with the end of /dev/null.
mkfifo /tmp/never
exec 3<> /tmp/never
[ $# = 0 ] && set -- run-*
for case; do
    case $case in run-all | run-minimal | run-gprof) continue ;; esac
    [ $case = run-read ] && input=/tmp/never || input=/dev/null
    timeout --kill-after=5 120 sh $case > /tmp/printed 2>&1 < $input 3>&-
    status=$?
    cat $BASH_TSTOUT >> /tmp/printed 2> /dev/null
    sed -i 's/process group ([0-9]*)/process group (PID)/' /tmp/printed
    result $case "exit $status $(sha256sum < /tmp/printed | cut -c 1-16)" /tmp/printed
    rm -f $BASH_TSTOUT
done
"#;

pub(super) fn run(cases: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "bash-rootfs")?;
    let home = image.join(HOME);
    if !home.join("tests/xcase").exists() {
        install(&home)?;
    }
    let mut programs = scripted::named(PROGRAMS);
    // Bash converts $'\u3b1' with iconv, which loads this.
    programs.push("/usr/lib/x86_64-linux-gnu/gconv/BIG5HKSCS.so".to_owned());
    programs.extend(HELPERS.map(|h| format!("/{HOME}/tests/{h}")));
    let verdict = Scripted::build("bash", &image, &programs, DRIVER)?.compare(cases, |r| r.starts_with("exit 0 ") || r.starts_with("exit 1 "))?;
    ensure!(!cases.is_empty() || verdict.passing > 70, "only {} cases run natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The tests and their helpers, compiled natively.
fn install(home: &Path) -> anyhow::Result<()> {
    let source = scripted::source("bash", ".orig.tar.gz")?;
    process::emptied(home)?;
    process::run(Command::new("cp").arg("--recursive").arg(source.join("tests")).arg(home))?;
    for helper in HELPERS {
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-w", "-DHAVE_STRING_H", "-DHAVE_STDLIB_H", "-DHAVE_UNISTD_H", "-I"]).arg(&source).arg("-I").arg(source.join("include"));
        process::run(gcc.arg("-o").arg(home.join("tests").join(helper)).arg(source.join(format!("support/{helper}.c"))))?;
    }
    Ok(())
}
