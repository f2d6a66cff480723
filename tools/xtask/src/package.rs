//! `cargo xtask package`: Debian packages of the release binaries, and a proof that they install, run and leave nothing.
//!
//! Owns what is made for the packages (completions, changelog, the compiler's licence) and the test of the result; what goes where is said in `[package.metadata.deb]` of `vkernel` and
//! `recompiler-build`. The fact a newcomer gets wrong: there are two packages, because the one with the compiler has another licence, and a host that runs releases needs no compiler.

use crate::process::{self, emptied, output, root, run, say, work};
use crate::setup::Binaries;
use crate::{rootfs, setup};
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crate and package.
const PACKAGES: [(&str, &str); 2] = [HOSTS, ("recompiler-build", "vkernel-build")];
/// All that a host needs.
pub(crate) const HOSTS: (&str, &str) = ("vkernel", "vkernel");

/// What a host has of an installed package, at least.
const INSTALLED: &[&str] = &[
    "/usr/bin/vkernel",
    "/usr/bin/vkernel-runtime",
    "/usr/bin/vkernel-image",
    "/etc/vkernel/serve.toml",
    "/etc/vkernel/bridge.conflist",
    "/usr/share/doc/vkernel/examples/runtimeclass.yaml",
    "/usr/share/man/man1/vkernel.1.gz",
    "/usr/share/man/man8/vkernel-serve.8.gz",
    "/usr/share/bash-completion/completions/vkernel",
    "/usr/share/zsh/vendor-completions/_vkernel",
    "/usr/share/fish/vendor_completions.d/vkernel.fish",
];
const UNITS: [&str; 2] = ["vkernel.service", "vkernel.socket"];
const BUILD_INSTALLED: &[&str] = &[
    "/usr/bin/recompiler-build",
    "/usr/share/doc/vkernel-build/examples/bundle/bundle.sh",
    "/usr/share/doc/vkernel-build/examples/bundle/count.c",
    "/usr/share/man/man1/recompiler-build.1.gz",
    "/usr/share/bash-completion/completions/recompiler-build",
];

pub(crate) fn run_all() -> anyhow::Result<()> {
    let made = build(&setup::binaries()?, &PACKAGES)?;
    check(&made)?;
    made.iter().for_each(|deb| println!("{}", deb.display()));
    Ok(())
}

/// Makes these packages of these binaries.
pub(crate) fn build(binaries: &Binaries, packages: &[(&str, &str)]) -> anyhow::Result<Vec<PathBuf>> {
    let dir = work().join("package");
    emptied(&dir)?;
    say("completions, changelog, licence");
    for (program, name) in [(&binaries.vkernel, "vkernel"), (&binaries.recompiler, "recompiler-build")] {
        for (shell, file) in [("bash", format!("{name}.bash")), ("zsh", format!("_{name}")), ("fish", format!("{name}.fish"))] {
            let made = output(Command::new(program).args(["completions", shell]))?;
            ensure!(made.status.success() && !made.stdout.is_empty(), "{name} completions {shell}: {}", made.status);
            fs::write(dir.join(file), made.stdout)?;
        }
    }
    fs::write(dir.join("changelog"), changelog()?)?;
    fs::write(dir.join("licence-of-the-compiler"), licence()?)?;
    let tool = cargo_deb()?;
    let mut made = Vec::new();
    for (krate, package) in packages {
        say(&format!("package {package}"));
        let mut deb = Command::new(&tool);
        // Built already, each apart from the others.
        deb.current_dir(root()).args(["--no-build", "--no-dbgsym", "--package", krate, "--output"]).arg(&dir);
        process::run(&mut deb)?;
        made.push(newest(&dir, &format!("{package}_"))?);
    }
    Ok(made)
}

fn newest(dir: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let is_it = |path: &PathBuf| path.extension().is_some_and(|e| e == "deb") && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    fs::read_dir(dir)?.flatten().map(|e| e.path()).find(is_it).with_context(|| format!("no {prefix}*.deb in {}", dir.display()))
}

/// As Debian wants it; what changed stands in CHANGELOG.md.
fn changelog() -> anyhow::Result<String> {
    // Of the last commit, so that the same sources make the same package.
    let date = output(Command::new("git").current_dir(root()).args(["log", "-1", "--format=%aD"]))?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let date = if date.is_empty() { "Thu, 01 Jan 2026 00:00:00 +0000".to_owned() } else { date };
    let version = env!("CARGO_PKG_VERSION");
    Ok(format!("vkernel ({version}-1) unstable; urgency=medium\n\n  * See CHANGELOG.md of the sources.\n\n -- vkernel developers <developers@vkernel.invalid>  {date}\n"))
}

