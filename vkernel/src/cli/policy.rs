//! Options of `vkernel policy`. Owns names and help texts; what is learned, asked and compared is the `policy` crate's.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  vkernel run out/manifest.json --permissive --record-syscalls --audit run.jsonl -- /usr/bin/shop
  vkernel policy learn out/manifest.json --audit run.jsonl
  vkernel policy learn out/manifest.json --audit run.jsonl --tighten --output out/learned.json
  recompiler-build sign out/learned.json --key build.key
  vkernel policy lint out/manifest.json
  vkernel policy diff old/manifest.json out/manifest.json";

/// Learn, question and compare what releases allow. Manifests are read as they lie there, signed or not: nothing is executed
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Policy {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Task {
    /// From audit logs of permissive runs to the lists of system calls that these runs needed. Look at the result before you sign it: the records come from inside the containers
    Learn(Learn),
    /// Ask what a careful reader of a manifest would ask; exit code 1 if there is a warning
    Lint(Lint),
    /// Say what a new release may do that an old one may not, and the reverse; exit code 1 if they differ
    Diff(Diff),
}

#[derive(Args, Clone, Debug)]
pub struct Learn {
    /// The manifest that ran
    pub manifest: PathBuf,
    /// Audit logs (--audit of the runs); `-` is standard input
    #[arg(long = "audit", value_name = "LOG", required = true, num_args = 1..)]
    pub logs: Vec<PathBuf>,
    /// Take listed calls away that no run used, from programs of which every start was recorded with --record-syscalls
    #[arg(long)]
    pub tighten: bool,
    /// Write the result. A manifest belongs beside the files of the old one; it is unsigned, has the next serial, and keeps the container id, which names the code
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to write: a manifest for `recompiler-build sign`, or a policy for `recompiler-build --policy`
    #[arg(long = "as", value_enum, default_value_t)]
    pub form: Form,
    /// Print the difference as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Manifest,
    Policy,
}

#[derive(Args, Clone, Debug)]
pub struct Lint {
    /// The manifest
    pub manifest: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Diff {
    /// Manifest of the release that is there
    pub old: PathBuf,
    /// Manifest of the one that is to come
    pub new: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}
