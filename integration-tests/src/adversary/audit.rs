//! Whether every decision is in the audit log. Owns the comparison of what an attacker counted with what the log says.
//!
//! The fact a newcomer gets wrong: a record that could not be written is no lost one if the log says how many there were.

use super::cases::Case;
use super::stage::Ended;
use serde_json::Value;

/// What is missing.
pub(super) fn lost(case: &Case, ended: &Ended) -> Vec<String> {
    let Some(log) = &ended.log else { return Vec::new() };
    let mut missing = Vec::new();
    let (mut records, mut torn) = (Vec::new(), 0);
    for line in log.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(record) => records.push(record),
            Err(_) => torn += 1,
        }
    }
    let of = |events: &[&str]| records.iter().filter(|r| events.iter().any(|e| r["event"] == *e)).count() as u64;
    let dropped: u64 = records.iter().filter(|r| r["event"] == "dropped").filter_map(|r| r["detail"].as_str()?.parse::<u64>().ok()).sum();
    // A full disk cuts a line off; it counts as dropped.
    if torn > dropped {
        missing.push(format!("{torn} lines are no records, {dropped} are said to be dropped"));
    }
    let (decided, first) = (of(&["exec", "native-exec"]), 1);
    if let Some(asked) = ended.number("asked") {
        let expected = asked + first + ended.further_execs;
        let exact = !ended.has("asked-uncounted") && dropped == 0;
        if decided + dropped < expected || (exact && decided != expected) {
            missing.push(format!("{expected} execs were asked for, {decided} are recorded, {dropped} counted as dropped"));
        }
    }
    if let Some(told) = ended.number("told") {
        let recorded = of(&["syscall"]);
        if recorded + dropped < told {
            missing.push(format!("{told} refused calls were made, {recorded} are recorded, {dropped} counted as dropped"));
        }
    }
    if of(&["container-start"]) != 1 || of(&["container-stop"]) + dropped == 0 {
        missing.push(format!("{}: start and stop of the container are not recorded", case.name));
    }
    missing
}
