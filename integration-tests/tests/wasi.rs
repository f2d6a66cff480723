//! WASI programs: the same module under wasmtime and under `vkernel run`, and what a release of such programs refuses.
//!
//! The fact a newcomer gets wrong: both sides get a root directory of their own, made alike, because the programs write.

use integration_tests::{Setup, finish, install, show};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Name of what `cargo xtask test` made for these tests.
fn made(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run `cargo xtask test` as root")))
}

fn module(name: &str) -> PathBuf {
    made("VKERNEL_WASI").join(format!("{name}.wasm"))
}

/// A signed release in a directory of its own.
struct Release {
    dir: tempfile::TempDir,
}

const ALL: [&str; 8] = ["hello", "files", "functions", "traps", "jumps-legacy", "jumps-standard", "throwing-legacy", "throwing-standard"];

impl Release {
    /// Of these modules, with more options for `recompiler-build`.
    fn bundle(names: &[&str], options: &[&str]) -> Release {
        let release = Release::empty();
        let mut c = release.command("bundle");
        c.args(names.iter().map(|n| module(n))).args(options);
        let out = finish(c);
        assert!(out.status.success(), "{}", show(&out));
        release
    }

    /// A key, and nothing else yet.
    fn empty() -> Release {
        let release = Release { dir: tempfile::tempdir().expect("a directory can be made") };
        assert!(finish(release.keygen()).status.success());
        release
    }

    fn keygen(&self) -> Command {
        let mut c = Command::new(Setup::get().recompiler);
        c.arg("keygen").arg(self.at("build.key"));
        c
    }

    fn command(&self, command: &str) -> Command {
        let mut c = Command::new(Setup::get().recompiler);
        c.args([command].into_iter().filter(|c| !c.is_empty()));
        c.arg("--output").arg(self.at("container.wasm")).arg("--manifest").arg(self.at("manifest.json")).arg("--key").arg(self.at("build.key"));
        // The one of the release that other tests use: bash is compiled.
        c.arg("--cache").arg(made("VKERNEL_WASI").with_file_name("cache"));
        c
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, root: &Path, options: &[&str], program: &[&str]) -> Command {
        let mut c = Command::new(Setup::get().vkernel);
        c.arg("run").arg(self.at("manifest.json")).arg("--rootfs").arg(root).arg("--key").arg(self.at("build.pub"));
        c.args(["--writable", "--env", "GREETING=hello"]).args(options).arg("--").args(program);
        c
    }
}

/// The programs of all tests that change none of them.
fn shared() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| Release::bundle(&ALL, &[]))
}

/// A root directory with the modules in /usr/bin and what `functions.c` expects.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let at = |name: &str| dir.path().join(name);
    for name in ["data/dir", "data/dir3", "dev", "etc", "proc", "sys", "tmp", "usr/bin"] {
        std::fs::create_dir_all(at(name)).expect("made");
    }
    let put = |name: &str, text: &str| std::fs::write(at(name), text).expect("written");
    put("data/file", "content of the file\n");
    put("etc/passwd", "x\n");
    for name in ["data/dir/entry1", "data/dir/entry2", "data/dir/entry3"] {
        put(name, "");
    }
    for (to, name) in [("file", "inside"), ("../../etc/passwd", "up"), ("/data/file", "absolute"), ("nothing", "dangling"), ("loop", "loop"), ("../..", "door")] {
        symlink(to, at("data").join(name)).expect("linked");
    }
    for name in ALL {
        install(&module(name), &at("usr/bin").join(format!("{name}.wasm")));
    }
    dir
}

