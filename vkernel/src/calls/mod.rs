//! System calls that somebody asked for in a running container (`syscall` requests of vkernel-api(7)): from an order on standard input to outcomes on standard output. Owns the command's side; the way into the container
//! is `vkernel exec`'s, step by step, and what is different begins behind the lock-down.
//!
//! The facts a newcomer gets wrong: the daemon acts in no container, it executes this command (07, S25). And the container's list counts: what its release does not let every program call, or the program that the order names, is refused and
//! audited like any program's.

mod board;
mod perform;
pub(crate) mod plan;

use crate::audit::Destination;
use crate::cli::Exec;
use crate::container::{Place, Session};
use crate::failure::Failure;
use crate::hooks::Subject;
use crate::launch::{Home, Launch, Manner};
use crate::oci;
use crate::release::Release;
use crate::signals::Signals;
use crate::state::Entry;
use crate::supervisor::Until;
use board::Board;
use nix::unistd::Pid;
use perform::Rules;
use plan::Plan;
use policy::manifest::Binary;
use policy::{Digest, Verified};
use serde::{Deserialize, Serialize};
use std::io::Read;
use syscalls::Watch;
use syscalls::process::AllowList;
use syscalls::table;
use vkernel_client::{Invocation, LARGEST_LINE_BYTES};

/// What the daemon writes to the command's standard input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) calls: Vec<Invocation>,
    pub(crate) keep_going: bool,
    /// Whose list counts besides the one of every program.
    pub(crate) program: Option<String>,
    pub(crate) seconds: u32,
    /// Log for a container that names none.
    pub(crate) audit: Option<Destination>,
}

impl Order {
    /// Bounded like the line that it came from.
    fn read() -> Result<Self, Failure> {
        let mut text = Vec::new();
        std::io::stdin().take(2 * LARGEST_LINE_BYTES as u64).read_to_end(&mut text).map_err(failure)?;
        serde_json::from_slice(&text).map_err(failure)
    }
}

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("syscall", e, "see vkernel-api(7)")
}

/// Makes the calls in the container; prints the outcomes.
pub(crate) fn make(options: &Exec, entry: &Entry) -> Result<i32, Failure> {
    let order = Order::read()?;
    let plan = Plan::of(&order.calls).map_err(failure)?;
    let names: Vec<&str> = plan.steps.iter().map(|s| s.row.name).collect();
    let seconds = order.seconds.clamp(1, plan::MOST_SECONDS);

    let mut source = entry.record.release.clone();
    source.audit = source.audit.or(order.audit);
    let mut audit = source.audit(&entry.record.id)?;
    let release = Release::again(source, &mut audit)?;
    let (allow, number) = list(&release.verified, order.program.as_deref())?;
    // What is used here was not used by any program, so a recording learns nothing from it.
    let watch = Watch { permissive: release.source.permissive, recorded: false };
    let rules = Rules { allow, watch, entry: number, keep_going: order.keep_going, seconds };

    let mut spec = entry.record.spec.clone();
    spec.set_process(Some(oci::process(options, entry)?));
    let signals = Signals::take_over()?;
    let subject = Subject { id: entry.record.id.clone(), bundle: entry.record.bundle.clone() };
    let home = Home { subject, place: Place::Of(Pid::from_raw(entry.record.init.pid)), cgroup: entry.record.cgroup.clone() };
    let mut launch = Launch::new(release, spec, home, &signals, Manner { tied: true, ..Manner::default() })?;
    launch.container.session = Session::Own;
    if order.program.is_none() {
        launch.container.allow = launch.release.allow_default()?;
    }
    let board: &'static Board = Box::leak(Box::new(Board::new().map_err(failure)?));
    let started = launch.start_as(&audit, move |ring| perform::prepare(plan, rules, ring, board))?;
    let code = launch.serve(started.go()?, &launch.journal(entry.root(), Until::End)?, &mut audit, &signals)?;
    let outcomes = board.outcomes().filter(|_| code == Some(0)).ok_or_else(|| ended(code.unwrap_or(255), board.last(), &names, seconds))?;
    println!("{}", serde_json::to_string(&outcomes).map_err(failure)?);
    Ok(0)
}

/// Why there are no outcomes.
fn ended(code: i32, last: Option<usize>, names: &[&str], seconds: u32) -> Failure {
    let at = last.and_then(|n| Some(format!("in call {n} ({})", names.get(n)?))).unwrap_or_else(|| "before the first call".into());
    match code {
        ALARM => Failure::new("syscall", format!("{seconds} s have passed {at}; what came before it was done"), "give it more seconds, or wait for nothing"),
        _ => Failure::new("syscall", format!("its process ended with status {code} {at}; what came before it was done"), "see the container's memory limit, and who was killed"),
    }
}

/// Of a process that its own timer ended.
const ALARM: i32 = 128 + libc::SIGALRM;

/// The list that counts, and the number of the program whose it is.
fn list(verified: &Verified, program: Option<&str>) -> Result<(AllowList, u32), Failure> {
    let manifest = verified.manifest();
    let named = |mut list: AllowList, name: &str| {
        table::by_name(name).into_iter().for_each(|row| list.insert(row.nr));
        list
    };
    let Some(program) = program else {
        return Ok((manifest.global_policies.default_syscalls.iter().map(String::as_str).fold(AllowList::NONE, named), 0));
    };
    let (_, binary) = self::program(verified, program)?;
    Ok((manifest.allowed_syscalls(binary).into_iter().fold(AllowList::NONE, named), binary.entry))
}

/// A program of the release, by its path, or by one of its digests.
pub(crate) fn program<'a>(verified: &'a Verified, name: &str) -> Result<(&'a Digest, &'a Binary), Failure> {
    let is = |(digest, binary): &(&Digest, &Binary)| binary.path == name || [Some(**digest), binary.sha256].into_iter().flatten().any(|d| d.to_string() == name);
    let unknown = || Failure::new("syscall", format!("{} is no program of the release", plan::shown(name)), "name a path or hash of its manifest, or leave `as` out");
    verified.manifest().binaries.iter().find(is).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_outcomes_says_where_it_came() {
        let why = |code, last| ended(code, last, &["openat", "read"], 7).to_string();
        assert!(why(ALARM, Some(1)).contains("7 s have passed in call 1 (read)"));
        assert!(why(137, None).contains("status 137 before the first call"));
        assert!(why(0, Some(9)).contains("before the first call"), "a worker's lie");
    }
}
