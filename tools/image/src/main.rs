//! The program `vkernel-image`: runs one command, prints one line on failure. Ctrl-C stops it at the next piece of data, so that everything half made is removed.

use anyhow::Context;
use clap::Parser;
use image::blob::Blobs;
use image::bundle;
use image::cli::{Cli, Command};
use image::layer::INTERRUPTED;
use image::pull::{self, Pull};
use image::push::{self, Push};
use image::registry::Access;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Nothing this program does needs more; a hostile registry or archive that finds a way to make it need more ends here.
const MEMORY_BYTES: u64 = 4 << 30;

/// As shells report a program ended by SIGINT.
const INTERRUPTED_CODE: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _ = setrlimit(Resource::As, Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) });
    if let Err(e) = handle_signals() {
        eprintln!("vkernel-image: cannot handle signals: {e}");
        return ExitCode::FAILURE;
    }
    match run(cli) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => {
            eprintln!("vkernel-image: interrupted, nothing is left behind but downloads that can be continued");
            ExitCode::from(INTERRUPTED_CODE)
        }
        Err(error) => {
            let line = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            eprintln!("vkernel-image: {}", line.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

/// The first signal asks, the second ends.
fn handle_signals() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let again = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED_CODE.into(), again.clone())?;
        signal_hook::flag::register(signal, again.clone())?;
    }
    std::thread::spawn(move || {
        while !again.load(Ordering::Relaxed) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn lines(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn cache(given: Option<PathBuf>) -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    given.or_else(|| from("XDG_CACHE_HOME").map(|d| d.join("vkernel"))).or_else(|| from("HOME").map(|d| d.join(".cache/vkernel"))).unwrap_or_else(|| ".vkernel-cache".into())
}

fn run(cli: Cli) -> anyhow::Result<String> {
    let access = Access { authorities: cli.access.registry_ca, plain_http: cli.access.plain_http };
    let directory = std::path::absolute(cache(cli.access.cache))?;
    let blobs = Blobs::open(&directory.join("blobs"))?;
    let pull = |image: &str| -> anyhow::Result<Pull<'_>> {
        Ok(Pull { from: image.parse()?, images: directory.join("images"), max_bytes: cli.access.max_bytes, access: &access, blobs: &blobs })
    };
    Ok(match cli.command {
        Command::Unpack { image } => pull::image(&pull(&image)?)?.display().to_string(),
        Command::Pull { image, pull: when } => pull::release(&pull(&image)?, when)?.display().to_string(),
        Command::BundleGet { from, into, names } => bundle::get(&from.parse()?, &lines(&names)?, &into, &access, &blobs)?.to_string(),
        Command::BundlePut { directory, to, keep } => bundle::put(&directory, &to.parse()?, &lines(&keep)?, &access, &blobs)?.to_string(),
        Command::Push { manifest, to, image, form, compression } => {
            let image = image.map(|i| i.parse()).transpose()?;
            push::push(&Push { manifest, to: to.parse()?, image, form, compression, scratch: directory.join("images"), access: &access, blobs: &blobs })?.to_string()
        }
    })
}