fn licence() -> anyhow::Result<String> {
    let own = fs::read_to_string(root().join("packaging/debian/licence"))?;
    let compiler = "One component of recompiler-build is not: it compiles with a changed copy of\nwasmer's LLVM backend, which is under the following licence. Its grant of\nproduction use is for sponsors of its licensor.";
    Ok(format!("{own}\n{compiler}\n\n{}", fs::read_to_string(root().join("third_party/wasmer-compiler-llvm/LICENSE"))?))
}

/// `cargo-deb`, built once (two minutes) into the target directory.
fn cargo_deb() -> anyhow::Result<PathBuf> {
    let tools = work().join("tools");
    let tool = tools.join("bin/cargo-deb");
    if !tool.exists() {
        say("building cargo-deb (once; kept in target/vkernel/tools)");
        run(process::cargo().args(["install", "--locked", "--quiet", "cargo-deb", "--version", "3.8.0", "--root"]).arg(&tools).arg("--target-dir").arg(tools.join("build")))?;
    }
    Ok(tool)
}

/// Lints the packages; installs them in a Debian without systemd running, runs what is in them, and purges them.
fn check(packages: &[PathBuf]) -> anyhow::Result<()> {
    say("lintian");
    run(Command::new("lintian").args(["--fail-on", "error", "--tag-display-limit", "0"]).args(packages))?;
    say("install, run, purge (in a Debian of its own)");
    let debian = Throwaway::new(&rootfs::for_packages()?)?;
    let before = debian.files()?;
    for package in packages {
        let name = package.file_name().context("packages have names")?;
        fs::copy(package, debian.0.join("tmp").join(name))?;
    }
    let names: Vec<String> = packages.iter().filter_map(|p| p.file_name()).map(|n| format!("/tmp/{}", n.to_string_lossy())).collect();
    debian.run("dpkg", &[&["--install"], names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat())?;
    for (package, wanted) in [("vkernel", INSTALLED), ("vkernel-build", BUILD_INSTALLED)] {
        let listed = debian.run("dpkg", &["-L", package])?;
        let lacks: Vec<_> = wanted.iter().filter(|w| !listed.lines().any(|l| l == **w)).collect();
        ensure!(lacks.is_empty(), "{package} lacks {lacks:?}:\n{listed}");
    }
    let listed = debian.run("dpkg", &["-L", "vkernel"])?;
    for unit in UNITS {
        ensure!(listed.lines().any(|l| l.ends_with(&format!("/systemd/system/{unit}"))), "vkernel lacks {unit}:\n{listed}");
    }
    ensure!(debian.0.join("etc/systemd/system/sockets.target.wants/vkernel.socket").symlink_metadata().is_ok(), "the socket is not enabled");
    ensure!(debian.0.join("etc/vkernel/keys").is_dir(), "there is no directory for keys");
    let conffiles = debian.run("dpkg-query", &["--show", "--showformat=${Conffiles}", "vkernel"])?;
    ensure!(conffiles.contains("/etc/vkernel/serve.toml"), "serve.toml is no conffile: {conffiles}");
    for (program, wanted) in [("vkernel", "vkernel "), ("recompiler-build", "recompiler-build "), ("vkernel-image", "vkernel-image ")] {
        let told = debian.run(program, &["--version"])?;
        ensure!(told.starts_with(wanted) && told.contains(env!("CARGO_PKG_VERSION")), "{program} --version says {told:?}");
    }
    debian.run("dpkg", &["--purge", "vkernel-build", "vkernel"])?;
    for name in names {
        fs::remove_file(debian.0.join(&name[1..]))?;
    }
    let left: Vec<String> = debian.files()?.into_iter().filter(|f| f.contains("vkernel") && !before.contains(f)).collect();
    ensure!(left.is_empty(), "purging leaves {left:?}");
    println!("installed, run and purged; nothing is left");
    Ok(())
}

/// A copy of a root filesystem that goes with the test.
struct Throwaway(PathBuf);

impl Throwaway {
    fn new(rootfs: &Path) -> anyhow::Result<Self> {
        let copy = work().join("package-rootfs");
        let _ = fs::remove_dir_all(&copy);
        run(Command::new("cp").args(["--archive", "-H"]).arg(rootfs).arg(&copy))?;
        Ok(Self(copy))
    }

    /// In it, with an environment of its own.
    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        let mut c = Command::new("chroot");
        c.arg(&self.0).arg(program).args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        let out = output(&mut c)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(out.status.success(), "{c:?}: {}\n{}{}", out.status, text(&out.stdout), text(&out.stderr));
        Ok(text(&out.stdout))
    }

    fn files(&self) -> anyhow::Result<Vec<String>> {
        let out = output(Command::new("find").arg(&self.0).args(["-printf", "%P\\n"]))?;
        Ok(String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect())
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
