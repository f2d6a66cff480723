//! `prove`: commands that come out alike are signed, others are not; a replay notices what changed.

use integration_tests::tiny::Image;
use integration_tests::{Setup, show};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A program that does what its first argument says: c copies its input, d prints /data, h the host's name, r random bytes, f fails, k kills itself.
const ACTOR: &str = r#"
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
static char buffer[4096];
static void copy(long from) { for (long n; (n = call(0, from, (long)buffer, sizeof buffer)) > 0;) call(1, 1, (long)buffer, n); }
__attribute__((used)) void act(long *stack) {
    char **argv = (char **)(stack + 1);
    long n = 0;
    switch (argv[1][0]) {
    case 'c': copy(0); break;
    case 'd': copy(call(2, (long)"/data", 0, 0)); break;
    case 'h': call(63, (long)buffer, 0, 0); while (buffer[65 + n]) n++; call(1, 1, (long)buffer + 65, n); break;
    case 'r': call(318, (long)buffer, 16, 0); call(1, 1, (long)buffer, 16); break;
    case 'f': call(1, 2, (long)"no\n", 3); call(231, 2, 0, 0);
    case 'k': call(62, call(39, 0, 0, 0), 15, 0); break;
    }
    call(231, 0, 0, 0);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call act\n");
"#;

/// A release of that program and a key.
struct Case {
    image: Image,
}

impl Case {
    fn new() -> Case {
        let image = Image::made(Setup::recompiler());
        fs::write(image.at("actor.c"), ACTOR).unwrap();
        let gcc = Command::new("gcc")
            .args(["-O1", "-w", "-nostdlib", "-static", "-fno-stack-protector", "-o", "root/bin/actor", "actor.c"])
            .current_dir(image.dir.path())
            .output()
            .unwrap();
        assert!(gcc.status.success(), "{}", show(&gcc));
        for empty in ["root/dev", "root/proc", "root/sys", "root/tmp", "root/etc", "tests"] {
            fs::create_dir_all(image.at(empty)).unwrap();
        }
        fs::write(image.at("root/data"), "one\n").unwrap();
        image.build("out", &["--tier", "fast"]);
        Case { image }
    }

    fn test(&self, name: &str, text: &str) {
        fs::write(self.image.at("tests").join(name), text).unwrap();
    }

    fn prove(&self) -> Result<String, String> {
        self.run(&["--tests", "tests", "--key", "k.pem"])
    }

    fn replay(&self) -> Result<String, String> {
        self.run(&["--replay"])
    }

    /// On a host that has vkernel and nothing else: no build tool, no image tool, no programs that it could start.
    fn replay_on_a_host(&self, key: &str) -> (Option<i32>, String, String) {
        let host = self.image.at("host");
        fs::create_dir_all(&host).unwrap();
        let vkernel = host.join("vkernel");
        if !vkernel.exists() {
            fs::copy(Setup::get().vkernel, &vkernel).unwrap();
        }
        let mut c = Command::new(vkernel);
        c.args(["prove", "--replay", "out/manifest.json", "--rootfs", "root", "--key", key]).current_dir(self.image.dir.path()).env_clear();
        let out = c.output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
    }

    fn run(&self, more: &[&str]) -> Result<String, String> {
        let out = self.image.run(&[&["prove", "out/manifest.json", "--rootfs", "root", "--trust", "k.pub"], more].concat());
        let (stdout, stderr) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
        if out.status.success() { Ok(stdout) } else { Err(stderr) }
    }
}

#[test]
fn a_proof_travels_with_its_release_and_is_replayed_from_a_pulled_one() {
    let case = Case::new();
    case.test("data.json", r#"{"command": ["/bin/actor", "d"]}"#);
    case.prove().unwrap();
    let image = &case.image;
    image.ok(&["sbom", "--rootfs", "root", "--include", "/bin/actor", "--format", "spdx", "--output", "out/sbom.spdx.json"]);
    image.ok(&["sign", "out/manifest.json", "--key", "k.pem"]);
    for form in ["image", "artifact"] {
        let to = format!("oci:shipped:{form}");
        image.ok(&["push", "out/manifest.json", &to, "--image", "./root", "--form", form]);
        let mut c = Command::new(Setup::get().vkernel);
        let images = format!("images-{form}");
        c.args(["prove", "--replay", &to, "--key", "k.pub", "--images", &images]).current_dir(image.dir.path());
        let out = c.output().unwrap();
        assert!(out.status.success() && out.stdout == b"1 commands come out as k proved\n", "{}", show(&out));
        // And whatever else the build says of itself is as good as where it was built.
        let place = fs::read_dir(image.at(&images).join("images")).unwrap().map(|e| e.unwrap().path()).find(|p| p.join("manifest.json").exists()).unwrap();
        let text = image.ok(&["verify", place.join("manifest.json").to_str().unwrap(), "--key", "k.pub"]);
        assert!(text.contains("3 Sigstore bundles say the same") && text.contains("1 commands are proved, as signed") && !text.contains("not signed"), "{text}");
        assert_eq!(fs::read(place.join("sbom.spdx.json")).unwrap(), fs::read(image.at("out/sbom.spdx.json")).unwrap());
    }
}

#[test]
fn verify_refuses_a_changed_proof_and_a_build_leaves_none_of_an_earlier_release() {
    let case = Case::new();
    case.test("data.json", r#"{"command": ["/bin/actor", "d"]}"#);
    case.prove().unwrap();
    let (image, verify) = (&case.image, ["verify", "out/manifest.json", "--key", "k.pub"]);
    assert!(image.ok(&verify).contains("1 commands are proved, as signed"));
    let (path, blobs) = (image.at("out/manifest.proof.json"), image.at("out/manifest.proof"));
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("/bin/actor", "/bin/factor")).unwrap();
    image.refused(&verify);
    fs::write(&path, &good).unwrap();
    let blob = fs::read_dir(&blobs).unwrap().map(|e| e.unwrap().path()).find(|p| fs::metadata(p).unwrap().len() > 0).expect("it says something");
    fs::write(&blob, "other").unwrap();
    image.refused(&verify);
    image.build("out", &["--serial", "2"]);
    assert!(!path.exists() && !image.ok(&verify).contains("proved"));
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn what_comes_out_alike_is_signed_and_replayed_and_what_changed_is_noticed() {
    let case = Case::new();
    fs::write(case.image.at("tests/words"), b"b\nc\xff\na\n").unwrap();
    case.test("copy.json", r#"{"command": ["/bin/actor", "c"], "stdin": "words"}"#);
    case.test("fails.json", r#"{"command": ["/bin/actor", "f"]}"#);
    case.test("data.json", r#"{"command": ["/bin/actor", "d"]}"#);
    case.test("status.json", r#"{"command": ["/bin/actor", "k"]}"#);
    assert!(case.prove().unwrap().starts_with("4 commands come out alike"));
    let proof: serde_json::Value = serde_json::from_slice(&fs::read(case.image.at("out/manifest.proof.json")).unwrap()).unwrap();
    assert_eq!((&proof["tests"]["fails"]["status"], &proof["tests"]["data"]["status"]), (&2.into(), &0.into()), "{proof:#}");
    let blob = |of: &str, stream: &str| case.image.at("out/manifest.proof").join(&proof["tests"][of][stream].as_str().unwrap()["sha256:".len()..]);
    assert_eq!(fs::read(blob("copy", "stdout")).unwrap(), b"b\nc\xff\na\n");
    assert_eq!(case.replay().unwrap(), "4 commands come out as k proved\n");
    // The image's data is another now.
    fs::write(case.image.at("root/data"), "two\n").unwrap();
    let text = case.replay().unwrap_err();
    assert!(text.contains("does not come out as proved: data (stdout from byte 0"), "{text}");
    fs::write(case.image.at("root/data"), "one\n").unwrap();
    // A blob and the proof itself, each with one byte changed.
    let input = blob("copy", "stdin");
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
fn a_host_without_the_build_tool_replays_a_proof_and_believes_its_own_keys_only() {
    let case = Case::new();
    fs::write(case.image.at("tests/words"), b"some words\n").unwrap();
    case.test("copy.json", r#"{"command": ["/bin/actor", "c"], "stdin": "words"}"#);
    case.test("data.json", r#"{"command": ["/bin/actor", "d"]}"#);
    case.prove().unwrap();
    assert_eq!(case.replay_on_a_host("k.pub"), (Some(0), "2 commands come out as k proved\n".into(), String::new()));
    // The image's data is another now.
    fs::write(case.image.at("root/data"), "two\n").unwrap();
    let (code, stdout, stderr) = case.replay_on_a_host("k.pub");
    assert_eq!((code, &*stdout, stderr.lines().count()), (Some(1), "", 1), "{stderr}");
    assert!(stderr.starts_with("vkernel: proof: does not come out as proved: data (stdout from byte 0, 4 and 4 bytes)"), "{stderr}");
    fs::write(case.image.at("root/data"), "one\n").unwrap();
    // Another key signs the release too, and is the only one that this host knows: the proof is not by it.
    assert!(case.image.run(&["keygen", "other.pem"]).status.success());
    assert!(case.image.run(&["sign", "out/manifest.json", "--key", "other.pem"]).status.success());
    let (code, _, stderr) = case.replay_on_a_host("other.pub");
    assert_eq!(code, Some(125), "{stderr}");
    assert!(stderr.contains("out/manifest.proof.json: 0 of 1 required trusted keys signed this (k: no trusted key fits)"), "{stderr}");
    // A further signature of the release makes no other release.
    assert_eq!(case.replay_on_a_host("k.pub").0, Some(0));
    // One of another release, although signed by the right key.
    let proof = fs::read(case.image.at("out/manifest.proof.json")).unwrap();
    case.image.build("out", &["--tier", "fast", "--serial", "2"]);
    fs::write(case.image.at("out/manifest.proof.json"), proof).unwrap();
    let (code, _, stderr) = case.replay_on_a_host("k.pub");
    assert_eq!(code, Some(125), "{stderr}");
    assert!(stderr.contains("out/manifest.proof.json: is of another release"), "{stderr}");
}

#[test]
fn what_differs_or_is_never_the_same_proves_nothing_and_leaves_nothing() {
    let case = Case::new();
    case.test("data.json", r#"{"command": ["/bin/actor", "d"]}"#);
    // A container has a name of its own.
    case.test("name.json", r#"{"command": ["/bin/actor", "h"]}"#);
    let text = case.prove().unwrap_err();
    assert!(text.contains("not the same natively and under vkernel: name (stdout from byte") && !text.contains("data ("), "{text}");
    case.test("name.json", r#"{"command": ["/bin/actor", "r"]}"#);
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
