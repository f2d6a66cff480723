//! rpm's databases in all three formats: the packages and files that rpm itself lists from the same file, and errors for what does not fit.
//!
//! Debian's rpm writes SQLite and reads Berkeley DB, which `db5.3_load` makes of the headers in that. The fact a newcomer gets wrong: it knows no ndb. `rpm/Packages.db` was written by one that does, and `rpm/Packages.txt` is what it
//! said of it; `cargo xtask suite signatures` builds such an rpm and asks it about more.

use recompiler_build::sbom::rpm::{self, RpmError};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NDB: &[u8] = include_bytes!("rpm/Packages.db");
const NDB_LISTED: &str = include_str!("rpm/Packages.txt");

/// What is compared of each package: a line.
const QUERY: &str = "%{NAME}|%{VERSION}-%{RELEASE}|%{ARCH}|%{EPOCH}|%{LICENSE}|%{VENDOR}|%{URL}|%{SOURCERPM}[|%{FILENAMES}]\\n";

fn ours(database: &[u8]) -> BTreeSet<String> {
    let none = || "(none)".to_owned();
    let line = |p: recompiler_build::sbom::packages::Package| {
        let [epoch, licence, vendor, url, source] = [p.epoch, p.licence, p.maintainer, p.homepage, p.source].map(|f| f.unwrap_or_else(none));
        [vec![p.name, p.version, p.architecture, epoch, licence, vendor, url, source], p.files].concat().join("|")
    };
    rpm::packages(database).unwrap().into_iter().map(line).collect()
}

/// Two lists, of which a failure shows one line: some are long.
fn same(found: &BTreeSet<String>, listed: &BTreeSet<String>, what: &str) {
    let first = found.symmetric_difference(listed).next().map(|line| line.chars().take(200).collect::<String>());
    assert_eq!((first, found.len()), (None, listed.len()), "{what}");
}

fn wrong(database: &[u8]) -> String {
    rpm::packages(database).expect_err("it does not fit").to_string()
}

