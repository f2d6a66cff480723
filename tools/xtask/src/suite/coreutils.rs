//! `cargo xtask suite coreutils`: the tests of Debian's source package coreutils, on Debian's coreutils.
//!
//! Owns what a case is: one script, of sh or of perl, with the exit statuses of automake's tests; the driver stands in for its `make check`. The fact a newcomer gets wrong: nothing under test is compiled
//! here. The native build in the sources makes `config.h` and `getlimits`, which tests ask for the machine's limits.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::process::{self, say, work};
use crate::rootfs;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAMS: &str = "awk bash cmp dash diff find grep perl sed setsid xargs";
const DRIVER: &str = r#"
cd /home/suite/coreutils
export VERSION=9.1 PACKAGE_VERSION=9.1 LOCALE_FR=none LOCALE_FR_UTF8=none CC=no-compiler AWK=mawk EGREP='grep -E' EXEEXT= MAKE=no-make PERL=perl
export abs_top_builddir=$PWD abs_top_srcdir=$PWD abs_srcdir=$PWD srcdir=. top_srcdir=. CONFIG_HEADER=$PWD/lib/config.h host_os=linux-gnu
export host_triplet=x86_64-pc-linux-gnu fail=0 built_programs="$(cat programs)" TMPDIR=/tmp
unset TZ
. tests/lang-default
export PATH="$PWD/src:$PATH"
[ $# = 0 ] && set -- $(grep -E -o '^  tests/[^ ]*[.](sh|pl|xpl)' tests/local.mk | sort -u) tests/factor/t*.sh
for case; do
    export CU_TEST_NAME="coreutils,$(echo $case | tr / -)"
    modules="-w -I./tests -MCuSkip -MCoreutils"
    case $case in
        *.xpl) set -- perl -T $modules -M"CuTmpdir qw($case)" ;;
        *.pl) set -- perl $modules -M"CuTmpdir qw($case)" ;;
        *) set -- sh ;;
    esac
    timeout --kill-after=5 150 "$@" $case 9> /tmp/skipped > /tmp/printed 2>&1 < /dev/null
    status=$?
    case $status in
        0) word=PASS ;;
        77) word=SKIP ;;
        *) word=FAIL ;;
    esac
    echo "exit $status" >> /tmp/printed
    cat /tmp/skipped >> /tmp/printed
    result $case $word /tmp/printed
done
"#;

pub(super) fn run(cases: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "coreutils-rootfs")?;
    let home = image.join(HOME);
    let tested = scripted::of_package(&image, "coreutils")?;
    if !home.join("coreutils/programs").exists() {
        for package in ["perl-modules-5.36", "libperl5.36"] {
            rootfs::add_package(&image, package)?;
        }
        install(&home, &tested)?;
    }
    let mut programs = scripted::named(PROGRAMS);
    programs.extend(tested);
    // Perl finds its own modules when it runs.
    programs.extend(["/usr/lib/x86_64-linux-gnu/perl-base".to_owned(), format!("/{HOME}/coreutils/src/getlimits")]);
    let verdict = Scripted::build("coreutils", &image, &programs, DRIVER)?.compare(cases, |r| r == "PASS")?;
    ensure!(!cases.is_empty() || verdict.passing > 350, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The tests, what they need of a build, and the names of the programs under test.
fn install(home: &Path, programs: &[String]) -> anyhow::Result<()> {
    let source = configured()?;
    let _ = fs::remove_dir_all(home);
    let tree = home.join("coreutils");
    for dir in ["src", "lib"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    process::run(Command::new("cp").arg("--recursive").args(["tests", "init.cfg"].map(|f| source.join(f))).arg(&tree))?;
    for file in ["src/getlimits", "lib/config.h"] {
        fs::copy(source.join(file), tree.join(file)).with_context(|| format!("coreutils has no {file}"))?;
    }
    let names = programs.iter().filter_map(|p| p.rsplit('/').next());
    fs::write(tree.join("programs"), names.collect::<Vec<_>>().join(" "))?;
    Ok(())
}

/// The sources after a native `configure` and a build of what tests need of it.
fn configured() -> anyhow::Result<PathBuf> {
    let source = scripted::source("coreutils", ".orig.tar.xz")?;
    let built = work().join("sources/coreutils-built");
    if !built.exists() {
        say("configuring coreutils");
        let partial = work().join("sources/coreutils-partial");
        let _ = fs::remove_dir_all(&partial);
        process::run(Command::new("cp").arg("--archive").arg(source).arg(&partial))?;
        // The sources of the library that are made are no prerequisites of their users in the Makefile.
        let script = "set -e; ./configure --quiet --disable-nls; echo 'made: $(BUILT_SOURCES)' | make --silent -j2 -f Makefile -f - made; \
                      make --silent -j2 src/getlimits tests/factor/t{00..36}.sh";
        process::run(Command::new("bash").args(["-c", script]).env("FORCE_UNSAFE_CONFIGURE", "1").current_dir(&partial))?;
        fs::rename(&partial, &built)?;
    }
    Ok(built)
}
