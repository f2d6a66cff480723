//! The command line. Owns names, defaults and help texts; the manual page is generated from here. The fact a newcomer gets wrong: bad usage is
//! exit code 125 as with podman, not 2, because 2 could be the guest's.

mod manual;
mod oci;
pub mod policy;
mod run;
mod serve;
pub mod watch;

pub use manual::manual;
pub use oci::{Create, Delete, Exec, Kill, List, Logs, Ps, Runtime, Stop};
pub use run::{Life, NetworkChoice, Run, Shape};
pub use serve::{Serve, Zygote};

use crate::audit::Destination;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Shown by --help and in the manual.
const EXAMPLES: &str = "Examples:
  vkernel verify out/manifest.json --key build.pub
  vkernel run out/manifest.json --rootfs /srv/debian --key build.pub -- /usr/bin/ls -l /
  vkernel run out/manifest.json --rootfs /srv/debian --audit audit.jsonl --strace -- /bin/bash
  vkernel run out/manifest.json --rootfs /srv/debian --detach --name web --memory 512m -- /usr/bin/shop
  vkernel exec --tty web /bin/bash";

/// Run signed containers whose programs were translated to WebAssembly; nothing else ever executes.
#[derive(Parser, Debug)]
#[command(name = "vkernel", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// Where the records of containers are
    #[arg(long, global = true, value_name = "DIR", default_value = crate::state::DEFAULT)]
    pub root: PathBuf,
    /// Socket of the daemon, where one runs
    #[arg(long, global = true, value_name = "PATH", default_value = vkernel_client::SOCKET)]
    pub socket: PathBuf,
    #[command(flatten)]
    pub runtime: Runtime,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "one value per process")]
pub enum Command {
    /// Run a program of a container and exit with its exit code
    Run(Run),
    /// Run a further program in a running container
    Exec(Exec),
    /// List containers
    Ps(Ps),
    /// Print what a detached container has written
    Logs(Logs),
    /// Print everything that is known of a container, as JSON
    Inspect {
        /// The container
        container: String,
    },
    /// Wait for the end of a container and print its exit code
    Wait {
        /// The container
        container: String,
    },
    /// Send a signal to a container's first program
    Kill(Kill),
    /// Ask containers to end, and kill those that do not
    Stop(Stop),
    /// Remove containers that have ended
    Rm {
        /// Even if they run
        #[arg(short, long)]
        force: bool,
        /// The containers
        #[arg(required = true, value_name = "CONTAINER")]
        containers: Vec<String>,
    },
    /// Freeze every process of a container
    Pause {
        /// The container
        container: String,
    },
    /// Let a frozen container go on
    #[command(alias = "unpause")]
    Resume {
        /// The container
        container: String,
    },
    /// OCI runtime: make a container from a bundle; it waits for `start`
    Create(Create),
    /// OCI runtime: let a created container begin
    Start {
        /// The container
        container: String,
    },
    /// OCI runtime: print a container's state
    State {
        /// The container
        container: String,
    },
    /// OCI runtime: remove a container
    Delete(Delete),
    /// OCI runtime: list containers
    List(List),
    /// OCI runtime: print what this runtime can do
    Features,
    /// Run the daemon: answer the execs of containers in the background, and requests on a socket
    Serve(Serve),
    /// Hold what a daemon serves while none runs; the daemon starts it
    #[command(hide = true)]
    Hold {
        #[arg(long)]
        seconds: u64,
    },
    /// Keep containers of one kind ready; the daemon starts it
    #[command(hide = true)]
    Zygote(Zygote),
    /// Check a release: signatures, digests of all files, engine and CPU
    Verify(Verify),
    Prove(Prove),
    Policy(policy::Policy),
    Top(watch::Top),
    Stats(watch::Stats),
    Events(watch::Events),
    /// Print the system calls guests have, with support levels
    Syscalls {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// As manual page vkernel-syscalls(7)
        #[arg(long, conflicts_with = "json")]
        man: bool,
    },
    /// Print which kernel features this host has and what missing ones mean
    Check,
    /// Remove from the store what no release has used lately; a release that runs again is checked and linked again
    Prune(Prune),
    /// Print a completion script
    Completions {
        shell: clap_complete::Shell,
    },
    /// Print a manual page: vkernel(1), vkernel-serve(8) or vkernel-api(7)
    #[command(hide = true)]
    Manual {
        #[arg(default_value = "vkernel", value_parser = ["vkernel", "serve", "api"])]
        page: String,
    },
}

