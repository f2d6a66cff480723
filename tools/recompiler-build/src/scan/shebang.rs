//! What a `#!` line leads to.
//!
//! Owns how the kernel cuts the line, and what coreutils' `env` makes of it: options, assignments, `-S` with its quoting. The fact a newcomer gets wrong: the kernel passes everything after the interpreter as *one* argument, which is why
//! `env -S` exists; and `env` looks the program up in PATH, so what runs is decided in the image, not in the script.

use std::collections::VecDeque;

/// BINPRM_BUF_SIZE: what the kernel reads of a `#!` line.
pub(super) const MAX_BYTES: usize = 256;

/// The PATH a container's program gets.
pub const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The interpreter and the one argument of a `#!` line, as the kernel's binfmt_script cuts it.
pub fn cut(bytes: &[u8]) -> Result<(String, Option<String>), &'static str> {
    let line = bytes.get(2..).unwrap_or_default().split(|b| *b == b'\n').next().unwrap_or_default();
    if line.len() > MAX_BYTES - 3 {
        return Err("its #! line is longer than the 253 bytes Linux reads");
    }
    let line = std::str::from_utf8(line).map_err(|_| "its #! line is not UTF-8")?;
    let line = line.trim_matches([' ', '\t']);
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if interpreter.ends_with('\r') {
        return Err("its #! line ends with a carriage return, which Linux takes for a part of the name");
    }
    if !interpreter.starts_with('/') {
        return Err("its #! line names no absolute path");
    }
    let argument = argument.trim_matches([' ', '\t']);
    Ok((interpreter.into(), (!argument.is_empty()).then(|| argument.to_owned())))
}

/// The program `env` is asked to start by its one argument; `None` when it names none. `interpreter` is the path in the `#!` line.
pub fn env_program(interpreter: &str, argument: Option<&str>) -> Result<Option<String>, &'static str> {
    if interpreter.rsplit('/').next() != Some("env") {
        return Ok(None);
    }
    let mut words: VecDeque<String> = argument.map(str::to_owned).into_iter().collect();
    while let Some(word) = words.pop_front_if(|w| w.len() > 1 && w.starts_with('-')) {
        let option = match word.strip_prefix("--") {
            Some("") => break,
            Some(name) => named(name)?,
            None => lettered(&word[1..])?,
        };
        match option {
            EnvOption::Whole => {}
            EnvOption::NextWord => drop(words.pop_front().ok_or(NO_VALUE)?),
            EnvOption::Split(text) => {
                let text = text.or_else(|| words.pop_front()).ok_or(NO_VALUE)?;
                split(&text)?.into_iter().rev().for_each(|word| words.push_front(word));
            }
            EnvOption::Tells => return Ok(None),
        }
    }
    // A lone dash is -i.
    words.pop_front_if(|word| word == "-");
    Ok(words.into_iter().find(|word| !word.contains('=')))
}

/// What a word of options is to `env`.
enum EnvOption {
    Whole,
    /// The next word is its value.
    NextWord,
    /// A text to take apart; without one, the next word.
    Split(Option<String>),
    /// Prints something and starts nothing.
    Tells,
}

const NO_VALUE: &str = "its #! line gives env an option without its value";
const UNKNOWN: &str = "its #! line gives env an option that it does not know";

/// A word of letters, as getopt reads it: flags until one takes the rest of the word, or else the next word. -a is of coreutils 9.5.
fn lettered(letters: &str) -> Result<EnvOption, &'static str> {
    for (at, letter) in letters.char_indices() {
        let rest = Some(&letters[at + letter.len_utf8()..]).filter(|rest| !rest.is_empty());
        match letter {
            'i' | '0' | 'v' => {}
            'S' => return Ok(EnvOption::Split(rest.map(str::to_owned))),
            'u' | 'C' | 'a' => return Ok(if rest.is_some() { EnvOption::Whole } else { EnvOption::NextWord }),
            ' ' | '\t' => return Err("its #! line gives env several words in one: write env -S"),
            _ => return Err(UNKNOWN),
        }
    }
    Ok(EnvOption::Whole)
}

const NAMES: [&str; 13] = [
    "argv0",
    "block-signal",
    "chdir",
    "debug",
    "default-signal",
    "help",
    "ignore-environment",
    "ignore-signal",
    "list-signal-handling",
    "null",
    "split-string",
    "unset",
    "version",
];

/// An option's name or an unambiguous beginning of it, as getopt_long reads it.
fn named(text: &str) -> Result<EnvOption, &'static str> {
    let (beginning, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let mut fitting = NAMES.iter().filter(|name| name.starts_with(beginning));
    let (Some(name), None) = (fitting.next(), fitting.next()) else { return Err(UNKNOWN) };
    match (*name, value) {
        ("split-string", text) => Ok(EnvOption::Split(text.map(str::to_owned))),
        ("argv0" | "chdir" | "unset", None) => Ok(EnvOption::NextWord),
        ("argv0" | "chdir" | "unset" | "block-signal" | "default-signal" | "ignore-signal", _) => Ok(EnvOption::Whole),
        (_, Some(_)) => Err("its #! line gives an option of env a value that takes none"),
        ("help" | "version", None) => Ok(EnvOption::Tells),
        (_, None) => Ok(EnvOption::Whole),
    }
}

