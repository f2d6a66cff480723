//! Compiling the shards of a build: all modules side by side, through the cache.
//!
//! Owns the order of jobs and what is a job: of modules that are equal only one is compiled. Refuses to own engines and options (`compile`). The fact a newcomer gets wrong: the figures of a finished stage count
//! an object's text once, whether one of its forms was compiled now or both.

use crate::assemble::Made;
use crate::compile::{self, CompileError, Compiled, Job};
use crate::cost::Work;
use crate::lifting::Shard;
use crate::pipeline::{Build, Placed, form_name};
use crate::processor::Processor;
use crate::progress;
use crate::remote_cache::Entry;
use policy::Digest;
use policy::manifest::Form;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

pub type MadeCode = (Made, Compiled);

/// What the stage made, and what is needed to speak about it.
#[derive(Default)]
pub struct Native {
    pub code: Vec<MadeCode>,
    /// How many modules were compiled now.
    pub fresh: usize,
    /// The cache's names of all.
    pub entries: Vec<Entry>,
    pub work: Work,
}

/// Native code of both forms of every shard, largest first so that no long job is left to one core at the end.
pub fn compile(b: &Build, placed: &[Placed<'_>], shards: &[Shard]) -> anyhow::Result<Native> {
    let forms = |(p, s): (&'_ Placed<'_>, &'_ Shard)| {
        let digest = megabinary::shard_digest(&s.structured, &s.resumable);
        [(digest, Form::Structured), (digest, Form::Resumable)].map(|(d, f)| (d, f, p.object.path.clone()))
    };
    let modules = shards.iter().flat_map(|s| [&s.structured[..], &s.resumable[..]]);
    // Executables at fixed addresses that differ in their data only have the same code: it is made, and stands in the manifest, once.
    let mut seen = BTreeSet::new();
    let wasi = b.wasi.iter().map(|p| ((p.shard(), Form::Wasi, p.name.clone()), p.module.compiled()));
    let all = placed.iter().zip(shards).flat_map(forms).zip(modules).chain(wasi);
    let (names, modules): (Vec<_>, Vec<_>) = all.filter(|((digest, form, _), _)| seen.insert((*digest, *form))).unzip();
    let each: Vec<Job<'_>> = names.iter().zip(modules).map(|((_, form, name), module)| Job { name, form: *form, module }).collect();
    // Each for every processor, one after the other.
    let jobs: Vec<(&Processor, &Job<'_>)> = b.processors.iter().flat_map(|p| each.iter().map(move |j| (p, j))).collect();
    let entries: Vec<Entry> = jobs.iter().map(|(p, j)| (compile::KIND, compile::key(j, p))).collect();
    b.remote.fill(&b.cache, &entries)?;
    let bar = progress::bar("compile", jobs.len());
    let mut done: Vec<Option<Compiled>> = jobs.par_iter().map(|(p, j)| compile::cached(&b.cache, j, p)).collect();
    let mut todo: Vec<usize> = (0..jobs.len()).filter(|&i| done[i].is_none()).collect();
    bar.inc((jobs.len() - todo.len()) as u64);
    todo.sort_by_key(|&i| std::cmp::Reverse(jobs[i].1.module.len() * if jobs[i].1.form == Form::Resumable { 1 } else { 10 }));
    let one = |i: usize| {
        let (processor, job) = jobs[i];
        bar.set_message(job.name.to_owned());
        let compiled = compile::compile(&b.cache, job, processor, b.jobs)?;
        bar.inc(1);
        Ok((i, compiled))
    };
    let fresh: Vec<Result<_, CompileError>> = side_by_side(b.jobs, &todo, |i| jobs[i].1.module.len(), one);
    let mut work = Work::default();
    let mut texts: BTreeMap<Digest, u64> = placed.iter().zip(shards).map(|(p, s)| (megabinary::shard_digest(&s.structured, &s.resumable), p.object.facts.text_bytes())).collect();
    for made in fresh {
        let (i, compiled) = made?;
        work.made_bytes += compiled.bytes.len() as u64;
        work.text_bytes += texts.remove(&names[i % names.len()].0).unwrap_or(0);
        done[i] = Some(compiled);
    }
    bar.finish_and_clear();
    let of = jobs.iter().map(|(p, _)| *p).zip(names.iter().cycle());
    let made = of.zip(done).map(|((processor, &(shard, form, _)), compiled)| {
        let compiled = compiled.expect("every job is done");
        let file = format!("aot/{}/{}.{}.{}", processor.architecture, shard.hex(), form_name(form), compile::EXTENSION);
        let made = Made { processor: processor.clone(), shard, form, file, digest: Digest::blake3(&compiled.bytes), engine: compiled.engine.clone() };
        (made, compiled)
    });
    Ok(Native { code: made.collect(), fresh: todo.len(), entries, work })
}

/// Bytes of modules in work at the same time: a compiler needs many times its module.
const AT_ONCE: usize = 64 << 20;

/// Does `work` on threads of their own, in order, until one fails; what is larger than `AT_ONCE` by itself, which costs little because the compilers are parallel inside. Not on rayon's: a thread of one rayon pool
/// that waits for another (the compiler has its own) takes up the next job meanwhile, and the next, until all modules are in memory at once.
fn side_by_side<R: Send, E: Send>(threads: NonZero<usize>, todo: &[usize], size: impl Fn(usize) -> usize + Sync, work: impl Fn(usize) -> Result<R, E> + Sync) -> Vec<Result<R, E>> {
    let (next, failed, room) = (AtomicUsize::new(0), AtomicBool::new(false), Room::default());
    let worker = || {
        let mut made = Vec::new();
        while !failed.load(Ordering::Relaxed)
            && let Some(&i) = todo.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let share = room.take(size(i));
            let result = work(i);
            drop(share);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            made.push(result);
        }
        made
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("a compiler thread ends with a result")).collect()
    })
}

/// Bytes in work.
#[derive(Default)]
struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

struct Share<'a> {
    room: &'a Room,
    bytes: usize,
}

impl Room {
    /// Waits until they fit, or nothing else is in work.
    fn take(&self, bytes: usize) -> Share<'_> {
        let full = |taken: &mut usize| *taken != 0 && *taken + bytes > AT_ONCE;
        *self.freed.wait_while(self.taken.lock().expect(UNBROKEN), full).expect(UNBROKEN) += bytes;
        Share { room: self, bytes }
    }
}

const UNBROKEN: &str = "a sum does not panic";

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.room.taken.lock().expect(UNBROKEN) -= self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn large_modules_are_alone_and_small_ones_are_not() {
        let sizes = [AT_ONCE + 1, 9, 8, 7, 6];
        let (running, pair) = (AtomicUsize::new(0), Barrier::new(2));
        let work = |i: usize| -> Result<usize, ()> {
            let others = running.fetch_add(1, Ordering::SeqCst);
            if i == 0 {
                assert_eq!(others, 0);
                std::thread::yield_now();
                assert_eq!(running.load(Ordering::SeqCst), 1, "something runs beside the large one");
            } else {
                // Never left by one alone.
                pair.wait();
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(i)
        };
        let mut made = side_by_side(NonZero::new(2).unwrap(), &[0, 1, 2, 3, 4], |i| sizes[i], work);
        made.sort();
        assert_eq!(made, (0..5).map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_failure_ends_the_others_even_where_they_wait() {
        let work = |i: usize| if i == 0 { Err(()) } else { Ok(i) };
        let made = side_by_side(NonZero::new(2).unwrap(), &[0, 1, 2], |_| AT_ONCE, work);
        assert!(made.contains(&Err(())), "{made:?}");
    }
}
