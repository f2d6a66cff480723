//! poll and select with their signal-mask forms.
//!
//! Owns the size arithmetic of `fd_set` and the sixth argument of pselect6. The fact a newcomer gets wrong: pselect6's last argument is a
//! structure holding a guest pointer, and the kernel writes the remaining time back into the guest's timeout.

use crate::errno::Errno;
use crate::guest::{WINDOW_BYTES, low};
use crate::pass::{at, opt_at, rows};
use crate::table::SysResult;
use crate::thread::Thread;

rows! {
    7 "poll" [Ptr Int Int] Pass "" |t, a| { let p = pollfds(t, a[0], a[1]); t.host(libc::SYS_poll, &[p, a[1], a[2]]) };
    23 "select" [Int Ptr Ptr Ptr Ptr] Pass "" |t, a| {
        let (n, [r, w, e]) = sets(t, a);
        t.host(libc::SYS_select, &[n, r, w, e, t.ptr(a[4], 16)])
    };
    270 "pselect6" [Int Ptr Ptr Ptr Ptr Ptr] Translate "" pselect6;
    271 "ppoll" [Ptr Int Ptr Ptr Len] Translate "" |t, a| {
        let (p, mask) = (pollfds(t, a[0], a[1]), sigmask(t, a[3], a[4])?);
        let timeout = t.ptr(a[2], 16);
        under(t, mask, |t, mask| t.host(libc::SYS_ppoll, &[p, a[1], timeout, mask, 8]))
    };
}

/// `nfds` is an `unsigned int`; with 0 the pointer is not looked at.
fn pollfds(t: &Thread, addr: u64, n: u64) -> u64 {
    let n = u64::from(n as u32);
    if n == 0 { 0 } else { t.array(addr, n, size_of::<libc::pollfd>() as u64) }
}

/// Linux cuts `n` at the size of the descriptor table, at most 2²⁰ by default; sets are read and written in whole 8-byte words. That size only the host knows: here `n` is cut at what there is of the window behind a set, which is
/// more than the table unless the set ends where nothing is mapped.
fn sets(t: &Thread, a: [u64; 6]) -> (u64, [u64; 3]) {
    let room = |addr: u64| WINDOW_BYTES.checked_sub(low(addr)).filter(|bytes| addr != 0 && *bytes > 0).map_or(i32::MAX, |bytes| (bytes / 8 * 64).min(1 << 20) as i32);
    let n = [a[1], a[2], a[3]].into_iter().map(room).fold((a[0] as i32).min(1 << 20), i32::min);
    let bytes = u64::from(n.max(0) as u32).div_ceil(64) * 8;
    (n as u64, [1, 2, 3].map(|i| t.ptr(a[i], bytes)))
}

/// A signal set argument: NULL for none, else its size must be 8.
pub(super) fn sigmask(t: &Thread, addr: u64, size: u64) -> Result<Option<u64>, Errno> {
    match addr {
        0 => Ok(None),
        _ if size != 8 => Err(Errno::EINVAL),
        _ => t.window().read::<u64>(addr).map(Some),
    }
}

/// A wait with these signals blocked; it gets the address of the host's mask. A handler that ends the wait runs under the mask of the wait; its frame restores the thread's own.
pub(super) fn under(t: &mut Thread, mask: Option<u64>, wait: impl FnOnce(&mut Thread, u64) -> SysResult) -> SysResult {
    let host = mask.map(crate::signal::host_mask);
    let result = match mask {
        // What was sent and only the thread's own mask blocks is there already.
        Some(mask) if t.signals.ends_wait(mask) => Err(Errno::EINTR),
        _ => wait(t, opt_at(host.as_ref())),
    };
    if result == Err(Errno::EINTR) {
        t.signals.suspended = mask;
    }
    result
}

fn pselect6(t: &mut Thread, a: [u64; 6]) -> SysResult {
    let mask = match t.opt_read::<[u64; 2]>(a[5])? {
        Some([addr, size]) => sigmask(t, addr, size)?,
        None => None,
    };
    let (n, [r, w, e]) = sets(t, a);
    let timeout = t.ptr(a[4], 16);
    under(t, mask, |t, mask| t.host(libc::SYS_pselect6, &[n, r, w, e, timeout, at(&[mask, 8])]))
}
