//! Hostile and broken input: one line that says what to do, exit status 1, nothing left behind. Each has a twin that builds.
//!
//! The files are a tiny program's, with fields of its headers overwritten. The fact a newcomer gets wrong: libraries that need each other in a circle are legal.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

const BUILDER: &str = env!("CARGO_BIN_EXE_recompiler-build");
const START: &str = ".globl _start,f\n_start: mov $60,%eax\n xor %edi,%edi\n syscall\nf: ret\n.section .note.GNU-stack,\"\",@progbits\n";

struct Image(tempfile::TempDir);

impl Image {
    fn new() -> Image {
        let image = Image(tempfile::tempdir().unwrap());
        fs::create_dir_all(image.at("root/bin")).unwrap();
        fs::create_dir_all(image.at("root/usr/lib")).unwrap();
        fs::write(image.at("start.s"), START).unwrap();
        image.link(&["-static-pie", "-o", "root/bin/good", "start.s"]);
        image
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn link(&self, args: &[&str]) {
        let status = Command::new("gcc").arg("-nostdlib").args(args).current_dir(self.0.path()).status().expect("gcc is installed");
        assert!(status.success(), "{args:?}");
    }

    /// `merge` is the whole way but for compiling and signing.
    fn merge(&self, include: &str, wrapper: &[&str]) -> Output {
        let words: Vec<&str> = wrapper.iter().copied().chain([BUILDER]).collect();
        let mut c = Command::new("timeout");
        c.args(["--kill-after=5", "60"]).args(words).args(["merge", "--rootfs", "root", "--include", include, "--output", "x/c.wasm", "--manifest", "x/m.json"]);
        c.current_dir(self.0.path()).env("XDG_CACHE_HOME", self.at("cache")).output().unwrap()
    }

    fn accepted(&self, include: &str) {
        let out = self.merge(include, &[]);
        assert!(out.status.success(), "{include}: {}", String::from_utf8_lossy(&out.stderr));
        fs::remove_dir_all(self.at("x")).unwrap();
    }

    fn refused(&self, include: &str, word: &str) {
        self.refused_by(&self.merge(include, &[]), include, word);
    }

    fn refused_by(&self, out: &Output, what: &str, word: &str) {
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{what}: {text}");
        assert!(text.lines().count() == 1 && text.starts_with("recompiler-build: ") && text.contains(word), "{what} does not say {word:?}: {text}");
        assert_eq!(fs::read_dir(self.at("x")).map_or(0, Iterator::count), 0, "{what} left something behind");
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Offsets of the program headers of one type.
fn headers(bytes: &[u8], kind: u32) -> Vec<usize> {
    let count = u16::from_le_bytes([bytes[56], bytes[57]]);
    let all = (0..usize::from(count)).map(|k| number(bytes, 32) as usize + 56 * k);
    all.filter(|at| bytes[*at..*at + 4] == kind.to_le_bytes()).collect()
}

const LOAD: u32 = 1;
const FLAGS: usize = 4;
const VADDR: usize = 16;
const FILESZ: usize = 32;
const MEMSZ: usize = 40;

#[test]
fn hostile_headers_are_refused_by_what_is_wrong_with_them() {
    let image = Image::new();
    image.accepted("/bin/good");
    let good = fs::read(image.at("root/bin/good")).unwrap();
    let loads = headers(&good, LOAD);
    let text = *loads.iter().find(|at| good[**at + FLAGS] & 1 != 0).expect("a program has text");
    let first = number(&good, loads[0] + VADDR).to_le_bytes();
    let changes: &[(&str, usize, &[u8], &str)] = &[
        ("overlapping", loads[1] + VADDR, &first, "overlaps"),
        ("beyond-the-file", loads[1] + FILESZ, &(1_u64 << 40).to_le_bytes(), "truncated"),
        ("endless", loads[1] + FILESZ, &u64::MAX.to_le_bytes(), "truncated"),
        ("huge-memory", loads[1] + MEMSZ, &u64::MAX.to_le_bytes(), "impossible sizes"),
        ("writable-text", text + FLAGS, &[7], "writable and executable"),
        ("many-headers", 56, &[0xff, 0xff], "/bin/many-headers"),
        ("headers-nowhere", 32, &u64::MAX.to_le_bytes(), "/bin/headers-nowhere"),
        ("32-bit", 4, &[1], "32-bit"),
        ("aarch64", 18, &[183], "aarch64"),
        ("big-endian", 5, &[2], "/bin/big-endian"),
        ("relocatable", 16, &[1], "/bin/relocatable"),
        ("core", 16, &[4], "/bin/core"),
        ("entry-outside", 24, &0xffff_0000_u64.to_le_bytes(), "/bin/entry-outside"),
    ];
    for (name, at, value, word) in changes {
        let mut bytes = good.clone();
        bytes[*at..at + value.len()].copy_from_slice(value);
        fs::write(image.at("root/bin").join(name), bytes).unwrap();
        image.refused(&format!("/bin/{name}"), word);
    }
    for length in [0, 1, 16, 63, 64, 65, loads[1] + 20, good.len() / 2] {
        fs::write(image.at("root/bin/cut"), &good[..length]).unwrap();
        image.refused("/bin/cut", "/bin/cut");
    }
}

#[test]
fn section_headers_do_not_matter_however_wrong() {
    let image = Image::new();
    let mut bytes = fs::read(image.at("root/bin/good")).unwrap();
    // e_shoff, e_shnum, e_shstrndx: nothing that runs needs them.
    bytes[40..48].copy_from_slice(&(u64::MAX - 7).to_le_bytes());
    bytes[60..64].copy_from_slice(&[0xff; 4]);
    fs::write(image.at("root/bin/sections"), bytes).unwrap();
    image.accepted("/bin/sections");
}

#[test]
fn libraries_in_a_circle_build_and_a_missing_one_is_named() {
    let image = Image::new();
    fs::write(image.at("empty.s"), ".section .note.GNU-stack,\"\",@progbits\n").unwrap();
    image.link(&["-shared", "-o", "root/usr/lib/ld.so", "start.s"]);
    image.link(&["-shared", "-o", "root/usr/lib/libb.so", "empty.s"]);
    image.link(&["-shared", "-o", "root/usr/lib/liba.so", "start.s", "-Wl,--no-as-needed", "root/usr/lib/libb.so", "-Wl,-soname,liba.so"]);
    // Again, so that b needs a, which needs b.
    image.link(&["-shared", "-o", "root/usr/lib/libb.so", "empty.s", "-Wl,--no-as-needed", "-Lroot/usr/lib", "-la", "-Wl,-soname,libb.so"]);
    image.link(&["-shared", "-o", "root/usr/lib/liba.so", "start.s", "-Wl,--no-as-needed", "-Lroot/usr/lib", "-lb", "-Wl,-soname,liba.so"]);
    image.link(&["-pie", "-o", "root/bin/circle", "start.s", "-Wl,--no-as-needed", "-Lroot/usr/lib", "-la", "-Wl,-dynamic-linker,/usr/lib/ld.so", "-Wl,-rpath,/usr/lib"]);
    image.accepted("/bin/circle");
    fs::remove_file(image.at("root/usr/lib/libb.so")).unwrap();
    image.refused("/bin/circle", "needs libb.so, which is nowhere in the image");
    fs::remove_file(image.at("root/usr/lib/ld.so")).unwrap();
    image.refused("/bin/circle", "/usr/lib/ld.so");
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_a_hang() {
    let image = Image::new();
    fs::copy(image.at("root/bin/good"), image.at("root/bin/secret")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    fs::set_permissions(image.at("root/bin/secret"), mode).unwrap();
    // Root reads everything: without these capabilities it is held to the mode.
    let held = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"];
    let wrapper = if rustix::process::geteuid().is_root() { &held[..] } else { &[] };
    let out = image.merge("/bin/secret", wrapper);
    image.refused_by(&out, "unreadable", "/bin/secret (inside the image): Permission denied");
    let fifo = Command::new("mkfifo").arg(image.at("root/bin/fifo")).status().unwrap();
    assert!(fifo.success());
    image.refused("/bin/fifo", "/bin/fifo");
    symlink("/bin/loop", image.at("root/bin/loop")).unwrap();
    image.refused("/bin/loop", "/bin/loop");
    symlink("/nowhere", image.at("root/bin/dangling")).unwrap();
    image.refused("/bin/dangling", "/bin/dangling");
    symlink("../../../../../../../etc/passwd", image.at("root/bin/outside")).unwrap();
    image.refused("/bin/outside", "/bin/outside");
}

/// A real file system that fills up: the old release stays whole, and no temporary file remains.
#[test]
fn a_full_file_system_leaves_the_old_release() {
    let image = Image::new();
    let script = r#"set -e
mkdir disk && mount -t tmpfs -o size=3m none disk
"$0" keygen k.pem >/dev/null
build() { "$0" --rootfs root --include "$@" --key k.pem --output disk/c.wasm --manifest disk/m.json; }
build /bin/good >/dev/null 2>&1
find disk -type f | sort > before; find disk -type f -exec sha256sum {} + | sort >> before
cp root/bin/good root/bin/more; printf 'x' >> root/bin/more
head -c 3145728 /dev/zero > disk/filler 2>/dev/null || true
if build /bin/good /bin/more >/dev/null 2> message; then echo "built on a full disk"; exit 3; fi
rm disk/filler
find disk -type f | sort > after; find disk -type f -exec sha256sum {} + | sort >> after
diff before after
"$0" verify disk/m.json --key k.pub >/dev/null
"#;
    let mut c = Command::new("unshare");
    c.arg("--mount").args((!rustix::process::geteuid().is_root()).then_some("--map-root-user"));
    let out = c.args(["bash", "-c", script, BUILDER]).current_dir(image.0.path()).env("XDG_CACHE_HOME", image.at("cache")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    let message = fs::read_to_string(image.at("message")).unwrap();
    assert!(message.lines().count() == 1 && message.contains("No space left on device") && message.contains("free some space"), "{message}");
}
