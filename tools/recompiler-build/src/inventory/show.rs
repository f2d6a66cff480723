//! An inventory as text: a table, and a graph for Graphviz.
//!
//! Owns both formats. The fact a newcomer gets wrong: names come from the image; control characters in them must not reach the terminal, nor quotes the graph.

use super::{File, Format, Inventory, Needed};
use std::collections::BTreeSet;
use std::fmt::Write;

fn role(f: &File) -> String {
    match &f.elf {
        Some(e) => match (e.program, e.library) {
            (true, true) => "program+library".into(),
            (true, false) => "program".into(),
            (false, _) => "library".into(),
        },
        None => f.format.name(),
    }
}

fn flags(f: &File) -> String {
    let letter = |set: bool, c: char| if set { c } else { '-' };
    [letter(f.setuid, 'u'), letter(f.setgid, 'g'), letter(f.capabilities, 'c'), letter(f.elf.as_ref().is_some_and(|e| !e.jit.is_empty()), 'j')].iter().collect()
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// One line a file, then a line of figures.
pub fn table(inventory: &Inventory) -> String {
    let mut out = String::from("role             flags      size  digest                                                                   path\n");
    for f in &inventory.files {
        let mut notes = Vec::new();
        if let Some(s) = &f.script {
            notes.push(format!("({}{})", s.interpreter.name, s.argument.as_ref().map(|a| format!(" {a}")).unwrap_or_default()));
        }
        notes.extend(f.elf.iter().flat_map(|e| &e.jit).map(|j| format!("[{}]", j.engine)));
        notes.extend(f.refused.iter().map(|r| format!("not taken: {r}")));
        let _ = writeln!(out, "{:<16} {} {:>9}  {} {}", role(f), flags(f), f.size, f.blake3, clean(&format!("{} {}", f.path, notes.join(" "))).trim_end());
    }
    let count = |p: &dyn Fn(&&File) -> bool| inventory.files.iter().filter(|f| p(f)).count();
    let _ = writeln!(
        out,
        "{} files: {} ELF, {} scripts, {} of other formats; {} setuid or setgid, {} with engines that make code, {} that a build does not take",
        inventory.files.len(),
        count(&|f| f.format == Format::Elf),
        count(&|f| f.format == Format::Script),
        count(&|f| !matches!(f.format, Format::Elf | Format::Script)),
        count(&|f| f.setuid || f.setgid),
        count(&|f| f.elf.as_ref().is_some_and(|e| !e.jit.is_empty())),
        count(&|f| f.refused.is_some()),
    );
    if !inventory.preloaded.is_empty() {
        let _ = writeln!(out, "every program is started with {} (/etc/ld.so.preload)", clean(&inventory.preloaded.join(" ")));
    }
    out
}

/// Graphviz reads entities in names, too.
fn quoted(text: &str) -> String {
    format!("\"{}\"", clean(text).replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\""))
}

/// Solid edges are DT_NEEDED, dashed ones interpreters, dotted ones what scripts ask for; red is missing or not taken.
pub fn dot(inventory: &Inventory) -> String {
    let mut out = String::from("digraph image {\n  rankdir=LR;\n  node [fontname=\"sans-serif\", fontsize=10];\n");
    let mut missing = BTreeSet::new();
    for f in &inventory.files {
        let shape = match (&f.elf, f.format) {
            (Some(e), _) if e.program => "box",
            (Some(_), _) => "ellipse",
            (None, Format::Script) => "note",
            _ => "octagon",
        };
        let color = if f.refused.is_some() { ", color=red" } else { "" };
        let _ = writeln!(out, "  {} [shape={shape}{color}];", quoted(&f.path));
        let mut edge = |to: &Needed, style: &str| {
            let name = to.path.as_ref().unwrap_or(&to.name);
            let color = if to.path.is_none() { ", color=red" } else { "" };
            if to.path.is_none() {
                missing.insert(name.clone());
            }
            let _ = writeln!(out, "  {} -> {} [style={style}{color}];", quoted(&f.path), quoted(name));
        };
        if let Some(e) = &f.elf {
            e.needed.iter().for_each(|n| edge(n, "solid"));
            e.interpreter.iter().for_each(|n| edge(n, "dashed"));
        }
        if let Some(s) = &f.script {
            edge(&s.interpreter, "dotted");
            s.program.iter().for_each(|n| edge(n, "dotted"));
        }
    }
    for name in missing {
        let _ = writeln!(out, "  {} [shape=plaintext, fontcolor=red];", quoted(&name));
    }
    out.push_str("}\n");
    out
}
