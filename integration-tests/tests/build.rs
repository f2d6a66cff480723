//! `recompiler-build` as its caller sees it: what it makes of each tier runs.

use integration_tests::{Setup, finish, show};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A release of one tier in a directory of its own.
struct Release {
    dir: tempfile::TempDir,
    rootfs: PathBuf,
}

impl Release {
    fn build(tier: &str, rootfs: &Path, include: &[&str]) -> Release {
        Release::build_with(&["--tier", tier], rootfs, include)
    }

    fn build_with(options: &[&str], rootfs: &Path, include: &[&str]) -> Release {
        let recompiler = Setup::get().recompiler;
        let release = Release { dir: tempfile::tempdir().expect("a directory can be made"), rootfs: rootfs.to_path_buf() };
        let keygen = Command::new(&recompiler).arg("keygen").arg(release.at("build.key")).status().expect("the program starts");
        assert!(keygen.success());
        let mut build = Command::new(&recompiler);
        build.arg("--rootfs").arg(rootfs).arg("--include").args(include).args(options).arg("--key").arg(release.at("build.key"));
        build.arg("--output").arg(release.at("container.wasm")).arg("--manifest").arg(release.at("manifest.json")).arg("--cache").arg(release.at("cache"));
        let built = finish(build);
        assert!(built.status.success(), "{}", show(&built));
        release
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, program: &[&str]) -> String {
        let mut run = Command::new(Setup::get().vkernel);
        run.arg("run").arg(self.at("manifest.json")).arg("--rootfs").arg(&self.rootfs).arg("--key").arg(self.at("build.pub")).arg("--").args(program);
        show(&finish(run))
    }

    /// Bytes of native code of each form.
    fn code_bytes(&self) -> [u64; 2] {
        let code = || std::fs::read_dir(self.at("aot/x86_64-unknown-linux-gnu")).expect("native code was written").map(|e| e.expect("readable"));
        let of = |form: &str| code().filter(|e| e.file_name().to_string_lossy().contains(form)).map(|e| e.metadata().expect("readable").len()).sum();
        [".structured.", ".resumable."].map(of)
    }
}

#[test]
fn a_release_of_the_fast_tier_runs_without_structured_code() {
    let rootfs = Setup::get().rootfs;
    let release = Release::build("fast", &rootfs, &["/usr/bin/seq", "/usr/bin/sort"]);
    let [structured, resumable] = release.code_bytes();
    assert!(structured < resumable / 10, "{structured} of {resumable} bytes");
    assert_eq!(release.run(&["/usr/bin/seq", "-s", " ", "6"]), "status Some(0)\n--- stdout\n1 2 3 4 5 6\n--- stderr\n");
}

/// A function of some 24,000 instructions, called in a loop by one that has the structured form and that it calls back.
const MONSTER: &str = r#"
int called(int x) { static int n; return x ^ ++n; }
#define S(k) if ((x ^ y) & k) x += called(x) * 3; else y -= x * k;
#define S8(k) S(k) S(k + 1) S(k + 2) S(k + 3) S(k + 4) S(k + 5) S(k + 6) S(k + 7)
#define S64(k) S8(k) S8(k + 8) S8(k + 16) S8(k + 24) S8(k + 32) S8(k + 40) S8(k + 48) S8(k + 56)
#define S512(k) S64(k) S64(k + 64) S64(k + 128) S64(k + 192) S64(k + 256) S64(k + 320) S64(k + 384) S64(k + 448)
unsigned monster(unsigned x, unsigned y) { S512(1) S512(600) S512(1200) S512(1800) return x + y; }
void _start(void) {
    unsigned sum = 1;
    for (unsigned i = 0; i < 20; i++) sum = monster(sum, i) + i;
    char text[9];
    for (int i = 0; i < 8; i++) text[i] = "0123456789abcdef"[sum >> 4 * (7 - i) & 15];
    text[8] = '\n';
    long result = 1;
    __asm__ volatile("syscall" : "+a"(result) : "D"(1), "S"(text), "d"(9) : "rcx", "r11", "memory");
    __asm__ volatile("syscall" : : "a"(231), "D"(0));
}
"#;

#[test]
fn a_function_too_large_for_the_auto_tier_computes_what_it_does_natively() {
    let rootfs = tempfile::tempdir().expect("a directory can be made");
    let (source, program) = (rootfs.path().join("monster.c"), rootfs.path().join("monster"));
    std::fs::write(&source, MONSTER).expect("writable");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-nostdlib", "-static", "-fno-stack-protector", "-fno-inline", "-mstackrealign", "-o"]).arg(&program).arg(&source).status();
    assert!(gcc.expect("gcc is installed").success());
    let native = show(&finish(Command::new(&program)));
    let release = Release::build("auto", rootfs.path(), &["/monster"]);
    assert_eq!(release.run(&["/monster"]), native);
    let [structured, resumable] = release.code_bytes();
    assert!(0 < structured && structured < resumable / 10, "{structured} and {resumable} bytes");
}

