//! What procfs tells everybody about this process: its command line, and where its code and stack begin (prctl(2), PR_SET_MM_MAP).
//!
//! Does not own what the process is shown of itself (`fs::proc_view`). The fact a newcomer gets wrong: this takes no privilege, as long as the file behind /proc/PID/exe stays; but the kernel must be told everything at once, so
//! the marks by which brk(2) goes for the runtime's own heap are told again as they are.

use super::stack::Image;
use crate::fs::own;
use crate::guest::Window;
use crate::host::Object;
use crate::pass::{at, quick};
use std::sync::atomic::{AtomicU64, Ordering};

/// `struct prctl_mm_map` (<linux/prctl.h>).
#[repr(C)]
struct Map {
    code: [u64; 2],
    data: [u64; 2],
    brk: [u64; 2],
    stack: u64,
    args: [u64; 2],
    env: [u64; 2],
    auxv: u64,
    auxv_bytes: u32,
    exe_fd: i32,
}

/// Tells the kernel of a new program. Kernels built without CONFIG_CHECKPOINT_RESTORE go on showing the runtime.
pub(super) fn tell(window: Window, object: &Object, image: &Image) {
    // A thread that is still ending may give back heap between the question and the answer below.
    if !own::alone() {
        return;
    }
    let Some(start_brk) = start_brk() else { return };
    let Ok(brk) = quick(libc::SYS_brk, &[0]) else { return };
    let host = |addr: u64| window.base() as u64 + addr;
    let segment = |prot: i32| object.segments.iter().find(|s| s.prot & prot != 0).map_or([object.start; 2], |s| [s.start, s.start + s.mem_len]).map(host);
    let map = Map {
        code: segment(libc::PROT_EXEC),
        data: segment(libc::PROT_WRITE),
        brk: [start_brk, brk],
        stack: host(image.rsp),
        args: [image.args.0, image.args.1].map(host),
        env: [image.env.0, image.env.1].map(host),
        auxv: 0,
        auxv_bytes: 0,
        exe_fd: -1,
    };
    let _ = quick(libc::SYS_prctl, &[libc::PR_SET_MM as u64, libc::PR_SET_MM_MAP as u64, at(&map), size_of::<Map>() as u64, 0]);
}

/// Where the runtime's own heap begins, once that is known. Forks have the same.
static START_BRK: AtomicU64 = AtomicU64::new(0);

/// Finds out where the runtime's heap begins, while /proc is the host's: a program that starts need not ask any more.
pub fn know_heap() {
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        know(&stat);
    }
}

/// Only procfs tells (proc(5), stat, field 47). The name before it may hold anything.
fn know(stat: &str) {
    if let Some(brk) = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(47 - 3)?.parse().ok()) {
        START_BRK.store(brk, Ordering::Relaxed);
    }
}

fn start_brk() -> Option<u64> {
    if START_BRK.load(Ordering::Relaxed) == 0 {
        know(&std::fs::read_to_string(own::stat()?).ok()?);
    }
    Some(START_BRK.load(Ordering::Relaxed)).filter(|brk| *brk != 0)
}
