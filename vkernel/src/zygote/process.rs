//! `vkernel zygote`: the process that keeps so many containers of one kind waiting. Owns how many there are, and nothing else: each is an execution of its own (07, S16), with addresses, canaries and hash seeds that no other has.
//!
//! The fact a newcomer gets wrong: a container that was taken needs it no more. It ends with the daemon's end of the socket, as do those that wait.

use super::{Orders, reserve};
use crate::cli::{Run, Zygote};
use crate::failure::Failure;
use crate::{check, keeper};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::setsid;
use std::collections::BTreeMap;
use std::io::{PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// So many in a row that ended before they were ready, and nobody waits for another one.
const MOST_FAILURES: usize = 3;
/// Who waited longer was ready, and was ended by somebody.
const YOUNG: Duration = Duration::from_secs(5);
/// As long as others wait, no new one is made so soon after one was taken: most of what is asked for has come to its end by then, and had the processors, and the kernel's lock on mounts, for itself.
const REST: Duration = Duration::from_millis(15);
/// Of more files nobody is told that they will be asked about.
const MOST_KNOWN: usize = 64;

fn failure(e: impl std::fmt::Display) -> Failure {
    Failure::new("zygote", e, "")
}

/// Orders come on standard input. Without a size it is one of the containers, and says on standard output that it was taken.
pub fn zygote(options: &Zygote, root: &Path) -> Result<(), Failure> {
    check::require()?;
    let orders = Orders(std::io::stdin().as_fd().try_clone_to_owned().map_err(failure)?);
    keeper::quiet_some(0..1);
    if options.size > 0 {
        return keep(options, root, &orders);
    }
    let run: Run = serde_json::from_str(&options.run).map_err(failure)?;
    let told = PipeWriter::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(failure)?);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(failure)?;
    reserve::live(&run, root, &options.known, orders, told)
}

fn keep(options: &Zygote, root: &Path, orders: &Orders) -> Result<(), Failure> {
    let _ = setsid();
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(failure)?;
    let children = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failure)?;
    let (mut told, tell) = std::io::pipe().map_err(failure)?;
    fcntl(&told, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failure)?;
    let mut waiting = BTreeMap::new();
    let mut failures = 0;
    let mut known = Vec::new();
    let mut rest: Option<Instant> = None;
    loop {
        let left = rest.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        while left.is_zero() && waiting.len() < options.size {
            let one = container(options, root, &known, orders.0.try_clone().map_err(failure)?, tell.try_clone().map_err(failure)?.into());
            waiting.insert(one.map_err(failure)?, Instant::now());
        }
        let timeout = if left.is_zero() { PollTimeout::NONE } else { PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX) };
        // Orders are read by others: only the end of them is of interest here.
        let mut fds = [PollFd::new(orders.0.as_fd(), PollFlags::empty()), PollFd::new(told.as_fd(), PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(failure(e)),
        }
        if fds[0].revents().is_some_and(|r| !r.is_empty()) {
            return Ok(());
        }
        while let Ok(Some(_)) = children.read_signal() {}
        let ended: Vec<i32> = std::iter::from_fn(|| waitpid(None, Some(WaitPidFlag::WNOHANG)).ok()?.pid()).map(|pid| pid.as_raw()).collect();
        // Who has ended may have said before that it was taken.
        let mut taken = [0; size_of::<i32>()];
        while told.read_exact(&mut taken).is_ok() {
            match i32::from_ne_bytes(taken) {
                entry @ ..0 => learn(&mut known, entry.unsigned_abs()),
                pid => {
                    waiting.remove(&pid);
                    failures = 0;
                    rest = (!waiting.is_empty()).then(|| Instant::now() + REST);
                }
            }
        }
        // One that ends before has said why.
        failures += ended.iter().filter_map(|pid| waiting.remove(pid)).filter(|since| since.elapsed() < YOUNG).count();
        if failures >= MOST_FAILURES {
            return Err(failure("containers cannot be made ready"));
        }
    }
}

/// What was asked about last stands last, and what was asked about longest ago is forgotten.
fn learn(known: &mut Vec<u32>, entry: u32) {
    known.retain(|other| *other != entry);
    known.push(entry);
    if known.len() > MOST_KNOWN {
        known.remove(0);
    }
}

/// This program again, from the place where no guest can change it.
fn container(options: &Zygote, root: &Path, known: &[u32], orders: OwnedFd, told: OwnedFd) -> std::io::Result<i32> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("vkernel").arg("--root").arg(root).args(["zygote", "--size", "0", &options.run]);
    command.args(known.iter().rev().map(u32::to_string));
    command.stdin(Stdio::from(orders)).stdout(Stdio::from(told)).spawn().map(|child| child.id() as i32)
}
