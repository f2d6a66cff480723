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

/// Which instructions clang makes of longjmp and of exceptions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Legacy,
    Standard,
}

/// Programs that are compiled with either, and natively; what makes them of each, and what their C library lacks for it.
const THROWING: [(&str, Throw); 2] = [("jumps.c", Throw::Jump), ("throwing.cpp", Throw::Exception)];

#[derive(Clone, Copy)]
pub(crate) enum Throw {
    /// setjmp and longjmp.
    Jump,
    /// C++.
    Exception,
}

/// clang for WASI. Debian's C library lies where clang looks with this older name of the target.
pub(crate) fn clang() -> Command {
    let mut clang = Command::new("clang-22");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-w", "-Wno-deprecated"]);
    clang
}

/// The same for programs that throw, with what the C library lacks for it.
pub(crate) fn clang_that_throws(throw: Throw, form: Form) -> Command {
    let mut clang = clang();
    let ours = root().join("integration-tests/programs/wasi/exceptions");
    match throw {
        Throw::Jump => clang.args(["-mexception-handling", "-mllvm", "-wasm-enable-sjlj", "-I"]).arg(&ours).arg(ours.join("setjmp.c")),
        Throw::Exception => clang.arg("-fwasm-exceptions").arg(ours.join("unwind.c")),
    };
    clang.args(["-mllvm", if form == Form::Legacy { "-wasm-use-legacy-eh=true" } else { "-wasm-use-legacy-eh=false" }]);
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
        if let Some((_, throw)) = THROWING.iter().find(|(file, _)| source.ends_with(file)) {
            made(clang_that_throws(*throw, Form::Legacy), &format!("{name}-legacy.wasm"))?;
            made(clang_that_throws(*throw, Form::Standard), &format!("{name}-standard.wasm"))?;
            let mut native = Command::new(if source.extension().is_some_and(|e| e == "c") { "gcc" } else { "g++" });
            native.arg("-w");
            made(native, &name)?;
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
