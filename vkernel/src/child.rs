//! Programs of the host that are started beside a container (hooks, network plugins): what they are given on standard input, what of their output is kept, and how long they have. Owns waiting for them.
//!
//! The fact a newcomer gets wrong: a program may end without reading, may say more than a pipe holds, and may leave a child that keeps its pipes open; none of that may stop us.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much is kept of what a program says, of each stream.
const TOLD: usize = 256 << 10;

/// What became of one.
pub struct Ended {
    pub status: ExitStatus,
    pub said: Vec<u8>,
    pub errors: Vec<u8>,
}

/// Runs a program to its end, or kills it when its time is over. Its standard output goes where the caller has said.
pub fn run(command: &mut Command, input: &[u8], limit: Option<Duration>) -> Result<Ended, String> {
    let text = |e: nix::Error| e.to_string();
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    // A supervisor's blocked signals are not the program's, which has no business here without us.
    // SAFETY: two system calls, safe after fork.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            SigSet::empty().thread_set_mask().map_err(Into::into)
        });
    };
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let begun = Instant::now();
    let (mut out, mut err, mut stdin) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
    let pipes = [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd), stdin.as_ref().map(AsFd::as_fd)];
    for pipe in pipes.into_iter().flatten() {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(text)?;
    }
    let (mut said, mut errors, mut left) = (Vec::new(), Vec::new(), input);
    loop {
        while let Some(pipe) = &mut stdin {
            match pipe.write(left) {
                Ok(n) if n < left.len() => left = &left[n..],
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                _ => stdin = None,
            }
        }
        let ended = child.try_wait().map_err(|e| e.to_string())?;
        take(&mut out, &mut said);
        take(&mut err, &mut errors);
        if let Some(status) = ended {
            return Ok(Ended { status, said, errors });
        }
        if limit.is_some_and(|limit| begun.elapsed() > limit) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("did not end within {:?}", limit.unwrap_or_default()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What is there now.
fn take(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    while let Some(Ok(n @ 1..)) = pipe.as_mut().map(|pipe| pipe.read(&mut piece)) {
        into.extend_from_slice(&piece[..n.min(TOLD - into.len())]);
    }
}
