//! WASI programs of a release: modules given by name, what they may ask of the kernel, and which files are executed as them.
//!
//! Owns reading and checking them, and their rows in the manifest; the demands on a module are `megabinary`'s. The fact a newcomer gets wrong: a row is keyed by the hash of the *file* that execve finds. For a program of the user's that is the
//! module itself; for a polyfill it is what the module runs in the place of.

use crate::assemble::PolicyFile;
use crate::polyfill;
use crate::scan::rootfs::Rootfs;
use anyhow::{Context, ensure};
use megabinary::WasiInput;
use policy::Digest;
use policy::arguments::Arguments;
use policy::manifest::{AgentTool, Binary, ProgramSyscalls, SyscallEvidence};
use policy::unread::Unread;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Larger modules are none.
const MAX_MODULE_BYTES: u64 = 1 << 30;

/// A file that is executed as a program.
#[derive(Clone, Debug)]
pub struct Row {
    pub digest: Digest,
    pub sha256: Digest,
    pub path: String,
    pub size: u64,
    /// What becomes of the arguments of the file's callers.
    pub arguments: Arguments,
    /// Directories of the image that it is given by name.
    pub directories: Vec<String>,
    /// Name of the program, where the file is another one.
    pub polyfill: Option<String>,
}

/// A file that was found to be a program.
#[derive(Clone, Debug)]
pub struct Module {
    /// As it was given: what has hashes, and lies in an image.
    pub file: Vec<u8>,
    /// What is compiled, where that is another one.
    lowered: Option<Vec<u8>>,
    syscalls: BTreeSet<String>,
}

impl Module {
    pub fn compiled(&self) -> &[u8] {
        self.lowered.as_deref().unwrap_or(&self.file)
    }
}

/// One module, and everything that is executed as it.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub module: Module,
    pub rows: Vec<Row>,
}

impl Program {
    pub fn shard(&self) -> Digest {
        megabinary::wasi_digest(&self.module.file)
    }

    pub fn input(&self) -> WasiInput<'_> {
        WasiInput { name: &self.name, module: self.module.compiled(), shard: self.shard(), sources: self.rows.iter().map(|r| r.digest).collect() }
    }
}

/// The programs of a release, each module once, in the order of their shards' digests.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    by_shard: BTreeMap<Digest, Program>,
}

impl Programs {
    pub fn iter(&self) -> impl Iterator<Item = &Program> {
        self.by_shard.values()
    }

    pub fn is_empty(&self) -> bool {
        self.by_shard.is_empty()
    }

    pub fn rows(&self) -> impl Iterator<Item = (&Program, &Row)> {
        self.iter().flat_map(|p| p.rows.iter().map(move |r| (p, r)))
    }

    /// Adds `FILE` or `NAME=FILE`: the file, placed at /usr/bin/NAME of the image (or at NAME itself, if that is a path), runs as the module that it is.
    pub fn add_tool(&mut self, text: &str) -> anyhow::Result<()> {
        let (name, file) = match text.split_once('=') {
            Some((name, file)) => (name.to_owned(), Path::new(file)),
            None => {
                let file = Path::new(text);
                (file.file_name().unwrap_or_default().to_string_lossy().into_owned(), file)
            }
        };
        let module = read(file)?;
        let path = if name.starts_with('/') { name.clone() } else { format!("/usr/bin/{name}") };
        let is_normal = path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
        ensure!(is_normal, "{text}: {path:?} is no place for a program: write NAME=FILE");
        let row = Row {
            digest: Digest::blake3(&module.file),
            sha256: Digest::sha256(&module.file),
            path,
            size: module.file.len() as u64,
            arguments: Arguments::default(),
            directories: Vec::new(),
            polyfill: None,
        };
        self.add(name.rsplit('/').next().unwrap_or_default().to_owned(), module, row)
    }