fn done(out: Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// An rpm that knows a format, with libraries of its own if need be.
struct Rpm {
    backend: &'static str,
    libraries: Option<PathBuf>,
}

impl Rpm {
    fn run(&self, root: &Path, args: &[&str]) -> String {
        let mut c = Command::new("rpm");
        c.envs(self.libraries.as_ref().map(|l| ("LD_LIBRARY_PATH", l))).arg("--root").arg(root).args(["--dbpath", "/var/lib/rpm", "--define"]);
        done(c.arg(format!("_db_backend {}", self.backend)).args(args).output().expect("rpm is installed"))
    }

    fn listed(&self, root: &Path) -> BTreeSet<String> {
        self.run(root, &["-qa", "--qf", QUERY]).lines().map(str::to_owned).collect()
    }

    /// A database with packages of which some are gone again.
    fn filled(&self, directory: &Path) -> PathBuf {
        let root = directory.join(self.backend);
        fs::create_dir_all(&root).unwrap();
        let packages = built(directory);
        self.run(&root, &[&["-i", "--justdb", "--nodeps"][..], &packages.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        self.run(&root, &["-e", "--justdb", "--nodeps", "tiny-p3", "tiny-p40"]);
        root
    }
}

const SQLITE: Rpm = Rpm { backend: "sqlite", libraries: None };
const BERKELEY: Rpm = Rpm { backend: "bdb_ro", libraries: None };

/// A package with so many files that its header needs many pages of its own, and many small ones.
fn built(directory: &Path) -> Vec<String> {
    let small: String = (0..60).map(|n| format!("%package p{n}\nSummary: small\n%description p{n}\nsmall\n%files p{n}\n")).collect();
    let text = format!(
        "Name: tiny\nEpoch: 2\nVersion: 1.5~rc1\nRelease: 3\nSummary: tiny\nLicense: MIT AND Zlib\nURL: https://tiny.invalid\nVendor: Example\nBuildArch: noarch\n%description\ntiny\n%install\n\
         mkdir -p %{{buildroot}}/bin %{{buildroot}}/usr/share/tiny\ntouch %{{buildroot}}/bin/moving\ncd %{{buildroot}}/usr/share/tiny; for n in `seq 0 1999`; do :> file-$n; done\n\
         %files\n/bin/moving\n/usr/share/tiny\n{small}"
    );
    let spec = directory.join("tiny.spec");
    fs::write(&spec, text).unwrap();
    let top = format!("_topdir {}", directory.join("b").display());
    done(Command::new("rpmbuild").args(["-bb", "--quiet", "--define", "_build_id_links none", "--define", &top]).arg(spec).output().expect("rpm is installed"));
    fs::read_dir(directory.join("b/RPMS/noarch")).unwrap().map(|e| e.unwrap().path().display().to_string()).collect()
}

/// `db5.3_load`'s input of SQLite's rows, in a byte order (`<`, `>`), and under 0 a number, as rpm has it there.
const DUMP: &str = r#"
import sqlite3, struct, sys
file, order, options = sys.argv[1:]
number = lambda n: struct.pack(order + "I", n).hex()
print("VERSION=3\nformat=bytevalue\ntype=hash\n" + options + "HEADER=END")
rows = sqlite3.connect(file).execute("select hnum, blob from Packages").fetchall()
for key, value in [(0, number(len(rows)))] + [(n, blob.hex()) for n, blob in rows]:
    print(" " + number(key), " " + value, sep="\n")
print("DATA=END")
"#;

/// Berkeley DB's file of an SQLite one's headers.
fn berkeley(sqlite: &Path, root: &Path, order: &str, options: &str) -> Vec<u8> {
    let into = root.join("var/lib/rpm");
    let _ = fs::remove_dir_all(root);
    fs::create_dir_all(&into).unwrap();
    let dump = root.join("dump");
    fs::write(&dump, done(Command::new("python3").args(["-c", DUMP]).arg(sqlite.join("var/lib/rpm/rpmdb.sqlite")).args([order, options]).output().unwrap())).unwrap();
    done(Command::new("db5.3_load").arg("-f").arg(dump).arg(into.join("Packages")).output().expect("db5.3-util is installed"));
    fs::read(into.join("Packages")).unwrap()
}

/// Numbers of the pages of a kind, in a little-endian file.
fn pages(file: &[u8], kind: u8) -> Vec<usize> {
    let bytes = number(file, 20);
    file.chunks(bytes).enumerate().filter(|(_, page)| page[25] == kind).map(|(n, _)| n).collect()
}

fn number(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize
}

fn with(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&file[..at], bytes, &file[at + bytes.len()..]].concat()
}

#[test]
fn packages_and_files_are_those_that_rpm_lists_from_sqlite_and_berkeley_db() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SQLITE.filled(directory.path());
    let listed = SQLITE.listed(&sqlite);
    assert_eq!((listed.len(), listed.iter().map(|line| line.matches('|').count()).max()), (59, Some(7 + 2002)));
    same(&ours(&fs::read(sqlite.join("var/lib/rpm/rpmdb.sqlite")).unwrap()), &listed, "sqlite");
    let root = directory.path().join("berkeley");
    for (order, options) in [
        ("<", "db_pagesize=4096\ndb_lorder=1234\n"),
        (">", "db_pagesize=4096\ndb_lorder=4321\n"),
        // A table that doubles often, with values' pages between its halves.
        ("<", "db_pagesize=512\nh_ffactor=1\n"),
        (">", "db_pagesize=65536\ndb_lorder=4321\n"),
    ] {
        let file = berkeley(&sqlite, &root, order, options);
        same(&BERKELEY.listed(&root), &listed, options);
        same(&ours(&file), &listed, options);
    }
    // Made for many more: buckets that were never used. Debian's rpm does not read those, unlike Berkeley DB.
    let file = berkeley(&sqlite, &root, "<", "db_pagesize=512\nh_ffactor=1\nh_nelem=1000\n");
    assert!(pages(&file, 0).len() > 900);
    same(&ours(&file), &listed, "unused buckets");
}

#[test]
fn a_hash_file_of_berkeley_db_that_does_not_fit_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let good = berkeley(&SQLITE.filled(directory.path()), &directory.path().join("berkeley"), "<", "db_pagesize=1024\nh_ffactor=4\n");
    assert_eq!(ours(&good).len(), 59);
    let (tables, values) = (pages(&good, 13), pages(&good, 7));
    assert!(tables.len() > 3 && values.len() > 100, "{tables:?}");
    // A page whose first value is 12 bytes that stand for other pages, and where in the file those are.
    let second = |table: &usize| (1024 * table, 1024 * table + usize::from(u16::from_le_bytes([good[1024 * table + 28], good[1024 * table + 29]])));
    let (table, item) = tables.iter().map(second).find(|(_, item)| good[*item] == 3).unwrap();
    let value = 1024 * number(&good, item + 4);
    let own = |page: usize| u32::try_from(page / 1024).unwrap().to_le_bytes();
    for (damaged, expect) in [
        (good[..300].to_vec(), "is no hash file of Berkeley DB of rpm's: its metadata are cut off"),
        (with(&good, 16, &[7]), "its version is not known"),
        (with(&good, 25, &[9]), "its version is not known"),
        (with(&good, 20, &[1]), "it has no valid page size"),
        (with(&good, 24, &[1]), "it is encrypted or has checksums"),
        (with(&good, 26, &[1]), "it is encrypted or has checksums"),
        (good[..good.len() - 1].to_vec(), "lies past the end: the file is cut off"),
        (with(&good, 72, &[0xff; 4]), "page "),
        (with(&good, 96, &[0; 4]), "page 0: is part of two things at once"),
        (with(&good, table + 25, &[7]), "is not of the kind that belongs there"),
        (with(&good, table + 8, &[0xee]), "is not of the kind that belongs there"),
        (with(&good, table + 16, &own(table)), "is part of two things at once"),
        (with(&good, table + 20, &[3]), "has a key without a value"),
        (with(&good, table + 20, &[0xfe, 0xff]), "a key or a value lies outside of it"),
        (with(&good, table + 26, &[0xff, 0xff]), "a key or a value lies outside of it"),
        (with(&good, table + 28, &[0xff, 0x03]), "a key or a value lies outside of it"),
        (with(&good, item, &[2]), "a value is of a kind that rpm does not write"),
        (with(&good, item + 4, &own(table)), "is part of two things at once"),
        (with(&good, item + 8, &[1, 0, 0, 0]), "a value is not as long as it says"),
        (with(&good, value + 16, &own(value)), "is part of two things at once"),
        (with(&good, value + 16, &[0xff; 4]), "lies past the end"),
        (with(&good, value + 22, &[0xff, 0xff]), "has more bytes of a value than bytes"),
    ] {
        let line = wrong(&damaged);
        assert!(line.contains(expect), "{expect}: {line}");
    }
}

