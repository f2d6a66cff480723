//! The supervisor's loop: answers intercepted execs of one container, forwards signals to its init, notices its end. Owns the order
//! "receive, validate, decide, note, answer, audit"; what the decision is comes from `decide`, what is noted before the answer from `journal`.
//!
//! The fact a newcomer gets wrong: every access by pid (its descriptor, its memory) can hit another process that got the same pid, so
//! nothing learned by pid counts until the request is seen to be still waiting afterwards.

use crate::arguments::{self, Told};
use crate::audit::{Audit, Decision, Event, Record};
use crate::cgroup::Cgroup;
use crate::command::{self, Judgement};
use crate::decide::{Decider, Refusal, Verdict};
use crate::failure::Failure;
use crate::handover;
use crate::journal::Journal;
use crate::listener::{Answer, Listener, Request};
use crate::protocol::{EXEC_MARK, LIBRARY_MARK};
use crate::ring::{Ring, STUCK};
use crate::signals::Signals;
use crate::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};
use syscalls::Text;

/// Reason code: the sender did not take the scripts that were judged.
const NOT_HANDED_OVER: &str = "script-not-handed-over";

/// How long there is somebody to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the process that was started ends: a container's first one takes all others with it.
    End,
    /// Until no process is left that could ask: descendants of a further process live on.
    Nobody,
}

/// Whom the loop obeys besides the container.
pub trait Attention {
    /// One of them is readable when there is something to do.
    fn fds(&self) -> Vec<BorrowedFd<'_>>;
    /// Does it; `false` if the loop is to end although the container lives.
    fn attend(&self, init: BorrowedFd<'_>, decider: &mut Decider) -> bool;
    /// Sees each decision about a request, after it was answered; `hit`: no file had to be read for it.
    fn decided(&self, _record: &Record, _hit: bool) {}
}

impl Attention for Signals {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.as_fd()]
    }

    fn attend(&self, init: BorrowedFd<'_>, _: &mut Decider) -> bool {
        self.forward(init);
        true
    }
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// The container ended; the exit code, as `podman run` would give it, if the process was our child.
    Ended(Option<i32>),
    /// It was told to leave off.
    Left,
}

/// Everything the loop needs for one listener.
pub struct Supervisor<'a> {
    pub pidfd: OwnedFd,
    pub listener: Listener,
    pub decider: &'a mut Decider,
    pub audit: &'a mut Audit,
    pub attention: &'a dyn Attention,
    pub journal: &'a Journal,
    pub ring: Option<&'a Ring>,
    pub cgroup: &'a Cgroup,
    pub until: Until,
    /// Names a syscall number for the audit log.
    pub syscall_name: &'a dyn Fn(u32) -> Option<&'static str>,
}

