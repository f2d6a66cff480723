//! Debian packages and release binaries.

use crate::process::{cargo, output, root, run, say};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::Command;

/// What building, testing and measuring need beyond a plain Debian 12 with Rust.
const PACKAGES: &[&str] = &[
    "build-essential",
    "pkg-config",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "libz3-dev",
    "libxml2-dev",
    "libffi-dev",
    "clang-22",
    "lld-22",
    "wasi-libc",
    "libclang-rt-22-dev-wasm32",
    "zlib1g-dev",
    "liblzma-dev",
    "tcl-dev",
    "libseccomp-dev",
    "mmdebstrap",
    "wabt",
    "qemu-user",
    "openssl",
    "python3",
    "python3-venv",
    "zstd",
    "skopeo",
    "containerd",
    "containernetworking-plugins",
    "umoci",
    "buildah",
    "docker-registry",
    "curl",
    "csmith",
    "libcsmith-dev",
    "socat",
    "strace",
    "iproute2",
    "iptables",
    "podman",
    "conmon",
    "runc",
    "crun",
    "lintian",
    "rpm",
    "db5.3-util",
    "lua5.4",
    "luajit",
    "ruby3.1",
    "nodejs",
    "musl-tools",
    "graphviz",
];

/// The programs of the product. `vkernel-image` lies beside them, where they look for it.
#[derive(Clone)]
pub(crate) struct Binaries {
    pub vkernel: PathBuf,
    pub recompiler: PathBuf,
}

/// Installs what everything needs.
pub(crate) fn packages() -> anyhow::Result<()> {
    install(PACKAGES)
}

/// Installs what of these is missing.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let installed = |package: &&&str| {
        let query = output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
        query.is_ok_and(|o| o.stdout == b"installed")
    };
    let missing: Vec<&str> = packages.iter().filter(|p| !installed(p)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    // Installing needs root.
    if output(Command::new("id").arg("-u"))?.stdout != b"0\n" {
        bail!("missing packages: {}; run as root, or install them with apt-get", missing.join(" "));
    }
    say(&format!("installing {}", missing.join(" ")));
    let apt = |args: &[&str]| run(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"));
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-q", "-y", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install).context("apt-get could not install the packages")
}

/// Installs packages and builds `vkernel`, `recompiler-build` and `vkernel-image`.
pub(crate) fn binaries() -> anyhow::Result<Binaries> {
    packages()?;
    // Each apart. Together, `vkernel` would link the compiler that `recompiler-build` asks wasmer for; and what TLS and HTTP want of shared crates would
    // build the compiler stack anew.
    for package in ["recompiler-build", "vkernel", "image"] {
        say(&format!("building {package}"));
        run(cargo().args(["build", "--release", "-p", package]))?;
    }
    let at = |name: &str| root().join("target/release").join(name);
    Ok(Binaries { vkernel: at("vkernel"), recompiler: at("recompiler-build") })
}
