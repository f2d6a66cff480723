//! The catalogue of interpreters against the interpreters themselves: whatever command line a row says leads to a file, this machine's own program runs nothing but that file.
//!
//! Command lines are made at random from options, their look-alikes and names; program text that says EVIL is everywhere an interpreter could find some. The fact a newcomer gets wrong: a row that is too strict passes here. What it must let
//! through is listed by hand.

mod support;

use policy::interpreter::Program;
use recompiler_build::interpreter;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use support::Numbers;

/// One interpreter: its path, the text that prints a word it does not contain (some interpreters print what they read), what its command lines are made of, lines that must be let through, and arguments that are commands of its own.
struct Trial {
    program: &'static str,
    print: fn(&str, &str) -> String,
    words: &'static [&'static str],
    fine: &'static [&'static [&'static str]],
    commands: &'static [&'static str],
}

const SHELLS: &[&str] = &[
    "-c",
    "+c",
    "-xc",
    "-ec",
    "-e",
    "-x",
    "+x",
    "-s",
    "-es",
    "-i",
    "-l",
    "-o",
    "+o",
    "-eo",
    "-oe",
    "-co",
    "-so",
    "errexit",
    "stdin",
    "interactive",
    "posix",
    "vi",
    "-O",
    "+O",
    "extglob",
    "--",
    "-",
    "+",
    "---",
    "-n",
    "--norc",
    "--noprofile",
    "--posix",
    "-posix",
    "--login",
    "--rcfile",
    "--init-file",
    "-rcfile",
    "--rcfile=evil",
    "--version",
    "--help",
    "-D",
    "-t",
    "-k",
    "-p",
    "-r",
    "--restricted",
    "--debugger",
    "-E",
    "-V",
    "-C",
];

