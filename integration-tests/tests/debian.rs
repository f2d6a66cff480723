//! Debian's own programs as twins.

use integration_tests::{Setup, finish, show, twin};

fn sh(script: &str) {
    twin(&["/bin/bash", "-c", script]);
}

#[test]
fn ls_lists_directories_with_owners_sizes_and_times() {
    twin(&["/usr/bin/ls", "-l", "/etc", "/usr", "/usr/lib"]);
}

#[test]
fn ls_of_the_root_equals_a_plain_chroots_byte_for_byte() {
    let setup = Setup::get();
    let mut native = std::process::Command::new("chroot");
    native.arg(&setup.rootfs).args(["/usr/bin/ls", "-l", "/"]);
    let guest = finish(setup.vkernel_run(&["--bare"], &["/usr/bin/ls", "-l", "/"]));
    assert_eq!(show(&guest), show(&finish(native)));
}

#[test]
fn pipes_fork_exec_wait_and_exit_codes_work_in_bash() {
    sh("for f in a b c; do echo $f; done | sort -r | head -2; ls /nonexistent; echo $?");
}

#[test]
fn bash_expands_substitutes_and_computes() {
    sh(
        r#"x=(one two three); echo "${x[@]^^}" $((7**13 % 1000)) $(printf '%s-' {a..e}); [[ foobar =~ o+b ]] && echo "${BASH_REMATCH[0]}"; declare -A m=([k]=v); echo ${m[k]} ${#x[*]}"#,
    );
}

#[test]
fn bash_traps_and_waits() {
    sh(r#"trap 'echo usr1' USR1; (sleep 0.2; kill -USR1 $$) & wait $!; echo "wait $?"; trap 'echo exit' EXIT; (exit 3) & wait $!; echo "child $?""#);
}

#[test]
fn exit_codes_and_signals_of_children_arrive() {
    sh("exec 2>/dev/null; bash -c 'exit 42'; echo $?; bash -c 'kill -TERM $$'; echo $?; bash -c 'kill -SEGV $$' 2>/dev/null; echo $?; sleep 5 & kill $!; wait $!; echo $?");
}

#[test]
fn sort_grep_and_sed_give_the_same_bytes() {
    sh(
        "seq 1 3000 | sort -R --random-source=/etc/passwd | sort -n | tail -3; ls -R /usr/share 2>/dev/null | grep -c e; sed -n 's/\\(r[o]*t\\):x/<\\1>/p' /etc/passwd; echo abcabc | sed -E 's/(b)(c)/\\2\\1/g; y/a/A/'",
    );
}

#[test]
fn files_are_made_moved_and_removed() {
    sh("cd /tmp && mkdir -p d/e && echo text > d/e/f && cp d/e/f d/g && mv d/g d/h && ln -s h d/l && cat d/l && chmod 640 d/h && stat -c '%a %s %F' d/h d/l d && rm -r d && ls");
}

#[test]
fn checksums_of_files_are_equal() {
    sh("sha256sum /usr/bin/bash /usr/lib/x86_64-linux-gnu/libc.so.6 /etc/passwd; wc /etc/passwd; cut -d: -f1,3 /etc/passwd | tr a-z A-Z | head -4");
}

#[test]
fn numbers_and_dates_are_formatted_the_same() {
    sh("printf '%.10g %e %a %d %x %o\\n' 3.14159265358979 12345.678 0.1 -5 255 8; date -u -d @1700000000 '+%F %T %j %U'; seq 0.1 0.1 0.7 | tr '\\n' ' '");
}

#[test]
fn here_documents_and_background_jobs_work() {
    sh("cat <<E | while read -r a b; do echo \"$b $a\"; done\n1 one\n2 two\nE\n { for i in 1 2 3; do (sleep 0.0$i; echo $i) & done; wait; echo all; } | sort; echo done");
}

#[test]
fn a_script_runs_under_its_interpreter() {
    twin(&["/usr/bin/ldd", "--version"]);
}
