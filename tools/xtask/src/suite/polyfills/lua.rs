//! Lua in the place of Debian's lua5.4, which runs the same scripts natively: both must say the same, on both streams, and end alike.
//!
//! Owns how the module is made of the sources of that very Debian package. The fact a newcomer gets wrong: every error of Lua's is a longjmp, so all of this runs on exceptions that were lowered.

use super::{EMULATED, install, outcome};
use crate::process::{self, output, root, run, say, work};
use crate::release::{self, Release};
use crate::setup::Binaries;
use crate::sources;
use crate::wasi::{self, Form, Throw};
use anyhow::ensure;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const LUA: &str = "/usr/bin/lua5.4";

/// Where Debian's looks for modules.
const MODULES: &str = "usr/share/lua/5.4";

/// Scripts in /usr/bin, by the names of their files; one that is a module lies with the modules.
const SCRIPTS: [&str; 6] = ["errors", "coroutines", "deep", "library", "fails", "shapes"];

struct Case {
    workdir: &'static str,
    program: &'static [&'static str],
    input: &'static str,
    status: i32,
}

const fn case(program: &'static [&'static str], input: &'static str, status: i32) -> Case {
    Case { workdir: "/", program, input, status }
}

const NUMBERS: &str = "12 0x1F rest of it\nabcdef\n1 one\nx two\n\n";

const CASES: &[Case] = &[
    case(&["/usr/bin/errors"], "", 0),
    case(&["/usr/bin/coroutines"], "", 0),
    case(&["/usr/bin/deep"], "", 0),
    Case { workdir: "/data", program: &["/usr/bin/library", "0", "two words"], input: NUMBERS, status: 0 },
    Case { workdir: "/data", program: &["/usr/bin/library", "7", ""], input: NUMBERS, status: 7 },
    case(&["/usr/bin/fails"], "", 1),
    case(&["/usr/bin/fails", "object"], "", 1),
    case(&["/usr/bin/fails", "table"], "", 1),
    case(&[LUA], "print('a program from', 'standard input', ...)", 0),
    case(&[LUA, "-", "a", "b"], "print('arguments', ...) error('and an end')", 1),
    case(&[LUA, "-e", "print(_VERSION) x = 5", "-e", "print(x, pcall(error, 'caught'))"], "", 0),
    case(&[LUA, "-e", "x ="], "", 1),
    case(&[LUA, "-l", "shapes", "-e", "print(shapes.area({r = 1}))"], "", 0),
    case(&[LUA, "-l", "nothing"], "", 1),
    case(&[LUA, "-W", "-e", "warn('careful') warn('@off') warn('not this')"], "", 0),
    case(&[LUA, "/usr/bin/no such script"], "", 1),
    case(&[LUA, "-v"], "", 0),
    case(&[LUA, "-x"], "", 1),
];

/// Two root directories alike, but for the interpreter: in one it is there, in the other something stands in its place.
pub(super) fn run_all(binaries: &Binaries) -> anyhow::Result<()> {
    let (module, native) = (module(Form::Legacy)?, native_root()?);
    for (name, module) in [("lua", module), ("lua-standard", self::module(Form::Standard)?)] {
        let lifted = work().join(format!("{name}-rootfs"));
        process::emptied(&lifted)?;
        furnish(&lifted)?;
        install(&lifted, LUA, b"lua's hash\n")?;
        let include: Vec<String> = SCRIPTS[..5].iter().map(|s| format!("/usr/bin/{s}")).collect();
        let release = release::make(binaries, name, &lifted, &include, &["--polyfill", &format!("{LUA}={}", module.display())])?;
        for case in CASES {
            compare(binaries, &release, &native, case)?;
        }
    }
    Ok(())
}

fn compare(binaries: &Binaries, release: &Release, native: &Path, case: &Case) -> anyhow::Result<()> {
    let mut theirs = Command::new("env");
    theirs.args(["-i", "PATH=/usr/bin", "CURRENCY=EUR", "unshare", "--root"]).arg(native).arg("--wd").arg(case.workdir).args(case.program);
    let ours = release.run(binaries, &["--workdir", case.workdir, "--env", "CURRENCY=EUR"], case.program);
    let shown = |out: &Output| format!("{:?}\n{}\n--- standard error\n{}", out.status.code(), String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    let (theirs, ours) = (outcome(&theirs, case.input)?, outcome(&ours, case.input)?);
    let (native, lifted) = (shown(&theirs), shown(&ours));
    let first = native.lines().zip(lifted.lines()).find(|(a, b)| a != b);
    ensure!(native == lifted, "{:?} differs first at {first:?}\n--- vkernel\n{lifted}\n--- native\n{native}", case.program);
    ensure!(theirs.status.code() == Some(case.status), "{:?}: {native}", case.program);
    println!("{:?}: as natively", case.program);
    Ok(())
}

/// The scripts, and the directories that they write to.
fn furnish(at: &Path) -> anyhow::Result<()> {
    for folder in ["usr/bin", MODULES, "data", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(at.join(folder))?;
    }
    for name in SCRIPTS {
        let text = fs::read(root().join(format!("integration-tests/programs/polyfills/lua/{name}.lua")))?;
        let path = if text.starts_with(b"#!") { format!("/usr/bin/{name}") } else { format!("/{MODULES}/{name}.lua") };
        install(at, &path, &text)?;
    }
    Ok(())
}

/// With Debian's program and its libraries.
fn native_root() -> anyhow::Result<PathBuf> {
    let at = work().join("lua-native");
    process::emptied(&at)?;
    furnish(&at)?;
    let needed = String::from_utf8(output(Command::new("ldd").arg(LUA))?.stdout)?;
    for path in needed.split_whitespace().filter(|word| word.starts_with('/')).chain([LUA]) {
        install(&at, path, &fs::read(path)?)?;
    }
    Ok(at)
}

/// Lua for WASI, as Debian's is where it looks for modules and what it takes from older versions.
fn module(form: Form) -> anyhow::Result<PathBuf> {
    let archive = sources::file("lua5.4", ".orig.tar.gz")?;
    let sources = sources::unpacked(&archive, "lua5.4-sources", r#"tar xzf "$1" -C "$2" --strip-components=1"#)?;
    let module = work().join(match form {
        Form::Legacy => "lua.wasm",
        Form::Standard => "lua-standard.wasm",
    });
    if module.exists() {
        return Ok(module);
    }
    say("compiling Lua");
    let places = "io.write(string.format('-DLUA_PATH_DEFAULT=%q\\n-DLUA_CPATH_DEFAULT=%q', package.path, package.cpath))";
    let places = String::from_utf8(output(Command::new(LUA).args(["-E", "-e", places]))?.stdout)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(sources.join("src"))? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "c") && !file.ends_with("luac.c") {
            files.push(file);
        }
    }
    files.sort();
    let mut clang = wasi::clang_that_throws(Throw::Jump, form);
    clang.args(["-O2", "-DLUA_COMPAT_5_3", "-DL_tmpnam=20", "-include", "unistd.h"]).args(EMULATED);
    // A program that is piped in is no conversation.
    clang.arg("-Dlua_stdin_is_tty()=isatty(0)").args(places.lines());
    clang.args(files).arg(root().join("integration-tests/programs/polyfills/lua_wasi.c")).arg("-o").arg(&module);
    run(&mut clang)?;
    Ok(module)
}
