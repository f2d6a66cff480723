//! The machine's own ld.so as the oracle of closures; small images for the rest.

use super::*;
use crate::scan::Scripts;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

fn surveyor(rootfs: &Rootfs) -> Surveyor<'_> {
    Surveyor { rootfs, search: Search::of(rootfs), facts: BTreeMap::new() }
}

/// What ld.so says it would map, links resolved; `None` for programs it does not load.
fn listed(loader: &str, program: &Path) -> Option<BTreeSet<String>> {
    let out = Command::new(loader).arg("--list").arg(program).env_remove("LD_LIBRARY_PATH").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    if !out.status.success() || text.contains("statically linked") {
        return None;
    }
    let mut paths = BTreeSet::new();
    for line in text.lines().filter(|l| !l.contains("linux-vdso")) {
        let name = line.split(" => ").last().unwrap().split_whitespace().next().unwrap();
        paths.insert(fs::canonicalize(name).unwrap_or_else(|e| panic!("{line}: {e}")).to_str().unwrap().to_owned());
    }
    // The list shows the interpreter always, a closure only if something needs it.
    paths.remove(fs::canonicalize(loader).unwrap().to_str().unwrap());
    Some(paths)
}

fn agrees(s: &mut Surveyor<'_>, loader: &str, program: &Path) -> bool {
    let Some(expected) = listed(loader, program) else { return false };
    let file = s.file(program.to_str().unwrap()).unwrap().expect("an executable");
    let elf = file.elf.unwrap_or_else(|| panic!("{}: {:?}", program.display(), file.refused));
    let loader = fs::canonicalize(loader).unwrap().to_str().unwrap().to_owned();
    let found: BTreeSet<String> = elf.closure.into_iter().filter(|p| *p != loader).collect();
    assert_eq!(found, expected, "{}", program.display());
    true
}

#[test]
fn closures_are_what_ld_so_lists_for_programs_of_this_machine() {
    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let mut s = surveyor(&rootfs);
    let mut programs: Vec<_> = fs::read_dir("/usr/bin").unwrap().map(|e| e.unwrap().path()).collect();
    programs.sort();
    let plain = |p: &&std::path::PathBuf| {
        fs::symlink_metadata(p).is_ok_and(|m| m.is_file() && m.len() < 2 << 20) && fs::read(p).is_ok_and(|b| elf::facts("p", &b).is_ok_and(|f| f.interpreter.is_some()))
    };
    let compared = programs.iter().filter(plain).step_by(3).take(80).filter(|p| agrees(&mut s, LOADER, p)).count();
    assert!(compared >= 30, "only {compared} programs were compared");
}

