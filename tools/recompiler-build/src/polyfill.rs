//! The catalogue of polyfills: how a module is called that runs in the place of a file. Owns reading `polyfills.toml`, which is compiled in.
//!
//! The fact a newcomer gets wrong: a row chooses no module. The user names one; the catalogue says how callers of the file are understood by it.

use policy::arguments::Arguments;
use policy::interpreter::fits;
use serde::Deserialize;
use std::sync::LazyLock;

const CATALOGUE: &str = include_str!("../polyfills.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    polyfill: Vec<Polyfill>,
}

/// One row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polyfill {
    pub name: String,
    replaces: Vec<String>,
    pub arguments: Arguments,
    #[serde(default)]
    pub directories: Vec<String>,
}

/// The row for a file of this name.
pub fn of(file: &str) -> Option<&'static Polyfill> {
    static ROWS: LazyLock<Vec<Polyfill>> = LazyLock::new(|| toml::from_str::<Catalogue>(CATALOGUE).expect("polyfills.toml is read by a test").polyfill);
    ROWS.iter().find(|p| p.replaces.iter().any(|pattern| fits(pattern, file.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_the_rules_of_manifests() {
        let rows = toml::from_str::<Catalogue>(CATALOGUE).unwrap().polyfill;
        rows.iter().for_each(|row| policy::rules::arguments(&row.name, &row.arguments).unwrap());
    }

    #[test]
    fn the_catalogue_is_read_and_finds_files_by_name() {
        assert_eq!(of("node").map(|p| &*p.name), Some("quickjs-ng"));
        assert_eq!(of("python3.11").map(|p| &*p.name), Some("cpython"));
        assert!(of("node18").is_none() && of("ls").is_none());
    }
}