const TRIALS: &[Trial] = &[
    Trial {
        program: "/bin/bash",
        print: |a, b| format!("echo {a}''{b}"),
        words: SHELLS,
        fine: &[&["good"], &["-e", "-x", "good"], &["-eo", "pipefail", "good"], &["--norc", "--", "good", "-c"], &["+x", "-", "good"]],
        commands: &[],
    },
    Trial {
        program: "/bin/dash",
        print: |a, b| format!("echo {a}''{b}"),
        words: SHELLS,
        fine: &[&["good"], &["-ex", "good", "-c"], &["-o", "errexit", "good"], &["--", "good"]],
        commands: &[],
    },
    Trial {
        program: "/usr/bin/python3",
        print: |a, b| format!("print('{a}' '{b}')"),
        words: &[
            "-c",
            "-Bc",
            "-m",
            "-",
            "--",
            "-i",
            "-u",
            "-s",
            "-E",
            "-I",
            "-P",
            "-x",
            "-X",
            "-W",
            "dev",
            "ignore",
            "-Wignore",
            "-Xdev",
            "-Xfrozen_modules",
            "-h",
            "-V",
            "--version",
            "--help",
            "-?",
            "-q",
            "-O",
            "-OO",
            "-b",
            "-d",
            "-t",
            "-R",
            "--check-hash-based-pycs",
            "default",
            "evil",
            "-mevil",
            "-isu",
            "-uB",
            "--help-all",
            "-S",
        ],
        fine: &[&["good"], &["-u", "good", "-c"], &["-Es", "good"], &["-W", "ignore", "-Xdev", "good"], &["--", "good"]],
        commands: &[],
    },
    Trial {
        program: "/usr/bin/perl",
        print: |a, b| format!("print '{a}'.'{b}';"),
        words: &[
            "-e", "-E", "-we", "-ne", "-", "--", "-w", "-n", "-p", "-l", "-l012", "-0", "-0777", "-00e", "-a", "-F:", "-s", "-S", "-x", "-d", "-D", "-t", "-T", "-U", "-X", "-c",
            "-i", "-i.bak", "-I.", "-Mevil", "-mevil", "-v", "-V", "-h", "-C", "-CS", "-u", "-f", "-W", "evil", "-le",
        ],
        fine: &[&["good"], &["-w", "good", "-e"], &["-T", "-l", "--", "good"]],
        commands: &[],
    },
    Trial {
        program: "/usr/bin/mawk",
        print: |a, b| format!("BEGIN {{ print \"{a}\" \"{b}\" }}"),
        words: &["-f", "-F", "-F:", "-v", "-vx=1", "x=1", "-W", "version", "exec", "--", "-", "-fgood", "--version", "-e", "-i"],
        fine: &[&["-f", "good"], &["-F:", "-fgood", "x=1"], &["-v", "x=1", "-f", "good", "--", "in"]],
        commands: &[],
    },
    Trial { program: "/usr/bin/lua5.4", print: LUA_PRINT, words: LUA, fine: &[&["good"], &["-E", "-W", "good", "-e"], &["-v", "--", "good"]], commands: &[] },
    Trial { program: "/usr/bin/luajit", print: LUA_PRINT, words: LUA, fine: &[&["good"], &["-E", "good", "-e"], &["-v", "--", "good"]], commands: &[] },
    Trial {
        program: "/usr/bin/ruby3.1",
        print: |a, b| format!("puts '{a}'+'{b}'"),
        words: &[
            "-e",
            "-we",
            "-n",
            "-p",
            "-wn",
            "-x",
            "-wx",
            "-s",
            "-S",
            "-r",
            "-r./evil",
            "-wr./evil",
            "-I.",
            "-C.",
            "-X.",
            "-i",
            "-c",
            "-v",
            "-w",
            "-vw",
            "-wU",
            "-W",
            "-We",
            "-W0",
            "-W0e",
            "-W2",
            "-W:no-deprecated",
            "-W:e",
            "-d",
            "-l",
            "-a",
            "-0",
            "-F:",
            "-h",
            "-hw",
            "-y",
            "-K",
            "-Ku",
            "-U",
            "-E",
            "-Eutf-8",
            "utf-8",
            "-T",
            "-",
            "--",
            "--help",
            "--version",
            "--copyright",
            "--verbose",
            "--disable=gems",
            "--disable-gems",
            "--disable",
            "gems",
            "--enable=frozen-string-literal",
            "--jit",
            "--yjit",
            "--dump=insns",
            "--debug",
            "--encoding",
            "--external-encoding=utf-8",
            "evil",
        ],
        fine: &[&["good"], &["-w", "good", "-e"], &["-W0", "--disable=gems", "good"], &["-vU", "--", "good"]],
        commands: &[],
    },
    Trial {
        program: "/usr/bin/node",
        print: |a, b| format!("console.log('{a}'+'{b}')"),
        words: &[
            "-e",
            "--eval",
            "-p",
            "--print",
            "-pe",
            "-c",
            "--check",
            "-i",
            "--interactive",
            "-r",
            "--require",
            "--require=./evil.js",
            "--import",
            "--import=./evil.js",
            "./evil.js",
            "--loader",
            "-",
            "--",
            "-v",
            "-ve",
            "--version",
            "-h",
            "--help",
            "--help=evil",
            "inspect",
            "--inspect-port=0",
            "--test",
            "--input-type=module",
            "--input-type",
            "module",
            "--no-warnings",
            "--use_strict",
            "--stack-size=900",
            "--stack_size=900",
            "--stack-size",
            "--stack-trace-limit=3",
            "--max-old-space-size=64",
            "--max_old_space_size=64",
            "--max-old-space-size",
            "--max-semi-space-size=2",
            "--enable-source-maps",
            "--expose-gc",
            "--expose_gc=evil",
            "--trace-warnings",
            "--trace-uncaught",
            "--trace-deprecation",
            "--throw-deprecation",
            "--pending-deprecation",
            "--preserve-symlinks",
            "--preserve-symlinks-main",
            "--no-deprecation",
            "--no-experimental-fetch",
            "--unhandled-rejections=strict",
            "--unhandled-rejections=throw",
            "--unhandled-rejections",
            "-C",
            "--conditions",
            "--env-file=evil",
            "--watch",
            "--run",
            "evil",
            "--v8-options",
            "--completion-bash",
            "--build-snapshot",
            "--experimental-default-type=module",
        ],
        fine: &[
            &["good"],
            &["--", "good"],
            &["good", "-e"],
            &["--no-warnings", "--max-old-space-size=64", "--enable-source-maps", "good", "-e"],
            &["--stack_trace_limit=3", "--unhandled-rejections=strict", "--trace-uncaught", "--", "good"],
        ],
        commands: &["inspect"],
    },
];

