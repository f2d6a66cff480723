//! A tiny image of its own for each test of the build side, made in a moment: two programs of a few instructions and a script.
//!
//! Knows nothing else of this crate: recompiler-build's own tests include the file.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `_start: exit(0)`, and one function more; assembled natively, static, without libc.
pub const TINY: &str = ".globl _start,f\n.type f,@function\n_start: call f\n mov $60,%eax\n xor %edi,%edi\n syscall\nf: lea 1(%rdi),%rax\n ret\n.size f,.-f\n.section .note.GNU-stack,\"\",@progbits\n";

pub struct Image {
    pub dir: tempfile::TempDir,
    recompiler: PathBuf,
}

impl Image {
    /// A directory with nothing in it, for this recompiler-build.
    pub fn empty(recompiler: impl Into<PathBuf>) -> Image {
        Image { dir: tempfile::tempdir().unwrap(), recompiler: recompiler.into() }
    }

    /// An image with two programs and a script, and a key.
    pub fn made(recompiler: impl Into<PathBuf>) -> Image {
        let image = Image::empty(recompiler);
        fs::create_dir_all(image.at("root/bin")).unwrap();
        fs::write(image.at("tiny.s"), TINY).unwrap();
        for (name, flag) in [("fixed", "-no-pie"), ("moving", "-static-pie")] {
            let out = image.at(&format!("root/bin/{name}"));
            let run = Command::new("gcc").args(["-nostdlib", "-static", flag, "-o"]).arg(&out).arg(image.at("tiny.s")).status();
            assert!(run.expect("gcc is installed").success());
        }
        fs::write(image.at("root/bin/script"), "#!/bin/moving -x\n").unwrap();
        image.ok(&["keygen", "k.pem"]);
        image
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.recompiler);
        command.args(args).current_dir(self.dir.path()).env("XDG_CACHE_HOME", self.at("cache")).output().unwrap()
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Runs what must fail, and returns its one line.
    pub fn refused(&self, args: &[&str]) -> String {
        let out = self.run(args);
        let text = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && text.starts_with("recompiler-build: ") && text.lines().count() == 1, "{args:?}: {text}");
        text
    }

    pub fn build(&self, into: &str, extra: &[&str]) -> String {
        fs::create_dir_all(self.at(into)).unwrap();
        let (wasm, manifest) = (format!("{into}/container.wasm"), format!("{into}/manifest.json"));
        let fixed = ["--rootfs", "root", "--include", "/bin", "--key", "k.pem", "--output", &wasm, "--manifest", &manifest];
        self.ok(&[&fixed[..], extra].concat())
    }

    pub fn manifest(&self, of: &str) -> Value {
        serde_json::from_slice(&fs::read(self.at(of).join("manifest.json")).unwrap()).unwrap()
    }
}

pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() { all.extend(files(&entry)) } else { all.push((entry.clone(), fs::read(&entry).unwrap())) }
    }
    all.sort();
    all
}
