//! Every file in `manifests/accept` is verified; every file in `manifests/reject` is one change to an accepted one that must be refused for its stated reason.
//!
//! A reject file is `{"base": NAME, "set": {JSON pointer: value, null removes}, "expect": part of the message}`.

use policy::key::PrivateKey;
use policy::{Manifest, Revocations, TrustedKeys, Verified, VerifyError, canonical, signature, verify};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn files(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(kind);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn read(path: &Path) -> Value {
    canonical::parse(&std::fs::read(path).unwrap()).unwrap_or_else(|e| match e {
        // "null" is no manifest value, but removes a member in reject files.
        canonical::JsonError::Syntax(_) => serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
        e => panic!("{}: {e}", path.display()),
    })
}

fn signed_and_verified(mut value: Value) -> Result<Verified, VerifyError> {
    let key = PrivateKey::from_seed([7; 32]);
    signature::sign(&mut value, &key, "test");
    let keys = TrustedKeys::of([key.public("test")]);
    let verified = verify(&canonical::to_bytes(&value), &keys, 1, &Revocations::default(), "0.1.0")?;
    // What a host does not act upon is refused by whoever signs it or shows it.
    policy::rules::check(verified.manifest())?;
    Ok(verified)
}

fn set(value: &mut Value, pointer: &str, new: &Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Object(members) if new.is_null() => drop(members.remove(last).expect("something to remove")),
        Value::Object(members) => drop(members.insert(last.into(), new.clone())),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = new.clone(),
        _ => panic!("{parent} has no members"),
    }
}

#[test]
fn accepts_every_manifest_of_the_accept_folder() {
    for path in files("accept") {
        signed_and_verified(read(&path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[test]
fn refuses_every_manifest_of_the_reject_folder_for_its_stated_reason() {
    for path in files("reject") {
        let case = read(&path);
        let base = path.parent().unwrap().join("../accept").join(format!("{}.json", case["base"].as_str().unwrap()));
        let mut value = read(&base);
        for (pointer, new) in case["set"].as_object().unwrap() {
            set(&mut value, pointer, new);
        }
        let text = match signed_and_verified(value) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(e) => e.to_string(),
        };
        let expect = case["expect"].as_str().unwrap();
        assert!(text.contains(expect), "{}: expected {expect:?}, got: {text}", path.display());
        assert!(!text.contains('\n'), "one line: {text}");
    }
}

#[test]
fn a_manifest_read_and_written_is_the_same_manifest() {
    for path in files("accept") {
        let value = read(&path);
        let typed: Manifest = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&typed).unwrap(), value, "{}", path.display());
        let mut numbered = typed.clone();
        numbered.number_entries();
        assert_eq!(numbered, typed);
    }
}

/// The shipped schema is the types' schema. `BLESS=1` rewrites it.
#[test]
fn the_shipped_schema_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifest.schema.json");
    let text = serde_json::to_string_pretty(&Manifest::schema()).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "run BLESS=1 cargo test -p policy");
    assert!(text.contains("\"additionalProperties\": false") && text.contains("megabinary_digest"));
}

#[test]
fn a_list_without_the_default_one_is_that_programs_alone() {
    let read = |name: &str| -> Manifest { serde_json::from_value(self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/accept").join(name))).unwrap() };
    let lists = |m: &Manifest| m.binaries.values().map(|b| m.allowed_syscalls(b).into_iter().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(lists(&read("minimal.json")), ["close getdents64 read write", "close read write"], "without the member");
    let mut m = read("list_without_the_default_one.json");
    assert_eq!(lists(&m), ["getdents64", "close read write"]);
    assert_eq!(m.syscalls_of_any().into_iter().collect::<Vec<_>>(), ["close", "getdents64", "read", "write"]);
    m.binaries.values_mut().for_each(|b| b.overrides.without_default = true);
    assert_eq!(m.syscalls_of_any().into_iter().collect::<Vec<_>>(), ["getdents64"], "nobody has the default list");
}

#[test]
fn scripts_run_by_their_hash_and_program_text_by_the_programs_rule() {
    use policy::manifest::{Inline, Scripts};
    use policy::{Digest, Object, Reason, decide_inline, decide_script};
    let value = || read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests/accept/scripts.json"));
    let digest = |digit: &str| -> Digest { format!("blake3:{}", digit.repeat(64)).parse().unwrap() };
    let (script, omitted, unknown) = (digest("4"), digest("5"), digest("6"));
    let listed = signed_and_verified(value()).unwrap();
    assert_eq!(listed.manifest().global_policies.scripts, Scripts::Listed);
    assert_eq!(decide_script(&listed, &[script], 5), Ok(()));
    assert_eq!(decide_script(&listed, &[unknown, script], 5), Ok(()));
    assert_eq!(decide_script(&listed, &[script], 6), Err(Reason::ScriptNotListed));
    assert_eq!(decide_script(&listed, &[unknown], 5), Err(Reason::ScriptNotListed));
    assert_eq!(decide_script(&listed, &[digest("1")], 16384), Err(Reason::ScriptNotListed), "a program is no script");
    assert_eq!(decide_script(&listed, &[script, omitted], 5), Err(Reason::Omitted));
    let inline = |verified: &Verified, entry: u32| match verified.program(entry) {
        Some(Object::Binary(binary)) => (decide_inline(verified, binary), verified.manifest().judges_command(binary)),
        other => panic!("{other:?}"),
    };
    assert_eq!((inline(&listed, 1), inline(&listed, 3)), ((Inline::Audit, true), (Inline::Deny, true)));
    let mut any = value();
    for member in ["scripts", "inline"] {
        set(&mut any, &format!("/global_policies/{member}"), &Value::Null);
    }
    let any = signed_and_verified(any).unwrap();
    assert_eq!(decide_script(&any, &[unknown], 9), Ok(()));
    assert_eq!((inline(&any, 1), inline(&any, 3)), ((Inline::Audit, true), (Inline::Allow, false)));
    let mut none = value();
    set(&mut none, &format!("/binaries/{}/overrides/interpreter", digest("3")), &Value::Null);
    assert_eq!(inline(&signed_and_verified(none).unwrap(), 3), (Inline::Allow, false), "no interpreter");
}
