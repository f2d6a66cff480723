//! `prove`: commands that come out alike are signed, others are not; a replay notices what changed.

use integration_tests::tiny::Image;
use integration_tests::{Setup, show};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The tests' release in a directory of its own, a small image with some of its programs, and a key for proofs.
struct Case {
    image: Image,
}

impl Case {
    fn new() -> Case {
        let (setup, image) = (Setup::get(), Image::made());
        let script = r#"release=$1 rootfs=$2 to=$3
mkdir "$to/out" "$to/tests" "$to/small" && cp "$release/manifest.json" "$to/out" && ln -s "$release/container.wasm" "$release/aot" "$to/out"
cd "$rootfs" && cp -a --parents lib lib64 bin usr/lib64 usr/bin/sort usr/bin/bash usr/bin/cat usr/bin/uname usr/bin/ls "$to/small"
for l in ld-linux-x86-64 libc libselinux libpcre2-8 libcrypto libtinfo; do cp -a --parents usr/lib/x86_64-linux-gnu/$l[.-]* "$to/small"; done
mkdir "$to/small/proc" "$to/small/dev" "$to/small/tmp" "$to/small/etc" "$to/small/sys" "$to/small/root"; echo one > "$to/small/data""#;
        let made = Command::new("sh").args(["-ec", script, "-"]).arg(setup.manifest.parent().unwrap()).arg(&setup.rootfs).arg(image.dir.path()).output().unwrap();
        assert!(made.status.success(), "{}", show(&made));
        Case { image }
    }

    fn test(&self, name: &str, text: &str) {
        fs::write(self.image.at("tests").join(name), text).unwrap();
    }

    fn args<'a>(&self, demo: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["prove", "out/manifest.json", "--rootfs", "small", "--trust", demo, "--trust", "k.pub"], more].concat()
    }

    fn prove(&self) -> Result<String, String> {
        self.run(&["--tests", "tests", "--key", "k.pem"])
    }

    fn replay(&self) -> Result<String, String> {
        self.run(&["--replay"])
    }

    fn run(&self, more: &[&str]) -> Result<String, String> {
        let demo = Setup::get().key.display().to_string();
        let out = self.image.run(&self.args(&demo, more));
        let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        if out.status.success() { Ok(stdout) } else { Err(stderr) }
    }
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn what_comes_out_alike_is_signed_and_replayed_and_what_changed_is_noticed() {
    let case = Case::new();
    fs::write(case.image.at("tests/words"), b"b\nc\xff\na\n").unwrap();
    case.test("sort.json", r#"{"command": ["/usr/bin/sort", "-r"], "stdin": "words"}"#);
    case.test("fails.json", r#"{"command": ["/usr/bin/ls", "/nowhere"]}"#);
    case.test("data.json", r#"{"command": ["/usr/bin/cat", "/data"]}"#);
    case.test("status.json", r#"{"command": ["/usr/bin/bash", "-c", "kill -TERM $$"]}"#);
    assert!(case.prove().unwrap().starts_with("4 commands come out alike"));
    let proof: serde_json::Value = serde_json::from_slice(&fs::read(case.image.at("out/manifest.proof.json")).unwrap()).unwrap();
    assert_eq!((&proof["tests"]["fails"]["status"], &proof["tests"]["data"]["status"]), (&2.into(), &0.into()), "{proof:#}");
    let blob = |of: &str, stream: &str| case.image.at("out/manifest.proof").join(&proof["tests"][of][stream].as_str().unwrap()["sha256:".len()..]);
    assert_eq!(fs::read(blob("sort", "stdout")).unwrap(), b"c\xff\nb\na\n");
    assert_eq!(case.replay().unwrap(), "4 commands come out as k proved\n");
    // The image's data is another now.
    fs::write(case.image.at("small/data"), "two\n").unwrap();
    let text = case.replay().unwrap_err();
    assert!(text.contains("does not come out as proved: data (stdout from byte 0"), "{text}");
    fs::write(case.image.at("small/data"), "one\n").unwrap();
    // A blob and the proof itself, each with one byte changed.
    let input = blob("sort", "stdin");
    let good = fs::read(&input).unwrap();
    fs::write(&input, b"B\nc\xff\na\n").unwrap();
    assert!(case.replay().unwrap_err().contains("is not what was proved"));
    fs::write(&input, good).unwrap();
    let path = case.image.at("out/manifest.proof.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("\"status\":2", "\"status\":3")).unwrap();
    assert!(case.replay().unwrap_err().contains("0 of 1 required trusted keys signed this"));
    fs::write(&path, good).unwrap();
    case.replay().unwrap();
}

#[test]
fn what_differs_or_is_never_the_same_proves_nothing_and_leaves_nothing() {
    let case = Case::new();
    case.test("data.json", r#"{"command": ["/usr/bin/cat", "/data"]}"#);
    // A container has a name of its own.
    case.test("name.json", r#"{"command": ["/usr/bin/uname", "-n"]}"#);
    let text = case.prove().unwrap_err();
    assert!(text.contains("not the same natively and under vkernel: name (stdout from byte") && !text.contains("data ("), "{text}");
    case.test("name.json", r#"{"command": ["/usr/bin/bash", "-c", "echo $RANDOM$RANDOM$RANDOM"]}"#);
    assert!(case.prove().unwrap_err().contains("name: two native runs differ"));
    for (text, expect) in [
        (r#"{"command": []}"#, "absolute path of a program"),
        (r#"{"command": ["ls"]}"#, "absolute path of a program"),
        (r#"{"command": ["/usr/bin/ls"], "stdin": "../k.pem"}"#, "the name of a file beside it"),
        (r#"{"command": ["/usr/bin/ls"], "stdin": "none"}"#, "cannot read none"),
        (r#"{"commands": []}"#, "unknown field `commands`"),
    ] {
        case.test("name.json", text);
        let found = case.prove().unwrap_err();
        assert!(found.contains(expect) && found.lines().count() == 1, "{found}");
    }
    assert!(case.replay().unwrap_err().contains("manifest.proof.json"), "there is none");
    assert!(!case.image.at("out/manifest.proof.json").exists() && count(&case.image.at("out/manifest.proof")) == 0);
    fs::remove_file(case.image.at("tests/name.json")).unwrap();
    case.prove().unwrap();
}
