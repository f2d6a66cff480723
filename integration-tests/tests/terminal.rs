//! Terminals: the caller's, passed on as it is, and the container's own (`--tty`), each on a real pseudo-terminal.

use integration_tests::pty::Pty;
use integration_tests::{Running, Setup, finish, show};
use std::io::Write;
use std::time::Duration;

const TERMINAL: &str = "/usr/local/lib/twins/terminal";

/// `vkernel run` on a terminal of the test's own, which is the caller's.
fn caller(options: &[&str], program: &[&str]) -> Pty {
    Pty::start(Setup::get().vkernel_run(options, program), 80)
}

/// Size, keys, lines and signals, whichever terminal the guest has.
fn behaves_as_a_terminal(options: &[&str]) {
    let mut caller = caller(options, &[TERMINAL]);
    caller.run.expect("terminal 111 foreground 1");
    caller.resize(50, 132);
    caller.run.expect("signal WINCH 50x132");
    caller.send("\x03");
    caller.run.expect("signal INT");
    caller.send("\x1c");
    caller.run.expect("signal QUIT");
    caller.send("some words\n");
    caller.run.expect("line some words");
    caller.run.signal(libc::SIGTERM);
    caller.run.expect("signal TERM");
    caller.send("end\n");
    assert_eq!(caller.run.wait(), 21);
    assert!(caller.is_cooked());
}

#[test]
fn the_callers_terminal_is_the_guests_with_its_size_and_its_keys() {
    behaves_as_a_terminal(&[]);
}

#[test]
fn a_terminal_of_the_containers_own_has_the_callers_size_and_keys() {
    behaves_as_a_terminal(&["--tty"]);
}

fn controls_its_jobs(options: &[&str]) {
    let mut caller = caller(options, &["/bin/bash", "--norc", "--noprofile", "-i"]);
    caller.send("PS1='ready> '\n");
    caller.run.expect("hready> ");
    caller.send("sleep 30\n");
    caller.run.expect("sleep 30");
    std::thread::sleep(Duration::from_millis(300));
    caller.send("\x1a");
    caller.run.expect("Stopped");
    caller.send("fg\n");
    caller.run.expect("sleep 30\r\n");
    std::thread::sleep(Duration::from_millis(300));
    caller.send("\x03");
    caller.run.expect("ready> ");
    caller.send("echo code $?; cat <(echo done)\n");
    caller.run.expect("code 130");
    caller.run.expect("done");
    caller.send("exit 5\n");
    assert_eq!(caller.run.wait(), 5);
    assert!(caller.is_cooked());
}

#[test]
fn an_interactive_shell_controls_its_jobs_on_the_callers_terminal() {
    controls_its_jobs(&[]);
}

#[test]
fn an_interactive_shell_controls_its_jobs_on_a_terminal_of_its_own() {
    controls_its_jobs(&["-t"]);
}

#[test]
fn a_terminal_of_its_own_works_through_pipes() {
    let mut run = Running::start(Setup::get().vkernel_run(&["--tty"], &[TERMINAL]));
    run.expect("terminal 111 foreground 1\r\n");
    let mut keys = run.child.stdin.take().expect("piped");
    keys.write_all(b"\x03").expect("the relay reads");
    run.expect("signal INT\r\n");
    keys.write_all(b"end\n").expect("the relay reads");
    assert_eq!(run.wait(), 21);
}

#[test]
fn all_output_arrives_and_the_end_of_input_ends_a_reader() {
    let out = finish(Setup::get().vkernel_run(&["-t"], &["/bin/bash", "-c", "cat; for ((i=0;i<20000;i++)); do echo line $i; done; exit 3"]));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!((out.status.code(), text.matches("line ").count()), (Some(3), 20000), "{}", &text[text.len().saturating_sub(200)..]);
    assert!(text.ends_with("line 19999\r\n"));
}

#[test]
fn the_containers_own_terminal_is_in_its_own_dev_and_belongs_to_the_user() {
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && [ -O /dev/pts/0 ] && readlink /proc/self/fd/0 && echo through > /dev/tty && ls /dev/pts";
    for user in ["0", "65534"] {
        let out = finish(Setup::get().vkernel_run(&["--tty", "--user", user], &["/bin/bash", "-c", script]));
        let text = String::from_utf8_lossy(&out.stdout).replace('\r', "");
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["/dev/pts/0", "through", "0", "ptmx"], "as {user}: {}", show(&out));
    }
    // Without --tty the program has none here.
    let out = finish(Setup::get().vkernel_run(&[], &["/bin/bash", "-c", "[ -t 0 ] || echo none; ls /dev/pts"]));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "none\nptmx\n", "{}", show(&out));
}
