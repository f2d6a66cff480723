//! `scan`: from included paths to everything a container needs.
//!
//! Owns the Inventory: programs, the closure of their interpreters and libraries, scripts with their interpreters, and what was left out. Refuses to own lifting and addresses. The fact a newcomer gets wrong: a file
//! named by --include that cannot be used is an error, one found in an included directory is only listed as omitted.

pub mod elf;
pub mod jit;
mod musl;
mod opened;
pub mod rootfs;
mod scripts;
pub mod search;
pub mod shebang;

pub use scripts::unlisted;

use crate::interpreter;
use elf::{ElfError, ElfFacts};
use policy::{Algorithm, Digest};
use rootfs::{Kind, MAGIC_BYTES, Rootfs, RootfsError};
use rustix::fs::FileType;
use search::{Own, Search};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use thiserror::Error;

/// Linux follows four interpreters of interpreters.
const MAX_SCRIPT_DEPTH: usize = 4;

#[derive(Debug, Error)]
pub enum ScanError {
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Elf(#[from] ElfError),
    #[error("{path}: needs {name}, which is nowhere in the image: install its package")]
    MissingLibrary { path: String, name: String },
    #[error("{path}: {reason}")]
    Script { path: String, reason: String },
    #[error("{path}: jit: {object} contains {engine} ({evidence}), which makes code while it runs: leave it out")]
    Jit { path: String, object: String, engine: &'static str, evidence: String },
    #[error("{path}: is neither an ELF file nor a script: leave it out")]
    NotExecutable { path: String },
    #[error("{path}: is text for {interpreter}, and no program of that name is included: name it with --include")]
    NoInterpreter { path: String, interpreter: String },
    #[error("nothing to run was found: name programs with --include PATH")]
    Nothing,
}

/// One distinct ELF file.
pub struct Object {
    /// The first of its paths.
    pub path: String,
    pub bytes: Vec<u8>,
    pub facts: ElfFacts,
    /// Something may execute it; something may load it.
    pub program: bool,
    pub library: bool,
}

pub struct Script {
    pub path: String,
    pub size: u64,
    pub sha256: Digest,
    pub interpreter: String,
    /// Of the file that the interpreter's path leads to.
    pub interpreter_digest: Option<Digest>,
    pub argument: Option<String>,
}

pub struct Omitted {
    pub path: String,
    pub digest: Digest,
    pub reason: String,
}

#[derive(Default)]
pub struct Inventory {
    pub objects: BTreeMap<Digest, Object>,
    pub scripts: BTreeMap<Digest, Script>,
    pub omitted: Vec<Omitted>,
    /// Program → everything it is linked with: itself, its interpreter, and DT_NEEDED of all of these. A file that is no program has none.
    pub closures: BTreeMap<Digest, BTreeSet<Digest>>,
    /// Resolved path → digest, of every file above.
    pub paths: BTreeMap<String, Digest>,
}

/// Which scripts are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scripts {
    /// Those named by --include or in directories named by it.
    #[default]
    Included,
    /// Every text of the image that begins with #! and that the included programs can run.
    All,
}

/// In which role a file is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Included,
    Library,
    Interpreter,
}

struct Scanner<'a> {
    rootfs: &'a Rootfs,
    search: Search,
    found: Inventory,
    /// Paths of files in whose place something else runs: whoever needs them has what it needs.
    replaced: BTreeSet<String>,
}

/// Scans an image for the included paths: files, or directories with everything in them.
pub fn scan(rootfs: &Rootfs, include: &[String], scripts: Scripts, replaced: BTreeSet<String>) -> Result<Inventory, ScanError> {
    let mut s = Scanner { rootfs, search: Search::of(rootfs), found: Inventory::default(), replaced };
    let mut texts = Vec::new();
    for path in include {
        match rootfs.resolve(path)? {
            (file, Kind::File) => match s.program(&file, 0) {
                Err(ScanError::NotExecutable { path }) if interpreter::of_text(&path).next().is_some() => texts.push(path),
                done => done?,
            },
            (directory, Kind::Directory) => s.directory(&directory)?,
        }
    }
    if s.found.objects.is_empty() && s.replaced.is_empty() {
        return Err(ScanError::Nothing);
    }
    s.opened()?;
    texts.iter().try_for_each(|path| scripts::text(rootfs, &mut s.found, &s.replaced, path))?;
    if scripts == Scripts::All {
        scripts::all(rootfs, &mut s.found, &s.replaced)?;
    }
    s.found.omitted.sort_by(|a, b| a.path.cmp(&b.path));
    s.found.omitted.dedup_by(|a, b| a.path == b.path);
    Ok(s.found)
}

