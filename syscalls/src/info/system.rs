//! Questions about the machine: uname, sysinfo, getrandom, usage.
//!
//! The fact a newcomer gets wrong: `struct new_utsname` is 390 bytes, six times 65, without padding.

use crate::pass::{passes, rows};
use crate::table::SysResult;
use crate::thread::Thread;

passes! {
    63 "uname" [Ptr] "" |t, a| [t.ptr(a[0], 390)];
    98 "getrusage" [Int Ptr] "" |t, a| [a[0], t.ptr(a[1], size_of::<libc::rusage>() as u64)];
    99 "sysinfo" [Ptr] "" |t, a| [t.ptr(a[0], size_of::<libc::sysinfo>() as u64)];
    318 "getrandom" [BufOut Len Flags] "" |t, a| { let (p, n) = t.buffer(a[0], a[1]); [p, n, a[2]] };
}

rows! {
    309 "getcpu" [Ptr Ptr Ptr] Pass "" |t, a| { let (cpu, node) = (t.ptr(a[0], 4), t.ptr(a[1], 4)); t.host(libc::SYS_getcpu, &[cpu, node, 0]) };
    204 "sched_getaffinity" [Pid Len BufOut] Translate "presents at most two CPUs" affinity;
}

/// CPUs shown to the guest: thread pools size themselves by this, and each thread costs an instance.
const SHOWN_CPUS: u32 = 2;

/// The kernel returns the bytes it wrote; the mask's first `SHOWN_CPUS` CPUs stay.
fn affinity(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let len = u64::from(a[1] as u32);
    let p = t.ptr(a[2], len.min(1024));
    let n = t.host(libc::SYS_sched_getaffinity, &[a[0], len.min(1024), p])?;
    let mut mask = t.read_array::<u8>(a[2], n as usize)?;
    let mut left = SHOWN_CPUS;
    for byte in &mut mask {
        for bit in 0..8 {
            if *byte >> bit & 1 == 1 {
                if left == 0 {
                    *byte &= !(1 << bit);
                } else {
                    left -= 1;
                }
            }
        }
    }
    t.window().copy_out(a[2], &mask)?;
    Ok(n)
}