#[test]
fn packages_of_an_ndb_database_are_those_that_rpm_listed_and_what_does_not_fit_is_an_error() {
    assert_eq!(ours(NDB), NDB_LISTED.lines().map(str::to_owned).collect());
    let used: Vec<usize> = (2..256).map(|slot| 16 * slot).filter(|at| number(NDB, at + 8) != 0).collect();
    let [first, second] = used[..] else { panic!("{used:?}") };
    let blob = 16 * number(NDB, first + 8);
    let end = |slot: usize| 16 * (number(NDB, slot + 8) + number(NDB, slot + 12));
    let (end, last) = (end(first), end(first).max(end(second)));
    let slot = first / 16;
    for (damaged, expect) in [
        (NDB[..9].to_vec(), "is no ndb database of rpm's: it is cut off before the end of its slots".to_owned()),
        (NDB[..4000].to_vec(), "it is cut off before the end of its slots".into()),
        (with(NDB, 12, &[0; 4]), "it is cut off before the end of its slots".into()),
        (with(NDB, 12, &[0xff; 4]), "it is cut off before the end of its slots".into()),
        (with(NDB, 4, &[1]), "its version is not known".into()),
        (with(NDB, first, b"x"), format!("slot {slot}: does not begin like one")),
        (with(NDB, 12, &[2]), "slot 256: does not begin like one".into()),
        (with(NDB, first + 8, &[1, 0, 0, 0]), format!("slot {slot}: its blocks are part of something else, too")),
        (with(NDB, second, &NDB[first..first + 16]), "its blocks are part of something else, too".into()),
        (with(NDB, first + 12, &[0xff; 4]), format!("slot {slot}: its blocks lie past the end: the file is cut off")),
        (NDB[..last - 1].to_vec(), "its blocks lie past the end: the file is cut off".into()),
        (with(NDB, first + 12, &[1, 0, 0, 0]), format!("slot {slot}: its blocks do not hold what it says")),
        (with(NDB, first + 12, &[0, 0, 0, 0]), format!("slot {slot}: its blocks do not hold what it says")),
        (with(NDB, first + 4, &[0xee]), format!("slot {slot}: its blocks do not hold what it says")),
        (with(NDB, blob, b"x"), format!("slot {slot}: its blocks do not hold what it says")),
        (with(NDB, blob + 12, &[0xff, 0xff]), format!("slot {slot}: its blocks do not hold what it says")),
        (with(NDB, end - 4, b"x"), format!("slot {slot}: its blocks do not hold what it says")),
    ] {
        let line = wrong(&damaged);
        assert!(line.contains(&expect), "{expect}: {line}");
    }
}

#[test]
fn a_file_of_none_of_the_formats_is_told_from_a_damaged_one() {
    for file in [&b""[..], b"RpmX", b"SQLite format 2\0", &[0; 600], &with(&[0; 600], 12, &0x0005_3162u32.to_le_bytes())] {
        assert_eq!(rpm::packages(file), Err(RpmError::Unknown));
    }
}

#[test]
#[ignore = "needs an rpm that knows ndb: cargo xtask suite signatures"]
fn packages_and_files_are_those_that_rpm_lists_from_ndb() {
    let libraries = std::env::var_os("RPM_LIBRARIES").expect("RPM_LIBRARIES is not set: run cargo xtask suite signatures");
    let rpm = Rpm { backend: "ndb", libraries: Some(libraries.into()) };
    let directory = tempfile::tempdir().unwrap();
    let root = rpm.filled(directory.path());
    let listed = rpm.listed(&root);
    assert_eq!((listed.len(), listed.iter().map(|line| line.matches('|').count()).max()), (59, Some(7 + 2002)));
    let database = root.join("var/lib/rpm/Packages.db");
    same(&ours(&fs::read(&database).unwrap()), &listed, "ndb");
    // What it says of the file that the other tests read.
    fs::write(&database, NDB).unwrap();
    assert_eq!(rpm.listed(&root), NDB_LISTED.lines().map(str::to_owned).collect());
}
