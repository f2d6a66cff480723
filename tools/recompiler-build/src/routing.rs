//! Does `_dispatch` start the right program for each hash?
//!
//! Owns saying where each program starts, from the manifest alone, and running the megabinary's own `_dispatch` for every digest. The fact a newcomer gets wrong: `vkernel.map` is the megabinary's word; a program starts where its
//! interpreter begins, if it has one, and that address follows from the manifest's rows.

use crate::compile;
use crate::processor::Processor;
use anyhow::{Context, ensure};
use megabinary::section::Sections;
use policy::Digest;
use policy::manifest::{Binary, Form, Manifest};
use std::collections::BTreeSet;
use std::num::NonZero;
use syscalls::abi::offset;
use wasmer::{Instance, Module, Store, TypedFunction, imports};

/// Where the digest lies in the probe's memory, and the argument vector behind it.
const DIGEST_AT: u32 = 64;
const ARGV_AT: i32 = 4096;

/// Checks the map against the manifest, then the code against both.
pub fn check(m: &Manifest, sections: &Sections, wasm: &[u8]) -> anyhow::Result<()> {
    for (digest, binary) in m.binaries.iter().filter(|(_, b)| b.elf.is_some()) {
        let row = sections.map.0.get(digest).with_context(|| format!("_dispatch does not know {} ({digest})", binary.path))?;
        let (source, start) = start(m, digest, binary)?;
        ensure!(u64::from(row.pc) == start, "_dispatch starts {} at {:#x}, not at {start:#x}", binary.path, row.pc);
        let slots = sections.shards.iter().find(|r| r.source == source).with_context(|| format!("holds no shard of {source}"))?.structured;
        // Slot 0 is the miss stub: the resumable form starts there.
        let inside = row.slot == 0 || (slots.slot..slots.slot + slots.entries).contains(&row.slot);
        ensure!(inside, "_dispatch starts {} in slot {}, which is not its start's", binary.path, row.slot);
    }
    run(sections, wasm)
}

/// The file where a program starts, and the guest address.
fn start(m: &Manifest, digest: &Digest, binary: &Binary) -> anyhow::Result<(Digest, u64)> {
    let elf = binary.elf.as_ref().context("has no code")?;
    let Some(interpreter) = &elf.interpreter else { return Ok((*digest, elf.base + elf.entry)) };
    // Links of the image are not in the manifest: the name is what both paths share.
    let name = interpreter.rsplit('/').next().unwrap_or_default();
    let mut found = m.libraries.iter().filter(|(_, l)| l.path.rsplit('/').next() == Some(name));
    let (source, library) = found.next().with_context(|| format!("{}: its interpreter {interpreter} is not in the manifest", binary.path))?;
    Ok((*source, library.elf.base + library.elf.entry))
}

/// Runs `_dispatch` for every digest of the map, and for one that differs in its last bit.
fn run(sections: &Sections, wasm: &[u8]) -> anyhow::Result<()> {
    let slots: BTreeSet<u32> = sections.map.0.values().map(|r| r.slot).collect();
    let starts: BTreeSet<u32> = sections.map.0.values().filter_map(|r| r.start).collect();
    let probe = megabinary::dispatch_probe(wasm, &slots, &starts)?;
    let mut store = Store::new(compile::engine(Form::Resumable, &Processor::native(), NonZero::<usize>::MIN));
    let module = Module::new(&store, probe).context("_dispatch cannot be compiled")?;
    let instance = Instance::new(&mut store, &module, &imports! {}).context("_dispatch cannot be instantiated")?;
    let dispatch: TypedFunction<(i32, i32, i32), i32> = instance.exports.get_typed_function(&store, "_dispatch").context("_dispatch has another type")?;
    let (mem, cpu) = (instance.exports.get_memory("mem")?.clone(), instance.exports.get_memory("cpu")?.clone());
    let mut call = |digest: &[u8; 32]| -> anyhow::Result<Option<(u32, u64)>> {
        mem.view(&store).write(u64::from(DIGEST_AT), digest)?;
        let Ok(slot) = dispatch.call(&mut store, DIGEST_AT as i32, 1, ARGV_AT) else { return Ok(None) };
        let mut pc = [0; 8];
        cpu.view(&store).read(offset::RIP, &mut pc)?;
        Ok(Some((slot as u32, u64::from_le_bytes(pc))))
    };
    for (digest, row) in &sections.map.0 {
        let called = call(&digest.bytes)?;
        let listed = row.start.map_or((row.slot, row.pc.into()), |start| (0, megabinary::STARTED | u64::from(start)));
        ensure!(called == Some(listed), "_dispatch, when run, starts {called:?} for {digest}, not {listed:?}");
        let mut other = digest.bytes;
        other[31] ^= 1;
        let known = sections.map.0.keys().any(|d| d.bytes == other);
        ensure!(known || call(&other)?.is_none(), "_dispatch, when run, starts something for a digest that differs from {digest} in its last bit");
    }
    Ok(())
}
