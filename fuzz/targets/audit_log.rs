//! Any bytes as lines of an audit log, whose records of workers anybody in a container can make up: what is learned from them is a manifest that keeps every rule, with no call that no list can
//! grant, and lists that never lose a call unless they are to be tightened.
#![no_main]

use policy::learn::{Recording, learn};
use policy::{Manifest, canonical, rules, verify};
use std::sync::LazyLock;

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let value = canonical::parse(include_bytes!("../../policy/tests/manifests/accept/minimal.json")).expect("a document");
    verify::typed(value).expect("a manifest")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut recording = Recording::default();
    bytes.split(|b| *b == b'\n').for_each(|line| recording.add(line));
    let grantable = |name: &str| syscalls::table::by_name(name).is_some();
    let learned = learn(&MANIFEST, &recording, false, &[], grantable).expect("adding never fails").manifest;
    rules::check(&learned).expect("what was learned keeps the rules");
    for (digest, old) in &MANIFEST.binaries {
        let (before, after) = (MANIFEST.allowed_syscalls(old), learned.allowed_syscalls(&learned.binaries[digest]));
        assert!(before.is_subset(&after) && after.difference(&before).all(|name| grantable(name)));
    }
    if let Ok(tightened) = learn(&MANIFEST, &recording, true, &["exit_group"], grantable) {
        rules::check(&tightened.manifest).expect("what was tightened keeps the rules");
    }
});
