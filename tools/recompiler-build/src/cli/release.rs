//! Arguments of the commands about releases as a whole: what is in them, who signed them.

use super::{SourceArgs, WorkArgs, percent};
use crate::coverage;
use crate::sbom::Format;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = coverage::DEFINITION)]
pub struct ReportArgs {
    /// Manifest of a finished release, instead of an image.
    #[arg(value_name = "MANIFEST", requires = "html", conflicts_with_all = ["rootfs", "image", "include", "json", "gaps", "min_coverage"])]
    pub release: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Program, library, script or directory inside the image; can be given several times. With --image and --html, without it: the release that the image carries, or that refers to it.
    #[arg(long, value_name = "PATH", required_unless_present = "image", num_args = 1..)]
    pub include: Vec<String>,
    /// Write one self-contained page: inventory, coverage, system calls, who shares libraries, what was left out and why, sizes.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Manifest of an earlier release, or the image that carries it (docker://, oci: or oci-archive:); the page says what changed, and what programs newly can do.
    #[arg(long, value_name = "MANIFEST|IMAGE", requires = "html")]
    pub previous: Option<PathBuf>,
    /// What a build with --json printed; the page says what it cost.
    #[arg(long, value_name = "FILE", requires = "html")]
    pub cost: Option<PathBuf>,
    /// As JSON, with every place that makes system calls and examples of every instruction that is not translated.
    #[arg(long)]
    pub json: bool,
    /// List the instructions that are not translated with their number and an example, and the places whose system call is unknown.
    #[arg(long, conflicts_with = "json")]
    pub gaps: bool,
    /// Fail if a file's coverage is lower; after the report.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub min_coverage: Option<f64>,
    /// Directory for reusable results and unpacked images [default: $XDG_CACHE_HOME/vkernel].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SbomArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Only what these programs, libraries, scripts or directories inside the image reach; can be given several times [default: everything that could run].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub include: Vec<String>,
    /// CycloneDX 1.6 or SPDX 2.3, in JSON.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Name of what is described.
    #[arg(long, default_value = "container")]
    pub name: String,
    /// Its version, for people.
    #[arg(long, value_name = "VERSION", default_value = "1")]
    pub release: String,
    /// Where to write it [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Directory for unpacked images [default: $XDG_CACHE_HOME/vkernel].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// Who signs: a private key file, or a program that has access to a key in hardware.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// Private key to sign with; without it and --signer a build stays unsigned and vkernel refuses it.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Name of the signing key in the manifest [default: the name of the key's file].
    #[arg(long, value_name = "ID")]
    pub key_id: Option<String>,
    /// Program that signs instead of a private key file: words separated by spaces, no shell and no quotes. It gets the bytes to sign on standard input (a file, whose length can be asked) and prints the Ed25519 signature, 64 bytes or base64.
    #[arg(long, value_name = "COMMAND", conflicts_with = "key", requires = "signer_public")]
    pub signer: Option<String>,
    /// Public key of that program; a signature that is not this key's is refused.
    #[arg(long, value_name = "FILE", requires = "signer")]
    pub signer_public: Option<PathBuf>,
    /// How long that program may take for each signature (a manifest with its attestations takes three).
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub signer_timeout: u64,
}

#[derive(Debug, Args)]
pub struct SignArgs {
    /// Manifest to sign.
    pub manifest: PathBuf,
    #[command(flatten)]
    pub signer: SignerArgs,
}

#[derive(Debug, Args)]
pub struct ProveArgs {
    /// Manifest of the release; MANIFEST with the ending .proof.json is the proof, and the directory .proof has its bytes.
    pub manifest: PathBuf,
    #[command(flatten)]
    pub source: SourceArgs,
    /// Directory of commands, one NAME.json each: {"command": ["/usr/bin/sort", "-r"], "stdin": "FILE beside it"}.
    #[arg(long, value_name = "DIR", required_unless_present = "replay")]
    pub tests: Option<PathBuf>,
    /// Run the commands of the proof again, under vkernel, and compare with what was signed.
    #[arg(long, conflicts_with_all = ["tests", "key", "signer"])]
    pub replay: bool,
    /// Public key that is trusted for the release and for its proof; can be given several times [default: /etc/vkernel/keys/*.pub].
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    #[command(flatten)]
    pub signer: SignerArgs,
    /// Directory for unpacked images [default: $XDG_CACHE_HOME/vkernel].
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Manifest of the release; its files lie beside it.
    pub manifest: PathBuf,
    /// Trusted public key; can be given several times [default: /etc/vkernel/keys/*.pub].
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// How many distinct keys must have signed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threshold: usize,
    /// Revoked keys and files, which count for nothing whoever signed: {"files": ["blake3:…"], "keys": ["ID or fingerprint"]} [default: /etc/vkernel/revoked.json, if it is there].
    #[arg(long, value_name = "FILE")]
    pub revoked: Option<PathBuf>,
    /// Build everything again from the image, as the provenance says and without a cache, and compare every byte.
    #[arg(long)]
    pub recompile: bool,
    /// Start this program of the release nine times with vkernel (as root), with a daemon of its own that keeps containers ready and without one, and fail if the median with it is over the limit.
    #[arg(long, value_name = "PROGRAM")]
    pub start: Option<String>,
    /// The limit in milliseconds, from the command to the program's end.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    pub start_limit: u64,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub work: WorkArgs,
}