#[derive(Args, Debug)]
pub struct Prune {
    /// Keep what a release used that was started within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub unused_for: u32,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// The store
    #[arg(long, value_name = "DIR", default_value = crate::store::DEFAULT)]
    pub store: PathBuf,
}

/// Whom to believe.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Trust {
    /// Trusted public key (PEM); replaces the keys in /etc/vkernel/keys; may be repeated
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// How many distinct trusted keys must have signed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threshold: usize,
}

#[derive(Args, Debug)]
pub struct Verify {
    /// The manifest; its files lie next to it
    pub manifest: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
}

/// Run the commands of a release's proof again, and compare with what was signed: do they still come out as natively? `recompiler-build prove` makes proofs
#[derive(Args, Debug)]
pub struct Prove {
    /// Manifest of the release, beside which the proof lies (manifest.proof.json and manifest.proof/), or the image that ships both
    #[arg(value_name = "MANIFEST|IMAGE")]
    pub manifest: PathBuf,
    /// The only thing a host can do with a proof
    #[arg(long, required = true)]
    pub replay: bool,
    /// The image's root directory [default: rootfs next to the manifest]
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    #[command(flatten)]
    pub trust: Trust,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Which release, and what of it is believed.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    /// Append every decision as one JSON line, or with `journald` send it to systemd's journal (`journald:SOCKET`: to that of a namespace)
    #[arg(long, value_name = "FILE|journald", value_parser = clap::value_parser!(Destination))]
    pub audit: Option<Destination>,
    /// Let system calls through that a program's list lacks, and record each once per program as would-refuse. Not relaxed: the hash rule, what the table of system calls refuses
    /// itself, the network that the manifest allows, capabilities, volumes and limits, a seccomp profile of the bundle. A manifest can forbid it
    #[arg(long, requires = "audit")]
    pub permissive: bool,
    /// Record listed system calls, too, each once per program, for `vkernel policy learn --tighten`
    #[arg(long, requires = "audit")]
    pub record_syscalls: bool,
    /// Run only the release of this name, or with this digest (of the manifest, or the container id); may be repeated
    #[arg(long, value_name = "NAME|DIGEST")]
    pub pin: Vec<::policy::Pin>,
    /// Run a release although this host has run a newer one of the same name; the audit log says so
    #[arg(long)]
    pub allow_rollback: bool,
    /// Where the highest serial of each name is remembered
    #[arg(long, value_name = "DIR", default_value = crate::serial::DEFAULT)]
    pub serials: PathBuf,
    /// Where verified copies of artifacts are kept
    #[arg(long, value_name = "DIR", default_value = crate::store::DEFAULT)]
    pub store: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
}

/// How an image is got.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct RegistryArgs {
    /// When to ask the registry for an image
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["missing", "always", "never"])]
    pub pull: String,
    /// Where images and downloads are kept
    #[arg(long, value_name = "DIR", default_value = crate::fetch::DEFAULT)]
    pub images: PathBuf,
    /// Trust this certificate authority (PEM) for registries, besides the system's; may be repeated
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
    /// Speak to this registry (HOST[:PORT]) without TLS; may be repeated
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<String>,
}

/// How programs are translated.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeForm {
    /// Structured code where it can be entered, resumable code elsewhere
    #[default]
    Both,
    /// Resumable code only
    Resumable,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_the_guest_program_stay_its_own() {
        let cli = Cli::try_parse_from(["vkernel", "run", "m.json", "--strace", "--", "/bin/ls", "--audit", "-l"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert!(run.strace && run.release.audit.is_none());
        assert_eq!(run.command, ["/bin/ls", "--audit", "-l"]);
    }
}