/// A program at fixed addresses that prints `text`.
fn fixed(directory: &std::path::Path, name: &str, text: &str) {
    let code = "mov $1, %eax; mov $1, %edi; mov $text, %esi; mov $6, %edx; syscall; mov $60, %eax; xor %edi, %edi; syscall";
    let source = directory.join(format!("{name}.s"));
    std::fs::write(&source, format!(".globl _start\n_start: {code}\n.data\ntext: .ascii \"{text}\\n\"\n")).expect("writable");
    let linked = Command::new("gcc").args(["-nostdlib", "-no-pie", "-static", "-Wl,--build-id=none", "-o"]).arg(directory.join(name)).arg(&source).status().expect("gcc starts");
    assert!(linked.success());
}

#[test]
fn two_executables_at_fixed_addresses_with_the_same_code_are_one_artifact() {
    let setup = Setup::get();
    let dir = tempfile::tempdir().expect("a directory can be made");
    let at = |name: &str| dir.path().join(name);
    for empty in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(at("rootfs").join(empty)).expect("writable");
    }
    fixed(&at("rootfs/bin"), "one", "first");
    fixed(&at("rootfs/bin"), "two", "other");
    assert!(Command::new(&setup.recompiler).arg("keygen").arg(at("build.key")).status().expect("the program starts").success());
    let mut build = Command::new(&setup.recompiler);
    build.arg("--rootfs").arg(at("rootfs")).args(["--include", "/bin/one", "/bin/two", "--key"]).arg(at("build.key"));
    build.arg("--output").arg(at("container.wasm")).arg("--manifest").arg(at("manifest.json")).arg("--cache").arg(at("cache"));
    let built = finish(build);
    assert!(built.status.success(), "{}", show(&built));
    let code = std::fs::read_dir(at("aot/x86_64-unknown-linux-gnu")).expect("native code was written").map(|e| e.expect("readable").file_name());
    let forms: Vec<String> = code.map(|name| name.to_string_lossy().into_owned()).collect();
    assert_eq!(forms.iter().filter(|f| f.contains(".structured.")).count(), 1, "{forms:?}");
    for (program, text) in [("/bin/one", "first"), ("/bin/two", "other")] {
        let mut run = Command::new(&setup.vkernel);
        run.arg("run").arg(at("manifest.json")).arg("--rootfs").arg(at("rootfs")).arg("--key").arg(at("build.pub")).args(["--", program]);
        assert_eq!(show(&finish(run)), format!("status Some(0)\n--- stdout\n{text}\n--- stderr\n"));
    }
}

/// Prints a sum of products of doubles, made by whatever instructions the level has.
const SUM: &str = r#"
double a[64], b[64];
__attribute__((noinline)) double sum(int n) { double s = 0.5; for (int i = 0; i < n; i++) s += a[i] * b[i]; return s; }
void _start(void) {
    for (int i = 0; i < 64; i++) a[i] = i * 1.25, b[i] = 3.5 - i;
    union { double d; unsigned long u; } r = { sum(64) };
    char text[17];
    for (int i = 0; i < 16; i++) text[i] = "0123456789abcdef"[r.u >> 4 * (15 - i) & 15];
    text[16] = '\n';
    long result = 1;
    __asm__ volatile("syscall" : "+a"(result) : "D"(1), "S"(text), "d"(17) : "rcx", "r11", "memory");
    __asm__ volatile("syscall" : : "a"(231), "D"(0));
}
"#;

/// Whether code of the structured form uses instructions of AVX.
fn has_avx(release: &Release) -> bool {
    let directory = release.at("aot/x86_64-unknown-linux-gnu");
    let code = std::fs::read_dir(directory).expect("native code was written").map(|e| e.expect("readable").path()).find(|p| p.to_string_lossy().contains(".structured."));
    let listing = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(code.expect("structured code")).output().expect("objdump is installed");
    let listing = String::from_utf8(listing.stdout).expect("text");
    assert!(listing.contains("mulsd"), "{listing}");
    listing.contains("\tvmulsd") || listing.contains("vex3} vmulsd")
}

/// An image of one program, `/sum`, and where that is.
fn image_of_sum() -> (tempfile::TempDir, std::path::PathBuf) {
    let rootfs = tempfile::tempdir().expect("a directory can be made");
    let (source, program) = (rootfs.path().join("sum.c"), rootfs.path().join("sum"));
    std::fs::write(&source, SUM).expect("writable");
    let gcc = Command::new("gcc").args(["-O1", "-w", "-nostdlib", "-static", "-fno-stack-protector", "-mstackrealign", "-o"]).arg(&program).arg(&source).status();
    assert!(gcc.expect("gcc is installed").success());
    (rootfs, program)
}

