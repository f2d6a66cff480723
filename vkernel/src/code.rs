//! The code of a release in a container's process: which files are mapped for which entry number, and what exec and mmap need to know of each object. Owns the way from a manifest to
//! `loader`'s code file. The fact a newcomer gets wrong: this runs in the container's own process before it is locked down; nothing executable is mapped later (07, S4).

use crate::arguments::Rules;
use crate::failure::Failure;
use crate::ring::Ring;
use crate::store::Store;
use crate::worker::{self, Image, Worker};
use crate::{sys, verify};
use loader::{LoadError, Megabinary, ModuleInput, ShardInput};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use policy::manifest::{Binary, Elf, Form};
use policy::{Digest, Verified};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use syscalls::process::AllowList;
use syscalls::{Object, Segment, table};

/// Links the release, unless it is linked. In the command, before a container exists: what linking needs of memory is no container's, and no limit of one must end it.
pub fn link_once(verified: &Verified, files: &[PathBuf], store: &Store) {
    let release = Linkable { verified, files };
    // What goes wrong here goes wrong in `load` too, which says so.
    drop(store.derived(&verified.digest(), &linked(), |file| release.link(file)));
}

/// Maps everything. `files`: the megabinary, then the artifacts in manifest order. Without a `store` that holds still, code is mapped from a copy in memory.
pub fn load(verified: &Verified, files: &[PathBuf], store: Option<&Store>, ring: Option<&'static Ring>) -> Result<Worker, Failure> {
    let failure = |e: LoadError| Failure::new("load container", worker::chain(&e), "rebuild it, or see `vkernel verify`");
    let entries = entries(verified);
    let release = Linkable { verified, files };
    let stored = store.and_then(|store| store.derived(&verified.digest(), &linked(), |file| release.link(file)));
    // Several files can be the same program: what a polyfill replaces has many names.
    let programs: BTreeSet<Digest> = entries.iter().filter(|e| e.elf.is_none()).map(|e| e.shard).collect();
    let modules = || programs.iter().map(|shard| ModuleInput { name: shard.to_string(), code: release.path_of(shard, Form::Wasi) }).collect::<Vec<_>>();
    let megabinary = match stored.map(|file| Megabinary::map(&file, modules(), store.is_some())) {
        Some(Ok(megabinary)) => megabinary,
        // Its address is taken, or the store has no place for it: this time from memory.
        Some(Err(LoadError::CodeFile(_))) | None => {
            let file = loader::artifact::sealed("vkernel-aot", |file| release.link(file)).map_err(|e| Failure::new("load container", e, "rebuild it, or see `vkernel verify`"))?;
            Megabinary::map(&file, modules(), store.is_some()).map_err(failure)?
        }
        Some(Err(e)) => return Err(failure(e)),
    };
    let megabinary: &'static Megabinary = Box::leak(Box::new(megabinary));
    let mut positions = 0..;
    let shards = entries.iter().map(|e| e.elf.and_then(|_| positions.next()).map(|position| megabinary.by_position(position).expect("every object was linked"))).collect();
    let number = |e: &Entry<'_>| if e.elf.is_none() { programs.iter().position(|shard| *shard == e.shard) } else { None };
    let image = Image::map(&files[0]).map_err(|e| Failure::new("map megabinary", e, "check memory limits"))?;
    let mut worker = Worker::new(entries.iter().map(|e| e.object(number(e))).collect(), shards, megabinary, image, ring);
    worker.rules = Rules::of(verified);
    Ok(worker)
}

/// Code that another linker made is not mapped.
fn linked() -> String {
    format!("code-{}", &Digest::blake3(&loader::link::identity()).hex()[..16])
}

/// What a code file is made of.
struct Linkable<'a> {
    verified: &'a Verified,
    files: &'a [PathBuf],
}

