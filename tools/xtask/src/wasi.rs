//! What the tests of WASI programs need: their modules, and wasmtime to compare with.
//!
//! Owns both places below `target/vkernel`. The fact a newcomer gets wrong: wasmtime comes as a Python package into an environment of its own; nothing of it is linked into anything.

use crate::process::{output, root, run, work};
use anyhow::Context;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The oracle's version: what it answers is what the tests expect.
const WASMTIME: &str = "wasmtime==50.0.1";

/// The modules, compiled from `integration-tests/programs/wasi`.
pub(crate) fn modules() -> anyhow::Result<PathBuf> {
    let into = work().join("wasi");
    fs::create_dir_all(&into)?;
    for entry in fs::read_dir(root().join("integration-tests/programs/wasi"))? {
        let source = entry?.path();
        if source.extension().is_some_and(|e| e == "c") {
            let name = source.file_stem().context("sources have names")?;
            // Debian's C library lies where clang looks with this older name of the target.
            let mut clang = Command::new("clang-22");
            clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-O1", "-w", "-Wno-deprecated", "-o"]).arg(into.join(name).with_extension("wasm")).arg(&source);
            run(&mut clang)?;
        }
    }
    Ok(into)
}

/// A Python that has wasmtime.
pub(crate) fn oracle() -> anyhow::Result<PathBuf> {
    let environment = work().join("wasmtime");
    let python = environment.join("bin/python");
    let has_it = || {
        output(Command::new(&python).args(["-c", "import wasmtime; print(wasmtime.__version__)"]))
            .is_ok_and(|o| WASMTIME.as_bytes().ends_with(o.stdout.trim_ascii()) && o.status.success())
    };
    if !has_it() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", WASMTIME]))?;
    }
    Ok(python)
}
