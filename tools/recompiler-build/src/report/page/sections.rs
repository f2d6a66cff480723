//! The sections of the page that are about one release or image by itself.
//!
//! The fact a newcomer gets wrong: a row that is not known from the source says so; an empty cell would read as "none".

use super::{grouped, section, shown};
use crate::coverage::share;
use crate::report::diff::network;
use crate::report::facts::{Can, Facts, File, Kind, POWERS};
use crate::report::timings::Timings;
use maud::{Markup, html};
use policy::manifest::{Coverage, SyscallEvidence};

pub(super) fn summary(f: &Facts) -> Markup {
    let sum = |of: &dyn Fn(&Coverage) -> u64| f.files.iter().filter_map(|f| f.coverage.as_ref()).map(of).sum::<u64>();
    let count = |of: &dyn Fn(&&File) -> bool| f.files.iter().filter(of).count() as u64;
    let gaps = sum(&|c| c.unlifted_instructions);
    let unbounded = f.programs().filter(|p| p.unknown_sites() > 0).count() as u64;
    let tile = |bad: bool, value: String, words: &str| html! { li.bad[bad] { b { (value) } (words) } };
    html! {
        ul.tiles {
            (tile(false, grouped(count(&|f| matches!(f.kind, Kind::Program | Kind::Both))), "programs"))
            (tile(false, grouped(count(&|f| f.kind == Kind::Library)), "libraries"))
            (tile(false, grouped(count(&|f| f.kind == Kind::Script)), "scripts"))
            (tile(false, format!("{} %", share(sum(&|c| c.lifted_bytes), sum(&|c| c.code_bytes))), "of the code translated"))
            (tile(gaps > 0, grouped(gaps), "instructions not translated"))
            (tile(unbounded > 0, grouped(unbounded), "programs with a call of unknown number"))
            (tile(!f.omitted.is_empty(), grouped(f.omitted.len() as u64), "files left out"))
            (tile(false, f.networking.map_or("not decided", network).into(), "network"))
        }
    }
}

pub(super) fn powers(f: &Facts) -> Markup {
    let words = "● its code makes such a call, ○ it possibly does, · it does not; calls that the release does not allow do not count. A program marked * has places whose call is unknown: there only the list of allowed calls bounds it.";
    let mark = |can: Can| match can {
        Can::Proved => html! { td.mark.yes { "●" } },
        Can::Possibly => html! { td.mark { "○" } },
        Can::No => html! { td.mark.no { "·" } },
    };
    let body = html! {
        table.narrow {
            thead { tr { th { "Program" } @for (name, _) in POWERS { th.mark { (name) } } } }
            tbody { @for p in f.programs() { tr { td.path { (shown(&p.path)) @if p.unknown_sites() > 0 { " *" } } @for (_, calls) in POWERS { (mark(p.can(calls))) } } } }
        }
    };
    section("powers", "What programs can do", words, body)
}

fn kind(f: &File) -> &'static str {
    match f.kind {
        Kind::Program => "program",
        Kind::Library => "library",
        Kind::Both => "program and library",
        Kind::Script => "script",
    }
}

pub(super) fn inventory(f: &Facts) -> Markup {
    let body = html! {
        table {
            thead { tr { th { "Path" } th { "Kind" } th.n { "Bytes" } th { "Digests" } } }
            tbody {
                @for file in &f.files {
                    tr {
                        td.path { (shown(&file.path)) @for p in &file.privileges { " " span.tag.bad { (p) } } }
                        td { (kind(file)) @if let Some(i) = &file.interpreter { br; span.small { "by " (shown(i)) } } }
                        td.n { (grouped(file.size)) }
                        td.digest { (file.digest) @if let Some(second) = file.sha256.filter(|s| *s != file.digest) { br; (second) } }
                    }
                }
            }
        }
    };
    section("inventory", "Inventory", "Everything that may be executed or loaded. Any other file is refused.", body)
}

pub(super) fn coverage(f: &Facts) -> Markup {
    let row = |path: &str, c: &Coverage| {
        let percent = share(c.lifted_bytes, c.code_bytes);
        html! {
            tr {
                td.path { (shown(path)) }
                td.n { meter min="0" max="100" low="90" high="99.9" optimum="100" value=(percent) { } " " (percent) " %" }
                td.n { (grouped(c.functions)) } td.n { (grouped(c.code_bytes)) }
                td.n.bad[c.unlifted_instructions > 0] { (grouped(c.unlifted_instructions)) }
                td.n { (grouped(c.gated_instructions)) } td.n { (grouped(c.unresolved_jumps)) } td.n { (grouped(c.indirect_calls)) }
            }
        }
    };
    let body = html! {
        table {
            thead { tr { th { "File" } th.n { "coverage" } th.n { "functions" } th.n { "code bytes" } th.n { "not translated" } th.n { "gated" } th.n { "jumps" } th.n { "indirect calls" } } }
            tbody {
                @for file in f.files.iter().filter(|f| f.kind != Kind::Script) {
                    @match &file.coverage { Some(c) => { (row(&file.path, c)) } None => { tr { td.path { (shown(&file.path)) } td colspan="7" { "not known" } } } }
                }
            }
        }
    };
    section("coverage", "Coverage certificate", "How much of each file's machine code is translated. What is not stops the program where it stands.", body)
}

