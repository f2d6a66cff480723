//! `cargo xtask suite coreutils|sed|grep`: the tests of these GNU packages' Debian sources, on Debian's programs.
//!
//! Owns what a case is: one script, of sh or of perl, with the exit statuses of automake's tests; the driver stands in for `make check`, which is much the same in all of them. The fact a newcomer gets
//! wrong: nothing under test is compiled here. The native build in the sources makes `config.h` and the small programs that tests ask about the machine.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::process;
use crate::rootfs;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package with tests.
pub(super) struct Package {
    name: &'static str,
    /// The directory of the sources where the tests run.
    from: &'static str,
    /// What of the sources is copied into the image; all tests lie there.
    copied: &'static [&'static str],
    /// Programs that tests need, and a target of the Makefile each.
    made: &'static [&'static str],
    /// A link to a program where tests look for the one that the build would have made.
    link: (&'static str, &'static str),
    /// What else `make` has to bring up to date.
    targets: &'static str,
    /// Shell: variables, and `cases`, which lists them all.
    settings: &'static str,
    /// Programs that the tests execute besides coreutils.
    programs: &'static str,
    /// So few passing natively that the set-up must be wrong.
    least: usize,
}

pub(super) const COREUTILS: Package = Package {
    name: "coreutils",
    from: ".",
    copied: &["tests", "init.cfg"],
    made: &["src/getlimits"],
    link: ("src/ginstall", "/usr/bin/install"),
    targets: "tests/factor/t{00..36}.sh",
    settings: r#"
modules=./tests VERSION=9.1 programs=$(cat programs)
cases() { { grep -E -o '^  tests/[^ ]*[.](sh|pl|xpl)' tests/local.mk; ls tests/factor/t*.sh; } | grep -v -E '/(init|run|create-test)[.]sh' | sort -u; }
"#,
    programs: "awk bash cmp dash diff find getconf getent grep gzip locale perl sed setsid xargs",
    least: 350,
};

pub(super) const SED: Package = Package {
    name: "sed",
    from: ".",
    copied: &["testsuite", "init.cfg"],
    made: &["testsuite/get-mb-cur-max", "testsuite/test-mbrtowc"],
    link: ("sed/sed", "/usr/bin/sed"),
    targets: "",
    settings: r#"
modules=./testsuite VERSION=4.9 programs=sed
cases() { grep -E -o 'testsuite/[A-Za-z0-9-]+[.](sh|pl)' testsuite/local.mk | grep -v init.sh | sort -u; }
"#,
    programs: "awk bash cmp dash diff find getconf getent grep gzip locale perl sed setsid xargs",
    least: 40,
};

pub(super) const GREP: Package = Package {
    name: "grep",
    from: "tests",
    copied: &["tests"],
    made: &["tests/get-mb-cur-max"],
    link: ("src/grep", "/usr/bin/grep"),
    targets: "",
    settings: r#"
modules=. VERSION=3.8 programs='grep egrep fgrep'
cases() { grep -l -E '^#! ?/(bin/sh|usr/bin/perl)' * | grep -v -x -E 'init.sh|no-perl|envvar-check|bogus|.*[.]cfg'; }
"#,
    programs: "awk bash cmp dash diff egrep fgrep find getconf getent grep gzip locale perl sed setsid xargs",
    least: 60,
};

/// Sources of the library that are made are no prerequisites of their users in the Makefile.
const CONFIGURE: &str = r"
./configure --quiet --disable-nls
for d in . lib; do test ! -e $d/Makefile || echo 'made: $(BUILT_SOURCES)' | make --silent -C $d -j2 -f Makefile -f - made; done
test ! -e lib/Makefile || make --silent -j2 -C lib";

/// After `tree`, `from` and the settings.
const DRIVER: &str = r#"
export abs_top_builddir=$tree abs_top_srcdir=$tree top_srcdir=$tree
cd $tree/$from
export abs_srcdir=$PWD srcdir=. CONFIG_HEADER=$tree/config.h PACKAGE_VERSION=$VERSION VERSION built_programs="$programs" CU_TEST_NAME
export LOCALE_FR=none LOCALE_FR_UTF8=none LOCALE_JA=none LOCALE_TR_UTF8=none CC=no-compiler AWK=mawk EGREP='grep -E' EXEEXT= MAKE=no-make PERL=perl
export host_os=linux-gnu host_triplet=x86_64-pc-linux-gnu fail=0 TMPDIR=/tmp PATH="$tree/src:$PWD:$PATH"
unset TZ
modules="-w -I$modules -MCuSkip -MCoreutils"
[ $# = 0 ] && set -- $(cases)
for case; do
    CU_TEST_NAME="$(basename $tree),$(echo $case | tr / -)"
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

pub(super) fn run(package: &'static Package, cases: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, &format!("{}-rootfs", package.name))?;
    let tree = image.join(HOME).join(package.name);
    let coreutils = scripted::of_package(&image, "coreutils")?;
    if !tree.join("programs").exists() {
        for perl in ["perl-modules-5.36", "libperl5.36"] {
            rootfs::add_package(&image, perl)?;
        }
        install(package, &tree, &coreutils)?;
    }
    let mut programs = scripted::named(package.programs);
    programs.extend(coreutils);
    // What is found only at run time: perl's modules, and what `stdbuf` preloads.
    programs.extend(["/usr/lib/x86_64-linux-gnu/perl-base", "/usr/libexec/coreutils/libstdbuf.so"].map(str::to_owned));
    programs.extend(package.made.iter().map(|p| format!("/{HOME}/{}/{p}", package.name)));
    let driver = format!("tree=/{HOME}/{} from={}\ncd $tree\n{}{DRIVER}", package.name, package.from, package.settings);
    let verdict = Scripted::build(package.name, &image, &programs, &driver)?.compare(cases, |r| r == "PASS")?;
    ensure!(!cases.is_empty() || verdict.passing > package.least, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The tests, what they need of a build, and the names that the tests have for coreutils' programs.
fn install(package: &Package, tree: &Path, coreutils: &[String]) -> anyhow::Result<()> {
    let source = configured(package)?;
    process::emptied(tree)?;
    process::run(Command::new("cp").arg("--recursive").args(package.copied.iter().map(|f| source.join(f))).arg(tree))?;
    let config = ["lib/config.h", "config.h"].map(|c| source.join(c));
    fs::copy(config.iter().find(|c| c.exists()).context("configure made no config.h")?, tree.join("config.h"))?;
    for made in package.made {
        fs::create_dir_all(tree.join(made).parent().context("programs lie in directories")?)?;
        fs::copy(source.join(made), tree.join(made)).with_context(|| format!("{} has no {made}", package.name))?;
    }
    let (link, program) = package.link;
    let link = tree.join(link);
    fs::create_dir_all(link.parent().context("links lie in directories")?)?;
    std::os::unix::fs::symlink(program, link)?;
    let names = coreutils.iter().filter_map(|p| p.rsplit('/').next()).map(|n| if n == "install" { "ginstall" } else { n });
    fs::write(tree.join("programs"), names.collect::<Vec<_>>().join(" "))?;
    Ok(())
}

/// The sources after a native `configure` and a build of what tests need of it.
fn configured(package: &Package) -> anyhow::Result<PathBuf> {
    let mut script =
        format!("{CONFIGURE}\nfor made in {}; do make --silent -j2 -C ${{made%/*}} ${{made##*/}} 2> /dev/null || make --silent -j2 $made; done\n", package.made.join(" "));
    if !package.targets.is_empty() {
        script += &format!("make --silent {}\n", package.targets);
    }
    scripted::built(package.name, ".orig.tar.xz", &script)
}
