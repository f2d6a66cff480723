//! CycloneDX 1.6 in JSON.
//!
//! The fact a newcomer gets wrong: a file belongs to its package by standing inside it (`components` of a component); who needs whom is said by `dependencies`.

use super::date::rfc3339;
use super::{Bom, Listed, uuid};
use crate::inventory::Format as Kind;
use serde_json::{Map, Value, json};

fn reference(path: &str) -> String {
    format!("file:{path}")
}

fn file(f: &Listed) -> Value {
    let hash = |algorithm: &str, content: String| json!({ "alg": algorithm, "content": content });
    let kind = match f.file.format {
        Kind::Elf if f.file.elf.as_ref().is_some_and(|e| !e.program) => "elf-library",
        Kind::Elf => "elf-program",
        Kind::Script => "script",
        _ => "other",
    };
    json!({
        "type": "file", "bom-ref": reference(&f.file.path), "name": f.file.path,
        "hashes": [hash("SHA-1", f.sha1.clone()), hash("SHA-256", f.file.sha256.hex()), hash("BLAKE3", f.file.blake3.hex())],
        "properties": [{ "name": "vkernel:kind", "value": kind }, { "name": "vkernel:size", "value": f.file.size.to_string() }],
    })
}

pub(super) fn document(b: &Bom) -> Value {
    let owned = |owner: Option<usize>| b.files.iter().filter(move |f| f.owner == owner).map(file).collect::<Vec<_>>();
    let mut components = Vec::new();
    for (index, p) in b.packages.iter().enumerate() {
        let purl = b.purl(p);
        let mut c = json!({ "type": "library", "bom-ref": purl, "name": p.name, "version": p.version, "purl": purl, "components": owned(Some(index)) });
        if let Some(m) = &p.maintainer {
            c["publisher"] = json!(m);
        }
        if let Some(l) = &p.licence {
            // A name, not an expression: apk's field is written by people.
            c["licenses"] = json!([{ "license": { "name": l } }]);
        }
        if let Some(s) = &p.source {
            c["properties"] = json!([{ "name": "vkernel:source-package", "value": s }]);
        }
        components.push(c);
    }
    components.extend(owned(None));
    let root = "image";
    let mut dependencies: Vec<Value> = vec![json!({ "ref": root, "dependsOn": b.packages.iter().map(|p| b.purl(p)).collect::<Vec<_>>() })];
    dependencies.extend(b.files.iter().map(|f| json!({ "ref": reference(&f.file.path), "dependsOn": f.needs.iter().map(|n| reference(n)).collect::<Vec<_>>() })));
    let mut metadata = Map::new();
    metadata.insert("tools".into(), json!({ "components": [{ "type": "application", "name": "recompiler-build", "version": env!("CARGO_PKG_VERSION") }] }));
    metadata.insert("component".into(), json!({ "type": "container", "bom-ref": root, "name": b.name, "version": b.version }));
    if let Some(seconds) = b.seconds {
        metadata.insert("timestamp".into(), json!(rfc3339(seconds)));
    }
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": metadata, "components": components, "dependencies": dependencies,
    });
    document["serialNumber"] = json!(format!("urn:uuid:{}", uuid(&document)));
    document
}
