//! The `vkernel` command: parses, dispatches, prints the one error line and sets the exit code. Owns nothing else.

use clap::Parser;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use vkernel::cli::{Cli, Command, Prune, Verify};
use vkernel::failure::Failure;
use vkernel::oci::{self, Log};
use vkernel::state::Entry;
use vkernel::store::Store;
use vkernel::{check, cli, commands, describe, keys, listing, lists, own_file, prove, run, serve, stats, top, verify, zygote};

fn main() -> ExitCode {
    if let Some((result, log)) = ready_made() {
        return finish(result, &log);
    }
    // Before anything is read: it would be read once more. Whether it must be is seen when the command is known.
    if own_file::may_start(std::env::args_os()) {
        let _ = own_file::protect();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS };
        }
    };
    let log = logged(&cli);
    finish(protected(&cli).and_then(|()| dispatch(&cli, &log)), &log)
}

fn logged(cli: &Cli) -> Log {
    Log { file: cli.runtime.log.clone(), json: cli.runtime.log_format == "json" }
}

fn finish(result: Result<i32, Failure>, log: &Log) -> ExitCode {
    match result {
        // Exit codes are bytes: what wait(2) keeps of them.
        Ok(code) => ExitCode::from(code as u8),
        Err(failure) => {
            eprintln!("vkernel: {failure}");
            log.failure(&failure);
            ExitCode::from(failure.code)
        }
    }
}

/// A run that a daemon's ready container does: this process holds nothing that its guest could reach.
fn ready_made() -> Option<(Result<i32, Failure>, Log)> {
    if own_file::is_second_execution() {
        return None;
    }
    let words = std::env::args_os().skip(1).map(|word| word.into_string().ok()).collect::<Option<_>>()?;
    let result = zygote::ask(words, Path::new(own_file::LINK))?;
    // What went well is not logged, and the command line not read.
    let log = if result.is_err() { Cli::try_parse().map_or_else(|_| Log::default(), |cli| logged(&cli)) } else { Log::default() };
    Some((result, log))
}

/// Guests must not get to this program's file: commands that start them go on in a second execution.
fn protected(cli: &Cli) -> Result<(), Failure> {
    if !matches!(cli.command, Command::Run(_) | Command::Create(_) | Command::Exec(_) | Command::Zygote(_)) {
        return Ok(());
    }
    // What the kernel lacks, or who is not root, explains more than what failed first.
    own_file::protect().map_err(|failure| check::require().err().unwrap_or(failure))
}

fn dispatch(cli: &Cli, log: &Log) -> Result<i32, Failure> {
    let find = |name: &str| Entry::find(&cli.root, name);
    let named = |name: &str| Entry::named(&cli.root, name);
    let done = |result: Result<(), Failure>| result.map(|()| 0);
    match &cli.command {
        Command::Run(options) => run::run(options, &cli.root, &cli.socket),
        Command::Exec(options) => oci::exec(options, &find(&options.container)?, &cli.socket),
        Command::Ps(options) => commands::ps(options, &cli.root).and_then(|text| print(text.as_bytes())),
        Command::Logs(options) => done(commands::logs(options, &find(&options.container)?)),
        Command::Inspect { container } => json(&commands::inspect(&find(container)?)),
        Command::Wait { container } => print(format!("{}\n", commands::wait(&find(container)?)).as_bytes()),
        Command::Kill(options) => {
            let signal = describe::signal(options.signal.as_deref().or(options.number.as_deref()).unwrap_or("SIGTERM"))?;
            done(oci::kill(&find(&options.container)?, signal, options.all))
        }
        Command::Stop(options) => done(options.containers.iter().try_for_each(|c| commands::stop(&find(c)?, options.time))),
        Command::Rm { force, containers } => done(containers.iter().try_for_each(|c| commands::rm(&find(c)?, *force, log))),
        Command::Pause { container } => done(oci::freeze(&find(container)?, true)),
        Command::Resume { container } => done(oci::freeze(&find(container)?, false)),
        Command::Create(options) => done(oci::create(options, &cli.root, &cli.socket, log)),
        Command::Start { container } => done(oci::start(&named(container)?, log)),
        Command::State { container } => json(&oci::state(&named(container)?)),
        Command::Delete(options) => match named(&options.container) {
            // As runc: callers clean up what they are not sure of.
            Err(_) if options.force => Ok(0),
            found => done(oci::delete(found?, options.force, log)),
        },
        Command::List(options) => print(oci::list(&cli.root, options.format == "json", options.quiet).as_bytes()),
        Command::Features => json(&oci::features()),
        Command::Serve(options) if options.schema => json(&vkernel_client::schema()),
        Command::Serve(options) => done(serve::serve(options, &cli.socket, &cli.root)),
        Command::Zygote(options) => done(zygote::zygote(options, &cli.root)),
        Command::Hold { seconds } => done(serve::hold(*seconds)),
        Command::Policy(options) => lists::run(&options.task).and_then(|(text, code)| print(text.as_bytes()).map(|_| code)),
        Command::Top(options) => top::top(options, &cli.root, &cli.socket).and_then(|(text, code)| print(text.as_bytes()).map(|_| code)),
        Command::Stats(options) => done(stats::stats(options, &cli.root)),
        Command::Events(options) => done(top::feed::events(options, &cli.root, &cli.socket)),
        Command::Verify(options) => verify_release(options),
        Command::Prove(options) => print(prove::replay(options)?.as_bytes()),
        Command::Syscalls { json: true, .. } => print(listing::json().as_bytes()),
        Command::Syscalls { man: true, .. } => print(listing::manual().as_bytes()),
        Command::Syscalls { .. } => print(listing::text().as_bytes()),
        Command::Check => print(check::table().as_bytes()).map(|code| if check::require().is_ok() { code } else { 1 }),
        Command::Prune(options) => prune(options),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut <Cli as clap::CommandFactory>::command(), "vkernel", &mut script);
            print(&script)
        }
        Command::Manual { page } if page == "api" => print(serve::manual::api().as_bytes()),
        Command::Manual { page } => if page == "serve" { serve::manual::serve() } else { cli::manual() }.map_err(|e| Failure::new("manual", e, "")).and_then(|page| print(&page)),
    }
}

fn json(value: &serde_json::Value) -> Result<i32, Failure> {
    print(format!("{value:#}\n").as_bytes())
}

fn print(text: &[u8]) -> Result<i32, Failure> {
    match std::io::stdout().write_all(text) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new("standard output", e, "")),
        _ => Ok(0),
    }
}

fn prune(options: &Prune) -> Result<i32, Failure> {
    let unused = Duration::from_secs(u64::from(options.unused_for) * 86400);
    let pruned = Store::open(&options.store)?.prune(unused, !options.dry_run)?;
    if options.json {
        return json(&serde_json::json!(pruned));
    }
    let verb = if options.dry_run { "would go" } else { "removed" };
    print(format!("{} files {verb}, {} MB\n", pruned.files, pruned.bytes >> 20).as_bytes())
}

fn verify_release(options: &Verify) -> Result<i32, Failure> {
    let verified = keys::manifest(&options.manifest, &options.trust.keys, options.trust.threshold, None).map_err(|f| f.with_code(1))?;
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
