//! `cargo xtask suite perl`: the tests of the core language from Debian's source package perl, on Debian's perl.
//!
//! Owns which of them need no build of perl, and what a case is: one assertion of the Test Anything Protocol, `FILE/N`, or the exit status of a file. The fact a newcomer gets wrong: the tests look for modules in `../lib` alone; here that is
//! a tree of links to Debian's.

use super::scripted::{self, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const PACKAGES: &[&str] = &["perl", "perl-modules-5.36", "libperl5.36", "libdb5.3", "libgdbm6", "libgdbm-compat4"];
const XS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu/perl/5.36.0/auto", "/usr/lib/x86_64-linux-gnu/perl-base"];
const LIBRARIES: [&str; 3] = ["/usr/share/perl/5.36.0", "/usr/lib/x86_64-linux-gnu/perl/5.36.0", "/usr/lib/x86_64-linux-gnu/perl-base"];
const PROGRAMS: &str = "awk bash cat chmod cp cut dash date echo env false getconf getent grep id ln locale ls mkdir mkfifo mv perl printf pwd rm sed setsid sleep sort timeout touch tr true tty uname wc";
/// Not by default: the files that run others of `re` once more in a thread, three that take ten seconds and more natively; `porting`, whose subject is the source tree, is nowhere.
const DRIVER: &str = r#"
cd /home/suite/perl/t
export PERL_CORE=1 PERL_SKIP_TTY_TEST=1
chosen=yes
[ $# = 0 ] && chosen=no && set -- $(ls base/*.t comp/*.t cmd/*.t opbasic/*.t op/*.t re/*.t uni/*.t mro/*.t lib/*.t io/*.t run/*.t ../lib/*.t)
for file; do
    case $file in re/*_thr.t | re/anyof.t | io/*through.t) [ $chosen = yes ] || continue ;; esac
    switches=$(sed -n '1s/^#!.*perl *//p' $file)
    timeout --kill-after=5 120 perl $switches -I../lib $file > /tmp/printed 2> /tmp/errors < /dev/null
    status=$?
    cat /tmp/printed >> /tmp/errors
    result $file "exit $status" /tmp/errors
    awk -v file=$file '/^(not )?ok [0-9]+/ { negative = $1 == "not"; print file "/" $(negative ? 3 : 2) + 0, negative ? "not ok" : "ok" }' /tmp/printed
done
"#;

pub(super) fn run(cases: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "perl-rootfs")?;
    scripted::tree(&image, "perl", |tree| {
        for package in PACKAGES {
            rootfs::add_package(&image, package)?;
        }
        install(&image, tree)
    })?;
    let mut programs = scripted::named(PROGRAMS);
    programs.extend(XS.map(str::to_owned));
    let verdict = Scripted::build("perl", &image, &programs, DRIVER)?.compare(cases, |r| r == "ok" || r == "exit 0")?;
    ensure!(!cases.is_empty() || verdict.passing > 100_000, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The tests, and what they look for beside themselves.
fn install(image: &Path, tree: &Path) -> anyhow::Result<()> {
    let source = scripted::source("perl", ".orig.tar.xz")?;
    process::run(Command::new("cp").arg("--recursive").args(["t", "regen", "MANIFEST"].map(|f| source.join(f))).arg(tree))?;
    for beside in ["perl", "t/perl"] {
        symlink("/usr/bin/perl", tree.join(beside))?;
    }
    let lib = tree.join("lib");
    fs::create_dir(&lib)?;
    let inside = Path::new("/").join(lib.strip_prefix(image)?);
    for library in LIBRARIES {
        // Seen from inside, the links lead to Debian's files.
        process::run(Command::new("chroot").arg(image).args(["cp", "--recursive", "--symbolic-link", "--force", &format!("{library}/.")]).arg(&inside))?;
    }
    for entry in fs::read_dir(source.join("lib"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "t") {
            process::run(Command::new("cp").arg(&path).arg(&lib))?;
        }
    }
    Ok(())
}