/// Runs with an input, and no longer than a minute.
fn fed(c: Command, input: &str) -> Output {
    let mut timed = Command::new("timeout");
    timed.args(["--kill-after=5", "60"]).arg(c.get_program()).args(c.get_args());
    let mut child = timed.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("timeout starts");
    // A program that reads nothing closes the pipe.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// Under wasmtime and under vkernel.
fn both(program: &str, arguments: &[&str], input: &str) -> [Output; 2] {
    let (theirs, ours) = (root(), root());
    let mut oracle = Command::new(made("VKERNEL_ORACLE"));
    oracle.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/wasi/oracle.py")).arg(theirs.path()).arg(module(program)).args(arguments);
    let name = format!("{program}.wasm");
    let run = shared().run(ours.path(), &[], &[&[name.as_str()], arguments].concat());
    [fed(oracle, input), fed(run, input)]
}

/// Asserts that they agree in everything.
fn twin(program: &str, arguments: &[&str], input: &str) {
    let [theirs, ours] = both(program, arguments, input).map(|o| show(&o));
    let first = theirs.lines().zip(ours.lines()).find(|(a, b)| a != b);
    assert!(theirs == ours, "{program} {arguments:?} differs first at {first:?}\n--- vkernel\n{ours}\n--- wasmtime\n{theirs}");
}

#[test]
fn arguments_environment_streams_and_status_are_the_programs() {
    twin("hello", &[], "");
    twin("hello", &["3", "two words", ""], "one\ntwo\nwithout an end");
    twin("hello", &["125"], "");
}

#[test]
fn every_function_answers_as_under_wasmtime() {
    let [theirs, _] = both("functions", &[], "");
    assert_eq!(theirs.status.code(), Some(42), "the oracle went through all of it: {}", show(&theirs));
    twin("functions", &[], "");
}

#[test]
fn the_c_library_works_on_it_as_on_wasmtime() {
    twin("files", &[], "");
}

#[test]
fn traps_end_the_program_with_a_line_and_a_record_and_what_is_no_trap_goes_on() {
    for how in ["frames", "exit", "huge", "grow"] {
        twin("traps", &[how], "");
    }
    for how in ["unreachable", "overflow", "load", "store", "copy", "signature", "null", "stack", "abort"] {
        let [theirs, ours] = both("traps", &[how], "");
        assert_eq!((theirs.status.code(), &theirs.stdout), (Some(134), &ours.stdout), "{how}: {}", show(&theirs));
        assert_eq!(ours.status.code(), Some(134), "{how}: {}", show(&ours));
        let text = String::from_utf8_lossy(&ours.stderr);
        assert!(text.starts_with("vkernel: traps.wasm: ") && text.lines().count() == 1, "{how}: {text}");
    }
    let (dir, log) = (root(), tempfile::NamedTempFile::new().expect("made"));
    let audit = log.path().to_str().expect("UTF-8").to_owned();
    let out = finish(shared().run(dir.path(), &["--audit", &audit], &["traps.wasm", "abort"]));
    assert_eq!(out.status.code(), Some(134));
    let records = std::fs::read_to_string(log.path()).expect("written");
    assert_eq!(records.matches("\"wasi-trap\"").count(), 1, "{records}");
}

/// wasmtime has the standard form only; natively the program was compiled by gcc.
fn throws_alike(program: &str, ways: &[&[&str]], deaths: &[&str]) {
    let names = ["legacy", "standard"].map(|form| format!("{program}-{form}"));
    for arguments in ways {
        twin(&names[1], arguments, "");
        let mut native = Command::new(module(program).with_extension(""));
        native.args(*arguments);
        let native = finish(native);
        assert!(native.status.code().is_some_and(|code| code != 0 && code < 10), "{}", show(&native));
        for name in &names {
            let ours = finish(shared().run(root().path(), &[], &[&[format!("{name}.wasm").as_str()], *arguments].concat()));
            assert_eq!(show(&native), show(&ours), "{name} {arguments:?}");
        }
    }
    for death in deaths {
        let [theirs, ours] = both(&names[1], &[death], "");
        for ours in [ours, finish(shared().run(root().path(), &[], &[&format!("{}.wasm", names[0]), death]))] {
            assert_eq!((theirs.status.code(), ours.status.code()), (Some(134), Some(134)), "{death}: {}{}", show(&theirs), show(&ours));
            assert_eq!(ours.stdout, theirs.stdout);
        }
    }
}

#[test]
fn jumps_land_where_they_do_natively_and_one_that_nobody_waits_for_is_the_end() {
    throws_alike("jumps", &[&[], &["exit"]], &["nobody"]);
}

#[test]
fn exceptions_of_cpp_are_caught_where_they_are_natively_and_one_that_nobody_catches_is_the_end() {
    throws_alike("throwing", &[&[]], &["nobody", "terminate"]);
}

#[test]
fn a_changed_module_does_not_run_and_the_unchanged_one_does_from_anywhere() {
    let dir = root();
    let at = |name: &str| dir.path().join(name);
    install(&module("hello"), &at("tmp/elsewhere"));
    let mut bytes = std::fs::read(module("hello")).expect("read");
    // The first of a custom section's bytes: still a module.
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(at("changed"), &bytes).expect("written");
    install(&at("changed"), &at("tmp/changed"));
    assert_eq!(finish(shared().run(dir.path(), &[], &["/tmp/elsewhere", "9"])).status.code(), Some(9));
    assert_eq!(finish(shared().run(dir.path(), &[], &["/tmp/changed", "9"])).status.code(), Some(126));
}

#[test]
fn a_programs_list_holds_for_its_functions() {
    let policy = |calls: &str| format!("{{\"default_syscalls\": [{calls}]}}");
    let file = tempfile::NamedTempFile::new().expect("made");
    let dir = root();
    let with = |calls: &str| {
        std::fs::write(file.path(), policy(calls)).expect("written");
        let release = Release::bundle(&["hello"], &["--policy", file.path().to_str().expect("UTF-8")]);
        let audit = release.at("audit.jsonl");
        let out = finish(release.run(dir.path(), &["--audit", audit.to_str().expect("UTF-8")], &["hello.wasm", "5"]));
        (out, std::fs::read_to_string(audit).expect("written"))
    };
    let (out, log) = with(r#""close", "fcntl", "fstat", "lseek", "openat", "readv", "writev""#);
    assert_eq!(out.status.code(), Some(5), "{}", show(&out));
    assert!(String::from_utf8_lossy(&out.stdout).contains("argument 1: 5") && !log.contains("syscall-not-listed"), "{}\n{log}", show(&out));
    let (out, log) = with(r#""close", "fcntl", "fstat", "lseek", "openat", "readv""#);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(5), 0), "{}", show(&out));
    assert!(log.contains("syscall-not-listed") && log.contains("writev"), "{log}");
}

#[test]
fn a_shell_starts_programs_of_both_kinds() {
    let setup = Setup::get();
    let release = Release::empty();
    let hello = module("hello");
    let mut build = release.command("");
    build.arg("--rootfs").arg(&setup.rootfs).args(["--include", "/bin/bash", "/usr/bin/wc", "/usr/bin/sleep"]).arg("--add-tool").arg(format!("greet={}", hello.display()));
    let out = build.output().expect("the program starts");
    assert!(out.status.success(), "{}", show(&out));
    // Files are linked, so it must be where they are.
    let dir = tempfile::tempdir_in(setup.rootfs.parent().expect("the image has a parent")).expect("a directory can be made");
    let rootfs = dir.path().join("rootfs");
    assert!(Command::new("cp").args(["--archive", "--link"]).arg(&setup.rootfs).arg(&rootfs).status().expect("cp runs").success());
    install(&hello, &rootfs.join("usr/bin/greet"));
    let script = "printf 'a\\nb\\n' | greet 4 2> /dev/null | wc -l; echo ${PIPESTATUS[@]}; cd /etc; greet 2> /dev/null < /dev/null; echo $?; (exec greet 7 < /dev/null > /dev/null 2>&1); echo $?
        exec 3> >(greet > /dev/null 2>&1); pid=$!; kill -TERM $pid; wait $pid; echo $?";
    let out = finish(release.run(&rootfs, &[], &["/bin/bash", "-c", script]));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "4\n0 4 0\nGREETING=hello\n0\n7\n143\n", "{}", show(&out));
    assert!(finish(release.verify()).status.success());
}

#[test]
fn a_file_that_makes_code_at_run_time_runs_as_its_polyfill_also_under_a_script() {
    let dir = root();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("tmp/engine.c"), "void _ZN2v88internal5Flush(void) {}\nint main(void) { _ZN2v88internal5Flush(); return 99; }\n").expect("written");
    let gcc = Command::new("gcc").args(["-static", "-o"]).arg(at("tmp/node")).arg(at("tmp/engine.c")).status();
    assert!(gcc.expect("gcc is installed").success());
    install(&at("tmp/node"), &at("usr/bin/node"));
    std::fs::write(at("tmp/script"), "#!/usr/bin/node\n").expect("written");
    install(&at("tmp/script"), &at("usr/bin/tool"));
    let build = |options: &[&str]| {
        let release = Release::empty();
        let mut c = release.command("");
        c.arg("--rootfs").arg(dir.path()).args(["--include", "/usr/bin/node", "/usr/bin/tool"]).args(options);
        (finish(c), release)
    };
    let (out, _) = build(&[]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("jit: /usr/bin/node contains V8"), "{}", show(&out));
    let (out, release) = build(&["--polyfill", &format!("/usr/bin/node={}", module("hello").display())]);
    assert!(out.status.success(), "{}", show(&out));
    let printed = |program: &[&str]| String::from_utf8_lossy(&finish(release.run(dir.path(), &[], program)).stdout).into_owned();
    let called = |program: &[&str]| printed(program).lines().map(|line| line.split_once(": ").map_or(line, |(_, argument)| argument).to_owned() + "|").collect::<String>();
    assert_eq!(called(&["node", "--no-warnings", "--eval", "1", "x", "--eval"]), "--std|-C|-e|1|x|--eval|GREETING=hello|");
    assert_eq!(called(&["node", "-", "-e", "2"]), "--std|-C|-e|std.evalScript(std.in.readAsString())|--|-e|2|GREETING=hello|");
    assert_eq!(called(&["node"]), "--std|-C|-e|std.evalScript(std.in.readAsString())|--|GREETING=hello|");
    assert_eq!(printed(&["tool", "x"]), "argument 1: --std\nargument 2: /usr/bin/tool\nargument 3: x\nGREETING=hello\n");
    // By names that only the caller understands, and node's own.
    let below = |directory: &str, file: &str| {
        let out = finish(release.run(dir.path(), &["--workdir", directory], &["node", "--max-old-space-size=64", file, "./file"]));
        String::from_utf8_lossy(&out.stdout).lines().nth(1).unwrap_or_default().to_owned()
    };
    std::fs::write(at("data/app.js"), "").expect("written");
    std::fs::write(at("data/dir/index.js"), "").expect("written");
    for (directory, file, path) in [
        ("/data", "file", "/data/file"),
        ("/data", "app", "/data/app.js"),
        ("/data", "./dir", "/data/dir/index.js"),
        ("/data/dir", "../inside", "/data/file"),
        ("/data/dir", "../nothing.js", "/data/nothing.js"),
        ("/", "data/app.js", "/data/app.js"),
        ("/etc", "/data/app.js", "/data/app.js"),
    ] {
        assert_eq!(below(directory, file), format!("argument 2: {path}"), "{directory} {file}");
    }
    let refused = finish(release.run(dir.path(), &[], &["node", "--frob", "/usr/bin/tool"]));
    assert_eq!((refused.status.code(), &refused.stdout[..], &refused.stderr[..]), (Some(9), &b""[..], &b"node: bad option: --frob\n"[..]), "{}", show(&refused));
    assert!(finish(release.verify()).status.success());
}

/// The example in the package, as a reader would run it.
#[test]
fn the_example_of_a_bundle_does_what_it_says() {
    let setup = Setup::get();
    let dir = tempfile::tempdir().expect("a directory can be made");
    let example = || {
        let mut c = Command::new("env");
        c.arg("CC=clang-22").arg(format!("RECOMPILER={}", setup.recompiler.display())).arg(format!("VKERNEL={}", setup.vkernel.display()));
        c.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/bundle/bundle.sh")).arg(dir.path().join("made"));
        c
    };
    let expected = "== sortlines -u\napple\npear\nquince\n== count /tmp/fruit\n      4       4      24 /tmp/fruit\n== crc32\n@\n== a copy by another name\n@\n== a changed byte\nrefused with status 126\n";
    let expected = expected.replace('@', "f46485e3");
    // Its own key stays where there is one.
    for _ in 0..2 {
        let out = finish(example());
        let text = String::from_utf8_lossy(&out.stdout);
        let shown = text.find("== ").map(|at| &text[at..]);
        assert!(out.status.success() && shown == Some(expected.as_str()), "{}", show(&out));
        assert!(String::from_utf8_lossy(&out.stderr).contains("refused (EACCES)"), "{}", show(&out));
    }
}

#[test]
fn a_polyfill_is_given_the_directories_of_its_row_and_told_where_a_script_lies() {
    let dir = root();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("usr/share")).expect("made");
    std::fs::write(at("tmp/python3"), "stands for an interpreter\n").expect("written");
    std::fs::write(at("tmp/script"), "#!/usr/bin/python3\n").expect("written");
    install(&at("tmp/python3"), &at("usr/bin/python3"));
    install(&at("tmp/script"), &at("usr/bin/tool"));
    let release = Release::empty();
    let mut c = release.command("");
    c.arg("--rootfs").arg(dir.path()).args(["--include", "/usr/bin/tool", "--polyfill", &format!("/usr/bin/python3={}", module("given").display())]);
    let out = finish(c);
    assert!(out.status.success(), "{}", show(&out));
    let printed = |options: &[&str], program: &[&str]| String::from_utf8_lossy(&finish(release.run(dir.path(), options, program)).stdout).into_owned();
    // Those of the catalogue that the image has; numbers without a gap.
    assert_eq!(printed(&[], &["python3"]), "3 /\n4 /usr/bin\n5 /usr/share\n");
    assert_eq!(printed(&["--workdir", "/usr/share"], &["python3"]), "3 /\n4 /usr/share\n5 /usr/bin\n");
    assert_eq!(printed(&["--workdir", "/data"], &["python3"]), "3 /\n4 /data\n5 /usr/bin\n6 /usr/share\n");
    // A name that only the caller understands.
    let relative = printed(&["--workdir", "/usr/bin"], &["./tool", "tool"]);
    assert_eq!(relative, "3 /\n4 /usr/bin\n5 /usr/share\nargument /usr/bin/tool: is there\nargument tool: is not there\n");
    assert_eq!(printed(&["--workdir", "/usr/share"], &["../bin/tool"]), "3 /\n4 /usr/share\n5 /usr/bin\nargument /usr/bin/tool: is there\n");
    assert_eq!(printed(&[], &["/usr/bin/tool"]), "3 /\n4 /usr/bin\n5 /usr/share\nargument /usr/bin/tool: is there\n");
}

