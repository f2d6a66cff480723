//! The same image gives the same bytes, whoever builds it, where, when and on how many cores.
//!
//! Owns the two builders, who differ in everything that must not matter: directory, user, umask, locale, time zone, clock of the files, order in which the image was written, cores and jobs. The fact a newcomer gets wrong: with a common cache
//! the second build would only copy the first one's results, so each has its own.

use integration_tests::tiny::{Image, files};
use integration_tests::{Setup, show};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `nobody` is on Debian.
const NOBODY: &str = "65534";

/// One builder's place.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Copies the image there, in an order of its own, and gives everything to the user.
    fn new(prefix: &str, rootfs: &Path, reversed: bool, user: &str) -> Place {
        let place = Place { dir: tempfile::Builder::new().prefix(prefix).tempdir().unwrap() };
        let script = r#"mkdir -p "$1/image" "$1/out" "$1/home"; cd "$2"
find . ! -type d -print0 | sort -z $3 | xargs -0 cp -a --parents -t "$1/image"; [ -z "$3" ] || find "$1/image" -exec touch -h -d 2001-02-03 {} +; chown -R "$4:$4" "$1"; chmod 755 "$1""#;
        let made = Command::new("sh").args(["-ec", script, "-"]).arg(place.dir.path()).arg(rootfs).arg(if reversed { "-r" } else { "" }).arg(user).output().unwrap();
        assert!(made.status.success(), "{}", show(&made));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Name and contents of everything that a build wrote.
    fn written(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.at("out")).into_iter().map(|(path, bytes)| (path.strip_prefix(self.at("out")).unwrap().to_owned(), bytes)).collect()
    }
}

/// As root, on one core, in English.
fn first(rootfs: &Path, args: &[&str]) -> Place {
    let place = Place::new("a", rootfs, false, "0");
    build(&place, "umask 022; exec taskset 1 \"$@\" --jobs 1", "/", [("LC_ALL", "C"), ("TZ", "UTC")], args);
    place
}

/// As nobody, on all cores, elsewhere.
fn second(rootfs: &Path, args: &[&str]) -> Place {
    let place = Place::new("another-directory-with-a-longer-name", rootfs, true, NOBODY);
    let script = format!("umask 077; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\" --jobs 2");
    let cwd = place.at("home").display().to_string();
    build(&place, &script, &cwd, [("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Asia/Kathmandu")], args);
    place
}

fn build(place: &Place, script: &str, cwd: &str, environment: [(&str, &str); 2], args: &[&str]) {
    let mut c = Command::new("sh");
    c.args(["-ec", script, "-"]).arg(Setup::recompiler()).arg("--rootfs").arg(place.at("image")).args(args);
    c.arg("--output").arg(place.at("out/container.wasm")).arg("--manifest").arg(place.at("out/manifest.json")).arg("--cache").arg(place.at("home/cache"));
    c.current_dir(cwd).env("HOME", place.at("home")).envs(environment);
    let out = c.output().unwrap();
    assert!(out.status.success(), "{}", show(&out));
}

/// Asserts that both wrote the same files with the same bytes; how many there are.
fn assert_same(a: &Place, b: &Place) -> usize {
    let (a, b) = (a.written(), b.written());
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        let first = bytes.iter().zip(&b[name]).position(|(x, y)| x != y);
        assert!(bytes == &b[name], "{} differs, first at byte {first:?} of {} and {}", name.display(), bytes.len(), b[name].len());
    }
    for needed in ["container.wasm", "manifest.json", "manifest.provenance.json"] {
        assert!(a.contains_key(Path::new(needed)), "{needed} was not written");
    }
    a.len()
}

#[test]
fn two_builders_who_share_nothing_give_the_same_bytes() {
    let image = Image::made(Setup::recompiler());
    let rootfs = image.at("root");
    // As on machines with different processors.
    let args = ["--include", "/bin", "--cpu", "baseline"];
    let (a, b) = (first(&rootfs, &args), second(&rootfs, &args));
    assert_eq!(assert_same(&a, &b), 3 + 4, "two programs have two forms each");
    // The comparison can fail: one byte more in one program.
    let mut program = fs::read(image.at("root/bin/moving")).unwrap();
    program.push(0);
    fs::write(image.at("root/bin/moving"), program).unwrap();
    let other = second(&rootfs, &args).written();
    assert_ne!(other[Path::new("manifest.json")], a.written()[Path::new("manifest.json")]);
}

#[test]
#[ignore = "lifts libc twice: cargo xtask suite reproducible"]
fn debians_programs_are_built_alike_by_both() {
    let rootfs = Setup::get().rootfs;
    let args = ["--tier", "fast", "--include", "/usr/bin/ls", "/usr/bin/sort", "/usr/bin/true", "/usr/bin/ldd"];
    assert!(assert_same(&first(&rootfs, &args), &second(&rootfs, &args)) > 10);
}
