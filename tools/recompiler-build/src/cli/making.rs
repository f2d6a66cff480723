//! Arguments of whatever makes a release: of an image, or of WASI programs alone.
//!
//! Owns what a release is called, where it goes and who signs it, and `bundle`'s own arguments. The fact a newcomer gets wrong: they are one group, so both commands have all of them, in the same words.

use super::{SignerArgs, WorkArgs};
use crate::attest;
use crate::processor::{Architecture, Level};
use clap::Args;
use std::path::PathBuf;

/// What code is to run on.
#[derive(Debug, Args)]
pub struct ProcessorArgs {
    /// What the code is to run on; may be repeated: a release can carry code for both.
    #[arg(long, value_name = "TRIPLE", value_enum, default_value = Architecture::X86_64.triple())]
    pub target: Vec<Architecture>,
    /// The oldest processor that the code is to run on, one per target; hosts refuse a release whose code their processor cannot run [default: native for this machine's kind, baseline for another].
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub cpu: Vec<Level>,
}

/// What a release is called, where it goes, and who signs it.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Where to write the megabinary; it must lie in the manifest's directory.
    #[arg(long, value_name = "FILE", default_value = "container.wasm")]
    pub output: PathBuf,
    /// Where to write the manifest; native code goes into aot/ beside it.
    #[arg(long, value_name = "FILE", default_value = "manifest.json")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub signer: SignerArgs,
    /// Name of the release.
    #[arg(long, default_value = "container")]
    pub name: String,
    /// Serial number of the release; hosts refuse to go back.
    #[arg(long, default_value_t = 1)]
    pub serial: u64,
    /// Version of the release, for people.
    #[arg(long, value_name = "VERSION", default_value = "1")]
    pub release: String,
    /// Who builds, as a URI, for the provenance.
    #[arg(long, value_name = "URI", default_value = attest::BUILDER)]
    pub builder_id: String,
    #[command(flatten)]
    pub processor: ProcessorArgs,
    /// JSON file with default_syscalls, syscalls, networking, forbid_permissive, scripts, inline and per-path overrides; see POLICY in the manual page [default: every call vkernel has, no network, any script].
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Print the build's figures as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = BUNDLE)]
pub struct BundleArgs {
    /// Modules of WASI preview 1 that export `_start` and `memory`. Their rows say /usr/bin/NAME; NAME is the file's name unless it is given.
    #[arg(required = true, value_name = "[NAME=]FILE")]
    pub programs: Vec<String>,
    /// Copy each program to its place below this directory, which is then a root directory for `vkernel run`.
    #[arg(long, value_name = "DIR")]
    pub install: Option<PathBuf>,
    #[command(flatten)]
    pub release: ReleaseArgs,
    #[command(flatten)]
    pub work: WorkArgs,
}

const BUNDLE: &str = "Examples:
  recompiler-build bundle hello.wasm sum=target/wasm32-wasip1/release/sum.wasm --output out/container.wasm --manifest out/manifest.json --key build.key --install root
  vkernel run out/manifest.json --rootfs root --key build.pub -- hello.wasm";
