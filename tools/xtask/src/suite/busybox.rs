//! `cargo xtask suite busybox`: the tests of Debian's source package busybox, on Debian's busybox-static.
//!
//! Owns what a case is: a script of the old kind (`APPLET/…`, its exit status says whether it passes), or a line `PASS: …` that an `APPLET.tests` prints. The driver stands in for the suite's own `runtest`,
//! which has no time limit per case. The fact a newcomer gets wrong: applets are found through links to the one static program, so nearly everything a case executes is busybox.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the driver and the tests execute natively, besides busybox.
const PROGRAMS: &str = "awk basename bash cat chmod cmp cp cut dash date dd diff dirname du echo env false find grep gzip head hostname id ln ls md5sum mkdir mv od pwd readlink rm sed setsid sleep \
                        sort tar timeout touch tr true wc which xargs";
const DRIVER: &str = r##"
export bindir=/home/suite tsdir=/home/suite/testsuite PATH="/home/suite:$PATH"
export SKIP_KNOWN_BUGS=y SKIP_INTERNET_TESTS=y LANG=C.UTF-8 LC_ALL=C.UTF-8 ECHO=/bin/echo VERBOSE=
export OPTIONFLAGS=:$(sed -nr 's/^CONFIG_([A-Z0-9_a-z]*)=.*/\1/p' $bindir/.config | tr '\n' ':')
links=$bindir/runtest-tempdir-links
mkdir $links
for applet in $(busybox --list); do ln -s $bindir/busybox $links/$applet; done
wanted() { # CASE-FILE
    for feature in $(sed -n 's/^# FEATURE: //p' $1); do
        ! grep -q "^# $feature is not set$" $bindir/.config || return 1
    done
}
old_kind() { # APPLET
    for file in $tsdir/$1/*; do
        wanted $file || continue
        mkdir /tmp/case && cd /tmp/case
        d=$tsdir timeout --kill-after=5 60 sh -x -e $file > /tmp/printed 2>&1 < /dev/null && word=PASS || word=FAIL
        cd $tsdir && chmod -R u+rwx /tmp/case && rm -rf /tmp/case
        result $1/${file##*/} $word /tmp/printed
    done
}
new_kind() { # APPLET
    timeout --kill-after=5 300 env PATH="$links:$tsdir:$bindir:$PATH" VERBOSE=1 $tsdir/$1.tests > /tmp/printed 2>&1 < /dev/null
    echo "--- $1.tests exit $?" >&2
    cat /tmp/printed >&2
    awk -v applet=$1 '/^(PASS|FAIL|SKIPPED): / {
        word = substr($1, 1, length($1) - 1); name = $0
        sub(/^[A-Z]*: /, "", name); gsub(/[^!-~]/, "_", name)
        seen[name]++
        print applet ":" name (seen[name] > 1 ? "#" seen[name] : "") " " word
    }' /tmp/printed
}
cd $tsdir
[ $# = 0 ] && set -- $(busybox --list)
for applet; do
    [ ! -d $applet ] || old_kind $applet
    [ ! -f $applet.tests ] || new_kind $applet
done
"##;

pub(super) fn run(applets: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "busybox-rootfs")?;
    let home = image.join(HOME);
    if !home.join("testsuite/runtest").exists() {
        rootfs::add_package(&image, "busybox-static")?;
        install(&home)?;
    }
    let mut programs = scripted::named(PROGRAMS);
    programs.push("/usr/bin/busybox".to_owned());
    let verdict = Scripted::build("busybox", &image, &programs, DRIVER)?.compare(applets, |r| r == "PASS")?;
    ensure!(!applets.is_empty() || verdict.passing > 800, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The tests, the configuration that Debian built with, and a link to its program.
fn install(home: &Path) -> anyhow::Result<()> {
    let source = scripted::source("busybox", ".orig.tar.bz2")?;
    let debian = scripted::source("busybox", ".debian.tar.xz")?;
    process::emptied(home)?;
    fs::copy(debian.join("config/pkg/static"), home.join(".config"))?;
    std::os::unix::fs::symlink("/bin/busybox", home.join("busybox"))?;
    process::run(Command::new("cp").arg("--recursive").arg(source.join("testsuite")).arg(home))
}