#[test]
fn code_is_made_for_the_processor_that_was_asked_for() {
    let (rootfs, program) = image_of_sum();
    let native = show(&finish(Command::new(&program)));
    let manifest = |release: &Release| -> serde_json::Value { serde_json::from_slice(&std::fs::read(release.at("manifest.json")).expect("readable")).expect("JSON") };
    let features = |release: &Release| -> Vec<String> { serde_json::from_value(manifest(release)["artifacts"][0]["cpu_features"].clone()).expect("a list") };
    let old = Release::build_with(&["--cpu", "x86-64-v2"], rootfs.path(), &["/sum"]);
    assert_eq!(features(&old), ["popcnt", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]);
    assert!(!has_avx(&old));
    assert_eq!(old.run(&["/sum"]), native);
    let new = Release::build_with(&["--cpu", "x86-64-v3"], rootfs.path(), &["/sum"]);
    assert!(features(&new).contains(&"avx2".to_owned()) && has_avx(&new));
    if std::arch::is_x86_feature_detected!("avx2") {
        assert_eq!(new.run(&["/sum"]), native);
    } else {
        assert!(new.run(&["/sum"]).contains("needs the CPU feature"));
    }
    // Built again from what the manifest says, whatever this machine has.
    let mut again = Command::new(Setup::get().recompiler);
    again.arg("verify").arg(old.at("manifest.json")).arg("--key").arg(old.at("build.pub")).args(["--recompile", "--rootfs"]).arg(rootfs.path());
    assert!(show(&finish(again)).contains("3 files and the manifest are equal"));
}

/// What the machine field of an ELF file says.
fn machine(path: &std::path::Path) -> u8 {
    std::fs::read(path).expect("readable")[18]
}

#[test]
fn code_for_aarch64_is_made_whole_and_refused_where_it_cannot_run() {
    let (rootfs, program) = image_of_sum();
    let artifacts = |release: &Release| -> Vec<serde_json::Value> {
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(release.at("manifest.json")).expect("readable")).expect("JSON");
        manifest["artifacts"].as_array().expect("a list").clone()
    };
    let verified = |release: &Release, with: &[&str]| {
        let mut verify = Command::new(Setup::get().vkernel);
        verify.arg("verify").arg(release.at("manifest.json")).arg("--key").arg(release.at("build.pub")).args(with);
        show(&finish(verify))
    };
    // Alone: both forms, named in the manifest, built again byte for byte; and refused by this host in one line.
    let arm = Release::build_with(&["--target", "aarch64-unknown-linux-gnu", "--cpu", "armv8.2-a"], rootfs.path(), &["/sum"]);
    let rows = artifacts(&arm);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row["target"], "aarch64-unknown-linux-gnu");
        assert_eq!(row["cpu_features"], serde_json::json!(["crc", "lse", "neon", "rdm"]));
        assert_eq!(machine(&arm.at(row["file"].as_str().expect("a path"))), 183);
    }
    let mut again = Command::new(Setup::get().recompiler);
    again.arg("verify").arg(arm.at("manifest.json")).arg("--key").arg(arm.at("build.pub")).args(["--recompile", "--rootfs"]).arg(rootfs.path());
    assert!(show(&finish(again)).contains("3 files and the manifest are equal"));
    let why = "native code: it is for aarch64-unknown-linux-gnu, this is x86_64-unknown-linux-gnu: run it on such a host, or rebuild with --target x86_64-unknown-linux-gnu";
    let refused = arm.run(&["/sum"]);
    assert!(refused.starts_with("status Some(125)") && refused.contains(why), "{refused}");
    let refused = verified(&arm, &[]);
    assert!(!refused.starts_with("status Some(0)") && refused.contains(why), "{refused}");
    // Together with the host's own: it runs here.
    let both = Release::build_with(&["--target", "aarch64-unknown-linux-gnu", "--target", "x86_64-unknown-linux-gnu", "--cpu", "x86-64-v2"], rootfs.path(), &["/sum"]);
    let machines: Vec<u8> = artifacts(&both).iter().map(|row| machine(&both.at(row["file"].as_str().expect("a path")))).collect();
    assert_eq!([62, 183].map(|m| machines.iter().filter(|x| **x == m).count()), [2, 2]);
    assert_eq!(both.run(&["/sum"]), show(&finish(Command::new(&program))));
    assert!(verified(&both, &[]).starts_with("status Some(0)"));
    // Levels that mean nothing.
    for (level, word) in [("native", "this machine's"), ("x86-64-v3", "no level of aarch64-unknown-linux-gnu")] {
        let mut build = Command::new(Setup::get().recompiler);
        build.arg("--rootfs").arg(rootfs.path()).args(["--include", "/sum", "--target", "aarch64-unknown-linux-gnu", "--cpu", level]);
        let refused = show(&finish(build));
        assert!(refused.contains(word), "{refused}");
    }
}