/// Prints arguments and environment as they were given, each with its terminating zero.
const GIVEN: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (func $print (param $length i32)
        (i32.store (i32.const 8) (i32.const 0x10000))
        (i32.store (i32.const 12) (local.get $length))
        (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))))
    (func (export "_start")
        (drop (call $args_sizes (i32.const 0) (i32.const 4)))
        (drop (call $args (i32.const 0x100) (i32.const 0x10000)))
        (call $print (i32.load (i32.const 4)))
        (drop (call $environ_sizes (i32.const 0) (i32.const 4)))
        (drop (call $environ (i32.const 0x100) (i32.const 0x10000)))
        (call $print (i32.load (i32.const 4)))))"#;

/// What stands in an interpreter's place is told what to run as the interpreter is, so the rules are the same: by name, by hash, before the module's own arguments are put first.
#[test]
fn a_polyfill_runs_listed_scripts_and_no_program_text_where_the_release_says_so() {
    let (dir, strict, free) = (root(), Release::empty(), Release::empty());
    let at = |name: &str| dir.path().join(name);
    let put = |name: &str, text: &str| {
        std::fs::create_dir_all(at(name).parent().expect("in the root")).expect("made");
        std::fs::write(at("tmp/text"), text).expect("written");
        install(&at("tmp/text"), &at(name));
    };
    put("usr/bin/node", "stands for an interpreter\n");
    put("usr/bin/tool", "#!/usr/bin/node\n1\n");
    put("app/listed.js", "1\n");
    std::fs::write(strict.at("given.wat"), GIVEN).expect("written");
    let module = strict.at("given.wasm");
    assert!(Command::new("wat2wasm").arg(strict.at("given.wat")).arg("-o").arg(&module).status().expect("wabt is installed").success());
    std::fs::write(strict.at("policy.json"), r#"{"scripts": "listed", "inline": "deny"}"#).expect("written");
    let build = |release: &Release, policy: &[&str]| {
        let mut c = release.command("");
        c.arg("--rootfs").arg(dir.path()).args(["--include", "/usr/bin/node", "/usr/bin/tool", "/app/listed.js"]);
        c.arg("--polyfill").arg(format!("/usr/bin/node={}", module.display())).args(policy);
        let out = finish(c);
        assert!(out.status.success(), "{}", show(&out));
    };
    build(&strict, &["--policy", strict.at("policy.json").to_str().expect("UTF-8")]);
    build(&free, &[]);
    // These came after the build: one byte differs, or the name.
    put("usr/bin/other", "#!/usr/bin/node\n2\n");
    put("app/other.js", "2\n");
    put("app/copy.js", "1\n");
    let run = |release: &Release, program: &[&str]| {
        let audit = release.at("audit.jsonl");
        let options = ["--env", "NODE_OPTIONS=--require /app/other.js", "--env", "NODE_PATH=/app", "--audit", audit.to_str().expect("UTF-8")];
        let out = fed(release.run(dir.path(), &options, program), "2\n");
        let records = std::fs::read_to_string(&audit).expect("written");
        let _ = std::fs::remove_file(audit);
        (out.status.code(), String::from_utf8_lossy(&out.stdout).replace('\0', "|"), records)
    };
    let listed: [(&[&str], &str); 8] = [
        (&["/usr/bin/tool", "x"], "--std|/usr/bin/tool|x|"),
        (&["node", "/app/listed.js", "x"], "--std|/app/listed.js|x|"),
        (&["node", "/app/copy.js", "-e", "2"], "--std|/app/copy.js|-e|2|"),
        (&["node", "--", "/app/listed.js"], "--std|--|/app/listed.js|"),
        (&["node", "--version"], "--std|--version|"),
        // The words are judged as they stand here, and by the whole path it is still the script that was judged.
        (&["node", "--no-warnings", "--max-old-space-size=64", "/app/listed.js", "--frob"], "--std|/app/listed.js|--frob|"),
        (&["node", "app/listed.js", "-"], "--std|/app/listed.js|-|"),
        (&["node", "--trace-uncaught", "--", "./app/../app/listed.js"], "--std|--|/app/listed.js|"),
    ];
    for (program, arguments) in listed {
        let (code, text, records) = run(&strict, program);
        assert!(code == Some(0) && text.contains(arguments) && text.contains("GREETING=hello|"), "{program:?}: {code:?} {text}\n{records}");
        assert!(!text.contains("NODE_") && records.contains(r#""stripped":["NODE_OPTIONS","NODE_PATH"]"#), "{program:?}: {text}\n{records}");
        let (code, text, records) = run(&free, program);
        assert!(
            code == Some(0) && text.contains(arguments) && text.contains("NODE_OPTIONS=--require /app/other.js|") && !records.contains("stripped"),
            "{program:?}: {text}\n{records}"
        );
    }
    let refused: [(&[&str], &str); 16] = [
        (&["/usr/bin/other"], "script-not-listed"),
        (&["node", "/app/other.js"], "script-not-listed"),
        (&["node", "--", "/app/other.js"], "script-not-listed"),
        (&["node", "-e", "2"], "inline-denied"),
        (&["node", "--eval", "2", "/app/listed.js"], "inline-denied"),
        (&["node", "-p", "2"], "inline-denied"),
        (&["node", "--require", "/app/other.js", "/app/listed.js"], "inline-denied"),
        (&["node", "inspect", "/app/listed.js"], "inline-denied"),
        (&["node", "--no-warnings", "app/other.js"], "script-not-listed"),
        (&["node", "--eval=2", "/app/listed.js"], "inline-denied"),
        (&["node", "-pe", "2", "/app/listed.js"], "inline-denied"),
        (&["node", "--help", "--require=/app/other.js"], "inline-denied"),
        (&["node", "--no-warnings", "--", "-"], "inline-denied"),
        (&["node", "-"], "inline-denied"),
        (&["node", "/dev/stdin"], "inline-denied"),
        (&["node"], "inline-denied"),
    ];
    for (program, reason) in refused {
        let (code, text, records) = run(&strict, program);
        assert!(code == Some(126) && text.is_empty() && records.contains(&format!(r#""reason":"{reason}""#)), "{program:?}: {code:?} {text}\n{records}");
        let (code, text, records) = run(&free, program);
        assert!(code == Some(0) && text.contains("--std|"), "{program:?}, where no rule is kept: {code:?} {text}\n{records}");
    }
}

impl Release {
    fn verify(&self) -> Command {
        let mut c = Command::new(Setup::get().recompiler);
        c.arg("verify").arg(self.at("manifest.json")).arg("--key").arg(self.at("build.pub"));
        c
    }
}

#[test]
fn what_is_no_wasi_program_is_refused_with_a_line_that_says_why() {
    let release = Release::empty();
    let refused = |name: &str, text: &str, why: &str| {
        let path = release.at(&format!("{name}.wasm"));
        let source = release.at("m.wat");
        if text.starts_with('(') {
            std::fs::write(&source, text).expect("written");
            let wat = Command::new("wat2wasm").args(["--enable-all", "--no-check"]).arg(&source).arg("-o").arg(&path).status().expect("wabt is installed");
            assert!(wat.success());
        } else {
            std::fs::write(&path, text).expect("written");
        }
        let mut c = release.command("bundle");
        c.arg(&path);
        let out = finish(c);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        match why {
            "" => assert!(out.status.success(), "{name}: {error}"),
            why => assert!(!out.status.success() && error.contains(why) && error.lines().count() == 1, "{name}: {error}"),
        }
    };
    let good = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    refused("good", good, "");
    refused("text", "hello", "is no WebAssembly module");
    refused("reactor", r#"(module (memory (export "memory") 1) (func (export "_initialize")))"#, "exports no function _start");
    refused("memoryless", r#"(module (func (export "_start")))"#, "one memory, exported as `memory`");
    refused("stranger", r#"(module (import "env" "f" (func)) (memory (export "memory") 1) (func (export "_start")))"#, "imports env.f");
    refused("old", r#"(module (import "wasi_unstable" "fd_close" (func)) (memory (export "memory") 1) (func (export "_start")))"#, "imports wasi_unstable.fd_close");
    refused("mistyped", r#"(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64))) (memory (export "memory") 1) (func (export "_start")))"#, "with another type");
    refused("starter", r#"(module (memory (export "memory") 1) (func $s) (func (export "_start")) (start $s))"#, "has a start function");
    refused("valued", r#"(module (memory (export "memory") 1) (func (export "_start") (result i32) (i32.const 1)))"#, "takes or gives a value");
    refused("invalid", r#"(module (memory (export "memory") 1) (func (export "_start") (drop)))"#, "is not a valid module");
    refused("threads", r#"(module (memory (export "memory") 1 1 shared) (func (export "_start")))"#, "is not a valid module");
    refused("imported", r#"(module (import "env" "memory" (memory 1)) (export "memory" (memory 0)) (func (export "_start")))"#, "imports env.memory");
}
