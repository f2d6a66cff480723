//! Facts of an image that was scanned, not built.
//!
//! Refuses to own scanning and certificates. The fact a newcomer gets wrong: nothing is allowed or forbidden yet, so a program's calls are those of its code.

use super::facts::{Facts, File, Kind, Omitted};
use crate::coverage::{self, Certified};
use crate::scan::rootfs::Rootfs;
use crate::scan::{Inventory, Object};
use policy::Digest;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn facts(name: &str, rootfs: &Rootfs, found: &Inventory, certified: &[Certified<'_>]) -> Facts {
    let mut programs = coverage::programs(found, certified);
    let objects = certified.iter().filter_map(|c| {
        let object = found.objects.get(&c.digest)?;
        Some(File {
            path: object.path.clone(),
            kind: kind(object),
            size: object.bytes.len() as u64,
            digest: c.digest,
            sha256: Some(Digest::sha256(&object.bytes)),
            privileges: privileges(rootfs, &object.path),
            interpreter: object.facts.interpreter.clone(),
            coverage: Some(coverage::of(c.certificate)),
            syscalls: programs.remove(&c.digest),
            allowed: None,
        })
    });
    let mut files: Vec<File> = objects.collect();
    files.extend(found.scripts.iter().map(|(digest, s)| File {
        path: s.path.clone(),
        kind: Kind::Script,
        size: s.size,
        digest: *digest,
        sha256: Some(s.sha256),
        privileges: privileges(rootfs, &s.path),
        interpreter: Some(s.interpreter.clone()),
        coverage: None,
        syscalls: None,
        allowed: None,
    }));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let omitted = found.omitted.iter().map(|o| Omitted { path: o.path.clone(), digest: o.digest, reason: o.reason.clone() });
    Facts {
        title: name.into(),
        identity: vec![("Source", "an image, not built and not signed".into())],
        files,
        omitted: omitted.collect(),
        networking: None,
        sharing: Some(sharing(found)),
        sizes: Vec::new(),
    }
}

fn kind(o: &Object) -> Kind {
    match (o.program, o.library) {
        (true, true) => Kind::Both,
        (true, false) => Kind::Program,
        _ => Kind::Library,
    }
}

fn privileges(rootfs: &Rootfs, path: &str) -> Vec<&'static str> {
    let mode = rootfs.head(path, 0).map_or(0, |head| head.mode);
    [(0o4000, "setuid"), (0o2000, "setgid")].into_iter().filter(|(bit, _)| mode & bit != 0).map(|(_, name)| name).collect()
}

fn sharing(found: &Inventory) -> BTreeMap<String, BTreeSet<String>> {
    let path = |digest: &Digest| found.objects[digest].path.clone();
    let libraries = found.objects.iter().filter(|(_, o)| o.library);
    let users = |library: &Digest| found.closures.iter().filter(|(program, linked)| *program != library && linked.contains(library)).map(|(program, _)| path(program)).collect();
    libraries.map(|(digest, o)| (o.path.clone(), users(digest))).collect()
}
