//! Options of the commands that act on containers: podman's and runc's names on the same records. Owns names and help texts.

use super::Release;
use clap::Args;
use std::path::PathBuf;

/// What runc's callers put before the command.
#[derive(Args, Clone, Debug, Default)]
pub struct Runtime {
    /// Write failures of OCI commands to this file too
    #[arg(long, global = true, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,
    /// Accepted and ignored: a description whose control group is written as systemd's scope gets one where systemd runs
    #[arg(long, global = true, hide = true)]
    pub systemd_cgroup: bool,
    /// Accepted and ignored
    #[arg(long, global = true, hide = true)]
    pub debug: bool,
}

/// What a runtime's caller gives a new process, and wants of it.
#[derive(Args, Clone, Debug)]
pub struct Handed {
    /// Write the process's number into a file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Socket that receives the terminal
    #[arg(long, value_name = "PATH")]
    pub console_socket: Option<PathBuf>,
    /// How many descriptors from 3 on the process inherits
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

#[derive(Args, Clone, Debug)]
pub struct Create {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// The manifest of the bundle's release [default: annotation io.vkernel.manifest, or /.vkernel/manifest.json in the image]
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    #[command(flatten)]
    pub handed: Handed,
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    #[arg(long, hide = true)]
    pub no_new_keyring: bool,
    #[command(flatten)]
    pub release: Release,
    /// The new container's id
    pub id: String,
}

#[derive(Args, Clone, Debug)]
pub struct Exec {
    /// Read the process from a file of runtime-spec's form
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Working directory [default: the container's]
    #[arg(short = 'w', long, alias = "workdir", value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set an environment variable; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// User: name or id, optionally with a group [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Add a capability; may be repeated
    #[arg(short, long, alias = "cap-add", value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Give it a terminal of its own
    #[arg(short, long)]
    pub tty: bool,
    /// Pass standard input on; in the foreground that is always so
    #[arg(short, long)]
    pub interactive: bool,
    /// Do not wait for it
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub handed: Handed,
    /// Print its system calls to standard error
    #[arg(long)]
    pub strace: bool,
    /// Make the system calls that standard input names instead of running a program: the daemon's way in
    #[arg(long, hide = true, conflicts_with_all = ["process", "tty", "detach", "strace", "command"])]
    pub calls: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM ARGS")]
    pub command: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Kill {
    /// To every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// Name or number; runc's callers write it after the container
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Name or number [default: SIGTERM]
    #[arg(value_name = "SIGNAL", conflicts_with = "signal")]
    pub number: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Delete {
    /// Even if it runs; one that does not exist is no failure
    #[arg(short, long)]
    pub force: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

#[derive(Args, Clone, Debug)]
pub struct List {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// Go on until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only the last lines
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

#[derive(Args, Clone, Debug)]
pub struct Stop {
    /// Seconds until it is killed
    #[arg(short, long, value_name = "SECONDS", default_value_t = 10)]
    pub time: u32,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Ps {
    /// Also those that have ended
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    pub format: String,
    /// The processes of this one instead, by their numbers on the host
    #[arg(conflicts_with_all = ["all", "quiet"])]
    pub container: Option<String>,
}