impl Linkable<'_> {
    /// In a process of its own: what wasmer leaves behind in memory would be copied by every fork of a guest.
    fn link(&self, out: &File) -> io::Result<()> {
        let (mut told, mut tell) = io::pipe()?;
        // SAFETY: this process has one thread; the child works, writes and ends.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(told);
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.linked(out)));
                let code = match done {
                    Ok(Ok(())) => 0,
                    Ok(Err(e)) => {
                        let _ = tell.write_all(worker::chain(&e).as_bytes());
                        1
                    }
                    Err(_) => 2,
                };
                // SAFETY: ends the process without running anybody's exit handlers.
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => {
                drop(tell);
                let mut text = String::new();
                told.read_to_string(&mut text)?;
                match waitpid(child, None)? {
                    WaitStatus::Exited(_, 0) => Ok(()),
                    WaitStatus::Exited(_, 1) => Err(io::Error::other(text)),
                    other => Err(io::Error::other(format!("the process that links the code ended with {other:?}"))),
                }
            }
        }
    }

    fn linked(&self, out: &File) -> Result<(), loader::LinkError> {
        let digests: BTreeMap<&Path, Digest> = self.files[1..].iter().map(PathBuf::as_path).zip(verify::artifacts(self.verified).map(|a| a.digest)).collect();
        let read = |path: &Path| {
            let bytes = std::fs::read(path)?;
            let digest = digests.get(path).ok_or(io::ErrorKind::NotFound)?;
            let found = Digest::of_reader(digest.algorithm, &mut bytes.as_slice())?;
            if found == *digest { Ok(bytes) } else { Err(io::Error::other(format!("its digest is {found}, the manifest says {digest}"))) }
        };
        let random = sys::random().map_err(loader::LinkError::Write)?;
        loader::link(&self.inputs(), &read, random, out)
    }

    fn path_of(&self, shard: &Digest, form: Form) -> PathBuf {
        let mut artifacts = verify::artifacts(self.verified).zip(&self.files[1..]);
        artifacts.find(|(a, _)| a.shard == *shard && a.form == form).map(|(_, path)| path.clone()).expect("misfits() found an artifact for every shard")
    }

    /// Of every ELF object, in the order of entries.
    fn inputs(&self) -> Vec<ShardInput> {
        let input = |(e, elf): (&Entry<'_>, &Elf)| {
            let text = elf.segments.iter().filter(|s| s.prot.execute);
            let base = text.clone().map(|s| elf.base + s.vaddr).min().unwrap_or(elf.base);
            let end = text.map(|s| elf.base + s.vaddr + s.memsz).max().unwrap_or(base);
            ShardInput {
                name: e.path.to_owned(),
                // The manifest's rules keep objects below 2^30.
                base: base as u32,
                text_len: (end - base) as u32,
                structured: self.path_of(&e.shard, Form::Structured),
                resumable: self.path_of(&e.shard, Form::Resumable),
            }
        };
        entries(self.verified).iter().filter_map(|e| Some((e, e.elf?))).map(input).collect()
    }
}

/// What an entry number stands for, in order. Scripts have entry numbers too, but the supervisor never grants them: they become nothing.
struct Entry<'a> {
    path: &'a str,
    /// None: a WASI program.
    elf: Option<&'a Elf>,
    shard: Digest,
    allow: AllowList,
    /// Only a program is given directories.
    binary: Option<&'a Binary>,
}

fn entries(verified: &Verified) -> Vec<Entry<'_>> {
    let m = verified.manifest();
    let listed = |mut allow: AllowList, names: &BTreeSet<String>| {
        names.iter().filter_map(|name| table::by_name(name)).for_each(|row| allow.insert(row.nr));
        allow
    };
    let default = listed(AllowList::NONE, &m.global_policies.default_syscalls);
    let entry = |digest: Digest| {
        let binary = m.binaries.get(&digest).filter(|b| b.shard.is_some());
        let library = m.libraries.get(&digest);
        let path = binary.map(|b| &b.path).or(library.map(|l| &l.path))?;
        let elf = binary.and_then(|b| b.elf.as_ref()).or(library.map(|l| &l.elf));
        let shard = binary.and_then(|b| b.shard).or(library.map(|l| l.shard))?;
        let allow = binary.map_or(AllowList::NONE, |b| listed(if b.overrides.without_default { AllowList::NONE } else { default }, &b.overrides.syscalls));
        Some(Entry { path, elf, shard, allow, binary })
    };
    m.entry_order().into_iter().filter_map(entry).collect()
}

const PAGE: u64 = 4096;

impl Entry<'_> {
    /// Facts for exec and mmap: page-rounded, the load bias added. `wasi`: its number among the WASI programs, if it is one.
    fn object(&self, wasi: Option<usize>) -> Object {
        let base = self.elf.map_or(0, |elf| elf.base);
        let segments: Vec<Segment> = self.elf.iter().flat_map(|elf| &elf.segments).map(|s| segment(base, s)).collect();
        let c = |text: &str| CString::new(text.replace('\0', "")).expect("NULs were removed");
        Object {
            path: c(self.path),
            base,
            // procfs is told where a program's code begins: of one without addresses, where its memory does.
            start: segments.first().map_or(syscalls::wasi::BASE, |s| s.start),
            end: segments.last().map_or(syscalls::wasi::BASE, |s| s.start + s.mem_len),
            entry: self.elf.map_or(0, |elf| base + elf.entry),
            phdr: self.elf.map_or(0, |elf| base + elf.phdr),
            phent: 56,
            phnum: self.elf.map_or(0, |elf| elf.phnum.into()),
            interpreter: self.elf.and_then(|elf| elf.interpreter.as_deref()).map(c),
            segments,
            allow: self.allow,
            wasi,
            directories: self.binary.iter().flat_map(|b| &b.directories).map(|d| c(d)).collect(),
        }
    }
}

fn segment(base: u64, s: &policy::manifest::Segment) -> Segment {
    let down = |a: u64| a / PAGE * PAGE;
    let start = down(base + s.vaddr);
    Segment {
        start,
        mem_len: (base + s.vaddr + s.memsz).next_multiple_of(PAGE) - start,
        image_len: if s.filesz == 0 { 0 } else { base + s.vaddr - start + s.filesz },
        image_offset: s.image_offset,
        file_offset: down(s.file_offset),
        prot: s.prot.bits() as i32,
    }
}
