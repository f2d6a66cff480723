//! `cargo xtask suite xz`: the tests of Debian's source package xz-utils, on Debian's xz and liblzma.
//!
//! Owns what a case is: a test function of one of the programs, a script, or one of the format's test files listed, tested and decompressed. The fact a newcomer gets wrong: a file that xz must refuse is a case that passes when xz refuses it,
//! with the same words.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::{Context, ensure};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

const PROGRAMS: &str =
    "bash cat chmod cmp cp cut dash diff echo env expr false grep head id lzmainfo mkdir mktemp mv od printf rm sed setsid sha256sum sort tail timeout touch tr true wc xz";
/// Names that the scripts have for the programs of a build.
const LINKS: [(&str, &str); 4] = [("xz/xz", "xz"), ("scripts/xzdiff", "xzdiff"), ("scripts/xzgrep", "xzgrep"), ("lzmainfo/lzmainfo", "lzmainfo")];
const DRIVER: &str = r#"
cp -r /home/suite/xz /tmp/xz
cd /tmp/xz/tests
export srcdir=.
for test in test_*; do
    case $test in
        *.*) continue ;;
        test_compress_*) check $test sh $test; continue ;;
    esac
    timeout --kill-after=5 120 ./$test > /tmp/printed 2>&1 < /dev/null
    result $test "exit $?" /tmp/printed
    sed -n "s,^\([A-Z]*\): \([a-z].*\)$,$test/\2 \1,p" /tmp/printed
done
check test_files.sh sh test_files.sh
check test_scripts.sh sh test_scripts.sh
for file in files/*.*; do
    name=${file##*/}
    check $name/list xz --robot --list -vv $file
    check $name/test xz --test $file
    check $name/out sh -c "xz --decompress --stdout --threads=1 $file"
    check $name/parallel sh -c "xz --decompress --stdout --threads=2 $file"
done
cat /usr/share/common-licenses/* > text
for level in 0 1 2 3 4 5 6 7 8 9 0e 3e 6e; do
    for file in text /usr/bin/xz; do
        name=$level/${file##*/}
        check $name xz --stdout -$level --threads=1 $file
        check $name/back sh -c "xz --stdout -$level --threads=1 $file | xz --decompress | cmp - $file"
    done
    check $level/lzma xz --stdout -$level --format=lzma text
    check $level/blocks xz --stdout -$level --threads=2 --block-size=100000 text
done
"#;

pub(super) fn run() -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "xz-rootfs")?;
    let tree = scripted::tree(&image, "xz", |tree| {
        rootfs::add_package(&image, "xz-utils")?;
        install(tree)
    })?;
    let mut programs = scripted::named(PROGRAMS);
    for entry in fs::read_dir(tree.join("tests"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Data are programs too, of other machines.
        let data = name.starts_with("compress_prepared_");
        if !data && fs::read(tree.join("tests").join(&name)).is_ok_and(|b| b.starts_with(b"\x7fELF")) {
            programs.push(format!("/{HOME}/xz/tests/{name}"));
        }
    }
    let passes = |r: &str| ["PASS", "SKIP", "exit 0", "exit 77"].contains(&r) || ["exit 0 ", "exit 1 ", "exit 2 "].iter().any(|e| r.starts_with(e));
    let verdict = Scripted::build("xz", &image, &programs, DRIVER)?.compare(&[], passes)?;
    ensure!(verdict.passing > 400, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

/// The tests, compiled against the machine's liblzma; those of functions that a shared library hides are left out.
fn install(tree: &Path) -> anyhow::Result<()> {
    let source = scripted::built("xz-utils", ".orig.tar.xz", "./configure --quiet --disable-nls")?;
    process::run(Command::new("cp").arg("--recursive").args(["tests", "config.h"].map(|f| source.join(f))).arg(tree))?;
    for (link, program) in LINKS {
        let link = tree.join("src").join(link);
        fs::create_dir_all(link.parent().context("links lie in directories")?)?;
        symlink(format!("/usr/bin/{program}"), link)?;
    }
    let mut hidden = Vec::new();
    for entry in fs::read_dir(source.join("tests"))? {
        let path = entry?.path();
        let name = path.file_stem().context("tests have names")?.to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "c") && name != "bcj_test" {
            let mut gcc = Command::new("gcc");
            gcc.current_dir(&source).args(["-O2", "-w", "-DHAVE_CONFIG_H", "-I.", "-Isrc/common", "-Isrc/liblzma/api", "-Ilib", "-o"]);
            let made = process::output(gcc.arg(tree.join("tests").join(&name)).arg(&path).arg("-llzma"))?;
            if !made.status.success() {
                hidden.push(name);
            }
        }
    }
    println!("left out, because they do not link with a shared liblzma: {}", hidden.join(" "));
    Ok(())
}
