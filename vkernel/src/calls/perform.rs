//! In the container, locked down: makes the calls that somebody asked for, and no other. Owns what stands in a program's place there: no code is mapped, nothing can be executed, bound or started.
//!
//! The fact a newcomer gets wrong: the deadline is the worker's own timer, because the container may be frozen or its owner killed; nothing that can be asked for takes it away. The owner has a clock of his own besides.

use super::board::Board;
use super::plan::{self, Given, Plan, Step};
use crate::container::GuestMain;
use crate::failure::Failure;
use crate::ring::{Note, Ring};
use nix::sys::signal::{SigSet, Signal};
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use syscalls::direct::{self, Direct, Unanswered};
use syscalls::errno::Errno;
use syscalls::process::AllowList;
use syscalls::{Event, Granted, Host, NewThread, Object, ObjectId, Watch};
use vkernel_client::{Outcome, Output};

/// A call that was to use the result of one that failed.
const CANCELED: &str = "ECANCELED";

/// What the container's release says about calls, and what the request does.
pub(super) struct Rules {
    pub(super) allow: AllowList,
    pub(super) watch: Watch,
    /// Of the program whose list it is; 0: nobody's.
    pub(super) entry: u32,
    pub(super) keep_going: bool,
    pub(super) seconds: u32,
}

/// Everything that is done while host paths are still visible; the result makes the calls.
pub(super) fn prepare(plan: Plan, rules: Rules, ring: Option<&'static Ring>, board: &'static Board) -> Result<GuestMain, Failure> {
    syscalls::fs::know_executable().map_err(|e| Failure::new("find this program's file", format!("{e:?}"), "mount /proc"))?;
    let window = direct::window().map_err(|e| Failure::new("syscall", e, "check memory limits"))?;
    Ok(Box::new(move |_| {
        // The command's own streams are not the container's, and no file that a call opens is to be taken for one of them.
        std::panic::set_hook(Box::new(|_| {}));
        for stream in 0..3 {
            // SAFETY: a plain number; nothing here reads or writes it any more.
            unsafe { libc::close(stream) };
        }
        let outside = Outside { ring, watch: rules.watch, entry: rules.entry };
        let Ok(mut guest) = Direct::start(window, Arc::new(outside), &rules.allow) else { return FAILED };
        let _ = SigSet::from(Signal::SIGALRM).thread_unblock();
        // SAFETY: a plain number.
        unsafe { libc::alarm(rules.seconds) };
        match all(&mut guest, &plan, rules.keep_going, board) {
            Ok(outcomes) if board.publish(&outcomes) => 0,
            Ok(_) => FAILED,
            Err(status) => status,
        }
    }))
}

/// Exit code of a worker that could not do its work.
const FAILED: i32 = 125;

/// What became of each call, or how the process was told to end.
fn all(guest: &mut Direct, plan: &Plan, keep_going: bool, board: &Board) -> Result<Vec<Outcome>, i32> {
    let mut outcomes = Vec::new();
    for step in &plan.steps {
        board.begin();
        let outcome = one(guest, step, &outcomes)?;
        let failed = matches!(outcome, Outcome::Failed { .. });
        outcomes.push(outcome);
        if failed && !keep_going {
            break;
        }
    }
    Ok(outcomes)
}

fn one(guest: &mut Direct, step: &Step, earlier: &[Outcome]) -> Result<Outcome, i32> {
    let failed = |errno: Errno| Ok(Outcome::Failed { errno: errno.name() });
    let mut words = [0; 6];
    for (word, given) in words.iter_mut().zip(&step.args) {
        let placed = match given {
            Given::Word(value) => Ok(*value),
            Given::Bytes(bytes) => guest.lay(bytes),
            Given::Room(bytes) => guest.room(*bytes),
            Given::ResultOf(call) => match earlier.get(*call) {
                Some(Outcome::Done { result, .. }) => Ok(*result as u64),
                // Not -1, which is everybody to kill(2).
                _ => return Ok(Outcome::Failed { errno: CANCELED.into() }),
            },
        };
        match placed {
            Ok(value) => *word = value,
            Err(errno) => return failed(errno),
        }
    }
    let answer = match guest.call(step.row.nr, words) {
        Ok(answer) => answer,
        Err(Unanswered::Errno(errno)) => return failed(errno),
        Err(Unanswered::Ended(status)) => return Err(status),
    };
    let mut out: Vec<Output> = Vec::new();
    for (i, given) in step.args.iter().enumerate() {
        let Given::Room(room) = given else { continue };
        match guest.read(words[i], step.written(i, *room, answer)) {
            Ok(bytes) => out.push(plan::output(bytes)),
            Err(errno) => return failed(errno),
        }
    }
    Ok(Outcome::Done { result: answer as i64, out })
}

/// The outside world of a process without a program: there is nothing to become.
struct Outside {
    ring: Option<&'static Ring>,
    watch: Watch,
    entry: u32,
}

impl Outside {
    fn note(&self, nr: u64, reason: u32) {
        if let Some(ring) = self.ring {
            ring.note(Note::new(nr as u32, self.entry, reason));
        }
    }
}

impl Host for Outside {
    fn exec(&self, _: BorrowedFd<'_>, _: &[CString], _: &[CString]) -> Result<Granted, Errno> {
        Err(Errno::EACCES)
    }

    fn library(&self, _: BorrowedFd<'_>) -> Result<Option<ObjectId>, Errno> {
        Ok(None)
    }

    fn object(&self, _: ObjectId) -> &Object {
        unreachable!("no object was ever named")
    }

    fn map_image(&self, _: *mut u8, _: usize, _: u64, _: i32) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn bind(&self, _: ObjectId) {}

    fn unbind(&self, _: ObjectId) {}

    fn unbind_all(&self) {}

    fn spawn_thread(&self, _: NewThread) -> Result<(), Errno> {
        Err(Errno::EAGAIN)
    }

    fn watch(&self) -> Watch {
        self.watch
    }

    fn audit(&self, event: &Event<'_>) {
        match event {
            Event::Refused { nr, .. } => self.note(*nr, Note::NOT_LISTED),
            Event::WouldRefuse { nr } => self.note(*nr, Note::WOULD_REFUSE),
            Event::Used { nr } => self.note(*nr, Note::USED),
            Event::Unknown { nr } => self.note(*nr, Note::NOT_IMPLEMENTED),
            Event::ExecutableMapping { .. } => self.note(0, Note::EXECUTABLE_MAPPING),
            // Of running code, and there is none.
            Event::Gap { .. } | Event::Irreparable { .. } | Event::Trap => {}
        }
    }

    fn trace(&self, _: &str) {}
}
