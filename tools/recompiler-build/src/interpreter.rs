//! The catalogue of interpreters: which programs are one, how its command line is read, and which variables steer it. Owns reading `interpreters.toml`, which is compiled in.
//!
//! The fact a newcomer gets wrong: nothing at run time asks the catalogue. A row is copied into the manifest, where a signer sees it, and a policy file's own row wins.

use policy::interpreter::{Interpreter, fits};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const CATALOGUE: &str = include_str!("../interpreters.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    interpreter: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    programs: Vec<String>,
    suffixes: Vec<String>,
    pub strip: BTreeSet<String>,
    pub line: Interpreter,
}

pub fn rows() -> &'static [Row] {
    static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| toml::from_str::<Catalogue>(CATALOGUE).expect("interpreters.toml is read by a test").interpreter);
    &ROWS
}

/// The row of a program at this path.
pub fn of(path: &str) -> Option<&'static Row> {
    rows().iter().find(|row| row.fits(path))
}

/// Rows that run a text of this name.
pub fn of_text(path: &str) -> impl Iterator<Item = &'static Row> + '_ {
    rows().iter().filter(move |row| row.suffixes.iter().any(|s| path.ends_with(s.as_str())))
}

impl Row {
    pub fn fits(&self, path: &str) -> bool {
        let file = path.rsplit('/').next().unwrap_or_default();
        self.programs.iter().any(|pattern| fits(pattern, file.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_read_and_finds_programs_by_name() {
        let name = |path| of(path).map(|row| row.name.as_str());
        let found = ["/usr/bin/bash", "/bin/dash", "/usr/bin/python3.11", "/usr/bin/perl5.36.0", "/usr/bin/mawk", "/bin/busybox", "/usr/bin/ls", "/usr/bin/bashful"].map(name);
        assert_eq!(found, [Some("bash"), Some("dash"), Some("python"), Some("perl"), Some("awk"), Some("busybox"), None, None]);
        assert_eq!(of_text("/a.sh").map(|r| r.name.as_str()).collect::<Vec<_>>(), ["bash", "dash"]);
        assert_eq!(of_text("/a.txt").count(), 0);
    }
}