const LUA_PRINT: fn(&str, &str) -> String = |a, b| format!("print('{a}'..'{b}')");

const LUA: &[&str] = &[
    "-e", "-ee", "-l", "-levil", "-lg=evil", "g=evil", "-i", "-v", "-vE", "-Ev", "-vi", "-E", "-EE", "-W", "-WE", "-", "--", "---", "-h", "-?", "-j", "-joff", "-jv", "-b", "-bl",
    "-O", "-O3", "-E-", "-v-", "evil",
];

fn run(trial: &Trial, directory: &Path, line: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "10", trial.program]).args(line).current_dir(directory).env_clear().env("HOME", directory);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the interpreter is installed");
    // It may not read: then the pipe is broken.
    let _ = child.stdin.take().expect("piped").write_all((trial.print)("EV", "IL").as_bytes());
    String::from_utf8_lossy(&child.wait_with_output().expect("it ends").stdout).into_owned()
}

fn read<'a>(trial: &Trial, line: &[&'a str]) -> Program<'a> {
    let argv: Vec<&[u8]> = std::iter::once(&b"interpreter"[..]).chain(line.iter().map(|w| w.as_bytes())).collect();
    interpreter::of(trial.program).expect("the catalogue has it").line.program(&argv, true)
}

fn place(trial: &Trial) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let evil = (trial.print)("EV", "IL");
    for name in ["evil", "evil.py", "evil.pm", "evil.js", "evil.lua", "evil.rb", ".bashrc", ".bash_profile", ".profile", "-c", "-e", "in"] {
        std::fs::write(directory.path().join(name), &evil).unwrap();
    }
    std::fs::write(directory.path().join("good"), (trial.print)("GO", "OD")).unwrap();
    directory
}

#[test]
fn ordinary_command_lines_of_scripts_are_let_through_and_run_them() {
    for trial in TRIALS {
        let directory = place(trial);
        for line in trial.fine {
            let program = read(trial, line);
            assert!(program.inline.is_none() && program.files == [b"good"], "{} {line:?}: {program:?}", trial.program);
            assert!(run(trial, directory.path(), line).contains("GOOD"), "{} {line:?}", trial.program);
        }
    }
}

#[test]
fn a_command_runs_no_file_that_lies_there_and_is_told_from_one() {
    for (trial, command) in TRIALS.iter().flat_map(|t| t.commands.iter().map(move |c| (t, c))) {
        let directory = place(trial);
        std::fs::copy(directory.path().join("good"), directory.path().join(command)).unwrap();
        let (plain, behind, path) = ([*command], ["--", command], format!("./{command}"));
        for line in [&plain[..], &behind[..]] {
            assert!(!run(trial, directory.path(), line).contains("GOOD") && read(trial, line).inline.is_some(), "{} {line:?}", trial.program);
        }
        assert!(run(trial, directory.path(), &[&path]).contains("GOOD") && read(trial, &[&path]).inline.is_none(), "{} {path}", trial.program);
    }
}

#[test]
fn what_a_row_takes_for_a_file_runs_that_file_and_nothing_else() {
    std::thread::scope(|threads| TRIALS.iter().for_each(|trial| drop(threads.spawn(move || random_lines(trial)))));
}

fn random_lines(trial: &Trial) {
    let directory = place(trial);
    let evil = (trial.print)("EV", "IL");
    let (mut numbers, mut let_through) = (Numbers(1), 0);
    for _ in 0..1500 {
        let line: Vec<&str> = (0..1 + numbers.below(5))
            .map(|_| match numbers.below(8) {
                0 | 1 => "good",
                2 => evil.as_str(),
                _ => trial.words[numbers.below(trial.words.len())],
            })
            .collect();
        let program = read(trial, &line);
        // Files other than the one that is listed are refused.
        if program.inline.is_some() || program.files.iter().any(|f| f != b"good") {
            continue;
        }
        let_through += 1;
        let out = run(trial, directory.path(), &line);
        assert!(!out.contains("EVIL"), "{} {line:?} is taken for {program:?}, and prints\n{out}", trial.program);
    }
    assert!(let_through > 50, "{}: only {let_through} lines were tried", trial.program);
}
