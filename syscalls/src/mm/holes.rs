//! The window never has a hole (07, S1): random memory calls on several guest threads, programs executed meanwhile, and a watcher that allocates host memory.
//!
//! Owns the generator and the comparison of the ledger with the host's own list of mappings. The fact a newcomer gets wrong: a hole of a microsecond is enough, so the watcher looks all the time and
//! not after each call. Tests only.

use super::*;
use crate::signal::poll;
use crate::testing::{PROGRAM, call, guest, in_child, instruction};
use crate::thread::Thread;
use std::os::fd::FromRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where calls name addresses themselves. Nothing else lives here.
const REGION: std::ops::Range<u64> = 0x5000_0000..0x5200_0000;
const ROUNDS: u64 = 40;
const CALLS: u64 = 300;
const THREADS: u64 = 3;
const PROTECTIONS: [u64; 4] = [0, 1, 2, 3];

/// Memory calls all threads have made.
static MADE: AtomicU64 = AtomicU64::new(0);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn place(&mut self) -> u64 {
        REGION.start + self.below((REGION.end - REGION.start) / PAGE) * PAGE
    }

    fn len(&mut self) -> u64 {
        (1 + self.below(40)) * PAGE
    }
}

/// One random call; `own` are ranges this thread got and has not given back.
fn step(t: &mut Thread, random: &mut Random, own: &mut Vec<(u64, u64)>) {
    // Answers do not matter here, what the address space looks like afterwards does.
    let mut run = |nr, args: &[u64]| call(t, nr, args).ok();
    MADE.fetch_add(1, Ordering::Relaxed);
    let (at, len, prot) = (random.place(), random.len(), PROTECTIONS[random.below(4) as usize]);
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
    match random.below(9) {
        0 | 1 => own.extend(run(libc::SYS_mmap, &[0, len, prot, anonymous, u64::MAX, 0]).map(|a| (a, len))),
        2 => _ = run(libc::SYS_mmap, &[at, len, prot, anonymous | libc::MAP_FIXED as u64, u64::MAX, 0]),
        3 => _ = run(libc::SYS_mmap, &[at, len, prot, (libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64, u64::MAX, 0]),
        4 => _ = run(libc::SYS_munmap, &[at, len]),
        5 => _ = run(libc::SYS_mprotect, &[at, len, prot]),
        6 => {
            let (to, new) = (random.place(), random.len());
            _ = run(libc::SYS_mremap, &[at, len.min(new), new, (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64, to]);
        }
        7 if !own.is_empty() => {
            let (a, n) = own.swap_remove(random.below(own.len() as u64) as usize);
            let new = random.len();
            match run(libc::SYS_mremap, &[a, n, new, libc::MREMAP_MAYMOVE as u64, 0]) {
                Some(moved) => own.push((moved, new)),
                None => _ = run(libc::SYS_munmap, &[a, n]),
            }
        }
        _ => _ = run(libc::SYS_brk, &[HEAP_START + random.below(1 << 20)]),
    }
    // Mappings made without an address would fill the window.
    while own.len() > 20 {
        let (a, n) = own.swap_remove(0);
        _ = run(libc::SYS_munmap, &[a, n]);
    }
}

/// A guest thread that makes random calls until an exec ends it.
fn body(mut t: Thread) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ t.tid as u64);
    let mut own = Vec::new();
    loop {
        if t.cpu().poll != 0
            && let crate::Next::ThreadExit(_) = poll(&mut t)
        {
            return;
        }
        step(&mut t, &mut random, &mut own);
    }
}

/// Host mappings of the window: start, end (window offsets), protection.
fn host_mappings(base: u64) -> Vec<(u64, u64, i32)> {
    let window = base..base + crate::guest::WINDOW_BYTES;
    // Not close-on-exec: the guest's execs close what is.
    // SAFETY: a terminated path; a descriptor just made.
    let mut file = unsafe { std::fs::File::from_raw_fd(libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY)) };
    let text = std::io::read_to_string(&mut file).unwrap();
    let parse = |line: &str| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (a, b) = range.split_once('-').unwrap();
        let hex = |n| u64::from_str_radix(n, 16).unwrap().clamp(window.start, window.end) - base;
        let bit = |c, p| if rest[..4].contains(c) { p } else { 0 };
        (hex(a), hex(b), bit('r', libc::PROT_READ) | bit('w', libc::PROT_WRITE) | bit('x', libc::PROT_EXEC))
    };
    text.lines().map(parse).filter(|(a, b, _)| a < b).collect()
}

