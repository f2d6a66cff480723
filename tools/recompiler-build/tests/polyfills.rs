//! The catalogue of polyfills against the catalogue of interpreters: a command line that is judged to run a file runs that file after its arguments were changed, and one that is judged to run nothing runs nothing.
//!
//! Command lines are made at random from what either catalogue knows, look-alikes and names. The fact a newcomer gets wrong: the two need not agree on anything else. What is judged to be program text may become anything.

mod support;

use policy::arguments::{Argument, Refusal};
use policy::interpreter::Program;
use recompiler_build::{interpreter, polyfill};
use std::collections::BTreeSet;
use std::process::Command;
use support::Numbers;

/// Of each row a file that it replaces, and the options that leave a file in charge as the module has them.
const ROWS: [(&str, &[&str]); 3] = [("node", &["--std"]), ("python3.11", &[]), ("luajit", &[])];

const NAMES: [&str; 12] = ["good", "./good", "evil", "-", "--", "---", "", "--=", "-e=1", "--eval=", "inspect", "/dev/stdin"];

fn judged<'a>(file: &str, argv: &[&'a [u8]]) -> Program<'a> {
    interpreter::of(file).expect("the catalogue has it").line.program(argv, true)
}

fn changed(file: &str, argv: &[&[u8]], on_terminal: bool) -> Result<Vec<Argument>, Refusal> {
    polyfill::of(file).expect("the catalogue has it").arguments.applied(argv, on_terminal)
}

/// Everything that either catalogue says of a program, letters by themselves and together, values in every place.
fn words(file: &str) -> Vec<String> {
    let (line, arguments) = (&interpreter::of(file).expect("a row").line, &polyfill::of(file).expect("a row").arguments);
    let lists = [&line.words, &line.values, &line.files, &line.ends, &line.commands];
    let known = lists.into_iter().flatten().chain(arguments.options.iter().flat_map(|o| &o.names));
    let mut words: BTreeSet<String> = known.flat_map(|name| name.split(' ')).map(|word| word.replace('*', "x")).collect();
    let letters: Vec<char> = line.flags.chars().chain("cdeilmprvEWX".chars()).collect();
    words.extend(letters.iter().map(|l| format!("-{l}")));
    words.extend(letters.windows(2).flat_map(|pair| [format!("-{}{}", pair[0], pair[1]), format!("-{}{}", pair[1], pair[0])]));
    let valued: Vec<String> = words.iter().filter(|w| w.len() > 1 && w.starts_with('-')).flat_map(|w| [format!("{w}=good"), format!("{w}evil")]).collect();
    words.extend(valued);
    words.extend(NAMES.map(str::to_owned));
    words.into_iter().collect()
}

#[test]
fn what_is_judged_to_run_a_file_runs_it_and_nothing_else() {
    for (file, own) in ROWS {
        let (words, mut numbers, mut ran, mut ended) = (words(file), Numbers(1), 0, 0);
        for _ in 0..100_000 {
            let line: Vec<&str> = (0..1 + numbers.below(6)).map(|_| if numbers.below(4) == 0 { "good" } else { &words[numbers.below(words.len())] }).collect();
            let argv: Vec<&[u8]> = std::iter::once(file).chain(line.iter().copied()).map(str::as_bytes).collect();
            let program = judged(file, &argv);
            if program.inline.is_some() {
                continue;
            }
            let found = changed(file, &argv, numbers.below(2) == 0)
                .unwrap_or_else(|r| panic!("{file} {line:?} is judged as {program:?}, and refused: {}", String::from_utf8_lossy(&r.line)));
            let place = found.iter().position(|a| matches!(a, Argument::File(_)));
            let before: Vec<&[u8]> = found[..place.unwrap_or(found.len())].iter().map(|a| if let Argument::Text(t) = a { &t[..] } else { unreachable!() }).collect();
            let Some(named) = program.files.first() else {
                // `--version` and its like: whatever follows is not read any more.
                ended += 1;
                let first = before[1..].iter().position(|word| !own.iter().any(|o| o.as_bytes() == *word) && ends(file, word));
                let passed = &before[1..1 + first.unwrap_or_else(|| panic!("{file} {line:?}: {found:?}"))];
                assert!(passed.iter().all(|word| own.iter().any(|o| o.as_bytes() == *word) || harmless(file, &argv, word)), "{file} {line:?}: {found:?}");
                continue;
            };
            ran += 1;
            let Some(place) = place else { panic!("{file} {line:?} is judged as {program:?}, and becomes {found:?}") };
            assert_eq!(found[place], Argument::File(named.to_vec()), "{file} {line:?}");
            assert!(before[1..].iter().all(|word| own.iter().any(|o| o.as_bytes() == *word) || harmless(file, &argv, word)), "{file} {line:?}: {found:?}");
            let rest: Vec<Argument> = argv[argv.len() - (found.len() - place - 1)..].iter().map(|word| Argument::Text(word.to_vec())).collect();
            assert_eq!(found[place + 1..], rest, "{file} {line:?}: what follows the file is the caller's");
            assert_eq!(argv[argv.len() - rest.len() - 1], *named, "{file} {line:?}");
        }
        let has_ends = !interpreter::of(file).expect("a row").line.ends.is_empty();
        assert!(ran > 1000 && (ended > 50 || !has_ends), "{file}: only {ran} lines ran a file, and {ended} nothing");
    }
}

