//! `cargo xtask suite sqlite3`: the Tcl tests of Debian's source package sqlite3.
//!
//! Owns which files run, and what a case is: one named test of a file. The fact a newcomer gets wrong: the library under test is not Debian's but `testfixture`, the source's own program of SQLite, its test instruments and Tcl,
//! built natively and lifted whole: the tests reach into what a shared library hides.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::path::Path;
use std::process::Command;

const BUILD: &str =
    "./configure --quiet --enable-all --with-tcl=/usr/lib/x86_64-linux-gnu/tcl8.6; make --silent CFLAGS=-O2 testfixture > build.log 2>&1 || { tail build.log; exit 1; }";
const PROGRAMS: &str = "bash cat chmod cp cut dash echo env getent head hostname id ls mkdir mv rm sed setsid sha256sum sleep tail timeout touch uname";
/// By default: one or more files of each part of SQLite, together some half a minute natively. The whole set has 1,148 files and takes hours; among them are the simulated crashes and the failures of every single allocation.
const USUAL: &str = "aggnested alter attach autoinc backup between bigsort blob boundary1 btree01 capi2 capi3 cast cffault check collate1 collate4 conflict corrupt corrupt2 count cse ctime date default delete3 descidx1 \
    distinct e_createtable e_delete e_expr e_insert e_select e_select2 e_update exists expr fkey1 fkey2 format4 fts3aa fts3ab fts3rnd fts4aa func hexlit hook in incrblob index index2 indexedby insert insert2 intpkey join \
    join2 json101 json102 json103 lastinsert laststmtchanges like limit literal main memdb minmax misc1 misc2 nan normalize notnull null nulls1 orderby1 pager1 percentile pragma printf quote rowid rowvalue savepoint schema \
    select1 select2 select3 select4 select5 select6 select7 select8 select9 shared sort speed1 substr subquery sync table tclsqlite tempdb thread001 tokenize trace trans trigger1 trigger2 trigger3 types types2 unique update upsert1 \
    utf16align vacuum vacuum2 view vtab1 wal wal2 walbak where where2 where3 window1 window2 window3 with1 with2 without_rowid1 zeroblob zipfile";
const DRIVER: &str = r#"
mkdir /tmp/run
cd /tmp/run
for case; do
    file=$(ls /home/suite/sqlite3/test/$case.test /home/suite/sqlite3/ext/*/$case.test /home/suite/sqlite3/ext/*/test/$case.test 2> /dev/null | head -n 1)
    timeout --kill-after=5 600 /home/suite/sqlite3/testfixture $file > /tmp/printed 2>&1 < /dev/null
    result $case "exit $?" /tmp/printed
    sed -n "s,^\([^ ]*\)\.\.\. Ok$,$case/\1 Ok,p" /tmp/printed
    chmod -R u+rwx /tmp/run
    rm -rf /tmp/run/*
done
"#;

pub(super) fn run(cases: &[String]) -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "sqlite3-rootfs")?;
    scripted::tree(&image, "sqlite3", |tree| {
        rootfs::add_package(&image, "libtcl8.6")?;
        install(tree)
    })?;
    let mut programs = scripted::named(PROGRAMS);
    programs.push(format!("/{HOME}/sqlite3/testfixture"));
    let usual: Vec<String> = USUAL.split_whitespace().map(str::to_owned).collect();
    let chosen = if cases.is_empty() { &usual } else { cases };
    let verdict = Scripted::build("sqlite3", &image, &programs, DRIVER)?.compare(chosen, |r| r == "Ok" || r == "exit 0")?;
    ensure!(!cases.is_empty() || verdict.passing > 40_000, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// `testfixture` and the tests of all parts.
fn install(tree: &Path) -> anyhow::Result<()> {
    let source = scripted::built("sqlite3", ".orig.tar.xz", BUILD)?;
    process::run(Command::new("cp").arg("--recursive").args(["test", "ext", "testfixture"].map(|f| source.join(f))).arg(tree))
}