    /// Adds `FILE=MODULE`: where FILE of the image is executed, MODULE runs.
    pub fn add_polyfill(&mut self, text: &str, rootfs: &Rootfs) -> anyhow::Result<()> {
        let (file, module_file) = text.split_once('=').with_context(|| format!("--polyfill {text}: write FILE=MODULE, like /usr/bin/node=qjs.wasm"))?;
        let module = read(Path::new(module_file))?;
        let replaced = rootfs.read(file)?;
        let known = [file, &replaced.path].into_iter().find_map(|path| polyfill::of(path.rsplit('/').next().unwrap_or_default()));
        let name = known.map_or_else(|| Path::new(module_file).file_stem().unwrap_or_default().to_string_lossy().into_owned(), |p| p.name.clone());
        let row = Row {
            digest: Digest::blake3(&replaced.bytes),
            sha256: Digest::sha256(&replaced.bytes),
            path: replaced.path,
            size: replaced.bytes.len() as u64,
            arguments: known.map(|p| p.arguments.clone()).unwrap_or_default(),
            directories: known.map(|p| p.directories.clone()).unwrap_or_default(),
            polyfill: Some(name.clone()),
        };
        self.add(name, module, row)
    }

    /// Files of the image that are not looked into, because something else runs in their place.
    pub fn replaced(&self) -> BTreeSet<String> {
        self.rows().filter(|(_, row)| row.polyfill.is_some()).map(|(_, row)| row.path.clone()).collect()
    }

    /// Adds a row to a module that `read` gave.
    fn add(&mut self, name: String, module: Module, row: Row) -> anyhow::Result<()> {
        if let Some((_, other)) = self.rows().find(|(_, r)| r.path == row.path) {
            ensure!(other.digest != row.digest, "{} is given twice: leave one out", row.path);
            anyhow::bail!("{} is the place of two programs: give one another name with NAME=FILE", row.path);
        }
        // The same bytes under two names are one file to execve.
        ensure!(self.rows().all(|(_, r)| r.digest != row.digest), "{}: the same file is there as another program: leave one out", row.path);
        let program = Program { name, module, rows: Vec::new() };
        self.by_shard.entry(program.shard()).or_insert(program).rows.push(row);
        Ok(())
    }

    /// The rows of `binaries`.
    pub fn binaries<'a>(&'a self, policy: &'a PolicyFile) -> impl Iterator<Item = (Digest, Binary)> + 'a {
        self.rows().map(|(program, row)| {
            let evidence = SyscallEvidence { possible: program.module.syscalls.clone(), ..SyscallEvidence::default() };
            let syscalls = ProgramSyscalls { linked: evidence.clone(), reachable: evidence, opens_objects: false };
            let binary = Binary {
                path: row.path.clone(),
                size: row.size,
                sha256: Some(row.sha256),
                entry: 0,
                entry_point: format!("{}_start", program.name),
                shard: Some(program.shard()),
                elf: None,
                overrides: policy.overrides_of(&row.path, Some(&syscalls)),
                coverage: None,
                syscalls: Some(Unread::of(&syscalls)),
                arguments: row.arguments.clone(),
                directories: row.directories.clone(),
                polyfill: row.polyfill.clone(),
            };
            (row.digest, binary)
        })
    }

    /// The rows of `agent_tools`: what was added by name.
    pub fn tools(&self) -> impl Iterator<Item = (Digest, AgentTool)> {
        let tools = self.rows().filter(|(_, row)| row.polyfill.is_none());
        tools.map(|(program, row)| {
            let name = row.path.rsplit('/').next().unwrap_or_default().to_owned();
            (row.digest, AgentTool { name, entry_point: format!("{}_start", program.name) })
        })
    }
}

/// A module, read and checked.
pub fn read(path: &Path) -> anyhow::Result<Module> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {name}"))?.len();
    ensure!(size <= MAX_MODULE_BYTES, "{name}: has {size} bytes, more than the 1 GiB a program may have");
    let file = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let (module, facts) = megabinary::read_wasi(&name, &file)?;
    let lowered = matches!(module, Cow::Owned(_)).then(|| module.to_vec());
    Ok(Module { syscalls: facts.syscalls().map(str::to_owned).collect(), lowered, file })
}