/// What the caller wrote and the row of interpreters knows leaves the file in charge, of the replaced program: the module must have the same word for the same. QuickJS knows `--` alone.
fn harmless(file: &str, argv: &[&[u8]], word: &[u8]) -> bool {
    argv[1..].contains(&word) && (file != "node" || word == b"--")
}

fn ends(file: &str, word: &[u8]) -> bool {
    let line = &interpreter::of(file).expect("a row").line;
    std::str::from_utf8(word).is_ok_and(|word| line.ends.contains(word))
}

#[test]
fn every_word_that_is_judged_to_leave_a_file_in_charge_does() {
    for (file, own) in ROWS {
        for word in &interpreter::of(file).expect("a row").line.words {
            let argv: Vec<Vec<u8>> = std::iter::once(file).chain(word.split(' ')).chain(["app", "-e"]).map(|w| w.replace('*', "1").into_bytes()).collect();
            let argv: Vec<&[u8]> = argv.iter().map(|w| &w[..]).collect();
            assert_eq!(judged(file, &argv).files, [b"app"], "{file} {word}");
            let found = changed(file, &argv, false).unwrap_or_else(|r| panic!("{file} {word}: {r:?}"));
            assert_eq!(found[found.len() - 2..], [Argument::File(b"app".to_vec()), Argument::Text(b"-e".to_vec())], "{file} {word}");
            assert!(found.len() - 3 <= own.len() + word.split(' ').count(), "{file} {word}: {found:?}");
        }
    }
}

/// For modules that are the interpreter itself, compiled for WASI: what it does with the changed arguments is what it does with the caller's.
#[test]
fn this_machines_interpreters_do_the_same_with_changed_arguments() {
    let rows: [(&str, &str, &str, &[&str]); 2] = [
        (
            "/usr/bin/python3",
            "import sys; print(__name__, sys.argv[1:])\n",
            "import os, sys; print(os.path.basename(sys.argv[0]), sys.argv[1:], sys.flags.dont_write_bytecode, sys.flags.optimize, sys.warnoptions)\n",
            &[
                "-B",
                "-O",
                "-BO",
                "-c",
                "-Bc",
                "-m",
                "-W",
                "-Wignore",
                "-OW",
                "-X",
                "dev",
                "utf8",
                "-Xutf8",
                "--check-hash-based-pycs",
                "default",
                "--",
                "-",
                "-u",
                "-V",
                "--version",
                "-E",
                "ignore",
                "sub/app.py",
                "mod",
                "print(1)",
            ],
        ),
        ("/usr/bin/lua5.4", "print('mod', ...)\n", "print('app', ...)\n", &["-e", "-eprint(3)", "-l", "-lmod", "-E", "-W", "-v", "--", "-", "mod", "print(1)", "-W", "sub/app.py"]),
    ];
    for (program, module, app, words) in rows {
        let row = if program.contains("python") { "python3" } else { "luajit" };
        let directory = tempfile::tempdir().unwrap();
        let here = std::fs::canonicalize(directory.path()).unwrap();
        std::fs::create_dir(here.join("sub")).unwrap();
        for (name, text) in [("mod.py", module), ("mod.lua", module), ("app.py", app), ("sub/app.py", app)] {
            std::fs::write(here.join(name), text).unwrap();
        }
        let run = |line: &[String]| {
            let input = here.join("input");
            std::fs::write(&input, "print('input')\n").unwrap();
            let mut command = Command::new("timeout");
            command.args(["-s", "KILL", "10", program]).args(line).current_dir(&here).env_clear().env("LUA_PATH", "./?.lua").stdin(std::fs::File::open(input).unwrap());
            let out = command.output().expect("the interpreter is installed");
            (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let (mut numbers, mut files) = (Numbers(2), 0);
        for _ in 0..250 {
            let line: Vec<&str> = (0..1 + numbers.below(5)).map(|_| if numbers.below(3) == 0 { "app.py" } else { words[numbers.below(words.len())] }).collect();
            let argv: Vec<&[u8]> = std::iter::once(program).chain(line.iter().copied()).map(str::as_bytes).collect();
            let whole = |argument: Argument| match argument {
                Argument::Text(text) => String::from_utf8(text).unwrap(),
                Argument::File(name) => {
                    files += 1;
                    format!("{}/{}", here.display(), String::from_utf8(name).unwrap())
                }
            };
            let found: Vec<String> = changed(row, &argv, false).unwrap().into_iter().skip(1).map(whole).collect();
            let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
            assert_eq!(run(&found), run(&line), "{program} {line:?} becomes {found:?}");
        }
        assert!(files > 50, "{program}: only {files} lines named a file");
    }
}
