//! How a program is called that runs in the place of another: what becomes of the arguments that a caller meant for the other one.
//!
//! Owns the rules' form and their application to a command line. Refuses to own the rules themselves (the build's catalogue of polyfills writes them into manifests) and files: which arguments name some is said here, where they lie is
//! found out by whoever starts the program. The fact a newcomer gets wrong: nothing is decided here. What may run was decided before, by the command line as the caller wrote it (`interpreter`), so no rule may lead to another program than
//! the caller's words did; `tools/recompiler-build/tests/polyfills.rs` holds the catalogue's rows against each other.

use crate::interpreter::fits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What becomes of a caller's arguments. Options begin with `-`, and end with the first argument that does not, or behind `--`; what follows is never changed, but for the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Stand before the caller's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// What options mean; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Known>,
    /// Letters may share a word, and the value of one is the rest of its word, if there is any (`-uWignore`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub letters: bool,
    /// The first argument that is no option names a file, whose whole path the program gets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file: bool,
    /// Where no file has a name, one is looked for that has it followed by one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<String>,
    /// Arguments that make the program of standard input: in the place of a `-`, and where there is no more to run and standard input is no terminal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdin: Vec<String>,
    /// What is said of options that are not known; without it they are passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// An option.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What callers write: an argument, two of them with a space between, or the beginning of one followed by `*`.
    pub names: Vec<String>,
    /// It takes a value: the next argument, or what follows `=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Instead of it; nothing: it is left out. `{value}` stands for the value, `{json}` for the same as a JSON string. Absent: it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub becomes: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_options")]
    pub then: Then,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    Text,
    /// Its name; the program gets the whole path.
    File,
}

/// What follows an option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// More options, and what is to be run.
    #[default]
    Options,
    /// More options, and arguments for what it says is to be run.
    Arguments,
    /// Nothing that is looked at.
    Nothing,
}

/// How the replaced program refuses options: its name, a colon and one of these texts, where `{option}` stands for the argument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub status: u8,
    /// There is no such option.
    pub unknown: String,
    /// Its value is not there: nothing follows, or something that begins with `-`.
    pub missing: String,
}

/// An argument as the program is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Text(Vec<u8>),
    /// A file's whole path, of this name.
    File(Vec<u8>),
}

/// The program is not run: it ends with a line on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub line: Vec<u8>,
    pub status: u8,
}

impl Arguments {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The arguments for a caller's. `on_terminal`: standard input is one.
    pub fn applied(&self, argv: &[&[u8]], on_terminal: bool) -> Result<Vec<Argument>, Refusal> {
        let mut line = Line { rules: self, name: argv.first().copied().unwrap_or_default(), rest: argv.iter().copied().collect(), done: Vec::new() };
        let name = line.rest.pop_front();
        line.done.extend(name.map(text));
        line.done.extend(self.first.iter().map(text));
        line.read(on_terminal)?;
        line.done.extend(line.rest.into_iter().map(text));
        Ok(line.done)
    }

    /// The option that this argument is, with the value written into it, and how many arguments its name has.
    fn find<'r, 'a>(&'r self, word: &'a [u8], next: Option<&[u8]>) -> Option<(&'r Known, Option<&'a [u8]>, usize)> {
        let assigned = word.iter().position(|b| *b == b'=').filter(|_| word.starts_with(b"--"));
        let known = |option: &'r Known, name: &String| match (name.split_once(' '), option.value, assigned) {
            (Some((first, second)), ..) => (first.as_bytes() == word && Some(second.as_bytes()) == next).then_some((option, None, 2)),
            (None, Some(_), Some(at)) => fits(name, &word[..at]).then_some((option, Some(&word[at + 1..]), 1)),
            _ => fits(name, word).then_some((option, None, 1)),
        };
        self.options.iter().find_map(|option| option.names.iter().find_map(|name| known(option, name)))
    }
}

/// A command line that is being read.
struct Line<'r, 'a> {
    rules: &'r Arguments,
    name: &'a [u8],
    rest: VecDeque<&'a [u8]>,
    done: Vec<Argument>,
}

