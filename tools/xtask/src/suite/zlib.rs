//! `cargo xtask suite zlib`: the test and example programs of Debian's source package zlib, on Debian's libz.
//!
//! Owns which runs of them are cases; a result is a program's exit status and the checksum of what it printed. The fact a newcomer gets wrong: only the small programs are compiled here, and they load the image's libz.so; `infcover` alone
//! links Debian's libz.a, because it calls what the shared library hides.

use super::scripted::{self, HOME, Scripted};
use super::verdict::Verdict;
use crate::{process, rootfs};
use anyhow::ensure;
use std::path::Path;
use std::process::Command;

/// Program, source, options.
const MADE: &[(&str, &str, &[&str])] = &[
    ("example", "test/example.c", &["-lz"]),
    ("minigzip", "test/minigzip.c", &["-lz"]),
    ("infcover", "test/infcover.c", &["-l:libz.a"]),
    ("enough", "examples/enough.c", &["-lz"]),
    ("fitblk", "examples/fitblk.c", &["-lz"]),
    ("gun", "examples/gun.c", &["-lz"]),
    ("gzappend", "examples/gzappend.c", &["-lz"]),
    ("gzjoin", "examples/gzjoin.c", &["-lz"]),
    ("gznorm", "examples/gznorm.c", &["-lz"]),
    ("zpipe", "examples/zpipe.c", &["-lz"]),
    ("zran", "examples/zran.c", &["-DTEST", "-lz"]),
];
const PROGRAMS: &str = "bash cat chmod cmp cp cut dash dd echo env gzip head id mkdir rm sed setsid sha256sum tail timeout";
const DRIVER: &str = r#"
cd /home/suite/zlib
PATH=$PWD:$PATH
both() { # CASE FILE COMPRESS DECOMPRESS: the compressed bytes, and that they give the file again
    check $1 sh -c "$3 < $2"
    check $1/back sh -c "$3 < $2 | $4 | cmp - $2"
}
mkdir /tmp/files
head -c 1000000 /dev/zero > /tmp/files/zeros
: > /tmp/files/empty
printf x > /tmp/files/byte
cp /usr/bin/bash /tmp/files/program
cat /usr/share/common-licenses/* > /tmp/files/text
gzip -n9 < /tmp/files/program > /tmp/files/packed
check example example /tmp/example.gz
check infcover infcover
check enough enough
check enough/lengths enough 286 10 15
for size in 64 1000 30000; do check fitblk/$size sh -c "fitblk $size < /tmp/files/text"; done
for file in /tmp/files/*; do
    name=${file##*/}
    for level in 1 2 3 4 5 6 7 8 9; do
        both minigzip/$name/$level $file "minigzip -$level" "minigzip -d"
    done
    for strategy in f h r; do
        both minigzip/$name/$strategy $file "minigzip -$strategy" "minigzip -d"
    done
    both minigzip/$name/gzip $file "minigzip" "gzip -dc"
    both zpipe/$name $file "zpipe" "zpipe -d"
    both gun/$name $file "gzip -n6" "gun"
    gzip -n6 < $file > /tmp/one.gz
    gzip -n1 < /tmp/files/text > /tmp/two.gz
    check gun/test/$name gun -t /tmp/one.gz
    check gzjoin/$name gzjoin /tmp/one.gz /tmp/two.gz
    check gznorm/$name sh -c "cat /tmp/one.gz /tmp/two.gz | gznorm"
    check gzappend/$name sh -c "gzappend /tmp/one.gz /tmp/files/text && gzip -dc /tmp/one.gz"
    check zran/$name zran /tmp/two.gz 4096
    check damaged/$name sh -c "head -c 1000 /tmp/two.gz | minigzip -d"
done
"#;

pub(super) fn run() -> anyhow::Result<Verdict> {
    let image = rootfs::copy(&rootfs::debian()?, "zlib-rootfs")?;
    scripted::tree(&image, "zlib", install)?;
    let mut programs = scripted::named(PROGRAMS);
    programs.extend(MADE.iter().map(|(name, _, _)| format!("/{HOME}/zlib/{name}")));
    let verdict = Scripted::build("zlib", &image, &programs, DRIVER)?.compare(&[], |r| r.starts_with("exit 0 ") || r.starts_with("exit 1 "))?;
    ensure!(verdict.passing > 200, "only {} cases pass natively: the set-up is wrong", verdict.passing);
    Ok(verdict)
}

fn install(tree: &Path) -> anyhow::Result<()> {
    let source = scripted::source("zlib", ".orig.tar.bz2")?;
    for (name, file, options) in MADE {
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-w", "-I"]).arg(&source).arg("-o").arg(tree.join(name)).arg(source.join(file)).args(*options);
        process::run(&mut gcc)?;
    }
    Ok(())
}
