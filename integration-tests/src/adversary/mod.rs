//! Attacks on a container, from inside and outside, and what must be true of each: nothing escapes, nothing hangs, no audit record is lost, and the same program without the hostile part works.
//!
//! Owns running a case and judging it. The cases are data (`cases`), containers of the several modes are `mode`'s, what happens outside while a container runs is `outside`'s. Two facts a newcomer gets wrong: an attack that is
//! refused proves nothing by itself, therefore each is also run unprotected, where it must win, and has a twin, which must succeed; and execs are counted by the attacker and in the log, so that a lost record is seen.

mod audit;
pub mod cases;
pub mod mode;
mod outside;
pub mod stage;

pub use cases::{CASES, Case};
pub use mode::Mode;

use stage::{Ended, Stage};

/// Which of a program's two functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Attack,
    Twin,
}

/// What an attack does where nothing protects the host.
#[derive(Clone, Copy, Debug)]
pub enum Natively {
    /// It wins: so it is an attack.
    Wins,
    /// It is not run, or does not win there, and why.
    No(&'static str),
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The attacker got something, or a file of the host changed.
    Escape(String),
    Hang(String),
    /// A decision that is not in the log.
    Lost(String),
    /// The harmless twin was refused, or the unprotected attack did not win: nothing is proved.
    Proof(String),
    /// The program did not come to its end.
    Broken(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Escape(what) => write!(f, "ESCAPE: {what}"),
            Problem::Hang(what) => write!(f, "HANG: {what}"),
            Problem::Lost(what) => write!(f, "LOST: {what}"),
            Problem::Proof(what) => write!(f, "NO PROOF: {what}"),
            Problem::Broken(what) => write!(f, "BROKEN: {what}"),
        }
    }
}

/// How much is done of what is done over and over: all, or one of so many parts.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub u32);

impl Share {
    pub const ALL: Share = Share(1);

    fn of(self, usual: u32) -> u32 {
        (usual / self.0).max(1)
    }
}

/// Attack and twin of one case in one mode; empty if all is well.
pub fn judge(case: &Case, mode: &Mode, share: Share) -> Vec<Problem> {
    [Side::Attack, Side::Twin].into_iter().flat_map(|side| faults(case, side, &Stage::new().run(case, mode, side, share))).collect()
}

/// What is wrong with one run.
fn faults(case: &Case, side: Side, ended: &Ended) -> Vec<Problem> {
    let mut problems: Vec<Problem> = ended.won().map(|w| Problem::Escape(w.to_owned())).collect();
    problems.extend(ended.traces.iter().cloned().map(Problem::Escape));
    if ended.hung {
        problems.push(Problem::Hang(format!("{side:?}: it did not end in time\n{}", ended.text())));
        return problems;
    }
    if ended.status != Some(0) || !ended.has("end") {
        problems.push(Problem::Broken(format!("{side:?}: status {:?}\n{}", ended.status, ended.text())));
    }
    if side == Side::Twin && !ended.has("fine") {
        problems.push(Problem::Proof(format!("the harmless twin failed: status {:?}\n{}", ended.status, ended.text())));
    }
    problems.extend(audit::lost(case, ended).into_iter().map(Problem::Lost));
    problems
}

/// Attack and twin where nothing protects the host: the attack must win, the twin succeed.
pub fn prove(case: &Case, share: Share) -> Vec<Problem> {
    let Natively::Wins = case.natively else { return Vec::new() };
    let mut problems = Vec::new();
    let attack = Stage::new().run(case, &Mode::Unprotected, Side::Attack, share);
    if attack.won().next().is_none() && attack.traces.is_empty() {
        problems.push(Problem::Proof(format!("unprotected it wins nothing: status {:?}\n{}", attack.status, attack.text())));
    }
    let twin = Stage::new().run(case, &Mode::Unprotected, Side::Twin, share);
    if !twin.has("fine") {
        problems.push(Problem::Proof(format!("the twin fails unprotected: status {:?}\n{}", twin.status, twin.text())));
    }
    problems
}