impl<'a> Line<'_, 'a> {
    /// Reads up to where nothing is changed any more.
    fn read(&mut self, on_terminal: bool) -> Result<(), Refusal> {
        // What says what is to be run: not yet anything.
        let mut then = Then::Options;
        let mut ended = None;
        while let Some(word) = self.rest.front().copied().filter(|word| word.len() > 1 && word.starts_with(b"-")) {
            self.rest.pop_front();
            if word == b"--" {
                ended = Some(word);
                break;
            }
            match self.option(word)? {
                Then::Options => {}
                Then::Arguments => then = Then::Arguments,
                Then::Nothing => return Ok(()),
            }
        }
        let is_input = match self.rest.front() {
            Some(word) => *word == b"-",
            None => !on_terminal,
        };
        if then == Then::Options && is_input && !self.rules.stdin.is_empty() {
            // Behind `--` these would be no options.
            self.rest.pop_front();
            self.done.extend(self.rules.stdin.iter().map(text));
            return Ok(());
        }
        self.done.extend(ended.map(text));
        let is_file = |word: &&[u8]| !matches!(*word, b"" | b"-");
        if then == Then::Options && self.rules.file && self.rest.front().is_some_and(is_file) {
            self.done.extend(self.rest.pop_front().map(|name| Argument::File(name.to_vec())));
        }
        Ok(())
    }

    fn option(&mut self, word: &'a [u8]) -> Result<Then, Refusal> {
        let Some((option, assigned, words)) = self.rules.find(word, self.rest.front().copied()) else {
            return if self.rules.letters && !word.starts_with(b"--") { self.letters(word) } else { self.unknown(word) };
        };
        let second = if words == 2 { self.rest.pop_front() } else { None };
        let Some(kind) = option.value else {
            self.becomes(option, [Some(word), second].into_iter().flatten(), b"");
            return Ok(option.then);
        };
        let Some(value) = assigned.or_else(|| self.rest.pop_front()) else { return self.missing(word) };
        if self.rules.refused.is_some() && (value.is_empty() && assigned.is_some() || value.starts_with(b"-") && assigned.is_none()) {
            return self.missing(word);
        }
        match kind {
            Value::File => self.done.extend(option.becomes.iter().flatten().map(|word| if word == VALUE { Argument::File(value.to_vec()) } else { text(word) })),
            Value::Text => self.becomes(option, [Some(word), second, Some(value).filter(|_| assigned.is_none())].into_iter().flatten(), value),
        }
        Ok(option.then)
    }

    /// `written`: what it stays if it becomes nothing else.
    fn becomes(&mut self, option: &Known, written: impl Iterator<Item = &'a [u8]>, value: &[u8]) {
        match &option.becomes {
            Some(words) => self.done.extend(words.iter().map(|word| Argument::Text(filled(word, value)))),
            None => self.done.extend(written.map(text)),
        }
    }

    /// A word of letters, each an option of its own; it stays as it is.
    fn letters(&mut self, word: &'a [u8]) -> Result<Then, Refusal> {
        self.done.push(text(word));
        for (at, letter) in word.iter().enumerate().skip(1) {
            let Some((option, ..)) = self.rules.find(&[b'-', *letter], None) else {
                if self.rules.refused.is_some() {
                    return self.unknown(word);
                }
                continue;
            };
            if option.value.is_some() {
                if at + 1 == word.len() {
                    self.done.extend(self.rest.pop_front().map(text));
                }
                return Ok(option.then);
            }
            if option.then != Then::Options {
                return Ok(option.then);
            }
        }
        Ok(Then::Options)
    }

    fn unknown(&mut self, word: &[u8]) -> Result<Then, Refusal> {
        if let Some(refused) = &self.rules.refused {
            return Err(self.refusal(refused.status, &refused.unknown, word));
        }
        self.done.push(text(word));
        Ok(Then::Options)
    }

    /// The program knows what to say, unless there is a text.
    fn missing(&mut self, word: &[u8]) -> Result<Then, Refusal> {
        if let Some(refused) = &self.rules.refused {
            return Err(self.refusal(refused.status, &refused.missing, word));
        }
        self.done.push(text(word));
        Ok(Then::Nothing)
    }

    fn refusal(&self, status: u8, said: &str, word: &[u8]) -> Refusal {
        Refusal { line: [self.name, b": ", &replaced(said.as_bytes(), b"{option}", word), b"\n"].concat(), status }
    }
}

/// Stands for a value in what an option becomes.
pub(crate) const VALUE: &str = "{value}";
/// The same as a JSON string.
pub(crate) const JSON: &str = "{json}";

fn text(word: impl AsRef<[u8]>) -> Argument {
    Argument::Text(word.as_ref().to_vec())
}

