//! `recompiler-build` as its caller sees it, with a root filesystem of Debian: what it makes runs.

use integration_tests::{Setup, finish, show};
use std::process::Command;

#[test]
fn a_release_of_the_fast_tier_runs_without_structured_code() {
    let setup = Setup::get();
    let dir = tempfile::tempdir().expect("a directory can be made");
    let at = |name: &str| dir.path().join(name);
    let keygen = Command::new(&setup.recompiler).arg("keygen").arg(at("build.key")).status().expect("the program starts");
    assert!(keygen.success());
    let mut build = Command::new(&setup.recompiler);
    build.arg("--rootfs").arg(&setup.rootfs).args(["--include", "/usr/bin/seq", "/usr/bin/sort", "--tier", "fast", "--key"]).arg(at("build.key"));
    build.arg("--output").arg(at("container.wasm")).arg("--manifest").arg(at("manifest.json")).arg("--cache").arg(at("cache"));
    let built = finish(build);
    assert!(built.status.success(), "{}", show(&built));
    let code = std::fs::read_dir(at("aot/x86_64-unknown-linux-gnu")).expect("native code was written").map(|e| e.expect("readable"));
    let (structured, resumable): (Vec<_>, Vec<_>) = code.partition(|e| e.file_name().to_string_lossy().contains(".structured."));
    assert_eq!(structured.len(), resumable.len());
    assert!(structured.iter().all(|e| e.metadata().expect("readable").len() < 20_000), "{structured:?}");
    let mut run = Command::new(&setup.vkernel);
    run.arg("run").arg(at("manifest.json")).arg("--rootfs").arg(&setup.rootfs).arg("--key").arg(at("build.pub")).args(["--", "/usr/bin/seq", "-s", " ", "6"]);
    let out = finish(run);
    assert_eq!(show(&out), "status Some(0)\n--- stdout\n1 2 3 4 5 6\n--- stderr\n");
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