/// Words of `env -S`, as coreutils 9 splits them.
fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            ('\\', Some('\'')) if !matches!(letters.peek(), Some('\\' | '\'')) => word.get_or_insert_default().push('\\'),
            ('\\', _) => match letters.next().ok_or("its env -S string ends with a backslash")? {
                '_' if quote.is_none() => words.extend(word.take()),
                'c' if quote.is_none() => break,
                'c' => return Err("its env -S string has \\c within quotes"),
                '_' => word.get_or_insert_default().push(' '),
                'f' => word.get_or_insert_default().push('\x0c'),
                'n' => word.get_or_insert_default().push('\n'),
                'r' => word.get_or_insert_default().push('\r'),
                't' => word.get_or_insert_default().push('\t'),
                'v' => word.get_or_insert_default().push('\x0b'),
                c @ ('#' | '$' | '"' | '\'' | '\\') => word.get_or_insert_default().push(c),
                _ => return Err("its env -S string has an unknown escape"),
            },
            ('$', q) if q != Some('\'') => return Err("its env -S string takes a variable of the environment, which only a run knows"),
            (' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r', None) => words.extend(word.take()),
            ('#', None) if word.is_none() => break,
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("its env -S string has an open quote");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn cuts_a_shebang_line_as_the_kernel_does() {
        let cut = |s: &str| cut(s.as_bytes()).map(|(i, a)| (i, a.unwrap_or_default()));
        assert_eq!(cut("#!/bin/sh\nx"), Ok(("/bin/sh".into(), String::new())));
        assert_eq!(cut("#! /usr/bin/env -S a  b \n"), Ok(("/usr/bin/env".into(), "-S a  b".into())));
        assert!(cut("#!/bin/sh\r\n").is_err() && cut("#!sh\n").is_err() && cut("#!\n").is_err() && cut("#!").is_err());
        assert!(cut(&format!("#!/{}\n", "x".repeat(300))).is_err());
    }

    /// The machine's own env as the oracle: it names the program that it does not find.
    #[test]
    fn finds_the_program_that_env_starts() {
        for argument in [
            "nope",
            "-S nope -u",
            "-Snope -u",
            "-S A=1 -i -u B nope",
            "-S -i -u B A=1 C=2 nope --x",
            "-S -uB -C/ nope",
            "-S -ivu B nope",
            "-S -S 'nope y' z",
            "-vS nope",
            "-iS A=b nope x",
            "-ivSnope",
            "-iu",
            "-i",
            "-",
            "-S - nope",
            "-S - -nope",
            "-S -- - nope",
            "-i nope",
            "-x",
            "-S",
            "-S ''",
            "-S -S",
            "--",
            "--split-string=-- A=1 nope",
            "--split-string=-- -nope",
            "--split-string nope",
            "--spl=-i nope",
            "--s=--spl nope",
            "--s=--s=nope",
            "-S --unset A --chdir=/ nope",
            "-S --uns=A nope",
            "-S --ignore-env nope",
            "-S --ignore nope",
            "-S --block --debug nope",
            "-S --block=INT --default nope",
            "-S --null=1 nope",
            "-S --nothing nope",
            "-S --help nope",
            "--version",
            "-S ${INTERPRETER} x",
            "-S 'open",
        ] {
            let out = Command::new("env").arg(argument).env("LC_ALL", "C").output().unwrap();
            let said = String::from_utf8(out.stderr).unwrap();
            let missing = said.lines().find_map(|line| line.strip_prefix("env: '")?.strip_suffix("': No such file or directory"));
            let expected = match out.status.code() {
                Some(0) => Some(None),
                Some(127) => Some(Some(missing.unwrap_or_else(|| panic!("{argument}: {said}")).to_owned())),
                _ => None,
            };
            // What a variable holds is known to a run.
            let expected = if argument.contains('$') { None } else { expected };
            assert_eq!(env_program("/usr/bin/env", Some(argument)).ok(), expected, "{argument}: {said}");
        }
        assert_eq!(env_program("/bin/sh", Some("python3")), Ok(None));
    }

    /// The machine's own env as the oracle: it prints the words it made.
    #[test]
    fn splits_a_string_as_env_does() {
        for text in ["a b", "a\\_b 'c d' \"e\\tf\"", "x\\#y # comment", "a '' b", "'it\\'s' \\$HOME", "a\\cb", "\"a\\_b\" c", "'\\n' \"\\\\\"", "  lead  trail "] {
            let out = Command::new("env").arg(format!("-Sprintf [%s] {text}")).output().unwrap();
            assert!(out.status.success(), "{text}: {}", String::from_utf8_lossy(&out.stderr));
            let expected = String::from_utf8(out.stdout).unwrap();
            let ours: String = split(text).unwrap().iter().map(|w| format!("[{w}]")).collect();
            assert_eq!(ours, expected, "{text}");
        }
    }
}
