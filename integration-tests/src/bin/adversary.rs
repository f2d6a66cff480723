//! The adversary suite's program: all cases, or those that are named, in all modes, or those that are named. Run by `cargo xtask suite adversary`, which says where everything is.
//!
//! Owns the table that is printed. What a case is and how it is judged is `adversary`'s.

use integration_tests::adversary::mode::PodmansImage;
use integration_tests::adversary::{CASES, Case, Mode, Problem, Share, judge, prove};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let (mut modes, mut names, mut share) = (Vec::new(), Vec::new(), Share::ALL);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--mode" => modes.extend(words.next()),
            // For whoever writes a case.
            "--share" => share = Share(words.next().and_then(|n| n.parse().ok()).unwrap_or(1)),
            _ => names.push(word),
        }
    }
    let wanted = |case: &&Case| names.is_empty() || names.iter().any(|n| n == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(wanted).collect();
    let podmans = PodmansImage::new();
    let all = [Mode::Identity, Mode::Mapped, podmans.mode(), Mode::Rootless];
    let unknown: Vec<&String> = modes.iter().filter(|m| !all.iter().any(|a| a.name() == *m)).collect();
    if cases.is_empty() || !unknown.is_empty() {
        eprintln!("no such case, or mode: {names:?} {unknown:?}");
        return ExitCode::FAILURE;
    }
    let refusals: Vec<(&Mode, String)> = all.iter().filter_map(|m| Some((m, m.refusal()?))).collect();
    let (mut ran, mut failed) = (0, 0);
    println!("{:<30} {:<12} {:>8}  result", "case", "mode", "seconds");
    let mut tell = |case: &Case, mode: &str, begun: Instant, problems: Vec<Problem>| {
        ran += 1;
        failed += usize::from(!problems.is_empty());
        println!("{:<30} {mode:<12} {:>8.1}  {}", case.name, begun.elapsed().as_secs_f64(), if problems.is_empty() { "held" } else { "FAILED" });
        problems.iter().for_each(|p| println!("    {p}"));
    };
    for case in &cases {
        println!("# {}: {}", case.name, case.from);
        if case.wins_natively() {
            let begun = Instant::now();
            let problems = prove(case, Share::ALL);
            tell(case, "unprotected", begun, problems);
        }
        for mode in all.iter().filter(|m| modes.is_empty() || modes.iter().any(|n| n == m.name())) {
            if !refusals.iter().any(|(m, _)| m.name() == mode.name()) {
                let begun = Instant::now();
                let problems = judge(case, mode, share);
                tell(case, mode.name(), begun, problems);
            }
        }
    }
    for (mode, why) in &refusals {
        println!("{}: NOT RUN, because vkernel refuses it: {why}", mode.name());
    }
    println!("{} cases, {ran} results, {failed} failed (an unprotected one holds when the attack wins there, and its twin works)", cases.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
