//! Options of `vkernel run`. Owns names, defaults and help texts; what they mean for a container is `describe`'s. The names are podman's wherever podman has the option.

use super::{CodeForm, RegistryArgs, Release};
use crate::cni::Port;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  vkernel run out/manifest.json --rootfs /srv/debian -- /usr/bin/ls -l /
  vkernel run registry.example/shop:1 --key build.pub -- /usr/bin/shop
  vkernel run registry.example/shop:1 --memory 512m --pids-limit 100 --read-only -v /srv/data:/data:ro -- /usr/bin/shop
  vkernel run docker://registry.example/shop@sha256:4bf9… --pull never -- /usr/bin/shop";

#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// A manifest, whose files lie next to it, or an image that carries a release: docker://HOST/NAME[:TAG][@sha256:DIGEST], HOST/NAME:TAG, oci:DIR[:TAG]
    #[arg(value_name = "MANIFEST|IMAGE")]
    pub manifest: PathBuf,
    #[command(flatten)]
    pub registry: RegistryArgs,
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub life: Life,
    /// Print the guest's system calls to standard error
    #[arg(long)]
    pub strace: bool,
    /// Code to run: `resumable` is slow and leaves nothing to an optimising compiler; to find out whether a fault lies there
    #[arg(long, value_enum, default_value_t)]
    pub form: CodeForm,
    #[command(flatten)]
    pub release: Release,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM ARGS")]
    pub command: Vec<String>,
}

/// What the container consists of.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// The image's root directory [default: rootfs next to the manifest]
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,
    /// Let the guest change the root directory itself; by default changes go to memory and are lost at exit
    #[arg(long)]
    pub writable: bool,
    /// Leave /proc, /dev and /sys as they are in the image
    #[arg(long)]
    pub bare: bool,
    /// Make the root directory read-only; /run, /tmp and /var/tmp are memory
    #[arg(long)]
    pub read_only: bool,
    /// Host name in the container [default: the container's id]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR", default_value = "/")]
    pub workdir: String,
    /// Set an environment variable; without a value, pass the caller's; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// User in the container: name or id, optionally with a group
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "0")]
    pub user: String,
    /// Another group of the user; may be repeated
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Show a host file or directory in the container; may be repeated. Options: ro, rw, bind, rbind
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]")]
    pub volume: Vec<String>,
    /// The same, or memory: type=bind|tmpfs,source=…,destination=…[,ro][,tmpfs-size=…][,tmpfs-mode=…]; may be repeated
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// Mount memory on a directory of the container; may be repeated
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Show a device of the host in the container; may be repeated
    #[arg(long, value_name = "HOST[:CONTAINER]")]
    pub device: Vec<String>,
    /// Network: none, loopback, host, bridge (one of its own, joined to the host's by CNI plugins, as /etc/vkernel/bridge.conflist says), bridge:FILE, or netns:PATH; at most what the manifest allows [default: what the manifest
    /// allows]
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<NetworkChoice>,
    /// Pass a port of the host on to one of the container, which gets a bridge network; may be repeated
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]")]
    pub publish: Vec<Port>,
    /// Most memory, with a unit b, k, m or g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Most memory and swap together, or -1
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Most processes and threads, or -1
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// How many CPUs' time, e.g. 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<f64>,
    /// Weight against other containers when CPUs are short (2 to 262144)
    #[arg(long, value_name = "N")]
    pub cpu_shares: Option<u64>,
    /// Which CPUs, e.g. 0-1,3
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// A resource limit as in ulimit: nofile, nproc, stack, as …; may be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Give root, or the user, another capability of the container's user namespace, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Take a capability away, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// User namespace: host (ids are the host's), private (with --uidmap), or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Map user ids; may be repeated
    #[arg(long, value_name = "CONTAINER:HOST:COUNT")]
    pub uidmap: Vec<String>,
    /// Map group ids [default: as user ids]; may be repeated
    #[arg(long, value_name = "CONTAINER:HOST:COUNT")]
    pub gidmap: Vec<String>,
    /// A kernel setting of the container's own namespaces; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// How willingly the kernel kills the container when memory is short (-1000 to 1000)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// A note that `inspect` and hooks see; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub annotation: Vec<String>,
}

/// How the container is looked after.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub struct Life {
    /// A name for other commands to use
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    /// Forget a detached container when it ends; others are always forgotten
    #[arg(long)]
    pub rm: bool,
    /// Give the program a terminal of its own; what it shows and reads is passed through standard output and input
    #[arg(short, long, conflicts_with_all = ["bare", "detach"])]
    pub tty: bool,
    /// Pass standard input on; in the foreground that is always so
    #[arg(short, long)]
    pub interactive: bool,
    /// Write the first program's process number on the host into a file
    #[arg(long, value_name = "FILE", alias = "pidfile")]
    pub pid_file: Option<PathBuf>,
    /// Signal that `vkernel stop` sends first
    #[arg(long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub stop_signal: String,
}

/// From tight to wide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkChoice {
    /// No interface but a loopback that is down.
    None,
    /// Loopback only.
    Loopback,
    /// One of its own, joined to others by CNI plugins: as this file says, or the host's default.
    Bridge(Option<PathBuf>),
    /// The host's network.
    Host,
    /// A network namespace that somebody else made.
    Namespace(PathBuf),
}

impl std::str::FromStr for NetworkChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "loopback" => Ok(Self::Loopback),
            "host" => Ok(Self::Host),
            "bridge" => Ok(Self::Bridge(None)),
            _ => match (text.strip_prefix("bridge:"), text.strip_prefix("netns:").or_else(|| text.strip_prefix("ns:"))) {
                (Some(file), _) if !file.is_empty() => Ok(Self::Bridge(Some(file.into()))),
                (_, Some(path)) if path.starts_with('/') => Ok(Self::Namespace(path.into())),
                _ => Err("use none, loopback, host, bridge, bridge:FILE or netns:PATH".into()),
            },
        }
    }
}

impl std::fmt::Display for NetworkChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Loopback => f.write_str("loopback"),
            Self::Host => f.write_str("host"),
            Self::Bridge(None) => f.write_str("bridge"),
            Self::Bridge(Some(file)) => write!(f, "bridge:{}", file.display()),
            Self::Namespace(path) => write!(f, "netns:{}", path.display()),
        }
    }
}
