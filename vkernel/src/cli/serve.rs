//! Options of `vkernel serve`. Owns names and help texts; the rest of what can be chosen stands in serve.toml.

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  vkernel serve
  vkernel serve --schema
  vkernel serve --socket /run/shop/vkernel.sock --config /srv/shop/vkernel
  echo '{\"type\": \"ps\"}' | socat - UNIX-CONNECT:/run/vkernel/vkernel.sock
  systemctl enable --now vkernel.socket";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// Directory of serve.toml, revoked.json and keys/*.pub; SIGHUP reads them again
    #[arg(long, value_name = "DIR", default_value = crate::serve::SETTINGS)]
    pub config: PathBuf,
    /// Print the JSON Schema of requests and answers, and end
    #[arg(long)]
    pub schema: bool,
}

/// What the daemon tells a zygote; orders come on its standard input.
#[derive(Args, Clone, Debug)]
pub struct Zygote {
    /// How many containers wait
    #[arg(long)]
    pub size: usize,
    /// Options of `vkernel run`, as JSON
    pub run: String,
    /// Entries of the manifest that containers of this kind have asked about
    pub known: Vec<u32>,
}
