//! A certificate for people and for machines.
//!
//! Owns the table, the list of gaps and the JSON form. The fact a newcomer gets wrong: paths come from the image, so control characters in them must not reach the terminal.

use super::{Certified, evidence, of, percent, programs, share};
use crate::scan::Inventory;
use lift::Certificate;
use lift::certificate::{CallGraph, Gap};
use policy::manifest::{ProgramSyscalls, SyscallEvidence};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the table says it is not.
const NOTES: &str = "proved: one number at its site; possible: several, of which some may belong to paths that never run; unknown: sites whose number could not be bounded.\n\
linked: every site of every object the program is linked with counts. reachable: those that the call graph leads to, where naming a function counts as calling it, and all that data points to as called.\n\
Neither knows what a program, or libc for it (name services, character sets), opens at run time with dlopen.\n";

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

struct Totals {
    functions: u64,
    code: u64,
    lifted: u64,
    gaps: u64,
    gated: u64,
    jumps: u64,
    calls: u64,
    syscalls: SyscallEvidence,
}

fn totals(objects: &[Certified<'_>]) -> Totals {
    let sum = |f: &dyn Fn(&Certificate) -> u64| objects.iter().map(|o| f(o.certificate)).sum();
    Totals {
        functions: sum(&|c| c.functions),
        code: sum(&Certificate::code_bytes),
        lifted: sum(&Certificate::lifted_bytes),
        gaps: sum(&Certificate::gap_count),
        gated: sum(&Certificate::gated_count),
        jumps: sum(&|c| c.unresolved_jumps),
        calls: sum(&|c| c.indirect_calls),
        syscalls: evidence(objects.iter().flat_map(|o| &o.certificate.sites)),
    }
}

fn counts(e: &SyscallEvidence) -> String {
    format!("{:>6} {:>8} {:>7}", e.proved.len(), e.possible.len(), e.unknown_sites)
}

/// One line a file, one a program, and the sums. `color` marks what is not whole.
pub fn table(found: &Inventory, objects: &[Certified<'_>], color: bool) -> String {
    let red = |bad: bool, text: String| if bad && color { format!("\x1b[31m{text}\x1b[0m") } else { text };
    let mut out = String::from("coverage functions       code    gaps   gated   jumps  calls  proved possible unknown  file\n");
    let row = |percent: &str, n: [u64; 6], e: &SyscallEvidence, file: &str| {
        let whole = red(n[2] > 0 || percent != "100.000", format!("{percent:>8} {:>9} {:>10} {:>7}", n[0], n[1], n[2]));
        format!("{whole} {:>7} {:>7} {:>6}  {}  {}\n", n[3], n[4], n[5], counts(e), clean(file))
    };
    for o in objects {
        let c = o.certificate;
        let form = c.language.as_ref().map(|l| format!(" ({l}: resumable form only)")).unwrap_or_default();
        let figures = [c.functions, c.code_bytes(), c.gap_count(), c.gated_count(), c.unresolved_jumps, c.indirect_calls];
        out += &row(&percent(c), figures, &evidence(&c.sites), &format!("{}{form}", o.path));
    }
    let t = totals(objects);
    out += &row(&share(t.lifted, t.code), [t.functions, t.code, t.gaps, t.gated, t.jumps, t.calls], &t.syscalls, &format!("{} files in all", objects.len()));
    out += "\nlinked: proved possible unknown  reachable: proved possible unknown  program\n";
    for (digest, s) in programs(found, objects) {
        let opens = if s.opens_objects { " (opens more objects)" } else { "" };
        let _ = writeln!(out, "        {}             {}  {}{opens}", counts(&s.linked), counts(&s.reachable), clean(&found.objects[&digest].path));
    }
    out + "\n" + NOTES
}

/// Instructions that are not lifted, in all files: how many of each, and where.
pub fn gaps(objects: &[Certified<'_>]) -> String {
    let mut out = String::new();
    let of = |title: &str, list: &dyn Fn(&Certificate) -> &BTreeMap<String, Gap>| {
        let mut all: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
        for o in objects {
            for (mnemonic, gap) in list(o.certificate) {
                let sum = all.entry(mnemonic).or_default();
                sum.0 += gap.count;
                sum.1.extend(gap.examples.iter().map(|(address, text)| format!("{}+{address:#x}: {text}", clean(o.path))));
            }
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(name, (count, _))| (std::cmp::Reverse(*count), *name));
        let lines = all.iter().map(|(name, (count, places))| format!("{count:>8} {name:<16} {}\n", places.first().map_or("", String::as_str)));
        format!("\n{title}: {} instructions of {} mnemonics\n{}", all.iter().map(|a| a.1.0).sum::<u64>(), all.len(), lines.collect::<String>())
    };
    out += &of("gaps that an x86-64-v2 processor executes", &|c| &c.gaps);
    out += &of("gaps in what only looks like code", &|c| &c.doubtful);
    out += &of("gated by cpuid bits that the guest is not shown", &|c| &c.gated);
    for o in objects {
        for (start, end) in &o.certificate.unclaimed {
            let _ = writeln!(out, "in a call frame, but not code: {}+{start:#x}..{end:#x}", clean(o.path));
        }
        for site in o.certificate.sites.iter().filter(|s| s.unknown.is_some()) {
            let (address, why) = site.unknown.as_ref().expect("filtered");
            let _ = writeln!(out, "unknown number: {}+{:#x} in {} ({why}, {address:#x})", clean(o.path), site.address, clean(&site.function));
        }
    }
    out
}

/// Everything, with every site and example.
pub fn json(found: &Inventory, objects: &[Certified<'_>]) -> Value {
    // The call graph is for computing with, not for reading.
    let whole = |c: &Certificate| json!(Certificate { calls: CallGraph::default(), ..c.clone() });
    let object =
        |o: &Certified<'_>| json!({ "path": o.path, "digest": o.digest, "coverage": percent(o.certificate), "figures": of(o.certificate), "certificate": whole(o.certificate) });
    let program = |(digest, s): (&policy::Digest, &ProgramSyscalls)| {
        let loaded: Vec<&str> = found.closures[digest].iter().map(|d| found.objects[d].path.as_str()).collect();
        json!({ "path": found.objects[digest].path, "digest": digest, "objects": loaded, "syscalls": s })
    };
    let t = totals(objects);
    json!({
        "objects": objects.iter().map(object).collect::<Vec<_>>(),
        "programs": programs(found, objects).iter().map(program).collect::<Vec<_>>(),
        "totals": {
            "objects": objects.len(), "coverage": share(t.lifted, t.code), "functions": t.functions, "code_bytes": t.code, "lifted_bytes": t.lifted,
            "unlifted_instructions": t.gaps, "gated_instructions": t.gated, "unresolved_jumps": t.jumps, "indirect_calls": t.calls, "syscalls": t.syscalls,
        },
    })
}
