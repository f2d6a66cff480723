//! The program as its users run it: whole builds of a tiny image, refusals, and the generated man page.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

#[path = "../../../integration-tests/src/tiny.rs"]
pub mod tiny;

use tiny::{Image, TINY, files};

fn image() -> Image {
    Image::made(env!("CARGO_BIN_EXE_recompiler-build"))
}

#[test]
fn a_build_verifies_and_a_byte_changed_in_any_file_does_not() {
    let image = image();
    image.build("out", &[]);
    let verify = ["verify", "out/manifest.json", "--key", "k.pub"];
    assert!(image.ok(&verify).contains("2 programs, 0 libraries, 1 scripts, 4 artifacts"));
    let valid = Command::new("wasm-validate").arg("--enable-all").arg(image.at("out/container.wasm")).status().expect("wabt is installed");
    assert!(valid.success());
    for (path, good) in files(&image.at("out")) {
        let mut bad = good.clone();
        let at = good.len() / 2;
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        image.refused(&verify);
        fs::write(&path, &good).unwrap();
    }
    image.ok(&verify);
}

#[test]
fn two_builds_without_a_common_cache_give_the_same_bytes() {
    let image = image();
    image.build("a", &["--cache", "cache-a"]);
    image.build("b", &["--cache", "cache-b"]);
    let inside = |name: &str| files(&image.at(name)).into_iter().map(|(p, b)| (p.strip_prefix(image.at(name)).unwrap().to_owned(), b)).collect::<Vec<_>>();
    for ((a, x), (b, y)) in inside("a").into_iter().zip(inside("b")) {
        assert!(a == b && x == y, "{}", a.display());
    }
}

#[test]
fn a_second_build_with_one_changed_program_compiles_only_that() {
    let image = image();
    assert!(image.build("out", &[]).contains("4 modules compiled now"));
    assert!(image.build("out", &[]).contains("0 modules compiled now"));
    fs::write(image.at("tiny.s"), TINY.replace("1(%rdi)", "2(%rdi)")).unwrap();
    let run = Command::new("gcc").args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(image.at("root/bin/fixed")).arg(image.at("tiny.s")).status();
    assert!(run.unwrap().success());
    let text = image.build("out", &[]);
    assert!(text.contains("1 lifted now") && text.contains("2 modules compiled now"), "{text}");
    assert_eq!(fs::read_dir(image.at("out/aot/x86_64-unknown-linux-gnu")).unwrap().count(), 4, "old artifacts are gone");
}

