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

/// Programs that are compiled with either form of exceptions, and natively.
const JUMPING: [&str; 1] = ["jumps.c"];

/// Which instructions clang makes of longjmp and of exceptions.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Legacy,
    Standard,
}

/// clang for WASI. Debian's C library lies where clang looks with this older name of the target.
pub(crate) fn clang() -> Command {
    let mut clang = Command::new("clang-22");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-w", "-Wno-deprecated"]);
    clang
}

/// The same for programs that use setjmp, with what the C library lacks of it.
pub(crate) fn clang_with_jumps(form: Form) -> Command {
    let mut clang = clang();
    clang.args(["-mexception-handling", "-mllvm", "-wasm-enable-sjlj", "-mllvm"]);
    clang.arg(match form {
        Form::Legacy => "-wasm-use-legacy-eh=true",
        Form::Standard => "-wasm-use-legacy-eh=false",
    });
    let ours = root().join("integration-tests/programs/wasi/sjlj");
    clang.arg("-I").arg(&ours).arg(ours.join("setjmp.c"));
    clang
}

/// The modules, compiled from `integration-tests/programs/wasi`.
pub(crate) fn modules() -> anyhow::Result<PathBuf> {
    let into = work().join("wasi");
    fs::create_dir_all(&into)?;
    for entry in fs::read_dir(root().join("integration-tests/programs/wasi"))? {
        let source = entry?.path();
        let name = source.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        let made = |mut compiler: Command, name: &str| run(compiler.arg("-O1").arg(&source).arg("-o").arg(into.join(name)));
        if JUMPING.iter().any(|jumping| source.ends_with(jumping)) {
            made(clang_with_jumps(Form::Legacy), &format!("{name}-legacy.wasm"))?;
            made(clang_with_jumps(Form::Standard), &format!("{name}-standard.wasm"))?;
            let mut gcc = Command::new("gcc");
            gcc.arg("-w");
            made(gcc, &name)?;
        } else if source.extension().is_some_and(|e| e == "c") {
            made(clang(), &format!("{name}.wasm"))?;
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
