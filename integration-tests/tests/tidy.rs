//! Invariants of the workspace itself: dependency edges, no compiler in vkernel, no CONTINUE, file headers.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

fn metadata() -> Value {
    let out = Command::new(env!("CARGO")).current_dir(root()).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).output().expect("cargo runs");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn crates_depend_only_along_the_documented_edges() {
    let allowed: &[(&str, &[&str])] = &[
        ("policy", &[]),
        ("proof", &["policy"]),
        ("syscalls", &[]),
        ("loader", &["policy", "syscalls"]),
        ("vkernel-client", &[]),
        ("vkernel", &["loader", "policy", "proof", "syscalls", "vkernel-client"]),
        ("image", &["policy", "proof"]),
        ("lift", &["syscalls"]),
        ("megabinary", &["policy", "syscalls"]),
        ("recompiler-build", &["policy", "proof", "syscalls", "lift", "megabinary"]),
        ("xtask", &[]),
        ("integration-tests", &["vkernel-client"]),
    ];
    let m = metadata();
    let members: BTreeSet<&str> = allowed.iter().map(|a| a.0).collect();
    for package in m["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let Some((_, edges)) = allowed.iter().find(|a| a.0 == name) else { continue };
        for d in package["dependencies"].as_array().expect("dependencies") {
            let to = d["name"].as_str().expect("a name");
            let test_only = d["kind"] == "dev";
            assert!(!members.contains(to) || edges.contains(&to) || test_only, "{name} must not depend on {to}");
        }
    }
}

/// Other people's code keeps its form, its licence, and an account of what was changed.
#[test]
fn every_third_party_folder_has_its_licence_and_says_what_was_changed() {
    for entry in std::fs::read_dir(root().join("third_party")).expect("readable") {
        let dir = entry.expect("readable").path();
        assert!(dir.join("LICENSE").exists() && dir.join("CHANGES.md").exists(), "{}", dir.display());
    }
}

#[test]
fn vkernel_links_no_compiler() {
    let compiler_in = |variable: &str| {
        let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names the binary: run `cargo xtask test`"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let contains = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        // Names of LLVM's and Cranelift's pass managers, of the emitters and of the decoder: in messages and mangled names.
        ["X86TargetMachine", "cranelift_codegen", "inkwell", "iced_x86"].map(contains)
    };
    assert_eq!(compiler_in("RECOMPILER_BIN"), [true; 4], "the names to look for");
    assert_eq!(compiler_in("VKERNEL_BIN"), [false; 4]);
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut work = vec![root()];
    while let Some(dir) = work.pop() {
        for entry in std::fs::read_dir(dir).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("named").to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", "third_party"].contains(&name.as_str()) {
                work.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("utf-8");
                found.push((path, text));
            }
        }
    }
    found
}

#[test]
fn every_file_begins_by_saying_what_it_owns() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
    }
}

#[test]
fn no_file_answers_continue_to_an_intercepted_exec() {
    let constant = ["SECCOMP_USER_NOTIF_FLAG", "CONTINUE"].join("_");
    for (path, text) in sources() {
        assert!(!text.contains(&constant), "{} names {constant}", path.display());
    }
}

#[test]
fn no_file_is_called_utils_helpers_common_or_manager() {
    for (path, _) in sources() {
        let stem = path.file_stem().expect("named").to_string_lossy().into_owned();
        assert!(!["utils", "util", "helpers", "common", "manager"].contains(&stem.as_str()), "{}", path.display());
    }
}

#[test]
fn safe_crates_forbid_unsafe_code() {
    for file in ["policy/src/lib.rs", "proof/src/lib.rs", "tools/lift/src/lib.rs", "tools/megabinary/src/lib.rs", "tools/xtask/src/main.rs"] {
        let text = std::fs::read_to_string(root().join(file)).expect("readable");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file} does not forbid unsafe code");
    }
}
