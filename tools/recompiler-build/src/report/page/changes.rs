//! The section on what changed since an earlier release.

use super::shown;
use crate::report::diff::{Calls, Changes};
use crate::report::facts::Can;
use maud::{Markup, html};
use policy::Digest;

const WORDS: &str = "Files by their paths. A program gained a call if code that its call graph leads to makes it and the release allows it, and one of the two was not so before.";

fn body(c: &Changes) -> Markup {
    html! {
        p { "Compared with " b { (shown(&c.previous)) } ": " (c.added.len()) " files added, " (c.changed.len()) " changed, " (c.removed.len()) " removed." }
        @for note in &c.notes { p.alarm { (shown(note)) } }
        @for p in &c.powers {
            p.alarm { b { "Newly can " (p.power) ": " } @for (i, (path, can)) in p.programs.iter().enumerate() { @if i > 0 { ", " } code { (shown(path)) } @if *can == Can::Possibly { " (possibly)" } } }
        }
        @if c.powers.is_empty() { p.good { "No program newly can connect, listen, execute, change user, mount, trace, enter namespaces or change the kernel." } }
        @if !c.calls.is_empty() {
            h3 { "System calls" }
            table {
                thead { tr { th { "Program" } th { "gained" } th { "lost" } th.n { "unknown sites" } } }
                tbody { @for p in &c.calls { (calls(p)) } }
            }
        }
        (files("Added files", &c.added))
        (files("Removed files", &c.removed))
        @if !c.changed.is_empty() {
            h3 { "Changed files" }
            table {
                thead { tr { th { "Path" } th { "before" } th { "now" } } }
                tbody { @for f in &c.changed { tr { td.path { (shown(&f.path)) } td.digest { (f.before) } td.digest { (f.after) } } } }
            }
        }
    }
}

pub(super) fn section(c: &Changes) -> Markup {
    super::section("changes", "Changes since the earlier release", WORDS, body(c))
}

fn calls(p: &Calls) -> Markup {
    html! {
        tr {
            td.path { (shown(&p.path)) @if p.new { " " span.tag { "new" } } }
            td.calls { (shown(&p.gained.join(" "))) }
            td.calls { (shown(&p.lost.join(" "))) }
            td.n { (p.unknown.0) " → " (p.unknown.1) }
        }
    }
}

fn files(title: &str, list: &[(String, Digest)]) -> Markup {
    html! {
        @if !list.is_empty() {
            h3 { (title) }
            table {
                thead { tr { th { "Path" } th { "Digest" } } }
                tbody { @for (path, digest) in list { tr { td.path { (shown(path)) } td.digest { (digest) } } } }
            }
        }
    }
}
