//! `scan`: everything in an image that could run, and what it would need.
//!
//! Owns the list of executable things: ELF files, scripts and other formats, with digests, owners' bits, interpreters, libraries as ld.so would find them, and engines that make code. Changes nothing and refuses nothing: what a build
//! would refuse is said beside the file. The fact a newcomer gets wrong: a file need not be marked executable to matter; libraries are not, and `ld.so FILE` starts what is not.

mod format;
mod picture;
mod show;
#[cfg(test)]
mod tests;

pub use format::Format;
pub use picture::svg;
pub use show::{dot, table};

use crate::scan::elf::{self, ElfFacts};
use crate::scan::jit::{self, Jit, Need};
use crate::scan::rootfs::{Content, Kind, Rootfs, RootfsError};
use crate::scan::search::{Loaded, Own, Search};
use crate::scan::{self, shebang};
use policy::{Algorithm, Digest};
use rustix::fs::FileType;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Enough of a file to know its format by.
const HEAD_BYTES: usize = 512;
const MAX_SCRIPT_DEPTH: usize = 4;
const PRELOAD: &str = "/etc/ld.so.preload";

#[derive(Debug, Serialize)]
pub struct Inventory {
    pub files: Vec<File>,
    /// Libraries that every dynamically linked program of the image is started with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preloaded: Vec<String>,
}

/// One path. Copies and hard links are listed each; their digests are equal.
#[derive(Debug, Serialize)]
pub struct File {
    pub path: String,
    pub blake3: Digest,
    pub sha256: Digest,
    pub size: u64,
    /// Octal permission bits.
    pub mode: String,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub setuid: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub setgid: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub capabilities: bool,
    pub format: Format,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elf: Option<Elf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Why a build would not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct Elf {
    pub program: bool,
    pub library: bool,
    /// ET_EXEC: linked at fixed addresses.
    pub fixed: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub executable_stack: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<Needed>,
    /// DT_NEEDED, in its order.
    pub needed: Vec<Needed>,
    /// Everything ld.so would map for it as a program, in its order, the file itself and the interpreter left out.
    pub closure: Vec<String>,
    /// Names that the closure lacks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jit: Vec<Jit>,
}

/// A name and the file it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Needed {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Script {
    pub interpreter: Needed,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// What `env` starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Needed>,
}

struct Surveyor<'a> {
    rootfs: &'a Rootfs,
    search: Search,
    facts: BTreeMap<String, Option<ElfFacts>>,
}

