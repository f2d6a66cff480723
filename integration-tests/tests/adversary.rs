//! A part of the adversary suite for every run: the quick cases in the container that is easiest to get out of, where guest root is the host's by number. All of it, in all modes: `cargo xtask suite adversary`.

use integration_tests::adversary::{CASES, Case, Mode, Share, judge};

/// Of races and repetitions.
const SHARE: Share = Share(20);

/// Two tests, because two run at a time.
fn every_second_holds(first: usize) {
    let cases: Vec<&Case> = CASES.iter().filter(|c| c.quick).skip(first).step_by(2).collect();
    assert!(!cases.is_empty());
    let mut failed = Vec::new();
    for case in cases {
        failed.extend(judge(case, &Mode::Identity, SHARE).into_iter().map(|p| format!("{} ({}): {p}", case.name, case.from)));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn attacks_win_nothing_hang_nothing_and_hide_nothing() {
    every_second_holds(0);
}

#[test]
fn attacks_win_nothing_hang_nothing_and_hide_nothing_either() {
    every_second_holds(1);
}

/// A newcomer adds a case with one file and one row.
#[test]
fn every_attackers_program_is_a_case_and_every_case_has_one() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/adversary");
    let programs = std::fs::read_dir(folder).expect("readable").flatten().filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".c")?.to_owned()));
    let mut programs: Vec<String> = programs.collect();
    let mut cases: Vec<String> = CASES.iter().map(|c| c.name.to_owned()).collect();
    programs.sort();
    cases.sort();
    cases.dedup();
    assert_eq!(programs, cases);
}
