//! What an interpreter is told to run: by its row's grammar, from a command line to files and program text.
//!
//! Owns the grammar's form and the reading of command lines. Refuses to own the rows (the build's catalogue and the signer write them into manifests), files, and what follows (`decide`). The fact a
//! newcomer gets wrong: a row does not say how program text is passed. It says which options leave the named file in charge; everything else counts as program text, so an option that nobody thought of is refused, not missed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How an interpreter's command line says where its program comes from. Options are written with `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interpreter {
    /// Letters of options that leave the named file in charge; several may share a word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flags: String,
    /// Whole words of the same kind, beginnings of such words followed by `*` (`--stack-size=*`), and options with the one value they may have (`-o errexit`). `--` and `-` here end the options.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub words: BTreeSet<String>,
    /// Options of the same kind with any value.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub values: BTreeSet<String>,
    /// Options whose value is a file with program text.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub files: BTreeSet<String>,
    /// Words after which nothing is run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ends: BTreeSet<String>,
    /// First arguments that are no options, and yet name no file (`node inspect`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub commands: BTreeSet<String>,
    /// A letter's value is the rest of its word, if there is one; otherwise it is the next word and letters go on (shells).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
    /// `+x` is the option `-x`, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plus: bool,
    /// The first argument that is no option is program text, unless an option named a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_first: bool,
    /// It is one of these by the name it is called, and none of the above counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multicall: Option<Multicall>,
}

/// Several programs in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Multicall {
    /// Called by a name that begins so, it takes the next argument for its name.
    pub name: String,
    /// Those that are interpreters.
    pub applets: BTreeMap<String, Interpreter>,
}

/// What a command line leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program<'a> {
    /// Files it names with program text, as it names them.
    pub files: Vec<&'a [u8]>,
    /// Program text that is no named file, told by what says so; then `files` are only those named before.
    pub inline: Option<String>,
}

/// Longer words name no file (PATH_MAX).
const LONGEST_WORD: usize = 4095;

impl Interpreter {
    /// Reads `argv`. `whole`: nothing of it is missing at its end.
    pub fn program<'a>(&self, argv: &[&'a [u8]], whole: bool) -> Program<'a> {
        let Some(multicall) = &self.multicall else { return self.line(argv, whole) };
        let mut argv = argv;
        while let Some((first, rest)) = argv.split_first() {
            let name = first.rsplit(|b| *b == b'/').next().unwrap_or_default();
            let is_login = is_login(first);
            let name = name.strip_prefix(b"-").unwrap_or(name);
            let applet = multicall.applets.iter().find(|(known, _)| known.as_bytes() == name);
            match applet {
                Some(_) if is_login => return inline(Vec::new(), "it is called as a login shell"),
                Some((_, applet)) => return applet.line(argv, whole),
                None if name.starts_with(multicall.name.as_bytes()) => argv = rest,
                None => return Program::default(),
            }
        }
        if whole { Program::default() } else { inline(Vec::new(), "more arguments than are looked at") }
    }

    fn line<'a>(&self, argv: &[&'a [u8]], whole: bool) -> Program<'a> {
        let mut line = Line { row: self, rest: argv, whole, files: Vec::new() };
        if line.take().is_some_and(is_login) {
            return inline(Vec::new(), "it is called as a login shell");
        }
        let found = line.operand();
        let files = line.files;
        match found {
            Ok(Found::Nothing) => named(files),
            Ok(Found::Operand(_)) if self.text_first && !files.is_empty() => named(files),
            Ok(Found::Operand(_)) if self.text_first => inline(files, "an argument is the program's text"),
            Ok(Found::Operand(word)) if std::str::from_utf8(word).is_ok_and(|w| self.commands.contains(w)) => inline(files, format!("command {}", shown(word))),
            Ok(Found::Operand(file)) => named([files, vec![file]].concat()),
            Ok(Found::None) if self.text_first && !files.is_empty() => named(files),
            Ok(Found::None) => inline(files, "no file is named"),
            Err(why) => inline(files, why),
        }
    }
}

