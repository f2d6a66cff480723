//! Terminals: who is the foreground process group of the caller's while a container runs, and the container's own (`--tty`) with what passes between the two. Owns tcsetpgrp, raw mode, and
//! giving both back.
//!
//! The fact a newcomer gets wrong: the guest's shell can do job control only if its process group exists in its pid namespace, so init
//! needs an own group; but `vkernel run … | less` must leave the terminal to the whole pipeline. So the terminal is taken over only when
//! standard input *and* output are the terminal and we are its foreground group.

use crate::container::Session;
use crate::failure::Failure;
use crate::lockdown::Credentials;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Gid, Pid, Uid, fchown, getpgrp, setsid, tcgetpgrp, tcsetpgrp};
use std::fs::File;
use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

/// What init should do, from what our standard streams are.
pub fn plan() -> Session {
    if !stdin().is_terminal() {
        return Session::Own;
    }
    let in_front = tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp());
    if in_front && stdout().is_terminal() { Session::Foreground } else { Session::Shared }
}

/// While it lives, the container's init group owns the terminal.
pub struct Foreground {
    before: Pid,
}

impl Foreground {
    /// Gives the terminal to `group` (an own group of init's).
    pub fn give(group: Pid) -> Option<Self> {
        let before = getpgrp();
        set(group).then_some(Self { before })
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        set(self.before);
    }
}

/// tcsetpgrp from a background group raises SIGTTOU unless it is blocked.
fn set(group: Pid) -> bool {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTTOU);
    let mut before = SigSet::empty();
    let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before)).is_ok();
    let done = tcsetpgrp(stdin(), group).is_ok();
    if blocked {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    }
    done
}

fn failure(what: &'static str) -> impl Fn(nix::Error) -> Failure {
    move |e| Failure::new(format!("make terminal: {what}"), e.desc(), "the image needs a directory /dev for --tty")
}

/// In init, once the container's /dev is there: a new session on a new terminal, which becomes the three standard streams; gives the master side.
pub fn make(who: &Credentials) -> Result<OwnedFd, Failure> {
    let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).map_err(failure("/dev/ptmx"))?;
    grantpt(&master).and_then(|()| unlockpt(&master)).map_err(failure("unlock"))?;
    let name = ptsname_r(&master).map_err(failure("name"))?;
    setsid().map_err(failure("setsid"))?;
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(&name);
    let slave = open().map_err(|e| Failure::new(format!("make terminal: {name}"), e, "the image needs a directory /dev for --tty"))?;
    // A guest that is not root opens it again by its name.
    fchown(&slave, Some(Uid::from_raw(who.uid)), None::<Gid>).map_err(failure("owner"))?;
    // SAFETY: plain descriptors of this process; nothing of ours keeps the numbers 0 to 2 as an object.
    unsafe {
        if libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) != 0 || (0..3).any(|fd| libc::dup2(slave.as_raw_fd(), fd) != fd) {
            return Err(failure("streams")(nix::Error::last()));
        }
    }
    // SAFETY: PtyMaster is a descriptor and nothing else.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(master)) })
}

/// Gives a terminal the size of the caller's, if the caller has one.
pub fn copy_size(master: BorrowedFd<'_>) {
    // SAFETY: an all-zero size is valid; the ioctls read and write one.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(0, libc::TIOCGWINSZ, &raw mut size) == 0 || libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size) == 0 {
            libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size);
        }
    }
}

/// Passes bytes between the caller's standard streams and the container's terminal, on threads of its own: a reader that stalls stalls the guest's output, not its execs.
pub struct Relay {
    master: File,
    output: JoinHandle<()>,
    /// The caller's terminal as it was before it passed every key on.
    _raw: Option<Raw>,
}

/// End of input in a terminal's default settings: Ctrl-D.
const END_OF_INPUT: u8 = 4;

impl Relay {
    pub fn new(master: OwnedFd) -> Result<Self, Failure> {
        let lost = |e| Failure::new("terminal", e, "");
        copy_size(master.as_fd());
        let master = File::from(master);
        let (to_guest, from_guest) = (master.try_clone().map_err(lost)?, master.try_clone().map_err(lost)?);
        let raw = Raw::enter();
        let spawn = |name: &str| std::thread::Builder::new().name(name.into()).stack_size(64 << 10);
        spawn("input").spawn(move || pass(stdin(), &to_guest, Some(END_OF_INPUT))).map_err(lost)?;
        let output = spawn("output").spawn(move || pass(&from_guest, stdout(), None)).map_err(lost)?;
        Ok(Self { master, output, _raw: raw })
    }

    /// Another descriptor of the master side.
    pub fn master(&self) -> Result<OwnedFd, Failure> {
        self.master.try_clone().map(OwnedFd::from).map_err(|e| Failure::new("terminal", e, ""))
    }

    /// Waits until everything the guest wrote is passed on: the last process has closed the other side.
    pub fn finish(self) {
        let _ = self.output.join();
    }
}

/// Copies until the end, without keeping anything back; then writes `last`.
fn pass(mut from: impl Read, mut to: impl Write, last: Option<u8>) {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(n) => {
                if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
        }
    }
    let _ = to.write_all(last.as_slice());
}

/// The caller's terminal in raw mode, while it lives.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).ok().map(|()| Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Somebody else's text without a character that a terminal would obey.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