pub(super) fn syscalls(f: &Facts) -> Markup {
    let words = "Of the code that each program's call graph leads to, in itself, its interpreter and its libraries. Struck out: made by the code, not allowed by the release.";
    let names = |p: &File, list: &std::collections::BTreeSet<String>| {
        let allowed = |n: &String| p.allowed.as_ref().is_none_or(|a| a.contains(n));
        let list: Vec<(String, bool)> = list.iter().map(|n| (n.clone(), allowed(n))).collect();
        html! { @for (name, allowed) in list { @if allowed { (name) } @else { s { (name) } } " " } }
    };
    let unknown = |e: &SyscallEvidence| html! { @if e.unknown_sites > 0 { b.bad { (grouped(e.unknown_sites)) " unknown" } } @else { "none unknown" } };
    let body = html! {
        @for p in f.programs() {
            @if let Some(s) = &p.syscalls {
                article {
                    h3 { code { (shown(&p.path)) } }
                    p.small {
                        (s.reachable.proved.len()) " proved, " (s.reachable.possible.len()) " possible, " (unknown(&s.reachable))
                        "; linked code altogether: " (s.linked.proved.union(&s.linked.possible).count()) " calls, " (grouped(s.linked.unknown_sites)) " unknown"
                        @if let Some(a) = &p.allowed { "; allowed: " (a.len()) }
                        @if s.opens_objects { "; " b { "opens more libraries at run time, whose calls are not in this list" } }
                    }
                    dl.calls {
                        dt { "proved" } dd { (names(p, &s.reachable.proved)) }
                        @if !s.reachable.possible.is_empty() { dt { "possible" } dd { (names(p, &s.reachable.possible)) } }
                    }
                }
            }
        }
    };
    section("syscalls", "System calls", words, body)
}

pub(super) fn libraries(f: &Facts) -> Markup {
    let body = match &f.sharing {
        None => html! { p { "Not known: the megabinary is not beside the manifest." } },
        Some(sharing) => html! {
            table {
                thead { tr { th { "Library" } th.n { "programs" } th { "Which" } } }
                tbody {
                    @for (library, users) in sharing {
                        tr { td.path { (shown(library)) } td.n { (users.len()) } td.path { @for (i, user) in users.iter().enumerate() { @if i > 0 { ", " } (shown(user)) } } }
                    }
                }
            }
        },
    };
    section("libraries", "Libraries and who shares them", "Each is translated once, whoever uses it. One that no program is linked with is opened at run time, or by hand.", body)
}

pub(super) fn omitted(f: &Facts) -> Markup {
    let body = html! {
        @if f.omitted.is_empty() { p { "Nothing was left out." } } @else {
            table {
                thead { tr { th { "Path" } th { "Why" } th { "Digest" } } }
                tbody { @for o in &f.omitted { tr { td.path { (shown(&o.path)) } td { (shown(&o.reason)) } td.digest { (o.digest) } } } }
            }
        }
    };
    section("omitted", "Left out", "Seen, and deliberately not in the release: these files are refused.", body)
}

pub(super) fn sizes(f: &Facts) -> Markup {
    let files: u64 = f.files.iter().map(|f| f.size).sum();
    let code: u64 = f.files.iter().filter_map(|f| f.coverage.as_ref()).map(|c| c.code_bytes).sum();
    let body = html! {
        table.narrow {
            thead { tr { th { "What" } th.n { "Bytes" } } }
            tbody {
                tr { td { "files of the image" } td.n { (grouped(files)) } }
                tr { td { "machine code in them" } td.n { (grouped(code)) } }
                @for (name, bytes) in &f.sizes { tr { td.path { (shown(name)) } td.n { (grouped(*bytes)) } } }
            }
        }
    };
    section("sizes", "Sizes", if f.sizes.is_empty() { "Nothing that was built is beside the source of this report." } else { "" }, body)
}

pub(super) fn timings(t: &Timings) -> Markup {
    let body = html! {
        table.narrow {
            thead { tr { th { "Stage" } th.n { "seconds" } th.n { "CPU seconds" } th.n { "x86 bytes" } th.n { "bytes made" } } }
            tbody {
                @for s in &t.stages {
                    tr { td { (shown(&s.name)) } td.n { (format!("{:.1}", s.seconds)) } td.n { (format!("{:.1}", s.cpu_seconds)) } td.n { (grouped(s.text_bytes)) } td.n { (grouped(s.made_bytes)) } }
                }
                tr { td { "most memory" } td.n colspan="4" { (grouped(t.peak_memory_bytes)) " bytes" } }
            }
        }
    };
    section("timings", "What the build cost", "As the build printed it. What came out of a cache cost nothing.", body)
}

pub(super) fn definitions() -> Markup {
    let body = html! {
        dl.words {
            dt { "coverage" } dd { (crate::coverage::DEFINITION) }
            dt { "proved, possible, unknown" } dd { "One number at its place; several, of which some may belong to paths that never run; a place whose number could not be bounded." }
            dt { "unresolved jumps, indirect calls" } dd { "Their targets are found at run time only, and looked up in the release's own code." }
            dt { "what is not here" } dd { "What a program, or libc for it (name services, character sets), opens at run time; and whether the signatures are good: recompiler-build verify says that." }
        }
    };
    section("definitions", "How to read this", "", body)
}