/// Looks at every regular file; with `include`, only at what these paths reach.
pub fn survey(rootfs: &Rootfs, include: &[String]) -> Result<Inventory, RootfsError> {
    let mut s = Surveyor { rootfs, search: Search::of(rootfs), facts: BTreeMap::new() };
    let mut files = Vec::new();
    let mut directories = vec!["/".to_owned()];
    while let Some(directory) = directories.pop() {
        for (path, kind) in rootfs.list(&directory)? {
            match kind {
                FileType::Directory => directories.push(path),
                FileType::RegularFile => files.extend(s.file(&path)?),
                _ => {}
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let preloaded = rootfs.read(PRELOAD).map(|c| String::from_utf8_lossy(&c.bytes).split([' ', '\t', '\n', ':']).filter(|w| !w.is_empty()).map(str::to_owned).collect());
    let mut inventory = Inventory { files, preloaded: preloaded.unwrap_or_default() };
    if !include.is_empty() {
        reached(&mut inventory, rootfs, include)?;
    }
    Ok(inventory)
}

impl Surveyor<'_> {
    fn file(&mut self, path: &str) -> Result<Option<File>, RootfsError> {
        let head = self.rootfs.head(path, HEAD_BYTES)?;
        let Some(format) = format::detect(&head.bytes, path, head.mode & 0o111 != 0) else { return Ok(None) };
        let (mut content, mut refused) = (None, None);
        match format {
            Format::Elf | Format::Script => match self.rootfs.read(path) {
                Ok(whole) => content = Some(whole),
                Err(e @ RootfsError::TooLarge { .. }) => refused = Some(scan::reason(&e, path)),
                Err(e) => return Err(e),
            },
            other => refused = Some(other.refusal().to_owned()),
        }
        let (elf, script, refused) = match &content {
            Some(content) if format == Format::Elf => self.elf(content),
            Some(content) => self.script(content),
            None => (None, None, refused),
        };
        let [blake3, sha256] = match &content {
            Some(content) => [Digest::blake3(&content.bytes), Digest::sha256(&content.bytes)],
            None => [self.rootfs.digest(Algorithm::Blake3, path)?, self.rootfs.digest(Algorithm::Sha256, path)?],
        };
        Ok(Some(File {
            path: path.into(),
            blake3,
            sha256,
            size: head.size,
            mode: format!("{:04o}", head.mode),
            uid: head.uid,
            gid: head.gid,
            setuid: head.mode & 0o4000 != 0,
            setgid: head.mode & 0o2000 != 0,
            capabilities: head.capabilities,
            format,
            elf,
            script,
            refused,
        }))
    }

    fn elf(&mut self, content: &Content) -> (Option<Elf>, Option<Script>, Option<String>) {
        let facts = match elf::facts(&content.path, &content.bytes) {
            Ok(facts) => facts,
            Err(e) => return (None, None, Some(e.reason)),
        };
        let jit = jit::detect(&content.bytes, &facts.needed);
        let (needed, closure, missing) = self.closure(&content.path, &facts);
        let interpreter = facts.interpreter.as_ref().map(|name| self.named(name));
        let mut refused = jit.iter().find(|j| j.need == Need::Required).map(|j| format!("jit: contains {} ({}), which makes code while it runs", j.engine, j.evidence));
        if refused.is_none() && facts.is_program() {
            refused = missing.first().map(|m| format!("needs {m}, which is nowhere in the image"));
            if interpreter.as_ref().is_some_and(|i| i.path.is_none()) {
                refused = facts.interpreter.as_ref().map(|i| format!("its interpreter {i} is not in the image"));
            }
        }
        let elf = Elf {
            program: facts.is_program(),
            library: facts.is_library(),
            fixed: facts.non_pie,
            executable_stack: facts.executable_stack,
            soname: facts.soname.clone(),
            interpreter,
            needed,
            closure,
            missing,
            jit,
        };
        (Some(elf), None, refused)
    }

    fn named(&self, path: &str) -> Needed {
        let found = self.rootfs.resolve(path).ok().and_then(|(path, kind)| matches!(kind, Kind::File).then_some(path));
        Needed { name: path.into(), path: found }
    }

    fn facts_of(&mut self, path: &str) -> Option<ElfFacts> {
        if !self.facts.contains_key(path) {
            let facts = self.rootfs.read(path).ok().and_then(|c| elf::facts(&c.path, &c.bytes).ok());
            self.facts.insert(path.into(), facts);
        }
        self.facts[path].clone()
    }

    /// Direct needs, everything behind them breadth first, and what is missing.
    fn closure(&mut self, path: &str, facts: &ElfFacts) -> (Vec<Needed>, Vec<String>, Vec<String>) {
        let mut names = Loaded::default();
        let (mut direct, mut closure, mut missing) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut queue = VecDeque::from([(facts.needed.clone(), vec![Own::of(path, facts)])]);
        let mut first = true;
        while let Some((needed, chain)) = queue.pop_front() {
            let references: Vec<&Own> = chain.iter().collect();
            for name in needed {
                let found = names.find(&self.search, self.rootfs, &name, &references);
                if first {
                    direct.push(Needed { name: name.clone(), path: found.clone() });
                }
                let Some(found) = found else {
                    missing.insert(name);
                    continue;
                };
                if found == path || closure.contains(&found) {
                    continue;
                }
                closure.push(found.clone());
                if let Some(f) = self.facts_of(&found) {
                    let more = std::iter::once(Own::of(&found, &f)).chain(chain.iter().cloned()).collect();
                    queue.push_back((f.needed, more));
                }
            }
            first = false;
        }
        (direct, closure, missing.into_iter().collect())
    }

    fn script(&self, content: &Content) -> (Option<Elf>, Option<Script>, Option<String>) {
        let (interpreter, argument) = match shebang::cut(&content.bytes) {
            Ok(cut) => cut,
            Err(reason) => return (None, None, Some(reason.into())),
        };
        let mut refused = None;
        let program = match shebang::env_program(&interpreter, argument.as_deref()) {
            Ok(name) => name.map(|name| Needed { path: self.rootfs.in_path(&name).and_then(|p| self.named(&p).path), name }),
            Err(reason) => {
                refused = Some(reason.to_owned());
                None
            }
        };
        let interpreter = self.named(&interpreter);
        if let Some(lost) = [Some(&interpreter), program.as_ref()].into_iter().flatten().find(|n| n.path.is_none()) {
            refused = Some(format!("its interpreter {} is not in the image", lost.name));
        }
        let refused = refused.or_else(|| self.too_deep(&interpreter));
        (None, Some(Script { interpreter, argument, program }), refused)
    }

    /// An interpreter may be a script; Linux follows four.
    fn too_deep(&self, interpreter: &Needed) -> Option<String> {
        let mut path = interpreter.path.clone()?;
        for _ in 0..MAX_SCRIPT_DEPTH {
            let content = self.rootfs.read(&path).ok()?;
            if !content.bytes.starts_with(b"#!") {
                return None;
            }
            path = self.named(&shebang::cut(&content.bytes).ok()?.0).path?;
        }
        Some("its interpreter is a script of a script too often: Linux follows four".into())
    }
}

/// Keeps what the included paths lead to.
fn reached(inventory: &mut Inventory, rootfs: &Rootfs, include: &[String]) -> Result<(), RootfsError> {
    let mut work = Vec::new();
    for path in include {
        match rootfs.resolve(path)? {
            (file, Kind::File) => work.push(file),
            (directory, Kind::Directory) => {
                work.extend(inventory.files.iter().filter(|f| f.path.starts_with(&format!("{}/", directory.trim_end_matches('/')))).map(|f| f.path.clone()))
            }
        }
    }
    let files: BTreeMap<&str, &File> = inventory.files.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut kept = BTreeSet::new();
    while let Some(path) = work.pop() {
        if let Some(file) = files.get(path.as_str())
            && kept.insert(path)
        {
            work.extend(file.edges().into_iter().filter_map(|n| n.path.clone()));
            work.extend(file.elf.iter().flat_map(|e| e.closure.iter().cloned()));
        }
    }
    inventory.files.retain(|f| kept.contains(&f.path));
    Ok(())
}

impl File {
    /// Everything it names itself.
    pub fn edges(&self) -> Vec<&Needed> {
        let elf = self.elf.iter().flat_map(|e| e.interpreter.iter().chain(&e.needed));
        elf.chain(self.script.iter().flat_map(|s| std::iter::once(&s.interpreter).chain(&s.program))).collect()
    }
}
