//! Help, manual pages and completions come from the command lines, and the shipped pages are those of this build. `BLESS=1` rewrites them.

use integration_tests::Setup;
use std::path::{Path, PathBuf};
use std::process::Command;

fn output(program: &Path, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect("the program starts");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

fn page(name: &str, text: &str) {
    assert!(text.contains("\n.TH ") || text.starts_with(".TH "), "{name} is no manual page");
    file(&format!("man/{name}"), text);
}

fn file(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).expect("the page is writable");
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shipped == text, "{name} is not that of this build: run BLESS=1 cargo xtask test the_shipped_manual");
}

#[test]
fn the_shipped_manual_pages_are_those_of_the_programs() {
    let setup = Setup::get();
    page("vkernel.1", &output(&setup.vkernel, &["manual"]));
    page("vkernel-serve.8", &output(&setup.vkernel, &["manual", "serve"]));
    page("vkernel-api.7", &output(&setup.vkernel, &["manual", "api"]));
    file("client/schema.json", &output(&setup.vkernel, &["serve", "--schema"]));
    page("vkernel-syscalls.7", &output(&setup.vkernel, &["syscalls", "--man"]));
    page("recompiler-build.1", &output(&setup.recompiler, &["man"]));
}

#[test]
fn help_and_manual_show_examples_that_name_real_options() {
    let setup = Setup::get();
    for (program, manual) in [(&setup.vkernel, "manual"), (&setup.recompiler, "man")] {
        let help = output(program, &["--help"]);
        let name = program.file_name().expect("a program").to_string_lossy().into_owned();
        let examples: Vec<&str> = help.split("Examples:\n").nth(1).expect("--help ends with examples").lines().filter(|l| l.trim_start().starts_with(&name)).collect();
        assert!(examples.len() >= 3, "{help}");
        let text = output(program, &[manual]).replace('\\', "");
        for example in examples {
            assert!(text.contains(example.trim()), "the manual lacks: {example}");
            let own = example.split(" -- ").next().expect("a first part");
            let words: Vec<&str> = own.split_whitespace().collect();
            let command: Vec<&str> = words.get(1).filter(|w| !w.starts_with('-')).into_iter().copied().chain(["--help"]).collect();
            let help = output(program, &command);
            for option in words.iter().filter(|w| w.starts_with("--")) {
                assert!(help.contains(option), "{name} {command:?} does not know {option}");
            }
        }
    }
}

#[test]
fn completions_know_every_option_of_a_build() {
    let script = output(&Setup::get().recompiler, &["completions", "bash"]);
    for option in ["--rootfs", "--include", "--manifest", "--key", "keygen", "verify"] {
        assert!(script.contains(option), "no {option} in the completion script");
    }
}
