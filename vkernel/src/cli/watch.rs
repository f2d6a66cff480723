//! Options of `vkernel top`, `stats` and `events`. Owns names and help texts.

use clap::Args;

/// Watch containers: processor, memory, processes, execs a second, and refusals as they happen. Keys: left and right choose the column to sort by, r reverses, up and down scroll, q ends.
/// Execs and refusals are known of containers that a daemon serves
#[derive(Args, Clone, Debug)]
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
