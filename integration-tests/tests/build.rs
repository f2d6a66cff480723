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
