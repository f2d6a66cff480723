//! The code of a release in a container's process: which files are mapped for which entry number, and what exec and mmap need to know of each object. Owns the way from a manifest to
//! `loader`'s shards. The fact a newcomer gets wrong: this runs in the container's own process before it is locked down; nothing executable is mapped later (07, S4).

use crate::failure::Failure;
use crate::ring::Ring;
use crate::store::Store;
use crate::verify;
use crate::worker::{self, Image, Worker};
use loader::{Mapped, Megabinary, ModuleInput, ShardInput};
use policy::manifest::{Binary, Elf, Form};
use policy::{Digest, Verified};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::PathBuf;
use syscalls::process::AllowList;
use syscalls::{Arguments, Object, Segment, table};

/// Maps everything. `files`: the megabinary, then the artifacts in manifest order. Without a `store` that holds still, code is mapped from copies.
pub fn load(verified: &Verified, files: &[PathBuf], store: Option<&Store>, ring: Option<&'static Ring>) -> Result<Worker, Failure> {
    let failure = |e: loader::LoadError| Failure::new("load container", worker::chain(&e), "rebuild it, or see `vkernel verify`");
    let path_of = |shard: &Digest, form: Form| {
        let mut artifacts = verify::artifacts(verified).zip(&files[1..]);
        artifacts.find(|(a, _)| a.shard == *shard && a.form == form).map(|(_, path)| path.clone()).expect("misfits() found an artifact for every shard")
    };
    let entries = entries(verified);
    let inputs = entries.iter().filter_map(|e| Some((e, e.elf?))).map(|(e, elf)| {
        let text = elf.segments.iter().filter(|s| s.prot.execute);
        let base = text.clone().map(|s| elf.base + s.vaddr).min().unwrap_or(elf.base);
        let end = text.map(|s| elf.base + s.vaddr + s.memsz).max().unwrap_or(base);
        ShardInput {
            name: e.digest.to_string(),
            // The manifest's rules keep objects below 2^30.
            base: base as u32,
            text_len: (end - base) as u32,
            structured: path_of(&e.shard, Form::Structured),
            resumable: path_of(&e.shard, Form::Resumable),
        }
    });
    // Several files can be the same program: what a polyfill replaces has many names.
    let programs: BTreeSet<Digest> = entries.iter().filter(|e| e.elf.is_none()).map(|e| e.shard).collect();
    let modules = programs.iter().map(|shard| ModuleInput { name: shard.to_string(), code: path_of(shard, Form::Wasi) });
    let mapped = Mapped::new(inputs.collect(), modules.collect(), store.is_some()).map_err(failure)?;
    let index = store.and_then(|store| {
        let made_of = [verified.digest().hex().as_bytes(), &mapped.index_layout()].concat();
        store.derived(&format!("index-{}", Digest::blake3(&made_of).hex()), |file| mapped.write_index(file))
    });
    let megabinary: &'static Megabinary = Box::leak(Box::new(mapped.finish(index).map_err(failure)?));
    let shards = entries.iter().map(|e| e.elf.map(|_| megabinary.by_name(&e.digest.to_string()).expect("just loaded under this name"))).collect();
    let number = |e: &Entry<'_>| if e.elf.is_none() { programs.iter().position(|shard| *shard == e.shard) } else { None };
    let image = Image::map(&files[0]).map_err(|e| Failure::new("map megabinary", e, "check memory limits"))?;
    Ok(Worker::new(entries.iter().map(|e| e.object(number(e))).collect(), shards, megabinary, image, ring))
}

/// What an entry number stands for, in order. Scripts have entry numbers too, but the supervisor never grants them: they become nothing.
struct Entry<'a> {
    digest: Digest,
    path: &'a str,
    /// None: a WASI program.
    elf: Option<&'a Elf>,
    shard: Digest,
    allow: AllowList,
    /// Only a program has a way of being called.
    binary: Option<&'a Binary>,
}

fn entries(verified: &Verified) -> Vec<Entry<'_>> {
    let m = verified.manifest();
    let entry = |digest: Digest| {
        let binary = m.binaries.get(&digest).filter(|b| b.shard.is_some());
        let library = m.libraries.get(&digest);
        let path = binary.map(|b| &b.path).or(library.map(|l| &l.path))?;
        let elf = binary.and_then(|b| b.elf.as_ref()).or(library.map(|l| &l.elf));
        let shard = binary.and_then(|b| b.shard).or(library.map(|l| l.shard))?;
        let mut allow = AllowList::NONE;
        for name in binary.map(|b| m.allowed_syscalls(b)).unwrap_or_default() {
            if let Some(row) = table::by_name(name) {
                allow.insert(row.nr);
            }
        }
        Some(Entry { digest, path, elf, shard, allow, binary })
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
            arguments: self.binary.map_or_else(Arguments::default, |b| Arguments {
                first: b.args.iter().map(|a| c(a)).collect(),
                options: b.options.iter().map(|(theirs, own)| (c(theirs), c(own))).collect(),
            }),
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
