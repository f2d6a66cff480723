//! The command line: every flag is declared here once; help, man page and completions come from it.

mod making;
mod release;

use crate::compile::Tier;
use crate::coverage;
use crate::processor::{Architecture, Level};
use crate::scan::Scripts;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

pub use making::{BundleArgs, ReleaseArgs};
pub use release::{ProveArgs, ReportArgs, SbomArgs, SignArgs, SignerArgs, VerifyArgs};

/// Turn a container image into one signed WASM megabinary and its manifest.
///
/// Every x86-64 program of the image that is named by --include, with the libraries and interpreters it needs, is translated to
/// WebAssembly, compiled ahead of time and listed by its hash in the manifest. vkernel(1) runs the result.
#[derive(Debug, Parser)]
#[command(name = "recompiler-build", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub build: BuildArgs,
}

/// Shown by --help and in the man page.
const EXAMPLES: &str = "Examples:
  recompiler-build keygen build.key
  recompiler-build --rootfs /srv/debian --include /usr/bin/ls /bin/bash --output out/container.wasm --manifest out/manifest.json --key build.key
  recompiler-build verify out/manifest.json --key build.pub
  recompiler-build verify out/manifest.json --key build.pub --recompile --rootfs /srv/debian
  recompiler-build prove out/manifest.json --rootfs /srv/debian --tests cases --trust build.pub --key build.key
  recompiler-build prove out/manifest.json --rootfs /srv/debian --trust build.pub --replay
  recompiler-build lift /usr/bin/ls --report
  recompiler-build report --rootfs /srv/debian --include /usr/bin --gaps
  recompiler-build report out/manifest.json --html report.html --previous last/manifest.json
  recompiler-build sbom --rootfs /srv/debian --include /usr/bin/ls --format spdx --output out/sbom.spdx.json
  recompiler-build --image docker://registry.example/shop:1 --include /usr/bin/shop --output out/container.wasm --manifest out/manifest.json --key build.key
  recompiler-build --rootfs /srv/app --include /usr/bin/app --polyfill /usr/bin/node=qjs.wasm --output out/container.wasm --manifest out/manifest.json --key build.key
  recompiler-build scan --image oci-archive:shop.tar --json
  recompiler-build scan --rootfs /srv/debian --include /usr/bin/ls --svg > ls.svg
  recompiler-build bundle hello.wasm sum.wasm --output out/container.wasm --manifest out/manifest.json --key build.key --install root
  recompiler-build push out/manifest.json docker://registry.example/shop:1-signed --image docker://registry.example/shop:1";

/// What the command line asks for.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per process")]
pub enum Request {
    Build(Box<BuildArgs>),
    Command(Command),
}

