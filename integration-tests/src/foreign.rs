//! Files of formats that are not ours, as other programs see them.
//!
//! Owns reading what a build wrote without the code that wrote it, openssl's opinion of a bundle, and how the verifiers in `verifiers/` are started.

use crate::tiny::Image;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

pub fn decoded(value: &Value, pointer: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value, pointer)).unwrap()
}

/// Whether openssl finds the one signature of a bundle good; the statement in it.
pub fn openssl(image: &Image, bundle: &str, key: &str) -> (bool, Value) {
    let value = json(&image.at(bundle));
    let payload = decoded(&value, "/dsseEnvelope/payload");
    let kind = text(&value, "/dsseEnvelope/payloadType");
    let message = [format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).as_bytes(), &payload].concat();
    fs::write(image.at("message"), message).unwrap();
    fs::write(image.at("signature"), decoded(&value, "/dsseEnvelope/signatures/0/sig")).unwrap();
    let args = ["pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", "message", "-sigfile", "signature"];
    let out = Command::new("openssl").args(args).current_dir(image.dir.path()).output().expect("openssl is installed");
    (out.status.success(), serde_json::from_slice(&payload).unwrap())
}

pub fn sha256sum(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(out.stdout).unwrap()[..64].to_owned()
}

/// A verifier of the suite with its own libraries.
pub fn verifier(script: &str, args: &[&Path]) -> Output {
    let var = |name: &str| std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run cargo xtask suite signatures"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verifiers").join(script);
    let mut c = if script.extension().is_some_and(|e| e == "js") { Command::new("node") } else { Command::new(var("VERIFIER_PYTHON")) };
    c.arg(script).args(args).env("NODE_PATH", var("VERIFIER_NODE_MODULES")).output().expect("the interpreter starts")
}
