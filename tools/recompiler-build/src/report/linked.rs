//! Which programs of a release are linked with which of its libraries.
//!
//! Owns putting an ELF file's loaded parts together again from the megabinary, whose image section has them, and reading its dynamic section. The fact a newcomer gets wrong: a manifest has no search path, so a needed name
//! leads to every library of the release that bears it as file name or SONAME; where two do, both are said to be used.

use crate::scan::elf::{self, ElfFacts};
use policy::Digest;
use policy::manifest::{Elf, Manifest};
use std::collections::{BTreeMap, BTreeSet};

/// Files that load further out than this are not put together: no program does, and it is the manifest's word alone.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Path of each library → paths of the programs that load it.
pub(super) fn sharing(m: &Manifest, wasm: &[u8]) -> BTreeMap<String, BTreeSet<String>> {
    let binaries = m.binaries.iter().filter_map(|(d, b)| Some((*d, b.path.as_str(), b.elf.as_ref()?)));
    let libraries = m.libraries.iter().map(|(d, l)| (*d, l.path.as_str(), &l.elf));
    let objects: BTreeMap<Digest, (&str, ElfFacts)> = binaries.chain(libraries).filter_map(|(d, path, e)| Some((d, (path, facts(path, e, wasm)?)))).collect();
    let mut named: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
    for digest in m.libraries.keys() {
        if let Some((path, facts)) = objects.get(digest) {
            let own = [Some(last(path).to_owned()), facts.soname.clone()];
            own.into_iter().flatten().for_each(|name| {
                named.entry(name).or_default().insert(*digest);
            });
        }
    }
    let mut users: BTreeMap<String, BTreeSet<String>> = m.libraries.values().map(|l| (l.path.clone(), BTreeSet::new())).collect();
    for (digest, b) in &m.binaries {
        for library in closure(*digest, &objects, &named) {
            users.entry(m.libraries[&library].path.clone()).or_default().insert(b.path.clone());
        }
    }
    users
}

/// Everything a program loads, itself left out.
fn closure(program: Digest, objects: &BTreeMap<Digest, (&str, ElfFacts)>, named: &BTreeMap<String, BTreeSet<Digest>>) -> BTreeSet<Digest> {
    let (mut seen, mut work) = (BTreeSet::new(), vec![program]);
    while let Some(digest) = work.pop() {
        let Some((_, facts)) = objects.get(&digest) else { continue };
        let wanted = facts.needed.iter().map(String::as_str).chain(facts.interpreter.as_deref().map(last));
        work.extend(wanted.filter_map(|name| named.get(name)).flatten().filter(|d| seen.insert(**d)));
    }
    seen.remove(&program);
    seen
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The facts of a file of which only the loaded segments are at hand; `None` if these do not fit together.
fn facts(path: &str, e: &Elf, wasm: &[u8]) -> Option<ElfFacts> {
    let end = e.segments.iter().map(|s| s.file_offset + s.filesz).max().filter(|end| *end <= MAX_FILE_BYTES)?;
    let mut file = vec![0; usize::try_from(end).ok()?];
    for s in &e.segments {
        // The image holds whole pages: the segment begins inside the first.
        let from = usize::try_from(s.image_offset + s.file_offset % policy::rules::PAGE_BYTES).ok()?;
        let (to, length) = (usize::try_from(s.file_offset).ok()?, usize::try_from(s.filesz).ok()?);
        file.get_mut(to..to + length)?.copy_from_slice(wasm.get(from..from.checked_add(length)?)?);
    }
    elf::facts(path, &file).ok()
}