impl Supervisor<'_> {
    /// Serves as long as `until` says.
    pub fn serve(mut self) -> Result<Served, Failure> {
        let mut listening = true;
        let mut killed = if self.audit.enabled() { self.cgroup.oom_kills() } else { 0 };
        loop {
            let mut fds: Vec<PollFd<'_>> = self.attention.fds().into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            let calling = fds.len();
            if listening {
                fds.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
            }
            // Not merely with no events wanted: a process that was waited for reports POLLHUP for ever.
            let watched = self.until == Until::End || !listening;
            if watched {
                fds.push(PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN));
            }
            let timeout = if self.ring.is_some() && self.audit.enabled() { PollTimeout::from(250u16) } else { PollTimeout::NONE };
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(Failure::new("supervise container", e.desc(), "")),
            }
            let ready = |i: usize| fds.get(i).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            let called = (0..calling).any(|i| !ready(i).is_empty());
            let asked = if listening { ready(calling) } else { PollFlags::empty() };
            let ended = watched && !ready(fds.len() - 1).is_empty();
            // First of all: what was asked after an order was given is decided under it.
            if called && !self.attention.attend(self.pidfd.as_fd(), self.decider) {
                self.drain(STUCK);
                return Ok(Served::Left);
            }
            if asked.contains(PollFlags::POLLIN) {
                self.serve_one()?;
            } else if asked.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                // Nobody is left who could ask.
                listening = false;
            }
            let over = ended && (self.until == Until::End || !listening);
            self.drain(if over { Duration::ZERO } else { STUCK });
            self.count_kills(&mut killed);
            if over {
                return exit_code(self.pidfd.as_fd()).map(Served::Ended);
            }
        }
    }

    /// The kernel's own decisions over the container, as far as it tells them.
    fn count_kills(&mut self, seen: &mut u64) {
        if !self.audit.enabled() {
            return;
        }
        let now = self.cgroup.oom_kills();
        if now > *seen {
            let mut record = Record::new(Event::OutOfMemory, Decision::Noted, "oom-kill");
            record.detail = Some(format!("{} killed", now - *seen));
            self.audit.write(record);
            *seen = now;
        }
    }

    fn serve_one(&mut self) -> Result<(), Failure> {
        let request = match self.journal.receive(&self.listener) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(e) => return Err(Failure::new("receive exec request", e, "see `vkernel check`")),
        };
        let begun = Instant::now();
        let hits = self.decider.hits();
        let (answer, mut record) = self.decide(&request);
        record.pid = Some(request.pid);
        let record = record.latency(begun);
        let line = self.audit.line(record.clone());
        self.journal.decided(line.as_deref(), self.audit.length());
        self.listener.answer(&request, answer);
        if let Some(line) = line {
            self.audit.put(&line);
        }
        self.journal.settled();
        self.attention.decided(&record, self.decider.hits() > hits);
        Ok(())
    }

    fn decide(&mut self, request: &Request) -> (Answer, Record) {
        let is_request = request.nr == libc::SYS_execveat as i32 && request.args[4] as i32 == libc::AT_EMPTY_PATH;
        let event = match request.args[2] {
            EXEC_MARK if is_request => Event::Exec,
            LIBRARY_MARK if is_request => Event::Library,
            _ => return self.refuse_native(request),
        };
        let told = if event == Event::Exec { self.told(request) } else { None };
        let place = told.as_ref().and_then(|told| told.place);
        let mut path = None;
        let mut verdict = match object(&self.listener, request) {
            Err(reason) => Verdict::refused(libc::EACCES, reason),
            Ok(file) => {
                path = self.audit.enabled().then(|| sys::path_of(file.as_fd())).flatten();
                if event == Event::Exec { self.decider.program(file.as_fd(), place.is_some()) } else { self.decider.library(file.as_fd()) }
            }
        };
        let judgement = match &verdict.result {
            // Of a script the interpreter's command line comes next, in a request of its own.
            Ok(grant) if event == Event::Exec && grant.scripts == 0 => self.judge(request, grant.entry, told.as_ref()),
            _ => Judgement::default(),
        };
        if let Some(refusal) = judgement.refusal {
            verdict = Verdict::of(Err(refusal), judgement.digest.or(verdict.digest));
        }
        if let (Ok(grant), Some(place)) = (&mut verdict.result, place) {
            let texts: Vec<Text> = verdict.text.into_iter().chain(judgement.texts).collect();
            grant.texts = !texts.is_empty();
            if grant.texts && handover::sealed(&texts).and_then(|file| self.listener.give(request, file.as_fd(), place)).is_err() {
                verdict.result = Err(Refusal { errno: libc::EACCES, reason: NOT_HANDED_OVER });
            }
        }
        let asked = self.text(request, request.args[3]);
        let (answer, mut record) = match verdict.result {
            Ok(grant) if judgement.audited => (Answer::Value(grant.encode()), Record::new(event, Decision::Allowed, command::AUDITED)),
            Ok(grant) => (Answer::Value(grant.encode()), Record::new(event, Decision::Allowed, "listed")),
            Err(refusal) => (Answer::Errno(refusal.errno), Record::new(event, Decision::Denied, refusal.reason)),
        };
        record.hash = verdict.digest.map(|d| d.to_string());
        record.detail = asked.is_some().then(|| path.clone()).flatten().filter(|p| asked.as_ref() != Some(p)).map(|p| format!("is {p}"));
        record.path = asked.or(path);
        record.detail = judgement.detail.or(record.detail);
        record.stripped = judgement.stripped;
        (answer, record)
    }

    /// What the sender tells of arguments.
    fn told(&self, request: &Request) -> Option<Told> {
        let (pid, at) = (request.pid, request.args[5]);
        let told = if at == 0 { None } else { arguments::unpack(|length| sys::read_memory(pid, at, length)) };
        told.filter(|_| self.listener.still_waits(request))
    }

    /// What the command line of a granted program adds.
    fn judge(&mut self, request: &Request, entry: u32, told: Option<&Told>) -> Judgement {
        let (pid, listener) = (request.pid, &self.listener);
        command::judge(self.decider, entry, told, |name| {
            let file = command::open_as(pid, name)?;
            if listener.still_waits(request) { Ok(file) } else { Err(std::io::ErrorKind::NotFound.into()) }
        })
    }

    /// A string in the sender's memory, for the log.
    fn text(&self, request: &Request, addr: u64) -> Option<String> {
        if addr == 0 || !self.audit.enabled() {
            return None;
        }
        let bytes = sys::read_memory(request.pid, addr, 4096).ok()?;
        let end = bytes.iter().position(|b| *b == 0)?;
        self.listener.still_waits(request).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// Whatever is no request of the runtime is refused; the file it names is resolved only to be named in the log.
    fn refuse_native(&mut self, request: &Request) -> (Answer, Record) {
        let mut record = Record::new(Event::NativeExec, Decision::Denied, "native-exec");
        let by_name = request.nr == libc::SYS_execve as i32;
        record.path = self.text(request, request.args[if by_name { 0 } else { 1 }]);
        if let Some(path) = record.path.as_deref().filter(|p| p.starts_with('/')).and_then(|p| CString::new(p).ok()) {
            record.detail = Some(match sys::open_in_root(self.decider.root(), &path, libc::O_PATH) {
                Ok(file) => sys::fstat(file.as_fd()).map_or_else(|e| e.to_string(), |st| format!("dev {} ino {} mode {:o}", st.st_dev, st.st_ino, st.st_mode)),
                Err(e) => e.to_string(),
            });
        }
        (Answer::Errno(libc::EACCES), record)
    }

    /// Records that workers left in the ring: marked as theirs, since a compromised one can write what it likes.
    fn drain(&mut self, patience: Duration) {
        let Some(ring) = self.ring else { return };
        let (notes, dropped) = ring.drain(patience);
        self.journal.ring_read(ring.position());
        for note in notes {
            let event = if note.is_syscall() { Event::Syscall } else { Event::Guest };
            let decision = if note.was_let_through() { Decision::Allowed } else { Decision::Denied };
            let mut record = Record::new(event, decision, note.reason());
            record.pid = Some(note.pid);
            let name = || (self.syscall_name)(note.nr).map_or_else(|| format!("syscall {}", note.nr), str::to_owned);
            record.detail = Some(if note.is_syscall() { name() } else { format!("at {:#x}", note.detail) });
            record.nr = note.is_syscall().then_some(note.nr);
            record.hash = self.decider.entry_digest(note.entry).map(|d| d.to_string());
            record.path = self.decider.entry_path(note.entry).map(str::to_owned);
            record.from_worker = true;
            self.audit.write(record);
        }
        if dropped > 0 {
            let mut record = Record::new(Event::Dropped, Decision::Noted, "ring-full");
            record.detail = Some(dropped.to_string());
            self.audit.write(record);
        }
    }
}