impl Request {
    /// Parses the process's arguments; prints help or the error and exits. A subcommand needs none of the build's arguments, which clap's derived struct cannot say.
    pub fn parse() -> Request {
        let matches = Cli::command().get_matches();
        let parsed = match matches.subcommand() {
            Some(_) => Command::from_arg_matches(&matches).map(Request::Command),
            None => BuildArgs::from_arg_matches(&matches).map(|b| Request::Build(Box::new(b))),
        };
        parsed.unwrap_or_else(|e| e.exit())
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List everything in an image that could run, what it needs, and how it would fare.
    Scan(ScanArgs),
    /// Say how much of an image's code can be translated, and which system calls it can make.
    // A manifest stands in for an image here, and only here.
    #[command(mut_arg("rootfs", |a| a.required_unless_present_any(["release"])), mut_arg("include", |a| a.required(false).required_unless_present("release")))]
    Report(ReportArgs),
    /// List the packages that an image's programs come from, as CycloneDX or SPDX.
    Sbom(SbomArgs),
    /// Translate one ELF file and say how it went.
    Lift(LiftArgs),
    /// Scan, lift and merge, without native code: container.wasm and an unsigned manifest.
    Merge(Box<BuildArgs>),
    /// Make a release of WASI programs: compiled, behind one dispatcher, listed by their hashes, signed.
    Bundle(BundleArgs),
    /// Compile shard modules written by `lift --output`.
    Compile(CompileArgs),
    /// Sign a manifest; other keys' signatures stay.
    Sign(SignArgs),
    /// Check signature, digests and routing of a release.
    // An image is needed for what builds or starts again only.
    #[command(mut_arg("rootfs", |a| a.required_unless_present("manifest")))]
    Verify(VerifyArgs),
    /// Run commands natively and under vkernel, and sign that they come out alike (as root); or ask again.
    Prove(ProveArgs),
    /// Make an Ed25519 key pair that openssl can read.
    Keygen(KeygenArgs),
    /// Ship a release inside its image or beside it, to a registry or an OCI layout.
    #[command(disable_help_flag = true)]
    Push(ForwardedArgs),
    /// Get a release with its image; prints the directory.
    #[command(disable_help_flag = true)]
    Pull(ForwardedArgs),
    /// Print the JSON Schema of the manifest.
    Schema,
    /// Print the man page.
    #[command(hide = true)]
    Man,
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

/// Where the image is: one of the two.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Root directory of the image.
    #[arg(long, value_name = "DIR", conflicts_with = "image", required_unless_present = "image")]
    pub rootfs: Option<PathBuf>,
    /// Container image: docker://HOST/NAME[:TAG][@sha256:DIGEST] (docker:// may be left out), oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME:TAG], dir:DIR.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Certificate authority (PEM) to trust for registries, besides the system's; can be given several times.
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
    /// Registry (HOST[:PORT]) to speak to without TLS; can be given several times.
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<String>,
    /// Refuse images that unpack to more [default: 64 GiB].
    #[arg(long, value_name = "BYTES", requires = "image")]
    pub max_bytes: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Program, library, script or directory inside the image; can be given several times.
    #[arg(long, value_name = "PATH", required = true, num_args = 1..)]
    pub include: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ScanArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Program, library, script or directory inside the image, instead of everything; can be given several times.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub include: Vec<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
    /// As a graph of who needs whom, for Graphviz.
    #[arg(long, conflicts_with = "json")]
    pub dot: bool,
    /// The same graph as a picture, which Graphviz draws; of more than some hundred files that takes minutes: choose with --include.
    #[arg(long, conflicts_with_all = ["json", "dot"])]
    pub svg: bool,
    /// Directory for unpacked images [default: $XDG_CACHE_HOME/vkernel].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// Passed on to vkernel-image as they are.
#[derive(Debug, Args)]
pub struct ForwardedArgs {
    /// Arguments of vkernel-image; --help lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub image: ImageArgs,
    /// Which scripts to list in the manifest.
    #[arg(long, value_enum, default_value_t)]
    pub scripts: Scripts,
    /// WASI program (preview 1) to add, FILE or NAME=FILE: the file runs by its hash as what it is, from wherever it lies in the image; can be given several times.
    #[arg(long, value_name = "[NAME=]FILE")]
    pub add_tool: Vec<String>,
    /// Run MODULE, a WASI program, where FILE of the image is executed; scripts for it too. What becomes of its callers' arguments (options that MODULE lacks or calls otherwise, files named from a working directory, a program on standard input) comes from a catalogue by FILE's name, and stands in the manifest. Can be given several times.
    #[arg(long, value_name = "FILE=MODULE")]
    pub polyfill: Vec<String>,
    #[command(flatten)]
    pub release: ReleaseArgs,
    /// How much time to spend on speed.
    #[arg(long, value_enum, default_value_t)]
    pub tier: Tier,
    /// Fail before compiling if a file's coverage is lower.
    #[arg(long, value_name = "PERCENT", value_parser = percent, long_help = coverage::LIMIT)]
    pub min_coverage: Option<f64>,
    #[command(flatten)]
    pub remote: RemoteCacheArgs,
    #[command(flatten)]
    pub work: WorkArgs,
}

/// Results of other machines.
#[derive(Debug, Args)]
pub struct RemoteCacheArgs {
    /// Take reusable results from this build cache in a registry or OCI layout; can be given several times.
    #[arg(long, value_name = "IMAGE", requires = "cache_key")]
    pub cache_from: Vec<String>,
    /// Public key of a builder whose results are taken; can be given several times.
    #[arg(long, value_name = "FILE")]
    pub cache_key: Vec<PathBuf>,
    /// Offer this build's results there, signed like the manifest.
    #[arg(long, value_name = "IMAGE")]
    pub cache_to: Option<String>,
}

#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Directory for reusable results [default: $XDG_CACHE_HOME/vkernel].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Number of parallel compilations [default: the number of cores].
    #[arg(long, short, value_name = "N")]
    pub jobs: Option<NonZero<usize>>,
}

#[derive(Debug, Args)]
pub struct LiftArgs {
    /// An ELF file of this machine.
    pub file: PathBuf,
    /// Print functions, gaps by mnemonic, unresolved jumps and expansion factors.
    #[arg(long)]
    pub report: bool,
    /// Guest address to lift for.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub base: Option<u64>,
    /// Which functions get the structured form.
    #[arg(long, value_enum, default_value_t)]
    pub tier: Tier,
    /// Directory for the two modules, NAME.structured.wasm and NAME.resumable.wasm.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CompileArgs {
    /// Modules NAME.structured.wasm or NAME.resumable.wasm.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Directory for the native code.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
    /// The oldest processor that the code is to run on [default: native for this machine's kind, baseline for another].
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub cpu: Option<Level>,
    /// What the code is to run on.
    #[arg(long, value_enum, default_value_t, value_name = "TRIPLE")]
    pub target: Architecture,
    #[command(flatten)]
    pub work: WorkArgs,
}

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// Private key file to make; the public key goes to the same name ending in .pub.
    pub file: PathBuf,
}

pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    if (0.0..=100.0).contains(&value) { Ok(value) } else { Err("give 0 to 100".into()) }
}

fn address(text: &str) -> Result<u64, String> {
    let hex = text.strip_prefix("0x");
    hex.map_or_else(|| text.parse(), |h| u64::from_str_radix(h, 16)).map_err(|e| e.to_string())
}
