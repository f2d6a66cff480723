//! What the call graph leads to, over all objects a program is linked with.
//!
//! Owns the resolution of names between objects. Refuses to own edges (`lift::certificate::CallGraph`). The fact a newcomer gets wrong: ld.so takes the first object that defines a name; here every object that does counts,
//! since preloading or symbol versions may choose another.

use lift::Certificate;
use lift::certificate::Site;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Functions by which a program asks for more objects.
const OPENERS: [&str; 2] = ["dlopen", "dlmopen"];
/// Functions that look up a name made at run time: then every exported function counts.
const FINDERS: [&str; 2] = ["dlsym", "dlvsym"];

pub(super) struct Reached<'a> {
    pub sites: Vec<&'a Site>,
    pub opens_objects: bool,
}

/// Function `1` of object `0`.
type Node = (usize, u32);

struct Walk<'a> {
    objects: &'a [&'a Certificate],
    exports: HashMap<&'a str, Vec<Node>>,
    asked: BTreeSet<&'a str>,
    work: Vec<Node>,
}

impl<'a> Walk<'a> {
    fn ask(&mut self, name: &'a str) {
        if self.asked.insert(name) {
            self.work.extend(self.exports.get(name).into_iter().flatten());
            if FINDERS.contains(&name) {
                self.work.extend(self.exports.values().flatten());
            }
        }
    }
}

/// Starts at every object's roots.
pub(super) fn reach<'a>(objects: &'a [&'a Certificate]) -> Reached<'a> {
    let mut exports: HashMap<&str, Vec<Node>> = HashMap::new();
    for (index, c) in objects.iter().enumerate() {
        for (name, functions) in &c.calls.exports {
            exports.entry(name).or_default().extend(functions.iter().map(|&f| (index, f)));
        }
    }
    let mut w = Walk { objects, exports, asked: BTreeSet::new(), work: Vec::new() };
    for (index, c) in objects.iter().enumerate() {
        w.work.extend(c.calls.roots.iter().map(|&f| (index, f)));
        c.calls.data_imports.iter().for_each(|name| w.ask(name));
    }
    let mut seen = BTreeSet::new();
    let mut sites: BTreeMap<(usize, u32), &Site> = BTreeMap::new();
    while let Some((object, function)) = w.work.pop() {
        if !seen.insert((object, function)) {
            continue;
        }
        let c = w.objects[object];
        w.work.extend(c.calls.calls.get(function as usize).into_iter().flatten().map(|&f| (object, f)));
        for &name in c.calls.imports.get(&function).into_iter().flatten() {
            w.ask(&c.calls.names[name as usize]);
        }
        let own = c.calls.sites.get(&function).into_iter().flatten();
        sites.extend(own.filter_map(|&s| Some(((object, s), c.sites.get(s as usize)?))));
    }
    // A word of data that holds the address of syscall() belongs to no function.
    let data = objects.iter().flat_map(|c| c.sites.iter().filter(|s| s.function == lift::certificate::IN_DATA));
    Reached { sites: sites.into_values().chain(data).collect(), opens_objects: OPENERS.iter().any(|o| w.asked.contains(o)) }
}