/// A word of what an option becomes. One value stands in it at most, so nothing is looked for in values.
fn filled(word: &str, value: &[u8]) -> Vec<u8> {
    if word.contains(JSON) { replaced(word.as_bytes(), JSON.as_bytes(), &json(value)) } else { replaced(word.as_bytes(), VALUE.as_bytes(), value) }
}

/// With the first `what` replaced.
fn replaced(text: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    match text.windows(what.len()).position(|part| part == what) {
        Some(at) => [&text[..at], by, &text[at + what.len()..]].concat(),
        None => text.to_vec(),
    }
}

/// A JSON string. What is not ASCII stays as it is, UTF-8 or not.
fn json(value: &[u8]) -> Vec<u8> {
    let mut string = vec![b'"'];
    for byte in value {
        match byte {
            b'"' | b'\\' => string.extend([b'\\', *byte]),
            0..0x20 | 0x7f => string.extend(format!("\\u{byte:04x}").bytes()),
            _ => string.push(*byte),
        }
    }
    string.push(b'"');
    string
}

fn is_options(then: &Then) -> bool {
    *then == Then::Options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| (*w).to_owned()).collect()
    }

    fn known(names: &[&str], value: Option<Value>, becomes: Option<&[&str]>, then: Then) -> Known {
        Known { names: words(names), value, becomes: becomes.map(words), then }
    }

    /// One that refuses what it does not know.
    fn strict() -> Arguments {
        Arguments {
            first: words(&["--std"]),
            options: vec![
                known(&["-p -e"], Some(Value::Text), Some(&["-e", "print({json})"]), Then::Arguments),
                known(&["-e", "--eval"], Some(Value::Text), Some(&["-e", "{value}"]), Then::Arguments),
                known(&["-p", "--print"], Some(Value::Text), Some(&["-e", "print({json})"]), Then::Arguments),
                known(&["-r", "--require"], Some(Value::File), Some(&["-I", "{value}"]), Then::Options),
                known(&["--title"], Some(Value::Text), Some(&[]), Then::Options),
                known(&["--no-*", "--size=*"], None, Some(&[]), Then::Options),
                known(&["-h"], None, None, Then::Nothing),
            ],
            file: true,
            stdin: words(&["-e", "input()"]),
            refused: Some(Refused { status: 9, unknown: "bad option: {option}".into(), missing: "{option} requires an argument".into() }),
            ..Arguments::default()
        }
    }

    /// One that says so itself, with letters.
    fn lenient() -> Arguments {
        let options = vec![
            known(&["-c", "-m"], Some(Value::Text), None, Then::Nothing),
            known(&["-W", "--check"], Some(Value::Text), None, Then::Options),
            known(&["-V"], None, None, Then::Nothing),
        ];
        Arguments { options, letters: true, file: true, ..Arguments::default() }
    }

    /// Files in angle brackets.
    fn called(rules: &Arguments, line: &[&str], on_terminal: bool) -> Result<Vec<String>, String> {
        let argv: Vec<&[u8]> = line.iter().map(|w| w.as_bytes()).collect();
        let shown = |a: Argument| match a {
            Argument::Text(text) => String::from_utf8(text).unwrap(),
            Argument::File(name) => format!("<{}>", String::from_utf8(name).unwrap()),
        };
        rules.applied(&argv, on_terminal).map(|all| all.into_iter().map(shown).collect()).map_err(|r| format!("{} {}", r.status, String::from_utf8(r.line).unwrap()))
    }

    #[test]
    fn options_are_ignored_renamed_and_filled_in_up_to_the_file_and_nothing_behind_it_is_touched() {
        for (line, expected) in [
            (&["node", "a.js", "--eval", "-e"][..], &["node", "--std", "<a.js>", "--eval", "-e"][..]),
            (&["node", "--no-warnings", "--size=4", "a.js", "--no-warnings"], &["node", "--std", "<a.js>", "--no-warnings"]),
            (&["node", "--title", "a.js", "b.js"], &["node", "--std", "<b.js>"]),
            (&["node", "--title=-x", "b.js"], &["node", "--std", "<b.js>"]),
            (&["node", "-r", "./x", "--require=y", "a.js"], &["node", "--std", "-I", "<./x>", "-I", "<y>", "<a.js>"]),
            (&["node", "--eval", "1", "a.js", "-p"], &["node", "--std", "-e", "1", "a.js", "-p"]),
            (&["node", "--eval=1=2", "--no-warnings", "--", "--no-warnings"], &["node", "--std", "-e", "1=2", "--", "--no-warnings"]),
            (&["node", "-p", "{value} \"\\\n\u{e9}", "x"], &["node", "--std", "-e", "print(\"{value} \\\"\\\\\\u000a\u{e9}\")", "x"]),
            (&["node", "-p", "-e", "1"], &["node", "--std", "-e", "print(\"1\")"]),
            (&["node", "-e", "{json}{value}"], &["node", "--std", "-e", "{json}{value}"]),
            (&["node", "--", "--eval"], &["node", "--std", "--", "<--eval>"]),
            (&["node", "-h", "-e", "--foo"], &["node", "--std", "-h", "-e", "--foo"]),
            (&["node", "", "x"], &["node", "--std", "", "x"]),
            (&[], &["--std"]),
        ] {
            for on_terminal in [true, false] {
                let expected = if line.is_empty() && !on_terminal { &["--std", "-e", "input()"] } else { expected };
                assert_eq!(called(&strict(), line, on_terminal).unwrap(), expected, "{line:?}");
            }
        }
    }

    #[test]
    fn standard_input_is_the_program_where_nothing_else_is_and_it_is_no_terminal() {
        let program = ["node", "--std", "-e", "input()"];
        for line in [&["node"][..], &["node", "--no-warnings"], &["node", "--"]] {
            assert_eq!(called(&strict(), line, false).unwrap(), program, "{line:?}");
        }
        assert_eq!(called(&strict(), &["node", "--no-warnings"], true).unwrap(), ["node", "--std"]);
        for line in [&["node", "-", "a", "--b"][..], &["node", "--", "-", "a", "--b"]] {
            assert_eq!(called(&strict(), line, true).unwrap(), [&program[..], &["a", "--b"]].concat(), "{line:?}");
        }
        assert_eq!(called(&strict(), &["node", "-e", "1", "-"], false).unwrap(), ["node", "--std", "-e", "1", "-"]);
        // Where no rule says how, it is the program's business.
        assert_eq!(called(&lenient(), &["python", "-", "a"], false).unwrap(), ["python", "-", "a"]);
        assert_eq!(called(&lenient(), &["python"], false).unwrap(), ["python"]);
    }

    #[test]
    fn what_is_not_known_is_refused_in_the_words_of_the_rules_or_passed_on() {
        for (line, said) in [
            (&["/bin/node", "--foo=1", "a.js"][..], "9 /bin/node: bad option: --foo=1\n"),
            (&["node", "-e1"], "9 node: bad option: -e1\n"),
            (&["node", "-ph"], "9 node: bad option: -ph\n"),
            (&["node", "-e"], "9 node: -e requires an argument\n"),
            (&["node", "-e", "-1"], "9 node: -e requires an argument\n"),
            (&["node", "--eval=", "1"], "9 node: --eval= requires an argument\n"),
            (&["node", "-r"], "9 node: -r requires an argument\n"),
        ] {
            assert_eq!(called(&strict(), line, false).unwrap_err(), said, "{line:?}");
        }
        for line in [&["python", "--foo", "-c"][..], &["python", "-W"], &["python", "-c", "-x", "a"], &["python", "-x-", "-V", "a"]] {
            assert_eq!(called(&lenient(), line, false).unwrap(), line, "{line:?}");
        }
    }

    #[test]
    fn letters_share_words_and_values_are_taken_for_no_file() {
        for (line, file) in [
            (&["python", "-uB", "a"][..], Some(2)),
            (&["python", "-W", "x", "a", "-c"], Some(3)),
            (&["python", "-uW", "x", "a", "b"], Some(3)),
            (&["python", "-uWx", "a"], Some(2)),
            (&["python", "--check", "x", "a"], Some(3)),
            (&["python", "--check=x", "a"], Some(2)),
            (&["python", "--", "-c"], Some(2)),
            (&["python", "-c", "x", "a"], None),
            (&["python", "-uc", "x", "a"], None),
            (&["python", "-cx", "a"], None),
            (&["python", "-uV", "a"], None),
        ] {
            let expected: Vec<String> = line.iter().enumerate().map(|(i, w)| if Some(i) == file { format!("<{w}>") } else { (*w).to_owned() }).collect();
            assert_eq!(called(&lenient(), line, false).unwrap(), expected, "{line:?}");
        }
    }

    #[test]
    fn without_rules_arguments_are_as_they_were() {
        for line in [&["a", "--eval", "-"][..], &["a"], &[]] {
            assert_eq!(called(&Arguments::default(), line, false).unwrap(), line);
        }
    }
}
