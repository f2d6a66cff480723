//! Questions about the machine: uname, sysinfo, getrandom, usage.
//!
//! The fact a newcomer gets wrong: `struct new_utsname` is 390 bytes, six times 65, without padding.

use crate::pass::{at_mut, passes, quick, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    63 "uname" [Ptr] "" |t, a| [t.ptr(a[0], 390)];
    98 "getrusage" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], size_of::<libc::rusage>() as u64)];
    99 "sysinfo" [Ptr] "" |t, a| [t.ptr(a[0], size_of::<libc::sysinfo>() as u64)];
    318 "getrandom" [BufOut Len Flags] "" |t, a| { let (p, n) = t.buffer(a[0], a[1]); [p, n, a[2]] };
}

rows! {
    309 "getcpu" [Ptr Ptr Ptr] Translate "one of those that sched_getaffinity presents" getcpu;
    204 "sched_getaffinity" [Pid Len BufOut] Translate "presents at most two CPUs" affinity;
}

/// CPUs shown to the guest: thread pools size themselves by this, and each thread costs an instance.
const SHOWN_CPUS: u32 = 2;

/// Bytes of the largest affinity mask.
const MASK_BYTES: u64 = 1024;

/// The first `SHOWN_CPUS` CPUs of a mask.
fn shown(mask: &[u8]) -> impl Iterator<Item = u32> {
    mask.iter().enumerate().flat_map(|(i, byte)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| 8 * i as u32 + bit)).take(SHOWN_CPUS as usize)
}

/// The CPU the thread runs on, if it is shown; else one that is, always the same for the same CPU: allocators index arrays by it.
fn getcpu(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let (mut cpu, mut node) = (0u32, 0u32);
    quick(libc::SYS_getcpu, &[at_mut(&mut cpu), at_mut(&mut node), 0])?;
    let mut mask = [0u8; MASK_BYTES as usize];
    let n = quick(libc::SYS_sched_getaffinity, &[0, MASK_BYTES, at_mut(&mut mask)])?;
    let shown: Vec<u32> = shown(&mask[..n as usize]).collect();
    if !shown.is_empty() && !shown.contains(&cpu) {
        cpu = shown[cpu as usize % shown.len()];
    }
    for (at, value) in [(a[0], cpu), (a[1], node)] {
        if at != 0 {
            t.window().write(at, &value)?;
        }
    }
    Ok(0)
}

/// The kernel returns the bytes it wrote; the mask's first `SHOWN_CPUS` CPUs stay.
fn affinity(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let len = u64::from(a[1] as u32);
    let p = t.ptr(a[2], len.min(MASK_BYTES));
    let n = t.host(libc::SYS_sched_getaffinity, &[a[0], len.min(MASK_BYTES), p])?;
    let all = t.read_array::<u8>(a[2], n as usize)?;
    let mut mask = vec![0u8; all.len()];
    shown(&all).for_each(|cpu| mask[cpu as usize / 8] |= 1 << (cpu % 8));
    t.window().copy_out(a[2], &mask)?;
    Ok(n)
}
