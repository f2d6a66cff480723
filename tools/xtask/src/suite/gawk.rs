//! `cargo xtask suite gawk`: the tests of Debian's source package gawk, on Debian's gawk and its extensions.
//!
//! Owns what a case is: one target of the tests' own Makefile, which compares what gawk printed with the expected output; Debian's make runs it, lifted too. The fact a newcomer gets wrong: a rule never fails, it leaves a file
//! `_TEST` behind. Not here: tests that need a network, and valgrind's.

use super::scripted::{self, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/gawk";
/// What the rules and gawk's own pipes and redirections execute.
const PROGRAMS: &str = "awk basename bash cat chmod cksum cmp cp cut dash date diff echo env expr false gawk getent grep head id locale ls make mkdir mv od printf pwd rm sed seq setsid sha256sum sleep sort tail tee timeout touch \
                        tr true uname uniq wc yes";
const DRIVER: &str = r#"
cd /home/suite/gawk/test
groups='BASIC_TESTS UNIX_TESTS GAWK_EXT_TESTS ARRAYDEBUG_TESTS MACHINE_TESTS LOCALE_CHARSET_TESTS SHLIB_TESTS MPFR_TESTS'
[ $# = 0 ] && set -- $(make --silent --eval "cases: ; @echo $(printf '$(%s) ' $groups)" cases)
for case; do
    timeout --kill-after=5 120 make --silent AWKPROG=/usr/bin/gawk $case > /tmp/printed 2>&1 < /dev/null
    word=PASS
    [ ! -e _$case ] || { word=FAIL; cat _$case >> /tmp/printed; }
    result $case $word /tmp/printed
done
"#;

pub(super) fn run(cases: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "gawk-rootfs")?;
    scripted::tree(&image, "gawk", |tree| {
        for package in ["gawk", "libmpfr6", "libsigsegv2", "libgmp10", "libreadline8", "make"] {
            rootfs::add_package(&image, package)?;
        }
        install(tree)
    })?;
    let mut programs = scripted::named(PROGRAMS);
    programs.extend([EXTENSIONS, "/usr/lib/x86_64-linux-gnu/awk"].map(str::to_owned));
    let verdict = Scripted::build("gawk", &image, &programs, DRIVER)?.compare(cases, |r| r == "PASS")?;
    ensure!(!cases.is_empty() || verdict.passing > 480, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The configured tests, and Debian's extensions where they look for those that a build would have made.
fn install(tree: &Path) -> anyhow::Result<()> {
    let source = scripted::built("gawk", ".orig.tar.xz", "./configure --quiet --disable-nls")?;
    // The Makefile would make itself again if it did not see, in order of age, what it was made from.
    let files = ["test", "m4", "configure.ac", "aclocal.m4", "configure", "config.h", "config.status", "awklib"];
    process::run(Command::new("cp").arg("--archive").args(files.map(|f| source.join(f))).arg(tree))?;
    fs::create_dir_all(tree.join("extension"))?;
    symlink(EXTENSIONS, tree.join("extension/.libs"))?;
    symlink("/usr/bin/gawk", tree.join("gawk"))?;
    Ok(())
}
