//! Languages with calling conventions of their own, as Debian ships them: they run in the resumable form alone. Go (`age`: goroutines on several threads, a garbage collector,
//! preemption by signals), OCaml (`unison`) and Haskell (`cpphs`: a heap above 8 GiB, a timer's signals).

use integration_tests::twin;

const KEY: &str = "/usr/local/share/twins/age.key";
const SECRET: &str = "/usr/local/share/twins/secret.age";

#[test]
fn a_go_program_derives_the_same_key() {
    twin(&["/usr/bin/age-keygen", "-y", KEY]);
}

#[test]
fn a_go_program_decrypts_what_it_encrypted_natively() {
    twin(&["/usr/bin/age", "--decrypt", "--identity", KEY, SECRET]);
}

#[test]
fn a_go_program_reports_a_damaged_file() {
    twin(&["/bin/bash", "-c", &format!("head -c 1000 {SECRET} | age --decrypt --identity {KEY}; echo $?")]);
}

#[test]
fn an_ocaml_program_synchronises_two_directories() {
    let sync = "HOME=/tmp unison-2.52 -batch -ui text /tmp/a /tmp/b > /dev/null 2>&1; echo $?";
    twin(&[
        "/bin/bash",
        "-c",
        &format!("mkdir -p /tmp/a/x /tmp/b; echo one > /tmp/a/x/1; echo two > /tmp/a/2; {sync}; rm /tmp/b/2; echo more >> /tmp/a/x/1; {sync}; cd /tmp/b; ls -R; cat x/1"),
    ]);
}

#[test]
fn a_haskell_program_preprocesses() {
    let source = r#"printf '#define N(x) (x + 1)\n#ifdef N\nmain = print N(41)\n#else\nmain = fail\n#endif\n' > /tmp/in.hs"#;
    let many = "for k in $(seq 3000); do cat /tmp/in.hs; done > /tmp/many.hs";
    twin(&["/bin/bash", "-c", &format!("{source}; {many}; cpphs /tmp/in.hs; cpphs --noline /tmp/many.hs | sha256sum; cpphs /tmp/missing.hs; echo $?")]);
}