/// Whether a file that begins like this may be a program or a script.
fn may_run(head: &[u8]) -> bool {
    elf::is_elf(head) || head.starts_with(b"#!")
}

/// The row of a file that cannot be used. What cannot be read stays an error, but for its size.
fn omitted(rootfs: &Rootfs, path: &str, error: ScanError) -> Result<Omitted, ScanError> {
    match error {
        ScanError::Rootfs(e) if !matches!(e, RootfsError::TooLarge { .. }) => Err(e.into()),
        e => Ok(Omitted { path: path.into(), digest: rootfs.digest(Algorithm::Blake3, path)?, reason: reason(&e, path) }),
    }
}

/// What an error says, for a line that begins with the path.
pub(crate) fn reason(error: &dyn Error, path: &str) -> String {
    let text = error.to_string();
    let said = text.strip_prefix(path).and_then(|said| said.strip_prefix(": ").or_else(|| said.strip_prefix(" (inside the image) ")));
    said.unwrap_or(&text).to_owned()
}

impl Scanner<'_> {
    fn directory(&mut self, path: &str) -> Result<(), ScanError> {
        for (path, kind) in self.rootfs.list(path)? {
            match kind {
                FileType::Directory => self.directory(&path)?,
                FileType::RegularFile => self.found_in_directory(&path)?,
                _ => {}
            }
        }
        let unnamed = self.rootfs.not_utf8(path, may_run)?;
        self.found.omitted.extend(unnamed.into_iter().map(|(path, digest)| Omitted { path, digest, reason: "its name is not UTF-8: rename it".into() }));
        Ok(())
    }

    /// A file nobody asked for by name: what cannot be used is noted, what is no program is ignored, whatever its size.
    fn found_in_directory(&mut self, path: &str) -> Result<(), ScanError> {
        if !may_run(&self.rootfs.head(path, MAGIC_BYTES)?.bytes) {
            return Ok(());
        }
        match self.program(path, 0) {
            Ok(()) | Err(ScanError::NotExecutable { .. }) => Ok(()),
            Err(e) => {
                self.found.omitted.push(omitted(self.rootfs, path, e)?);
                Ok(())
            }
        }
    }

    /// A file to be executed (or a library named by hand), with everything it needs.
    fn program(&mut self, path: &str, depth: usize) -> Result<(), ScanError> {
        let content = self.rootfs.read(path)?;
        if content.bytes.starts_with(b"#!") {
            return self.script(content, depth);
        }
        if self.replaced.contains(&content.path) {
            return Ok(());
        }
        if !elf::is_elf(&content.bytes) {
            return Err(ScanError::NotExecutable { path: content.path });
        }
        self.closure(content, Role::Included)
    }

    /// Libraries that objects name to open them while they run, and what those name. Whether they will is not known: what cannot be used is noted.
    fn opened(&mut self) -> Result<(), ScanError> {
        let mut asked = BTreeSet::new();
        loop {
            let new: Vec<Digest> = self.found.objects.keys().copied().filter(|d| asked.insert(*d)).collect();
            if new.is_empty() {
                return Ok(());
            }
            for object in new.iter().map(|digest| &self.found.objects[digest]).flat_map(|o| self.named(o)).collect::<BTreeSet<_>>() {
                let content = self.rootfs.read(&object);
                if let Err(e) = content.map_err(ScanError::from).and_then(|content| self.closure(content, Role::Library)) {
                    self.found.omitted.push(omitted(self.rootfs, &object, e)?);
                }
            }
        }
    }

    /// Where the libraries are that an object names.
    fn named(&self, object: &Object) -> Vec<String> {
        let own = Own::of(&object.path, &object.facts);
        let paths = opened::names(&object.bytes, &object.facts.loads).into_iter().filter_map(|name| self.search.find(self.rootfs, &name, &[&own]));
        paths.filter(|path| !self.found.paths.contains_key(path) && !self.replaced.contains(path)).collect()
    }

    fn script(&mut self, content: rootfs::Content, depth: usize) -> Result<(), ScanError> {
        let path = content.path;
        let fail = |reason: &str| ScanError::Script { path: path.clone(), reason: reason.into() };
        if depth >= MAX_SCRIPT_DEPTH {
            return Err(fail("its interpreter is a script of a script too often: Linux follows four"));
        }
        let (interpreter, argument) = shebang::cut(&content.bytes).map_err(fail)?;
        if !self.rootfs.has_file(&interpreter) {
            return Err(ScanError::Script { reason: format!("its interpreter {interpreter} is not in the image"), path });
        }
        self.program(&interpreter, depth + 1)?;
        if let Some(name) = shebang::env_program(&interpreter, argument.as_deref()).map_err(fail)? {
            let Some(program) = self.rootfs.in_path(&name) else {
                return Err(ScanError::Script { reason: format!("it asks env for {name}, which is not in the image's PATH"), path });
            };
            self.program(&program, depth + 1)?;
        }
        let digest = Digest::blake3(&content.bytes);
        self.found.paths.insert(path.clone(), digest);
        let (size, sha256) = (content.bytes.len() as u64, Digest::sha256(&content.bytes));
        let interpreter_digest = scripts::digest_at(self.rootfs, &self.found, &self.replaced, &interpreter);
        let script = self.found.scripts.entry(digest).or_insert_with(|| Script { path: path.clone(), size, sha256, interpreter, interpreter_digest, argument });
        if path < script.path {
            script.path = path;
        }
        Ok(())
    }

    /// Breadth first, as ld.so loads; each step remembers its loaders for DT_RPATH. Nothing is kept if anything is missing.
    fn closure(&mut self, content: rootfs::Content, role: Role) -> Result<(), ScanError> {
        let asked = content.path.clone();
        let mut names = search::Loaded::default();
        let mut queue = VecDeque::from([(content, role, Vec::<Own>::new())]);
        let mut loaded = BTreeMap::new();
        let mut kept = Vec::new();
        while let Some((content, role, loaders)) = queue.pop_front() {
            if loaded.insert(content.path.clone(), ()).is_some() {
                continue;
            }
            let facts = elf::facts(&content.path, &content.bytes)?;
            if let Some(jit) = jit::detect(&content.bytes, &facts.needed).into_iter().find(|j| j.need == jit::Need::Required) {
                return Err(ScanError::Jit { path: asked, object: content.path, engine: jit.engine, evidence: jit.evidence });
            }
            let chain: Vec<Own> = std::iter::once(Own::of(&content.path, &facts)).chain(loaders).collect();
            let references: Vec<&Own> = chain.iter().collect();
            for name in &facts.needed {
                let path = names.find(&self.search, self.rootfs, name, &references);
                let path = path.ok_or_else(|| ScanError::MissingLibrary { path: content.path.clone(), name: name.clone() })?;
                if !loaded.contains_key(&path) {
                    queue.push_back((self.rootfs.read(&path)?, Role::Library, chain.clone()));
                }
            }
            if let Some(interpreter) = &facts.interpreter {
                if !self.rootfs.has_file(interpreter) {
                    return Err(ScanError::MissingLibrary { path: content.path, name: interpreter.clone() });
                }
                let interpreter = self.rootfs.read(interpreter)?;
                if !loaded.contains_key(&interpreter.path) {
                    queue.push_back((interpreter, Role::Interpreter, Vec::new()));
                }
            }
            kept.push((content, facts, role));
        }
        let linked: BTreeSet<Digest> = kept.into_iter().map(|(content, facts, role)| self.keep(content, facts, role)).collect();
        let root = self.found.paths[&asked];
        if self.found.objects[&root].program {
            self.found.closures.insert(root, linked);
        }
        Ok(())
    }

    fn keep(&mut self, content: rootfs::Content, facts: ElfFacts, role: Role) -> Digest {
        let digest = Digest::blake3(&content.bytes);
        let (path, program, library) = match role {
            Role::Included => (content.path, facts.is_program(), facts.is_library()),
            Role::Library | Role::Interpreter => (content.path, false, true),
        };
        self.found.paths.insert(path.clone(), digest);
        let new = || Object { path: path.clone(), bytes: content.bytes, facts, program: false, library: false };
        let object = self.found.objects.entry(digest).or_insert_with(new);
        object.program |= program;
        object.library |= library;
        if path < object.path {
            object.path = path;
        }
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_closure_of_a_program_of_this_machine() {
        let rootfs = Rootfs::open(std::path::Path::new("/")).unwrap();
        let found = scan(&rootfs, &["/bin/ls".into()], Scripts::Included, BTreeSet::new()).unwrap();
        let object = |end: &str| found.objects.values().find(|o| o.path.ends_with(end)).unwrap_or_else(|| panic!("{end}"));
        assert!(object("/usr/bin/ls").program && !object("/usr/bin/ls").library);
        assert!(object("/libc.so.6").library && !object("/libc.so.6").program);
        assert!(object("/ld-linux-x86-64.so.2").library);
        // Named by libc, needed by nobody.
        assert!(object("/libgcc_s.so.1").library && !object("/libgcc_s.so.1").program);
        assert!(found.paths.keys().all(|p| !p.starts_with("/lib")), "symlinks are resolved: {:?}", found.paths.keys());
    }

    #[test]
    fn a_shared_object_with_an_entry_address_is_no_program() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("f.s"), ".globl f\nf: ret\n").unwrap();
        let gcc = std::process::Command::new("gcc").args(["-nostdlib", "-shared", "-Wl,-soname,libx.so,-e,f", "-o", "libx.so", "f.s"]).current_dir(root.path()).status();
        assert!(gcc.expect("gcc is installed").success());
        let found = scan(&Rootfs::open(root.path()).unwrap(), &["/libx.so".into()], Scripts::Included, BTreeSet::new()).unwrap();
        let o = found.objects.values().next().unwrap();
        assert!(o.facts.entry != 0 && o.library && !o.program);
    }

    #[test]
    fn a_missing_library_is_named_with_who_needs_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::copy("/bin/ls", root.path().join("ls")).unwrap();
        let rootfs = Rootfs::open(root.path()).unwrap();
        let error = scan(&rootfs, &["/ls".into()], Scripts::Included, BTreeSet::new()).err().unwrap().to_string();
        assert!(error.starts_with("/ls: needs lib"), "{error}");
    }

    #[test]
    fn a_file_over_a_gibibyte_is_an_error_by_name_omitted_in_a_directory_and_ignored_if_it_is_data() {
        let root = tempfile::tempdir().unwrap();
        let out = std::process::Command::new("gcc")
            .args(["-nostdlib", "-static-pie", "-o", "sh", "-x", "assembler", "-"])
            .current_dir(root.path())
            .stdin(std::process::Stdio::piped())
            .spawn();
        let mut gcc = out.expect("gcc is installed");
        std::io::Write::write_all(&mut gcc.stdin.take().unwrap(), b".globl _start\n_start: ret\n").unwrap();
        assert!(gcc.wait().unwrap().success());
        std::fs::create_dir(root.path().join("bin")).unwrap();
        for (name, head) in [("data", "text"), ("elf", "\x7fELF"), ("../script", "#!/sh\n"), ("../foreign", "#!/bin/perl\n")] {
            std::fs::write(root.path().join("bin").join(name), head).unwrap();
            std::fs::OpenOptions::new().write(true).open(root.path().join("bin").join(name)).unwrap().set_len((1 << 30) + 1).unwrap();
        }
        let rootfs = Rootfs::open(root.path()).unwrap();
        let scan = |include: &[&str], scripts| scan(&rootfs, &include.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), scripts, BTreeSet::new());
        let omitted = |found: Inventory| found.omitted.into_iter().map(|o| format!("{} {}", o.path, o.reason)).collect::<Vec<_>>();
        let row = |path: &str| format!("{path} has 1073741825 bytes, more than the 1 GiB a program may have");
        assert_eq!(omitted(scan(&["/sh", "/bin"], Scripts::Included).unwrap()), [row("/bin/elf")]);
        assert_eq!(omitted(scan(&["/sh"], Scripts::All).unwrap()), [row("/script")]);
        for path in ["/bin/data", "/bin/elf", "/script"] {
            let error = scan(&["/sh", path], Scripts::Included).err().unwrap().to_string();
            assert!(error.contains("more than the 1 GiB"), "{error}");
        }
    }

    #[test]
    fn an_unusable_file_is_an_error_by_name_and_omitted_in_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut elf = std::fs::read("/proc/self/exe").unwrap();
        std::fs::create_dir(root.path().join("bin")).unwrap();
        elf[18] = 183;
        std::fs::write(root.path().join("bin/arm"), &elf).unwrap();
        std::fs::write(root.path().join("bin/readme"), "text").unwrap();
        let rootfs = Rootfs::open(root.path()).unwrap();
        assert!(scan(&rootfs, &["/bin/arm".into()], Scripts::Included, BTreeSet::new()).err().unwrap().to_string().contains("aarch64"));
        let mut s = Scanner { rootfs: &rootfs, search: Search::of(&rootfs), found: Inventory::default(), replaced: BTreeSet::new() };
        s.directory("/bin").unwrap();
        assert_eq!(s.found.omitted.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(), ["/bin/arm"]);
        assert!(s.found.omitted[0].reason.starts_with("is an aarch64 program"), "{}", s.found.omitted[0].reason);
    }
}
