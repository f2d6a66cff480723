//! Languages whose code does not keep the System V calling convention, recognised by what their runtimes carry.
//!
//! The structured form believes that a callee it does not know preserves rbx, rbp and r12..r15 and reads its arguments where the convention says. Go, OCaml and Haskell do
//! neither between their own functions, and Swift returns more than the convention knows; so their objects have the resumable form only: slower, but it believes nothing. A file that carries such a text by accident is slower, not
//! wrong. The fact a newcomer gets wrong: sections and symbols do not help, Debian strips both.

use memchr::memmem;
use std::fmt;

/// A language with a convention of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Go,
    Haskell,
    OCaml,
    Swift,
}

/// What every program of the language holds.
const MARKERS: [(Language, &[u8]); 4] = [
    // runtime/debug.BuildInfo.
    (Language::Go, b"\xff Go buildinf:"),
    // Where the runtime system asks for reports of its faults.
    (Language::Haskell, b"haskell.org/ghc/reportabug"),
    // The variable the runtime reads at start.
    (Language::OCaml, b"OCAMLRUNPARAM"),
    // The function of its runtime that all its code calls.
    (Language::Swift, b"swift_release"),
];

impl Language {
    /// The language of a linked ELF file; `None` for all that keep to System V.
    pub fn of(bytes: &[u8]) -> Option<Language> {
        MARKERS.iter().find(|(_, marker)| memmem::find(bytes, marker).is_some()).map(|(language, _)| *language)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Go => "Go",
            Language::Haskell => "Haskell",
            Language::OCaml => "OCaml",
            Language::Swift => "Swift",
        })
    }
}