#[test]
fn rpath_runpath_origin_and_loaded_names_are_followed_as_ld_so_does() {
    let dir = tempfile::tempdir().unwrap();
    let at = |p: &str| dir.path().join(p);
    for d in ["a", "b", "c", "bin"] {
        fs::create_dir(at(d)).unwrap();
    }
    let gcc = |args: &[&str]| assert!(Command::new("gcc").args(args).current_dir(dir.path()).status().unwrap().success(), "{args:?}");
    fs::write(at("l.c"), "int NAME(void) { return 0; }\n").unwrap();
    fs::write(at("m.c"), "int main(void) { return 0; }\n").unwrap();
    let library = |out: &str, extra: &[&str]| {
        let name = out.replace(['/', '.'], "_");
        gcc(&[&["-shared", "-fPIC", "-Wl,--no-as-needed", &format!("-DNAME={name}"), "-o", out, "l.c"][..], extra].concat());
    };
    // Two libx.so, one in a, one in c; liby in b needs libx and says where by RUNPATH.
    library("a/libx.so", &[]);
    library("c/libx.so", &[]);
    library("b/liby.so", &["-Lc", "-lx", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../c"]);
    library("b/libz.so", &["-Lc", "-lx"]);
    let program = |name: &str, extra: &[&str]| gcc(&[&["-Wl,--no-as-needed", "-o", name, "m.c"][..], extra].concat());
    let old = "-Wl,--disable-new-dtags,-rpath,$ORIGIN/../a:$ORIGIN/../b";
    let new = "-Wl,--enable-new-dtags,-rpath,${ORIGIN}/../a:${ORIGIN}/../b";
    let link = ["-La", "-Lb", "-Wl,-rpath-link,c"];
    program("bin/runpath_of_the_library", &[&link[..], &["-ly", new]].concat());
    program("bin/rpath_of_the_program_does_not_beat_runpath", &[&link[..], &["-ly", old]].concat());
    program("bin/rpath_is_inherited", &[&link[..], &["-lz", old]].concat());
    program("bin/no_default_directories", &["-La", "-lx", "-Wl,-z,nodefaultlib", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../a:/lib/x86_64-linux-gnu"]);
    library("b/libw.so", &["-Lc", "-lx", "-Wl,-z,nodefaultlib"]);
    program("bin/no_default_directories_of_a_library", &[&link[..], &["-lw", old]].concat());
    program("bin/a_name_loaded_first_counts_for_all", &[&link[..], &["-lx", "-ly", new]].concat());
    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let mut s = surveyor(&rootfs);
    for entry in fs::read_dir(at("bin")).unwrap() {
        assert!(agrees(&mut s, LOADER, &fs::canonicalize(entry.unwrap().path()).unwrap()));
    }
    // Without default directories libc is nowhere, and ld.so fails, too.
    program("bin/lost", &["-Wl,-z,nodefaultlib"]);
    let lost = fs::canonicalize(at("bin/lost")).unwrap();
    assert_eq!(listed(LOADER, &lost), None);
    assert_eq!(s.file(lost.to_str().unwrap()).unwrap().unwrap().elf.unwrap().missing, ["libc.so.6"]);
    // RUNPATH is not inherited: libz does not find libx. ld.so fails, the inventory names it.
    program("bin/z", &[&link[..], &["-lz", new, "-Wl,--unresolved-symbols=ignore-all"]].concat());
    fs::remove_file(at("a/libx.so")).unwrap();
    let file = s.file(fs::canonicalize(at("bin/z")).unwrap().to_str().unwrap()).unwrap().unwrap();
    assert_eq!(file.elf.unwrap().missing, ["libx.so"]);
    assert!(file.refused.unwrap().contains("needs libx.so"));
}

/// musl's own linker as the oracle.
#[test]
fn closures_of_programs_made_for_musl_are_what_its_linker_lists() {
    let dir = tempfile::tempdir().unwrap();
    let gcc = |args: &[&str]| assert!(Command::new("musl-gcc").args(args).current_dir(dir.path()).status().expect("musl-tools is installed").success(), "{args:?}");
    for d in ["a", "b"] {
        fs::create_dir(dir.path().join(d)).unwrap();
    }
    fs::write(dir.path().join("l.c"), "int NAME(void) { return 0; }\n").unwrap();
    fs::write(dir.path().join("m.c"), "int main(void) { return 0; }\n").unwrap();
    let always = ["-Wl,--no-as-needed", "-Wl,-rpath-link,b", "-La", "-Lb"];
    let library = |out: &str, extra: &[&str]| gcc(&[&["-shared", "-fPIC", "-DNAME=f", "-o", out, "l.c"][..], &always, extra].concat());
    library("b/libx.so", &["-Wl,-soname,libx.so"]);
    library("a/libz.so", &["-lx"]);
    // RUNPATH is inherited; names of libc's parts are the linker.
    gcc(&[&["-o", "program", "m.c"][..], &always, &["-lz", "-lm", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/a:${ORIGIN}/b"]].concat());
    gcc(&[&["-o", "plain", "m.c"][..], &always].concat());
    let rootfs = Rootfs::open(Path::new("/")).unwrap();
    let mut s = surveyor(&rootfs);
    for name in ["program", "plain"] {
        assert!(agrees(&mut s, MUSL, &fs::canonicalize(dir.path().join(name)).unwrap()), "{name}");
    }
}

/// A small image: scripts, bits, formats.
#[test]
fn lists_scripts_bits_formats_and_why_something_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for d in ["usr/bin", "opt", "etc"] {
        fs::create_dir_all(root.join(d)).unwrap();
    }
    symlink("usr/bin", root.join("bin")).unwrap();
    let put = |path: &str, bytes: &[u8], mode: u32| {
        fs::write(root.join(path), bytes).unwrap();
        fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode)).unwrap();
    };
    fs::write(root.join("t.s"), ".globl _start,luaJIT_setmode\n_start: ret\nluaJIT_setmode: ret\n").unwrap();
    let gcc = |flag: &str, out: &str| assert!(Command::new("gcc").args(["-nostdlib", "-static", flag, "-o", out, "t.s"]).current_dir(root).status().unwrap().success());
    gcc("-static-pie", "usr/bin/luajit");
    fs::write(root.join("t.s"), ".globl _start\n_start: ret\n").unwrap();
    gcc("-no-pie", "usr/bin/env");
    fs::remove_file(root.join("t.s")).unwrap();
    fs::copy(root.join("usr/bin/env"), root.join("usr/bin/tool")).unwrap();
    put("opt/ok", b"#!/bin/env -S X=1 tool -u\n", 0o4755);
    put("opt/lost", b"#!/bin/env nothing\n", 0o755);
    put("opt/crlf", b"#!/bin/env\r\n", 0o755);
    put("opt/text", b"echo\n", 0o755);
    put("opt/data", b"echo\n", 0o644);
    put("opt/m.wasm", b"\0asm\x01\0\0\0", 0o644);
    put("etc/ld.so.preload", b"/opt/evil.so\n", 0o644);
    let rootfs = Rootfs::open(root).unwrap();
    let inventory = survey(&rootfs, &[]).unwrap();
    let of = |path: &str| inventory.files.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(inventory.files.len(), 8);
    let ok = of("/opt/ok");
    assert!(ok.setuid && ok.refused.is_none() && ok.mode == "4755");
    let script = ok.script.as_ref().unwrap();
    assert_eq!((script.interpreter.path.as_deref(), script.program.as_ref().unwrap().path.as_deref()), (Some("/usr/bin/env"), Some("/usr/bin/tool")));
    for (path, reason) in [
        ("/opt/lost", "its interpreter nothing is not in the image"),
        ("/opt/crlf", "carriage return"),
        ("/opt/text", "without a #! line"),
        ("/opt/m.wasm", "WebAssembly"),
        ("/usr/bin/luajit", "jit: contains LuaJIT"),
    ] {
        assert!(of(path).refused.as_ref().unwrap().contains(reason), "{path}: {:?}", of(path).refused);
    }
    assert!(of("/usr/bin/env").elf.as_ref().unwrap().fixed && of("/usr/bin/env").refused.is_none());
    assert_eq!(of("/opt/ok").sha256, Digest::sha256(&fs::read(root.join("opt/ok")).unwrap()));
    assert_eq!(inventory.preloaded, ["/opt/evil.so"]);
    let reached = survey(&rootfs, &["/opt/ok".into()]).unwrap();
    assert_eq!(reached.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["/opt/ok", "/usr/bin/env", "/usr/bin/tool"]);
    assert!(dot(&reached).contains("\"/opt/ok\" -> \"/usr/bin/tool\" [style=dotted]") && table(&inventory).contains("1 setuid or setgid, 1 with engines"));
    // The build agrees: by name an error, in a directory omitted.
    let named = |path: &str| crate::scan::scan(&rootfs, &[path.into()], Scripts::Included, Default::default()).err().unwrap().to_string();
    assert!(named("/usr/bin/luajit").contains("jit:") && named("/opt/lost").contains("asks env for nothing"));
    let found = crate::scan::scan(&rootfs, &["/usr/bin".into(), "/opt/ok".into()], Scripts::Included, Default::default()).unwrap();
    assert!(found.omitted.iter().any(|o| o.path == "/usr/bin/luajit" && o.reason.starts_with("jit:")), "{:?}", found.omitted.iter().map(|o| &o.reason).collect::<Vec<_>>());
}

#[test]
fn a_program_over_a_gibibyte_has_a_row_with_its_digests_and_why_it_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = fs::File::create(dir.path().join("large")).unwrap();
    file.write_all(b"\x7fELF").unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    let inventory = survey(&Rootfs::open(dir.path()).unwrap(), &[]).unwrap();
    let [row] = &inventory.files[..] else { panic!("{inventory:?}") };
    assert_eq!((row.path.as_str(), row.format, row.size), ("/large", Format::Elf, (1 << 30) + 1));
    assert_eq!(row.refused.as_deref(), Some("has 1073741825 bytes, more than the 1 GiB a program may have"));
    // sha256sum's.
    assert_eq!(row.sha256.hex(), "eef004ac9e1b316dde40383be7ea43d0c141c3d09834901aa7d6e115e437d4a3");
}

/// A name that Graphviz and XML could misread, drawn and read again by a parser of XML.
#[test]
fn the_picture_has_every_node_and_edge() {
    let dir = tempfile::tempdir().unwrap();
    let odd = "a\"<b>&amp;\\N";
    fs::write(dir.path().join(odd), "#!/sh\n").unwrap();
    fs::write(dir.path().join("lost"), "#!/nowhere\n").unwrap();
    fs::copy("/bin/sh", dir.path().join("sh")).unwrap();
    let inventory = survey(&Rootfs::open(dir.path()).unwrap(), &[]).unwrap();
    fs::write(dir.path().join("picture"), svg(&inventory).unwrap()).unwrap();
    let script = "import sys, xml.etree.ElementTree as e\nfor g in e.parse(sys.argv[1]).findall('.//{*}g'):\n  print(g.get('class'), *[t.text for t in g if t.tag.endswith('}text') or g.get('class') == 'edge' and t.tag.endswith('}title')])\n";
    let out = Command::new("python3").args(["-c", script]).arg(dir.path().join("picture")).output().unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&out.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    // A title spells a backslash twice.
    let edge = format!("edge /{}->/sh", odd.replace('\\', "\\\\"));
    let node = format!("node /{odd}");
    assert_eq!(
        lines,
        [
            &edge,
            "edge /lost->/nowhere",
            "edge /sh->/lib64/ld-linux-x86-64.so.2",
            "edge /sh->libc.so.6",
            "graph",
            &node,
            "node /lib64/ld-linux-x86-64.so.2",
            "node /lost",
            "node /nowhere",
            "node /sh",
            "node libc.so.6"
        ]
    );
}
