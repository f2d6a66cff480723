//! An inventory's graph as a picture, which Graphviz draws.
//!
//! Owns calling Graphviz. The fact a newcomer gets wrong: it takes minutes for some thousand files, so a picture is made of what `--include` reaches.

use super::{Inventory, dot};
use anyhow::{Context, bail, ensure};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{ErrorKind, Seek, Write};
use std::process::Command;

/// The picture's text.
pub fn svg(inventory: &Inventory) -> anyhow::Result<String> {
    // A file in memory and not a pipe: one whose reader goes away would end this program.
    let mut graph = File::from(memfd_create("graph", MemfdFlags::CLOEXEC).context("no memory for the graph")?);
    graph.write_all(dot(inventory).as_bytes()).and_then(|()| graph.rewind()).context("no memory for the graph")?;
    let out = match Command::new("dot").arg("-Tsvg").stdin(graph).env_remove("RUST_MIN_STACK").output() {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!("pictures are drawn by Graphviz's program dot, which is not here: install it (apt-get install graphviz), or take --dot and draw elsewhere")
        }
        out => out.context("cannot start Graphviz's program dot")?,
    };
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "Graphviz's program dot drew nothing ({}): {}", out.status, said.lines().last().unwrap_or("and said nothing"));
    String::from_utf8(out.stdout).context("the picture is not UTF-8")
}