/// Of a process that has ended, if it was our child.
pub fn exit_code(pidfd: BorrowedFd<'_>) -> Result<Option<i32>, Failure> {
    let failure = |e: nix::Error| Failure::new("wait for container", e.desc(), "");
    let waited = match waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED) {
        // The caller's orphan: whoever waits for it knows its code (07, S23).
        Err(nix::Error::ECHILD) => return Ok(None),
        other => other.map_err(failure)?,
    };
    match waited {
        WaitStatus::Exited(_, code) => Ok(Some(code)),
        WaitStatus::Signaled(_, signal, _) => Ok(Some(128 + signal as i32)),
        other => Err(Failure::new("wait for container", format!("unexpected state {other:?}"), "")),
    }
}

/// The open file behind the request's first argument: the one that the thread which asks has, who may have a table of its own.
pub fn object(listener: &Listener, request: &Request) -> Result<OwnedFd, &'static str> {
    let number = request.args[0] as i32;
    let file = match sys::pidfd_open(request.pid, sys::PIDFD_THREAD) {
        Ok(thread) => sys::pidfd_getfd(thread.as_fd(), number).or_else(|_| of_thread(request.pid, number)),
        // Before Linux 6.9 a pidfd is a process's: it would be the first thread's table, and nobody's where that has ended.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => of_thread(request.pid, number),
        Err(_) => return Err("sender-gone"),
    };
    let file = file.map_err(|_| "bad-descriptor")?;
    if listener.still_waits(request) { Ok(file) } else { Err("sender-gone") }
}

/// The same file by procfs. Opening a path does nothing to what lies there.
fn of_thread(tid: u32, number: i32) -> std::io::Result<OwnedFd> {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(format!("/proc/{tid}/fd/{number}")).map(OwnedFd::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn procfs_tells_the_file_of_a_thread_with_a_table_of_its_own() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: this thread's own table, and its number.
            let tid = unsafe {
                assert_eq!(libc::unshare(libc::CLONE_FILES), 0);
                libc::gettid() as u32
            };
            let file = std::fs::File::open("/etc/passwd").unwrap();
            // A number that the first thread has not, or has for another file.
            // SAFETY: plain numbers, in this thread's table.
            assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), 700) }, 700);
            tell.send(tid).unwrap();
            let _ = ended.recv();
        });
        let file = std::fs::File::from(of_thread(told.recv().unwrap(), 700).unwrap());
        assert_eq!(file.metadata().unwrap().ino(), std::fs::metadata("/etc/passwd").unwrap().ino());
        drop(end);
        thread.join().unwrap();
    }
}
