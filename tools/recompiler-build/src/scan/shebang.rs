//! What a `#!` line leads to.
//!
//! Owns how the kernel cuts the line, and what `env` makes of it: options, assignments, `-S` with its quoting. The fact a newcomer gets wrong: the kernel passes everything after the interpreter as *one* argument, which is why
//! `env -S` exists; and `env` looks the program up in PATH, so what runs is decided in the image, not in the script.

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
    let Some(argument) = argument else { return Ok(None) };
    let mut words = vec![argument.to_owned()];
    let mut i = 0;
    while i < words.len() {
        let word = words[i].clone();
        let split = word.strip_prefix("--split-string=").or_else(|| word.strip_prefix("-S")).or_else(|| word.strip_prefix("-vS"));
        if let Some(rest) = split {
            // `-S` alone takes the next word.
            let next = words.get(i + 1).filter(|_| rest.is_empty() && !word.contains('=')).cloned();
            let taken = i + usize::from(next.is_some());
            words.splice(i..=taken, self::split(next.as_deref().unwrap_or(rest))?);
            continue;
        }
        i += match word.as_str() {
            "--" => return Ok(words.get(i + 1).cloned()),
            "-u" | "--unset" | "-C" | "--chdir" => 2,
            w if w.starts_with('-') => 1,
            w if w.contains('=') => 1,
            _ => return Ok(Some(word)),
        };
    }
    Ok(None)
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

    #[test]
    fn finds_the_program_behind_env() {
        let of = |argument: &str| env_program("/usr/bin/env", Some(argument)).map(|p| p.unwrap_or_default());
        for (argument, program) in [
            ("python3", "python3"),
            ("-S python3 -u", "python3"),
            ("-Spython3 -u", "python3"),
            ("-S A=1 -i -u B node --x", "node"),
            ("-S -S 'x y' z", "x"),
            ("--split-string=-- A=1", "A=1"),
            ("-vS perl", "perl"),
            ("-i", ""),
        ] {
            assert_eq!(of(argument), Ok(program.into()), "{argument}");
        }
        assert!(of("-S ${INTERPRETER} x").is_err() && of("-S 'open").is_err());
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
