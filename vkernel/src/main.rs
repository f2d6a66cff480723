//! The `vkernel` command: parses, dispatches, prints the one error line and sets the exit code. Owns nothing else.

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use vkernel::cli::{Cli, Command, Verify};
use vkernel::failure::Failure;
use vkernel::{check, cli, keys, listing, run, verify};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS };
        }
    };
    let result = match &cli.command {
        Command::Run(options) => run::run(options),
        Command::Verify(options) => verify_release(options),
        Command::Syscalls { json: true, .. } => print(listing::json().as_bytes()),
        Command::Syscalls { man: true, .. } => print(listing::manual().as_bytes()),
        Command::Syscalls { .. } => print(listing::text().as_bytes()),
        Command::Check => print(check::table().as_bytes()).map(|code| if check::require().is_ok() { code } else { 1 }),
        Command::Manual => cli::manual().map_err(|e| Failure::new("manual", e, "")).and_then(|page| print(&page)),
    };
    match result {
        // Exit codes are bytes: what wait(2) keeps of them.
        Ok(code) => ExitCode::from(code as u8),
        Err(failure) => {
            eprintln!("vkernel: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn print(text: &[u8]) -> Result<i32, Failure> {
    match std::io::stdout().write_all(text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new("standard output", e, "")),
        _ => Ok(0),
    }
}

fn verify_release(options: &Verify) -> Result<i32, Failure> {
    let verified = keys::manifest(&options.manifest, &options.trust.keys, options.trust.threshold).map_err(|f| f.with_code(1))?;
    let failures = verify::failures(&verified, &options.manifest);
    for failure in &failures {
        eprintln!("vkernel: {failure}");
    }
    if !failures.is_empty() {
        return Ok(1);
    }
    let m = verified.manifest();
    let signers = verified.signers().iter().cloned().collect::<Vec<_>>().join(", ");
    let (binaries, libraries, artifacts) = (m.binaries.len(), m.libraries.len(), verify::artifacts(&verified).count());
    let line = format!("{} {} serial {}: signed by {signers}; {binaries} programs, {libraries} libraries, {artifacts} artifacts: all as signed\n", m.name, m.version, m.serial);
    print(line.as_bytes())
}