/// A command line that is being read.
struct Line<'r, 'a> {
    row: &'r Interpreter,
    rest: &'r [&'a [u8]],
    whole: bool,
    files: Vec<&'a [u8]>,
}

enum Found<'a> {
    Operand(&'a [u8]),
    /// The line has none.
    None,
    /// Nothing is run.
    Nothing,
}

impl<'a> Line<'_, 'a> {
    fn take(&mut self) -> Option<&'a [u8]> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Reads options up to the first argument that is none; an error says what makes it program text.
    fn operand(&mut self) -> Result<Found<'a>, String> {
        loop {
            let Some(word) = self.take() else { return self.end() };
            if word.len() > LONGEST_WORD {
                return Err("an argument is longer than any file's name".into());
            }
            let is_option = word.first() == Some(&b'-') || (self.row.plus && word.first() == Some(&b'+'));
            let known = |set: &BTreeSet<String>| std::str::from_utf8(word).is_ok_and(|w| set.contains(w));
            match word {
                _ if !is_option => return Ok(Found::Operand(word)),
                b"--" | b"-" if known(&self.row.words) => return self.take().map_or_else(|| self.end(), |word| Ok(Found::Operand(word))),
                _ if known(&self.row.ends) => return Ok(Found::Nothing),
                _ if self.row.words.iter().any(|listed| fits(listed, word)) => {}
                _ => self.option(word)?,
            }
        }
    }

    fn end(&self) -> Result<Found<'a>, String> {
        if self.whole { Ok(Found::None) } else { Err("more arguments than are looked at".into()) }
    }

    /// An option with a value, or letters.
    fn option(&mut self, word: &'a [u8]) -> Result<(), String> {
        let assigned = word.iter().position(|b| *b == b'=').filter(|_| word.starts_with(b"--"));
        let name = [b"-", &word[1..assigned.unwrap_or(word.len())]].concat();
        if self.takes_value(&name) {
            let value = assigned.map_or_else(|| self.take(), |at| Some(&word[at + 1..]));
            return self.value(&name, value);
        }
        if word.starts_with(b"--") || word.len() == 1 {
            return Err(format!("option {}", shown(&name)));
        }
        let mut letters = &word[1..];
        while let Some((letter, rest)) = letters.split_first() {
            letters = rest;
            if self.row.flags.as_bytes().contains(letter) {
                continue;
            }
            let name = [b'-', *letter];
            if !self.takes_value(&name) {
                return Err(format!("option {}", shown(&name)));
            }
            let value = if self.row.attached && !letters.is_empty() { Some(std::mem::take(&mut letters)) } else { self.take() };
            self.value(&name, value)?;
        }
        Ok(())
    }

    fn takes_value(&self, name: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(name) else { return false };
        let with_one = |word: &String| word.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
        self.row.values.contains(name) || self.row.files.contains(name) || self.row.words.iter().any(with_one)
    }

    fn value(&mut self, name: &[u8], value: Option<&'a [u8]>) -> Result<(), String> {
        let name = String::from_utf8_lossy(name).into_owned();
        let Some(value) = value else { return Err(format!("option {name} without its value")) };
        if self.row.files.contains(&name) {
            self.files.push(value);
            return Ok(());
        }
        let pair = std::str::from_utf8(value).is_ok_and(|value| self.row.words.contains(&format!("{name} {value}")));
        if pair || self.row.values.contains(&name) { Ok(()) } else { Err(format!("option {name} with another value than those listed")) }
    }
}

/// Whether this word is one of those that a listed one with a `*` stands for.
pub(crate) fn begins(listed: &str, word: &[u8]) -> bool {
    listed.strip_suffix('*').is_some_and(|start| word.starts_with(start.as_bytes()))
}

/// Whether a word is the listed one, or one of those that it stands for.
pub fn fits(listed: &str, word: &[u8]) -> bool {
    listed.as_bytes() == word || begins(listed, word)
}

/// Shells that are called so run files of the caller's home first.
fn is_login(name: &[u8]) -> bool {
    name.starts_with(b"-") || name.rsplit(|b| *b == b'/').next().is_some_and(|last| last.starts_with(b"-"))
}