#[test]
fn a_build_says_what_each_stage_cost_and_charges_nothing_for_what_was_cached() {
    let image = image();
    let figures = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let stage = |v: &Value, name: &str, what: &str| v["stages"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap()[what].as_f64().unwrap();
    let first = figures(&image.build("out", &["--json"]));
    let (whole, made) = (stage(&first, "scan", "text_bytes"), stage(&first, "compile", "made_bytes"));
    assert!(whole > 0.0 && made > 0.0 && first["peak_memory_bytes"].as_u64().unwrap() > 1 << 20, "{first:#}");
    assert_eq!(["lift", "compile", "assemble"].map(|s| stage(&first, s, "text_bytes")), [whole; 3]);
    let again = figures(&image.build("out", &["--json"]));
    assert_eq!(["lift", "compile"].map(|s| (stage(&again, s, "text_bytes"), stage(&again, s, "made_bytes"))), [(0.0, 0.0); 2]);
    fs::write(image.at("tiny.s"), TINY.replace("1(%rdi)", "2(%rdi)")).unwrap();
    let run = Command::new("gcc").args(["-nostdlib", "-static", "-no-pie", "-o"]).arg(image.at("root/bin/fixed")).arg(image.at("tiny.s")).status();
    assert!(run.unwrap().success());
    let changed = figures(&image.build("out", &["--json"]));
    let one = stage(&changed, "lift", "text_bytes");
    assert!(0.0 < one && one < whole && stage(&changed, "compile", "text_bytes") == one, "{changed:#}");
    assert!(image.build("out", &[]).contains("peak memory"), "people get a table");
}

#[test]
fn the_manifest_says_where_every_object_lies() {
    let image = image();
    image.build("out", &["--name", "test/tiny", "--serial", "7"]);
    let m = image.manifest("out");
    assert_eq!((m["name"].as_str(), m["serial"].as_u64()), (Some("test/tiny"), Some(7)));
    let binaries: Vec<&Value> = m["binaries"].as_object().unwrap().values().collect();
    let of = |path: &str| *binaries.iter().find(|b| b["path"] == path).unwrap();
    assert!(of("/bin/fixed")["elf"]["non_pie"].as_bool().unwrap() && of("/bin/fixed")["elf"]["base"] == 0);
    assert!(of("/bin/moving")["elf"]["base"].as_u64().unwrap() >= 0x0100_0000);
    let wasm = fs::read(image.at("out/container.wasm")).unwrap();
    for b in &binaries {
        let file = fs::read(image.at("root").join(&b["path"].as_str().unwrap()[1..])).unwrap();
        for s in b["elf"]["segments"].as_array().unwrap() {
            let number = |key: &str| s[key].as_u64().unwrap() as usize;
            let at = number("image_offset") + number("file_offset") % 4096;
            assert_eq!(wasm[at..at + number("filesz")], file[number("file_offset")..number("file_offset") + number("filesz")]);
        }
    }
    let script = m["scripts"].as_object().unwrap().values().next().unwrap();
    assert_eq!((script["interpreter"].as_str(), script["argument"].as_str()), (Some("/bin/moving"), Some("-x")));
}

#[test]
fn a_build_says_which_scripts_its_policy_leaves_out() {
    let image = image();
    fs::write(image.at("root/tool"), "#!/bin/moving\n").unwrap();
    fs::copy(image.at("root/bin/script"), image.at("root/copy")).unwrap();
    fs::write(image.at("p.json"), r#"{"scripts": "listed"}"#).unwrap();
    let merge = |extra: &[&str]| {
        let out = image.run(&[&["merge", "--rootfs", "root", "--include", "/bin", "--output", "m/c.wasm", "--manifest", "m/m.json"], extra].concat());
        assert!(out.status.success());
        String::from_utf8(out.stderr).unwrap()
    };
    let note = "recompiler-build: note: the policy has listed scripts run only, and 1 of the image that its programs could run are not listed, /tool the first: name them with --include, or list all with --scripts all\n";
    assert_eq!(merge(&["--policy", "p.json"]), note);
    for quiet in [&["--policy", "p.json", "--scripts", "all"][..], &["--policy", "p.json", "--include", "/tool"], &[]] {
        assert_eq!(merge(quiet), "", "{quiet:?}");
    }
}

#[test]
fn a_picture_without_graphviz_is_one_line_that_says_what_to_install() {
    let image = image();
    assert!(image.ok(&["scan", "--rootfs", "root", "--svg"]).contains("<svg "), "graphviz is installed");
    let program = env!("CARGO_BIN_EXE_recompiler-build");
    let out = Command::new(program).args(["scan", "--rootfs", "root", "--svg"]).current_dir(image.dir.path()).env("PATH", image.at("root/bin")).output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && text.lines().count() == 1 && text.contains("apt-get install graphviz"), "{text}");
}

/// `vkernel-image` stands in for itself: a program beside a copy of this one.
#[test]
fn what_vkernel_image_has_said_is_not_said_again() {
    let image = image();
    let program = image.at("recompiler-build");
    fs::hard_link(env!("CARGO_BIN_EXE_recompiler-build"), &program).or_else(|_| fs::copy(env!("CARGO_BIN_EXE_recompiler-build"), &program).map(drop)).unwrap();
    for (script, line) in [
        ("echo 'vkernel-image: no such image' >&2; exit 1", "vkernel-image: no such image\n"),
        ("kill -9 $$", "recompiler-build: vkernel-image was ended (signal: 9 (SIGKILL)) while it fetched oci:x\n"),
    ] {
        fs::write(image.at("vkernel-image"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(image.at("vkernel-image"), PermissionsExt::from_mode(0o755)).unwrap();
        let out = Command::new(&program).args(["scan", "--image", "oci:x"]).current_dir(image.dir.path()).output().unwrap();
        assert!(!out.status.success());
        assert_eq!(String::from_utf8(out.stderr).unwrap(), line);
    }
}

#[test]
fn merge_lift_compile_and_sign_work_one_by_one() {
    let image = image();
    image.ok(&["merge", "--rootfs", "root", "--include", "/bin/fixed", "--output", "m/container.wasm", "--manifest", "m/manifest.json"]);
    assert!(image.manifest("m").get("signatures").is_none());
    assert!(image.refused(&["verify", "m/manifest.json", "--key", "k.pub"]).contains("no signatures"));
    assert!(image.ok(&["lift", "root/bin/fixed", "--report", "--output", "shards"]).contains("functions            2"));
    image.ok(&["compile", "shards/fixed.structured.wasm", "shards/fixed.resumable.wasm", "--output", "aot"]);
    assert!(fs::read(image.at("aot/fixed.structured.so")).unwrap().starts_with(b"\x7fELF"));
    image.build("out", &[]);
    image.ok(&["keygen", "second.pem"]);
    image.ok(&["sign", "out/manifest.json", "--key", "second.pem"]);
    let both = ["verify", "out/manifest.json", "--threshold", "2", "--key", "k.pub", "--key", "second.pub"];
    assert!(image.ok(&both).contains("signed by k, second"));
}

#[test]
fn bad_input_gets_one_line_and_leaves_nothing_behind() {
    let image = image();
    let build = |include: &str| image.refused(&["--rootfs", "root", "--include", include, "--output", "x/c.wasm", "--manifest", "x/m.json"]);
    assert!(build("/bin/missing").contains("/bin/missing (inside the image): No such file"));
    let good = fs::read(image.at("root/bin/moving")).unwrap();
    for (name, at, value, word) in [("class", 4, 1, "32-bit"), ("machine", 18, 183, "aarch64")] {
        let mut bytes = good.clone();
        bytes[at] = value;
        fs::write(image.at("root/bin").join(name), bytes).unwrap();
        assert!(build(&format!("/bin/{name}")).contains(word));
    }
    fs::write(image.at("root/bin/cut"), &good[..300]).unwrap();
    assert!(build("/bin/cut").contains("truncated"), "{}", build("/bin/cut"));
    fs::write(image.at("root/bin/text"), "hello").unwrap();
    assert!(build("/bin/text").contains("neither an ELF file nor a script"));
    assert!(image.refused(&["--rootfs", "nowhere", "--include", "/bin"]).contains("nowhere"));
    assert_eq!(fs::read_dir(image.at("x")).map_or(0, |d| d.count()), 0);
    fs::set_permissions(image.at("k.pem"), PermissionsExt::from_mode(0o644)).unwrap();
    assert!(image.refused(&["sign", "m", "--key", "k.pem"]).contains("chmod 600"));
}

#[test]
fn a_full_disk_leaves_the_old_release() {
    let image = image();
    image.build("out", &[]);
    let before = files(&image.at("out"));
    fs::write(image.at("root/bin/new"), "#!/bin/moving\n").unwrap();
    // A limit on file size fails a write the way a full disk does, half way.
    let program = env!("CARGO_BIN_EXE_recompiler-build");
    let script = format!("trap '' XFSZ; ulimit -f 2; exec {program} --rootfs root --include /bin --output out/container.wasm --manifest out/manifest.json");
    let out = Command::new("bash").args(["-c", &script]).current_dir(image.dir.path()).env("XDG_CACHE_HOME", image.at("cache")).output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && text.contains("cannot write"), "{text}");
    assert_eq!(files(&image.at("out")), before);
}

/// `BLESS=1` rewrites the page.
#[test]
fn the_man_page_is_that_of_the_command_line() {
    let image = Image::empty(env!("CARGO_BIN_EXE_recompiler-build"));
    let page = image.ok(&["man"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/recompiler-build.1");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), page, "run BLESS=1 cargo test -p recompiler-build");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    use std::os::unix::process::ExitStatusExt;
    // Gone before the program starts: a pipe holds the whole page, if the program is the faster.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let out = Command::new(env!("CARGO_BIN_EXE_recompiler-build")).arg("man").stdout(writer).output().unwrap();
    assert_eq!((out.status.signal(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(libc::SIGPIPE), ""));
}
