//! Options of `vkernel top`, `stats` and `events`. Owns names and help texts.

use clap::Args;

const TOP: &str = "Examples:
  vkernel top
  vkernel top --interval 0.5
  vkernel top --json | jq '.containers[] | select(.counts.denials > 0) | .id'";
const STATS: &str = "Examples:
  vkernel stats
  vkernel stats --no-stream web
  vkernel stats --json --interval 60 >> usage.jsonl";
const EVENTS: &str = "Examples:
  vkernel events --denied
  vkernel events --json web | jq -r .reason";

/// Watch containers: processor, memory, processes, execs a second, and refusals as they happen. Keys: left and right choose the column to sort by, r reverses, up and down scroll, q ends.
/// Execs and refusals are known of containers that a daemon serves
#[derive(Args, Clone, Debug)]
#[command(after_help = TOP)]
pub struct Top {
    /// Print one sample and end; so it is also where standard output is no terminal
    #[arg(long)]
    pub once: bool,
    /// The same as JSON
    #[arg(long)]
    pub json: bool,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    pub interval: f64,
}

/// What containers use, with podman's columns
#[derive(Args, Clone, Debug)]
#[command(after_help = STATS)]
pub struct Stats {
    /// Print one sample and end
    #[arg(long)]
    pub no_stream: bool,
    /// As JSON: an array per sample, one a line
    #[arg(long)]
    pub json: bool,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5.0, value_parser = interval)]
    pub interval: f64,
    /// Only these
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Print decisions about the containers that a daemon serves, as they are made
#[derive(Args, Clone, Debug)]
#[command(after_help = EVENTS)]
pub struct Events {
    /// The audit records themselves, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Only refusals
    #[arg(long)]
    pub denied: bool,
    /// Only of this one
    #[arg(value_name = "CONTAINER")]
    pub container: Option<String>,
}

fn interval(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.1..=3600.0).contains(s)).ok_or_else(|| "write a number of seconds from 0.1 to 3600".into())
}
