//! The coverage certificate of a build: of every object, of every program with all it loads, and in all.
//!
//! Owns the meaning of the percentage, the names of system calls, and the union over a program's objects. Refuses to own how figures are found (`lift::certificate`) and shown (`show`). The fact a newcomer gets wrong: a program's
//! lists are supersets of what it does, not what it does; and what it opens with dlopen counts for nobody, as no file says what that will be.

mod reach;
mod show;
mod vsyscall;

pub use show::{gaps, json, table};

use crate::scan::Inventory;
use lift::Certificate;
use lift::certificate::Site;
use policy::Digest;
use policy::manifest::{Coverage, ProgramSyscalls, SyscallEvidence};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

macro_rules! definition {
    () => {
        "Coverage of a file is the share of its code bytes that are lifted. Code bytes are those of its executable segments that discovery decodes as instructions, and those that a call frame says are code but \
that do not decode (in a file without call frames: all that do not decode); padding between functions (nop, int3, zero) and data in text (jump tables, bytes outside all call frames that do not decode) do not count. Lifted are \
decoded instructions with semantics, and those behind a cpuid bit that the guest is never shown (AVX, BMI, AES-NI …): they are counted apart as gated."
    };
}

/// Shown by --help and in the man page, for both commands that take a limit.
pub const DEFINITION: &str = definition!();
/// Help of the option of a build.
pub const LIMIT: &str = concat!("Fail before compiling if a file's coverage is lower.\n\n", definition!());

/// One object with its certificate.
pub struct Certified<'a> {
    pub path: &'a str,
    pub digest: Digest,
    pub certificate: &'a Certificate,
}

#[derive(Debug, Error)]
#[error("coverage is below {wanted} % in {}", list.join(", "))]
pub struct TooLow {
    pub wanted: f64,
    /// Path and coverage of each file.
    pub list: Vec<String>,
}

/// Refuses files whose coverage is below `wanted` percent.
pub fn require(wanted: f64, objects: &[Certified<'_>]) -> Result<(), TooLow> {
    let low = |c: &Certificate| (c.lifted_bytes() as f64) * 100.0 < wanted * c.code_bytes() as f64;
    let list: Vec<String> = objects.iter().filter(|o| low(o.certificate)).map(|o| format!("{} ({} %)", o.path, percent(o.certificate))).collect();
    if list.is_empty() { Ok(()) } else { Err(TooLow { wanted, list }) }
}

/// Coverage rounded down, so that 100 means all of it.
pub fn percent(c: &Certificate) -> String {
    share(c.lifted_bytes(), c.code_bytes())
}

/// A part of a whole in percent, rounded down.
pub fn share(part: u64, whole: u64) -> String {
    let thousandths = if whole == 0 { 100_000 } else { u128::from(part) * 100_000 / u128::from(whole) };
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// What the manifest says of an object.
pub fn of(c: &Certificate) -> Coverage {
    Coverage {
        functions: c.functions,
        code_bytes: c.code_bytes(),
        lifted_bytes: c.lifted_bytes(),
        padding_bytes: c.padding_bytes,
        data_bytes: c.data_bytes,
        unlifted_instructions: c.gap_count(),
        gated_instructions: c.gated_count(),
        unresolved_jumps: c.unresolved_jumps,
        indirect_calls: c.indirect_calls,
        syscalls: evidence(&c.sites),
    }
}

/// Three sorts of sites become two sets of names and a number.
pub fn evidence<'a>(sites: impl IntoIterator<Item = &'a Site>) -> SyscallEvidence {
    let mut e = SyscallEvidence::default();
    for site in sites {
        let names = site.numbers.iter().map(|&n| name(n));
        if site.is_proved() {
            e.proved.extend(names)
        } else {
            e.possible.extend(names)
        }
        e.unknown_sites += u64::from(site.unknown.is_some());
    }
    e.possible = e.possible.difference(&e.proved).cloned().collect();
    e
}

/// The call's name, or its number in a word if there is no row for it.
pub fn name(number: u32) -> String {
    syscalls::table::rows().find(|r| r.nr == number).map_or_else(|| format!("number_{number}"), |r| r.name.to_owned())
}

/// What each program can do, by the program's digest.
pub fn programs(found: &Inventory, objects: &[Certified<'_>]) -> BTreeMap<Digest, ProgramSyscalls> {
    let by_digest: BTreeMap<Digest, &Certificate> = objects.iter().map(|o| (o.digest, o.certificate)).collect();
    let of = |digests: &BTreeSet<Digest>| {
        let loaded: Vec<&Certificate> = digests.iter().filter_map(|d| by_digest.get(d).copied()).collect();
        let reached = reach::reach(&loaded);
        let mut syscalls = ProgramSyscalls { linked: evidence(loaded.iter().flat_map(|c| &c.sites)), reachable: evidence(reached.sites), opens_objects: reached.opens_objects };
        if digests.iter().filter_map(|d| found.objects.get(d)).any(|o| vsyscall::is_named(&o.bytes)) {
            [&mut syscalls.linked, &mut syscalls.reachable].into_iter().for_each(vsyscall::add);
        }
        syscalls
    };
    found.closures.iter().map(|(&digest, loaded)| (digest, of(loaded))).collect()
}
