//! SPDX 2.3 in JSON.
//!
//! The fact a newcomer gets wrong: a package may CONTAIN files only if all of its files were looked at, which nobody does here; so a file names its package by a relationship of its own, with a comment.

use super::date::rfc3339;
use super::{Bom, uuid};
use policy::Digest;
use serde_json::{Value, json};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const ROOT: &str = "SPDXRef-image";
const NO_ASSERTION: &str = "NOASSERTION";

/// Ids may hold letters, digits, dots and hyphens only: paths are named by their digest.
fn file_id(path: &str) -> String {
    format!("SPDXRef-file-{}", &Digest::sha256(path.as_bytes()).hex()[..24])
}

fn package_id(purl: &str) -> String {
    format!("SPDXRef-package-{}", &Digest::sha256(purl.as_bytes()).hex()[..24])
}

fn relation(from: &str, kind: &str, to: &str, comment: &str) -> Value {
    let mut r = json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to });
    if !comment.is_empty() {
        r["comment"] = json!(comment);
    }
    r
}

pub(super) fn document(b: &Bom) -> Value {
    let package = |id: &str, name: &str, version: &str| {
        json!({
            "SPDXID": id, "name": name, "versionInfo": version, "filesAnalyzed": false, "downloadLocation": NO_ASSERTION,
            "licenseConcluded": NO_ASSERTION, "licenseDeclared": NO_ASSERTION, "copyrightText": NO_ASSERTION, "supplier": NO_ASSERTION,
        })
    };
    let mut packages = vec![package(ROOT, &b.name, &b.version)];
    packages[0]["primaryPackagePurpose"] = json!("CONTAINER");
    let mut relations = vec![relation(DOCUMENT, "DESCRIBES", ROOT, "")];
    for p in &b.packages {
        let purl = b.purl(p);
        let mut row = package(&package_id(&purl), &p.name, &p.version);
        row["externalRefs"] = json!([{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl }]);
        let comments = [("licence as the package says: ", &p.licence), ("source package: ", &p.source), ("maintainer: ", &p.maintainer)];
        let comment: Vec<String> = comments.iter().filter_map(|(words, value)| Some(format!("{words}{}", value.as_ref()?))).collect();
        if !comment.is_empty() {
            row["comment"] = json!(comment.join("; "));
        }
        packages.push(row);
        relations.push(relation(ROOT, "CONTAINS", &package_id(&purl), ""));
    }
    let mut files = Vec::new();
    for f in &b.files {
        let id = file_id(&f.file.path);
        let sum = |algorithm: &str, value: String| json!({ "algorithm": algorithm, "checksumValue": value });
        files.push(json!({
            "SPDXID": id, "fileName": format!(".{}", f.file.path), "licenseConcluded": NO_ASSERTION, "licenseInfoInFiles": [NO_ASSERTION], "copyrightText": NO_ASSERTION,
            "checksums": [sum("SHA1", f.sha1.clone()), sum("SHA256", f.file.sha256.hex())],
            // Not among the checksums: spdx-tools 0.8 wants 256 digits of a BLAKE3, and would find the document invalid.
            "comment": f.file.blake3.to_string(),
        }));
        match f.owner {
            Some(owner) => relations.push(relation(&id, "OTHER", &package_id(&b.purl(&b.packages[owner])), "installed by this package")),
            None => relations.push(relation(&id, "OTHER", ROOT, "in the image, of no package")),
        }
        relations.extend(f.needs.iter().map(|n| relation(&id, "DEPENDS_ON", &file_id(n), "")));
    }
    let content = json!({ "name": b.name, "packages": packages, "files": files, "relationships": relations });
    let mut document = json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": DOCUMENT, "documentNamespace": format!("https://vkernel.io/spdx/{}", uuid(&content)),
        "creationInfo": {
            // SPDX demands a date. Without SOURCE_DATE_EPOCH it is the beginning of time, so that equal images have equal documents.
            "created": rfc3339(b.seconds.unwrap_or(0)),
            "creators": [format!("Tool: recompiler-build-{}", env!("CARGO_PKG_VERSION"))],
        },
    });
    for (name, value) in content.as_object().expect("just made") {
        document[name] = value.clone();
    }
    document
}