/// The first address no mapping covers.
fn hole(mappings: &[(u64, u64, i32)]) -> Option<u64> {
    let mut at = 0;
    for (a, b, _) in mappings {
        if *a > at {
            return Some(at);
        }
        at = at.max(*b);
    }
    (at < crate::guest::WINDOW_BYTES).then_some(at)
}

/// Looks for holes, and whether memory of the host's own lands in the window, until told to end.
fn watch(base: u64, end: &AtomicBool) -> Option<String> {
    while !end.load(Ordering::Relaxed) {
        // SAFETY: a mapping of this thread's own, given back at once.
        let own = unsafe {
            let p = libc::mmap(std::ptr::null_mut(), 1 << 16, libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
            libc::munmap(p, 1 << 16);
            p as u64
        };
        if own.wrapping_sub(base) < crate::guest::WINDOW_BYTES {
            return Some(format!("host memory at guest address {:#x}", own - base));
        }
        // SAFETY: MS_ASYNC changes nothing. It walks the range under the lock that every change of mappings takes, and ENOMEM is a hole; newer kernels list /proc/PID/maps without that lock and
        // show holes that no call ever met (a range that mremap is about to fill).
        if unsafe { libc::msync(base as *mut _, crate::guest::WINDOW_BYTES as usize, libc::MS_ASYNC) } != 0 {
            return Some(format!("hole in the window: {}", std::io::Error::last_os_error()));
        }
    }
    None
}

/// Every page is what the ledger says, and never executable. With one thread left.
fn assert_ledger_agrees(t: &Thread) {
    let mappings = host_mappings(t.window().base() as u64);
    assert_eq!(hole(&mappings), None);
    let memory = t.process.memory();
    for (start, end, prot) in mappings {
        let mut at = start;
        while at < end {
            let area = memory.areas.iter().find(|(_, a)| a.end > at);
            let (until, expected) = match area {
                Some((s, a)) if s <= at => (a.end, host_prot(a.prot)),
                Some((s, _)) => (s, 0),
                None => (end, 0),
            };
            assert_eq!(prot, expected, "host protection at {at:#x}");
            at = until;
        }
    }
}

#[test]
fn random_calls_on_threads_and_execs_leave_no_hole_and_agree_with_the_ledger() {
    in_child(|| {
        let (mut t, host) = guest();
        *host.body.lock().unwrap() = Some(body);
        *host.exec.lock().unwrap() = Ok(PROGRAM);
        let base = t.window().base() as u64;
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(base, &end));
            let mut random = Random(7);
            for round in 0..ROUNDS {
                let scratch = call(&mut t, libc::SYS_mmap, &[0, 4 * PAGE, 3, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64, u64::MAX, 0]).unwrap();
                for _ in 0..THREADS {
                    let tid = instruction(&mut t, libc::SYS_clone, &[CLONE, scratch + 3 * PAGE, scratch, scratch, 0], 0x1000);
                    assert!(tid > 0, "round {round}: {tid}");
                }
                let mut own = Vec::new();
                (0..CALLS).for_each(|_| step(&mut t, &mut random, &mut own));
                t.window().copy_out(scratch, b"/bin/true\0").unwrap();
                t.window().copy_out(scratch + 64, &[0; 16]).unwrap();
                instruction(&mut t, libc::SYS_execve, &[scratch, scratch + 64, scratch + 64], 0x1000);
                poll(&mut t);
                assert_eq!(t.process.threads().tids.len(), 1, "round {round}");
                assert_ledger_agrees(&t);
                // One thread's calls alone, compared after each.
                (0..30).for_each(|_| {
                    step(&mut t, &mut random, &mut own);
                    assert_ledger_agrees(&t);
                });
            }
            end.store(true, Ordering::Relaxed);
            assert_eq!(watcher.join().unwrap(), None);
        });
        assert!(MADE.load(Ordering::Relaxed) > ROUNDS * CALLS * 2, "the other threads hardly ran");
    });
}

/// What pthread_create asks for, without TLS.
const CLONE: u64 = (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM | libc::CLONE_PARENT_SETTID) as u64;