/// Files, unless one of the names means a stream or a descriptor to the interpreter itself, whatever lies there.
fn named(files: Vec<&[u8]>) -> Program<'_> {
    let is_stream = |file: &&[u8]| **file == *b"-" || file.is_empty() || file.starts_with(b"/dev/") || file.starts_with(b"/proc/") || file.len() > LONGEST_WORD;
    match files.iter().position(is_stream) {
        Some(at) => inline(files[..at].to_vec(), format!("{} is no file", shown(files[at]))),
        None => Program { files, inline: None },
    }
}

fn inline(files: Vec<&[u8]>, why: impl Into<String>) -> Program<'_> {
    Program { files, inline: Some(why.into()) }
}

/// Enough of a word to know it by: what follows may be program text.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(word).chars().take(64).flat_map(char::escape_default).collect()
}

/// Whether a variable of this name is stripped: patterns are names, or beginnings of names followed by `*`.
pub fn is_stripped(patterns: &BTreeSet<String>, name: &[u8]) -> bool {
    patterns.iter().any(|pattern| fits(pattern, name))
}

/// The name in `NAME=value`.
pub fn name_of(variable: &[u8]) -> &[u8] {
    variable.split(|b| *b == b'=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn shell() -> Interpreter {
        let words = set(&["--", "-", "--norc", "-o errexit"]);
        Interpreter { flags: "ex".into(), words, values: set(&["-O"]), files: set(&["--rcfile"]), ends: set(&["--version"]), plus: true, ..Interpreter::default() }
    }

    fn awk() -> Interpreter {
        Interpreter { words: set(&["--"]), values: set(&["-F"]), files: set(&["-f"]), attached: true, text_first: true, ..Interpreter::default() }
    }

    /// Files separated by spaces, then what makes it inline.
    fn read(row: &Interpreter, line: &[&str]) -> (String, Option<String>) {
        let argv: Vec<&[u8]> = line.iter().map(|w| w.as_bytes()).collect();
        let found = row.program(&argv, true);
        (found.files.iter().map(|f| String::from_utf8_lossy(f)).collect::<Vec<_>>().join(" "), found.inline)
    }

    #[test]
    fn a_named_file_is_in_charge_behind_options_that_leave_it_there() {
        for line in [
            &["sh", "a"][..],
            &["sh", "-ex", "a", "-c", "text"],
            &["sh", "-e", "+x", "-o", "errexit", "a"],
            &["sh", "-eo", "errexit", "a"],
            &["sh", "-oe", "errexit", "a"],
            &["sh", "-O", "-c", "a"],
            &["sh", "--norc", "--", "a"],
            &["sh", "-", "a"],
        ] {
            assert_eq!(read(&shell(), line), ("a".into(), None), "{line:?}");
        }
        assert_eq!(read(&shell(), &["sh", "--", "-c", "text"]), ("-c".into(), None));
        assert_eq!(read(&shell(), &["sh", "--rcfile", "b", "a"]), ("b a".into(), None));
        assert_eq!(read(&shell(), &["sh", "--rcfile=b", "a"]), ("b a".into(), None));
        assert_eq!(read(&shell(), &["sh", "-e", "--version", "-c", "text"]), (String::new(), None));
    }

    #[test]
    fn whatever_else_there_is_counts_as_program_text() {
        for (line, why) in [
            (&["sh", "-c", "text"][..], "option -c"),
            (&["sh", "-xc", "text"], "option -c"),
            (&["sh", "+c", "text"], "option -c"),
            (&["sh", "-o", "errexit", "-c", "text"], "option -c"),
            (&["sh", "-o", "stdin", "a"], "option -o with another value than those listed"),
            (&["sh", "-e", "-s", "a"], "option -s"),
            (&["sh", "--norc=a", "a"], "option --norc"),
            (&["sh", "--init-file", "b", "a"], "option --init-file"),
            (&["sh", "+", "a"], "option -"),
            (&["sh", "-O"], "option -O without its value"),
            (&["sh"], "no file is named"),
            (&[], "no file is named"),
            (&["sh", "-e", "--"], "no file is named"),
            (&["-sh", "a"], "it is called as a login shell"),
            (&["sh", "--", "-"], "- is no file"),
            (&["sh", "/dev/stdin"], "/dev/stdin is no file"),
            (&["sh", "/proc/self/fd/3"], "/proc/self/fd/3 is no file"),
            (&["sh", ""], " is no file"),
        ] {
            assert_eq!(read(&shell(), line), (String::new(), Some(why.into())), "{line:?}");
        }
        let long = "a".repeat(5000);
        assert!(read(&shell(), &["sh", &long]).1.is_some() && read(&shell(), &["sh", "--", &long]).1.is_some());
        let cut: Vec<&[u8]> = vec![b"sh", b"-e"];
        assert!(shell().program(&cut, false).inline.is_some(), "the next word may be anything");
    }

    #[test]
    fn a_value_is_the_rest_of_its_word_where_the_row_says_so() {
        assert_eq!(read(&awk(), &["awk", "-F:", "-f", "a", "text"]), ("a".into(), None));
        assert_eq!(read(&awk(), &["awk", "-fa", "-fb"]), ("a b".into(), None));
        assert_eq!(read(&awk(), &["awk", "-F", ":", "text"]), (String::new(), Some("an argument is the program's text".into())));
        assert_eq!(read(&awk(), &["awk", "-f", "-"]), (String::new(), Some("- is no file".into())));
        assert_eq!(read(&awk(), &["awk", "-f", "a", "-e", "text"]), ("a".into(), Some("option -e".into())));
    }

    #[test]
    fn a_command_of_the_interpreter_is_no_file() {
        let row = Interpreter { words: set(&["--"]), commands: set(&["inspect"]), ..Interpreter::default() };
        for line in [&["node", "inspect"][..], &["node", "inspect", "a"], &["node", "--", "inspect"]] {
            assert_eq!(read(&row, line), (String::new(), Some("command inspect".into())), "{line:?}");
        }
        for line in [&["node", "./inspect"][..], &["node", "a", "inspect"], &["node", "inspects"]] {
            assert_eq!(read(&row, line).1, None, "{line:?}");
        }
    }

    #[test]
    fn a_listed_beginning_stands_for_whole_words() {
        let row = Interpreter { words: set(&["--", "--size=*"]), ..Interpreter::default() };
        assert_eq!(read(&row, &["node", "--size=", "--size=-e", "a", "--size"]), ("a".into(), None));
        for line in [&["node", "--size", "a"][..], &["node", "--siz=1", "a"], &["node", "--size=*", "-e"]] {
            assert!(read(&row, line).1.is_some(), "{line:?}");
        }
    }

    #[test]
    fn one_file_of_several_programs_is_what_it_is_called() {
        let multicall = Multicall { name: "box".into(), applets: BTreeMap::from([("sh".into(), shell()), ("awk".into(), awk())]) };
        let row = Interpreter { multicall: Some(multicall), ..Interpreter::default() };
        for line in [&["/bin/sh", "a"][..], &["box", "sh", "a"], &["/x/box.static", "box", "/any/sh", "a"]] {
            assert_eq!(read(&row, line), ("a".into(), None), "{line:?}");
        }
        assert_eq!(read(&row, &["box", "sh", "-c", "text"]).1, Some("option -c".into()));
        assert_eq!(read(&row, &["box", "awk", "text"]).1, Some("an argument is the program's text".into()));
        assert!(read(&row, &["-sh"]).1.is_some());
        for line in [&["ls", "sh", "-c"][..], &["box", "ls", "sh"], &["box"], &[]] {
            assert_eq!(read(&row, line), (String::new(), None), "{line:?}");
        }
    }

    #[test]
    fn variables_are_stripped_by_their_name_or_its_beginning() {
        let patterns = set(&["ENV", "LD_*"]);
        for (variable, stripped) in [("ENV=x", true), ("ENVY=x", false), ("LD_PRELOAD=a=b", true), ("LD_", true), ("MY_LD_X=1", false), ("=ENV", false)] {
            assert_eq!(is_stripped(&patterns, name_of(variable.as_bytes())), stripped, "{variable}");
        }
        assert!(!is_stripped(&BTreeSet::new(), b"ENV"));
    }
}
